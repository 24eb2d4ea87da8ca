"""Derivatives of the price of kernels whose loads stream by, against differences of the exact price."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from tests.rooms.compiler.samples import mlp

STEP = 0.02  # of a fact, either way
ROUNDED = 2e-4  # of a price: what rounding a slice up to whole cycles may add
FACTS = (
    "clock_hz", "hbm.bandwidth_bytes_per_s", "hbm.efficiency", "ddr.bandwidth_bytes_per_s", "ddr.efficiency",
    "launch.execute_s", "p2p.bandwidth_bytes_per_s",
)  # fmt: skip


def compiled(rows: int, tiers: dict[str, str]) -> rdu.Program:
    """A gated MLP of some rows on the real machine, its weights in two tiers."""
    shapes = [(rows, 4096), (4096, 8192), (4096, 8192), (8192, 4096)]
    return rdu.compile(mlp, *(jax.ShapeDtypeStruct(s, jnp.bfloat16) for s in shapes), machine="sn40l", tiers=tiers)


PROGRAMS = {
    "one tier": (1, {}),
    "two tiers": (48, {"up": "ddr", "down": "ddr"}),
    "all far": (16, {"gate": "ddr", "up": "ddr", "down": "ddr"}),
    "some rows": (48, {}),
}


@pytest.mark.parametrize("rows, tiers", PROGRAMS.values(), ids=list(PROGRAMS))
def test_slopes_of_kernels_of_one_turn_are_differences_of_the_exact_price(rows: int, tiers: dict[str, str]):
    """Between those of both sides: where a load and its stage take as long as one another, these are not the same."""
    program = compiled(rows, tiers)
    [kernel] = program.plan.kernels
    assert kernel.tiling.in_turn
    relaxed = program.machine.relaxed()
    assert float(program.cost(relaxed).total_s) == pytest.approx(float(program.cost().total_s), rel=1e-6)
    slopes = jax.grad(lambda m: program.cost(m).total_s)(relaxed).facts()
    seen, now = 0, float(program.cost().total_s)
    for path in FACTS:
        at = float(program.machine.facts()[path].value)
        below, above = (
            float(program.cost(program.machine.replace({path: at * (1 + h)})).total_s) for h in (-STEP, STEP)
        )
        sides = (now - below) / (STEP * at), (above - now) / (STEP * at)
        slope, scale = float(slopes[path].value), now / at  # scale: the slope of a fact that all time rests on
        near = 0.03 * max(map(abs, sides)) + ROUNDED / STEP * scale
        assert min(sides) - near <= slope <= max(sides) + near, path
        seen += abs(slope) > 0.02 * scale
    assert seen >= 2


@pytest.mark.parametrize("rows, tiers", PROGRAMS.values(), ids=list(PROGRAMS))
def test_what_a_price_rests_on_adds_up_to_it(rows: int, tiers: dict[str, str]):
    """Seconds scale with seconds: the clock and all bandwidths twice as fast and launches twice as short halve them."""
    program = compiled(rows, tiers)
    relaxed = program.machine.relaxed()
    slopes = jax.grad(lambda m: program.cost(m).run_s)(relaxed).facts()
    at = program.machine.facts()
    rests = ["clock_hz", "hbm.bandwidth_bytes_per_s", "ddr.bandwidth_bytes_per_s"]
    elasticity = sum(float(slopes[path].value) * float(at[path].value) for path in rests)
    np.testing.assert_allclose(-elasticity, float(program.cost().run_s), rtol=1e-4)
