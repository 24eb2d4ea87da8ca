"""What users write to move data: slices, pads, joins, look-ups and updates, bit by bit against plain JAX."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import FormatError, ShapeError, UnsupportedError
from rdujax.graph.graph import all_nodes
from tests.rooms.compiler.samples import assert_same, draw, small, turns

BF16, FP32 = jnp.bfloat16, jnp.float32
QUICK = {"concatenate", "embedding", "add", -99, -1, 9, FP32, BF16}
MOVED = {
    "strided slice", "roll", "pad with a value that is computed", "negative and interior pad", "split", "unsigned",
    "where and arange", "whole update", "halves rotated",
}  # fmt: skip
BEYOND = {
    "take, clipped",
    "take, filled",
    "two axes",
    "a slice of each row",
    "set",
    "min, clipped",
    "a place of each row",
}


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
    "whole update": lambda x: (x.at[:].set(x * 2), x.at[...].add(1), x[0, 0].at[()].max(0)),
    "unsigned": lambda x: jax.lax.pad(jax.lax.iota(jnp.uint32, 4), np.uint32(2**32 - 5), ((1, 0, 0),)),
}


def quick(cases, names=QUICK):
    """The cases, all but some of them for the full run."""
    return [pytest.param(case, marks=() if case in names else pytest.mark.full, id=str(case)) for case in cases]


def check(fn, *args):
    """Unfused, fused, tile by tile, and plain JAX: one set of bits; counts as predicted."""
    program = rdu.compile(fn, *args, fusion="none", machine=small())
    want = jax.tree.map(np.asarray, fn(*args))
    assert_same(program(*args), jax.tree.map(jnp.asarray, want), "plain")
    fused = program.replace(fusion="streaming")
    for executor in ("vmap", "scan"):
        assert_same(jax.jit(lambda *xs, e=executor: fused.execute(*xs, executor=e))(*args), want, executor)
    assert fused.tally(*args) == fused.predicted_counts()
    assert program.tally(*args) == program.predicted_counts()
    return fused


@pytest.mark.parametrize("name", quick(STATIC))
def test_static_moves(rng, name):
    check(STATIC[name], table(rng, 24, 22))


@pytest.mark.parametrize("name", quick(STATIC, MOVED))
def test_static_moves_compile_to_what_jax_moves(rng, name):
    x = table(rng, 10, 6)
    assert_same(rdu.compile(STATIC[name], x, machine="tiny")(x), STATIC[name](x))


def test_joined_and_picked_values_are_cut_into_tiles(rng):
    """The checks above reach tiles: an axis that is moved whole can be cut, one that is not cannot."""
    x, i, u = table(rng, 64, 30), places(rng, 64, 12), table(rng, 12, 30)
    for fn in (STATIC["stack"], STATIC["halves rotated"], lambda x: jnp.tanh(x)[::2]):
        assert max(turns(rdu.compile(fn, x, machine=small()).plan)) > 1
    for fn in (READS["embedding"], READS["take"], lambda x, i: jax.lax.dynamic_slice_in_dim(x, i[0], 8, 1)):
        made = lambda x, i, fn=fn: fn(jnp.tanh(x), i)  # noqa: E731  (of an argument, only what is picked is loaded)
        assert max(turns(rdu.compile(made, x, i, machine=small()).plan)) > 1
    assert max(turns(rdu.compile(WRITES["add"], x, i, u, machine=small()).plan)) > 1
    whole = rdu.compile(lambda x: x[::-1, ::-1], table(rng, 8, 6), machine=small())
    assert turns(whole.plan) == [1]


EDGES = (-99, -13, -12, -5, -1, 0, 8, 9, 99)


@pytest.mark.parametrize("start", quick(EDGES))
def test_dynamic_slices_stay_within_the_tensor(rng, start):
    x, at = table(rng, 12, 5, 6), jnp.int32(start)
    for fn in (
        lambda x, at: jax.lax.dynamic_slice_in_dim(x, at, 4, 0),
        lambda x, at: jax.lax.dynamic_slice(x, (at, 1, at), (3, 2, 6)),
        lambda x, at: jax.lax.dynamic_update_slice(x, x[:4] * 2, (at, 0, at)),
    ):
        assert_same(rdu.compile(fn, x, at, machine="tiny")(x, at), fn(x, at), str(start))


def test_a_cache_is_updated_where_a_token_stands(rng):
    cache, new = table(rng, 2, 9, 3, 24), table(rng, 2, 2, 3, 24)
    fused = check(lambda c, n, at: jax.lax.dynamic_update_slice(c, n, (0, at, 0, 0)), cache, new, jnp.int32(3))
    assert max(turns(fused.plan)) > 1
    check(lambda c, at: jnp.tanh(jax.lax.dynamic_slice_in_dim(c, at, 2, 1)), cache, jnp.int32(4))


READS = {
    "embedding": lambda x, i: x[i],
    "take": lambda x, i: jnp.take(x, i, axis=1),
    "take, clipped": lambda x, i: jnp.take(x, i, axis=0, mode="clip"),
    "take, filled": lambda x, i: jnp.take(x, i, axis=0, mode="fill", fill_value=3),
    "two axes": lambda x, i: x[i, i // 2],
    "along": lambda x, i: jnp.take_along_axis(x[:12], i.reshape(12, 1) % 12, axis=1),
    "windows": lambda x, i: jax.vmap(lambda at: jax.lax.dynamic_slice(x, (at, 0), (3, 12)))(i.reshape(-1)),
    "a slice of each row": lambda x, i: jax.vmap(lambda r, at: jax.lax.dynamic_slice(r, (at,), (5,)))(
        x[:12], i.reshape(-1)
    ),
}


@pytest.mark.parametrize("name", quick(READS))
def test_reads_by_index(rng, name):
    check(READS[name], table(rng, 48, 12), places(rng, 12, 3, 4))


@pytest.mark.parametrize("name", quick(READS, BEYOND))
@pytest.mark.parametrize("dtype", quick([FP32, jnp.int32, jnp.bool_]))
def test_reads_beyond_the_tensor(rng, name, dtype):
    """Every mode as JAX documents it, in every format: filled with NaN, the least integer, True, or a number."""
    x, i = draw(rng, 12, 12, dtype=jnp.int32).astype(dtype), places(rng, 30, 3, 4, least=-30)
    assert_same(rdu.compile(READS[name], x, i, machine="tiny")(x, i), READS[name](x, i))
    missing = lambda x, i: jnp.take(x, i, axis=0)  # noqa: E731
    assert_same(rdu.compile(missing, x, i, machine="tiny")(x, i), missing(x, i), "the default")


WRITES = {
    "set": lambda x, i, u: x.at[i].set(u),
    "add": lambda x, i, u: x.at[i].add(u),
    "subtract": lambda x, i, u: x.at[i].subtract(u),
    "multiply": lambda x, i, u: x.at[i].multiply(u),
    "max": lambda x, i, u: x.at[i].max(u),
    "min, clipped": lambda x, i, u: x.at[i].min(u, mode="clip"),
    "columns": lambda x, i, u: x.at[:, i % 12].set(u[:, :1].T),
    "elements": lambda x, i, u: x.at[i, 2].add(u[:, 1]),
    "a place of each row": lambda x, i, u: jax.vmap(lambda r, at, v: r.at[at].add(v[0]))(x[:7], i, u),
}


@pytest.mark.parametrize("name", quick(WRITES))
def test_writes_by_index(rng, name):
    i = jnp.asarray(rng.permutation(48)[:7] - 3, jnp.int32)
    check(WRITES[name], table(rng, 48, 12), i, table(rng, 7, 12))


@pytest.mark.parametrize("name", quick(WRITES, BEYOND))
@pytest.mark.parametrize("dtype", quick([BF16, jnp.int32]))
def test_writes_beyond_the_tensor(rng, name, dtype):
    x, u = draw(rng, 11, 12, dtype=dtype), draw(rng, 7, 12, dtype=dtype)
    i = jnp.asarray([3, -1, 40, 0, -99, 11, 7], jnp.int32)
    assert_same(rdu.compile(WRITES[name], x, i, u, machine="tiny")(x, i, u), WRITES[name](x, i, u))


@pytest.mark.parametrize("mode", ["clip", "drop", "promise_in_bounds"])
@pytest.mark.parametrize("method", ["set", "add", "max"])
def test_modes_of_updates(rng, mode, method):
    x, u = table(rng, 9, 3), table(rng, 5, 3)
    i = jnp.asarray([8, 2, 30, -30, 5] if mode != "promise_in_bounds" else [8, 2, 0, 4, 5], jnp.int32)
    fn = lambda x, i, u: getattr(x.at[i], method)(u, mode=mode)  # noqa: E731
    assert_same(rdu.compile(fn, x, i, u, machine="tiny")(x, i, u), fn(x, i, u))


UNSIGNED = jnp.asarray([0, 3, 11, 12, 2**31 - 1, 2**31, 2**32 - 1, 2**32 - 3], jnp.uint32)


@pytest.mark.parametrize("mode", ["clip", "fill", "promise_in_bounds"])
def test_places_without_a_sign(rng, mode):
    """None is negative: what INT32 cannot hold is beyond the tensor's end, in every mode."""
    reads = jax.lax.GatherDimensionNumbers(offset_dims=(1,), collapsed_slice_dims=(0,), start_index_map=(0,))
    writes = jax.lax.ScatterDimensionNumbers((1,), (0,), (0,))

    def fn(x, i, u):
        read = jax.lax.gather(x, i[:, None], reads, (1, 7), mode=mode, fill_value=-5)
        return read, *(
            write(x, i[:, None], u, writes, mode=mode) for write in (jax.lax.scatter, jax.lax.scatter_add)
        )  # fmt: skip

    check(fn, table(rng, 12, 7), UNSIGNED, table(rng, 8, 7))


