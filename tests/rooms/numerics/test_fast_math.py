"""Which settings of XLA_FLAGS the contraction takes for a licence to re-order sums."""

from pathlib import Path

import jax
import numpy as np
import pytest

from rdujax.base import compat
from rdujax.numerics.contract import contract

FLAG = "--xla_cpu_enable_fast_math"


@pytest.mark.parametrize(
    ("flags", "licensed"),
    [
        ("", False),
        (FLAG, True),
        (f"{FLAG}=true", True),
        (f"{FLAG}=1", True),
        (f"{FLAG}=false", False),
        (f"{FLAG}=True {FLAG}=False", False),
        (f"--xla_cpu_prefer_vector_width=512 {FLAG}=true", True),
        ("--xla_cpu_enable_fast_min_max=true", False),
        ("/no/such/file", False),
    ],
)
def test_reads_the_flags_as_xla_does(flags: str, licensed: bool, monkeypatch: pytest.MonkeyPatch):
    """The last setting counts; a name that only begins alike does not."""
    monkeypatch.setenv("XLA_FLAGS", flags)
    assert compat.fast_math() is licensed


def test_reads_a_file_of_flags(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """XLA_FLAGS that do not begin with a dash name a file."""
    file = tmp_path / "flags"
    file.write_text(f"--xla_cpu_prefer_vector_width=512\n{FLAG}=true\n")
    monkeypatch.setenv("XLA_FLAGS", str(file))
    assert compat.fast_math()


def test_a_licence_changes_the_steps_and_no_bit(rng: np.random.Generator, monkeypatch: pytest.MonkeyPatch):
    """A minimum more for each of the sums of a turn; XLA itself read its flags long before, so this is the same law."""
    a, b = (rng.standard_normal(shape, np.float32) for shape in ((24, 40), (40, 24)))
    results, minima = [], []
    for flags in ("", FLAG):
        monkeypatch.setenv("XLA_FLAGS", flags)
        jax.clear_caches()
        minima.append(jax.jit(contract).lower(a, b).as_text().count("stablehlo.minimum"))
        results.append(np.asarray(contract(a, b)).view(np.uint32))
    jax.clear_caches()
    np.testing.assert_array_equal(*results)
    assert minima[1] - 2 == minima[0] > 0
