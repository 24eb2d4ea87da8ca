"""What is said of a copy of a kernel is what planning it anew gives: all members of its loops, ties broken alike."""

from collections import Counter
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.base.errors import CapacityError
from rdujax.compiler.alike import Alike
from rdujax.compiler.driver import Choices
from rdujax.compiler.planner import Planner
from rdujax.graph.graph import Graph
from rdujax.graph.plan import PlannedKernel
from rdujax.machines.machine import Machine
from tests.rooms.compiler.kernels import machines

LAYERS = 3
LONGEST = 6  # nodes of a kernel


def gated(x, v, w):
    """Rows stream through two products; the second is not square."""
    hidden = x @ v
    return x + (hidden * jax.nn.sigmoid(hidden)) @ w


def crossed(x, v, w):
    """All axes are of one length: which is cut first is a matter of order alone."""
    return jnp.tanh(x @ v + (w @ x).T) + x


def each(x, v, w):
    """Two axes that can be cut, one inside of the other."""
    return jnp.tanh(jnp.einsum("bmk,bkn->bmn", x, v) + w) + x


def struct(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


PROGRAMS = {
    "gated": (gated, struct(12, 16), (struct(16, 40), struct(40, 16))),
    "crossed": (crossed, struct(16, 16), (struct(16, 16), struct(16, 16))),
    "each": (each, struct(4, 8, 8), (struct(4, 8, 8), struct(4, 8, 8))),
}


def layered(name: str, machine: Machine, fusion: str) -> Graph:
    """Some layers one after another; what enters the first is made, as it is for the others."""
    layer, x, weights = PROGRAMS[name]

    def fn(x, layers):
        x = x * jnp.bfloat16(3)
        for each in layers:
            x = layer(x, *each)
        return x

    return rdu.compile(fn, x, [weights] * LAYERS, machine=machine, fusion=fusion).graph


def copies(graph: Graph, machine: Machine, fusion: str) -> Iterator[tuple[PlannedKernel, PlannedKernel]]:
    """For every stretch like one before it, what is said of it, and what planning it anew gives."""
    tiers, choices = dict.fromkeys(graph.types, "hbm"), Choices(fusion=fusion)
    alike, count = Alike(graph, tiers), len(graph.nodes)
    for first in range(count):
        for end in range(first + 1, min(count, first + LONGEST) + 1):
            begin, *others = alike.starts(first, end)
            planner = Planner(graph, machine, choices, tiers)
            try:
                planner.planned(graph.nodes[first:end])
            except CapacityError:
                continue
            for start in others if begin == first else ():
                group = graph.nodes[start : start + end - first]
                yield planner.planned(group), Planner(graph, machine, choices, tiers).planned(group)


@pytest.mark.parametrize("fusion", ["streaming", "none"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_a_copy_is_what_planning_it_anew_gives(name: str, fusion: str):
    seen: Counter[str] = Counter()
    for machine in machines()[:2]:
        graph = layered(name, machine, fusion)
        for copy, anew in copies(graph, machine, fusion):
            assert copy == anew
            seen["cut"] += bool(copy.tiling.loops)
            seen["by slices"] += bool(copy.tiling.inner)
    assert seen["cut"] > 5 and seen["by slices"] > 5, seen
