"""Stages, edges and shared resources: the law by hand, and what a pipeline refuses to be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ConcretenessError, ShapeError, UnknownNameError
from rdujax.ledger import (
    Edge,
    Pipeline,
    Shared,
    Stage,
    attribution,
    critical_path_cycles,
    finish_times,
    makespan_cycles,
    schedule,
)
from tests.rooms.ledger.pipelines import chain


def test_a_chain_by_hand():
    # Depth 1: the producer waits until the consumer has finished with the only slot. Depth 2: they overlap.
    assert finish_times(chain([3, 5], depth=1), 3).tolist() == [[3, 8], [11, 16], [19, 24]]
    assert finish_times(chain([3, 5], depth=2), 4).tolist() == [[3, 8], [6, 13], [11, 18], [16, 23]]
    assert finish_times(chain([3, 5], depth=3), 4).tolist() == [[3, 8], [6, 13], [9, 18], [12, 23]]


def test_the_first_turn_may_take_longer():
    pipeline = Pipeline((Stage("load", 2), Stage("work", 4, first_service_cycles=100)), (Edge("load", "work", 2),))
    assert finish_times(pipeline, 4).tolist() == [[2, 102], [4, 106], [104, 110], [108, 114]]


def test_turns_of_unequal_service():
    ragged = finish_times(chain([3, 5]), 3, service_cycles=[[3, 5], [3, 5], [1, 2]])
    assert ragged.tolist() == [[3, 8], [6, 13], [9, 15]]
    same = finish_times(chain([3, 5]), 3, service_cycles=np.array([[3, 5]] * 3))
    np.testing.assert_array_equal(same, finish_times(chain([3, 5]), 3))
    for wrong in ([[3, 5]] * 2, [[3, 5], [3, 5], [3]]):
        with pytest.raises(ShapeError, match=r"allowed: \[3, 2\]"):
            finish_times(chain([3, 5]), 3, service_cycles=wrong)


def test_edges_between_the_same_stages_are_two_buffers():
    both = Pipeline((Stage("a", 3), Stage("b", 5)), (Edge("a", "b", 3), Edge("a", "b", 1)))
    np.testing.assert_array_equal(finish_times(both, 5), finish_times(chain([3, 5], depth=1), 5))


def test_a_cycle_is_named():
    with pytest.raises(ArgumentError, match="form a cycle\n  given:   ((a|b|c) -> ){3}(a|b|c)\n"):
        Pipeline(
            tuple(Stage(name, 1) for name in "abcd"),
            (Edge("a", "b"), Edge("b", "c"), Edge("c", "a"), Edge("c", "d")),
        )
    with pytest.raises(ArgumentError, match="a -> a"):
        Pipeline((Stage("a", 1),), (Edge("a", "a"),))


def test_the_named_cycle_follows_the_edges():
    with pytest.raises(ArgumentError) as error:
        Pipeline(tuple(Stage(name, 1) for name in "abc"), (Edge("a", "b"), Edge("b", "c"), Edge("c", "a")))
    assert any(loop in str(error.value) for loop in ("a -> b -> c -> a", "b -> c -> a -> b", "c -> a -> b -> c"))


def test_unknown_and_repeated_names_are_refused():
    with pytest.raises(UnknownNameError, match="edge 'gemm0' -> 'gem1'(.|\n)*did you mean 'gemm1'"):
        Pipeline((Stage("gemm0", 1), Stage("gemm1", 1)), (Edge("gemm0", "gem1"),))
    with pytest.raises(ArgumentError, match="two stages of one name\n  given:   'a'"):
        Pipeline((Stage("a", 1), Stage("b", 1), Stage("a", 2)))
    with pytest.raises(ArgumentError, match="without stages"):
        Pipeline(())
    with pytest.raises(ArgumentError, match="named by a string"):
        Stage("", 1)


@pytest.mark.parametrize("depth", [0, -1, 1.5])
def test_a_buffer_has_a_slot(depth):
    with pytest.raises(ArgumentError, match="edge 'a' -> 'b'"):
        Edge("a", "b", depth)


@pytest.mark.parametrize("bad", [{"service_cycles": -1}, {"service_cycles": 2.5}, {"first_service_cycles": -2}])
def test_services_are_whole(bad):
    with pytest.raises(ArgumentError, match=f"{next(iter(bad))} must be a whole number(.|\n)*stage 'a'"):
        Stage(**{"name": "a", "service_cycles": 1, **bad})


@pytest.mark.parametrize("turns", [0, -1, 1.5])
@pytest.mark.parametrize("time", [finish_times, makespan_cycles])
def test_a_pipeline_turns(time, turns):
    with pytest.raises(ArgumentError, match="turns at least once"):
        time(chain([1, 2]), turns)


def test_relaxed_services_have_no_exact_time():
    for exact in (finish_times, schedule, attribution, critical_path_cycles):
        with pytest.raises(ConcretenessError, match="stage 's0'"):
            exact(chain([jnp.float32(3), 4]), 5)
    with pytest.raises(ConcretenessError, match="stage 's0'"):
        jax.jit(lambda c: finish_times(chain([c, 4]), 5))(3.0)


def test_times_beyond_int64_are_refused_and_the_last_below_is_not():
    one = Pipeline((Stage("a", 2**62 - 1, first_service_cycles=2**62),))
    assert finish_times(one, 2)[-1, 0] == 2**63 - 1
    with pytest.raises(ArgumentError, match="largest int64"):
        finish_times(chain([2**62, 2**62]), 1)
    assert makespan_cycles(chain([2**62, 2**62]), 3) == 2**64


def test_rates_balance():
    stages = Stage("load", 1, repeats=6), Stage("sum", 1, repeats=4)
    Pipeline(stages, (Edge("load", "sum", 6, produced=2, consumed=3),))
    Pipeline(stages, (Edge("load", "sum", 6, every=3, reuse=2),))
    with pytest.raises(ArgumentError, match="do not balance") as error:
        Pipeline(stages, (Edge("load", "sum", 6, produced=2, every=1, consumed=1),))
    assert "= 2 x 6 / 1 tiles per iteration of 'load'" in str(error.value)
    assert "= 1 x 4 / 1 of 'sum'" in str(error.value)
    assert "where:   edge 'load' -> 'sum'" in str(error.value)
    assert "repeats of 'load' and 'sum' a common multiple of 1 and 2" in str(error.value)


def test_a_group_of_turns_does_not_span_iterations():
    stages = Stage("a", 1, repeats=6), Stage("b", 1, repeats=3)
    with pytest.raises(ArgumentError, match="divisible by every and by reuse"):
        Pipeline(stages, (Edge("a", "b", 4, produced=4, every=4, consumed=2),))  # 6 tiles on both sides


@pytest.mark.parametrize("repeats", [0, -1, 1.5])
def test_a_stage_turns_in_every_iteration(repeats):
    with pytest.raises(ArgumentError, match="turns in every iteration(.|\n)*stage 'a'"):
        Stage("a", 1, repeats=repeats)


@pytest.mark.parametrize("count", ["produced", "every", "consumed", "reuse"])
def test_tiles_and_turns_of_an_edge_are_counted_from_one(count):
    with pytest.raises(ArgumentError, match=f"{count} counts tiles or turns(.|\n)*edge 'a' -> 'b'"):
        Edge("a", "b", **{count: 0})


def test_a_buffer_holds_what_is_emitted_or_read_at_once():
    Edge("a", "b", depth=4, produced=4, consumed=3)
    with pytest.raises(ArgumentError, match="depth 3, produced 4, consumed 1(.|\n)*give it 4 slots or more"):
        Edge("a", "b", depth=3, produced=4)
    with pytest.raises(ArgumentError, match="give it 5 slots or more"):
        Edge("a", "b", depth=4, consumed=5)


def test_shared_resources_are_refused():
    with pytest.raises(ArgumentError, match="one turn at a time\n  given:   'a'\n  where:   shared resource 'hbm'"):
        Shared("hbm", ("a", "b", "a"))
    with pytest.raises(ArgumentError, match="named by a string"):
        Shared("", ("a",))
    with pytest.raises(UnknownNameError, match="shared resource 'hbm'(.|\n)*did you mean 's0'"):
        Pipeline((Stage("s0", 1),), (), (Shared("hbm", ("s9",)),))
    with pytest.raises(ArgumentError, match="two shared resources of one name\n  given:   'hbm'"):
        Pipeline((Stage("a", 1),), (), (Shared("hbm", ("a",)), Shared("hbm", ())))


@pytest.mark.parametrize("stages", ["ab", "", 7, ("a", 7)])
def test_the_stages_of_a_resource_are_a_tuple_of_names(stages):
    with pytest.raises(ArgumentError, match="not a tuple of names of stages\n  given:(.|\n)*shared resource 'hbm'"):
        Shared("hbm", stages)


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"stages": ("a",)}, "Stage objects\n  given:   'a'\n  where:   stages"),
        ({"stages": Stage("a", 1)}, "Stage objects\n  given:   Stage"),
        ({"stages": "a"}, "Stage objects\n  given:   'a'"),
        ({"stages": 7}, "Stage objects\n  given:   7"),
        ({"edges": (Edge("a", "b"), ("a", "b"))}, r"Edge objects\n  given:   \('a', 'b'\)\n  where:   edges"),
        ({"shared": ("hbm",)}, "Shared objects\n  given:   'hbm'\n  where:   shared"),
    ],
)
def test_a_pipeline_is_made_of_stages_edges_and_resources(given, told):
    with pytest.raises(ArgumentError, match=f"not a tuple of {told}"):
        Pipeline(**{"stages": (Stage("a", 1), Stage("b", 1)), **given})


def test_stages_and_edges_may_come_from_anything_that_is_gone_through():
    names = "abc"
    pipeline = Pipeline((Stage(name, 1) for name in names), [Edge(a, b) for a, b in zip(names, "bc", strict=False)])
    assert pipeline.producers == ((), (0,), (1,)) and pipeline.consumers == (((1, 2),), ((2, 2),), ())


@pytest.mark.parametrize("ends", [(Stage("a", 1), "b"), ("a", ["b"])])
def test_an_edge_joins_names(ends):
    with pytest.raises(ArgumentError, match="joins stages by their names"):
        Edge(*ends)


def test_of_equal_turns_the_pipelines_order_decides_who_is_served():
    stages = Stage("a", 3), Stage("b", 3)
    for order in (stages, stages[::-1]):
        for users in (("a", "b"), ("b", "a")):
            times = schedule(Pipeline(order, (), (Shared("port", users),)), 1)
            assert times.start[order[0].name].tolist() == [0] and times.start[order[1].name].tolist() == [3]


def test_parts_are_what_edges_and_resources_join():
    names = "abcde"
    stages = tuple(Stage(name, 1) for name in names)
    pipeline = Pipeline(stages, (Edge("a", "c"),), (Shared("port", ("b", "c")), Shared("idle", ())))
    parts = [tuple(stage.name for stage in part.stages) for part in pipeline.parts]
    assert sorted(parts) == [("a", "b", "c"), ("d",), ("e",)]
    joined = next(part for part in pipeline.parts if len(part.stages) == 3)
    assert joined.edges == pipeline.edges and joined.shared == pipeline.shared[:1]
    assert chain([1, 2]).parts == (chain([1, 2]),)
