"""Values of collectives: against sockets that are followed hop by hop, and the same wherever they are emulated."""

import doctest

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, UnknownNameError
from rdujax.ledger.counts import Counts, total
from rdujax.numerics import convert
from rdujax.numerics.contract import contract
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32
from rdujax.units.p2p import collective_times, collective_traffic, collectives
from rdujax.units.p2p.collective_traffic import Collective, predict
from rdujax.units.p2p.collectives import Group
from tests.oracles import sockets
from tests.oracles.harness import assert_same_bits, patterns, raw
from tests.rooms.units.streams_of import carriers
from tests.storeys.raw_equations import raw_equations

FORMATS = {"fp32": FP32, "bf16": BF16, "int32": INT32}
ORDERS = ["chain", "ring", "tree"]
SPECIAL = np.array([0x7FC00001, 0xFF800000, 0x7F800000, 0x80000000, 0x00000001, 0x7F7FFFFF, 0x00800000], np.uint32)
NAMED = {"leading": Group(), "named": Group("s")}


def values(rng: np.random.Generator, n: int, shape: tuple[int, ...], fmt: str = "fp32") -> np.ndarray:
    """Operands of n sockets; one in ten floats is a special pattern, denormals and odd NaNs among them."""
    x = carriers(rng, (n, *shape), FORMATS[fmt])
    if fmt != "fp32":
        return x
    return raw(np.where(rng.random(x.shape) < 0.1, rng.choice(SPECIAL, x.shape), patterns(x)))


def over(group: Group, fn):
    """`fn(x, group=...)` on operands [n, ...], by the leading axis or along a named one."""
    named = jax.vmap(lambda x: fn(x, group=group), axis_name="s")
    return jax.jit(named if group.axis_name else lambda x: fn(x, group=group))


def sent(log: sockets.Log, n: int) -> np.ndarray:
    """[n, 3]: elements sent, messages, elements combined, of each socket."""
    return np.array([log.of(socket) for socket in range(n)])


@pytest.mark.parametrize(
    ("group", "wire", "out"),
    [
        (Group(), "fp32", "bf16"),
        (Group(), "bf16", "fp32"),
        (Group("s"), "bf16", "bf16"),
        pytest.param(Group(), "fp32", "fp32", marks=pytest.mark.full),
        pytest.param(Group("s"), "fp32", "bf16", marks=pytest.mark.full),
    ],
)
@pytest.mark.parametrize("order", ORDERS)
def test_sums_have_the_bits_and_the_messages_of_sockets_that_are_followed(rng, order, wire, out, group):
    x = values(rng, 4, (5, 7))
    want, first, second = sockets.all_reduce(patterns(x), order=order, wire=wire, out=out)
    settings = {"order": order, "wire": FORMATS[wire], "out": FORMATS[out]}
    got, counts = over(group, lambda x, group: collectives.all_reduce(x, FP32, **settings, group=group))(x)
    assert_same_bits(got, want)
    halves = sent(first, 4), sent(second, 4)
    widths = FORMATS[wire].width_bytes, FORMATS[out].width_bytes
    assert np.array_equal(counts["p2p.sent_bytes"], halves[0][:, 0] * widths[0] + halves[1][:, 0] * widths[1])
    assert np.array_equal(counts["p2p.messages"], halves[0][:, 1] + halves[1][:, 1])
    assert np.array_equal(counts["pcu.simd_operations"], halves[0][:, 2])


@pytest.mark.parametrize("n", [1, 3, 4, *(pytest.param(n, marks=pytest.mark.full) for n in (2, 5, 7, 8, 16))])
@pytest.mark.parametrize("order", ORDERS)
def test_any_number_of_sockets_and_of_elements(rng, order, n):
    if order == "tree" and n & (n - 1):
        with pytest.raises(ArgumentError, match="halving needs a power of two of sockets"):
            collectives.all_reduce(np.zeros((n, 4), np.float32), FP32, order=order)
        return
    for size in (3, 16):
        x = values(rng, n, (size,))
        got, counts = collectives.all_reduce(x, FP32, order=order)
        want, first, second = sockets.all_reduce(patterns(x), order=order)
        assert_same_bits(got, want, note=f"{n} sockets, {size} elements")
        elements, messages, combined = (sent(first, n) + sent(second, n)).sum(0)
        counted = {"p2p.sent_bytes": 4 * elements, "p2p.messages": messages, "pcu.simd_operations": combined}
        assert total(counts) == Counts({name: int(amount) for name, amount in counted.items()})
        assert total(counts) == predict(Collective("all_reduce", n, size, 4, collectives.ROUTE_OF[order]))


