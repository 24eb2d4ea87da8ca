"""Convolutions against plain JAX and against their definition, bit by bit; what they count; their gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import signal

import rdujax as rdu
from rdujax.base.errors import ShapeError
from rdujax.ops.contract import Contract
from tests.oracles.convolution_reference import Form, convolution, form
from tests.oracles.harness import in_full
from tests.rooms.compiler.samples import assert_same, small, turns

NHWC = ((0, 3, 1, 2), (3, 2, 0, 1), (0, 3, 1, 2))
MIXED = ((2, 0, 3, 1), (1, 3, 0, 2), (3, 1, 2, 0))
# name: (form, shape of the left operand, shape of the kernel), each shape as its layout says
FORMS = {
    "no spatial axis": (form(0), (3, 4), (5, 4)),
    "one axis": (form(1, padding=(2, 1)), (2, 3, 7), (4, 3, 3)),
    "a stride": (form(2, stride=2, numbers=NHWC), (2, 7, 6, 3), (3, 2, 3, 4)),
    "three axes": (form(3, padding=(1, 0), apart=(1, 2, 1)), (1, 2, 3, 4, 3), (2, 2, 2, 2, 3)),
    "elements cut off": (form(2, padding=((-1, 2), (1, -2))), (1, 2, 6, 7), (2, 2, 2, 3)),
    "odd layouts": (form(2, stride=(1, 3), padding=(1, 1), numbers=MIXED), (3, 8, 2, 5), (2, 4, 3, 3)),
    "a kernel of one": (form(2, numbers=NHWC), (2, 3, 4, 5), (1, 1, 5, 6)),
    "a kernel as long as the operand": (form(1), (2, 3, 5), (4, 3, 5)),
    "dilated kernel": (form(2, padding=(2, 2), apart=2), (1, 2, 6, 5), (3, 2, 3, 2)),
    "dilated operand": (form(2, padding=(1, 2), base=2, numbers=NHWC), (1, 4, 3, 2), (3, 3, 2, 3)),
    "a kernel shorter than the dilation": (form(1, padding=(3, 1), base=4), (2, 3, 4), (2, 3, 2)),
    "both dilated, and a stride": (form(2, stride=(3, 2), padding=(4, 3), base=(4, 3), apart=(2, 3)),
                                   (1, 2, 4, 5), (3, 2, 3, 2)),
    "a stride of the dilation": (form(1, stride=2, padding=(2, 2), base=2), (2, 2, 6), (3, 2, 3)),
    "only between elements": (form(1, stride=2, padding=(0, 0), base=2, apart=2), (1, 2, 4), (2, 2, 2)),
    "groups of features": (form(2, padding=(1, 1), numbers=NHWC, features=3), (2, 4, 3, 6), (3, 3, 2, 9)),
    "every channel by itself": (form(1, padding=(1, 1), features=5), (2, 5, 6), (10, 1, 3)),
    "groups of the batch": (form(2, padding=(1, 0), batch=2), (4, 2, 4, 3), (6, 2, 2, 3)),
    "groups, dilated": (form(1, padding=(1, 1), base=2, features=2), (1, 4, 4), (4, 2, 2)),
}  # fmt: skip
QUICK = ("odd layouts", "both dilated, and a stride", "groups of the batch")


def integers(rng, *shape: int) -> jax.Array:
    """Values whose sums are exact in any order."""
    return jnp.asarray(rng.integers(-9, 10, shape), jnp.float32)


def normal(rng, *shape: int) -> jax.Array:
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def macs(program: rdu.Program) -> int:
    """Multiply-accumulates of all contractions."""
    nodes = [node for node in program.graph.nodes if isinstance(node.op, Contract)]
    return sum(node.op.flops(*program.graph.types_of(node.operands)) for node in nodes) // 2


@pytest.mark.parametrize("name", FORMS)
def test_the_definition_is_that_of_plain_jax(rng, name):
    """The reference that the other tests trust, on values that are exact in any order."""
    conv, lhs, rhs = FORMS[name]
    x, w = integers(rng, *lhs), integers(rng, *rhs)
    np.testing.assert_array_equal(conv(x, w), convolution(conv, np.asarray(x, np.float64), np.asarray(w, np.float64)))


@pytest.mark.parametrize("name", [*QUICK, *in_full(*(n for n in FORMS if n not in QUICK))])
def test_bits_are_those_of_the_stated_order(rng, name):
    """FP32 sums, whose order shows."""
    conv, lhs, rhs = FORMS[name]
    x, w = normal(rng, *lhs), normal(rng, *rhs)
    want = convolution(conv, np.asarray(x), np.asarray(w))
    assert_same(rdu.compile(conv, x, w, machine="tiny")(x, w), want, name)


@pytest.mark.parametrize("name", ["groups, dilated", *in_full(*(n for n in FORMS if n != "groups, dilated"))])
def test_bits_and_counts_are_the_same_on_every_road(rng, name):
    conv, lhs, rhs = FORMS[name]
    x, w = normal(rng, *lhs), normal(rng, *rhs)
    want = convolution(conv, np.asarray(x), np.asarray(w))
    fused = rdu.compile(conv, x, w, machine="tiny")
    assert_same(fused.execute(x, w, executor="scan"), want, name)
    assert_same(fused.replace(fusion="none")(x, w), want, name)
    assert fused.tally(x, w) == fused.predicted_counts()


def random_form(rng: np.random.Generator) -> tuple[Form, tuple[int, ...], tuple[int, ...]]:
    """Any convolution with a result, up to four spatial axes."""
    while True:
        rank = int(rng.integers(0, 5))
        groups = int(rng.integers(1, 4))
        features, batch = ((1, 1), (groups, 1), (1, groups))[int(rng.integers(3))]
        sizes = [int(n) for n in rng.integers(1, (2, 9, 6, 4, 3)[rank] + 1, rank)]
        kernel = [int(n) for n in rng.integers(1, 4, rank)]
        images, channels, filters = (int(n) for n in rng.integers(1, 4, 3))
        counts = (tuple(int(n) for n in rng.integers(1, most, rank)) for most in (4, 5, 4))
        padding = tuple((int(a), int(b)) for a, b in rng.integers(-2, 4, (rank, 2)))
        orders = [tuple(int(i) for i in rng.permutation(rank + 2)) for _ in range(3)]
        stride, base, apart = counts
        conv = Form(stride, padding, base, apart, lax.ConvDimensionNumbers(*orders), features, batch)
        whole = [(n - 1) * d + 1 + sum(edge) for n, d, edge in zip(sizes, base, padding, strict=True)]
        if all(n >= (k - 1) * d + 1 for n, k, d in zip(whole, kernel, apart, strict=True)):
            named = ((images * batch, channels * features, *sizes), (filters * groups, channels, *kernel))
            shapes = []
            for spec, lengths in zip(orders[:2], named, strict=True):
                shapes.append(tuple(int(n) for n in np.asarray(lengths)[np.argsort(spec)]))
            return conv, shapes[0], shapes[1]


@pytest.mark.parametrize("seed", [*range(2), *in_full(*range(2, 60))])
def test_random_forms(seed):
    rng = np.random.default_rng(seed)
    conv, lhs, rhs = random_form(rng)
    x, w = normal(rng, *lhs), normal(rng, *rhs)
    want = convolution(conv, np.asarray(x), np.asarray(w))
    assert_same(rdu.compile(conv, x, w, machine="tiny")(x, w), want, f"{conv} {lhs} {rhs}")


def test_scipy_correlates_alike(rng):
    x, w = normal(rng, 1, 1, 12, 9), normal(rng, 1, 1, 4, 3)
    conv = form(2)
    want = signal.correlate(np.asarray(x[0, 0], np.float64), np.asarray(w[0, 0], np.float64), "valid")
    np.testing.assert_allclose(rdu.compile(conv, x, w)(x, w)[0, 0], want, rtol=1e-5, atol=1e-5)


def test_bf16_is_summed_in_fp32_and_rounded_once(rng):
    conv, lhs, rhs = FORMS["a stride"]
    x, w = (normal(rng, *shape).astype(jnp.bfloat16) for shape in (lhs, rhs))
    want = convolution(conv, np.asarray(x, np.float32), np.asarray(w, np.float32))
    assert_same(rdu.compile(conv, x, w)(x, w), jnp.asarray(want).astype(jnp.bfloat16))
    wide = lambda x, w: lax.conv_general_dilated(x, w, **vars(conv), preferred_element_type=jnp.float32)  # noqa: E731
    assert_same(rdu.compile(wide, x, w)(x, w), want)


def test_integers_wrap(rng):
    conv, lhs, rhs = FORMS["one axis"]
    x, w = (jnp.asarray(rng.integers(-(2**31), 2**31, shape), jnp.int32) for shape in (lhs, rhs))
    want = convolution(conv, np.asarray(x, np.int64), np.asarray(w, np.int64)) & 0xFFFFFFFF
    assert_same(rdu.compile(conv, x, w)(x, w), want.astype(np.uint32).view(np.int32))


def test_padding_is_multiplied_and_what_lies_between_elements_is_not():
    """An infinite weight meets zeros around the operand, and gives NaN; between its elements it meets nothing."""
    x, w = jnp.ones((1, 1, 3)), jnp.asarray([[[jnp.inf, 1.0]]])
    padded, dilated = form(1, padding=(1, 0)), form(1, base=2)
    assert np.isnan(rdu.compile(padded, x, w)(x, w)[0, 0]).tolist() == [True, False, False]
    got = rdu.compile(dilated, x, w)(x, w)
    assert got[0, 0].tolist() == [np.inf, 1.0, np.inf, 1.0]


@pytest.mark.parametrize(
    ("conv", "lhs", "rhs", "terms"),
    [
        (form(1, padding=(1, 1)), (2, 3, 8), (5, 3, 3), 2 * 8 * 5 * 3 * 3),  # padding counts
        (form(1, padding=(1, 2), base=2), (1, 3, 4), (5, 3, 3), 5 * 3 * 4 * 3),  # 8 places, of 1 or 2 terms
        (form(2, padding=(1, 2), base=2), (1, 3, 4, 4), (5, 3, 3, 3), 5 * 3 * 16 * 9),  # a quarter of 64 x 9
        (
            form(1, padding=(15, 15), base=16),
            (1, 3, 4),
            (5, 3, 16),
            5 * 3 * 64,
        ),  # one term each, 63 places and one more
        *in_full(
            (form(1, padding=(1, 1), features=4), (2, 4, 8), (8, 1, 3), 2 * 8 * 8 * 3),
            (form(1, padding=(0, 0), batch=2), (4, 3, 8), (6, 3, 3), 2 * 6 * 6 * 3 * 3),
        ),
    ],
)
def test_what_is_counted_is_what_is_multiplied(rng, conv, lhs, rhs, terms):
    x, w = integers(rng, *lhs), integers(rng, *rhs)
    program = rdu.compile(conv, x, w, machine="tiny")
    assert macs(program) == terms
    assert program.tally(x, w)["pcu.macs"] == terms
    assert_same(program(x, w), conv(x, w))


def test_phases_that_lie_alike_are_one_contraction():
    """The gradient of patches: 16 x 16 phases of one term each, and still one product."""
    x, w = jax.ShapeDtypeStruct((1, 3, 3, 8), jnp.float32), jax.ShapeDtypeStruct((16, 16, 8, 3), jnp.float32)
    program = rdu.compile(form(2, padding=(15, 15), base=16, numbers=NHWC), x, w)
    assert [node.op.name for node in program.graph.nodes].count("gemm") == 1
    assert macs(program) == 48 * 48 * 8 * 3


def test_a_convolution_is_cut_into_tiles(rng):
    """Images and filters stream; places of a window do not, for their elements are shared."""
    conv = form(2, padding=(1, 1), numbers=NHWC)
    x, w = integers(rng, 6, 4, 4, 2), integers(rng, 3, 3, 2, 8)
    program = rdu.compile(lambda x, w: jax.nn.relu(conv(x, w)), x, w, machine=small())
    assert max(turns(program.plan)) > 1
    assert_same(program.execute(x, w, executor="scan"), jax.nn.relu(conv(x, w)))
    assert program.tally(x, w) == program.predicted_counts()


def cnn(params, x):
    """A strided, a depthwise and a grouped convolution, pooling and a dense head."""
    nhwc = ("NHWC", "HWIO", "NHWC")
    x = lax.conv_general_dilated(x, params["stem"], (2, 2), "SAME", dimension_numbers=nhwc)
    x = jax.nn.relu(x + params["bias"])
    x = lax.conv_general_dilated(x, params["depth"], (1, 1), "SAME", dimension_numbers=nhwc,
                                 feature_group_count=x.shape[-1])  # fmt: skip
    x = lax.reduce_window(jax.nn.relu(x), -jnp.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = lax.conv_general_dilated(x, params["group"], (1, 1), "VALID", rhs_dilation=(1, 2), dimension_numbers=nhwc,
                                 feature_group_count=2)  # fmt: skip
    return x.reshape(x.shape[0], -1) @ params["head"]


@pytest.mark.parametrize("compiled", ["gradient", *in_full("loss")])
def test_the_gradient_of_a_cnn(rng, compiled):
    """All of its gradients are convolutions again, dilated and with groups of the batch."""
    shapes = {"stem": (3, 3, 3, 4), "bias": (4,), "depth": (3, 3, 1, 4), "group": (2, 2, 2, 6), "head": (12, 5)}
    params = {name: normal(rng, *shape) * 0.5 for name, shape in shapes.items()}
    x, y = normal(rng, 2, 11, 12, 3), normal(rng, 2, 5)

    def loss(params, x):
        with jax.numpy_rank_promotion("allow"):
            return ((cnn(params, x) - y) ** 2).mean()

    grad = jax.grad(loss, argnums=(0, 1))
    if compiled == "gradient":
        ours = rdu.compile(grad, params, x)(params, x)
    else:
        ours = jax.grad(rdu.compile(loss, params, x), argnums=(0, 1))(params, x)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6), ours, grad(params, x))


@pytest.mark.parametrize("name", ["one axis", *in_full("dilated operand", "groups of features", "groups of the batch")])
def test_a_convolution_of_many_is_one_with_groups(rng, name):
    """`vmap` makes one convolution of many; the bits are those of each by itself."""
    conv, lhs, rhs = FORMS[name]
    x, w = normal(rng, 3, *lhs), normal(rng, 3, *rhs)
    one, many = rdu.compile(conv, x[0], w[0]), rdu.compile(jax.vmap(conv), x, w)
    assert_same(many(x, w), np.stack([one(x[i], w[i]) for i in range(3)]))
    assert_same(jax.vmap(one)(x, w), many(x, w))


def test_complex_convolutions_are_those_of_the_parts(rng):
    conv, lhs, rhs = FORMS["one axis"]
    a, b, c, d = (integers(rng, *shape) for shape in (lhs, lhs, rhs, rhs))

    def parts(a, b, c, d):
        y = conv(lax.complex(a, b), lax.complex(c, d))
        return y.real, y.imag

    assert_same(rdu.compile(parts, a, b, c, d)(a, b, c, d), parts(a, b, c, d))


@pytest.mark.full
def test_modules_of_flax(rng):
    nnx = pytest.importorskip("flax.nnx")
    x = normal(rng, 2, 6, 7, 3)
    with jax.numpy_rank_promotion("allow"):
        for layer in (
            nnx.Conv(3, 4, (3, 3), strides=2, rngs=nnx.Rngs(0)),
            nnx.ConvTranspose(3, 4, (3, 3), strides=(2, 2), rngs=nnx.Rngs(0)),
        ):
            np.testing.assert_allclose(rdu.compile(layer, x)(layer, x), layer(x), rtol=1e-5, atol=1e-5)


def test_what_has_no_result_is_refused():
    x, w = jnp.ones((1, 1, 2)), jnp.ones((1, 1, 3))
    with pytest.raises(ShapeError, match=r"an empty array\n +given: +shape \(1, 1, 0\)(.|\n)*where: +a result"):
        rdu.compile(form(1), x, w)
