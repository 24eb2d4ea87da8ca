"""Random numbers by keys inside of compiled functions: the words of `jax.random`, bit by bit."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import random

import rdujax as rdu
from rdujax.base.errors import FormatError, UnsupportedError
from rdujax.frontend.rules.random import KEY_RULES
from tests.oracles.harness import in_full

KEY = random.key(42)
KEYS = random.split(random.key(5), 3)
OLD = random.PRNGKey(7)


@pytest.fixture(autouse=True)
def _promoted():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def words(x) -> np.ndarray:
    """An array, or the words of keys."""
    return np.asarray(random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)


EXACT = {
    "bits": (lambda k: random.bits(k, (3, 5)), KEY),
    "one word": (random.bits, KEY),
    "split": (lambda k: random.split(k, (2, 3)), KEY),
    "fold_in": (lambda k, i: random.fold_in(k, i), KEY, jnp.int32(-5)),
    "seed": (lambda s: random.bits(random.key(s), (4,)), jnp.int32(-5)),
    "keys of a loop": (lambda k: jax.vmap(lambda k: random.bits(k, (2, 3)))(k), KEYS),
    "words of keys": (lambda k: random.key_data(random.split(k[1])), KEYS),
    "keys of words": (lambda w: random.wrap_key_data(w ^ jnp.uint32(3)), random.key_data(KEYS)),
    "clone": (lambda k: random.bits(random.clone(k)), KEY),
    "uniform": (lambda k: random.uniform(k, (5, 7)), KEY),
    "bernoulli": (lambda k: random.bernoulli(k, 0.3, (31, 17)), KEY),
    "randint": (lambda k: random.randint(k, (3, 7), -5, 100), OLD),
    "permutation": (lambda k: random.permutation(k, 23), KEY),
    "choice": (lambda k: random.choice(k, 13, (5,)), KEY),
    "rademacher": (lambda k: random.rademacher(k, (8, 9), jnp.float32), KEY),
    "initializer": (lambda k: jax.nn.initializers.he_uniform()(k, (8, 9), jnp.float32), KEY),
    "categorical": (lambda k, x: random.categorical(k, x), KEY, jnp.linspace(-3, 3, 36).reshape(4, 9)),
    "a key of the text": (lambda x: x + random.uniform(KEY, (4,)), jnp.zeros(4)),
}
CLOSE = {
    "normal": (lambda k: random.normal(k, (31, 17)), KEY),
    "between": (lambda k: random.uniform(k, (5, 7), minval=-1.0, maxval=2.0), KEY),
    "truncated_normal": (lambda k: random.truncated_normal(k, -2.0, 2.0, (8, 9)), KEY),
    "exponential": (lambda k: random.exponential(k, (8, 9)), KEY),
    "lecun_normal": (lambda k: jax.nn.initializers.lecun_normal()(k, (8, 9), jnp.float32), KEY),
    "dropout": (lambda k, x: jnp.where(random.bernoulli(k, 0.9, x.shape), x / 0.9, 0.0), KEY, jnp.ones((4, 9))),
}
SLOW = ("permutation", "choice", "rademacher", "initializer", "keys of a loop")


@pytest.mark.parametrize("name", [*(n for n in EXACT if n not in SLOW), *in_full(*SLOW)])
def test_words_are_those_of_jax(name):
    fn, *args = EXACT[name]
    got, want = rdu.compile(fn, *args)(*args), fn(*args)
    assert got.dtype == want.dtype and got.shape == want.shape
    np.testing.assert_array_equal(words(got), words(want))


@pytest.mark.parametrize("name", ["normal", "truncated_normal", *in_full(*(n for n in CLOSE if "normal" not in n))])
def test_numbers_made_of_them_are_close(name):
    """Both sides are within a few ulp of the real value of the same words."""
    fn, *args = CLOSE[name]
    np.testing.assert_allclose(rdu.compile(fn, *args)(*args), fn(*args), rtol=1e-5, atol=2e-7)


def test_moves_act_on_both_words():
    moves = {
        "rev": lambda k: k[::-1],
        "transpose": lambda k: k[None].T,
        "slice": lambda k: k[1:],
        "squeeze": lambda k: k[:1].squeeze(),
        "concatenate": lambda k: jnp.concatenate([k, k[:2]]),
        "reshape": lambda k: k.reshape(3, 1),
        "broadcast_in_dim": lambda k: jnp.broadcast_to(k, (2, 3)),
        "select_n": lambda k: jnp.where(jnp.array([True, False, True]), k, k[::-1]),
        "gather": lambda k: k[jnp.array([2, 0])],
    }
    for name, fn in moves.items():
        np.testing.assert_array_equal(words(rdu.compile(fn, KEYS)(KEYS)), words(fn(KEYS)), err_msg=name)


def test_every_rule_for_keys_is_reached():
    texts = [str(jax.make_jaxpr(fn)(*args)) for fn, *args in EXACT.values()]
    rules = {name for name in KEY_RULES if name.startswith("random_")}
    assert {name for name in rules if any(name in text for text in texts)} == rules


def test_a_program_with_keys_is_vmapped_and_jitted():
    program = rdu.compile(lambda k: (random.normal(k, (5,)), random.split(k)), KEY)
    each = [program(k) for k in KEYS]
    for found in (jax.vmap(program)(KEYS), jax.jit(jax.vmap(program))(KEYS)):
        np.testing.assert_array_equal(found[0], np.stack([numbers for numbers, _ in each]))
        np.testing.assert_array_equal(words(found[1]), np.stack([words(keys) for _, keys in each]))
    assert program.tally(KEY) == program.predicted_counts()


def test_tile_by_tile_a_word_has_its_place():
    program = rdu.compile(lambda k: random.bits(k, (40, 24)), KEY, machine="tiny")
    for executor in ("vmap", "scan"):
        np.testing.assert_array_equal(program.execute(KEY, executor=executor), random.bits(KEY, (40, 24)))


def test_the_reparametrised_gradient_passes_through():
    def loss(x: jax.Array, k: jax.Array) -> jax.Array:
        return jnp.sum(jnp.square(x * random.normal(k, x.shape)))

    x = jnp.linspace(0.5, 2.0, 6)
    program = rdu.compile(loss, x, KEY)
    np.testing.assert_allclose(jax.grad(program)(x, KEY), jax.grad(loss)(x, KEY), rtol=1e-5)


def test_what_is_refused():
    other = random.key(0, impl="rbg")
    with pytest.raises(FormatError, match=r"keys of another generator\n  given:   key<rbg>\n  allowed: key<fry>"):
        rdu.compile(lambda k: random.bits(k), other)
    with pytest.raises(FormatError, match="keys of another generator"):
        rdu.compile(lambda x: x + random.uniform(random.key(0, impl="rbg")), jnp.float32(0))
    with pytest.raises(UnsupportedError, match=r"random_bits: words of 8 bits\n(.|\n)*draw in float32"):
        rdu.compile(lambda k: random.uniform(k, (3,), jnp.bfloat16), KEY)
    program = rdu.compile(lambda k: random.bits(k), KEY)
    with pytest.raises(FormatError, match=r"argument k has another dtype\n  given:   uint32\n  allowed: key<fry>"):
        program(OLD)
    with jax.threefry_partitionable(False), pytest.raises(UnsupportedError, match="not partitionable"):
        rdu.compile(lambda k: random.bits(k, (3,)), KEY)
