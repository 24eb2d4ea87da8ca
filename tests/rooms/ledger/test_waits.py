"""The canonical form: what every turn waits for, and deadlocks told by what waits for what."""

from dataclasses import replace

import pytest

from rdujax.base.errors import ArgumentError
from rdujax.ledger import (
    Cause,
    Edge,
    Pipeline,
    Shared,
    Stage,
    full_rate_depths,
    makespan_cycles,
    schedule,
    steady_state,
)
from rdujax.ledger.waits import Form, expand
from tests.rooms.ledger.pipelines import chain, load_work_store, random_rates_that_run


def told(form: Form) -> dict[str, list[tuple[str, int, Cause]]]:
    """The waits of every node in words."""
    return {
        form.turn_name(node): [(form.turn_name(wait.on), wait.delay, wait.cause) for wait in waits]
        for node, waits in enumerate(form.waits)
    }


def test_one_tile_a_turn():
    assert told(expand(chain([1, 1], depth=3))) == {
        "'s0'": [("'s0'", 1, Cause.STAGE), ("'s1'", 3, Cause.SLOT)],
        "'s1'": [("'s1'", 1, Cause.STAGE), ("'s0'", 0, Cause.TILE)],
    }


def test_a_barrier_and_a_reduction():
    stages = Stage("load", 1, repeats=2), Stage("across", 1, repeats=2), Stage("sum", 1)
    edges = Edge("load", "across", 3, consumed=2, reuse=2), Edge("across", "sum", 1, every=2)
    assert told(expand(Pipeline(stages, edges))) == {
        # The first tile of the next iteration finds the third slot free, the second one does not. That the slots of
        # the iteration before the last are back is no wait of its own: turn 1 of the last iteration had it already.
        "turn 0 of 'load'": [("turn 1 of 'load'", 1, Cause.STAGE)],
        "turn 1 of 'load'": [("turn 0 of 'load'", 0, Cause.STAGE), ("turn 1 of 'across'", 1, Cause.SLOT)],
        "turn 0 of 'across'": [("turn 1 of 'across'", 1, Cause.STAGE), ("turn 1 of 'load'", 0, Cause.TILE)],
        # The sum waits in the PCU: its slot is taken by the turn that emits it.
        "turn 1 of 'across'": [("turn 0 of 'across'", 0, Cause.STAGE), ("'sum'", 1, Cause.SLOT)],
        "'sum'": [("'sum'", 1, Cause.STAGE), ("turn 1 of 'across'", 0, Cause.TILE)],
    }


def test_several_tiles_at_once():
    stages = Stage("a", 1, repeats=3), Stage("b", 1, repeats=2)
    form = expand(Pipeline(stages, (Edge("a", "b", 6, produced=2, consumed=3),)))
    tiles = {(told(form)[name][-1]) for name in ("turn 0 of 'b'", "turn 1 of 'b'")}
    assert tiles == {("turn 1 of 'a'", 0, Cause.TILE), ("turn 2 of 'a'", 0, Cause.TILE)}


def test_a_shared_resource_serves_in_the_order_of_levels():
    form = expand(load_work_store(1, 1, 1))
    assert form.lags == (0, 1, 2)
    load, store = told(form)["'load'"], told(form)["'store'"]
    assert load[-1] == ("'store'", 1, Cause.SHARED)
    assert store[-1] == ("'load'", 0, Cause.SHARED)
    shallow = expand(load_work_store(1, 1, 1, depth=1))
    assert shallow.lags == (0, 0, 1)  # with one slot each, the load two tiles later could not come first


def test_the_order_of_service_is_that_of_the_text():
    times = schedule(load_work_store(1, 5, 1), 4)
    stages, starts, finishes = times.served(times.pipeline.shared[0])
    order = ["load", "load", "load", "store", "load", "store", "store", "store"]
    assert [times.pipeline.stages[stage].name for stage in stages] == order
    assert (starts[1:] >= finishes[:-1]).all()


def test_equal_pipelines_share_a_form_whatever_their_services():
    assert expand(chain([1, 2])) is expand(chain([3, 4]))
    assert expand(chain([1, 2])) is not expand(chain([1, 2], depth=3))


def test_forms_are_in_order_and_look_back_only():
    for pipeline in random_rates_that_run(3, 60, shared=2):
        form = expand(pipeline)
        place = {node: at for at, node in enumerate(form.order)}
        assert sorted(form.order) == list(range(len(form.turns)))
        assert form.reach >= 1 and form.last_lag == max(form.lags) and min(form.lags) == 0
        for node, waits in enumerate(form.waits):
            assert waits[0].cause is Cause.STAGE
            for wait in waits:
                assert wait.delay > 0 or (wait.delay == 0 and place[wait.on] < place[node])


def fork_and_join(slots: int) -> Pipeline:
    """A row is summed, and each of its elements is divided by the sum: all of them must wait in a buffer."""
    stages = Stage("load", 1, repeats=4), Stage("sum", 1, repeats=4), Stage("divide", 1, repeats=4)
    edges = (
        Edge("load", "sum", 2),
        Edge("sum", "divide", 1, every=4, reuse=4),
        Edge("load", "divide", slots),
    )
    return Pipeline(stages, edges)


def test_a_deadlock_is_told_with_every_wait():
    assert schedule(fork_and_join(4), 3).makespan_cycles > 0
    with pytest.raises(ArgumentError) as error:
        schedule(fork_and_join(3), 3)
    text = str(error.value)
    assert text.startswith("a deadlock: turns of a pipeline wait for one another for ever\n  given: ")
    for step in (
        "turn 3 of 'load' waits for turn 0 of 'divide' (a free slot of edge 'load' -> 'divide')",
        "turn 0 of 'divide' waits for turn 3 of 'sum' (a tile of edge 'sum' -> 'divide')",
        "turn 3 of 'sum' waits for turn 3 of 'load' (a tile of edge 'load' -> 'sum')",
    ):
        assert step in text
    assert text.endswith("give one of these buffers more slots: edge 'load' -> 'divide'")


def test_the_told_waits_close_up():
    with pytest.raises(ArgumentError) as error:
        expand(fork_and_join(1))
    steps = str(error.value).split("given:")[1].split("\n")[0].strip().split("; ")
    ends = [step.split(" (")[0].split(" waits for ") for step in steps]
    assert [end for _, end in ends] == [begin for begin, _ in ends[1:] + ends[:1]]


def test_an_iteration_of_too_many_turns_is_refused_before_it_is_spread_out():
    stages = Stage("a", 1), Stage("b", 1, repeats=10**30)
    for evaluate in (expand, steady_state, full_rate_depths, lambda pipeline: makespan_cycles(pipeline, 2)):
        with pytest.raises(ArgumentError, match="too many turns(.|\n)*,000 of them of stage 'b'(.|\n)*262,144"):
            evaluate(Pipeline(stages))


def test_sharing_never_causes_a_deadlock():
    for pipeline in random_rates_that_run(41, 60, shared=0):
        names = tuple(stage.name for stage in pipeline.stages)
        both = replace(pipeline, shared=(Shared("all", names), Shared("some", names[:2])))
        assert len(expand(both).order) == len(expand(pipeline).order)
