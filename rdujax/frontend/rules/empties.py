"""Arrays without elements: nothing in memory and no node; what they are given to is written here without them.

JAX makes them where a recursion ends or a part is cut off that has no width. The rules of the other files see none,
but as indices of no axis. An argument or result of a program has at least one element.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from rdujax.frontend.rule import Empty, Operand, Scalar, Site
from rdujax.frontend.rules.indexing import SCATTERS

Rest = Callable[[Site], Sequence[Operand | None]]
# The result of a combination of no elements, as JAX has it; of the largest of none there is nothing to say.
OF_NONE = {"reduce_sum": 0, "reduce_prod": 1, "reduce_and": -1, "reduce_or": 0, "reduce_xor": 0, "dot_general": 0}


def is_empty(kind: Any) -> bool:
    """Whether a result, or a value of this abstract type, has no elements."""
    return 0 in kind.shape


def nothing(site: Site) -> list[Operand | None]:
    """The results of an equation all of whose results are empty or not read."""
    return [Empty(tuple(kind.shape), kind.dtype) if is_empty(kind) else None for kind in site.results]


def apply(site: Site, rest: Rest) -> Sequence[Operand | None]:
    """The results of an equation, some of which have elements; rest: of one without empty arrays."""
    if not any(isinstance(o, Empty) for o in site.operands) and not any(is_empty(kind) for kind in site.results):
        return rest(site)
    return FORMS.get(site.primitive, lambda site, rest: rest(site))(site, rest)


def _joined(site: Site, rest: Rest) -> Sequence[Operand | None]:
    return rest(replace(site, operands=tuple(o for o in site.operands if not isinstance(o, Empty))))


def _padded(site: Site, rest: Rest) -> Sequence[Operand | None]:
    """All of it is padding."""
    return rest(_spread(site, site.operands[1]))


def _of_none(site: Site, rest: Rest) -> Sequence[Operand | None]:
    dtype = site.results[0].dtype
    number = np.asarray(OF_NONE[site.primitive]).astype(dtype)  # not emulated: a number of the text
    return rest(_spread(site, Scalar(number, dtype)))


def _spread(site: Site, operand: Operand) -> Site:
    return replace(
        site, primitive="broadcast_in_dim", operands=(operand,), parameters={"broadcast_dimensions": ()}
    )  # fmt: skip


def _updated(site: Site, rest: Rest) -> Sequence[Operand | None]:
    """By no elements: what it was."""
    update = site.operands[1 if site.primitive == "dynamic_update_slice" else 2]
    return (site.operands[0],) if isinstance(update, Empty) else rest(site)


def _cut(site: Site, rest: Rest) -> Sequence[Operand | None]:
    kept = [i for i, kind in enumerate(site.results) if not is_empty(kind)]
    sizes = tuple(site.parameters["sizes"][i] for i in kept)
    return _among(
        site, kept, rest(replace(site, parameters=site.parameters | {"sizes": sizes}, results=_of(site, kept)))
    )


def _side_by_side(site: Site, rest: Rest) -> Sequence[Operand | None]:
    kept = [i for i, kind in enumerate(site.results) if not is_empty(kind)]
    operands = tuple(site.operands[i] for i in kept)
    return _among(site, kept, rest(replace(site, operands=operands, results=_of(site, kept))))


def _of(site: Site, kept: Sequence[int]) -> tuple[Any, ...]:
    return tuple(site.results[i] for i in kept)


def _among(site: Site, kept: Sequence[int], found: Sequence[Operand | None]) -> Sequence[Operand | None]:
    """All results: those that were kept, and the empty ones."""
    every = nothing(site)
    for i, value in zip(kept, found, strict=True):
        every[i] = value
    return every


FORMS: dict[str, Callable[[Site, Rest], Sequence[Operand | None]]] = {
    "concatenate": _joined,
    "pad": _padded,
    "split": _cut,
    **dict.fromkeys(OF_NONE, _of_none),
    **dict.fromkeys(("dynamic_update_slice", *SCATTERS), _updated),
    **dict.fromkeys(("optimization_barrier", "device_put"), _side_by_side),
}
