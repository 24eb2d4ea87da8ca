"""The tail against softfloat, MPFR and a generator in NumPy: bits, independence from tiles, fair rounding."""

import json
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, UnknownNameError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.streams.layout import Layout, tiled, whole
from rdujax.streams.stream import POISON, Stream, untile
from rdujax.units.pcu import tail as tails
from rdujax.units.pcu.tail import Tail, cycles, draw, generator, predict, tail
from tests.oracles import softfloat, special_reference, vectors
from tests.oracles import threefry_reference as threefry
from tests.oracles.harness import assert_same_bits, patterns, raw
from tests.rooms.units.compiles import assert_compiles_once
from tests.rooms.units.streams_of import carriers, stream_of
from tests.storeys.source import ROOT

SEED = 0x0123456789ABCDEF
STOCHASTIC = Tail(BF16, rounding="stochastic")
LAYOUTS = [whole((5, 7)), tiled((5, 7), (2, 3)), tiled((5, 7), (5, 2), (1, 0)), tiled((5, 7), (1, 7))]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_stochastic_rounding_is_that_of_the_law_however_cut(layout: Layout):
    run = jax.jit(lambda state, s, how: tail(STOCHASTIC, state, s, how), static_argnums=2)
    for kind in ("normal", "specials", "tiny", "huge"):
        bits = vectors.carriers(kind, layout.shape, 4)
        state = generator(SEED)
        for turn, how in enumerate(("vmap", "scan")):
            state, stream, counts = run(state, stream_of(raw(bits), layout, FP32), how)
            noise = threefry.of_elements(SEED, turn, layout.shape) & 0xFFFF
            assert stream.fmt is BF16 and int(state.draw) == turn + 1
            assert_same_bits(untile(stream), softfloat.to_bf16_stochastic(bits, noise), note=f"{kind} {how}")
            assert total(counts) == predict(STOCHASTIC, layout.shape, FP32)


def test_a_value_that_bf16_holds_is_not_changed(rng):
    every = np.arange(1 << 16, dtype=np.uint32) << 16
    bits = vectors.bf16(every).reshape(256, 256)
    _, stream, _ = tail(STOCHASTIC, generator(3), stream_of(raw(bits), whole((256, 256)), FP32))
    assert_same_bits(untile(stream), bits)


def test_the_rounding_is_fair():
    """Of 2^16 elements at a distance f between two BF16 neighbours, a share f goes up, within 5 standard deviations."""
    n = 1 << 16
    for seed, share in enumerate((1, 0x1000, 0x8000, 0xC000, 0xFFFF)):
        for base in (0x3F80, 0xC2AB):
            word = np.full((n,), base << 16 | share, np.uint32)
            _, stream, _ = tail(STOCHASTIC, generator(seed), stream_of(raw(word), whole((n,)), FP32))
            found = patterns(untile(stream)) >> 16
            assert set(found.tolist()) <= {base, base + 1}
            chance = share / 2**16
            assert abs(np.mean(found == base + 1) - chance) <= 5 * np.sqrt(chance * (1 - chance) / n)


def test_draws_and_seeds_differ_and_repeat():
    layout = whole((64, 64))
    state, first, _ = draw(generator(5), layout)
    _, second, _ = draw(state, layout)
    _, again, _ = draw(generator(5), layout)
    _, other, _ = draw(generator(6), layout)
    assert_same_bits(untile(again), np.asarray(untile(first)))
    assert (untile(first) != untile(second)).mean() > 0.99 and (untile(first) != untile(other)).mean() > 0.99
    bits = np.unpackbits(np.asarray(untile(first)).view(np.uint8))
    assert abs(bits.mean() - 0.5) < 5 * 0.5 / np.sqrt(bits.size)


@pytest.mark.parametrize("how", ["vmap", "scan"])
def test_random_numbers_are_those_of_the_law(how):
    layout = tiled((9, 10), (4, 3), (1, 0))
    want = threefry.of_elements(SEED, 0, layout.shape)
    state, stream, counts = draw(generator(SEED), layout, INT32, how)
    assert_same_bits(untile(stream), want.view(np.int32))
    assert total(counts) == Counts({"pcu.random_words": 90})
    assert int(stream.data[-1, -1, -1]) == POISON[INT32]
    _, stream, _ = draw(generator(SEED), layout, FP32, how)
    assert_same_bits(untile(stream), ((want >> 8).astype(np.float64) * 2.0**-24).astype(np.float32).view(np.uint32))
    assert int(state.draw) == 1


