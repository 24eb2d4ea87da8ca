"""Pass: the loop nest of a kernel: along which axes it is cut into tiles, how large they are, and what stays on chip.

Candidates are priced, not guessed: tiles of powers of two along every streamable class of axes (two classes only where
one is not enough to fit; one that is summed only where it is longer than all others), loads that would be moved again
kept resident where they fit. Where all is made in one turn, as in decoding one token, and where what should stay does
not fit, large loads stream through their stages slice by slice. Tiles and slices are tried from the smallest on until
one costs more than the one before, for most have one best size. The cheapest legal candidate is taken, but for those
that cannot be more than a hundredth cheaper than one before, and none is looked for where the one found is so close to
what bytes and multiplications alone take; of equals, the one with the larger tiles.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import permutations, product
from math import inf

from rdujax.base.errors import CapacityError, ShapeError, describe
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.axes import Axis, Way, streamable, walk_alike
from rdujax.compiler.bounds import pcu_cycles
from rdujax.compiler.feeds import Feeds
from rdujax.estimate.price import kernel_cycles
from rdujax.graph.graph import Graph
from rdujax.graph.kernel import Kernel, Stage
from rdujax.graph.plan import Loop, PlannedKernel, Tiling
from rdujax.machines.machine import Machine
from rdujax.streams.access import chain_axes

SLICES = (1, 2, 4, 8, 16, 32, 64)  # lengths of slices, in rows of an array
SLICES_OF_SUMS = (8,)  # where turns add up, what they load is small already
MOST_SLICES = 64  # of one tile: more only make the first one come sooner
WORTH = 0.01  # a tiling that may save no more than this share of the best so far is not tried
SMALL_LOAD = 256  # a load streams by if it is more than one part in so many of all that is loaded


def tile(to: Allocator, kernel: Kernel, wide: frozenset[int]) -> PlannedKernel:
    """The kernel in the cheapest legal tiling, allocated; raises CapacityError where no tiling fits."""
    return _Search(to, kernel, wide).found()


class _Search:
    """The tilings of one kernel, and the best of those that were asked for."""

    def __init__(self, to: Allocator, kernel: Kernel, wide: frozenset[int]):
        self.to, self.kernel, self.wide = to, kernel, wide
        self.graph, self.machine = to.graph, to.machine
        self.enough = _least_cycles(to, kernel) * (1 + WORTH)
        self.best: tuple[tuple[float, int, int], PlannedKernel] | None = None
        self.refusal: CapacityError | None = None

    def found(self) -> PlannedKernel:
        """The kernel in the best tiling; raises the first refusal where none fits."""
        ways = streamable(self.graph, self.kernel)
        pinned = _pinned(self.graph, self.kernel, ways)
        if pinned is not None:
            self._nest(pinned)
        else:
            for climb in single_loops(self.kernel, ways, self.machine):
                if not self._is_enough:
                    self._climb(self._nest, climb)
        if self.best is None and pinned is None:
            for nest in double_loops(self.kernel, ways, self.machine):
                self._nest(nest)
        if self.best is not None:
            return self.best[1]
        assert self.refusal is not None
        raise self.refusal

    def _climb(self, ask: Callable[[Tiling], float], tilings: Iterable[Tiling]) -> float:
        """Asks for one after the other until one costs more than that before it; the least that one of them costs."""
        least = before = inf
        for tiling in tilings:
            cycles = ask(tiling)
            least = min(least, cycles)
            if self._is_enough or cycles > before:
                break
            before = cycles
        return least

    def _nest(self, bare: Tiling) -> float:
        """Cycles of the best that may be tried with a nest; infinity where none fits or is worth to be known.

        Large loads stream by where all is made in one turn or turns add up, and where nothing else fits.
        """
        graph, kernel = self.graph, self.kernel
        whole = (cycles for cycles in map(self._ask, staying(kernel, bare)) if cycles is not None)
        cycles = next(whole, None)
        least = inf if cycles is None else cycles
        if cycles is None or bare.turns == 1 or bare.sums:
            least = min(least, self._climb(self._cycles, streaming(graph, kernel, bare, self.machine)))
        return least

    def _cycles(self, tiling: Tiling) -> float:
        """Cycles in a tiling; infinity where it does not fit or they are not worth to be known."""
        cycles = self._ask(tiling)
        return inf if cycles is None else cycles

    def _ask(self, tiling: Tiling) -> float | None:
        """Cycles in a tiling, infinity where they are not worth to be known; None where it does not fit."""
        worth = inf if self.best is None else self.best[0][0] * (1 - WORTH)
        try:
            planned = self.to.allocated_below(worth, self.kernel, tiling, self.wide)
        except CapacityError as error:
            self.refusal = self.refusal or error
            return None
        if planned is None:
            return inf
        cycles = kernel_cycles(self.graph, planned, self.machine)
        rank = cycles, tiling.turns, sum(loop.trips for loop in tiling.inner)
        if self.best is None or rank < self.best[0]:
            self.best = rank, planned
        return cycles

    @property
    def _is_enough(self) -> bool:
        return self.best is not None and self.best[0][0] <= self.enough


def _least_cycles(to: Allocator, kernel: Kernel) -> int:
    """No more than the cycles of any tiling: what is loaded and stored, once, and what is contracted, on all PCUs."""
    graph, machine = to.graph, to.machine
    work = sum(pcu_cycles(stage.op, stage.operands(graph), machine) for stage in kernel.stages)
    return max(Feeds(graph, machine, to.tiers, kernel, Tiling((), frozenset())).turn_cycles(), work // to.pcus)


def single_loops(kernel: Kernel, ways: tuple[Way, ...], machine: Machine) -> Iterator[list[Tiling]]:
    """Nests of one loop by its axis, smaller tiles first; before them, the nest without any."""
    yield [Tiling((), frozenset())]
    plain = [way for way in ways if not way.sums]
    longest = max((way.length for way in plain), default=0)
    for way in [*plain, *(way for way in ways if way.sums and way.length > longest)]:
        if walk_alike(kernel, (way,)):
            loops = (Loop(way.length, size, way.members) for size in _sizes(way.length, machine))
            yield [Tiling((loop,), frozenset(), sums=way.sums, late=way.late) for loop in loops]


def double_loops(kernel: Kernel, ways: tuple[Way, ...], machine: Machine) -> Iterator[Tiling]:
    """Nests of two loops."""
    for outer, inner in permutations([way for way in ways if not way.sums], 2):
        if walk_alike(kernel, (outer, inner)):
            for sizes in product(*(_sizes(way.length, machine)[::-1] for way in (outer, inner))):
                pairs = zip((outer, inner), sizes, strict=True)
                yield Tiling(tuple(Loop(way.length, size, way.members) for way, size in pairs), frozenset())


def _sizes(length: int, machine: Machine) -> list[int]:
    """Powers of two below the axis, smallest first; of a long axis no less than the rows of one array."""
    rows = int(machine.pcu.systolic_rows.value)
    size = rows if length > 2 * rows else 1
    sizes = []
    while size < length:
        sizes.append(size)
        size *= 2
    return sizes


def staying(kernel: Kernel, bare: Tiling) -> list[Tiling]:
    """A nest in which everything that would be moved again is kept on chip, and one with nothing more than must be."""
    must, again = must_stay(kernel, bare), _moved_again(kernel, bare)
    return [replace(bare, resident=kept) for kept in dict.fromkeys((must | again, must))]


def streaming(graph: Graph, kernel: Kernel, bare: Tiling, machine: Machine) -> Iterator[Tiling]:
    """A nest through whose stages large loads stream by, in finer and coarser slices; everything else is kept."""
    kept = must_stay(kernel, bare) | _moved_again(kernel, bare)
    rows = int(machine.pcu.systolic_rows.value)
    lengths = SLICES_OF_SUMS if bare.sums else SLICES
    for inner in dict.fromkeys(streaming_by(graph, kernel, bare.loops, n * rows) for n in lengths):
        if inner:
            yield replace(bare, resident=kept - {v for loop in inner for v, _ in loop.members}, inner=inner)


def must_stay(kernel: Kernel, bare: Tiling) -> frozenset[int]:
    """Loads that every turn of the loops needs whole, and results that are the same in all: they stay on chip."""
    every = {*kernel.loads, *(stage.result for stage in kernel.stages)} - bare.sums - bare.late
    return frozenset(v for v in every if bare.turns > 1 and not any(bare.walks(v)))


def _moved_again(kernel: Kernel, bare: Tiling) -> frozenset[int]:
    """Loads that would be moved more than once, if they did not stay on chip."""
    return frozenset(v for v in kernel.loads if bare.sweeps(v) > 1)


def streaming_by(graph: Graph, kernel: Kernel, loops: tuple[Loop, ...], length: int) -> tuple[Loop, ...]:
    """One inner loop for every stage through which a large load can stream, in slices of about `length`."""
    types, bare = graph.types, Tiling(loops, frozenset())
    reads = [read.value for stage in kernel.stages for read in stage.reads] + [w.read.value for w in kernel.writes]
    reads += [place.value for each in (*kernel.fetches, *kernel.writes) for place in each.places]
    small = {fetch.value for fetch in kernel.fetches if fetch.slice_bytes}
    total = sum(types[v].size_bytes for v in kernel.loads)
    large = {
        v for v in kernel.loads
        if types[v].size_bytes * SMALL_LOAD > total and reads.count(v) == 1 and not any(bare.walks(v))
    } - small  # fmt: skip
    found = []
    for stage in kernel.stages:
        once = bare.turns > 1 and not any(bare.walks(stage.result))
        whole = once or stage.pins.tile is not None or stage.op.group > 1
        axes = [] if whole else _sliceable(graph, stage, large)
        uncut = [axis for axis in axes if not any(axis[1] & loop.members for loop in bare.loops)]
        if not uncut:
            continue
        size, members = max(uncut, key=lambda axis: axis[0])
        own = max(length, -(-size // MOST_SLICES))
        if own < size:
            found.append(Loop(size, own, members))
    return tuple(found)


def _sliceable(graph: Graph, stage: Stage, large: set[int]) -> list[tuple[int, frozenset[Axis]]]:
    """Axes of the result that the largest of the stage's large loads walks along, one to one."""
    shapes = [read.shape(graph) for read in stage.reads]
    ways = list(zip(stage.reads, stage.op.walks(*shapes), strict=True))
    ways = [(read, walks) for read, walks in ways if read.value in large]
    if not ways:
        return []
    read, walks = max(ways, key=lambda way: graph.types[way[0].value].size_bytes)
    source, _ = chain_axes(read.chain, graph.types[read.value].shape)
    result = graph.types[stage.result].shape
    return [
        (result[along], frozenset({(stage.result, along), (read.value, of)}))
        for along, of in zip(walks, source, strict=True)
        if along is not None and of is not None and result[along] == graph.types[read.value].shape[of]
    ]


def _pinned(graph: Graph, kernel: Kernel, ways: tuple[Way, ...]) -> Tiling | None:
    """The nest that tiles fixed by hand ask for, or None where none are fixed."""
    plain = [way for way in ways if not way.sums]
    wanted: dict[int, int] = {}
    fixed = [(node.result, node.pins.tile, node.label) for node in kernel.nodes if node.pins.tile is not None]
    for value, tile_shape, label in fixed:
        shape = graph.types[value].shape
        for axis, (size, length) in enumerate(zip(tile_shape, shape, strict=True)):
            if size == length:
                continue
            at = next((i for i, way in enumerate(plain) if (value, axis) in way.members), None)
            if at is None or wanted.setdefault(at, size) != size:
                raise ShapeError(
                    describe(
                        "a tile that the pipeline cannot be streamed in",
                        given=f"tile {tile_shape} of {shape}, axis {axis}",
                        allowed="equal tiles, along axes that every result has and nothing contracts, merges or splits",
                        where=label,
                        do="leave this axis whole",
                    )
                )
    if not fixed:
        return None
    loops = tuple(Loop(plain[at].length, size, plain[at].members) for at, size in sorted(wanted.items()))
    return Tiling(loops, frozenset())
