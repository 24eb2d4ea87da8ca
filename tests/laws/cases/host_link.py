"""Cases of the host link: into memory, into a tile, and back; denormals and NaNs on their way in."""

import ml_dtypes
import numpy as np

from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.streams.layout import tiled
from rdujax.streams.stream import Stream
from rdujax.units import host_link
from tests.laws.cases.case import Case

LAYOUT = tiled((4, 6), (2, 3))
# A denormal of each sign, zeros, NaNs with payloads, infinities, the smallest and the largest normal number.
PUBLIC = np.array(
    [0x00000001, 0x807FFFFF, 0x80000000, 0x0, 0x7FC12345, 0xFF800001, 0x7F800000, 0xFF800000, 0x00800000, 0x7F7FFFFF],
    np.uint32,
)
ENTERED = np.array(
    [0x00000000, 0x80000000, 0x80000000, 0x0, 0x7FC00000, 0x7FC00000, 0x7F800000, 0xFF800000, 0x00800000, 0x7F7FFFFF],
    np.uint32,
)


def _in(x):
    return host_link.to_device(x, FP32, "hbm")


def _out(x):
    return host_link.to_host(x, INT32, "ddr")


def _to_tile(x):
    stream, counts = host_link.to_tile(x, LAYOUT, BF16, "vmap")
    return stream.data, counts


def _from_tile(data):
    return host_link.from_tile(Stream(data, LAYOUT, FP32), "scan")


def cases(rng: np.random.Generator) -> list[Case]:
    """Every road once."""
    words = rng.integers(-(2**31), 2**31, (3, 5)).astype(np.int32)
    # Patterns of normal BF16 numbers: both bytes of a value arrive as they are, in the upper half of its carrier.
    halves = ((rng.integers(1, 255, (4, 6)) << 7) | rng.integers(0, 128, (4, 6))).astype(np.uint16)
    tiles = (halves.astype(np.uint32) << 16).reshape(2, 2, 2, 3).swapaxes(1, 2).reshape(4, 2, 3)
    data = rng.normal(size=(4, 2, 3)).astype(np.float32)
    tensor = data.reshape(2, 2, 2, 3).swapaxes(1, 2).reshape(4, 6)
    return [
        Case("into HBM", _in, (PUBLIC.view(np.float32),), ENTERED, host_link.predict("in", 40, "hbm")),
        Case("out of DDR", _out, (words,), words, host_link.predict("out", 60, "ddr")),
        Case("into a tile", _to_tile, (halves.view(ml_dtypes.bfloat16),), tiles, host_link.predict("in", 48)),
        Case("out of a tile", _from_tile, (data,), tensor.view(np.uint32), host_link.predict("out", 96)),
    ]
