"""PMU, address streams of whole tensors: affine addresses, and the order in which a layout's tiles arrive.

What it is     What software writes into the counters and ALUs of a PMU (see address.py) to walk through a tensor.

                   for each tile in order of arrival            counters that step by whole tiles
                       for each row of the tile                 counters that step by elements
                           vectors of neighbouring elements --> address = sum of the counters

The law        address = offset + sum over axes of index x stride. Where tiles divide an axis its counters step by
               strides and the sum is all; where they do not, the counters step by elements, a product gives the
               address, and a predicate drops what lies beyond the tensor.
Modelled       any layout, transposed reads (permuted strides), broadcasts (stride 0).
Not modelled   vectors along another axis than the last (see alignment.py).
Sources        MICRO 2024, IV-B and VII.
"""

from collections.abc import Sequence
from math import prod

from rdujax.base.errors import ArgumentError, ShapeError, describe
from rdujax.streams.layout import Layout
from rdujax.units.pmu.address import Generator, Loop
from rdujax.units.pmu.expression import Address, constant, counter


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    """The strides of an array in row-major order."""
    return tuple(prod(shape[axis + 1 :]) for axis in range(len(shape)))


def affine(strides: Sequence[int], offset: int = 0) -> Address:
    """offset + the sum of counter i x strides[i]; a stride of 1 takes no product, one of 0 takes nothing.

    >>> print(affine([12, 1, 0], offset=7))
    ((c0 * 12) + c1) + 7
    """
    terms = [counter(i) if stride == 1 else counter(i) * stride for i, stride in enumerate(strides) if stride]
    return _added([*terms, constant(offset)] if offset or not terms else terms)


def of_layout(layout: Layout, lanes: int, strides: Sequence[int] | None = None, offset: int = 0) -> Generator:
    """The stream that reads or writes a tensor tile by tile, in its order of arrival, in vectors of up to `lanes`.

    strides: elements between neighbours along each axis in memory; row-major by default, permuted for a transposed
    read, 0 along a broadcast axis. Row-major within a tile; each row of the last axis is cut into vectors.
    Raises ShapeError for a scalar, which has no axis to run lanes along, and for another number of strides than axes;
    ArgumentError for no lane.

    >>> from rdujax.streams.layout import tiled
    >>> print(of_layout(tiled((4, 6), (2, 4)), lanes=4))
    c0<2 c1<2 c2<2 c3<1 c4<4: (c0 + c2) + (c1 + c4) if (c1 + c4) < 6
    """
    if not layout.shape:
        raise ShapeError(describe("a scalar has no axis to run lanes along", given=str(layout)))
    rank, tile = len(layout.shape), layout.tile
    strides = row_major(layout.shape) if strides is None else strides
    if len(strides) != rank:
        raise ShapeError(
            describe("a stride for each axis is needed", given=f"strides {tuple(strides)}",
                     allowed=f"{rank}, one for each axis of {layout}", where="address stream of a layout",
                     do="give 0 along an axis that is broadcast")
        )  # fmt: skip
    if lanes < 1:
        raise ArgumentError(
            describe("vectors without a lane", given=f"lanes={lanes}", allowed="1 or more",
                     where="address stream of a layout")
        )  # fmt: skip
    width = min(lanes, tile[-1])
    # (axis, turns, elements per turn) of each counter, outermost first.
    plan = [(axis, layout.grid[axis], tile[axis]) for axis in layout.order]
    plan += [(axis, tile[axis], 1) for axis in range(rank - 1)]
    plan += [(rank - 1, -(-tile[-1] // width), width), (rank - 1, width, 1)]
    # An axis that some predicate must know counts elements; every other counts addresses at once.
    known = [size % t > 0 for size, t in zip(layout.shape, tile, strict=True)]
    known[-1] |= tile[-1] % width > 0

    nest = tuple(Loop(turns, step if known[axis] else step * strides[axis]) for axis, turns, step in plan)
    moving = [[i for i, (a, turns, _) in enumerate(plan) if a == axis and turns > 1] for axis in range(rank)]
    index = [_added([counter(i) for i in moving[axis]] or [constant(0)]) for axis in range(rank)]
    terms = [
        index[axis] * strides[axis] if known[axis] and strides[axis] != 1 else index[axis]
        for axis in range(rank)
        if moving[axis] and strides[axis]
    ]
    limits = [index[axis] < layout.shape[axis] for axis in range(rank) if layout.shape[axis] % tile[axis]]
    if tile[-1] % width:
        limits.append(counter(rank * 2 - 1) + counter(rank * 2) < tile[-1])
    predicate = None
    for limit in limits:
        predicate = limit if predicate is None else predicate & limit
    return Generator(nest, _added([*terms, constant(offset)] if offset or not terms else terms), predicate)


def _added(terms: Sequence[Address]) -> Address:
    total = terms[0]
    for term in terms[1:]:
        total = total + term
    return total
