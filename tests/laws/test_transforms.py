"""What JAX makes of a compiled program keeps its bits, and its derivatives are those of plain JAX (law L1).

Random programs, one of each family: transformations are blind to what a program does, so that an operation that reads
its shape, or a loop that is batched in another way, must show here.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

import rdujax as rdu
from tests.laws.programs.drawn import FAMILIES, is_float, of_family, of_floats
from tests.laws.programs.program import QUICK
from tests.rooms.compiler.samples import assert_same

IN_QUICK = ("loops",)
CHOSEN = [pytest.param(name, marks=() if name in IN_QUICK else pytest.mark.full) for name in FAMILIES]


@pytest.fixture(autouse=True)
def _promoted():
    """Programs are written as users write them: JAX promotes and broadcasts."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def quickly(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Compiled, without making the code better."""
    return jax.jit(fn, compiler_options=QUICK)


def others(args: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
    """Other arguments of the same kind: backwards along the first axis."""
    return tuple(x[::-1] if x.ndim else x for x in args)


@pytest.mark.parametrize("name", CHOSEN)
def test_jit_vmap_and_scan_give_the_bits_of_calls(name: str):
    program = of_family(name)
    compiled = rdu.compile(program.function.compiled(), *program.args, machine="tiny")
    args, more = program.args, others(program.args)
    want, also = compiled(*args), compiled(*more)
    assert_same(jax.jit(compiled)(*args), want, "jit")
    rng = np.random.default_rng(len(name))
    axes = [None if rng.random() < 0.3 else int(rng.integers(x.ndim + 1)) for x in args]
    axes[0] = 0
    given = [x if a is None else jnp.stack([x, y, x], a) for x, y, a in zip(args, more, axes, strict=True)]
    mixed = [x if a is None else y for x, y, a in zip(args, more, axes, strict=True)]
    batched = quickly(jax.vmap(compiled, tuple(axes)))(*given)
    for place, single in ((0, want), (1, compiled(*mixed)), (2, want)):
        assert_same(jax.tree.map(lambda y, i=place: y[i], batched), single, f"vmap over {axes}")
    stacked = tuple(jnp.stack([x, y]) for x, y in zip(args, more, strict=True))
    looped = quickly(lambda xs: lax.scan(lambda carry, x: (carry, compiled(*x)), 0, xs)[1])(stacked)
    for place, single in enumerate((want, also)):
        assert_same(jax.tree.map(lambda y, i=place: y[i], looped), single, "scan")


def ones_like(y: jax.Array) -> Any:
    """A cotangent."""
    return jnp.ones_like(y) if is_float(y) else np.zeros(y.shape, jax.dtypes.float0)


def in_reverse(fn: Callable[..., Any]) -> Callable[..., Any]:
    """(value, what a cotangent of ones becomes)."""

    def both(*xs: jax.Array) -> Any:
        y, back = jax.vjp(fn, *xs)
        return y, back(jax.tree.map(ones_like, y))

    return both


@pytest.mark.parametrize("name", CHOSEN)
def test_values_under_derivatives_have_the_bits_of_calls(name: str):
    """Forward and reverse mode, and with a checkpoint; where JAX has no reverse mode, neither has the program."""
    program = of_family(name)
    compiled = rdu.compile(program.function.compiled(), *program.args, machine="tiny")
    want = compiled(*program.args)
    ours, floats = of_floats(compiled, program.args)
    value, slope = quickly(lambda *xs: jax.jvp(ours, xs, tuple(jnp.ones_like(x) for x in xs)))(*floats)
    assert_same(value, want, "jvp")
    assert not any(np.isnan(np.asarray(s, np.float32)).any() for s in jax.tree.leaves(slope) if is_float(s))
    plain, _ = of_floats(program.function.compiled(), program.args)
    try:
        jax.eval_shape(in_reverse(plain), *floats)
    except ValueError as refused:
        assert "while_loop" in str(refused)
        with pytest.raises(ValueError, match="while_loop"):
            jax.eval_shape(in_reverse(ours), *floats)
        return
    value, slopes = quickly(in_reverse(ours))(*floats)
    assert_same(value, want, "vjp")
    value, again = quickly(in_reverse(jax.checkpoint(ours)))(*floats)
    assert_same(value, want, "checkpoint")
    for slope, other in zip(slopes, again, strict=True):  # sums of plain JAX, in whatever order XLA chooses anew
        slope, other = np.asarray(slope, np.float64), np.asarray(other, np.float64)
        assert slope.size and np.abs(slope - other).max() <= 2.0**-23 * np.abs(slope).max()
