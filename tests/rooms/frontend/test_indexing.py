"""What users write to move data: slices, pads, joins, look-ups and updates, bit by bit against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import UnsupportedError
from tests.rooms.compiler.samples import assert_same, draw

BF16, FP32 = jnp.bfloat16, jnp.float32


@pytest.fixture(autouse=True)
def _promoted():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def table(rng, *shape, dtype=BF16):
    return draw(rng, *shape, dtype=dtype)


def places(rng, most, *shape, least=0):
    return jnp.asarray(rng.integers(least, most, shape), jnp.int32)


STATIC = {
    "strided slice": lambda x: x[1:9:3, ::2],
    "one row": lambda x: x[4],
    "last": lambda x: x[:, -1],
    "reversed": lambda x: x[::-1, 2:],
    "flip": lambda x: jnp.flip(x, (0, 1)),
    "roll": lambda x: jnp.roll(x, (2, -1), (0, 1)),
    "pad": lambda x: jnp.pad(x, ((1, 2), (0, 3)), constant_values=1.5),
    "pad with a value that is computed": lambda x: jax.lax.pad(x, x[1, 2], ((1, 2, 0), (0, 1, 1))),
    "negative and interior pad": lambda x: jax.lax.pad(x, jnp.asarray(-0.0, x.dtype), ((-1, 2, 1), (2, -1, 0))),
    "concatenate": lambda x: jnp.concatenate([x, x[:3] * 2, x[5:]], axis=0),
    "stack": lambda x: jnp.stack([x, -x], axis=1),
    "split": lambda x: tuple(jnp.split(x, [3, 4], axis=1)),
    "tril": lambda x: jnp.tril(x),
    "where and arange": lambda x: jnp.where(jnp.arange(x.shape[0])[:, None] > 3, x, 0),
    "repeat": lambda x: jnp.repeat(x, 3, axis=0),
    "tile": lambda x: jnp.tile(x, (2, 1)),
    "halves rotated": lambda x: jnp.concatenate([-x[:, 3:], x[:, :3]], axis=1),
    "expand": lambda x: jnp.expand_dims(x, (0, 2)),
    "constant update": lambda x: x.at[2, 1:4].set(7),
}


def check(fn, *args):
    """Unfused, fused into one kernel, tile by tile, and plain JAX: one set of bits; counts as predicted."""
    program = rdu.compile(fn, *args, fusion="none")
    want = jax.tree.map(np.asarray, fn(*args))
    assert_same(program(*args), jax.tree.map(jnp.asarray, want), "plain")
    fused = program.replace(fusion=rdu.cut_after())
    assert_same(fused(*args), program(*args), "fused")
    assert_same(fused.execute(*args, executor="scan"), program(*args), "tile by tile")
    assert fused.tally(*args) == fused.predicted_counts()
    assert program.tally(*args) == program.predicted_counts()
    return fused


@pytest.mark.parametrize("name", STATIC)
def test_static_moves(rng, name):
    check(STATIC[name], table(rng, 10, 6))


@pytest.mark.parametrize("start", [-3, 0, 4, 99])
def test_dynamic_slices_stay_within_the_tensor(rng, start):
    x, at = table(rng, 12, 5, 6), jnp.int32(start)
    check(lambda x, at: jax.lax.dynamic_slice_in_dim(x, at, 4, 0), x, at)
    check(lambda x, at: jax.lax.dynamic_slice(x, (at, 1, at), (3, 2, 6)), x, at)


@pytest.mark.parametrize("start", [0, 3, 50])
def test_a_cache_is_updated_in_place(rng, start):
    cache, new, at = table(rng, 2, 9, 3, 4), table(rng, 2, 2, 3, 4), jnp.int32(start)
    check(lambda c, n, at: jax.lax.dynamic_update_slice(c, n, (0, at, 0, 0)), cache, new, at)


READS = {
    "embedding": lambda x, i: x[i],
    "take": lambda x, i: jnp.take(x, i, axis=1),
    "take, clipped": lambda x, i: jnp.take(x, i, axis=0, mode="clip"),
    "take, filled": lambda x, i: jnp.take(x, i, axis=0, mode="fill", fill_value=3),
    "two axes": lambda x, i: x[i, i // 2],
    "along": lambda x, i: jnp.take_along_axis(x, i[:1].reshape(1, -1) % 6, axis=1),
    "windows": lambda x, i: jax.vmap(lambda at: jax.lax.dynamic_slice(x, (at, 0), (3, 6)))(i.reshape(-1)),
}


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("least", [0, -20])
def test_reads_by_index(rng, name, least):
    check(READS[name], table(rng, 11, 6), places(rng, 11 if least == 0 else 30, 3, 4, least=least))


WRITES = {
    "set": lambda x, i, u: x.at[i].set(u),
    "add": lambda x, i, u: x.at[i].add(u),
    "max": lambda x, i, u: x.at[i].max(u),
    "min, clipped": lambda x, i, u: x.at[i].min(u, mode="clip"),
    "columns": lambda x, i, u: x.at[:, i % 6].set(u[:, :1].T),
}


@pytest.mark.parametrize("name", WRITES)
def test_writes_by_index(rng, name):
    i = jnp.asarray(rng.permutation(20)[:7] - 3, jnp.int32)
    check(WRITES[name], table(rng, 11, 6), i, table(rng, 7, 6))


def test_updates_of_one_place_add_up_in_their_order(rng):
    x, i = table(rng, 4, 3, dtype=FP32) * 1e4, places(rng, 4, 50)
    updates = table(rng, 50, 3, dtype=FP32)
    got = rdu.compile(lambda x, i, u: x.at[i].add(u), x, i, updates)(x, i, updates)
    want = np.asarray(x).copy()
    for place, update in zip(np.asarray(i), np.asarray(updates), strict=True):
        want[place] = want[place] + update  # one FP32 sum after the other
    assert np.array_equal(np.asarray(got), want)


def test_the_gradient_of_a_look_up_is_an_update(rng):
    x, i = table(rng, 6, 4, dtype=FP32), places(rng, 6, 9)

    def loss(x):
        return (x[i] * jnp.arange(9.0)[:, None]).sum()

    program = rdu.compile(jax.grad(loss), x)
    assert np.allclose(program(x), jax.grad(loss)(x), rtol=1e-6)
    assert any("put_add" in node.label for node in program.graph.nodes)
    through = rdu.compile(loss, x)
    assert np.allclose(jax.grad(lambda x: through(x))(x), jax.grad(loss)(x), rtol=1e-6)


def test_what_cannot_be_moved_is_refused(rng):
    x = table(rng, 5, 4)
    with pytest.raises(UnsupportedError, match=r"an empty slice(.|\n)*leave empty arrays out"):
        rdu.compile(lambda x: jnp.concatenate([x, x[:0]]), x)