def test_slices_at_places_without_a_sign(rng):
    x = table(rng, 12, 7)

    def fn(x, at):
        read = jax.lax.dynamic_slice(x, (at, np.uint32(2**32 - 1)), (2, 3))
        return read, jax.lax.dynamic_update_slice(x, x[:2, :3] * 0, (at, np.uint32(2)))

    program = rdu.compile(fn, x, UNSIGNED[0], machine="tiny")
    for at in UNSIGNED:
        assert_same(program(x, at), fn(x, at), str(at))


SORTED = jnp.asarray([-2.0, -0.5, 0.25, 1.0, 3.0])
SEARCHES = {
    "searchsorted": lambda x: jnp.searchsorted(SORTED, x),
    "from the right": lambda x: jnp.searchsorted(SORTED, x, side="right"),
    "digitize": lambda x: jnp.digitize(x, SORTED),
    "interp": lambda x: jnp.interp(x, SORTED, SORTED * 2),
    "unique": lambda x: jnp.unique(jnp.round(x), size=5, fill_value=9),
    "nonzero": lambda x: jnp.nonzero(x > 0, size=9, fill_value=-1),
    "where": lambda x: jnp.where(x > 0.5, size=9),
    "choice": lambda x: jax.random.choice(jax.random.key(1), 5, (7,), p=jax.nn.softmax(x[0, :5])),
    "sort": jax.grad(lambda x: jnp.sum(jnp.sin(jnp.sort(x, axis=1)))),
    "median": jax.grad(lambda x: jnp.sum(jnp.sin(jnp.median(x, axis=0)))),
    "quantile": jax.grad(lambda x: jnp.sum(jnp.sin(jnp.quantile(x, 0.3, axis=1)))),
}


