"""Collectives over the sockets that one program runs on (see `../sockets.py`), or over an axis that `vmap` named."""

from dataclasses import replace
from typing import Any

from rdujax.frontend.rule import RULES, Site, rule
from rdujax.ops.exchange import Exchange
from rdujax.ops.move import Move
from rdujax.streams.access import Reshape

REDUCTIONS = {"psum": "sum", "psum_invariant": "sum", "pmax": "max", "pmin": "min"}


@rule(*REDUCTIONS)
def _reduced(site: Site) -> tuple[int, ...]:
    """Over several axes: over the last one first. An axis that `vmap` named is one of the tensor by now."""
    axes, function = tuple(site.parameters["axes"]), REDUCTIONS[site.primitive]
    named, places = [a for a in axes if not isinstance(a, int)], tuple(a for a in axes if isinstance(a, int))
    _check_groups(site)
    found = []
    for i, result in enumerate(site.results):
        value = site.value(i)
        if places:
            of_places = replace(
                site, primitive=f"reduce_{function}", operands=(value,), parameters={"axes": places}, results=(result,)
            )
            (value,) = RULES[f"reduce_{function}"](of_places)
        for axis in reversed(named):
            value = site.add(Exchange("all_reduce", axis, _size(site, axis), function), value)  # type: ignore[arg-type]
        found.append(value)
    return tuple(found)


@rule("pvary")
def _same(site: Site) -> tuple[Any, ...]:
    """What is alike on all sockets, taken as what differs: nothing is moved."""
    return site.operands


@rule("axis_index")
def _index(site: Site) -> tuple[int, ...]:
    axis = _only(site, site.parameters["axis_name"])
    return (site.add(Exchange("index", axis, _size(site, axis))),)


@rule("all_gather")
def _gathered(site: Site) -> tuple[int, ...]:
    axis, value, at = _only(site, site.parameters["axis_name"]), site.value(0), site.parameters["all_gather_dimension"]
    if not site.parameters["tiled"]:
        shape = site.builder.types[value].shape
        value = site.add(Move(Reshape((*shape[:at], 1, *shape[at:]))), value)
    return (site.add(Exchange("all_gather", axis, _size(site, axis), axis=at), value),)


@rule("reduce_scatter")
def _scattered(site: Site) -> tuple[int, ...]:
    axis, at = _only(site, site.parameters["axis_name"]), site.parameters["scatter_dimension"]
    value = site.add(Exchange("reduce_scatter", axis, _size(site, axis), axis=at), site.value(0))
    return (_shaped(site, value),)


@rule("all_to_all")
def _swapped(site: Site) -> tuple[int, ...]:
    axis, value = _only(site, site.parameters["axis_name"]), site.value(0)
    split, joined = site.parameters["split_axis"], site.parameters["concat_axis"]
    if not site.parameters["tiled"]:  # the axis that is split goes, and a new one comes
        shape = site.builder.types[value].shape
        joined, split = (joined, split + 1) if joined <= split else (joined + 1, split)
        value = site.add(Move(Reshape((*shape[:joined], 1, *shape[joined:]))), value)
    op = Exchange("all_to_all", axis, _size(site, axis), axis=split, joined_axis=joined)
    return (_shaped(site, site.add(op, value)),)


@rule("ppermute")
def _permuted(site: Site) -> tuple[int, ...]:
    axis = _only(site, site.parameters["axis_name"])
    pairs = tuple((int(source), int(target)) for source, target in site.parameters["perm"])
    op = Exchange("permute", axis, _size(site, axis), pairs=pairs)
    return tuple(site.add(op, site.value(i)) for i in range(len(site.operands)))


def _shaped(site: Site, value: int) -> int:
    """The value in the shape of the result."""
    shape = tuple(site.results[0].shape)
    return value if site.builder.types[value].shape == shape else site.add(Move(Reshape(shape)), value)


def _only(site: Site, axis_name: Any) -> str:
    names = axis_name if isinstance(axis_name, tuple) else (axis_name,)
    if len(names) != 1:
        raise site.unsupported(f"several axes at once, {', '.join(map(str, names))}", "go over one after the other")
    _check_groups(site)
    return names[0]


def _check_groups(site: Site) -> None:
    if site.parameters.get("axis_index_groups") is not None:
        raise site.unsupported("groups of an axis", "give the mesh an axis for them")


def _size(site: Site, axis: str) -> int:
    if axis not in site.builder.axes:
        raise site.unsupported(
            f"an axis {axis!r} that is not one of sockets", "make jax.shard_map over it the whole of the function"
        )
    return site.builder.axes[axis]
