"""Exchanges between sockets as data: types, text, counts and cycles from shapes alone."""

import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError
from rdujax.graph.graph import Region
from rdujax.ledger.counts import Counts
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32
from rdujax.ops.exchange import Exchange
from rdujax.ops.op import TensorType
from rdujax.units import p2p
from tests.oracles import sockets

X = TensorType((8, 12), FP32)


@pytest.mark.parametrize(
    ("op", "shape", "text"),
    [
        (Exchange("all_reduce", "s", 4), (8, 12), "all_reduce sum over s:4"),
        (Exchange("reduce_scatter", "s", 4, "max", axis=1), (8, 3), "reduce_scatter max[1] over s:4"),
        (Exchange("all_gather", "s", 4, axis=1), (8, 48), "all_gather[1] over s:4"),
        (Exchange("all_to_all", "s", 4, axis=0, joined_axis=1), (2, 48), "all_to_all[0,1] over s:4"),
        (Exchange("permute", "s", 4, pairs=((0, 1), (2, 2))), (8, 12), "permute[0>1,2>2] over s:4"),
    ],
)
def test_types_and_text(op, shape, text):
    assert isinstance(op, Region) and op.bodies == () and op.with_bodies(()) is op
    assert op.infer(X) == (TensorType(shape, FP32),) and str(op) == text


def test_a_place_is_a_number():
    op = Exchange("index", "s", 4)
    assert op.infer() == (TensorType((), INT32),)
    assert (op.flops(), op.counts(), op.cycles(tiny().p2p, 10**6)) == (0, Counts(), 0)


def test_a_permutation_sends_what_changes_place():
    op, config, clock = Exchange("permute", "s", 4, pairs=((0, 1), (2, 2), (3, 0))), tiny().p2p, tiny().clock_hz.value
    assert op.counts(X) == Counts({"p2p.messages": 2, "p2p.sent_bytes": 2 * 8 * 12 * 4})
    assert op.cycles(config, clock, X) == p2p.transfer_cycles(config, clock, 8 * 12 * 4)
    assert Exchange("permute", "s", 4, pairs=((2, 2),)).cycles(config, clock, X) == 0


def test_work_of_the_socket_that_makes_most():
    """96 elements in chunks of 32 to be summed over 3 sockets; whole numbers are no floating operations."""
    assert Exchange("all_reduce", "s", 3).flops(X) == 32 * 2
    assert Exchange("all_reduce", "s", 3).flops(TensorType((8, 12), INT32)) == 0
    assert Exchange("all_gather", "s", 3).flops(X) == 0


@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather"])
def test_counts_are_those_of_sockets_that_write_down_what_they_send(kind, rng):
    """96 elements on each of 4 sockets, sent directly: messages, bytes and sums of all of them together."""
    parts, log = rng.integers(-9, 9, (4, 96)).astype(np.int32), sockets.Log()
    if kind == "all_gather":
        sockets.all_gather(list(parts), "direct", log)
    if kind == "reduce_scatter":
        add, same = sockets.WRAPPING["sum"], sockets.ROUND["int32"]
        sockets.reduce_scatter([sockets.chunks(mine, 4) for mine in parts], add, "chain", same, log)
    if kind == "all_reduce":
        _, log, second = sockets.all_reduce(parts, wire="int32", out="int32")
        log.messages += second.messages
    counted = Exchange(kind, "s", 4).counts(X)
    assert counted["p2p.messages"] == len(log.messages)
    assert counted["p2p.sent_bytes"] == 4 * sum(elements for _, _, elements in log.messages)
    assert counted["pcu.simd_operations"] == sum(log.combined.values())


def test_what_a_node_does_not_have_is_refused():
    op, machine = Exchange("all_reduce", "s", 64), tiny()
    with pytest.raises(ArgumentError, match="more sockets than a node has"):
        op.cycles(machine.p2p, machine.clock_hz.value, X)
    with pytest.raises(ShapeError, match=r"parts of unequal length(.|\n)*axis 1 of fp32\[8x12\](.|\n)*multiple of 5"):
        Exchange("reduce_scatter", "s", 5, axis=1).infer(X)
    for fmt, function in ((BOOL, "sum"), (UINT32, "max")):
        with pytest.raises(FormatError, match=f"a {function} over sockets(.|\n)*given: +{fmt}"):
            Exchange("all_reduce", "s", 4, function).infer(TensorType((8,), fmt))
    assert Exchange("all_reduce", "s", 4).infer(TensorType((8,), UINT32)) == (TensorType((8,), UINT32),)
    assert Exchange("all_gather", "s", 2).infer(TensorType((8,), BF16)) == (TensorType((16,), BF16),)
    with pytest.raises(ArgumentError, match="the value of one socket alone"):
        op.reference(np.zeros((8, 12)))
