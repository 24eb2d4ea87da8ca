"""Every rule of the table against plain JAX: a rule without an example here fails."""

from functools import partial

import jax
import jax.extend.core.primitives as exported
import jax.extend.random
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as Spec

import rdujax as rdu
from rdujax.frontend.rule import RULES

RNG = np.random.default_rng(11)
X = jnp.asarray(RNG.uniform(-2.5, 2.5, (5, 6)), jnp.float32)
Y = jnp.asarray(RNG.uniform(-2.5, 2.5, (5, 6)), jnp.float32)
POSITIVE = jnp.asarray(RNG.uniform(0.1, 4.0, (5, 6)), jnp.float32)
I = jnp.asarray(RNG.integers(-99, 99, (5, 6)), jnp.int32)  # noqa: E741
J = jnp.asarray(RNG.integers(0, 7, (5, 6)), jnp.int32)
U = jnp.asarray(RNG.integers(0, 2**32, (5, 6)), jnp.uint32)
P, Q = X > 0, Y > 0
EDGES = jnp.asarray([0.0, -0.0, jnp.inf, -jnp.inf, jnp.nan, 1.0, -1.0, 2.0**-126, -(2.0**-126)], jnp.float32)
ORDERED = (
    *jnp.meshgrid(EDGES, EDGES),
    *jnp.meshgrid(EDGES.astype(jnp.bfloat16), EDGES.astype(jnp.bfloat16)),
    U,
    U.T.reshape(U.shape),
)
ONE = Mesh(np.array(jax.devices()[:1]), ("s",))
REDUCTIONS = {"psum": lax.psum, "pmax": lax.pmax, "pmin": lax.pmin}
COLLECTIVES = {
    "all_gather": lax.all_gather,
    "reduce_scatter": partial(lax.psum_scatter, tiled=True),
    "all_to_all": partial(lax.all_to_all, split_axis=0, concat_axis=1, tiled=True),
    "ppermute": partial(lax.ppermute, perm=[(0, 0)]),
    "axis_index": lambda x, axis_name: x + lax.axis_index(axis_name).astype(jnp.float32),
}


def alone(f):
    """A collective over the one socket of a mesh; those of many are in test_sockets.py."""
    return jax.shard_map(partial(f, axis_name="s"), mesh=ONE, in_specs=Spec("s"), out_specs=Spec("s"), check_vma=False)


NWC = ("NWC", "OIW", "NCW")
EXPLICIT = NamedSharding(jax.make_mesh((1,), ("s",), axis_types=(AxisType.Explicit,)), Spec("s"))
LAYOUT = NamedSharding(Mesh(np.array(jax.devices()[:1]), ("d",)), Spec("d"))


def reduced(f):
    """A reduction over one axis, over all, and over two with one between them."""
    return lambda x, i: (f(x, 1), f(i, (0, 1)), f(x[None], (2, 0)), f(lax.bitcast_convert_type(i, jnp.uint32) - 3, 0))


def reduced_bits(f):
    return lambda i, p: (f(i, (0,)), f(p, (1,)), f(p, (0, 1)))


def running(f):
    return lambda x, i: (f(x, 1), f(x, 0, reverse=True), f(i, 1), f(lax.bitcast_convert_type(i, jnp.uint32), 0))


def place(f):
    return lambda x, i, u: (f(x, 1), f(i, 0), f(x.ravel()), f(u, 1))


def in_pairs(f):
    return lambda *xs: [f(x, y) for x, y in zip(xs[::2], xs[1::2], strict=True)]


def polynomials(x, y):
    """Of numbers, of arrays, of a row, and of a number; written out where JAX has no function for it."""

    def written_out(x, coefficients):
        total = coefficients[-1]
        for coefficient in reversed(coefficients[:-1]):
            total = total * x + coefficient
        return total

    of = getattr(lax, "polynomial", written_out)
    return of(x, [1.5, -0.5, 0.25]), of(x, [y, 2.0, x]), of(x, [y[:1], 0.5]), of(x, [0.5, y])


def single_of(u):
    return lax.bitcast_convert_type(u, jnp.float32)


