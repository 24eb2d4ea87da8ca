"""A compiled program computes on floating values nowhere but in `numerics/` (law L1), as its own trace tells."""

import jax
import jax.numpy as jnp
import pytest

import rdujax as rdu
from rdujax.numerics import arithmetic
from rdujax.numerics.contract import contract
from tests.storeys.raw_equations import raw_equations

X = jax.ShapeDtypeStruct((4, 8), jnp.float32)
W = jax.ShapeDtypeStruct((8, 8), jnp.float32)


def in_a_loop(x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda carry, _: (jax.lax.cond(True, lambda v: v * v, lambda v: v, carry), None), x, length=3)[
        0
    ]


@pytest.mark.parametrize(
    ("raw", "name"),
    [
        (lambda x, w: x * x, "mul"),
        (lambda x, w: x @ w, "dot_general"),
        (lambda x, w: jnp.exp(x), "exp"),
        (lambda x, w: x.sum(), "reduce_sum"),
        (lambda x, w: x.astype(jnp.bfloat16), "convert_element_type"),
        (lambda x, w: -arithmetic.mul(x, x), "neg"),
        (lambda x, w: jax.vmap(in_a_loop)(x), "mul"),
    ],
)
def test_raw_arithmetic_is_found_where_the_text_does_not_show_it(raw, name: str):
    found = raw_equations(raw, X, W)
    assert found and all(line.startswith(f"{name} at {__file__}") for line in found)


def test_numerics_may_compute_and_anyone_may_move():
    moved = raw_equations(lambda x, w: jnp.concatenate([arithmetic.mul(x, x).T, contract(x, w).reshape(8, 4)]), X, W)
    assert moved == []


def mlp(x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """A gated multi-layer perceptron, with a transpose for the access patterns."""
    return ((jax.nn.silu(x @ gate) * (x @ up)).T.T @ down).T


@pytest.mark.parametrize("fusion", ["streaming", "none"])
def test_a_compiled_program_computes_in_numerics_only(fusion: str):
    shapes = [jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in [(16, 32), (32, 48), (32, 48), (48, 32)]]
    program = rdu.compile(mlp, *shapes, machine=rdu.machines.sn40l(), fusion=fusion)
    assert raw_equations(program, *shapes) == []
