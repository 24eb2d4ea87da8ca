"""Operations by themselves are compiled once for all that are equal, and have the bits of the program as a whole."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.emulate.node import evaluate, run_stage
from rdujax.numerics.formats import BF16, FP32
from rdujax.ops.contract import Contract
from rdujax.units.pcu.contraction import Contraction
from tests.rooms.compiler.samples import assert_same, draw

MATMUL = Contraction((1,), (0,))


def layers(count: int):
    """So many layers, written out, with weights of their own."""

    def fn(x, weights):
        for w in weights:
            y = jnp.tanh(x @ w) * x
            x = y - y.max(-1, keepdims=True)
        return x

    rng = np.random.default_rng(0)
    return fn, (draw(rng, 6, 8), [draw(rng, 8, 8) for _ in range(count)])


def compiled(fn, args) -> int:
    """How many stages a run that captures compiles, in addition to those that are compiled."""
    before = run_stage._cache_size()
    program = rdu.compile(fn, *args, machine="tiny", stage_buffer_format="fp32")
    captured = program.captured(*args)
    assert_same(program._leave(captured)[0], program(*args))
    return run_stage._cache_size() - before


def test_further_layers_compile_nothing():
    jax.clear_caches()
    assert compiled(*layers(2)) > 2
    assert compiled(*layers(5)) == 0


@pytest.mark.parametrize("wide", [False, True])
def test_an_operation_by_itself_is_compiled_for_its_value_and_not_for_its_place(rng, wide):
    jax.clear_caches()
    x, w = (jnp.asarray(rng.integers(-3, 4, shape), jnp.float32) for shape in ((3, 64), (64, 2)))
    for _ in range(2):  # an operation of its own each time
        found = evaluate(Contract(Contraction((1,), (0,)), BF16), (x, w), (BF16, BF16), wide=wide)
    assert_same(found, x @ w)
    assert evaluate._cache_size() == 1
    evaluate(Contract(MATMUL, FP32), (x, w), (BF16, BF16), wide=wide)
    evaluate(Contract(Contraction((1,), (0,), k_splits=2), BF16), (x, w), (BF16, BF16), wide=wide)
    evaluate(Contract(MATMUL, BF16), (x, w[:, :1]), (BF16, BF16), wide=wide)
    assert evaluate._cache_size() == 4
