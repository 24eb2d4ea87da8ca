"""Address pipeline and coalescing of an AGCU: counters make addresses, addresses become requests.

    counters --> address of a run of bytes --> | open request | --> tier        run | granule granule ... |
                                                                            request | ............... |

A `Walk` over counters names runs of contiguous bytes, the last counter fastest. The coalescer takes the bytes of the
runs in that order. Memory is cut into granules, the smallest access of a tier, and into requests of several granules:

    asked bytes = bytes named, as often as they are
    moved bytes = granule x (1 + how often the walk changes the granule)
    requests    = 1 + how often the walk changes the request

So runs that touch join, a strided walk moves whole granules for a few bytes each, and a granule left and entered
again is moved again: an AGCU has no SRAM to keep it. A request never spans two tiles.

`predict` counts a walk of any size exactly from its shape: only addresses modulo the request matter, and their
histogram over a loop of n turns takes log2(n) steps. `tally` counts run after run, while executing; both are equal
(law L3).
"""

from dataclasses import dataclass, replace
from functools import partial
from math import prod

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.ledger.counts import Amount, Counts, declare
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32, over_tiles
from rdujax.units.tally import check_visits, kinds

declare("agcu.requests", unit="request", doc="requests that AGCUs sent to memory")
declare("agcu.asked_bytes", unit="byte", doc="bytes that loads and stores asked AGCUs for")
declare("agcu.moved_bytes", unit="byte", doc="bytes that AGCUs moved for them: whole granules, or packed tiles")


@dataclass(frozen=True)
class Walk:
    """Counters of an address pipeline, outermost first.

    Run (i0, i1, ...) is `run_bytes` bytes from base_bytes + i0 * strides_bytes[0] + i1 * strides_bytes[1] + ...
    Strides may be zero or negative. Raises ShapeError where trips and strides do not fit together, ArgumentError for a
    trip or run of less than one and for an address below 0.
    """

    base_bytes: int
    trips: tuple[int, ...]
    strides_bytes: tuple[int, ...]
    run_bytes: int

    def __post_init__(self) -> None:
        if len(self.trips) != len(self.strides_bytes):
            raise ShapeError(
                describe("a walk has one stride for each counter", given=f"{self.trips} and {self.strides_bytes}")
            )
        if min((*self.trips, self.run_bytes)) < 1 or self.first_bytes < 0:
            raise ArgumentError(
                describe(
                    "a walk that cannot be",
                    given=f"{self}, lowest address {self.first_bytes}",
                    allowed="trips and run_bytes of 1 or more, addresses of 0 or more",
                )
            )

    @property
    def runs(self) -> int:
        """Runs in all."""
        return prod(self.trips)

    @property
    def asked_bytes(self) -> int:
        """Bytes of all runs."""
        return self.runs * self.run_bytes

    @property
    def first_bytes(self) -> int:
        """The lowest address."""
        return self.base_bytes + sum(min(0, (n - 1) * s) for n, s in zip(self.trips, self.strides_bytes, strict=True))

    @property
    def end_bytes(self) -> int:
        """One past the highest address."""
        last = sum(max(0, (n - 1) * s) for n, s in zip(self.trips, self.strides_bytes, strict=True))
        return self.base_bytes + last + self.run_bytes

    def moved(self, by_bytes: int) -> "Walk":
        """The same pattern from another base."""
        return replace(self, base_bytes=self.base_bytes + by_bytes)

    @property
    def never_overlaps(self) -> bool:
        """True where each counter, by growing stride, steps over all that shorter ones cover: no byte comes twice."""
        covered = self.run_bytes
        for stride, n in sorted((abs(s), n) for n, s in zip(self.trips, self.strides_bytes, strict=True) if n > 1):
            if stride < covered:
                return False
            covered += (n - 1) * stride
        return True


@dataclass(frozen=True)
class Sizes:
    """Of a request and of a granule, in bytes. Raises ArgumentError where requests are not whole granules."""

    request_bytes: int
    granule_bytes: int

    def __post_init__(self) -> None:
        if self.request_bytes % self.granule_bytes:
            raise ArgumentError(
                describe(
                    "a request is made of whole granules",
                    given=f"request_bytes {self.request_bytes}, granule_bytes {self.granule_bytes}",
                    allowed="a multiple",
                )
            )