def test_tensors_mapped_over_share_the_words_of_one_generator(rng):
    x = carriers(rng, (3, 4, 5), FP32)
    layout = tiled((4, 5), (3, 2))

    def run(state, v):
        return untile(tail(STOCHASTIC, state, stream_of(v, layout, FP32), "vmap")[1])

    alone = [np.asarray(run(generator(SEED), jnp.asarray(v))) for v in x]
    together = jax.vmap(run, in_axes=(None, 0))(generator(SEED), jnp.asarray(x))
    assert_same_bits(together, np.stack(alone).view(np.uint32))
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), generator(1), generator(SEED))
    each = jax.vmap(run, in_axes=(0, None))(states, jnp.asarray(x[0]))
    assert_same_bits(each[1], alone[0].view(np.uint32))
    assert (patterns(each[0]) != patterns(each[1])).any()


ON_DEVICES = """
import json, jax, numpy as np
from jax.sharding import NamedSharding, PartitionSpec
from rdujax.numerics.formats import BF16, FP32
from rdujax.streams import stream as streams
from rdujax.units.pcu.tail import Tail, generator, tail
mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
x = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
config = Tail(BF16, rounding="stochastic")
run = jax.jit(lambda v: streams.untile(tail(config, generator(9), streams.tile(v, (4, 8), fmt=FP32), "vmap")[1]))
found = [np.asarray(run(jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec))))).view(np.uint32).ravel().tolist()
         for spec in ((), ("d",), (None, "d"))]
print(json.dumps([jax.device_count(), found]))
"""


def test_the_words_do_not_depend_on_devices():
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", ON_DEVICES], cwd=ROOT, env={**os.environ, **flags}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    devices, found = json.loads(done.stdout.splitlines()[-1])
    x = np.random.default_rng(1).normal(size=(16, 8)).astype(np.float32)
    want = softfloat.to_bf16_stochastic(x.view(np.uint32), threefry.of_elements(9, 0, (16, 8)) & 0xFFFF)
    assert devices == 8 and all(each == want.ravel().tolist() for each in found)


@pytest.mark.parametrize("name", ["exp", "rsqrt", "gelu"])
def test_functions_are_those_of_the_registry_then_converted(name: str, rng):
    layout = tiled((6, 10), (4, 4))
    x = np.abs(carriers(rng, layout.shape, BF16)) + np.float32(0)
    x = raw(softfloat.to_bf16(np.clip(x, 0.01, 60).astype(np.float32).view(np.uint32)))
    _, stream, counts = tail(Tail(FP32, (name,)), None, stream_of(x, layout, BF16, packed=True), "vmap")
    want = special_reference.bf16_words(name, x).reshape(layout.shape).astype(np.uint32) << 16
    assert stream.fmt is FP32
    assert_same_bits(untile(stream), want)
    assert total(counts) == Counts({"pcu.tail_operations": 120}) == predict(Tail(FP32, (name,)), layout.shape, BF16)


CONVERSIONS = {
    (FP32, BF16): softfloat.to_bf16,
    (FP32, INT32): softfloat.to_int32,
    (INT32, FP32): softfloat.from_int32,
    (INT32, BF16): lambda x: softfloat.to_bf16(softfloat.from_int32(x)),
    (BF16, FP32): lambda bits: bits,
}


@pytest.mark.parametrize(("source", "target"), CONVERSIONS, ids=lambda f: f.name)
def test_conversions(source, target, rng):
    layout = tiled((5, 9), (2, 4), (1, 0))
    x = carriers(rng, layout.shape, source)
    _, stream, counts = tail(Tail(target), None, stream_of(x, layout, source), "vmap")
    assert_same_bits(untile(stream), CONVERSIONS[source, target](patterns(x)))
    assert total(counts) == Counts({"pcu.tail_operations": 45})
    poison = np.asarray(stream.data)[stream.layout.places[-1, -1], -1, -1]
    assert np.isnan(poison) if target.is_float else poison == POISON[target]


def test_nothing_to_do_costs_nothing_and_changes_nothing(rng):
    x = carriers(rng, (4,), FP32)
    state, stream, counts = tail(Tail(FP32), generator(1), stream_of(x, whole((4,)), FP32))
    assert int(state.draw) == 0 and total(counts) == Counts()
    assert_same_bits(untile(stream), x.view(np.uint32))


def test_derivatives_pass_rounding_and_functions_and_not_poison(rng):
    x = jnp.asarray(rng.normal(size=(5, 3)).astype(np.float32))
    layout = tiled((5, 3), (2, 2))

    def loss(v, config):
        return untile(tail(config, generator(2), stream_of(v, layout, FP32), "vmap")[1]).sum()

    grad = jax.jit(jax.grad(loss), static_argnums=1)
    np.testing.assert_array_equal(grad(x, STOCHASTIC), np.ones((5, 3)))
    slope = grad(x, Tail(BF16, ("exp",), "stochastic"))
    np.testing.assert_allclose(slope, np.exp(x), rtol=1e-5)
    assert np.isfinite(jax.jit(jax.hessian(loss), static_argnums=1)(x, Tail(FP32, ("exp",)))).all()


