"""Running results, places of extremes, sorting."""

from rdujax.frontend.rule import Site, rule
from rdujax.frontend.rules.elementwise import flipped
from rdujax.numerics.formats import INT32, UINT32, format_of
from rdujax.ops.argument import Argument
from rdujax.ops.cumulate import Cumulate
from rdujax.ops.move import Move
from rdujax.ops.order import Order
from rdujax.ops.take import Places, Take
from rdujax.streams.access import Reshape

RUNNING = {"cumsum": "sum", "cumprod": "prod", "cummax": "max", "cummin": "min", "cumlogsumexp": "logsumexp"}


@rule(*RUNNING)
def _running(site: Site) -> tuple[int, ...]:
    output = format_of(site.results[0].dtype, where=site.source)
    function, value = RUNNING[site.primitive], site.value(0)
    biased = output is UINT32 and function in ("max", "min")
    op = Cumulate(function, site.parameters["axis"], INT32 if biased else output, site.parameters["reverse"])
    return (flipped(site, site.add(op, flipped(site, value))) if biased else site.add(op, value),)


@rule("argmax", "argmin")
def _argument(site: Site) -> tuple[int, ...]:
    (axis,) = site.parameters["axes"]
    if format_of(site.results[0].dtype, where=site.source) is not INT32:
        raise site.unsupported(f"places in {site.results[0].dtype}", "use int32, the default")
    return (site.add(Argument(axis, site.primitive == "argmax"), _signed(site, site.value(0))),)


@rule("sort")
def _sort(site: Site) -> tuple[int, ...]:
    axis, values = site.parameters["dimension"], [site.value(i) for i in range(len(site.operands))]
    places = site.add(Order(axis), *(_signed(site, v) for v in values[: site.parameters["num_keys"]]))
    return tuple(taken_along(site, value, places, axis) for value in values)


@rule("top_k")
def _top(site: Site) -> tuple[int, ...]:
    axis = site.parameters.get("axis", -1) % len(site.results[0].shape)
    value = site.value(0)
    places = site.add(Order(axis, site.parameters["k"]), _signed(site, value))
    return taken_along(site, value, places, axis), places


def _signed(site: Site, value: int) -> int:
    """A value whose order is that of its carriers."""
    return flipped(site, value) if site.builder.types[value].fmt is UINT32 else value


def taken_along(site: Site, value: int, places: int, axis: int) -> int:
    """The value's elements from INT32 places along one axis, the same places along all others."""
    shape = site.builder.types[places].shape
    others = tuple(a for a in range(len(shape)) if a != axis)
    vectors = site.add(Move(Reshape((*shape, 1))), places)
    take = Take(Places((), (axis,), (axis,), others, others), (1,) * len(shape))
    return site.add(take, value, vectors)
