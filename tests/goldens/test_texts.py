"""Programs, their reports and their prices print as before. Prices are derived from facts, not measured."""

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from tests.goldens.conftest import FOLDER
from tests.rooms.compiler.samples import mlp, monarch

PROGRAMS = {
    "monarch": (monarch, ((1024, 256), (512, 1024), (512, 256), (512, 256))),
    "mlp": (mlp, ((128, 256), (256, 704), (256, 704), (704, 256))),
}
FUSIONS = {"none": "none", "streaming": "streaming", "one_kernel": rdu.cut_after()}


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("name", PROGRAMS)
def test_text(name: str, fusion: str, assert_golden):
    fn, shapes = PROGRAMS[name]
    structs = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in shapes]
    program = rdu.compile(fn, *structs, machine="sn40l", fusion=FUSIONS[fusion])
    assert_golden(f"{name}_{fusion}", f"{program}\n\n{program.report()}\n\nprice (derived): {program.cost()}")


def test_every_golden_belongs_to_a_test():
    assert {p.stem for p in FOLDER.glob("*.txt")} == {f"{name}_{fusion}" for name in PROGRAMS for fusion in FUSIONS}
