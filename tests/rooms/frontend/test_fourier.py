"""Fourier transforms and complex arithmetic inside of programs, against NumPy in double precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import FormatError, UnsupportedError
from rdujax.ops.contract import Contract
from tests.oracles.harness import in_full


def parts(z):
    return jnp.real(z), jnp.imag(z)


def assert_near(got, want, points):
    """FP32 sums of `points` terms in a few stages: some ulp of the largest value."""
    got = np.asarray(got[0]) + 1j * np.asarray(got[1])
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= 8 * 2.0**-24 * np.log2(2 * points) * max(np.abs(want).max(), 1.0) * 2


@pytest.fixture(autouse=True)
def _promoted():
    """Whoever writes x + 1j * y relies on JAX to promote."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


@pytest.fixture
def signals(rng):
    def draw(*shape):
        x, y = rng.normal(size=(2, *shape))
        return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.float32)

    return draw


LENGTHS = (1, 2, 7, 8, 12, 64, 65, 67, 128, 1155)
QUICK = ((1, True), (2, False), (7, True), (12, False), (65, True), (67, False))
REST = in_full(
    *((points, inverse) for points in LENGTHS for inverse in (False, True) if (points, inverse) not in QUICK)
)


@pytest.mark.parametrize(("points", "inverse"), [*QUICK, *REST])
def test_transforms_of_any_length(signals, points, inverse):
    x, y = signals(2, points)
    ours, theirs = (jnp.fft.ifft, np.fft.ifft) if inverse else (jnp.fft.fft, np.fft.fft)
    program = rdu.compile(lambda x, y: parts(ours(x + 1j * y)), x, y)
    got = program(x, y)
    assert_near(got, theirs(np.asarray(x, np.float64) + 1j * np.asarray(y, np.float64)), points)
    unfused = program.replace(fusion="none")(x, y)
    assert all(np.array_equal(np.asarray(a), np.asarray(b)) for a, b in zip(got, unfused, strict=True))


@pytest.mark.parametrize("points", [9, *in_full(8, 96)])
def test_real_transforms_and_their_inverse(signals, points):
    x, _ = signals(3, points)
    got = rdu.compile(lambda x: parts(jnp.fft.rfft(x)), x)(x)
    assert_near(got, np.fft.rfft(np.asarray(x, np.float64)), points)
    back = rdu.compile(lambda x: jnp.fft.irfft(jnp.fft.rfft(x), points), x)(x)
    assert np.allclose(np.asarray(back), np.asarray(x), atol=1e-5)


PLANES = ((2, 3, 4), (66, 130))  # of one matrix along each axis, and of several


@pytest.mark.parametrize(("name", "shape"), [("fft2", PLANES[1]), *in_full(("fft2", PLANES[0]), ("ifft2", PLANES[1]))])
def test_two_dimensions(signals, name, shape):
    x, y = signals(*shape)
    got = rdu.compile(lambda x, y: parts(getattr(jnp.fft, name)(x + 1j * y)), x, y)(x, y)
    want = getattr(np.fft, name)(np.asarray(x, np.float64) + 1j * np.asarray(y, np.float64))
    assert_near(got, want, shape[-1] * shape[-2])


@pytest.mark.parametrize("shape", [(5, 70), *in_full(((66, 9),), ((2, 67, 8),))])
def test_real_planes_and_their_inverse(signals, shape):
    """The half spectrum is that of the last axis; the others are whole, and so is their order on the way back."""
    x, _ = signals(*shape)
    axes = tuple(range(len(shape)))
    got = rdu.compile(lambda x: parts(jnp.fft.rfftn(x)), x)(x)
    want = np.fft.rfftn(np.asarray(x, np.float64))
    assert_near(got, want, x.size)
    half = [jnp.asarray(part, jnp.float32) for part in (want.real, want.imag)]
    back = rdu.compile(lambda x, y: jnp.fft.irfftn(x + 1j * y, shape, axes), *half)(*half)
    assert_near((back, np.zeros_like(back)), np.asarray(x, np.float64), x.size)


def test_a_long_convolution_is_made_of_matrix_products(signals):
    x, filter_ = signals(2, 128)
    spectrum = np.fft.fft(np.asarray(filter_, np.float64)).astype(np.complex64)

    def convolve(x):
        return jnp.real(jnp.fft.ifft(jnp.fft.fft(x) * spectrum))

    program = rdu.compile(convolve, x)
    want = np.fft.ifft(np.fft.fft(np.asarray(x, np.float64)) * np.fft.fft(np.asarray(filter_, np.float64))).real
    assert np.abs(np.asarray(program(x)) - want).max() < 1e-4
    products = [node for node in program.graph.nodes if isinstance(node.op, Contract)]
    # Two stages each way of four products; the first of a real signal and the last of a real result need two.
    assert len(products) == 2 + 4 + 4 + 2
    assert np.allclose(jax.grad(lambda x: program(x)[0, 3])(x), jax.grad(lambda x: convolve(x)[0, 3])(x), atol=1e-5)


