"""Derivatives of programs: close to plain JAX's, alike for every fusion, and through every transformation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from tests.laws.programs.drawn import FAMILIES, is_float, of_family, of_floats
from tests.rooms.compiler.samples import Sample, random_sample, samples, small


def in_fp32(sample: Sample) -> Sample:
    """The same program in FP32, where plain JAX walks through nearly the same values however many steps there are."""
    return Sample(sample.name, sample.fn, tuple(x.astype(jnp.float32) for x in sample.args))


FLOATS = [*samples()[:4], *(in_fp32(random_sample(seed)) for seed in range(2))]


def cosine(ours, theirs) -> float:
    """Of two pytrees laid out as vectors."""
    a, b = (np.concatenate([np.asarray(x, np.float64).ravel() for x in jax.tree.leaves(t)]) for t in (ours, theirs))
    return float(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def loss(fn, *args):
    """A weighted sum of squares, so that every output matters."""
    y = fn(*args).astype(jnp.float32)
    return (y * y * jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape)).sum()


@pytest.mark.parametrize("sample", FLOATS, ids=lambda s: s.name.partition(":")[0])
def test_gradients_agree_with_plain_jax(sample: Sample):
    """Every operand's gradient, against plain JAX on the same values in FP32."""
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    every = tuple(range(len(sample.args)))
    ours = jax.jit(jax.grad(lambda *xs: loss(program, *xs), every))(*sample.args)
    single = [x.astype(jnp.float32) for x in sample.args]
    theirs = jax.grad(lambda *xs: loss(sample.fn, *xs), every)(*single)
    for mine, other, x in zip(ours, theirs, sample.args, strict=True):
        assert mine.dtype == x.dtype and mine.shape == x.shape
        assert np.linalg.norm(np.asarray(other)) > 0
        assert cosine(mine, other) > (0.99999 if x.dtype == jnp.float32 else 0.999)


@pytest.mark.parametrize("fusion", ["none", rdu.cut_after()])
def test_gradients_do_not_depend_on_the_fusion(fusion):
    """Cotangents are FP32 where the program is fused; only the views between kernels could differ."""
    sample = samples()[1]
    fused = rdu.compile(sample.fn, *sample.args, machine="sn40l")
    other = fused.replace(fusion=fusion)
    every = (0, 1, 2, 3)
    ours, theirs = (jax.grad(lambda *xs, p=p: loss(p, *xs), every)(*sample.args) for p in (fused, other))
    assert cosine(ours, theirs) > 1 - 1e-9


def test_forward_reverse_and_second_order_agree():
    sample = samples()[1]  # FP32: quotients of differences are steep in BF16's steps
    program = rdu.compile(sample.fn, *sample.args, machine=small())

    def along(x):
        return loss(lambda x: program(x, *sample.args[1:]), x)

    x = sample.args[0]
    v = jnp.ones_like(x)
    forward = jax.jvp(along, (x,), (v,))[1]
    reverse = jax.grad(along)(x)
    assert float(forward) == pytest.approx(float((reverse * v).sum()), rel=1e-4)
    curved = jax.jvp(jax.grad(along), (x,), (v,))[1]
    plain = jax.jvp(jax.grad(lambda x: loss(lambda x: sample.fn(x, *sample.args[1:]), x)), (x,), (v,))[1]
    assert cosine(curved, plain) > 0.99999
    remat = jax.grad(jax.checkpoint(along))(x)
    assert cosine(remat, reverse) > 1 - 1e-9
    stacked = jax.vmap(jax.grad(along))(jnp.stack([x, 2 * x]))
    assert cosine(stacked[0], reverse) > 1 - 1e-9


def test_the_value_under_grad_has_the_bits_of_a_call():
    sample = samples()[2]
    program = rdu.compile(sample.fn, *sample.args, machine=small())
    primal, _ = jax.vjp(lambda *xs: program(*xs), *sample.args)
    assert np.array_equal(np.asarray(primal).view(np.uint16), np.asarray(program(*sample.args)).view(np.uint16))


IN_QUICK = ("loops", "running logs", "updates")
RANDOM = [pytest.param(name, marks=() if name in IN_QUICK else pytest.mark.full) for name in FAMILIES]


def weighted(fn, args):
    """(the sum of all floating results, each with a weight of its own, as a function of arrays of floats, these)."""
    of, floats = of_floats(fn, args)

    def total(*xs):
        results = [y for y in jax.tree.leaves(of(*xs)) if is_float(y)]
        weights = [jnp.cos(jnp.arange(y.size, dtype=y.dtype)).reshape(y.shape) for y in results]
        return sum(((y * w).sum() for y, w in zip(results, weights, strict=True)), jnp.float32(0))

    return total, floats


def assert_close_slopes(ours, theirs) -> None:
    """Within 2^12 times the precision of FP32 of each other's length."""
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        mine, other = np.asarray(mine, np.float64), np.asarray(other, np.float64)
        assert np.linalg.norm(mine - other) <= 2.0**-12 * np.linalg.norm(other)


@pytest.mark.parametrize("name", RANDOM)
def test_derivatives_of_random_programs_are_those_of_plain_jax(name: str):
    """Of every family, all in FP32: forwards, and in reverse unless a `while` loop turns, which JAX refuses.

    Without `reduce_precision`, whose slope JAX rounds as well: here it passes through.
    """
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        program = of_family(name, without="reduce_precision")
        fn, args = program.function.compiled(BF16=jnp.float32), program.drawn(BF16=jnp.float32)
        ours, floats = weighted(rdu.compile(fn, *args, machine="tiny"), args)
        theirs, _ = weighted(fn, args)
        along = tuple(jnp.ones_like(x) for x in floats)
        slopes = (jax.jit(lambda *xs, f=f: jax.jvp(f, xs, along)[1])(*floats) for f in (ours, theirs))
        assert_close_slopes(*slopes)
        if "while_loop" not in program.source:
            every = tuple(range(len(floats)))
            assert_close_slopes(*(jax.jit(jax.grad(f, every))(*floats) for f in (ours, theirs)))
