"""Differing elements, against what is known of each pair."""

import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.cli.bits import differing, elements


@pytest.mark.parametrize("dtype", [jnp.bfloat16, jnp.float32, jnp.int32, jnp.bool_])
def test_every_changed_element_of_every_array_counts(dtype):
    one = {"a": np.ones((3, 5), dtype), "b": [np.zeros(4, dtype)]}
    other = {"a": one["a"].copy(), "b": [one["b"][0].copy()]}
    other["a"][1, 2] = other["a"][2, 4] = 0
    other["b"][0][3] = 1
    other["a"] = jnp.asarray(other["a"])
    assert differing(one, one) == 0 and differing(one, other) == differing(other, one) == 3 and elements(one) == 19


def test_signs_of_zeros_differ_and_equal_nans_do_not():
    one, other = np.array([0.0, np.nan, 1.0], np.float32), np.array([-0.0, np.nan, 1.0], np.float32)
    assert differing(one, other) == 1


def test_strides_and_scalars_are_no_obstacle():
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    assert differing(turned, turned.copy()) == 0 and differing(np.float32(1), np.float32(2)) == 1


@pytest.mark.parametrize("other", [np.ones(3, np.float32), np.ones((1, 2), np.float32), np.ones(2, np.int32)])
def test_other_shapes_and_dtypes_are_refused(other):
    with pytest.raises(ValueError, match="is compared with"):
        differing(np.ones(2, np.float32), other)


def test_another_structure_is_refused():
    with pytest.raises(ValueError):
        differing({"a": np.ones(1)}, [np.ones(1)])
