"""The FP32 special functions: their error against MPFR, their bits in every mode, their edges."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import FormatError
from rdujax.numerics import arithmetic
from rdujax.numerics.special import SPECIAL
from tests.oracles.harness import MODES, assert_same_bits, patterns, raw
from tests.oracles.jaxpr_mirror import mirror
from tests.oracles.special_reference import errors_ulp

NAMES = list(SPECIAL)
COUNTS = [1 << 12, pytest.param(1 << 20, marks=pytest.mark.full)]
INF, NAN = np.inf, np.nan
UNARY_MODES = [mode for mode in MODES if mode not in ("first_constant", "last_constant", "odd_lengths")]

# The inputs with the largest errors found: for sin and cos among every 5th float32, for rsqrt among every 13th, for the
# rest among every 13th and all of magnitude 2**-13 to 2**7, where they bend. They hold each bound from below.
HARDEST = {
    "exp": 4.506326198577881,
    "exp2": 0.4998382031917572,
    "expm1": 0.35124945640563965,
    "log": 1.4117531776428223,
    "log1p": -0.2939353883266449,
    "sigmoid": -16.635704040527344,
    "silu": -5.163660526275635,
    "tanh": 0.18321411311626434,
    "erf": 0.41237345337867737,
    "erfc": 0.061714548617601395,
    "tan": 3.1107540047334596e25,
    "asin": 0.02625821903347969,
    "acos": 0.029321417212486267,
    "atan": 0.031172223389148712,
    "sinh": 0.8587970733642578,
    "cosh": 48.8881950378418,
    "asinh": 0.11894717067480087,
    "acosh": 1.0264538526535034,
    "atanh": 0.22525383532047272,
    "cbrt": 9.068724466487765e-05,
    "erf_inv": 0.001088818535208702,
    "gelu": -1.8260771036148071,
    "sin": 1.0929421376121093e27,
    "cos": 980136624128.0,
    "sqrt": 3.999999761581421,
    "rsqrt": 1.9843517785242334e-31,
    "reciprocal": 1.9999998807907104,
}


def _points(name: str, count: int) -> np.ndarray:
    """Every exponent, the range where functions bend, the neighbourhoods of special points, and the hardest input."""
    rng = np.random.default_rng(sum(map(ord, name)))
    quarter = count // 4
    any_bits = rng.integers(0, 1 << 32, quarter, np.uint64).astype(np.uint32).view(np.float32)
    middle = rng.normal(scale=4.0, size=quarter)
    wide = rng.uniform(-130.0, 130.0, quarter)
    corners = [0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 88.72284, -87.33655, 128.0, -126.0, 9.194, -13.13, -91.9, 2.0**-126]
    multiples = np.arange(1, 33) * (np.pi / 4)
    near = np.concatenate([np.asarray(corners), multiples, -multiples]).astype(np.float32)
    spread = rng.integers(-3, 4, (quarter // near.size, near.size), np.int32)
    close = (near.view(np.int32) + spread).view(np.float32).ravel()
    hardest = np.array([HARDEST[name]], np.float32)
    return np.concatenate([any_bits, middle.astype(np.float32), wide.astype(np.float32), close, hardest])


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", NAMES)
def test_error_is_within_its_bound_and_the_bound_is_tight(name: str, count: int):
    x = _points(name, count)
    error = errors_ulp(name, x, SPECIAL[name].fp32(x))
    worst = int(np.argmax(error))
    assert error[worst] <= SPECIAL[name].bound_ulp, (x[worst], error[worst])
    assert error[-1] >= 0.95 * SPECIAL[name].bound_ulp, error[-1]


def _raw_vectors(count: int) -> np.ndarray:
    """Any bits (denormals, NaNs of every kind), and the range where functions bend."""
    rng = np.random.default_rng(7)
    any_bits = rng.integers(0, 1 << 32, count // 2, np.uint64).astype(np.uint32)
    any_bits[:8] = [0, 0x80000000, 1, 0x807FFFFF, 0x7F800001, 0xFFC00001, 0x7F800000, 0xFF800000]
    return raw(np.concatenate([any_bits, (rng.normal(size=count // 2) * 5).astype(np.float32).view(np.uint32)]))


@pytest.mark.parametrize("name", NAMES)
def test_bits_are_those_of_single_steps_in_every_mode(name: str):
    """NumPy keeps denormals and XLA's code flushes them, so no step may depend on that either."""
    x = _raw_vectors(1 << 12)
    function = SPECIAL[name].fp32
    want = patterns(mirror(function, x))
    for mode in UNARY_MODES:
        assert_same_bits(MODES[mode](function, x), want, x.view(np.uint32), note=f"{name} {mode}")


