"""Flax NNX modules as what is compiled: named weights, abstract ones, bits, derivatives, and what is refused."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen, nnx

from rdujax.base.errors import ArgumentError, FormatError, UnsupportedError
from rdujax.compiler.program import compile
from rdujax.compiler.validate import validate
from rdujax.frontend.modules import as_function, is_module

BF16 = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}


class Gated(nnx.Module):
    def __init__(self, rngs):
        self.up = nnx.Linear(16, 24, rngs=rngs, **BF16)
        self.down = nnx.Linear(24, 8, rngs=rngs, **BF16)
        self.layers = nnx.List([nnx.Linear(8, 8, rngs=rngs, **BF16)])

    def __call__(self, x):
        return self.layers[0](self.down(nnx.silu(self.up(x))))


class Counting(Gated):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.calls = nnx.Variable(jnp.zeros((), jnp.int32))

    def __call__(self, x):
        self.calls[...] = self.calls[...] + 1
        return super().__call__(x)


@pytest.fixture
def x(rng):
    return jnp.asarray(rng.normal(size=(5, 16)), jnp.bfloat16)


def test_weights_are_arguments_by_their_paths(x):
    model = Gated(nnx.Rngs(0))
    program = compile(model, x)
    assert [program.graph.labels[v] for v in program.graph.inputs] == [
        "model.down.bias", "model.down.kernel", "model.layers[0].bias", "model.layers[0].kernel", "model.up.bias",
        "model.up.kernel", "x",
    ]  # fmt: skip
    assert program.name == "Gated"
    want = np.asarray(model(x), np.float32)
    assert np.allclose(np.asarray(program(model, x), np.float32), want, atol=0.05)


def test_abstract_weights_are_enough_for_a_price(x):
    abstract = nnx.eval_shape(lambda: Gated(nnx.Rngs(0)))
    assert compile(abstract, x).cost().total_s == compile(Gated(nnx.Rngs(0)), x).cost().total_s


def test_a_trained_module_goes_through_the_same_program(x):
    model = Gated(nnx.Rngs(0))
    program = compile(model, x)
    slope = jax.grad(lambda model: program(model, x).astype(jnp.float32).sum())(model)
    plain = jax.grad(lambda model: model(x).astype(jnp.float32).sum())(model)
    for ours, theirs in zip(jax.tree.leaves(slope), jax.tree.leaves(plain), strict=True):
        assert np.allclose(np.asarray(ours, np.float32), np.asarray(theirs, np.float32), rtol=0.05, atol=0.1)
    other = Gated(nnx.Rngs(1))
    assert not np.array_equal(np.asarray(program(other, x)), np.asarray(program(model, x)))


def test_a_module_that_writes_its_own_state_is_refused(x):
    model = Counting(nnx.Rngs(0))
    with pytest.raises(UnsupportedError, match=r"changes its own state(.|\n)*model\.calls(.|\n)*return the changed"):
        compile(model, x)


def test_modules_are_validated_like_functions(x):
    model = Gated(nnx.Rngs(0))
    assert validate(model, x).bit_equal
    with pytest.raises(FormatError, match="argument x"):
        validate(model, 3)


def test_functions_are_left_as_they_are(x):
    def fn(x):
        return x

    assert as_function(fn, (x,)) == (fn, (x,)) and not is_module(fn)
    assert not is_module(jnp.tanh) and not is_module(Gated) and is_module(Gated(nnx.Rngs(0)))


def test_a_linen_module_is_given_by_its_apply(x):
    module = linen.Dense(4, **BF16)
    for fn in (module, module.__call__):
        with pytest.raises(ArgumentError, match=r"Linen(.|\n)*Dense(.|\n)*compile\(module\.apply, variables, x\)"):
            compile(fn, x)
    variables = module.init(jax.random.key(0), x)
    program, bound = compile(module.apply, variables, x), compile(module.bind(variables), x)
    assert np.array_equal(np.asarray(program(variables, x)), np.asarray(bound(x)))
