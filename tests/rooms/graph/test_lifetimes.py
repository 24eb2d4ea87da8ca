"""Lifetimes against a walk over the steps that marks, moment by moment, what is there because it is needed later."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from jax import lax
from jax.sharding import AbstractMesh, AxisType
from jax.sharding import PartitionSpec as P

import rdujax as rdu
from rdujax.graph.lifetimes import lifetimes
from rdujax.graph.plan import Plan, PlannedKernel

SOCKETS = 4
MESH = AbstractMesh((SOCKETS,), ("s",), axis_types=(AxisType.Auto,))
X = jax.ShapeDtypeStruct((8, 16), jnp.float32)


def chain(x: jax.Array) -> jax.Array:
    """Sums over sockets of what nothing else reads, and of what is read again two steps later."""
    kept = lax.psum(jnp.tanh(x), "s")
    y = lax.psum(jnp.tanh(kept), "s")
    return lax.psum(jnp.tanh(y) * kept, "s")


def moves(x: jax.Array) -> tuple[jax.Array, ...]:
    """Collectives whose results are larger or smaller than their operands, one after the other and returned."""
    wide = lax.all_gather(x * 2, "s", axis=1, tiled=True)
    narrow = lax.psum_scatter(wide * 3, "s", scatter_dimension=1, tiled=True)
    turned = lax.ppermute(narrow, "s", [(0, 1), (1, 0)])
    return turned + 1, narrow + x * lax.axis_index("s").astype(jnp.float32)


def straight(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """An argument that goes into a collective as it is, and a result that only the caller sees."""
    return lax.psum(x, "s"), lax.pmax(jnp.exp(x), "s")


def looped(x: jax.Array) -> jax.Array:
    """Collectives in every trip, and one around the loop."""

    def step(c: jax.Array, _: None) -> tuple[jax.Array, None]:
        part = lax.psum(jnp.tanh(c), "s")
        whole = lax.psum(jnp.tanh(part) * part, "s")
        return jnp.tanh(whole) + c, None

    return lax.scan(step, lax.psum(x * 2, "s"), None, length=5)[0] * 3


PROGRAMS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (chain, moves, straight, looped)}


def compiled(fn: Callable[..., Any], fusion: str = "none") -> rdu.Program:
    return rdu.compile(
        jax.shard_map(fn, mesh=MESH, in_specs=P("s"), out_specs=P("s"), check_vma=False),
        jax.ShapeDtypeStruct((SOCKETS * X.shape[0], X.shape[1]), X.dtype), machine="tiny", fusion=fusion,
    )  # fmt: skip


class Marked:
    """What is in use when. carried: what a loop passes from trip to trip, or in and out, which has laws of its own."""

    def __init__(self, plan: Plan):
        self.uses: dict[int, list[int]] = {}
        self.moments = 0
        self.carried: set[int] = set()
        self.body(plan)

    def moment(self, *values: int) -> None:
        """One more moment, in which these are in use."""
        for value in values:
            self.uses.setdefault(value, []).append(self.moments)
        self.moments += 1

    def body(self, plan: Plan) -> None:
        """A graph: a moment for its begin, its steps and its end; what it is given and returns is there at once."""
        self.moment()
        for step in plan.steps:
            if isinstance(step, PlannedKernel):
                self.moment(*step.kernel.loads, *(w.value for w in step.kernel.writes))
            else:
                self.moment(*step.node.operands)
                self.carried |= {*step.node.operands, *step.node.results}
                for inner in step.plans:
                    self.carried |= {*inner.graph.inputs, *inner.graph.outputs}
                    self.body(inner)
                self.moment(*step.node.results)
        self.moment(*plan.graph.outputs)

    def alive(self, value: int) -> set[int]:
        """From the first use, which writes it, to the last."""
        return set(range(self.uses[value][0], self.uses[value][-1] + 1))


@pytest.mark.parametrize("fusion", ["none", "streaming"])
@pytest.mark.parametrize("name", PROGRAMS)
def test_what_collectives_read_and_write_is_there_while_it_is_in_use_and_not_longer(name: str, fusion: str):
    plan = compiled(PROGRAMS[name], fusion).plan
    found, marked = lifetimes(plan), Marked(plan)
    assert len(found.kernels) == marked.moments
    exchanges = sum(stage.op.group == SOCKETS for kernel in plan.kernels for stage in kernel.kernel.stages)
    assert exchanges == {"chain": 3, "moves": 4, "straight": 2, "looped": 3}[name]
    judged = [place for place in found.places if place.value not in marked.carried]
    assert len(judged) >= (3 if fusion == "none" else 2)  # fused, what is exchanged is in memory no more
    for place in judged:
        moments = {m for m in range(marked.moments) if place.alive >> m & 1}
        assert moments == (set(range(marked.moments)) if place.is_argument else marked.alive(place.value)), place.label


def test_what_a_collective_reads_and_writes_lies_apart_and_later_values_lie_there_again():
    memory = compiled(chain).plan.memory
    at = {s.label: s.offset_bytes for s in memory.symbols}
    for operand, result in (("tanh", "all_reduce"), ("tanh#2", "all_reduce#2"), ("mul", "all_reduce#3")):
        assert at[operand] != at[result]
    # Eight symbols of 512 bytes; in the last kernel but one, its operands, its result and the argument are there.
    assert len(at) == 8 and memory.peak_bytes("hbm") == 4 * 512
    in_use = {s.label: memory.in_use(s) for s in memory.symbols}
    assert in_use["tanh"] == "kernels 0 to 1" and in_use["all_reduce"] == "kernels 1 to 5"
    assert in_use["all_reduce#3"] == "kernel 6"


@pytest.mark.parametrize("name", PROGRAMS)
def test_what_is_counted_as_moved_is_what_the_price_says(name: str):
    program = compiled(PROGRAMS[name])
    assert sum(lifetimes(program.plan).moved_bytes.values()) == program.cost().moved_bytes("hbm") > 0
