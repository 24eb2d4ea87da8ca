"""The README's examples run as they stand."""

import re
from pathlib import Path

import jax
import numpy as np

README = Path(__file__).parents[2] / "README.md"


def test_the_examples_of_the_readme_run_and_agree(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    assert len(blocks) == 5
    names: dict = {}
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):  # as a reader's JAX is set
        for block in blocks:
            exec(compile(block, "README.md", "exec"), names)
    by_hand, compiled = names["by_hand"](*names["args"]), names["program"](*names["args"])
    assert {path.name for path in tmp_path.iterdir()} == {"trace.pftrace", "floorplan.svg"}
    assert np.array_equal(np.asarray(by_hand).view(np.uint16), np.asarray(compiled).view(np.uint16))


def test_every_public_name_in_the_readme_exists():
    import rdujax

    for name in re.findall(r"\brdu\.([a-zA-Z_]+)", README.read_text()):
        assert hasattr(rdujax, name), name
