"""The benchmark of tilings on some small programs: it runs, its search finds what is better, and the goal is met."""

import json

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from benchmarks import tiling
from rdujax.compiler.allocate import Allocator
from rdujax.graph.plan import Tiling

QUICKEST = ("gated MLP decode", "attention decode", "vision block")


@pytest.fixture(autouse=True)
def _few(monkeypatch):
    monkeypatch.setattr(tiling, "SMALL", {name: tiling.SMALL[name] for name in QUICKEST})


def test_the_compilers_tiles_are_near_the_best(capsys):
    assert tiling.main(["--quick", "--json"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in rows] == list(QUICKEST)
    for row in rows:
        assert 1 <= row["default_cycles"] / row["best_cycles"] <= row["value"] <= row["goal"] == tiling.GOAL
        assert row["met"] and row["tilings"] > 10


def test_the_search_ends_alike_wherever_it_begins():
    """From the compiler's tiling, and from one that cuts nothing and is far from the best."""
    shapes = [jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in ((512, 256), (256, 512))]
    program = rdu.compile(jnp.matmul, *shapes, machine=rdu.machines.sn40l())
    [(plan, planned)] = program.plan.placed()
    whole = Allocator(plan.graph, program.machine, plan.tiers).allocate(
        planned.kernel, Tiling((), frozenset()), planned.wide
    )
    near, far = (tiling.Search(plan, begin, program.machine).run() for begin in (planned, whole))
    assert near.cycles == far.cycles <= near.default_cycles < far.default_cycles