def of_tensor(layout: Layout, width_bytes: int, base_bytes: int = 0) -> list[tuple[Walk, Walk]]:
    """How the tiles of a row-major tensor lie in memory, as pairs (walk over the tiles' origins, walk over one tile).

    One pair for each combination of full and ragged extents, so that all tiles of a pair are alike. A run is one row
    of a tile.
    """
    strides = [width_bytes * prod(layout.shape[axis + 1 :]) for axis in range(len(layout.shape))]
    found = []
    for kind in kinds(layout):
        base = base_bytes + sum(axis.first * t * s for axis, t, s in zip(kind, layout.tile, strides, strict=True))
        steps = tuple(t * s for t, s in zip(layout.tile, strides, strict=True))
        row = width_bytes * (kind[-1].extent if kind else 1)
        inner = Walk(base, tuple(axis.extent for axis in kind[:-1]), tuple(strides[:-1]), row)
        found.append((Walk(base, tuple(axis.tiles for axis in kind), steps, row), inner))
    return found


def predict(sizes: Sizes, walk: Walk, moved: str, origins: Walk | None = None) -> Counts:
    """The counts of a walk, from its shape alone; exact at any size.

    moved: the counter of the tier, for example "hbm.read_bytes". origins: the walk goes once from each of these
    addresses in place of its base, each time by itself.

    >>> column = Walk(0, (1000,), (4096,), 2)        # one BF16 of each row of 2048
    >>> predict(Sizes(256, 64), column, "hbm.read_bytes")
    Counts:
      agcu.asked_bytes   2,000 byte
      agcu.moved_bytes  64,000 byte
      agcu.requests      1,000 request
      hbm.read_bytes    64,000 byte
    """
    origins = origins or Walk(walk.base_bytes, (), (), walk.run_bytes)
    granules = _walked(sizes.granule_bytes, walk, origins) * sizes.granule_bytes
    requests = _walked(sizes.request_bytes, walk, origins)
    asked = walk.asked_bytes * origins.runs
    return _counts(requests, asked, granules, moved)


def predict_tensor(
    sizes: Sizes, layout: Layout, width_bytes: int, moved: str, base_bytes: int = 0, sweeps: int = 1
) -> Counts:
    """The counts of loading or storing every tile of a row-major tensor, `sweeps` times, from its shape alone."""
    counts = Counts()
    for origins, tile in of_tensor(layout, width_bytes, base_bytes):
        counts = counts + predict(sizes, tile, moved, origins)
    return counts * sweeps


def tally(sizes: Sizes, walk: Walk, moved: str) -> Counts:
    """The counts of a walk, run by run: int32 scalars. Raises ArgumentError for what they cannot hold."""
    _must_fit(sizes, walk)
    extents = jnp.asarray(walk.trips, jnp.int32)
    base = jnp.asarray(_split(walk.base_bytes, sizes), jnp.int32)
    return _step(sizes, walk, moved, base, extents, jnp.int32(walk.run_bytes))


