"""Header of a PCU: the broadcast buffer, which holds an operand and gives it to every row of the body.

What it is     The buffer in front of the body (MICRO 2024, section IV-A). An operand is loaded once and then shown to
               all rows and in all turns, until another is loaded.

                   operand --load--> [ broadcast buffer ] ==multicast==> row, row, row, ...

The law        Each row of each delivered tile shows the operand that was loaded last, bit by bit; before the first
               load it shows poison (NaN). cycles of a load = ceil(bytes / vector bytes); delivering takes none of its
               own: it runs beside the stream that it meets in the body.
Modelled       capacity, loading, multicast over any leading axes.
Not modelled   a second operand loaded while the first is in use; the skew of rows in a systolic array.
Sources        MICRO 2024, IV-A names the buffer; its size is an assumption of the machine.
"""

from dataclasses import dataclass
from functools import partial
from math import prod
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base.errors import ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import ceil_div
from rdujax.numerics.formats import Format
from rdujax.streams import stream as streams
from rdujax.streams.layout import Layout
from rdujax.streams.lift import must_fit_int32
from rdujax.streams.stream import POISON, Stream
from rdujax.units import capacity, pcu


@partial(jax.tree_util.register_dataclass, data_fields=["held"], meta_fields=["fmt"])
@dataclass(frozen=True)
class State:
    """What the buffer holds: carriers of `fmt`."""

    held: jax.Array
    fmt: Format


def init(config: pcu.Config, shape: tuple[int, ...], fmt: Format) -> State:
    """A buffer for an operand [*shape], not yet loaded: poison. Raises CapacityError where it does not fit (L6)."""
    check(config, prod(shape) * fmt.width_bytes, "the header of a PCU")
    return State(jnp.full(shape, POISON[fmt], fmt.carrier), fmt)


def load(state: State, operand: jax.Array, tally: bool = True) -> tuple[State, Counts]:
    """Loads an operand, carriers of the buffer's shape and format, over the one before.

    Derivatives pass through to the operand. Raises ShapeError for another shape or dtype.
    """
    if operand.shape != state.held.shape or operand.dtype != state.held.dtype:
        raise ShapeError(
            describe(
                "the broadcast buffer is configured for another operand",
                given=f"{operand.dtype.name}{list(operand.shape)}",
                allowed=f"{state.held.dtype.name}{list(state.held.shape)}, carriers of {state.fmt}",
            )
        )
    return State(operand, state.fmt), _loaded(operand.size * state.fmt.width_bytes) if tally else Counts()


def _loaded(size_bytes: int) -> Counts:
    must_fit_int32(size_bytes, "bytes of an operand")
    return Counts({"pcu.header_bytes": jnp.asarray(size_bytes, jnp.int32)})


def multicast(state: State, layout: Layout) -> Stream:
    """The operand on every row of a stream of `layout`, whose last axes are those of the operand.

    Derivatives: the sum over the rows. Raises ShapeError where the last axes of the layout differ.

    >>> from rdujax.numerics.formats import FP32
    >>> multicast(State(jnp.asarray([1.0, 2.0]), FP32), Layout((3, 2), (3, 2), (0, 1))).data[0].tolist()
    [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0]]
    """
    shape = state.held.shape
    if layout.shape[len(layout.shape) - len(shape) :] != shape:
        raise ShapeError(
            describe(
                "an operand of other axes than the stream it meets",
                given=f"operand {shape}, stream {layout}",
                allowed="the last axes of the stream",
            )
        )
    rows = jnp.broadcast_to(state.held, layout.shape)
    return Stream(streams.cut(rows, layout, state.fmt), layout, state.fmt)


def predict(shape: tuple[int, ...], fmt: Format) -> Counts:
    """The counts of one load, from shapes alone."""
    return Counts({"pcu.header_bytes": prod(shape) * fmt.width_bytes})


def load_cycles(config: pcu.Config, shape: tuple[int, ...], fmt: Format) -> Any:
    """Cycles of loading an operand; exact, or differentiable in the facts."""
    return ceil_div(prod(shape) * fmt.width_bytes, pcu.vector_bytes(config))


def check(config: pcu.Config, operand_bytes: int, where: str) -> None:
    """Refuses an operand that the buffer does not hold (law L6)."""
    capacity.check(
        "byte", {"operand in the broadcast buffer": operand_bytes}, int(config.header_bytes.value),
        where=where, do="hold a part of the operand at a time, or read it from a stage buffer",
    )  # fmt: skip
