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


def scaled(model, x):
    return model(x) * 2


@pytest.mark.parametrize(
    "make", [lambda: nnx.BatchNorm(16, rngs=nnx.Rngs(0)), lambda: nnx.Dropout(0.5, rngs=nnx.Rngs(0))]
)
def test_a_module_among_arguments_that_writes_its_state_must_be_returned(make, x):
    x, model = x.astype(jnp.float32), make()
    path = "mean" if isinstance(model, nnx.BatchNorm) else "rngs.count"
    with pytest.raises(
        UnsupportedError, match=rf"changes its own state(.|\n)*model\.{path} is written(.|\n)*return the"
    ):
        compile(scaled, model, x)
    with pytest.raises(UnsupportedError, match=rf"given: +nested\['m'\]\[0\]\.{path} is written"):
        compile(lambda nested, x: nested["m"][0](x), {"m": [model]}, x)
    with pytest.raises(UnsupportedError, match="changes its own state"):
        validate(scaled, model, x)
    for kept in (lambda m, x: (m(x), m), lambda m, x: (m(x), nnx.state(m)), lambda m, x: (m(x), {"new": [m]})):
        ours, new = compile(kept, model, x, machine="tiny")(make(), x)
        theirs, wanted = kept(make(), x)
        assert np.allclose(np.asarray(ours), np.asarray(theirs), atol=1e-5)
        for a, b in zip(jax.tree.leaves(new), jax.tree.leaves(wanted), strict=True):
            assert jax.dtypes.issubdtype(a.dtype, jax.dtypes.prng_key) or np.allclose(a, b, atol=1e-5)


def test_a_module_among_arguments_that_stays_as_it_is(x):
    model, norm = Gated(nnx.Rngs(0)), nnx.BatchNorm(16, rngs=nnx.Rngs(0))
    program = compile(scaled, model, x)
    assert program.name == "scaled" and "model.up.bias" in program.graph.labels.values()
    program = compile(lambda m, x: m(x, use_running_average=True), norm, x.astype(jnp.float32))
    assert program(norm, x.astype(jnp.float32)).shape == x.shape


def test_an_optimizer_that_is_updated_must_be_returned(x):
    optax = pytest.importorskip("optax")
    model = Gated(nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.sgd(1e-3, momentum=0.9), wrt=nnx.Param)

    def step(optimizer, model, x):
        optimizer.update(model, jax.grad(lambda m: m(x).astype(jnp.float32).sum())(model))
        return model

    with pytest.raises(UnsupportedError, match=r"changes its own state(.|\n)*optimizer\..* is written"):
        compile(step, optimizer, model, x)


def counting():
    return Counting(nnx.Rngs(0))


@pytest.mark.parametrize("make", [lambda: nnx.BatchNorm(16, rngs=nnx.Rngs(0)), counting])
def test_a_module_closed_over_that_writes_its_state_is_refused(make, x):
    model, x = make(), x.astype(jnp.bfloat16 if make is counting else jnp.float32)

    def closed(x):
        return model(x)

    for fn in (closed, model.__call__):
        with pytest.raises(
            UnsupportedError, match=r"closes over changes its own state(.|\n)*pass it as an argument"
        ) as caught:
            compile(fn, x)
        assert fn is not closed or "test_modules.py:" in str(caught.value)


def test_references_to_mutable_memory_are_refused(x):
    reference = jax.new_ref(jnp.zeros(16, x.dtype))

    def reads(x):
        return x + reference[...][None]

    def writes(x):
        reference[...] = x[0]
        return x

    def loops(x):
        return jax.lax.scan(lambda c, _: (c + reference[...][None], None), x, None, length=2)[0]

    for fn in (reads, writes, loops):
        with pytest.raises(
            UnsupportedError,
            match=rf"mutable memory(.|\n)*Ref(.|\n)*test_modules(.|\n)*{fn.__name__}(.|\n)*return the new",
        ):
            compile(fn, x)
    with pytest.raises(UnsupportedError, match=r"mutable memory(.|\n)*where: +argument held\[0\](.|\n)*pass the value"):
        compile(lambda held, x: x + held[0][...][None], [reference], x)
    with pytest.raises(UnsupportedError, match=r"'new_ref'(.|\n)*a program has no state"):
        compile(lambda x: jax.new_ref(x)[...], x)


LOG = []


def test_traced_values_that_are_kept_elsewhere_are_refused(x):
    kept = Gated(nnx.Rngs(0))

    class Holder:
        pass

    holder = Holder()

    def logs(x):
        LOG.append(x.sum())
        return x * 2

    def attribute(x):
        holder.last = x * 2
        return x

    def within(x):
        return jax.lax.scan(lambda c, _: (attribute(c), None), x, None, length=2)[0]

    for fn in (logs, attribute, within):
        with pytest.raises(
            UnsupportedError, match=r"kept outside of the function(.|\n)*test_modules.py(.|\n)*return it"
        ) as caught:
            compile(fn, x)
        assert ("LOG" in str(caught.value)) == (fn is logs)
    LOG.clear()
    holder.last = None

    def in_circles(x):
        mine = Holder()
        mine.self, mine.value, mine.layer = mine, x * 2, nnx.Linear(16, 16, rngs=nnx.Rngs(0))
        return kept(mine.value) + mine.layer(x.astype(jnp.float32)).astype(x.dtype)[:, :8]

    assert compile(in_circles, x).name == "in_circles"
