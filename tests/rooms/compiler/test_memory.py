"""Tiers and addresses: sound on flat bytes, few of them, what is moved least goes first (law L6)."""

from itertools import product

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from rdujax.graph.memory import Memory
from rdujax.units.memory import TIERS
from tests.rooms.compiler.flat_memory import Flat
from tests.rooms.compiler.samples import Sample, assert_same, draw, samples

RNG = np.random.default_rng(8)
X, WS = draw(RNG, 8, 12), draw(RNG, 3, 12, 12)


def layers(x, ws):
    """A carry whose old and new value overlap, ys, slices from the last to the first."""
    return lax.scan(lambda x, w: (x + jnp.tanh(x @ w), x.sum(0)), x, ws, reverse=True)


def swapped(x, ws):
    """Two parts of a carry that change places, and one value returned twice."""
    step = lambda c, w: ((c[1], c[0] @ w), (c[0], c[0]))  # noqa: E731
    return lax.scan(step, (x, x * 2), ws)


def nested(x, ws):
    """Loops in a loop, a scan and one that values end, and what the outer one carries goes through both."""

    def step(c, w):
        inner = lax.scan(lambda x, _: (jnp.tanh(x @ w), None), c, None, length=4)[0]
        ended = lax.while_loop(lambda s: s[1] < 3, lambda s: (s[0] + c, s[1] + 1), (inner, c[0, 0].astype(jnp.int32)))
        return ended[0], inner[0]

    return lax.scan(step, x, ws)


def ended(x, ws):
    """Loops that turn an even number of times, an odd one, and never; the first value is read again afterwards."""
    turn = lambda n: lax.while_loop(lambda s: s[1] < n, lambda s: (s[0] @ ws[0], s[1] + 1), (x * 2, 0))  # noqa: E731
    return turn(4), turn(3), turn(0), x * 2


def branches(x, ws):
    """Branches of different length around what is read before, inside and after."""
    y = jnp.tanh(x @ ws[0])
    long = lambda y: jnp.tanh(jnp.tanh(y @ ws[1]) @ ws[2]) + y  # noqa: E731
    once = lax.cond(x[0, 0] > 0, long, lambda y: y, y)
    again = lax.cond(x[0, 0] > 0, lambda y: y, long, y)
    return once @ ws[1], again, y


def gradient(x, ws):
    """Saved activations of a scan, read backwards."""
    return jax.grad(lambda ws: lax.scan(lambda x, w: (jnp.tanh(x @ w), None), x, ws)[0].astype(jnp.float32).sum())(ws)


PROGRAMS = {f.__name__: Sample(f.__name__, f, (X, WS)) for f in (layers, swapped, nested, ended, branches, gradient)}
PROGRAMS |= {sample.name: sample for sample in samples()}


def compiled(sample: Sample, fusion="none", machine="tiny", **choices) -> rdu.Program:
    return rdu.compile(sample.fn, *sample.args, machine=machine, fusion=fusion, **choices)


def half(program: rdu.Program, share: float = 0.5) -> rdu.machines.Machine:
    """The machine with so much HBM that a part of what may be spilled has to be."""
    return program.machine.replace({"hbm.capacity_bytes": int(program.plan.peak_bytes("hbm") * share)})


def conflicts(memory: Memory) -> list[tuple[str, str]]:
    """Symbols that share a byte of a tier and a moment, found pair by pair."""
    found = []
    for tier in TIERS:
        here = memory.of_tier(tier)
        for i, a in enumerate(here):
            for b in here[:i]:
                apart = (
                    a.offset_bytes >= b.offset_bytes + b.size_bytes or b.offset_bytes >= a.offset_bytes + a.size_bytes
                )
                if a.alive & b.alive and not apart:
                    found.append((a.label, b.label))
    return found


QUICK = {("none", "half", name) for name in ("layers", "swapped", "nested", "ended", "branches", "gradient")}
CASES = [
    pytest.param(*case, marks=() if case in QUICK else pytest.mark.full, id="-".join(case))
    for case in product(("none", "streaming"), ("enough", "half"), PROGRAMS)
]


@pytest.mark.parametrize(("fusion", "room", "name"), CASES)
def test_a_program_on_flat_bytes_has_the_same_bits(fusion: str, room: str, name: str):
    sample = PROGRAMS[name]
    program = compiled(sample, fusion)
    if room == "half":
        program = compiled(sample, fusion, half(program))
        assert program.plan.peak_bytes("ddr") > 0
    assert conflicts(program.plan.memory) == []
    assert_same(Flat(program).run(*sample.args), program(*sample.args), name)