def test_complex_arithmetic_is_that_of_its_parts(signals):
    a, b = signals(3, 4)
    c, d = signals(4, 5)

    def fn(a, b, c, d):
        x, y = a + 1j * b, (c - 1j * d).T
        z = jnp.conj(y @ jnp.ones((4, 4))) * (2.0 - 1j) + x.sum() - jnp.reshape(x, (12,))[:4]
        return parts(-(z**2))

    a64, b64, c64, d64 = (np.asarray(v, np.float64) for v in (a, b, c, d))
    x, y = a64 + 1j * b64, (c64 - 1j * d64).T
    z = np.conj(y @ np.ones((4, 4))) * (2.0 - 1j) + x.sum() - x.reshape(12)[:4]
    assert_near(rdu.compile(fn, a, b, c, d)(a, b, c, d), -(z**2), 64)


def test_what_complex_numbers_cannot_do_is_refused(signals):
    x, y = signals(2, 8)
    with pytest.raises(UnsupportedError, match="a complex result(.|\n)*real and its imaginary part"):
        rdu.compile(lambda x: jnp.fft.fft(x), x)
    with pytest.raises(FormatError, match="complex64"):
        rdu.compile(lambda z: jnp.real(z), x + 1j * y)
    with pytest.raises(UnsupportedError, match="exp: no rule for complex operands(.|\n)*imaginary part"):
        rdu.compile(lambda x: jnp.real(jnp.exp(1j * x)), x)
    with pytest.raises(UnsupportedError, match="prime factor 4099"):
        rdu.compile(lambda x: jnp.real(jnp.fft.fft(x)), jnp.ones((1, 4099), jnp.float32))


def test_derivatives_of_transforms_compile(signals):
    """Their transposes make real numbers of complex ones, and mean the real part."""
    x, _ = signals(3, 12)
    for fn in (
        lambda x: jnp.real(jnp.fft.fft(x)),
        lambda x: jnp.fft.irfft(jnp.fft.rfft(x) * jnp.fft.rfft(x[0])),
        lambda x: jnp.imag(jnp.fft.fft2(x.astype(jnp.bfloat16).astype(jnp.complex64))),
    ):
        gradient = jax.grad(lambda x, fn=fn: jnp.sum(jnp.sin(fn(x))))
        program = rdu.compile(gradient, x)
        np.testing.assert_allclose(program(x), gradient(x), rtol=1e-4, atol=1e-4)
        np.testing.assert_array_equal(program.replace(fusion="none")(x), program(x))


def test_quotients_and_magnitudes_are_those_of_complex_numbers(signals):
    """No square of a part is taken: neither large nor small numbers are lost. An infinite part is an infinite one."""
    a, b = signals(4, 6)
    c, d = signals(4, 6)
    for scale in (1.0, 1e25, 1e-25):
        c, d = c * np.float32(scale), d * np.float32(scale)

        def fn(a, b, c, d):
            x, y = a + 1j * b, c + 1j * d
            return *parts(x / y), *parts(x / a), *parts(1 / y), abs(y), abs(y + 0j * y), *parts(x / (2 - 1j)), x == y

        program = rdu.compile(fn, a, b, c, d)
        *got, same = program(a, b, c, d)
        x, y = (np.asarray(u, np.float64) + 1j * np.asarray(v, np.float64) for u, v in ((a, b), (c, d)))
        want = *parts(x / y), *parts(x / np.asarray(a)), *parts(1 / y), abs(y), abs(y), *parts(x / (2 - 1j))
        for ours, theirs in zip(got, want, strict=True):
            assert (
                np.abs(np.asarray(ours, np.float64) / np.abs(theirs).max() - theirs / np.abs(theirs).max()).max() < 1e-6
            )
        assert not np.any(same)
        unfused = program.replace(fusion="none")(a, b, c, d)
        assert all(np.array_equal(u, v) for u, v in zip(unfused[:-1], got, strict=True))
    edges = jnp.asarray([0.0, jnp.inf, -jnp.inf, 3.0]), jnp.asarray([0.0, jnp.nan, 1.0, -4.0])
    got = rdu.compile(lambda x, y: abs(jax.lax.complex(x, y)), *edges)(*edges)
    np.testing.assert_array_equal(got, [0.0, np.inf, np.inf, 5.0])


def test_the_spectrum_of_a_signal_has_a_gradient(signals):
    x, _ = signals(4, 30)
    gradient = jax.grad(lambda x: jnp.sum(jnp.sin(jnp.abs(jnp.fft.fft(x)))))
    np.testing.assert_allclose(rdu.compile(gradient, x)(x), gradient(x), rtol=1e-3, atol=1e-4)