EXAMPLES = {
    **{name: (getattr(lax, name), (X, Y)) for name in ("add", "sub", "mul", "div", "max", "min")},
    **{name: (getattr(lax, name), (X,)) for name in ("neg", "abs", "sign", "square", "exp", "exp2", "expm1")},
    **{name: (getattr(lax, name), (X,)) for name in ("logistic", "tanh", "erf", "erfc", "sin", "cos")},
    **{name: (getattr(lax, name), (POSITIVE,)) for name in ("sqrt", "rsqrt", "log", "log1p")},
    **{name: (getattr(lax, name), (X, Y.at[0].set(X[0]))) for name in ("eq", "ne", "lt", "le", "gt", "ge")},
    **{name: (getattr(lax, "bitwise_" + name), (I, J)) for name in ("and", "or", "xor")},
    **{name: (getattr(lax, name), (I, J)) for name in ("shift_left", "shift_right_logical", "shift_right_arithmetic")},
    "not": (lambda p, i: (jnp.logical_not(p), ~i), (P, I)),
    "rem": (lax.rem, (I, J)),
    "add_any": (lambda x: jax.vjp(lambda y: y * 2.0 + y * y, x)[1](x)[0], (X,)),
    "clamp": (lambda x: lax.clamp(-1.0, x, 1.5), (X,)),
    "integer_pow": (lambda x: lax.integer_pow(x, 3), (X,)),
    "select_n": (lambda p, x, y: lax.select(p, x, y), (P, X, Y)),
    "convert_element_type": (lambda x: (x.astype(jnp.int32), x.astype(jnp.bfloat16)), (X,)),
    "copy": (lambda x: jnp.copy(x) * 2.0, (X,)),
    "stop_gradient": (lambda x: lax.stop_gradient(x) * 2.0, (X,)),
    "optimization_barrier": (lambda x, y: lax.add(*lax.optimization_barrier((x, y))), (X, Y)),
    "transpose": (lambda x: x.T, (X,)),
    "reshape": (lambda x: (x.reshape(3, 10), lax.reshape(x, (3, 10), (1, 0))), (X,)),
    "squeeze": (lambda x: jnp.squeeze(x[None], 0) + x, (X,)),
    "broadcast_in_dim": (lambda x: jnp.broadcast_to(x[:, None, :], (5, 3, 6)), (X,)),
    **{f"reduce_{name}": (reduced(getattr(jnp, name)), (X, J)) for name in ("sum", "prod", "max", "min")},
    **{f"reduce_{name}": (reduced_bits(getattr(lax, f"reduce_{name}")), (I, P)) for name in ("and", "or", "xor")},
    "bitcast_convert_type": (
        lambda x, u: (lax.bitcast_convert_type(x, jnp.int32), single_of(u >> 2 | 1 << 23)),
        (X, U),
    ),
    "nextafter": (lambda x, y: (lax.nextafter(x, y), lax.nextafter(x, x)), (X, Y)),
    "threefry2x32": (lambda w: jax.extend.random.threefry_2x32(w[0, :2], w[1:].reshape(-1)), (U,)),
    "pow": (
        lambda x, y, j: (lax.pow(x, y), lax.pow(x, j), lax.pow(0.9, j), lax.pow(x, jnp.int32(3))),
        (POSITIVE, Y, J),
    ),
    **{name: (getattr(lax, name), (X * 3.7,)) for name in ("floor", "ceil")},
    "round": (lambda x: (jnp.round(x), lax.round(x, lax.RoundingMethod.AWAY_FROM_ZERO)), (jnp.round(X * 4) / 2,)),
    "is_finite": (lax.is_finite, (X.at[0, :3].set(jnp.array([jnp.inf, -jnp.inf, jnp.nan])),)),
    **{name: (getattr(lax, name), (X / 2.5,)) for name in ("erf_inv", "asin", "acos", "atanh")},
    **{name: (getattr(lax, name), (X,)) for name in ("tan", "atan", "sinh", "cosh", "asinh", "cbrt")},
    "acosh": (lax.acosh, (POSITIVE + 1,)),
    "atan2": (lax.atan2, (X, Y)),
    "reduce_precision": (lambda x: (lax.reduce_precision(x, 8, 7), lax.reduce_precision(x, 8, 23)), (X,)),
    **{name: (getattr(lax, name), (I,)) for name in ("population_count", "clz")},
    **{name: (running(getattr(lax, name)), (X, I)) for name in ("cumsum", "cumprod", "cummax", "cummin")},
    "cumlogsumexp": (lambda x: (lax.cumlogsumexp(x, 1), lax.cumlogsumexp(x, 0, reverse=True)), (X,)),
    **{name: (place(getattr(jnp, name)), (X, J, U)) for name in ("argmax", "argmin")},
    "sort": (
        lambda x, i, u: (jnp.sort(x, 0), jnp.argsort(i, 1), lax.sort((i, x, i + 1), num_keys=2), jnp.sort(u)),
        (X, J, U),
    ),
    "top_k": (lambda x, i, u: (lax.top_k(x, 3), lax.top_k(i, 6), lax.top_k(u, 2)), (X, J, U)),
    "dot_general": (lambda x, y: jnp.einsum("ij,kj->ik", x, y), (X, Y)),
    "conv_general_dilated": (
        lambda x, y: lax.conv_general_dilated(x[None], y[None, :3, :4], (2,), "SAME", dimension_numbers=NWC),
        (X[:, :3], Y),
    ),
    "slice": (lambda x: x[1:5:2, 2:] * 2.0, (X,)),
    "split": (lambda x: lax.sub(*jnp.split(x, 2, axis=1)), (X,)),
    "pad": (lambda x: lax.pad(x, 0.5, ((1, -1, 2), (0, 2, 0))), (X,)),
    "rev": (lambda x: x[::-1], (X,)),
    "concatenate": (lambda x, y: jnp.concatenate([x, y], axis=1), (X, Y)),
    "stack": (lambda x, y: jnp.stack([x, y], axis=1), (X, Y)),
    "unstack": (lambda x: lax.add(*jnp.unstack(x[:2])), (X,)),
    "tile": (lambda x: jnp.tile(x, (2, 3)), (X,)),
    "iota": (lambda x: x * lax.broadcasted_iota(jnp.float32, (5, 6), 1), (X,)),
    **{name: (in_pairs(getattr(exported, f"{name}_p").bind), ORDERED) for name in ("eq_to", "lt_to", "le_to")},
    "platform_index": (lambda x: (jnp.diag(x), lax.platform_dependent(x, tpu=jnp.sin, default=jnp.cos)), (X,)),
    "empty": (lambda x: x + lax.empty((5, 6), jnp.float32) * 0.0, (X,)),
    "empty2": (jax.grad(lambda x: jnp.sum(lax.cond(x[0, 0] > 0, jnp.sin, lambda x: x * x, x))), (X,)),
    "dynamic_slice": (lambda x, j: lax.dynamic_slice(x, (j[0, 0], j[0, 1]), (2, 3)), (X, J)),
    "dynamic_update_slice": (lambda x, y, j: lax.dynamic_update_slice(x, y[:2], (j[0, 0], j[0, 1])), (X, Y, J)),
    "gather": (lambda x, j: x[j % 5, j % 6], (X, J)),
    "scatter": (lambda x, y: x.at[jnp.array([4, 0])].set(y[:2]), (X, Y)),
    **{
        f"scatter-{name}": (lambda x, y, j, n=method: getattr(x.at[j[0] % 5], n)(y[:1]), (X, Y, J))
        for name, method in (("add", "add"), ("sub", "subtract"), ("mul", "mul"), ("min", "min"), ("max", "max"))
    },
    **{
        f"reduce_window_{name}": (lambda x, f=f, e=e: lax.reduce_window(x, e, f, (2, 3), (1, 2), "SAME"), (X,))
        for name, f, e in (("sum", lax.add, 0.0), ("max", lax.max, -jnp.inf), ("min", lax.min, jnp.inf))
    },
    "reduce_window": (lambda x: lax.reduce_window(x, 1.0, lax.mul, (2, 2), (1, 1), "VALID"), (X,)),
    "select_and_scatter_add": (
        lambda x, g: jax.vjp(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3, 2), (2, 2), "SAME"), x)[1](g),
        (X, Y[:3, :3]),
    ),
    "select_and_gather_add": (
        lambda x, t: jax.jvp(lambda x: lax.reduce_window(x, -jnp.inf, lax.max, (3, 2), (2, 2), "SAME"), (x,), (t,)),
        (X, Y),
    ),
    "reduce": (
        lambda x, i, p: (
            lax.reduce(x, 2.5, lax.mul, (0,)),
            lax.reduce(x, x[0, 0], lax.max, (0, 1)),
            lax.reduce(i, 7, lax.min, (1,)),
            lax.reduce(p, True, lax.bitwise_xor, (0,)),
        ),
        (X, I, P),
    ),
    "ragged_dot_general": (
        lambda x, y, j: lax.ragged_dot(x, jnp.stack([y[:, :5], y[:, 1:]]).swapaxes(1, 2)[..., :4], j),
        (X[:, :5], Y, J[0, :2]),
    ),
    **{name: (jax.vmap(partial(f, axis_name="s"), axis_name="s"), (X,)) for name, f in REDUCTIONS.items()},
    **{name: (alone(f), (X,)) for name, f in COLLECTIVES.items()},
    **{
        name: (jax.shard_map(lambda x: lax.psum(x * 2.0, "s"), mesh=ONE, in_specs=Spec("s"), out_specs=Spec()), (X,))
        for name in ("psum_invariant", "pvary")
    },
    "name": (lambda x: checkpoint_name(x, "x") * 2.0, (X,)),
    "device_put": (lambda x: jax.device_put(x) * 2.0, (X,)),
    "sharding_constraint": (lambda x: lax.with_sharding_constraint(x, LAYOUT) * 2.0, (X,)),
    "reshard": (lambda x: jax.reshard(x, EXPLICIT) * 2.0, (X,)),
    "log2": (lambda x: jnp.log2(jnp.abs(x)), (X,)),
    "polynomial": (polynomials, (X, Y)),
    "one_minus_square": (lambda x: jax.vjp(jnp.tanh, x)[1](jnp.ones_like(x))[0], (X,)),
}
# Primitives that only newer versions of JAX have; older ones write the same function with others.
SINCE = {"one_minus_square": (0, 12), "log2": (0, 12), "polynomial": (0, 12)}