@pytest.mark.parametrize("lengths", [(1, 13), pytest.param(tuple(range(1, 34)), marks=pytest.mark.full)])
@pytest.mark.parametrize("name", NAMES)
def test_bits_do_not_depend_on_length(name: str, lengths: tuple[int, ...]):
    """Vector bodies, scalar tails and a scalar all give the same bits, and so does a slice of a larger program."""
    x = _raw_vectors(1 << 10)[-40:]
    whole = patterns(SPECIAL[name].fp32(x))
    pieces = jax.jit(lambda v: [SPECIAL[name].fp32(v[:n]) for n in lengths] + [SPECIAL[name].fp32(v[5])])(x)
    for length, piece in zip(lengths, pieces, strict=False):
        np.testing.assert_array_equal(patterns(piece), whole[:length])
    assert patterns(pieces[-1]) == whole[5]


EDGES = {
    "exp": [(INF, INF), (-INF, 0.0), (88.73, INF), (-87.34, 0.0), (-0.0, 1.0), (1e-45, 1.0)],
    "exp2": [(INF, INF), (-INF, 0.0), (128.0, INF), (-126.0, 2.0**-126), (-126.00001, 0.0), (10.0, 1024.0)],
    "expm1": [(INF, INF), (-INF, -1.0), (-0.0, -0.0), (2.0**-126, 2.0**-126), (-30.0, -1.0), (89.0, INF)],
    "log": [(0.0, -INF), (-0.0, -INF), (1e-45, -INF), (-1.0, NAN), (-INF, NAN), (INF, INF), (1.0, 0.0)],
    "log1p": [(-1.0, -INF), (-1.0000001, NAN), (-INF, NAN), (INF, INF), (-0.0, -0.0), (2.0**-126, 2.0**-126)],
    "sigmoid": [(INF, 1.0), (-INF, 0.0), (0.0, 0.5), (-90.0, 0.0), (30.0, 1.0)],
    "silu": [(INF, INF), (-INF, -0.0), (-0.0, -0.0), (-92.0, -0.0), (-3e38, -0.0), (3e38, 3e38), (2.0**-126, 0.0)],
    "tanh": [(INF, 1.0), (-INF, -1.0), (-0.0, -0.0), (2.0**-126, 2.0**-126), (9.2, 1.0), (-3e38, -1.0)],
    "erf": [(INF, 1.0), (-INF, -1.0), (-0.0, -0.0), (4.5, 1.0), (-1e-45, -0.0)],
    "erfc": [(INF, 0.0), (-INF, 2.0), (0.0, 1.0), (9.2, 0.0), (-4.5, 2.0), (3e38, 0.0)],
    "tan": [(INF, NAN), (-INF, NAN), (-0.0, -0.0), (2.0**-126, 2.0**-126), (-1e-45, -0.0)],
    "asin": [(1.0000001, NAN), (-INF, NAN), (-0.0, -0.0), (2.0**-126, 2.0**-126), (1.0, np.pi / 2), (-1.0, -np.pi / 2)],
    "acos": [(1.0000001, NAN), (INF, NAN), (1.0, 0.0), (-1.0, np.pi), (-0.0, np.pi / 2), (1e-45, np.pi / 2)],
    "atan": [(INF, np.pi / 2), (-INF, -np.pi / 2), (-0.0, -0.0), (2.0**-126, 2.0**-126), (1.0, np.pi / 4)],
    "sinh": [(INF, INF), (-INF, -INF), (-0.0, -0.0), (2.0**-126, 2.0**-126), (89.5, INF), (-90.0, -INF)],
    "cosh": [(INF, INF), (-INF, INF), (-0.0, 1.0), (89.5, INF), (2.0**-126, 1.0)],
    "asinh": [(INF, INF), (-INF, -INF), (-0.0, -0.0), (2.0**-126, 2.0**-126)],
    "acosh": [(INF, INF), (-INF, NAN), (1.0, 0.0), (0.9999999, NAN), (-0.0, NAN)],
    "atanh": [(1.0, INF), (-1.0, -INF), (1.0000001, NAN), (-INF, NAN), (-0.0, -0.0), (2.0**-126, 2.0**-126)],
    "cbrt": [(INF, INF), (-INF, -INF), (-0.0, -0.0), (27.0, 3.0), (-8.0, -2.0), (2.0**-126, 2.0**-42), (1e-45, 0.0)],
    "erf_inv": [(1.0, INF), (-1.0, -INF), (1.0000001, NAN), (-INF, NAN), (-0.0, -0.0), (2.0**-126, 0.0)],
    "gelu": [(INF, INF), (-INF, -0.0), (-0.0, -0.0), (-13.2, -0.0), (3e38, 3e38), (-3e38, -0.0), (2.0**-126, 0.0)],
    "sin": [(INF, NAN), (-INF, NAN), (-0.0, -0.0), (2.0**-126, 2.0**-126), (-1e-45, -0.0)],
    "cos": [(INF, NAN), (-INF, NAN), (-0.0, 1.0), (2.0**-126, 1.0)],
    "sqrt": [(INF, INF), (-0.0, -0.0), (-1.0, NAN), (4.0, 2.0)],
    "rsqrt": [(INF, 0.0), (0.0, INF), (-0.0, -INF), (-1.0, NAN), (4.0, 0.5)],
    "reciprocal": [(INF, 0.0), (-INF, -0.0), (0.0, INF), (-0.0, -INF), (2.0**126, 2.0**-126), (2.0**127, 0.0)],
}


