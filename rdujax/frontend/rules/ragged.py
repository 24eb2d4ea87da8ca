"""Products of groups of rows, each with a matrix of its own, as experts take them: `ragged_dot_general`.

    rows      out[i]  = x[i] @ w[group of i]                       mixture of experts, and its gradient to x
    columns   out[g]  = sum over i in g of x[i]^T y[i]             its gradient to w

A group is as many rows as its size says, one after the other. Sizes are known only while it runs, so the work does not
depend on them. Rows: either every matrix is multiplied with all rows and each row takes its group's product (groups x
rows products), or, where there are fewer rows than groups, every row takes its group's matrix first. Both sum K in the
same order, so the choice changes no bit. Columns: what is not of the group is zero on both sides, multiplied and
counted. Rows beyond the last group give zeros.
"""

from collections.abc import Callable, Sequence
from math import prod

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rdujax.frontend.rule import Site, expanded, rule

Axes = Sequence[int]


@rule("ragged_dot_general")
def _ragged(site: Site) -> tuple[int, ...]:
    numbers = site.parameters["ragged_dot_dimension_numbers"]
    (of_x, of_y), (batch_x, batch_y) = (tuple(map(_plain, pair)) for pair in numbers.dot_dimension_numbers)
    shape_x, shape_y, sizes = (site.builder.types[site.value(i)].shape for i in range(3))
    (ragged,), groups = _plain(numbers.lhs_ragged_dimensions), _plain(numbers.rhs_group_dimensions)
    free_x = tuple(a for a in range(len(shape_x)) if a not in (*of_x, *batch_x))
    free_y = tuple(a for a in range(len(shape_y)) if a not in (*of_y, *batch_y, *groups))
    if site.parameters["group_offset"] is not None or ragged in batch_x or len(sizes) not in (1, 1 + len(batch_x)):
        raise site.unsupported("groups of batches, or sizes by rows", "group rows, with sizes [groups] or by batch")
    others = tuple(a for a in (free_x if groups else of_x) if a != ragged)
    lengths = [
        tuple(shape[a] for a in axes)
        for shape, axes in ((shape_x, batch_x), (shape_x, free_x), (shape_y, free_y))
    ]  # fmt: skip
    out = site.results[0].dtype

    def rows(x: jax.Array, y: jax.Array, sizes: jax.Array) -> jax.Array:
        left = _flat(x, batch_x, (ragged,), others, of_x)
        right = _flat(y, batch_y, groups, free_y, of_y)
        found = _each(_by_rows(out), left, right, sizes)  # [batch, ragged, others, free of y]
        shape = (*lengths[0], shape_x[ragged], *(shape_x[a] for a in others), *lengths[2])
        at = len(batch_x) + free_x.index(ragged)
        return jnp.moveaxis(found.reshape(shape), len(batch_x), at)

    def columns(x: jax.Array, y: jax.Array, sizes: jax.Array) -> jax.Array:
        order_y = {a: b for a, b in zip(of_x, of_y, strict=True)}
        left = _flat(x, batch_x, (ragged,), others, free_x)
        right = _flat(y, batch_y, (order_y[ragged],), tuple(order_y[a] for a in others), free_y)
        found = jnp.moveaxis(_each(_by_columns(out), left, right, sizes), 1, 0)  # [groups, batch, free of x, of y]
        return found.reshape((sizes.shape[-1], *lengths[0], *lengths[1], *lengths[2]))

    return expanded(site, rows if groups else columns, *(site.value(i) for i in range(3)))


def _by_rows(out: np.dtype) -> Callable[..., jax.Array]:
    """x [rows, others, K], w [groups, columns, K], sizes [groups] -> [rows, others, columns] in dtype `out`."""

    def of_one(x: jax.Array, w: jax.Array, sizes: jax.Array) -> jax.Array:
        group = _group_of(sizes, x.shape[0])
        if x.shape[0] < w.shape[0]:
            return _dot(x, _taken(w, group), ((2,), (2,)), ((0,), (0,)), out)
        every = _dot(w, x, ((2,), (2,)), ((), ()), out)  # [groups, columns, rows, others]
        return jax.vmap(_taken, (2, 0))(every, group).swapaxes(1, 2)

    return of_one


def _by_columns(out: np.dtype) -> Callable[..., jax.Array]:
    """x [rows, others, m], y [rows, others, n], sizes [groups] -> [groups, m, n] in dtype `out`."""

    def of_one(x: jax.Array, y: jax.Array, sizes: jax.Array) -> jax.Array:
        group = _group_of(sizes, x.shape[0])
        own = group[None] == lax.iota(jnp.int32, sizes.shape[0])[:, None]  # [groups, rows]

        def spread(each: jax.Array) -> jax.Array:
            shape = (sizes.shape[0], *each.shape)
            return jnp.where(lax.broadcast_in_dim(own, shape, (0, 1)), each[None], jnp.zeros((), each.dtype))

        return _dot(spread(x), spread(y), ((1, 2), (1, 2)), ((0,), (0,)), out)

    return of_one


def _taken(x: jax.Array, group: jax.Array) -> jax.Array:
    """Row `group` of x, zeros beyond the last."""
    return x.at[group].get(mode="fill", fill_value=0, wrap_negative_indices=False)


def _group_of(sizes: jax.Array, rows: int) -> jax.Array:
    """INT32 [rows]: how many groups end at or before each row, which is its group; as many as there are beyond all."""
    ends = lax.cumsum(sizes.astype(jnp.int32))  # not emulated: traced into nodes
    return jnp.sum(lax.iota(jnp.int32, rows)[:, None] >= ends[None], axis=1, dtype=jnp.int32)


def _dot(
    x: jax.Array, y: jax.Array, contracted: tuple[Axes, Axes], batch: tuple[Axes, Axes], out: np.dtype
) -> jax.Array:
    return lax.dot_general(x, y, (contracted, batch), preferred_element_type=out)  # not emulated: traced into nodes


def _flat(x: jax.Array, *parts: Sequence[int]) -> jax.Array:
    """One axis for each of the parts."""
    moved = x.transpose([a for part in parts for a in part])
    return moved.reshape([prod(x.shape[a] for a in part) for part in parts])


def _each(fn: Callable[..., jax.Array], x: jax.Array, y: jax.Array, sizes: jax.Array) -> jax.Array:
    """`fn` for each of a batch; sizes: one list for all, or one for each."""
    if x.shape[0] == 1:
        return fn(x[0], y[0], sizes.reshape(-1))[None]
    if sizes.ndim == 1:
        return jax.vmap(fn, (0, 0, None))(x, y, sizes)
    return jax.vmap(fn)(x, y, sizes.reshape(-1, sizes.shape[-1]))


def _plain(axes: Sequence[int]) -> tuple[int, ...]:
    return tuple(int(axis) for axis in axes)
