"""Reductions over axes."""

from dataclasses import replace

from rdujax.frontend.rule import RULES, Scalar, Site, rule
from rdujax.frontend.rules.elementwise import flipped
from rdujax.frontend.rules.windows import COMBINERS, combination, identity
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


@rule("reduce")
def _combined(site: Site) -> tuple[int, ...]:
    """A combination that has a name; the first value is combined with the reduction at its end."""
    if len(site.operands) != 2:
        raise site.unsupported("several tensors reduced at once", "reduce one at a time, or use argmax and argmin")
    function, first = combination(site), site.operands[1]
    name = f"reduce_{function}"
    (found,) = _reduce(
        replace(site, primitive=name, operands=site.operands[:1], parameters={"axes": site.parameters["dimensions"]})
    )
    neutral = identity(function, format_of(site.results[0].dtype, where=site.source))
    if isinstance(first, Scalar) and first.number == neutral:
        return (found,)
    element = next(key for key, named in COMBINERS.items() if named == function)
    return RULES[element](replace(site, primitive=element, operands=(found, first)))
