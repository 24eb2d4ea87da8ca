"""Programs, their passes, reports and prices print as before. Prices are derived from facts, not measured."""

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from tests.goldens.conftest import FOLDER
from tests.rooms.compiler.samples import mlp, monarch, small

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


def looped(x: jax.Array) -> tuple[jax.Array, jax.Array]:
    """A product that is written twice, and a loop in whose body a value is, too."""
    twice = jnp.tanh(x @ x) + jnp.exp(x @ x)
    return jax.lax.scan(lambda c, _: (jnp.tanh(c @ x) * jnp.tanh(c @ x), c.sum()), twice, None, length=3)


PASSES = {
    "passes_monarch": (monarch, ((42, 20), (24, 42), (24, 20), (12, 20)), {"fusion": "streaming"}),
    "passes_looped": (looped, ((12, 12),), {"fusion": "none", "k_splits": {"scan/gemm": 4}}),
}


@pytest.mark.parametrize("name", PASSES)
def test_passes(name: str, assert_golden):
    fn, shapes, choices = PASSES[name]
    structs = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    assert_golden(name, str(rdu.compile(fn, *structs, machine=small(), **choices).passes()))


def test_every_golden_belongs_to_a_test():
    texts = {f"{name}_{fusion}" for name in PROGRAMS for fusion in FUSIONS}
    assert {p.stem for p in FOLDER.glob("*.txt")} == texts | set(PASSES)
