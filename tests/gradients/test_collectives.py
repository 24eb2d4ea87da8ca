"""Derivatives of collectives: those of dense linear maps, forwards and backwards, and never a sum left to devices."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.numerics.formats import BF16, FP32
from rdujax.units.p2p import collectives
from rdujax.units.p2p.collectives import Group
from tests.storeys.raw_equations import equations

N, SHAPE = 4, (4, 8)
LINEAR = {
    "all_reduce chain": lambda x, g: collectives.all_reduce(x, FP32, wire=BF16, out=BF16, group=g)[0],
    "all_reduce ring": lambda x, g: collectives.all_reduce(x, FP32, order="ring", group=g)[0],
    "all_reduce tree": lambda x, g: collectives.all_reduce(x, FP32, order="tree", group=g)[0],
    "reduce_scatter": lambda x, g: collectives.reduce_scatter(x, FP32, axis=1, order="ring", group=g)[0],
    "all_gather": lambda x, g: collectives.all_gather(x, FP32, axis=1, group=g)[0],
    "all_to_all": lambda x, g: collectives.all_to_all(x, FP32, split_axis=1, group=g)[0],
    "broadcast": lambda x, g: collectives.broadcast(x, FP32, root=2, group=g)[0],
}


def dense(name: str, x: np.ndarray) -> np.ndarray:
    """The linear map in float64: [N, *SHAPE] -> [N, ...]."""
    kind = name.split()[0]
    if kind == "all_reduce":
        return np.broadcast_to(x.sum(0), x.shape)
    if kind == "reduce_scatter":
        return np.stack(np.split(x.sum(0), N, 1))
    if kind == "all_gather":
        return np.stack([np.concatenate(list(x), 1)] * N)
    if kind == "all_to_all":
        return np.stack([np.concatenate([np.split(mine, N, 1)[s] for mine in x], 0) for s in range(N)])
    return np.broadcast_to(x[2], x.shape)


def matrix(name: str) -> np.ndarray:
    """The map as a matrix, column by column from its values on the unit vectors."""
    size = N * int(np.prod(SHAPE))
    return np.stack([dense(name, unit.reshape(N, *SHAPE)).ravel() for unit in np.eye(size)], 1)


def run(name: str, group: Group):
    if group.axis_name is None:
        return lambda x: LINEAR[name](x, group)
    return jax.vmap(lambda x: LINEAR[name](x, group), axis_name=group.axis_name)


@pytest.mark.parametrize("group", [Group(), Group("s")], ids=["leading", "named"])
@pytest.mark.parametrize("name", LINEAR)
def test_tangents_and_cotangents_are_those_of_the_dense_map(rng, name, group):
    fn, at = run(name, group), jnp.asarray(rng.normal(size=(N, *SHAPE)), jnp.float32)
    linear = matrix(name)
    tangent = rng.normal(size=at.shape).astype(np.float32)
    value, forward = jax.jit(lambda x, t: jax.jvp(fn, (x,), (t,)))(at, tangent)
    np.testing.assert_allclose(forward.ravel(), linear @ tangent.ravel().astype(float), rtol=1e-5, atol=1e-5)
    cotangent = rng.normal(size=value.shape).astype(np.float32)
    (back,) = jax.jit(lambda x, c: jax.vjp(fn, x)[1](c))(at, cotangent)
    np.testing.assert_allclose(back.ravel(), linear.T @ cotangent.ravel().astype(float), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", LINEAR)
def test_the_bits_of_a_gradient_do_not_depend_on_where_the_sockets_are(rng, name):
    at = jnp.asarray(rng.normal(size=(N, *SHAPE)), jnp.float32)
    cotangent = jnp.asarray(rng.normal(size=jax.eval_shape(run(name, Group()), at).shape), jnp.float32)
    leading, named = (
        jax.jit(partial(lambda fn, x, c: jax.vjp(fn, x)[1](c)[0], run(name, group)))(at, cotangent)
        for group in (Group(), Group("s"))
    )
    assert np.array_equal(np.asarray(leading).view(np.uint32), np.asarray(named).view(np.uint32))


@pytest.mark.parametrize("name", LINEAR)
def test_no_sum_is_left_to_the_devices(name):
    """Neither forwards nor backwards; a mesh of one device traces the collectives of any number."""
    mesh = jax.make_mesh((1,), ("s",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("s")
    fn = jax.shard_map(lambda x: LINEAR[name](x, Group("s", stacked=True)), mesh=mesh, in_specs=spec, out_specs=spec)
    x = jax.ShapeDtypeStruct((N, *SHAPE), jnp.float32)
    for each in (fn, lambda x: jax.vjp(fn, x)[1](fn(x))):
        names = {equation.primitive.name for equation in equations(jax.make_jaxpr(each)(x).jaxpr)}
        assert not {found for found in names if "psum" in found or "reduce_scatter" in found or "pmean" in found}
        assert {"all_gather", "all_to_all"} & names


def test_equal_maxima_share_and_others_get_nothing():
    x = jnp.asarray([[1.0, 5.0], [3.0, 5.0], [3.0, 2.0], [0.0, 5.0]])
    back = jax.grad(lambda x: collectives.all_reduce(x, FP32, op="max")[0].sum())(x)
    assert np.allclose(back, 4 * np.array([[0, 1 / 3], [0.5, 1 / 3], [0.5, 0], [0, 1 / 3]]))


def test_gradients_are_finite_at_the_edges_of_the_format():
    x = jnp.asarray([[3e38, -0.0, 1e-45], [3e38, 0.0, 1e-38], [-3e38, 0.0, 1e-38], [1.0, -0.0, 0.0]], jnp.float32)
    for order in ("chain", "ring", "tree"):
        back = jax.grad(lambda x: collectives.all_reduce(x, FP32, order=order)[0][0].sum())(x)  # noqa: B023
        assert np.array_equal(back, np.ones_like(x))
