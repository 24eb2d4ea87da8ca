"""The kernel author's door: the same program value, the same bits, and the author's choices kept."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.numerics import convert
from rdujax.numerics.formats import BF16
from rdujax.streams.stream import untile
from tests.rooms.compiler.samples import assert_same, draw, monarch, samples

ARGS = (*samples()[0].args[:3], draw(np.random.default_rng(3), 16, 20))  # 16 rows: four passes of the tiny array
TILES = {"w0": (4, 24), "scale": (4, 20)}


def by_hand(x: rdu.Stream, w0: rdu.Stream, scale: rdu.Stream, w1: rdu.Stream) -> rdu.Stream:
    """The two products around a scale and a transpose, with the PCUs of each stage."""
    hidden = rdu.gemm(w0, x, pcus=4)
    scaled = rdu.simd(lambda a, b: a * b, hidden, scale, pcus=1)
    return rdu.gemm(w1, rdu.transpose(scaled), pcus=4)


KERNEL = rdu.kernel(machine="tiny", tiles=TILES)(by_hand)


def test_a_kernel_by_hand_gives_the_compiled_bits():
    program = KERNEL.program(*ARGS)
    want = rdu.compile(monarch, *ARGS, machine="tiny")(*ARGS)
    assert type(program) is rdu.Program
    assert_same(program(*ARGS), want)
    assert_same(KERNEL(*ARGS), want)
    scan = jax.jit(lambda *xs: program.execute(*xs, executor="scan"))
    assert_same(scan(*ARGS), want)
    assert program.tally(*ARGS) == program.predicted_counts()


def test_pins_are_honoured():
    (planned,) = KERNEL.program(*ARGS).plan.kernels
    assert [share.pcus for share in planned.shares] == [4, 1, 4]
    assert [(loop.length, loop.tile) for loop in planned.tiling.loops] == [(42, 4)]
    assert [stage.op.name for stage in planned.kernel.stages] == ["gemm", "mul", "gemm"]


def test_stages_by_hand_are_never_chained():
    def twice(x: rdu.Stream) -> rdu.Stream:
        return rdu.simd(jnp.tanh, rdu.simd(lambda a: a + a, x))

    x = ARGS[0]
    assert len(rdu.kernel(machine="tiny")(twice).program(x).plan.kernels[0].kernel.stages) == 2
    chained = rdu.compile(lambda x: jnp.tanh(x + x), x, machine="tiny")
    assert len(chained.plan.kernels[0].kernel.stages) == 1
    assert_same(rdu.kernel(machine="tiny")(twice)(x), chained(x))


def test_the_function_runs_as_it_stands_on_streams():
    names = ("x", "w0", "scale", "w1")
    streams = [rdu.as_stream(x, TILES.get(name)) for name, x in zip(names, ARGS, strict=True)]
    assert_same(convert.leave(untile(by_hand(*streams)), BF16), KERNEL(*ARGS))
    assert_same(convert.leave(untile(jax.jit(by_hand)(*streams)), BF16), KERNEL(*ARGS))


def test_k_in_segments_by_hand_is_k_in_segments_compiled():
    def split(x: rdu.Stream, w: rdu.Stream) -> rdu.Stream:
        return rdu.gemm(x, w, k_splits=5, output="fp32")

    x, w = ARGS[1], ARGS[0]

    def product(a: jax.Array, b: jax.Array) -> jax.Array:
        return jax.lax.dot(a, b, preferred_element_type=jnp.float32)

    got = rdu.kernel(machine="tiny")(split)(x, w)
    assert_same(got, rdu.compile(product, x, w, machine="tiny", k_splits=5)(x, w))
    assert (np.asarray(got) != np.asarray(rdu.compile(product, x, w, machine="tiny")(x, w))).any()


def test_a_kernel_has_a_derivative():
    program = KERNEL.program(*ARGS)
    ours = jax.grad(lambda s: program(ARGS[0], ARGS[1], s, ARGS[3]).astype(jnp.float32).sum())(ARGS[2])
    plain = jax.grad(lambda s: monarch(ARGS[0], ARGS[1], s, ARGS[3]).astype(jnp.float32).sum())(ARGS[2])
    a, b = (np.asarray(g, np.float64).ravel() for g in (ours, plain))
    assert a @ b / np.linalg.norm(a) / np.linalg.norm(b) > 0.999


@pytest.mark.parametrize(
    ("fn", "tiles", "error", "text"),
    [
        (lambda x: rdu.Stream(jnp.tanh(x.data), x.layout, x.fmt), {}, rdu.UnsupportedError, "tiles of a stream"),
        (lambda x: x.data, {}, rdu.ArgumentError, "a kernel returns streams"),
        (lambda x: x, {"y": (2, 2)}, rdu.UnknownNameError, "unknown argument of the kernel.*'y'.*'x'"),
        (lambda x: x, {"x": (25, 20)}, rdu.ShapeError, r"tile \(25, 20\).*1 up to \(24, 20\)"),
        (lambda x: x, {"x": (4,)}, rdu.ShapeError, "different ranks"),
        (lambda x: rdu.gemm(x, x), {}, rdu.ShapeError, "24"),
        (lambda x: rdu.gemm(x, x.T, k_splits=21), {}, rdu.ArgumentError, "k_splits.*21.*1 to K = 20"),
        (lambda x: rdu.gemm(x, x.T, k_splits=0), {}, rdu.ArgumentError, "k_splits.*0.*1 to K = 20"),
        (lambda x: rdu.gemm(x, x.T, pcus=0), {}, rdu.ArgumentError, "pcus.*0.*an integer, 1 or more"),
        (lambda x: rdu.gemm(x, x.T, k_splits=11), {}, rdu.ArgumentError, "11 segments.*k_splits=10 makes the same"),
        (lambda x: rdu.gemm(x, x.T, output="int32"), {}, rdu.FormatError, "bf16 to int32"),
        (lambda x: rdu.gemm(x, x.T, output="bool"), {}, rdu.FormatError, "bf16 to bool.*bf16 or fp32"),
        (lambda x: rdu.gemm(x.data, x), {}, rdu.FormatError, "a unit takes streams.*gemm, a"),
        (lambda x: rdu.simd(jnp.tanh, x, x.data), {}, rdu.FormatError, "a unit takes streams.*simd, stream 1"),
        (lambda x: rdu.transpose(x.data), {}, rdu.FormatError, "a unit takes streams.*transpose"),
        (lambda x: x, {"x": (4.0, 20)}, rdu.ShapeError, r"tuple of lengths.*\(4.0, 20\).*tiles, argument x"),
        (lambda x: x, {"x": (True, 20)}, rdu.ShapeError, "tuple of lengths.*tiles, argument x"),
        (lambda x: x, {"x": (0, 20)}, rdu.ShapeError, "1 or more.*tiles, argument x"),
        (lambda x: x, [("x", (4, 20))], rdu.ShapeError, "a dictionary like"),
        (lambda x: rdu.gemm(x, x.T, output="bf61"), {}, rdu.UnknownNameError, "did you mean 'bf16'"),
        (lambda x: rdu.simd(lambda a: a.T, x), {}, rdu.UnsupportedError, "not element-wise.*rdujax.gemm"),
        (lambda x: rdu.simd(lambda a: (a, a + a), x), {}, rdu.UnsupportedError, "computes one result"),
        (lambda x: rdu.simd(jnp.tanh), {}, rdu.ArgumentError, "needs at least one stream"),
        (lambda x: rdu.transpose(x, (0, 0)), {}, rdu.ShapeError, r"not a permutation.*\(0, 0\).*2 axes"),
    ],
)  # fmt: skip
def test_bad_kernels_are_refused(fn, tiles, error, text):
    with pytest.raises(error, match=f"(?s){text}"):
        rdu.kernel(machine="tiny", tiles=tiles)(fn).program(ARGS[0])


def test_streams_that_are_cut_differently_are_refused():
    with pytest.raises(rdu.ShapeError, match="(?s)cut differently.*24x20/24x20.*24x20/4x20"):
        kernel = rdu.kernel(machine="tiny", tiles={"a": (4, 20)})
        kernel(lambda a, b: rdu.simd(lambda p, q: p * q, a, b)).program(ARGS[0], ARGS[0])


def test_a_kernel_takes_arrays():
    kernel = rdu.kernel(lambda x: rdu.gemm(x, x.T))
    for given in (3.0, None, {"x": ARGS[0]}, [ARGS[0]]):
        with pytest.raises(rdu.FormatError, match="argument x is no array"):
            kernel(given)


def test_tiles_may_be_numpy_integers_and_facts_may_not_be_traced():
    """A decorator without options, lengths of NumPy, and a machine with a JAX value among its facts."""
    x, w = ARGS[0], ARGS[0].T

    def product(x: rdu.Stream, w: rdu.Stream) -> rdu.Stream:
        return rdu.gemm(x, w)

    want = np.asarray(rdu.kernel(product)(x, w))
    assert (np.asarray(rdu.kernel(tiles={"x": (np.int64(4), 20)})(product)(x, w)) == want).all()
    relaxed = rdu.machines.sn40l().replace(clock_hz=jnp.float32(1e9))
    with pytest.raises(rdu.ConcretenessError, match="a JAX value for clock_hz(.|\n)*program.cost"):
        rdu.kernel(machine=relaxed)
    with pytest.raises(rdu.ConcretenessError, match="a JAX value for clock_hz(.|\n)*program.cost"):
        rdu.compile(lambda x: x + x, x, machine=relaxed)
