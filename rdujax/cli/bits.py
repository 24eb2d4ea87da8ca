"""How many elements of two results differ in their bits: what every comparison of two roads counts."""

from typing import Any

import jax
import numpy as np


def differing(one: Any, other: Any) -> int:
    """Elements whose bits differ, of two pytrees of arrays of the same structure, shapes and dtypes.

    Zeros of different signs differ, and NaNs of the same bits do not. Raises ValueError where structures, shapes or
    dtypes are not the same.
    """
    return sum(jax.tree.leaves(jax.tree.map(_differing, one, other)))


def elements(tree: Any) -> int:
    """Elements of all arrays of a pytree."""
    return sum(np.size(each) for each in jax.tree.leaves(tree))


def _differing(one: Any, other: Any) -> int:
    one, other = np.asarray(one), np.asarray(other)
    if one.shape != other.shape or one.dtype != other.dtype:
        raise ValueError(f"{one.dtype}{list(one.shape)} is compared with {other.dtype}{list(other.shape)}")
    word = np.dtype(f"u{one.dtype.itemsize}")
    return int((np.ascontiguousarray(one).view(word) != np.ascontiguousarray(other).view(word)).sum())