def primitives(jaxpr) -> set[str]:
    """Names of all primitives of a jaxpr and of those inside of it."""
    found = set()
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        found.add(eqn.primitive.name)
        inner = [v for each in eqn.params.values() for v in (each if isinstance(each, tuple) else (each,))]
        found |= {name for v in inner if hasattr(v, "eqns") or hasattr(v, "jaxpr") for name in primitives(v)}
    return found


@pytest.mark.parametrize("name", RULES)
def test_every_rule_computes_what_jax_computes(name: str):
    assert name in EXAMPLES, f"give the rule for {name} an example"
    fn, args = EXAMPLES[name]
    there = jax.__version_info__ >= SINCE.get(name, (0,))
    assert (name in primitives(jax.make_jaxpr(fn)(*args))) == there, "the example does not reach its rule"
    got, want = rdu.compile(fn, *args, machine="tiny")(*args), fn(*args)
    for ours, theirs in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        assert ours.dtype == theirs.dtype and ours.shape == theirs.shape
        if ours.dtype == jnp.float32:
            # Both sides are within a few ulp of the real value; the bounds of our functions are tested by themselves.
            np.testing.assert_allclose(ours, theirs, rtol=4 * 2.0**-23, atol=4 * 2.0**-23)
        else:
            np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))


def test_no_example_outlives_its_rule():
    assert set(EXAMPLES) == set(RULES)


