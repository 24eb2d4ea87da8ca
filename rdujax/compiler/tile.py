"""Pass: the loop nest of a kernel: along which axes it is cut into tiles, how large they are, and what stays on chip.

Candidates are priced, not guessed: tiles of powers of two along every streamable class of axes (two classes only where
one is not enough to fit), loads that would be moved again kept resident where they fit. The cheapest legal one is
taken; of equals, the one with the larger tiles.
"""

from collections.abc import Iterator
from itertools import permutations

from rdujax.base.errors import CapacityError, ShapeError, describe
from rdujax.compiler.allocate import allocate
from rdujax.compiler.axes import streamable
from rdujax.estimate.price import kernel_cycles
from rdujax.graph.graph import Graph
from rdujax.graph.plan import Kernel, Loop, PlannedKernel, Tiling
from rdujax.machines.machine import Machine

Axes = tuple[int, frozenset[tuple[int, int]]]


def tile(graph: Graph, kernel: Kernel, tiers: dict[int, str], wide: frozenset[int], machine: Machine) -> PlannedKernel:
    """The kernel in the cheapest legal tiling, allocated; raises CapacityError where no tiling fits."""
    axes = streamable(graph, kernel)
    pinned = _pinned(graph, kernel, axes)
    best: tuple[int, PlannedKernel] | None = None
    refusal: CapacityError | None = None
    nests = [[pinned]] if pinned is not None else [_nests(axes, 1, machine), _nests(axes, 2, machine)]
    for candidates in nests:
        for loops in candidates:
            try:
                planned = _resident(graph, kernel, loops, tiers, wide, machine)
            except CapacityError as error:
                refusal = refusal or error
                continue
            cycles = kernel_cycles(graph, planned, machine)
            if best is None or cycles < best[0]:
                best = (cycles, planned)
        if best is not None:
            return best[1]
    assert refusal is not None
    raise refusal


def _nests(axes: tuple[Axes, ...], depth: int, machine: Machine) -> Iterator[tuple[Loop, ...]]:
    """Loop nests of `depth` loops, larger tiles first; the nest without any cut comes with depth 1."""
    if depth == 1:
        yield ()
    for chosen in permutations(axes, depth):
        yield from _cuts(chosen, machine)


def _cuts(chosen: tuple[Axes, ...], machine: Machine) -> Iterator[tuple[Loop, ...]]:
    if not chosen:
        yield ()
        return
    length, members = chosen[0]
    for size in _sizes(length, machine):
        for inner in _cuts(chosen[1:], machine):
            yield (Loop(length, size, members), *inner)


def _sizes(length: int, machine: Machine) -> list[int]:
    """Powers of two below the axis, largest first; of a long axis no less than the rows of one array."""
    rows = int(machine.pcu.systolic_rows.value)
    size = rows if length > 2 * rows else 1
    sizes = []
    while size < length:
        sizes.append(size)
        size *= 2
    return sizes[::-1]


def _resident(
    graph: Graph, kernel: Kernel, loops: tuple[Loop, ...], tiers: dict[int, str], wide: frozenset[int], machine: Machine
) -> PlannedKernel:
    """Allocated with everything that would be moved again kept on chip, or with nothing more than must be."""
    bare = Tiling(loops, frozenset())
    must = frozenset(v for v in kernel.loads if bare.turns > 1 and not any(bare.walks(v)))
    again = frozenset(v for v in kernel.loads if bare.sweeps(v) > 1)
    try:
        return allocate(graph, kernel, Tiling(loops, must | again), tiers, wide, machine)
    except CapacityError:
        if not again:
            raise
        return allocate(graph, kernel, Tiling(loops, must), tiers, wide, machine)


def _pinned(graph: Graph, kernel: Kernel, axes: tuple[Axes, ...]) -> tuple[Loop, ...] | None:
    """The nest that tiles fixed by hand ask for, or None where none are fixed."""
    wanted: dict[int, int] = {}
    fixed = [(node.result, node.pins.tile, node.label) for node in kernel.nodes if node.pins.tile is not None]
    for value, tile_shape, label in fixed:
        shape = graph.types[value].shape
        for axis, (size, length) in enumerate(zip(tile_shape, shape, strict=True)):
            if size == length:
                continue
            at = next((i for i, (_, members) in enumerate(axes) if (value, axis) in members), None)
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
    return tuple(Loop(axes[at][0], size, axes[at][1]) for at, size in sorted(wanted.items()))
