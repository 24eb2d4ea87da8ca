"""Pass: the loop nest of a kernel: along which axes it is cut into tiles, how large they are, and what stays on chip.

Candidates are priced, not guessed: tiles of powers of two along every streamable class of axes (two classes only where
one is not enough to fit; one that is summed only where it is longer than all others), loads that would be moved again
kept resident where they fit. Where all is made in one turn, as in decoding one token, and where what should stay does
not fit, large loads stream through their stages slice by slice. The cheapest legal candidate is taken, but for those
that cannot be more than a hundredth cheaper than one before; of equals, the one with the larger tiles.
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import permutations
from math import inf

from rdujax.base.errors import CapacityError, ShapeError, describe
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.axes import Axis, Way, streamable, walk_alike
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
    graph, machine = to.graph, to.machine
    ways = streamable(graph, kernel)
    pinned = _pinned(graph, kernel, ways)
    best: tuple[float, PlannedKernel] | None = None
    refusal: CapacityError | None = None
    nests = [[pinned]] if pinned is not None else [_nests(kernel, ways, depth, machine) for depth in (1, 2)]
    for candidates in nests:
        for tiling_set in (_tilings(graph, kernel, nest, machine) for nest in candidates):
            for several, tiling in tiling_set:
                worth = inf if best is None else best[0] * (1 - WORTH)
                try:
                    planned = to.allocated_below(worth, kernel, tiling, wide)
                except CapacityError as error:
                    refusal = refusal or error
                    continue
                cycles = inf if planned is None else kernel_cycles(graph, planned, machine)
                if planned is not None and (best is None or cycles < best[0]):
                    best = (cycles, planned)
                if not several:
                    break
        if best is not None:
            return best[1]
    assert refusal is not None
    raise refusal


def _nests(kernel: Kernel, ways: tuple[Way, ...], depth: int, machine: Machine) -> Iterator[Tiling]:
    """Loop nests of `depth` loops, larger tiles first; the nest without any cut comes with depth 1."""
    plain = [way for way in ways if not way.sums]
    if depth == 1:
        yield Tiling((), frozenset())
        longest = max((way.length for way in plain), default=0)
        plain += [way for way in ways if way.sums and way.length > longest]
    for chosen in permutations(plain, depth):
        if walk_alike(kernel, chosen):
            for loops in _cuts(chosen, machine):
                yield Tiling(loops, frozenset(), sums=chosen[0].sums, late=chosen[0].late)


def _cuts(chosen: tuple[Way, ...], machine: Machine) -> Iterator[tuple[Loop, ...]]:
    if not chosen:
        yield ()
        return
    way = chosen[0]
    for size in _sizes(way.length, machine):
        for inner in _cuts(chosen[1:], machine):
            yield (Loop(way.length, size, way.members), *inner)


def _sizes(length: int, machine: Machine) -> list[int]:
    """Powers of two below the axis, largest first; of a long axis no less than the rows of one array."""
    rows = int(machine.pcu.systolic_rows.value)
    size = rows if length > 2 * rows else 1
    sizes = []
    while size < length:
        sizes.append(size)
        size *= 2
    return sizes[::-1]


def _tilings(graph: Graph, kernel: Kernel, bare: Tiling, machine: Machine) -> Iterator[tuple[bool, Tiling]]:
    """What may be tried with a nest, as (whether the next one is worth a try even if this one fits, tiling).

    Everything that would be moved again is kept on chip, or nothing more than must be, or large loads stream by.
    """
    must = must_stay(kernel, bare)
    again = frozenset(v for v in kernel.loads if bare.sweeps(v) > 1)
    yield bare.turns == 1 or bool(bare.sums), replace(bare, resident=must | again)
    if again:
        yield False, replace(bare, resident=must)
    tried = set()
    for slices in SLICES_OF_SUMS if bare.sums else SLICES:
        inner = streaming_by(graph, kernel, bare.loops, slices * int(machine.pcu.systolic_rows.value))
        if inner and inner not in tried:
            tried.add(inner)
            by = {v for loop in inner for v, _ in loop.members}
            yield True, replace(bare, resident=(must | again) - by, inner=inner)


def must_stay(kernel: Kernel, bare: Tiling) -> frozenset[int]:
    """Loads that every turn of the loops needs whole, and results that are the same in all: they stay on chip."""
    every = {*kernel.loads, *(stage.result for stage in kernel.stages)} - bare.sums - bare.late
    return frozenset(v for v in every if bare.turns > 1 and not any(bare.walks(v)))


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
