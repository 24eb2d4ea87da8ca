"""pow and atan2 in FP32 and BF16: their error against MPFR, their bits in every mode, the edges of C's functions."""

import gmpy2
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics.formats import BF16, FP32
from rdujax.numerics.functions import FUNCTIONS, apply
from tests.oracles import softfloat as sf
from tests.oracles.harness import MODES, assert_same_bits, in_full, patterns
from tests.oracles.jaxpr_mirror import mirror

REAL = {"pow": lambda x, y: x**y, "atan2": gmpy2.atan2}
# The operands with the largest errors found among 2**23 random ones.
HARDEST = {"pow": (490.6714172363281, -11.354083061218262), "atan2": (-1.9718847274780273, 16826.5625)}
COUNTS = [1 << 12, pytest.param(1 << 18, marks=pytest.mark.full)]
EDGES = [0.0, -0.0, 1.0, -1.0, 2.0, -2.0, 0.5, -0.5, np.inf, -np.inf, 3.5, 2.0**-126, -(2.0**-126), 3e38, -3e38, 3.0,
         -3.0, 2.0**23 + 1, 2.0**24, 1e30, 1e-30]  # fmt: skip


def points(name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Powers that neither overflow nor vanish, of bases near one and far from it; points of the plane near and far."""
    rng = np.random.default_rng(81)
    wide = np.exp2(rng.uniform(-100, 100, count // 2))
    near = np.exp2(rng.normal(size=count // 2) * 0.01)
    x = np.concatenate([wide, near])
    if name == "pow":
        y = rng.uniform(-86, 86, x.size) / np.log(x)
    else:
        y = rng.normal(size=x.size) * x * np.exp2(rng.integers(-18, 19, x.size))
        x = x * rng.choice([-1, 1], x.size)
    first, second = (x, y) if name == "pow" else (y, x)
    hard = HARDEST[name]
    return np.append(first, hard[0]).astype(np.float32), np.append(second, hard[1]).astype(np.float32)


def real(name: str, x: np.ndarray, y: np.ndarray) -> list[gmpy2.mpfr]:
    with gmpy2.context(precision=160, emin=gmpy2.get_emin_min(), emax=gmpy2.get_emax_max()):
        return [REAL[name](gmpy2.mpfr(a), gmpy2.mpfr(b)) for a, b in zip(x.tolist(), y.tolist(), strict=True)]


@pytest.mark.parametrize("count", COUNTS)
@pytest.mark.parametrize("name", REAL)
def test_error_is_within_its_bound(name: str, count: int):
    x, y = points(name, count)
    got = np.asarray(apply(name, FP32, x, y), np.float64)
    want = real(name, x, y)
    size = np.exp2(np.array([np.frexp(float(w))[1] for w in want]) - 24.0)
    error = np.array([float(abs(gmpy2.mpfr(g) - w)) for g, w in zip(got.tolist(), want, strict=True)]) / size
    normal = np.array([2.0**-126 < abs(w) < 3.4e38 for w in want])
    error = np.where(normal, error, 0.0)
    worst = int(error.argmax())
    assert error[worst] <= FUNCTIONS[name].bound_ulp, (x[worst], y[worst], error[worst])
    assert error[-1] >= 0.9 * FUNCTIONS[name].bound_ulp, error[-1]


@pytest.mark.parametrize("name", REAL)
def test_edges_are_those_of_c(name: str):
    x, y = (v.ravel() for v in np.meshgrid(np.float32(EDGES), np.float32(EDGES)))
    with np.errstate(all="ignore"):
        want = {"pow": np.power, "atan2": np.arctan2}[name](x.astype(np.float64), y.astype(np.float64))
        tiny, huge = np.abs(want) < 2.0**-126, np.abs(want) > 3.4028235e38
        want = np.where(tiny, np.copysign(0.0, want), np.where(huge, np.copysign(np.inf, want), want))
    got = np.asarray(apply(name, FP32, x, y)).astype(np.float64)
    np.testing.assert_array_equal(np.signbit(got), np.signbit(np.where(np.isnan(want), 1.0, want)))
    np.testing.assert_allclose(got, want, rtol=2.0**-23)
    nan = np.full(len(EDGES), np.nan, np.float32)
    for a, b in ((nan, np.float32(EDGES)), (np.float32(EDGES), nan)):
        assert (patterns(apply(name, FP32, a, b)) == 0x7FC00000).all()  # pow(x, 0) and pow(1, y) too (N2)


@pytest.mark.parametrize(
    "mode", ["jit", "constants", *in_full(*(m for m in MODES if m not in ("jit", "constants", "odd_lengths")))]
)
@pytest.mark.parametrize("name", REAL)
def test_bits_are_those_of_single_steps_in_every_mode(name: str, mode: str):
    edges = [v.ravel() for v in np.meshgrid(np.float32(EDGES), np.float32(EDGES))]
    operands = [np.concatenate([e, p[: 2048 - e.size]]) for e, p in zip(edges, points(name, 1 << 12), strict=True)]
    want = patterns(mirror(lambda x, y: apply(name, FP32, x, y), *operands))
    got = MODES[mode](lambda x, y: apply(name, FP32, x, y), *operands)
    assert_same_bits(got, want, *(v.view(np.uint32) for v in operands), note=f"{name} {mode}")


@pytest.mark.parametrize("name", REAL)
def test_bf16_is_the_single_result_rounded(name: str):
    x, y = (sf.to_bf16(v.view(np.uint32)).view(np.float32) for v in points(name, 1 << 12))
    assert_same_bits(apply(name, BF16, x, y), sf.to_bf16(patterns(apply(name, FP32, x, y))))


def test_derivatives():
    x, y = jnp.float32([0.5, 1.5, 3.0, 0.25]), jnp.float32([2.0, -1.5, 0.5, 3.0])
    for name, theirs in (("pow", jnp.power), ("atan2", jnp.arctan2)):
        ours = jax.vmap(jax.grad(lambda x, y, n=name: apply(n, FP32, x, y), (0, 1)))(x, y)
        np.testing.assert_allclose(ours, jax.vmap(jax.grad(theirs, (0, 1)))(x, y), rtol=1e-5)
    zero = jax.grad(lambda x, y: apply("pow", FP32, x, y), (0, 1))(jnp.float32(0.0), jnp.float32(2.0))
    assert zero == (0.0, 0.0)
    edge = jax.grad(lambda x, y: apply("atan2", FP32, x, y), (0, 1))(jnp.float32(3e38), jnp.float32(3e38))
    assert np.isfinite(edge).all()
