"""What a traced function keeps: dtypes as under plain JAX, values as they were, and only what its outputs need."""

import jax
import jax.numpy as jnp
import numpy as np

import rdujax as rdu

X = jnp.asarray(np.random.default_rng(1).normal(size=(4, 6)), jnp.float32)


def test_weak_types_decide_the_dtypes_of_results():
    x, weak = jnp.ones((2, 3), jnp.bfloat16), jnp.asarray(2.0)
    with jax.numpy_dtype_promotion("standard"):
        for scale, dtype in ((weak, jnp.bfloat16), (jnp.float32(2.0), jnp.float32)):
            program = rdu.compile(lambda a, c: a * c, x, scale)
            assert program(x, scale).dtype == (x * scale).dtype == dtype


def test_what_is_closed_over_stays_as_it_was():
    held = np.ones(4, np.float32)
    program = rdu.compile(lambda a: a * held, jnp.ones(4))
    held[:] = 5.0
    assert program(jnp.ones(4)).tolist() == [1.0] * 4


def test_the_value_of_a_loss_is_no_part_of_its_gradient():
    """Sums have no rule yet; their gradients need none."""
    for loss in (lambda x: jnp.tanh(x).sum(), lambda x: (x * x).mean()):
        grad = jax.grad(loss)
        np.testing.assert_allclose(rdu.compile(grad, X)(X), grad(X), rtol=1e-6)


def test_an_effect_is_never_left_out():
    def watched(x):
        jax.debug.callback(lambda v: None, x)
        return x * 2

    try:
        rdu.compile(watched, X)
        raised = ""
    except rdu.UnsupportedError as error:
        raised = str(error)
    assert "no rule for 'debug_callback'" in raised


def test_scalars_are_contracted():
    def outer(s, x):
        return jax.lax.dot_general(s, x, (((), ()), ((), ())))

    s = jnp.float32(2.0)
    for fusion in ("none", "streaming"):
        program = rdu.compile(outer, s, X, fusion=fusion)
        assert (program(s, X) == 2 * X).all()
        assert program.tally(s, X) == program.predicted_counts()