def test_cycles_of_a_tail():
    for config in (tiny().pcu, sn40l().pcu):
        for fmt, of in ((BF16, Tail(BF16, ("exp",))), (FP32, STOCHASTIC), (FP32, Tail(BF16, ("exp", "log")))):
            lane_count = (config.lanes_bf16 if fmt is BF16 else config.lanes_32bit).value
            stages = len(of.functions) + (fmt is not of.output)
            for elements in (1, lane_count, lane_count + 1):
                vectors_in = range(0, elements, lane_count)
                assert cycles(config, of, fmt, elements) == max(t + stages for t, _ in enumerate(vectors_in))


def test_what_a_tail_cannot_do_is_refused(rng):
    stream = stream_of(carriers(rng, (4,), BF16), whole((4,)), BF16)
    with pytest.raises(UnknownNameError, match="unknown function of a tail\n  given:   'add'"):
        Tail(BF16, ("add",))
    with pytest.raises(UnknownNameError, match="unknown rounding"):
        Tail(BF16, rounding="up")  # pyright: ignore[reportArgumentType]
    with pytest.raises(FormatError, match="other formats\n  given:   bf16 to bf16\n  allowed: fp32 to bf16"):
        tail(STOCHASTIC, generator(0), stream)
    with pytest.raises(ArgumentError, match="without random words\n  given:   no generator\n  do:      pass generator"):
        tail(STOCHASTIC, None, stream_of(carriers(rng, (4,), FP32), whole((4,)), FP32))
    with pytest.raises(FormatError, match="random numbers of another format\n  given:   bool"):
        draw(generator(0), whole((4,)), BOOL)
    with pytest.raises(FormatError, match="exp does not exist in this format"):
        tail(Tail(INT32, ("exp",)), None, stream_of(carriers(rng, (4,), INT32), whole((4,)), INT32))
    for seed in (-1, 2**64):
        with pytest.raises(ArgumentError, match=r"allowed: 0 up to 2\^64 - 1"):
            generator(seed)


def test_a_step_is_refused_what_a_tail_is():
    tile, places = jnp.ones(3, jnp.float32), jnp.arange(3, dtype=jnp.uint32)
    with pytest.raises(ArgumentError, match="without random words\n  given:   no generator"):
        tails.step(STOCHASTIC, None, tile, places, FP32)
    with pytest.raises(FormatError, match="other formats\n  given:   bf16 to bf16\n  allowed: fp32 to bf16"):
        tails.step(STOCHASTIC, generator(0), tile, places, BF16)


def test_an_eager_call_compiles_once(rng):
    layout, state = tiled((5, 9), (2, 4)), generator(3)
    stream = stream_of(carriers(rng, layout.shape, FP32), layout, FP32)
    assert_compiles_once(lambda: tail(STOCHASTIC, state, stream, "scan"))
    assert_compiles_once(lambda: tail(Tail(BF16), None, stream, "scan"))
    assert_compiles_once(lambda: draw(state, layout, how="scan"))


def test_tensors_beyond_a_counter_word_are_refused_and_full_fits():
    big = Layout((2**17, 2**15), (2**17, 2**15), (0, 1))
    stream = jax.eval_shape(lambda: Stream(jnp.zeros((1, *big.tile), jnp.float32), big, FP32))
    run = lambda s: tail(STOCHASTIC, generator(0), s, tally=False)[1]  # noqa: E731
    assert jax.eval_shape(run, stream).fmt is BF16
    over = Layout((2**17, 2**15 + 1), (2**17, 2**15 + 1), (0, 1))
    with pytest.raises(ArgumentError, match="more elements than a counter word tells apart"):
        jax.eval_shape(run, jax.eval_shape(lambda: Stream(jnp.zeros((1, *over.tile), jnp.float32), over, FP32)))


def test_places_are_row_major_indices_beyond_two_gibielements():
    layout = Layout((3, 2**30, 1), (1, 2, 1), (0, 1, 2))
    places = jax.jit(lambda at: tails._places(layout, at))(jnp.asarray([2, 2**30 - 2, 0], jnp.uint32))
    assert np.asarray(places).ravel().tolist() == [2 * 2**30 + 2**30 - 2, 2 * 2**30 + 2**30 - 1]