@pytest.mark.parametrize("name", SEARCHES)
def test_searches_and_derivatives_of_orders(rng, name):
    x, fn = table(rng, 6, 7, dtype=FP32), SEARCHES[name]
    program = rdu.compile(fn, x)
    for ours, theirs in zip(jax.tree.leaves(program(x)), jax.tree.leaves(fn(x)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    assert_same(program.replace(fusion="none")(x), program(x))
    assert all("test_indexing.py" in node.source for node in all_nodes(program.graph))


def test_bits_of_fills_are_kept_apart():
    """-0.0 is not 0.0, a NaN is the one NaN, a denormal is a zero of its sign."""
    x, found = jnp.ones((2,), FP32), {}
    for fill in (0.0, -0.0, float("nan"), -1e-40):
        program = rdu.compile(lambda x, f=fill: jax.lax.pad(x, np.float32(f), ((0, 1, 0),)), x, machine="tiny")
        found[str(fill)] = int(np.asarray(program(x))[-1].view(np.uint32))
    assert found == {"0.0": 0, "-0.0": 0x80000000, "nan": 0x7FC00000, "-1e-40": 0x80000000}


def test_a_selector_of_many_cases(rng):
    x = table(rng, 6, 5, dtype=FP32)
    which = places(rng, 4, 6, 5)
    fn = lambda i, x: jax.lax.select_n(i, x, -x, x * 2, x * 0.5)  # noqa: E731
    assert_same(rdu.compile(fn, which, x, machine="tiny")(which, x), fn(which, x))
    one = rdu.compile(fn, jnp.int32(0), x, machine="tiny")
    for case in range(4):
        assert_same(one(jnp.int32(case), x), fn(jnp.int32(case), x))
    bits = lambda x: jax.lax.select_n((x > 0).astype(jnp.int32), x > 1, x < 2)  # noqa: E731
    assert_same(rdu.compile(bits, x, machine="tiny")(x), bits(x))
    chosen = lambda x: jnp.select([x > 1, x > 0], [x, -x], 0)  # noqa: E731
    assert_same(rdu.compile(chosen, x, machine="tiny")(x), chosen(x))


def test_what_cannot_be_moved_is_refused(rng):
    x, i = table(rng, 5, 4), places(rng, 5, 2)
    for fn, error, text in (
        (lambda x: jax.lax.pad(x, np.asarray(0, BF16), ((-5, 0, 0), (0, 0, 0))), ShapeError, "an empty array"),
        (lambda x: x.at[i].apply(jnp.sin), UnsupportedError, r"a function of what is there(.|\n)*set\(f\(x\[i\]\)\)"),
        (lambda x: (x > 0).at[i].max(x[:2] > 1), FormatError, "a combination of bool"),
        (lambda x: x[jnp.arange(2, dtype=jnp.uint8)], FormatError, "uint8"),
        (lambda x: x[:, np.zeros(0, np.int32)], ShapeError,
         "an empty array"),
    ):  # fmt: skip
        with pytest.raises(error, match=text):
            rdu.compile(fn, x)
