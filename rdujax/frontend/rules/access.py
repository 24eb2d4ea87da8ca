"""Access patterns: primitives that move values and compute nothing."""

from rdujax.frontend.rule import Site, rule
from rdujax.ops.move import Move
from rdujax.streams.access import Broadcast, Detach, Reshape, Transpose


@rule("stop_gradient")
def _stop_gradient(site: Site) -> tuple[int, ...]:
    return (site.add(Move(Detach()), site.value(0)),)


@rule("transpose")
def _transpose(site: Site) -> tuple[int, ...]:
    permutation = tuple(site.parameters["permutation"])
    if permutation == tuple(range(len(permutation))):
        return (site.value(0),)
    return (site.add(Move(Transpose(permutation)), site.value(0)),)


@rule("reshape", "squeeze")
def _reshape(site: Site) -> tuple[int, ...]:
    if site.parameters.get("dimensions") is not None and site.primitive == "reshape":
        raise site.unsupported("dimensions reorder the operand", "transpose first, then reshape")
    shape, value = tuple(site.results[0].shape), site.value(0)
    if shape == site.builder.types[value].shape:
        return (value,)
    return (site.add(Move(Reshape(shape)), value),)


@rule("broadcast_in_dim")
def _broadcast(site: Site) -> tuple[int, ...]:
    if len(site.operands) != 1:
        raise site.unsupported("a dynamic shape", "use shapes that are known when the function is traced")
    shape, dimensions = tuple(site.results[0].shape), tuple(site.parameters["broadcast_dimensions"])
    value = site.value(0)
    source = site.builder.types[value].shape
    if shape == source:
        return (value,)
    if (
        all(n == 1 for axis, n in enumerate(shape) if axis not in dimensions)
        and tuple(shape[a] for a in dimensions) == source
    ):
        return (site.add(Move(Reshape(shape)), value),)  # only axes of length one are new
    return (site.add(Move(Broadcast(shape, dimensions)), value),)
