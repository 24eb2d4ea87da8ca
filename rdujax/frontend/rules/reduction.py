"""Reductions over axes."""

from rdujax.frontend.rule import Site, rule
from rdujax.frontend.rules.elementwise import flipped
from rdujax.numerics.formats import INT32, UINT32, format_of
from rdujax.ops.reduce import Reduce

FUNCTIONS = {
    "reduce_sum": "sum", "reduce_prod": "prod", "reduce_max": "max", "reduce_min": "min",
    "reduce_and": "and", "reduce_or": "or", "reduce_xor": "xor",
}  # fmt: skip


@rule(*FUNCTIONS)
def _reduce(site: Site) -> tuple[int, ...]:
    axes = tuple(sorted(site.parameters["axes"]))
    if not axes:
        return (site.value(0),)
    output = format_of(site.results[0].dtype, where=site.source)
    function, value = FUNCTIONS[site.primitive], site.value(0)
    if output is UINT32 and function in ("max", "min"):
        return (flipped(site, site.add(Reduce(function, axes, INT32), flipped(site, value))),)
    return (site.add(Reduce(function, axes, output), value),)