@pytest.mark.parametrize("name", NAMES)
def test_edges(name: str):
    """Limits, overflow, flush, signs of zero, and the one NaN for every NaN."""
    x, want = np.array([*EDGES[name], (NAN, NAN), (-NAN, NAN)], np.float32).T
    want = np.where(np.isnan(want), np.uint32(0x7FC00000), want.view(np.uint32))
    assert_same_bits(SPECIAL[name].fp32(np.ascontiguousarray(x)), want, x.view(np.uint32), note=name)


@pytest.mark.parametrize("count", [4, pytest.param(None, marks=pytest.mark.full)])
@pytest.mark.parametrize("name", NAMES)
def test_a_constant_of_one_value_folds_to_the_same_bits(name: str, count: int | None):
    """XLA folds and simplifies a splat or a scalar with other rules than an array of constants."""
    function, x = SPECIAL[name].fp32, np.array([1.5, 1e-45, *dict(EDGES[name]), -0.3][:count], np.float32)
    splats = jax.jit(lambda: [function(jnp.full((5,), v)) for v in x])()
    scalars = jax.jit(lambda: [function(v) for v in x])()
    want = patterns(function(x))
    np.testing.assert_array_equal([patterns(s) for s in splats], np.tile(want[:, None], 5))
    np.testing.assert_array_equal([patterns(s) for s in scalars], want)


def test_sigmoid_is_three_results_of_the_machine():
    """1 / (1 + exp(-x)), each of the three rounded (N10)."""
    x = jnp.asarray(_raw_vectors(1 << 12))
    three = arithmetic.reciprocal(arithmetic.add(1.0, SPECIAL["exp"].fp32(arithmetic.neg(x))))
    assert_same_bits(SPECIAL["sigmoid"].fp32(x), patterns(three))


def test_operand_is_checked_by_name():
    for dtype in ("bfloat16", "int32", "float16"):
        with pytest.raises(FormatError, match="log1p"):
            SPECIAL["log1p"].fp32(jnp.zeros(3, dtype))
