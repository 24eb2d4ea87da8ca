"""Models of users promote dtypes and ranks as JAX does by default; the emulator's own code does not."""

import jax
import pytest


@pytest.fixture(autouse=True)
def _promotions_of_users():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield
