"""The parts of JAX that may change: what the library relies on, checked on every version it runs on."""

import jax
import jax.numpy as jnp
import pytest

from rdujax.base import compat

CONSTANT = jnp.arange(3, dtype=jnp.float32)


def traced(x):
    with jax.named_scope("outer"), jax.named_scope("inner"):
        return {"y": jnp.tanh(x) * CONSTANT, "z": x.sum()}


def test_trace_gives_jaxpr_constants_and_shapes():
    jaxpr, constants, shapes = compat.trace(traced, jax.ShapeDtypeStruct((3,), jnp.float32))
    assert [eqn.primitive.name for eqn in jaxpr.eqns][0] == "tanh"
    assert len(jaxpr.invars) == 1 and len(jaxpr.outvars) == 2 and len(jaxpr.constvars) == len(constants)
    assert shapes["y"].shape == (3,) and shapes["z"].shape == ()
    known = [c for c in constants if jnp.array_equal(c, CONSTANT)] + [
        v.val for eqn in jaxpr.eqns for v in eqn.invars if isinstance(v, compat.Literal) and jnp.shape(v.val) == (3,)
    ]
    assert len(known) == 1


def test_an_open_jaxpr_is_itself_and_a_closed_one_has_constants():
    closed = jax.make_jaxpr(traced)(CONSTANT)
    jaxpr, constants = compat.open_jaxpr(closed)
    assert jaxpr.eqns and len(constants) == len(jaxpr.constvars)
    assert compat.open_jaxpr(jaxpr)[0].eqns == jaxpr.eqns


def test_equations_know_their_source_line_and_scope():
    jaxpr, _, _ = compat.trace(traced, CONSTANT)
    line = traced.__code__.co_firstlineno + 2
    assert f"test_compat.py:{line}" in compat.source_line(jaxpr.eqns[0])
    assert compat.scope(jaxpr.eqns[0]) == "outer/inner"
    assert compat.source_line(object()) == ""


def test_variables_and_literals_are_told_apart():
    jaxpr, _, _ = compat.trace(lambda x: x + 1.5, jnp.float32(1))
    x, one_and_a_half = jaxpr.eqns[0].invars
    assert isinstance(x, compat.Var) and not isinstance(x, compat.Literal)
    assert isinstance(one_and_a_half, compat.Literal) and float(one_and_a_half.val) == 1.5


def test_tracers_are_told_from_values():
    seen = []
    jax.jit(lambda x: seen.append(compat.is_tracer(x)) or x)(CONSTANT)
    assert seen == [True] and not compat.is_tracer(CONSTANT) and not compat.is_tracer(1.0)


def test_the_dtype_of_variables_and_literals():
    jaxpr, _, _ = compat.trace(lambda x: x + 1.5, jnp.float32(1))
    assert [compat.dtype_of(atom) for atom in jaxpr.eqns[0].invars] == [jnp.float32, jnp.float32]


@pytest.mark.parametrize(
    ("flags", "licensed"),
    [
        (None, False),
        ("", False),
        ("--xla_cpu_enable_fast_math=true", True),
        ("--xla_cpu_enable_fast_math=false", False),
        ("--xla_force_host_platform_device_count=2", False),
        ("--xla_force_host_platform_device_count=2 --xla_cpu_enable_fast_math=true", True),
    ],
)
def test_fast_math_is_read_from_the_flags(monkeypatch, flags, licensed):
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    if flags is not None:
        monkeypatch.setenv("XLA_FLAGS", flags)
    assert compat.fast_math() is licensed
