"""A tiny program end to end: compile, run, price, report, validate, by both doors."""

import jax.numpy as jnp
import numpy as np

import rdujax as rdu


def test_a_function_end_to_end(rng: np.random.Generator):
    x, w = (jnp.asarray(rng.standard_normal(s), jnp.bfloat16) for s in ((8, 12), (12, 6)))

    def layer(x, w):
        return jnp.tanh(x @ w)

    program = rdu.compile(layer, x, w, machine="tiny")
    y = program(x, w)
    assert y.dtype == jnp.bfloat16 and y.shape == (8, 6)
    np.testing.assert_allclose(np.asarray(y, np.float32), np.asarray(layer(x, w), np.float32), atol=2.0**-6)
    assert program.tally(x, w) == program.predicted_counts()
    assert program.cost().flops == 2 * 8 * 12 * 6 + 8 * 6
    assert "gemm" in str(program) and "tiny" in str(program.report())
    assert rdu.validate(layer, x, w, machine="tiny").bit_equal


def test_a_kernel_end_to_end(rng: np.random.Generator):
    x, w = (jnp.asarray(rng.standard_normal(s), jnp.bfloat16) for s in ((8, 12), (12, 6)))

    @rdu.kernel(machine="tiny", tiles={"x": (4, 12)})
    def layer(x, w):
        return rdu.simd(jnp.tanh, rdu.gemm(x, w))

    compiled = rdu.compile(lambda x, w: jnp.tanh(x @ w), x, w, machine="tiny")
    assert layer.program(x, w).plan.kernels[0].tiling.turns == 2
    assert np.array_equal(np.asarray(layer(x, w)).view(np.uint16), np.asarray(compiled(x, w)).view(np.uint16))