def tally_tensor(
    sizes: Sizes,
    layout: Layout,
    width_bytes: int,
    moved: str,
    base_bytes: int = 0,
    visits: np.ndarray | None = None,
    how: Executor = "vmap",
) -> Counts:
    """The counts of loading or storing tiles of a row-major tensor, one entry per visit, int32 [n_visits].

    visits: int [n_visits], indices of tiles in order of arrival, repeats included; by default each tile once. Raises
    ArgumentError for an index that no tile has, and for what INT32 cannot hold.
    """
    check_visits(layout, visits)
    strides = [width_bytes * prod(layout.shape[axis + 1 :]) for axis in range(len(layout.shape))]
    arrivals = layout.arrivals if visits is None else layout.arrivals[visits]
    extents = layout.extents if visits is None else layout.extents[visits]
    row = width_bytes * (layout.tile[-1] if layout.tile else 1)
    full = Walk(base_bytes, layout.tile[:-1], tuple(strides[:-1]), row)
    steps = [t * s for t, s in zip(layout.tile, strides, strict=True)]
    axes = [axis for axis, n in enumerate(layout.grid) if n > 1]
    _must_fit(sizes, full)
    must_fit_int32(max([1, *layout.grid]) * sizes.request_bytes, "bytes of requests along an axis")
    must_fit_int32((base_bytes + width_bytes * prod(layout.shape)) // sizes.request_bytes, f"requests of {layout}")

    def tile(arrival: jax.Array, extent: jax.Array) -> Counts:
        origin = jnp.asarray(_split(base_bytes, sizes), jnp.int32)
        origin = _advance(sizes, origin, [(arrival[axis], steps[axis]) for axis in axes])
        last = extent[-1] if layout.tile else jnp.int32(1)
        return _step(sizes, full, moved, origin, extent[:-1], last * jnp.int32(width_bytes))

    return over_tiles(tile, how, jnp.asarray(arrivals), jnp.asarray(extents))


def _counts(requests: Amount, asked: Amount, moved_bytes: Amount, moved: str) -> Counts:
    return Counts(
        {"agcu.requests": requests, "agcu.asked_bytes": asked, "agcu.moved_bytes": moved_bytes, moved: moved_bytes}
    )


def _walked(unit: int, walk: Walk, origins: Walk) -> int:
    """Changes of the unit (granule or request) along the walk, plus one for each walk's first.

    Runs cover floor((address + run - 1) / unit) - floor(address / unit) + 1 units, of which the first is the one that
    the run before ended in, or not: both depend on the address modulo the unit alone.
    """
    run = walk.run_bytes
    at = _spread(_single(unit, origins.base_bytes), origins.trips, origins.strides_bytes)
    covered = sum(n * ((r + run - 1) // unit + 1) for r, n in enumerate(_spread(at, walk.trips, walk.strides_bytes)))
    joined = 0
    for k, (trips, stride) in enumerate(zip(walk.trips, walk.strides_bytes, strict=True)):
        inner = zip(walk.trips[k + 1 :], walk.strides_bytes[k + 1 :], strict=True)
        carried = sum((n - 1) * s for n, s in inner)
        before = _spread(at, (*walk.trips[:k], trips - 1), walk.strides_bytes[: k + 1])
        for residue, n in enumerate(before):
            end = (residue + carried) % unit
            joined += n * ((end + run - 1) // unit == (end + stride - carried) // unit)
    return covered - joined


def _single(unit: int, address: int) -> list[int]:
    return [int(residue == address % unit) for residue in range(unit)]


def _spread(at: list[int], trips: tuple[int, ...], strides: tuple[int, ...]) -> list[int]:
    """Histogram of addresses modulo the unit after loops: for each, at[r] becomes the sum of at[r - i * stride]."""
    for n, stride in zip(trips, strides, strict=True):
        done, total = 0, [0] * len(at)
        for bit in bin(n)[2:]:
            total = [a + b for a, b in zip(total, _rolled(total, done * stride), strict=True)]
            done *= 2
            if bit == "1":
                total = [a + b for a, b in zip(total, _rolled(at, done * stride), strict=True)]
                done += 1
        at = total
    return at


def _rolled(at: list[int], by: int) -> list[int]:
    by %= len(at)
    return at[-by:] + at[:-by] if by else at


def _split(address: int, sizes: Sizes) -> tuple[int, int]:
    """An address as the number of its request and the byte within it: both fit into INT32 up to terabytes."""
    return divmod(address, sizes.request_bytes)


def _advance(sizes: Sizes, address: jax.Array, steps: list[tuple[jax.Array, int]]) -> jax.Array:
    """int32 [2, ...]: a split address, moved by index * stride for each step."""
    request, byte = address
    for index, stride in steps:
        whole, part = _split(stride, sizes)
        byte = byte + index * jnp.int32(part)
        request = request + index * jnp.int32(whole) + byte // sizes.request_bytes
        byte = byte % sizes.request_bytes
    return jnp.stack([request, byte])


def _must_fit(sizes: Sizes, walk: Walk) -> None:
    """Refuses a walk whose bytes, or whose addresses as pairs (request, byte), INT32 cannot count."""
    granules = -(-walk.run_bytes // sizes.granule_bytes) + 1
    must_fit_int32(walk.runs * granules * sizes.granule_bytes, "bytes moved by one walk")
    must_fit_int32(max([1, *walk.trips]) * sizes.request_bytes, "bytes of requests of one counter")
    must_fit_int32(walk.end_bytes // sizes.request_bytes, "requests up to the end of a walk")


@partial(jax.jit, static_argnames=("sizes", "walk", "moved"))
def _step(sizes: Sizes, walk: Walk, moved: str, base: jax.Array, extents: jax.Array, run_bytes: jax.Array) -> Counts:
    """One walk from `base`: `walk` bounds the trips, `extents`, int32 [rank], says how many of them there are."""
    large, small = sizes.request_bytes, sizes.granule_bytes
    number = jnp.arange(walk.runs, dtype=jnp.int32)
    steps, rest = [], number
    for axis in reversed(range(len(walk.trips))):
        if walk.trips[axis] > 1:
            steps.append((rest % extents[axis], walk.strides_bytes[axis]))
            rest = rest // extents[axis]
    start = jnp.broadcast_to(base[:, None], (2, walk.runs))
    request, byte = _advance(sizes, start, steps)
    end = byte + run_bytes - 1
    last_request, last_granule = request + end // large, end % large // small
    again = (request[1:] == last_request[:-1]) & (number[1:] < jnp.prod(extents, dtype=jnp.int32))
    same = again & (byte[1:] // small == last_granule[:-1])
    valid = rest == 0
    requests = jnp.where(valid, end // large + 1, 0)
    granules = jnp.where(valid, end // small - byte // small + 1, 0)

    def total(x: jax.Array) -> jax.Array:
        return jnp.sum(x, dtype=jnp.int32)

    return _counts(
        total(requests) - total(again), total(valid) * run_bytes, (total(granules) - total(same)) * small, moved
    )
