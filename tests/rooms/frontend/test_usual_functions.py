"""What users write from `jax.nn`, `jax.numpy` and optax, element-wise and ordered: plain JAX's values and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from tests.oracles.harness import in_full

RNG = np.random.default_rng(17)
X = jnp.asarray(RNG.normal(size=(6, 15)) * 2, jnp.float32)
N = jnp.asarray(RNG.integers(0, 15, (6,)), jnp.int32)
SPOILT = X.at[0, :3].set(jnp.asarray([jnp.nan, jnp.inf, -jnp.inf]))


@pytest.fixture(autouse=True)
def _promoted():
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


SMOOTH = {
    "relu": jax.nn.relu,
    "gelu by tanh": lambda x: jax.nn.gelu(x, approximate=True),
    "gelu by erf": lambda x: jax.nn.gelu(x, approximate=False),
    "softplus": jax.nn.softplus,
    "elu": jax.nn.elu,
    "hard_swish": jax.nn.hard_swish,
    "leaky_relu": jax.nn.leaky_relu,
    "logsumexp": lambda x: jax.nn.logsumexp(x, axis=1),
    "normalize": lambda x: x / jnp.linalg.norm(x, axis=1, keepdims=True),
    "median": lambda x: jnp.median(x, axis=1),
    "percentile": lambda x: jnp.percentile(x, 30.0, axis=0),
    "sorted": lambda x: jnp.sort(x, axis=1)[:, ::-1],
    "clip": lambda x: jnp.clip(x, -1.0, 1.5),
    "power": lambda x: jnp.power(jnp.abs(x) + 0.5, 1.7),
    "a constant to a power": lambda x: 2.5**x,
    "negative power": lambda x: (jnp.abs(x) + 0.5) ** -3,
    "cumulative": lambda x: jnp.cumsum(x, axis=1) - jnp.cumsum(x, axis=1)[:, -1:],
    "trigonometry": lambda x: jnp.arctan2(jnp.sin(x), jnp.cosh(x)) + jnp.arcsinh(x),
    "top half": lambda x: jax.lax.top_k(x, 7)[0],
}
EXACT = {
    "round": lambda x: jnp.round(x * 2),
    "floor and ceil": lambda x: jnp.floor(x) + jnp.ceil(x),
    "argsort": lambda x: jnp.argsort(x, axis=1),
    "descending": lambda x: jnp.argsort(x, axis=1, descending=True),
    "argmax": lambda x: jnp.argmax(x, axis=-1),
    "argmin of all": jnp.argmin,
    "top_k": lambda x: jax.lax.top_k(x, 4),
    "trunc": jnp.trunc,
    "sign": jnp.sign,
    "isfinite": jnp.isfinite,
    "unique ranks": lambda x: jnp.argsort(jnp.argsort(x, axis=0), axis=0),
    "as bf16": lambda x: jax.lax.reduce_precision(x, 8, 7),
    "searched": lambda x: jnp.sum(x[:, :, None] > x[:, None, :], axis=2),
}
QUICK = ("relu", "gelu by erf", "median", "power", "cumulative", "trigonometry")


@pytest.mark.parametrize("name", [*QUICK, *in_full(*(n for n in SMOOTH if n not in QUICK))])
def test_values_and_gradients(name):
    fn = SMOOTH[name]
    program = rdu.compile(fn, X)
    np.testing.assert_allclose(program(X), fn(X), rtol=1e-5, atol=1e-5)
    weight = jnp.asarray(RNG.normal(size=fn(X).shape), jnp.float32)
    got, want = (jax.grad(lambda x, f=f: jnp.sum(f(x) * weight))(X) for f in (program, fn))
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", EXACT)
def test_exact_values(name):
    fn = EXACT[name]
    for ours, theirs in zip(jax.tree.leaves(rdu.compile(fn, X)(X)), jax.tree.leaves(fn(X)), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("fn", [jnp.nan_to_num, jnp.isnan, jnp.isinf, lambda x: jnp.where(jnp.isfinite(x), x, 0.0)])
def test_infinities_and_nan(fn):
    np.testing.assert_array_equal(rdu.compile(fn, SPOILT)(SPOILT), fn(SPOILT))


def test_one_hot_and_cross_entropy():
    np.testing.assert_array_equal(rdu.compile(lambda n: jax.nn.one_hot(n, 15), N)(N), jax.nn.one_hot(N, 15))

    def loss(x: jax.Array, n: jax.Array) -> jax.Array:
        return -jnp.mean(jnp.take_along_axis(jax.nn.log_softmax(x), n[:, None], 1))

    program = rdu.compile(loss, X, N)
    np.testing.assert_allclose(program(X, N), loss(X, N), rtol=1e-6)
    np.testing.assert_allclose(jax.grad(program)(X, N), jax.grad(loss)(X, N), rtol=1e-4, atol=1e-6)


def test_sampling_with_temperature_top_k_and_top_p():
    """The whole of a sampler: the same token as plain JAX for the same key."""

    def sample(key: jax.Array, logits: jax.Array) -> jax.Array:
        values, places = jax.lax.top_k(logits / 0.7, 10)
        kept = jnp.cumsum(jax.nn.softmax(values), axis=-1) - jax.nn.softmax(values) < 0.9
        drawn = jax.random.categorical(key, jnp.where(kept, values, -jnp.inf))
        return jnp.take_along_axis(places, drawn[:, None], 1)[:, 0]

    program = rdu.compile(sample, jax.random.key(0), X)
    for seed in range(4):
        key = jax.random.key(seed)
        np.testing.assert_array_equal(program(key, X), sample(key, X))


def test_the_update_of_adamw():
    """Moments, the power of a rate to a count, root and quotient, decay, and the norm that gradients are clipped to."""
    optax = pytest.importorskip("optax")
    tx = optax.chain(optax.clip_by_global_norm(1.0), optax.adamw(optax.warmup_cosine_decay_schedule(0.0, 1e-2, 3, 9)))
    params, grads = {"w": X, "b": X[0]}, {"w": jnp.sin(X), "b": jnp.cos(X[0])}
    state = tx.init(params)

    def step(params, state, grads):
        updates, state = tx.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    program = rdu.compile(step, params, state, grads)
    ours, theirs = (params, state), (params, state)
    for _ in range(3):
        ours, theirs = program(*ours, grads), step(*theirs, grads)
    for a, b in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
