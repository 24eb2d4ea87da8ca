"""Cases of the links between sockets: streams that are sent, and collectives in every order."""

import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.streams.layout import tiled
from rdujax.streams.stream import Stream, tile
from rdujax.units import p2p
from rdujax.units.p2p import collectives
from tests.laws.cases.case import Case
from tests.oracles import sockets

LAYOUT = tiled((4, 6), (2, 3))


def _words(data):
    stream, counts = p2p.send(Stream(data, LAYOUT, BF16), "scan")
    return stream.data, counts


def _ragged(x):
    stream, counts = p2p.send(tile(x, (2, 3), fmt=FP32), "vmap")
    return stream.data[0], counts


def _all_reduce(name: str, x: np.ndarray, wire_bytes: int, out_bytes: int, **settings) -> Case:
    """A case with the bits and the messages of the sockets that are followed hop by hop."""
    formats = {"fp32": FP32, "bf16": BF16, "int32": INT32}
    integers = x.dtype == np.int32
    words = {"wire": "int32", "out": "int32"} if integers else {"wire": "fp32", "out": "bf16"}
    expected, first, second = sockets.all_reduce(x if integers else x.view(np.uint32), **words, **settings)

    def run(x):
        return collectives.all_reduce(x, INT32 if integers else FP32, out=formats[words["out"]], **settings)

    elements = [sum(size for _, _, size in log.messages) for log in (first, second)]
    counts = {
        "p2p.sent_bytes": elements[0] * wire_bytes + elements[1] * out_bytes,
        "p2p.messages": len(first.messages) + len(second.messages),
        "pcu.simd_operations": sum(first.combined.values()),
    }
    return Case(name, run, (x,), expected, Counts(counts))


def cases(rng: np.random.Generator) -> list[Case]:
    """Words at rest, a ragged tensor, and sums over four sockets whose chunks are ragged."""
    words = rng.integers(0, 2**16, (4, 2, 3)).astype(np.uint16)
    x = rng.normal(size=(5, 7)).astype(np.float32)
    sums = rng.normal(size=(4, 3, 5)).astype(np.float32)
    integers = rng.integers(-(2**31), 2**31, (4, 3, 5)).astype(np.int32)
    return [
        Case("words", _words, (words,), words, Counts({"p2p.sent_bytes": 48, "p2p.messages": 4})),
        Case("ragged", _ragged, (x,), x[:2, :3].copy().view(np.uint32), p2p.predict(140, 9)),
        *(_all_reduce(order, sums, 4, 2, order=order) for order in ("chain", "ring", "tree")),
        _all_reduce("one shot", sums, 4, 2, order="chain", shots=1),
        _all_reduce("wrapping", integers, 4, 4, order="ring"),
    ]