@pytest.mark.parametrize("fn", [jax.nn.silu, jax.nn.relu, lambda x: jax.nn.gelu(x, approximate=False), jax.nn.softplus])
def test_functions_made_of_rules_are_entered(fn):
    """Nested jits and custom derivatives."""
    got = rdu.compile(fn, X, machine="tiny")(X)
    np.testing.assert_allclose(got, fn(X), rtol=2.0**-20, atol=2.0**-22)


def test_remat_and_named_scopes_reach_the_labels():
    def fn(x: jax.Array) -> jax.Array:
        with jax.named_scope("layer"):
            return jax.checkpoint(lambda y: jnp.sin(y) * 2.0)(x)

    program = rdu.compile(fn, X, machine="tiny")
    assert [node.op.name for node in program.graph.nodes] == ["sin", "mul"]
    assert all("layer" in node.label for node in program.graph.nodes)
    assert all("test_rules.py" in node.source for node in program.graph.nodes)


def test_axes_of_length_one_spread_among_operands_of_equal_rank():
    program = rdu.compile(lambda x, y: lax.mul(x, y[:, :]) + y, X, Y, machine="tiny")
    np.testing.assert_array_equal(program(X, Y), np.asarray(X * Y + Y))
    row = Y[:1]
    spread = rdu.compile(lambda x, r: x + r, X, row, machine="tiny")
    np.testing.assert_array_equal(spread(X, row), np.asarray(X + row))
    both = rdu.compile(lambda c, r: c * r, X[:, :1], row, machine="tiny")
    np.testing.assert_array_equal(both(X[:, :1], row), np.asarray(X[:, :1] * row))
