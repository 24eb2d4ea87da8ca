"""The door opens: the library and every public name of it can be had, on the oldest and on the newest JAX."""

import ast
from pathlib import Path

import jax
import numpy as np
import pytest

import rdujax as rdu
from rdujax.numerics.formats import FORMATS, format_of

DOOR = ast.parse(Path(rdu.__file__).read_text()).body
PUBLIC = [alias.asname for line in DOOR if isinstance(line, ast.ImportFrom) for alias in line.names]


def test_the_door_is_a_list_of_names_and_nothing_else():
    assert rdu.__doc__
    lines = DOOR[1:]
    assert lines and all(isinstance(line, ast.ImportFrom) for line in lines)
    # The explicit form, name as name, tells type checkers that the name is public.
    assert [alias.name for line in lines for alias in line.names if alias.asname != alias.name] == []
    assert len(PUBLIC) == len(set(PUBLIC))


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_name_is_there_and_documented(name: str):
    assert getattr(rdu, name).__doc__


def test_every_format_has_a_dtype_that_jax_computes_with():
    for _, fmt in FORMATS.items():
        assert format_of(fmt.dtype) is fmt
        assert jax.numpy.zeros(3, fmt.dtype).dtype == fmt.dtype
        assert np.dtype(fmt.dtype).itemsize == fmt.width_bytes
