"""Exchanges between sockets as data: types, text, counts, units and cycles from shapes alone."""

import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, FormatError, ShapeError
from rdujax.ledger.counts import Counts
from rdujax.machines import sn40l, tiny
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32
from rdujax.ops.exchange import Exchange, Links
from rdujax.ops.op import TensorType, Work
from rdujax.units import p2p
from rdujax.units.p2p import collective_times
from rdujax.units.p2p.collective_traffic import Collective
from tests.oracles import sockets

X = TensorType((8, 12), FP32)


@pytest.mark.parametrize(
    ("op", "shape", "walks", "text"),
    [
        (Exchange("all_reduce", "s", 4), (8, 12), (0, 1), "all_reduce sum over s:4"),
        (Exchange("reduce_scatter", "s", 4, "max", axis=1), (8, 3), (0, None), "reduce_scatter max[1] over s:4"),
        (Exchange("all_gather", "s", 4, axis=1), (8, 48), (0, None), "all_gather[1] over s:4"),
        (Exchange("all_to_all", "s", 4, axis=0, joined_axis=1), (2, 48), (None, None), "all_to_all[0,1] over s:4"),
        (Exchange("permute", "s", 4, pairs=((0, 1), (2, 2))), (8, 12), (0, 1), "permute[0>1,2>2] over s:4"),
    ],
)
def test_types_walks_and_text(op, shape, walks, text):
    """A result is cut only along axes whose every place comes from the same place of the operands."""
    assert isinstance(op, Work) and op.group == 4
    assert op.infer(X) == TensorType(shape, FP32) and str(op) == text
    assert op.walks(X.shape) == (walks,)


def test_a_place_is_a_number():
    op = Exchange("index", "s", 4)
    assert op.infer() == TensorType((), INT32)
    assert (op.flops(), op.work(), op.shares(tiny(), 0)) == (0, Counts(), ((1, Links(0, 0)),))


def test_a_permutation_sends_what_changes_place():
    op, machine = Exchange("permute", "s", 4, pairs=((0, 1), (2, 2), (3, 0))), tiny()
    ((cycles, links),) = op.shares(machine, 0, X)
    assert op.work(X) == Counts({"p2p.sent_bytes": 2 * 8 * 12 * 4})
    there = p2p.transfer_cycles(machine.p2p, machine.clock_hz.value, 8 * 12 * 4)
    assert cycles + op.arrival_cycles(machine, X) == there and cycles == op.cycles(machine, links, X) > 0
    stays = Exchange("permute", "s", 4, pairs=((2, 2),))
    assert (stays.cycles(machine, links, X), stays.arrival_cycles(machine, X)) == (1, 0)


def test_work_of_the_socket_that_makes_most():
    """96 elements in chunks of 32 to be summed over 3 sockets; whole numbers are no floating operations."""
    assert Exchange("all_reduce", "s", 3).flops(X) == 32 * 2
    assert Exchange("all_reduce", "s", 3).flops(TensorType((8, 12), INT32)) == 0
    assert Exchange("all_gather", "s", 3).flops(X) == 0


@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather"])
def test_counts_are_those_of_sockets_that_write_down_what_they_send(kind, rng):
    """96 elements on each of 4 sockets, sent directly: bytes and sums of all of them together."""
    parts, log = rng.integers(-9, 9, (4, 96)).astype(np.int32), sockets.Log()
    if kind == "all_gather":
        sockets.all_gather(list(parts), "direct", log)
    if kind == "reduce_scatter":
        add, same = sockets.WRAPPING["sum"], sockets.ROUND["int32"]
        sockets.reduce_scatter([sockets.chunks(mine, 4) for mine in parts], add, "chain", same, log)
    if kind == "all_reduce":
        _, log, second = sockets.all_reduce(parts, wire="int32", out="int32")
        log.messages += second.messages
    counted = Exchange(kind, "s", 4).work(X)
    assert set(counted) <= {"p2p.sent_bytes", "pcu.simd_operations"}
    assert counted["p2p.sent_bytes"] == 4 * sum(elements for _, _, elements in log.messages)
    assert counted["pcu.simd_operations"] == sum(log.combined.values())


def test_a_total_that_is_rounded_before_it_is_sent_takes_half_of_the_way_back():
    """7 of 8 parts leave as FP32 and come back as BF16; the sums are as many."""
    plain, rounded = Exchange("all_reduce", "s", 8), Exchange("all_reduce", "s", 8, output=BF16)
    assert rounded.infer(X) == TensorType(X.shape, BF16) and str(rounded) == "all_reduce sum->bf16 over s:8"
    assert plain.work(X)["p2p.sent_bytes"] == 7 * 96 * (4 + 4)
    assert rounded.work(X)["p2p.sent_bytes"] == 7 * 96 * (4 + 2)
    assert plain.work(X)["pcu.simd_operations"] == rounded.work(X)["pcu.simd_operations"] == 7 * 96
    with pytest.raises(FormatError, match="a sum over sockets(.|\n)*allowed: +fp32"):
        rounded.infer(TensorType((8,), BF16))


def test_units_keep_up_with_the_links():
    """SN40L: 7 of 10 links of 27.5 GB/s, 121 bytes a cycle: four ports of 64 both ways, and two PCUs of 16 lanes."""
    machine, wide = sn40l(), TensorType((64, 4096), FP32)
    op = Exchange("all_reduce", "s", 8)
    ((cycles, links),) = op.shares(machine, 1040, wide)
    assert (links.pcus, links.agcus, op.fewest(machine, wide)) == (2, 4, 2)
    assert op.feeds(machine, links, [wide], [FP32], FP32) == ([121], 121)
    assert op.shares(machine, 1, wide) == () and Exchange("all_gather", "s", 8).fewest(machine, wide) == 0


@pytest.mark.parametrize("kind", ["all_reduce", "reduce_scatter", "all_gather", "all_to_all"])
def test_a_tile_is_there_when_its_last_message_has_arrived(kind):
    """On the links and on its way, together, as long as the collective takes message by message."""
    machine, op = tiny(), Exchange(kind, "s", 4)
    ((cycles, _),) = op.shares(machine, 64, X)
    elements = 96 * (4 if kind == "all_gather" else 1)
    last = max(collective_times.finish_cycles(machine.p2p, machine.clock_hz.value, Collective(kind, 4, elements, 4)))
    assert cycles + op.arrival_cycles(machine, X) == last


def test_what_a_node_does_not_have_is_refused():
    op = Exchange("all_reduce", "s", 64)
    with pytest.raises(ArgumentError, match="more sockets than a node has"):
        op.shares(tiny(), 64, X)
    with pytest.raises(ShapeError, match=r"parts of unequal length(.|\n)*axis 1 of fp32\[8x12\](.|\n)*multiple of 5"):
        Exchange("reduce_scatter", "s", 5, axis=1).infer(X)
    for fmt, function in ((BOOL, "sum"), (UINT32, "max")):
        with pytest.raises(FormatError, match=f"a {function} over sockets(.|\n)*given: +{fmt}"):
            Exchange("all_reduce", "s", 4, function).infer(TensorType((8,), fmt))
    assert Exchange("all_reduce", "s", 4).infer(TensorType((8,), UINT32)) == TensorType((8,), UINT32)
    assert Exchange("all_gather", "s", 2).infer(TensorType((8,), BF16)) == TensorType((16,), BF16)
    with pytest.raises(ArgumentError, match="the value of one socket alone"):
        op.reference(np.zeros((8, 12)))
