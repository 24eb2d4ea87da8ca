"""The network for the laws of units: copies of a ragged stream, and packets of several senders put in order."""

import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.numerics.formats import BF16, FP32
from rdujax.streams.layout import Layout, tiled
from rdujax.streams.stream import Stream
from rdujax.units.rdn.mesh import Endpoint, Mesh, Port
from rdujax.units.rdn.packets import many_to_one, send
from rdujax.units.rdn.routing import multicast
from tests.laws.cases.case import Case
from tests.rooms.units.rdn.network_of import network

CONFIG = network()  # 4 x 4 switches, 8 bytes per vector packet
SOURCE, NEAR, FAR = Endpoint(0, 0, Port.PMU), Endpoint(0, 1, Port.PCU), Endpoint(2, 1, Port.PMU)
ROUTE = multicast(Mesh(4, 4), SOURCE, [NEAR, FAR])  # in, one east, out; two south, out: 6 links
LAYOUT = tiled((5, 7), (2, 4))


def bits(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Any patterns at all, those of NaN included: moving changes none."""
    return rng.integers(0, 2**32, shape, dtype=np.uint32)


def tiles_of(words: np.ndarray, layout: Layout, poison: int) -> np.ndarray:
    """Tiles cut with NumPy."""
    cut = np.full((layout.n_tiles, *layout.tile), poison, words.dtype)
    for at, (row, column) in enumerate((r, c) for r in range(0, 5, 2) for c in range(0, 7, 4)):
        part = words[row : row + 2, column : column + 4]
        cut[at, : part.shape[0], : part.shape[1]] = part
    return cut


def multicast_case(rng: np.random.Generator, how: str) -> Case:
    """BF16 words at rest, four to a packet: 8, 6, 8, 6, 4 and 3 valid values are 2, 2, 2, 2, 1 and 1 packets."""
    tiles = tiles_of((bits(rng, (5, 7)) >> 16).astype(np.uint16), LAYOUT, 0x7FC0)

    def run(data):
        copies, counts = send(CONFIG, ROUTE, Stream(data, LAYOUT, BF16), how=how)
        return tuple(copy.data for copy in copies), counts

    counts = Counts({"rdn.vector_packets": 10, "rdn.hops": 10 * 6})
    return Case(f"multicast of words, {how}", run, (tiles,), (tiles, tiles), counts)


def scalar_case(rng: np.random.Generator) -> Case:
    """FP32 values, one to a packet, to one unit."""
    tiles = tiles_of(bits(rng, (5, 7)), LAYOUT, 0x7FC00000)
    route = multicast(Mesh(4, 4), SOURCE, [SOURCE])

    def run(data):
        copies, counts = send(CONFIG, route, Stream(data, LAYOUT, FP32), "scalar", how="vmap")
        return copies[0].data, counts

    counts = Counts({"rdn.scalar_packets": 35, "rdn.hops": 35 * 2})
    return Case("scalars", run, (tiles.view(np.float32),), tiles, counts)


def many_to_one_case(rng: np.random.Generator) -> Case:
    """Three senders write 4, 1 and 3 packets of two FP32 values in any order."""
    words, ids = bits(rng, (8, 2)), rng.permutation(8).astype(np.int32)
    routes = [multicast(Mesh(4, 4), source, [NEAR]) for source in (SOURCE, FAR, Endpoint(0, 1, Port.PMU))]
    arrival = rng.permutation(8)

    def run(sent, sequence_ids):
        cut = [slice(0, 4), slice(4, 5), slice(5, 8)]
        return many_to_one(CONFIG, routes, [sent[c] for c in cut], [sequence_ids[c] for c in cut], FP32, arrival)

    expected = np.empty_like(words)
    expected[ids] = words
    counts = Counts({"rdn.vector_packets": 8, "rdn.hops": 4 * 3 + 1 * 4 + 3 * 2})
    return Case("many to one", run, (words.view(np.float32), ids), expected, counts)


def cases(rng: np.random.Generator) -> list[Case]:
    """See `Case`."""
    return [*(multicast_case(rng, how) for how in ("vmap", "scan")), scalar_case(rng), many_to_one_case(rng)]
