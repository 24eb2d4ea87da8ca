"""Values travel with their bits, many senders are put in order, poison stays outside, and derivatives pass."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, UnknownNameError
from rdujax.ledger.counts import total
from rdujax.numerics.formats import BF16, BOOL, FORMATS, FP32, INT32
from rdujax.streams.layout import tiled, whole
from rdujax.streams.lift import EXECUTORS
from rdujax.streams.stream import POISON, Stream, untile
from rdujax.units.rdn import packets
from rdujax.units.rdn.mesh import Endpoint, Mesh, Port
from rdujax.units.rdn.routing import dimension_order, multicast
from rdujax.units.rdn.traffic import Flow, simulate
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.units.rdn.network_of import network, random_route
from tests.rooms.units.streams_of import carriers, stream_of

MESH = Mesh(4, 4)
SOURCE, TARGET = Endpoint(0, 0, Port.PMU), Endpoint(1, 2, Port.PMU)
ROUTE = multicast(MESH, SOURCE, [TARGET, Endpoint(3, 3, Port.AGCU)])
RAGGED, EVEN = tiled((5, 7), (2, 3), (1, 0)), tiled((4, 6), (2, 3))
LAYOUTS = [RAGGED, EVEN, tiled((3, 2, 5), (2, 2, 4)), whole(())]
each_format = pytest.mark.parametrize("fmt", [fmt for _, fmt in FORMATS.items()], ids=str)


def by_hand(tile, extent: np.ndarray, width: int, poison) -> np.ndarray:
    """Packets of one tile: its valid values one after another, then poison."""
    tile = np.asarray(tile)
    values = tile[tuple(slice(int(n)) for n in extent)].ravel().tolist()
    count = -(-tile.size // width) * width
    return np.array(values + [poison] * (count - len(values)), tile.dtype).reshape(-1, width)


@each_format
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_packets_hold_the_valid_values_densely_and_give_them_back(rng, layout, fmt):
    stream, extents = stream_of(carriers(rng, layout.shape, fmt), layout, fmt), jnp.asarray(layout.extents)

    def there_and_back(tile, extent, width):
        made = packets.packetize(tile, fmt, width, extent)
        return made, packets.depacketize(made, layout.tile, fmt, extent)

    def in_whole(tile, width):
        made = packets.packetize(tile, fmt, width)
        return made, packets.depacketize(made, layout.tile, fmt)

    for width in (4, 64):
        made, back = jax.jit(jax.vmap(partial(there_and_back, width=width)))(stream.data, extents)
        expected = [by_hand(*each, width, POISON[fmt]) for each in zip(stream.data, layout.extents, strict=True)]
        assert_same_bits(made, patterns(np.stack(expected)))
        assert_same_bits(back, patterns(stream.data))
        if not layout.is_ragged:
            for got, want in zip(
                jax.jit(jax.vmap(partial(in_whole, width=width)))(stream.data), (made, back), strict=True
            ):
                assert_same_bits(got, patterns(want))


def test_what_does_not_belong_to_a_tensor_never_travels():
    """Whatever lies in the tail of a tile, poison arrives there."""
    tile, extent = jnp.arange(12, dtype=jnp.float32).reshape(3, 4), jnp.array([2, 3], jnp.int32)
    made = packets.packetize(tile, FP32, 4, extent)
    assert_same_bits(made, patterns(by_hand(np.asarray(tile), np.array([2, 3]), 4, np.nan)))
    back = np.asarray(packets.depacketize(made, (3, 4), FP32, extent))
    assert np.array_equal(back[:2, :3], np.asarray(tile)[:2, :3])
    assert np.isnan(back[2]).all() and np.isnan(back[:, 3]).all()


@each_format
@pytest.mark.parametrize("how", EXECUTORS)
def test_each_target_gets_the_stream_and_the_tally_is_the_prediction(rng, how, fmt):
    config = network()
    for layout, fabric in ((RAGGED, "vector"), (EVEN, "scalar")):
        x = carriers(rng, layout.shape, fmt)
        sent = jax.jit(partial(packets.send, config, ROUTE, fabric=fabric, how=how))
        copies, counts = sent(stream_of(x, layout, fmt))
        assert len(copies) == 2
        for copy in copies:
            assert copy.layout == layout and copy.fmt is fmt
            assert np.array_equal(patterns(untile(copy)), patterns(x))
        assert counts["rdn.hops"].shape == (layout.n_tiles,)
        assert total(counts) == packets.predict(config, ROUTE, layout, fmt, fabric)


@pytest.mark.parametrize(
    ("fmt", "fabric", "per_packet"),
    [(BF16, "vector", 4), (FP32, "vector", 2), (INT32, "vector", 2), (BOOL, "vector", 8), (BF16, "scalar", 1)],
)
def test_packets_are_counted_by_the_valid_values(fmt, fabric, per_packet):
    """Tiles of 2 x 3 over 5 x 7: rows of 2, 2 and 1, columns of 3, 3 and 1."""
    config, sizes = network(), [rows * columns for rows in (2, 2, 1) for columns in (3, 3, 1)]
    expected = sum(-(-size // per_packet) for size in sizes)
    counts = packets.predict(config, ROUTE, RAGGED, fmt, fabric)
    assert packets.lanes(config, fabric, fmt) == per_packet
    assert counts[f"rdn.{fabric}_packets"] == expected and counts["rdn.hops"] == expected * ROUTE.hops


def test_predictions_do_not_overflow():
    layout = tiled((2**20, 2**21), (2**10, 2**21))
    assert packets.predict(network(), ROUTE, layout, FP32)["rdn.vector_packets"] == 2**40
    with pytest.raises(ArgumentError, match=r"too much for one step to be tallied[\s\S]*hops of a tile"):
        jax.eval_shape(
            lambda x: packets.send(network(), ROUTE, Stream(x, layout, FP32)),
            jax.ShapeDtypeStruct((2**10, 2**10, 2**21), jnp.float32),
        )


def test_the_derivatives_of_copies_are_summed(rng):
    layout = RAGGED
    x, a, b = (carriers(rng, layout.shape, FP32) for _ in range(3))

    def loss(x):
        first, second = packets.send(network(), ROUTE, stream_of(x, layout, FP32))[0]
        return (untile(first) * a + untile(second) * b).sum()

    assert np.array_equal(jax.jit(jax.grad(loss))(x), a + b)
    value, slope = jax.jit(lambda x: jax.jvp(loss, (x,), (x,)))(x)
    assert value == slope


def interleaved(traffic_order: list[tuple[int, int]], counts: list[int]) -> np.ndarray:
    """Indices into the packets of all senders, one sender after another, in order of arrival."""
    starts = np.concatenate([[0], np.cumsum(counts)])
    return np.array([starts[flow] + number for flow, number in traffic_order])


@pytest.mark.parametrize("arbitration", ["round_robin", "oldest"])
def test_packets_of_many_senders_are_put_in_order_whatever_the_network_did(rng, arbitration):
    """A tensor is dealt to four senders; the order of arrival is what the simulated network made of it."""
    config, width = network(hop_cycles=1, credits=3), 2
    mixed = 0
    counts = [13, 1, 8, 5]
    for _ in range(6):
        routes = [dimension_order(MESH, random_route(rng, MESH).source, TARGET) for _ in counts]
        flows = [Flow(route, n, int(rng.integers(0, 9))) for route, n in zip(routes, counts, strict=True)]
        order = simulate(config, flows, arbitration).order[TARGET]
        mixed += [flow for flow, _ in order] != sorted(flow for flow, _ in order)
        tensor = carriers(rng, (27, width), FP32)
        ids = np.split(rng.permutation(27).astype(np.int32), np.cumsum(counts)[:-1])
        sent = [jnp.asarray(tensor)[own] for own in ids]
        got, tally = packets.many_to_one(config, routes, sent, ids, FP32, interleaved(order, counts))
        assert_same_bits(got, patterns(tensor))
        hops = sum(n * route.hops for n, route in zip(counts, routes, strict=True))
        assert total(tally)["rdn.hops"] == hops and total(tally)["rdn.vector_packets"] == 27
    assert mixed >= 4
    assert_same_bits(packets.many_to_one(config, routes, sent, ids, FP32)[0], patterns(tensor))


def test_an_inbox_is_filled_in_any_number_of_steps(rng):
    x, ids = carriers(rng, (9, 4), BF16), rng.permutation(9).astype(np.int32)
    state = packets.inbox(9, 4, BF16)
    assert np.isnan(np.asarray(state.words)).all()
    for part in np.split(np.arange(9), [1, 5]):
        state = packets.receive(state, jnp.asarray(x)[ids[part]], ids[part])
    assert_same_bits(packets.deliver(state), patterns(x))
    many = jax.lax.scan(
        lambda s, each: (packets.receive(s, each[0][None], each[1][None]), None),
        packets.inbox(9, 4, BF16),
        (jnp.asarray(x)[ids], jnp.asarray(ids)),
    )[0]
    assert_same_bits(packets.deliver(many), patterns(x))


def test_words_at_rest_are_put_in_order():
    words = jnp.array([[3, 4], [1, 2]], jnp.uint16)
    assert packets.reorder(words, jnp.array([1, 0], jnp.int32), BF16).tolist() == [[1, 2], [3, 4]]
    lost = jax.jit(lambda ids: packets.reorder(words, ids, BF16))(jnp.array([1, 1], jnp.int32))
    assert lost.tolist() == [[0x7FC0] * 2] * 2


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([0, 1, 1], r"missing or came twice[\s\S]*missing ids \[2\], repeated ids \[1\]"),
        ([0, 1, 3], r"sequence ids outside the inbox[\s\S]*given:   \[3\]\n[\s\S]*0 to 2"),
        ([0, -1, 2], r"sequence ids outside the inbox[\s\S]*given:   \[-1\]"),
    ],
)
def test_wrong_ids_are_refused_where_known_and_poison_where_traced(ids, text):
    x, ids = jnp.arange(6, dtype=jnp.float32).reshape(3, 2), jnp.array(ids, jnp.int32)
    with pytest.raises(ArgumentError, match=text):
        packets.reorder(x, ids, FP32)
    got = np.asarray(jax.jit(lambda ids: packets.reorder(x, ids, FP32))(ids))
    expected = np.full((3, 2), np.nan, np.float32)
    for place in range(3):
        own = np.flatnonzero(np.asarray(ids) == place)
        if len(own) == 1:
            expected[place] = x[own[0]]
    assert_same_bits(got, patterns(expected))
    slope = jax.jit(jax.grad(lambda x, ids: jnp.nansum(packets.reorder(x, ids, FP32))))(x, ids)
    assert np.isfinite(slope).all()


def test_the_derivative_of_an_order_is_the_other_order(rng):
    x, weights = carriers(rng, (7, 3), FP32), carriers(rng, (7, 3), FP32)
    ids = jnp.asarray(rng.permutation(7).astype(np.int32))
    slope = jax.jit(jax.grad(lambda x: (packets.reorder(x, ids, FP32) * weights).sum()))(jnp.asarray(x))
    assert np.array_equal(slope, weights[np.asarray(ids)])


def test_wrong_types_and_shapes_are_refused():
    x, ids, box = jnp.zeros((3, 2)), jnp.arange(3, dtype=jnp.int32), packets.inbox(3, 2, FP32)
    with pytest.raises(FormatError, match=r"wrong types[\s\S]*ids uint32, packets float32[\s\S]*ids int32"):
        packets.receive(box, x, jnp.arange(3, dtype=jnp.uint32))
    with pytest.raises(FormatError, match=r"wrong types[\s\S]*packets int32[\s\S]*packets float32"):
        packets.receive(box, jnp.zeros((3, 2), jnp.int32), ids)
    with pytest.raises(ShapeError, match=r"packets without their ids[\s\S]*ids \(3,\), packets \(2, 2\)"):
        packets.receive(box, x[:2], ids)
    with pytest.raises(ShapeError, match=r"packets that are not those of a tile[\s\S]*\(3, 2\)"):
        packets.depacketize(x, (7,), FP32)
    with pytest.raises(UnknownNameError, match=r"unknown fabric of packets[\s\S]*did you mean 'vector'"):
        packets.lanes(network(), "vectors", FP32)
    with pytest.raises(FormatError, match=r"does not fit into a scalar packet[\s\S]*fp32, 4 bytes[\s\S]*2 bytes"):
        packets.lanes(network(scalar_bytes=2), "scalar", FP32)
    assert packets.lanes(network(scalar_bytes=2), "scalar", BF16) == 1


def test_senders_of_several_receivers_are_refused():
    x, ids = jnp.zeros((1, 2)), jnp.zeros(1, jnp.int32)
    one, other = dimension_order(MESH, SOURCE, TARGET), dimension_order(MESH, TARGET, SOURCE)
    for routes in ([one, other], [ROUTE, ROUTE], []):
        with pytest.raises(ArgumentError, match="senders of several receivers"):
            packets.many_to_one(network(), routes, [x] * len(routes), [ids] * len(routes), FP32)
    with pytest.raises(ShapeError, match=r"2 routes, 1 arrays of packets, 2 of ids"):
        packets.many_to_one(network(), [one, one], [x], [ids, ids], FP32)


@pytest.mark.parametrize("arrival", [[1], [0, 5], [0, 0], [0, -1], [0.0, 1.0], []], ids=str)
def test_an_arrival_that_loses_or_repeats_a_packet_is_refused(arrival):
    route = dimension_order(MESH, SOURCE, TARGET)
    x, ids = jnp.arange(4, dtype=jnp.float32).reshape(2, 2), jnp.array([1, 0], jnp.int32)
    with pytest.raises(ArgumentError, match=r"loses or repeats a packet[\s\S]*each of 0 to 1 once"):
        packets.many_to_one(network(), [route], [x], [ids], FP32, np.asarray(arrival))
    assert packets.many_to_one(network(), [route], [x], [ids], FP32, np.array([1, 0]))[0].tolist() == [[2, 3], [0, 1]]


@pytest.mark.parametrize(("fmt", "fabric", "most"), [(FP32, "vector", 2), (BF16, "vector", 4), (FP32, "scalar", 1)])
def test_packets_wider_than_the_fabric_are_refused(fmt, fabric, most):
    route, ids = dimension_order(MESH, SOURCE, TARGET), jnp.arange(3, dtype=jnp.int32)
    packets.many_to_one(network(), [route], [jnp.zeros((3, most))], [ids], fmt, fabric=fabric)
    for x in (jnp.zeros((3, most + 1)), jnp.zeros((3, 1, 1))):
        with pytest.raises(ShapeError, match=rf"that the {fabric} fabric does not carry[\s\S]*allowed: 1 to {most}"):
            packets.many_to_one(network(), [route], [x], [ids], fmt, fabric=fabric)
    with pytest.raises(UnknownNameError, match="unknown fabric of packets"):
        packets.many_to_one(network(), [route], [jnp.zeros((3, 1))], [ids], fmt, fabric="vectors")
