"""Reductions over axes."""

from rdujax.frontend.rule import Site, rule
from rdujax.numerics.formats import format_of
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
    return (site.add(Reduce(FUNCTIONS[site.primitive], axes, output), site.value(0)),)
