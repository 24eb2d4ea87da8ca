"""Laws of every element-wise function in both floating formats: all roads to a derivative agree, and none moves a bit.

The values themselves are judged in tests/gradients; here the roads are: forward and reverse mode, the two mixed, vmap,
scan, jit and remat. One program per function and format takes them all.
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics import reduce
from rdujax.numerics.convert import round_stochastic, round_to
from rdujax.numerics.formats import BF16, FP32, Format
from rdujax.numerics.functions import FUNCTIONS, apply

# BF16 values, away from ties and from where a function is not smooth.
POINTS = np.array([0.75, 1.5, 2.25, 3.0, 4.5, 0.3125, 6.0], np.float32)
INSIDE_ONE = ("erf_inv", "asin", "acos", "atanh")  # functions whose domain ends there
FLOATS = [
    pytest.param(
        name, fmt, id=f"{name}-{fmt}", marks=pytest.mark.full if fmt is BF16 and FP32 in function.formats else ()
    )
    for name, function in FUNCTIONS.items()
    for fmt in (BF16, FP32)
    if fmt in function.formats and not function.is_predicate
]
PREDICATES = [name for name, function in FUNCTIONS.items() if function.is_predicate]


def _unit(name: str, fmt: Format) -> tuple[Callable[..., jax.Array], tuple[np.ndarray, ...]]:
    """The function of its floating operands alone, and points for them."""
    fn, arity = partial(apply, name, fmt), FUNCTIONS[name].arity
    if name == "select":
        fn, arity = partial(fn, np.bool_(True)), 2
    if name == "integer_power":
        fn = partial(fn, n=3)
    points = POINTS / 8 if name in INSIDE_ONE else POINTS + 1 if name == "acosh" else POINTS
    return fn, tuple(np.roll(points, i) for i in range(arity))


def _roads(fn: Callable[..., jax.Array], *x: jax.Array) -> dict[str, dict[str, jax.Array]]:
    """{"value" | "slope" | "bend": {road: array [points] or [operands, points]}}."""
    positions, ones = tuple(range(len(x))), tuple(map(jnp.ones_like, x))
    reverse = jax.grad(fn, positions)

    def looped(*x: jax.Array) -> jax.Array:
        return jax.lax.scan(lambda total, item: (total + fn(*item), None), jnp.float32(0), x)[0]

    def total(*x: jax.Array) -> jax.Array:
        return jnp.sum(jax.checkpoint(fn)(*x))

    value, slope = jax.vmap(jax.value_and_grad(fn, positions))(*x)
    pushed_value, pushed = jax.jvp(fn, x, ones)
    turned = jax.jvp(jax.vmap(reverse), x, ones)[1]
    twice = jax.grad(lambda *x: sum(map(jnp.sum, jax.vmap(reverse)(*x))), positions)(*x)
    return {
        "value": {
            "reverse": value,
            "forward": pushed_value,
            "scan": jax.lax.scan(lambda none, item: (none, fn(*item)), None, x)[1],
            "vmap": jax.vmap(fn)(*x),
            "remat": jax.vjp(jax.checkpoint(fn), *x)[0],
        },
        "slope": {
            "reverse": jnp.stack(slope),
            "scan": jnp.stack(jax.grad(looped, positions)(*x)),
            "remat": jnp.stack(jax.grad(total, positions)(*x)),
            "forward": jnp.stack(jax.vmap(jax.jacfwd(fn, positions))(*x)),
        },
        "push": {"reverse": sum(slope), "forward": pushed},
        "bend": {"forward over reverse": jnp.stack(turned), "reverse over reverse": jnp.stack(twice)},
    }


def _assert_agree(roads: dict[str, jax.Array], rtol: float) -> None:
    first, *others = roads.values()
    assert np.isfinite(first).all()
    for road in others:
        np.testing.assert_allclose(road, first, rtol=rtol, atol=1e-6)


@pytest.mark.parametrize(("name", "fmt"), FLOATS)
def test_all_roads_agree(name: str, fmt: Format):
    fn, x = _unit(name, fmt)
    plain = np.asarray(fn(*x)).view(np.uint32)
    found = jax.jit(partial(_roads, fn))(*x)
    for road, value in found["value"].items():
        np.testing.assert_array_equal(np.asarray(value).view(np.uint32), plain, err_msg=road)
    _assert_agree(found["slope"], 1e-5)
    _assert_agree(found["push"], 1e-5)
    _assert_agree(found["bend"], 1e-4)


@pytest.mark.parametrize("name", PREDICATES)
def test_a_comparison_guides_the_derivative_and_has_none(name: str):
    """As the predicate of a choice it lets the chosen side's slope through, and adds nothing of its own."""

    def compare(x: jax.typing.ArrayLike, y: jax.typing.ArrayLike) -> jax.Array:
        return apply(name, FP32, *(x, y)[: FUNCTIONS[name].arity])

    def chosen(x: jax.Array, y: jax.Array) -> jax.Array:
        return apply("select", FP32, compare(x, y), apply("mul", FP32, x, x), y)

    for x, y in ((2.0, 3.0), (3.0, 2.0), (2.0, 2.0)):
        taken = bool(compare(x, y))
        slopes = jax.jit(jax.grad(chosen, (0, 1)))(jnp.float32(x), jnp.float32(y))
        assert slopes == ((2 * x, 0.0) if taken else (0.0, 1.0))


@pytest.mark.parametrize(
    "fn",
    [
        pytest.param(partial(round_to, fmt=BF16), id="round to bf16"),
        pytest.param(lambda x: round_stochastic(x, np.uint16(0x9000)), id="stochastic rounding"),
        pytest.param(lambda x: reduce.tree_sum(jnp.stack([x, x]), 0), id="tree_sum"),
        pytest.param(lambda x: reduce.lane_sum(jnp.stack([x, x, x]), 0, 2), id="lane_sum"),
        pytest.param(lambda x: reduce.tree_max(jnp.stack([x, -x]), 0), id="tree_max"),
        pytest.param(lambda x: reduce.tree_min(jnp.stack([x, -x]), 0), id="tree_min"),
    ],
)
def test_all_roads_agree_for_rounding_and_reduction(fn: Callable[[jax.Array], jax.Array]):
    """They are linear between their jumps: slopes without noise, and no bend at all."""
    x = POINTS * np.float32(1.001)
    plain = np.asarray(fn(x)).view(np.uint32)
    found = jax.jit(partial(_roads, fn))(x)
    for road, value in found["value"].items():
        np.testing.assert_array_equal(np.asarray(value).view(np.uint32), plain, err_msg=road)
    _assert_agree(found["slope"], 0.0)
    _assert_agree(found["push"], 0.0)
    assert all(not np.any(bend) for bend in found["bend"].values())
