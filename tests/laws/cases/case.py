"""What a unit's case for the laws is; each file beside this one is named after a unit and has `cases(rng)`."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rdujax.ledger.counts import Counts


@dataclass(frozen=True)
class Case:
    """One small piece of work for a unit, with what an independent reference says of it.

    run: a pure function of arrays, which jit and vmap may trace: (*args) -> (pytree of arrays, tallied counts).
    args: its operands, NumPy arrays.
    expected: the pytree that it must return, bit by bit, computed with NumPy and never by the library.
    predicted: the counts that the work must be tallied as, from shapes (or from the configuration) alone.
    """

    name: str
    run: Callable[..., tuple[Any, Counts]]
    args: tuple[Any, ...]
    expected: Any
    predicted: Counts
