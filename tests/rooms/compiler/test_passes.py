"""What every pass did can be read: texts before and after, their difference, in the order in which they run."""

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.compiler import driver
from rdujax.compiler.passes import plan_text
from rdujax.graph.graph import text
from tests.rooms.compiler.samples import random_sample, samples, small

X = jax.ShapeDtypeStruct((12, 12), jnp.float32)


def shared(x):
    """A product that is written twice, and a loop."""
    twice = jnp.tanh(x @ x) + jnp.exp(x @ x)
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ x), c.sum()), twice, None, length=3)


PROGRAM = rdu.compile(shared, X, machine=small(), k_splits={"gemm": 1, "scan/gemm": 4})
NAMES = ["split", "simplify", "narrow", "order", "fuse", "stages", "tile", "allocate", "memory"]


def test_passes_stand_in_their_order_each_with_its_reason():
    found = PROGRAM.passes()
    assert [each.name for each in found] == NAMES and len(found) == len(NAMES)
    assert [(p.name, p.reason) for p in (*driver.GRAPH_PASSES, *driver.PLAN_PASSES)] == [
        (each.name, each.reason) for each in found
    ]
    assert all(len(each.reason) > 20 for each in found)


def test_each_pass_begins_where_the_one_before_it_ended():
    found = list(PROGRAM.passes())
    assert found[0].before == text(PROGRAM.traced.graph)
    assert all(a.after == b.before for a, b in zip(found, found[1:], strict=False))
    assert found[3].after == text(PROGRAM.graph)
    assert found[-1].after == plan_text(PROGRAM.plan, "memory")
    assert [each.name for each in found if not each.changed] == ["narrow", "order"]  # one socket, and little that waits


def test_the_text_of_one_pass_is_the_difference():
    found = PROGRAM.passes()
    lines = str(found["simplify"]).splitlines()
    assert lines[0] == f"simplify: {found['simplify'].reason}"
    assert lines[1:3] == ["--- before simplify", "+++ after simplify"]
    removed = [line for line in lines if line.startswith("-node")]
    assert any("# gemm#2" in line for line in removed)
    assert "k_splits=4" in str(found["split"]) or "/4" in str(found["split"])
    assert str(found) == "\n\n".join(map(str, found))
    assert "nothing to change" in str(rdu.compile(jnp.tanh, X, machine="tiny").passes()["simplify"])


def test_an_unknown_pass_is_refused_by_name():
    with pytest.raises(rdu.UnknownNameError, match="unknown pass(.|\n)*'simplifi'(.|\n)*did you mean 'simplify'"):
        PROGRAM.passes()["simplifi"]


def test_every_node_stands_in_a_kernel_and_every_decision_in_the_text():
    for sample in (*samples(), random_sample(3)):
        program = rdu.compile(sample.fn, *sample.args, machine=small())
        found = program.passes()
        assert sum(line.startswith("node") for line in found["fuse"].after.splitlines()) == len(program.graph.nodes)
        kernels = program.plan.kernels
        counts = {word: sum(line.split()[0] == word for line in found["allocate"].after.splitlines()) for word in
                  ("kernel", "loop", "load", "stage", "store", "buffer", "stream")}  # fmt: skip
        assert counts == {
            "kernel": len(kernels),
            "loop": sum(len(k.tiling.loops) for k in kernels),
            "load": sum(len(k.kernel.loads) for k in kernels),
            "stage": sum(len(k.shares) for k in kernels),
            "store": sum(len(k.kernel.writes) for k in kernels),
            "buffer": sum(len(k.buffers) for k in kernels),
            "stream": sum(len(k.streams) for k in kernels),
        }


def test_nothing_is_written_down_unless_it_is_asked_for(monkeypatch: pytest.MonkeyPatch):
    def refuse(*_):
        raise AssertionError("a text that nobody asked for")

    for name in ("graph_text", "plan_text"):
        monkeypatch.setattr(driver, name, refuse)
    program = rdu.compile(shared, X, machine=small())
    assert program.cost().cycles > 0
    with pytest.raises(AssertionError, match="nobody asked"):
        program.passes()


def test_the_graph_is_checked_after_each_pass_on_graphs(monkeypatch: pytest.MonkeyPatch):
    checked = []
    monkeypatch.setattr(driver, "check_graph", lambda graph: checked.append(len(graph.nodes)))
    program = rdu.compile(shared, X, machine=small())
    before = len(program.traced.graph.nodes)
    after = len(program.graph.nodes)
    assert checked == [before, before, after, after, after] and before > after