@pytest.mark.parametrize("op", ["max", "min"])
@pytest.mark.parametrize("order", ORDERS)
def test_extrema_are_those_of_the_order_of_numbers_in_any_order(rng, order, op):
    x = values(rng, 4, (40,))
    want, _, _ = sockets.all_reduce(patterns(x), op=op, order=order, out="bf16")
    assert_same_bits(collectives.all_reduce(x, FP32, op=op, order=order, out=BF16)[0], want)


@pytest.mark.parametrize("op", ["sum", "max", "min"])
def test_integers_wrap_and_know_no_order(rng, op):
    x = values(rng, 4, (9,), "int32")
    want, _, _ = sockets.all_reduce(x, op=op, wire="int32", out="int32")
    for order in ("chain", "ring"):
        assert np.array_equal(collectives.all_reduce(x, INT32, op=op, order=order)[0], want)


def test_one_shot_has_the_bits_of_two_and_n_times_the_traffic(rng):
    x = values(rng, 4, (8,))
    want, first, _ = sockets.all_reduce(patterns(x), shots=1, wire="bf16", out="bf16")
    got, counts = collectives.all_reduce(x, FP32, shots=1, wire=BF16, out=BF16)
    assert_same_bits(got, want)
    assert_same_bits(collectives.all_reduce(x, FP32, wire=BF16, out=BF16)[0], want)
    assert np.array_equal(counts["p2p.sent_bytes"], 2 * sent(first, 4)[:, 0])
    assert np.array_equal(counts["pcu.simd_operations"], sent(first, 4)[:, 2])
    assert total(counts) == predict(Collective("all_reduce", 4, 8, 2, "oneshot"))


def test_the_orders_are_really_different(rng):
    """Otherwise the tests of bits could not tell one from another."""
    x = rng.normal(size=(4, 100)).astype(np.float32)
    bits = [patterns(collectives.all_reduce(x, FP32, order=order)[0]) for order in ORDERS]
    wired = patterns(collectives.all_reduce(x, FP32, order="ring", wire=BF16)[0])
    assert all(
        (a != b).any() for a, b in ((bits[0], bits[1]), (bits[1], bits[2]), (bits[0], bits[2]), (bits[1], wired))
    )


@pytest.mark.parametrize("n", [4, pytest.param(2, marks=pytest.mark.full), pytest.param(8, marks=pytest.mark.full)])
def test_a_contraction_over_sockets_is_a_contraction_split_over_k(rng, n):
    """Tensor parallelism: each socket contracts its segment of K, and the chain of the sums is that of N8."""
    a, b = carriers(rng, (6, 40), BF16), carriers(rng, (40, 9), BF16)
    segments = jnp.moveaxis(jnp.asarray(a).reshape(6, n, -1), 1, 0), jnp.asarray(b).reshape(n, -1, 9)
    summed, _ = collectives.all_reduce(contract(*segments), FP32, out=BF16)
    whole = convert.round_to(contract(a, b, k_splits=n), BF16)
    assert_same_bits(summed, np.broadcast_to(patterns(whole), (n, 6, 9)))


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize(("axis", "group"), [(0, Group("s")), (1, Group()), (-1, Group("s"))])
def test_reduce_scatter_gives_each_socket_its_part_of_an_axis(rng, axis, order, group):
    x = values(rng, 4, (8, 12))
    parts = [[np.ascontiguousarray(p) for p in np.split(patterns(mine), 4, axis)] for mine in x]
    log = sockets.Log()
    want = sockets.reduce_scatter(parts, sockets.softfloat.add, order, sockets.ROUND["fp32"], log)
    step = over(group, lambda x, group: collectives.reduce_scatter(x, FP32, axis=axis, order=order, group=group))
    got, counts = step(x)
    assert_same_bits(got, np.stack(want))
    assert np.array_equal(counts["p2p.sent_bytes"], 4 * sent(log, 4)[:, 0])
    assert np.array_equal(counts["p2p.messages"], sent(log, 4)[:, 1])
    assert np.array_equal(counts["pcu.simd_operations"], sent(log, 4)[:, 2])
    assert total(counts) == predict(Collective("reduce_scatter", 4, 96, 4, collectives.ROUTE_OF[order]))


