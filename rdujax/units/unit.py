"""The family of units: what each of them answers, so that one set of laws holds for all.

A unit registers itself in the last line of its file:

    UNIT = UNITS.add("tln", Unit("tln", Config, ("tln.bytes",), price))

and is from then on under the law tests of the family, with the cases that `tests/laws/cases/` holds for it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rdujax.base.registry import Registry
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import Priced

UNITS: Registry["Unit"] = Registry("unit of the hardware", do="register it in the last line of its file")


@dataclass(frozen=True)
class Unit:
    """One unit of the hardware, as the laws see it.

    name: as on the die; also the name of its file and of its field in a machine.
    config: the record of its facts.
    counters: what its steps count.
    price: (config, counts, clock_hz) -> cycles for which the counted work keeps one such unit busy, were it alone and
        never waiting. Zero for no work, never less for more work, exact on plain facts, and differentiable in facts
        that JAX traces. What waits for what is the pipeline's business, not the unit's.
    """

    name: str
    config: type
    counters: tuple[str, ...]
    price: Callable[[Any, Counts, Any], Priced]
