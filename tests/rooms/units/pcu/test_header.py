"""The broadcast buffer: what is shown is what was loaded, full fits, and before the first load there is poison."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import CapacityError, ShapeError
from rdujax.ledger.counts import Counts, total
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.streams.layout import tiled, whole
from rdujax.streams.stream import untile
from rdujax.units.pcu import header
from rdujax.units.pcu.expression import Expression, Instruction
from rdujax.units.pcu.simd import simd
from tests.oracles import softfloat
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.units.streams_of import carriers, stream_of

CONFIG = tiny().pcu


@pytest.mark.parametrize("fmt", [BF16, FP32, INT32], ids=str)
def test_every_row_of_every_tile_shows_the_operand(fmt, rng):
    operand = carriers(rng, (5,), fmt)
    for layout in (whole((3, 4, 5)), tiled((3, 4, 5), (2, 3, 2), (2, 0, 1))):
        state, counts = header.load(header.init(CONFIG, (5,), fmt), jnp.asarray(operand))
        stream = jax.jit(header.multicast, static_argnums=1)(state, layout)
        assert (stream.layout, stream.fmt) == (layout, fmt)
        assert_same_bits(untile(stream), patterns(np.broadcast_to(operand, layout.shape).copy()))
        assert total(counts) == header.predict((5,), fmt) == Counts({"pcu.header_bytes": 5 * fmt.width_bytes})


def test_a_later_load_replaces_the_first_and_nothing_loaded_is_poison(rng):
    state = header.init(CONFIG, (2, 3), FP32)
    assert np.isnan(untile(header.multicast(state, whole((4, 2, 3))))).all()
    first, second = (jnp.asarray(carriers(rng, (2, 3), FP32)) for _ in range(2))
    state, _ = header.load(header.load(state, first)[0], second)
    np.testing.assert_array_equal(untile(header.multicast(state, whole((4, 2, 3)))), np.broadcast_to(second, (4, 2, 3)))


def test_a_held_bias_meets_a_stream_in_the_body(rng):
    x, bias = carriers(rng, (6, 5), BF16), carriers(rng, (5,), BF16)
    layout = tiled((6, 5), (4, 2))
    state, _ = header.load(header.init(CONFIG, (5,), BF16), jnp.asarray(bias))
    add = Expression((BF16, BF16), (Instruction("add", BF16, (0, 1)),))
    result, _ = simd(add, stream_of(x, layout, BF16), header.multicast(state, layout), how="vmap")
    want = softfloat.to_bf16(softfloat.add(x.view(np.uint32), np.broadcast_to(bias, x.shape).view(np.uint32)))
    assert_same_bits(untile(result), want)


def test_full_fits_and_one_value_more_is_refused():
    assert CONFIG.header_bytes.value == 64
    assert header.init(CONFIG, (16,), FP32).held.shape == (16,) and header.init(CONFIG, (32,), BF16)
    with pytest.raises(
        CapacityError, match=r"given:   68 bytes, 4 too many:\n.*68 bytes  operand.*\n  allowed: 64 bytes"
    ):
        header.init(CONFIG, (17,), FP32)
    with pytest.raises(CapacityError, match="66 bytes, 2 too many"):
        header.init(CONFIG, (33,), BF16)


def test_loading_takes_a_cycle_per_vector():
    assert [header.load_cycles(CONFIG, (n,), BF16) for n in (1, 4, 5, 8, 9)] == [1, 1, 2, 2, 3]
    assert [header.load_cycles(sn40l().pcu, (n,), FP32) for n in (16, 17)] == [1, 2]
    slope = jax.grad(lambda c: header.load_cycles(c, (9,), BF16))(jax.tree.map(jnp.float32, CONFIG))
    assert slope.lanes_bf16.value == pytest.approx(-18 / 2 / 4**2)


def test_the_gradient_of_an_operand_is_the_sum_over_its_rows(rng):
    weights = jnp.asarray(rng.normal(size=(4, 3)).astype(np.float32))

    def loss(operand):
        state, _ = header.load(header.init(CONFIG, (3,), FP32), operand)
        return (untile(header.multicast(state, tiled((4, 3), (3, 2)))) * weights).sum()

    np.testing.assert_allclose(jax.grad(loss)(jnp.ones(3)), weights.sum(0), rtol=1e-6)


def test_what_does_not_fit_together_is_refused():
    state = header.init(CONFIG, (3,), FP32)
    with pytest.raises(ShapeError, match=r"given:   float32\[4\]\n  allowed: float32\[3\], carriers of fp32"):
        header.load(state, jnp.zeros(4))
    with pytest.raises(ShapeError, match=r"given:   int32\[3\]"):
        header.load(state, jnp.zeros(3, jnp.int32))
    for layout in (whole((3, 4)), whole(())):
        with pytest.raises(ShapeError, match=r"operand \(3,\), stream .*\n  allowed: the last axes"):
            header.multicast(state, layout)