@pytest.mark.parametrize("group", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize(
    ("route", "fmt"), [("direct", "fp32"), ("ring", "bf16 words"), ("halving", "int32"), ("ring", "fp32")]
)
def test_all_gather_joins_in_the_order_of_the_sockets(rng, fmt, route, group):
    x = rng.integers(0, 2**32, (4, 3, 5), dtype=np.uint32)
    x = {"fp32": raw(x), "bf16 words": (x >> 16).astype(np.uint16), "int32": x.view(np.int32)}[fmt]
    form = FORMATS[fmt.split()[0]]
    log = sockets.Log()
    want = sockets.all_gather([np.asarray(mine) for mine in x], route, log)
    for axis in (0, 1):
        step = over(group, lambda x, group: collectives.all_gather(x, form, axis=axis, route=route, group=group))  # noqa: B023
        got, counts = step(x)
        assert np.array_equal(patterns(got), patterns(np.stack([np.concatenate(each, axis) for each in want])))
        assert np.array_equal(counts["p2p.sent_bytes"], form.width_bytes * sent(log, 4)[:, 0])
        assert np.array_equal(counts["p2p.messages"], sent(log, 4)[:, 1])
        assert total(counts) == predict(Collective("all_gather", 4, 60, form.width_bytes, route))


@pytest.mark.parametrize("group", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize(("split", "concat"), [(0, 0), (0, 1), (1, 0), (-1, 1)])
def test_all_to_all_deals_parts_out(rng, split, concat, group):
    x = rng.integers(0, 2**32, (4, 8, 4), dtype=np.uint32)
    want = [np.concatenate([np.split(mine, 4, split)[s] for mine in x], concat) for s in range(4)]
    settings = {"split_axis": split, "concat_axis": concat}
    got, counts = over(group, lambda x, group: collectives.all_to_all(x, FP32, **settings, group=group))(raw(x))
    assert np.array_equal(patterns(got), np.stack(want))
    assert np.array_equal(counts["p2p.sent_bytes"], [4 * 24] * 4) and np.array_equal(counts["p2p.messages"], [3] * 4)
    assert total(counts) == predict(Collective("all_to_all", 4, 32, 4))


@pytest.mark.parametrize("group", NAMED.values(), ids=NAMED)
@pytest.mark.parametrize("root", [0, 2])
def test_broadcast_copies_the_root(rng, root, group):
    x = rng.integers(0, 2**32, (4, 3), dtype=np.uint32)
    senders = {
        "direct": [3 if s == root else 0 for s in range(4)],
        "ring": [int(s != (root - 1) % 4) for s in range(4)],
    }
    for route, messages in senders.items():
        step = over(group, lambda x, group: collectives.broadcast(x, FP32, root=root, route=route, group=group))  # noqa: B023
        got, counts = step(raw(x))
        assert np.array_equal(patterns(got), np.broadcast_to(x[root], x.shape))
        assert np.array_equal(counts["p2p.messages"], messages)
        assert np.array_equal(counts["p2p.sent_bytes"], 12 * np.array(messages))
        assert total(counts) == predict(Collective("broadcast", 4, 3, 4, route, root=root))


def test_bf16_travels_in_two_bytes_where_that_loses_nothing(rng):
    x = carriers(rng, (4, 8), BF16)
    widths = {"chain": 2, "ring": 4, "tree": 4}
    for order, width in widths.items():
        _, counts = collectives.all_reduce(x, BF16, order=order)
        assert total(counts)["p2p.sent_bytes"] == 3 * 8 * (width + 2)
        exact, _ = collectives.all_reduce(x, FP32, order=order, out=BF16)
        assert_same_bits(collectives.all_reduce(x, BF16, order=order)[0], patterns(exact))


def test_without_a_tally_nothing_is_counted(rng):
    x = values(rng, 4, (8,))
    for fn in (collectives.all_reduce, collectives.reduce_scatter, collectives.all_gather, collectives.all_to_all):
        assert fn(x, FP32, tally=False)[1] == Counts()
    assert collectives.broadcast(x, FP32, tally=False)[1] == Counts()


@pytest.mark.parametrize("order", ["ring", *(pytest.param(name, marks=pytest.mark.full) for name in ("chain", "tree"))])
def test_a_batch_of_collectives_is_each_of_them(rng, order):
    """vmap outside the axis of sockets, and inside."""
    x = jnp.asarray(values(rng, 4, (3, 6)))
    by_row = jnp.stack([collectives.all_reduce(x[:, i], FP32, order=order)[0] for i in range(3)], 1)
    inside = jax.vmap(lambda x: collectives.all_reduce(x, FP32, order=order)[0], 1, 1)(x)
    named = jax.vmap(lambda x: collectives.all_reduce(x, FP32, order=order, group=Group("s"))[0], axis_name="s")
    assert_same_bits(inside, patterns(by_row))
    assert_same_bits(jax.vmap(named, 1, 1)(x), patterns(by_row))


def test_sockets_are_numbered_axis_first_then_the_leading_axis(rng):
    x = values(rng, 8, (5,))
    want = patterns(collectives.all_reduce(x, FP32)[0])
    stacked = jax.vmap(lambda x: collectives.all_reduce(x, FP32, group=Group("s", stacked=True)), axis_name="s")
    got, counts = stacked(x.reshape(4, 2, 5))
    assert_same_bits(got.reshape(8, 5), want)
    assert counts["p2p.messages"].shape == (4, 2)


def test_collectives_compute_in_numerics_only():
    x = jax.ShapeDtypeStruct((4, 8), jnp.float32)
    for settings in ({"order": "ring", "wire": BF16}, {"order": "tree"}, {"op": "max", "out": BF16}):
        assert raw_equations(collectives.all_reduce, x, fmt=FP32, tally=False, **settings) == []


def test_refusals_say_what_is_allowed():
    x = np.zeros((4, 6), np.float32)
    with pytest.raises(ArgumentError, match="a group over an axis that is not there\n  given:   'q'"):
        collectives.all_reduce(x, FP32, group=Group("q"))
    with pytest.raises(FormatError, match="not a carrier of the format\n  given:   uint16\n  allowed: float32"):
        collectives.all_reduce(x.astype(np.uint16), BF16)
    with pytest.raises(FormatError, match="a format that the operands of a reduction cannot have"):
        collectives.all_reduce(x > 0, BOOL)
    with pytest.raises(FormatError, match="wire of a reduction cannot have\n  given:   bf16\n  allowed: int32"):
        collectives.all_reduce(x.astype(np.int32), INT32, wire=BF16)
    with pytest.raises(UnknownNameError, match="unknown order of additions\n  given:   'rink'[^?]*did you mean 'ring'"):
        collectives.all_reduce(x, FP32, order="rink")
    with pytest.raises(UnknownNameError, match="unknown operation of a collective"):
        collectives.all_reduce(x, FP32, op="mean")
    with pytest.raises(ArgumentError, match="a number of shots that cannot be\n  given:   1 in order ring"):
        collectives.all_reduce(x, FP32, order="ring", shots=1)
    with pytest.raises(
        ShapeError, match="parts of unequal length\n  given:   axis 0 of length 6\n  allowed: a multiple"
    ):
        collectives.reduce_scatter(x, FP32)
    with pytest.raises(ShapeError, match="an axis that the operand of a socket does not have\n  given:   1"):
        collectives.all_gather(x, FP32, axis=1)
    with pytest.raises(ShapeError, match="an operand without an axis of sockets"):
        collectives.broadcast(np.float32(1), FP32)
    with pytest.raises(ShapeError, match="nothing to send"):
        collectives.all_reduce(np.zeros((4, 0), np.float32), FP32)
    with pytest.raises(UnknownNameError, match="unknown route of broadcast"):
        collectives.broadcast(x, FP32, route="halving")
    with pytest.raises(ArgumentError, match="a root that is none of the sockets"):
        collectives.broadcast(x, FP32, root=4)


def test_a_socket_that_sends_too_much_to_tally_is_refused():
    shape = jax.ShapeDtypeStruct((8, 2**25), np.float32)
    with pytest.raises(ArgumentError, match="too much for one step to be tallied"):
        jax.eval_shape(lambda x: collectives.all_reduce(x, FP32), shape)
    assert jax.eval_shape(lambda x: collectives.all_reduce(x, FP32, tally=False), shape)[0].shape == (8, 2**25)


@pytest.mark.parametrize(
    "module", [collectives, collective_traffic, collective_times], ids=lambda module: module.__name__
)
def test_examples_run(module):
    found = doctest.testmod(module)
    assert found.attempted > 0 and found.failed == 0
