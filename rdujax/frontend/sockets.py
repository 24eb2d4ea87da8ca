"""A function that is one `jax.shard_map`: the program of one socket, and how the whole is cut into parts and joined.

    jax.shard_map(f, mesh, in_specs, out_specs)        the graph is f on one part; a part for every place of the mesh

All sockets run the same program, each on its parts; they meet in collectives. What is not cut is the same on all.
The mesh may be abstract: then, and on one device, the sockets are a mapped axis for each of the mesh's. Its axes may be
explicit: then how arguments are laid out is a part of their type, and of the program. What only lays out, before or
after the shard_map, moves no value and is passed over.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, PartitionSpec

from rdujax.base import compat
from rdujax.base.errors import ArgumentError, UnsupportedError, describe

LAYOUTS = ("reshard", "sharding_constraint")  # equations that only say how a value lies on devices
Parts = tuple[tuple[str, ...], ...]  # for every axis of a tensor, the axes of the mesh that it is cut over, outer first


def node(sockets: int = 8, axis: str = "sockets") -> AbstractMesh:
    """So many sockets of a node, as a mesh of one axis: `jax.shard_map(f, mesh=node(8), in_specs=..., out_specs=...)`.

    It is abstract, and needs no devices: to emulate every socket on a device of its own, pass a mesh of devices
    instead. Raises ArgumentError for no sockets.
    """
    if isinstance(sockets, bool) or not isinstance(sockets, int) or sockets < 1:
        raise ArgumentError(describe("sockets of a node", given=repr(sockets), allowed="an integer, 1 or more"))
    return AbstractMesh((sockets,), (axis,), axis_types=(AxisType.Auto,))


@dataclass(frozen=True)
class Sockets:
    """The places that a program runs on. axes: of the mesh, name and size. taken, given: of inputs and outputs.

    mesh: the devices, where the function names them. explicit: the axes of that type. laid: over these, how each input
    was laid out when the function was traced.
    """

    axes: tuple[tuple[str, int], ...]
    taken: tuple[Parts, ...]
    given: tuple[Parts, ...]
    mesh: Any = field(default=None, compare=False)
    explicit: tuple[str, ...] = ()
    laid: tuple[Parts, ...] = ()

    @property
    def count(self) -> int:
        """How many sockets there are."""
        return self._times([name for name, _ in self.axes])

    def whole_shape(self, i: int, part: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of input i of which every socket has a part of this shape."""
        return tuple(n * self._times(names) for n, names in zip(part, self._names(i, len(part)), strict=True))

    def part_shape(self, i: int, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a part of input i."""
        return tuple(n // self._times(names) for n, names in zip(whole, self._names(i, len(whole)), strict=True))

    def check_layout(self, i: int, x: Any, label: str, where: str) -> None:
        """Refuses input i where its type says another layout than it was traced with; ArgumentError.

        Under JAX, the function would be another one of it. An array whose type says no layout is cut as is needed.
        """
        sharding = compat.explicit_sharding(x) if self.explicit else None
        if sharding is None:
            return
        laid = _over(_parts(sharding.spec, where), self.explicit)
        if laid != self.laid[i] or compat.explicit_axes(sharding.mesh) != self.explicit:
            raise ArgumentError(
                describe(f"argument {label} is laid out in another way", given=_spec(laid), allowed=_spec(self.laid[i]),
                         where=where, do="lay it out so with jax.reshard, or compile for this layout")
            )  # fmt: skip

    def everywhere(self, fn: Callable[..., list[jax.Array]]) -> Callable[..., list[jax.Array]]:
        """`fn(parts, *shared)` of one socket, as a function of whole inputs to whole results.

        On the devices of the mesh where the function names them, otherwise by mapped axes: the same bits (law L1).
        Derivatives by the inputs are taken on every socket, where the axes of the mesh have their names; shared values
        have none.
        """
        if not self.axes:
            return compat.with_automatic_axes(fn)
        whole = jax.custom_jvp(self._on_all(fn))

        @whole.defjvp
        def derivative(primals: Any, tangents: Any) -> Any:
            flat, *shared = primals
            smooth = [i for i, x in enumerate(flat) if _is_smooth(x)]
            results = jax.eval_shape(self._on_all(fn), *primals)
            slopes = [i for i, y in enumerate(results) if _is_smooth(y)]

            def both(parts: Sequence[jax.Array], *shared: Any) -> list[jax.Array]:
                x, dx = list(parts[: len(flat)]), iter(parts[len(flat) :])
                directions = [
                    next(dx) if i in smooth else np.zeros(p.shape, jax.dtypes.float0) for i, p in enumerate(x)
                ]
                y, dy = jax.jvp(lambda given: fn(given, *shared), (x,), (directions,))
                return [*y, *(dy[i] for i in slopes)]

            taken = (*self.taken, *(self.taken[i] for i in smooth))
            wide = replace(self, taken=taken, given=(*self.given, *(self.given[i] for i in slopes)))
            found = wide._on_all(both)([*flat, *(tangents[0][i] for i in smooth)], *shared)
            y, dy = found[: len(results)], iter(found[len(results) :])
            return y, [next(dy) if i in slopes else np.zeros(v.shape, jax.dtypes.float0) for i, v in enumerate(y)]

        return compat.with_automatic_axes(whole, self._laid_out)

    def _laid_out(self, mesh: Any) -> list[PartitionSpec] | PartitionSpec:
        """How the results lie over a mesh with explicit axes: as plain JAX would lay them out, or whole everywhere."""
        if self.mesh is None or mesh.axis_names != self.mesh.axis_names:
            return PartitionSpec()
        return [_spec(_over(parts, self.explicit)) for parts in self.given]

    def _on_all(self, fn: Callable[..., list[jax.Array]]) -> Callable[..., list[jax.Array]]:
        if self.mesh is None:
            return lambda flat, *shared: self._joined(self.mapped(fn)(flat, *shared))

        def placed(flat: Sequence[jax.Array], *shared: Any) -> list[jax.Array]:
            taken, given = (list(map(_spec, parts)) for parts in (self.taken, self.given))
            specs = (taken, *(PartitionSpec() for _ in shared))
            each = jax.shard_map(fn, mesh=self.mesh, in_specs=specs, out_specs=given, check_vma=False)
            return each(list(flat), *shared)

        return placed

    def mapped(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn(parts, *shared)` of one socket, as a function of whole inputs; results have the mesh's axes in front."""

        def run(flat: Sequence[jax.Array], *shared: Any) -> Any:
            each = fn
            for name, size in reversed(self.axes):
                cut = [0 if any(name in names for names in parts) else None for parts in self.taken]
                each = jax.vmap(each, in_axes=(cut, *(None for _ in shared)), axis_name=name, axis_size=size)
            return each([self._cut(x, i) for i, x in enumerate(flat)], *shared)

        return compat.with_automatic_axes(run if self.axes else fn)

    def _names(self, i: int, rank: int) -> Parts:
        parts = self.taken[i] if self.axes else ()
        return (*parts, *[()] * (rank - len(parts)))

    def _times(self, names: Sequence[str]) -> int:
        sizes = dict(self.axes)
        return prod(sizes[name] for name in names)

    def _cut(self, x: jax.Array, i: int) -> jax.Array:
        """Input i with the axes of the mesh that it is cut over in front, in the order of the mesh."""
        sizes = dict(self.axes)
        shape: list[int] = []
        places: dict[str, int] = {}
        for n, names in zip(x.shape, self._names(i, x.ndim), strict=True):
            for name in names:
                places[name] = len(shape)
                shape.append(sizes[name])
            shape.append(n // self._times(names))
        order = [places[name] for name, _ in self.axes if name in places]
        return jnp.moveaxis(x.reshape(shape), order, range(len(order)))

    def _joined(self, results: Sequence[jax.Array]) -> list[jax.Array]:
        """Whole results of those of a mapped function; of what is alike on sockets, that of the first."""
        return [self._join(x, parts) for x, parts in zip(results, self.given, strict=True)]

    def _join(self, x: jax.Array, parts: Parts) -> jax.Array:
        cut = {name for names in parts for name in names}
        for at, (name, _) in reversed(list(enumerate(self.axes))):
            if name not in cut:
                x = jax.lax.index_in_dim(x, 0, at, keepdims=False)
        mesh = [name for name, _ in self.axes if name in cut]
        local = x.shape[len(mesh) :]
        order: list[int] = []
        for axis in range(len(local)):
            order += [mesh.index(name) for name in (parts[axis] if axis < len(parts) else ())]
            order.append(len(mesh) + axis)
        names = (*parts, *[()] * (len(local) - len(parts)))
        whole = [n * self._times(each) for n, each in zip(local, names, strict=True)]
        return x.transpose(order).reshape(whole)


ONE = Sockets((), (), ())  # a program of one socket: nothing is cut


@dataclass(frozen=True)
class Whole:
    """A jaxpr that is one `shard_map`. body: that of one socket. atoms: what each of its inputs is outside.

    outputs: which result of the body each output is. source: the user's line.
    """

    body: Any
    atoms: tuple[Any, ...]
    outputs: tuple[int, ...]
    axes: tuple[tuple[str, int], ...]
    in_specs: tuple[Parts, ...]
    out_specs: tuple[Parts, ...]
    mesh: Any
    source: str

    def sockets(self, inputs: Sequence[Any], labels: Sequence[str], structs: Sequence[jax.ShapeDtypeStruct]) -> Sockets:
        """How the inputs of the jaxpr are cut; UnsupportedError for one that is cut in two ways, or a constant."""
        specs: dict[Any, Parts] = {}
        for atom, parts in zip(self.atoms, self.in_specs, strict=True):
            cut = any(parts)
            if isinstance(atom, compat.Literal):
                continue
            where = labels[inputs.index(atom)] if atom in inputs else ""
            if (cut and not where) or specs.setdefault(atom, parts) != parts:
                what = f"argument {where} cut in two ways" if where else "a constant that is cut"
                raise UnsupportedError(
                    describe(f"shard_map: {what}", given=parts, where=self.source, do="pass it as an argument for each")
                )
        taken, explicit = tuple(specs.get(v, ()) for v in inputs), compat.explicit_axes(self.mesh)
        given = tuple(self.out_specs[i] for i in self.outputs)
        laid = tuple(_over(_laid(x, self.source), explicit) for x in structs)
        return Sockets(self.axes, taken, given, compat.automatic(self.mesh), explicit, laid)


def found(jaxpr: Any) -> Whole | None:
    """What a jaxpr says if it is one `shard_map`, perhaps inside of a `jit`; None where it is something else.

    Raises UnsupportedError where only some axes of the mesh are taken.
    """
    same: dict[Any, Any] = {}  # what is only laid out: what it is

    def read(atom: Any) -> Any:
        return atom if isinstance(atom, compat.Literal) else same.get(atom, atom)

    work = []
    for eqn in jaxpr.eqns:
        if eqn.primitive.name in LAYOUTS:
            same[eqn.outvars[0]] = read(eqn.invars[0])
        else:
            work.append(eqn)
    if len(work) != 1:
        return None
    (eqn,) = work
    places, results = {v: i for i, v in enumerate(eqn.outvars)}, [read(v) for v in jaxpr.outvars]
    if any(isinstance(v, compat.Literal) or v not in places for v in results):
        return None
    outputs, given = tuple(places[v] for v in results), tuple(map(read, eqn.invars))
    if eqn.primitive.name in ("jit", "pjit"):
        inner, consts = compat.open_jaxpr(eqn.params["jaxpr"])
        inside = found(inner) if not consts else None
        if inside is None or len(inside.outputs) != len(eqn.outvars):
            return None
        around = dict(zip(inner.invars, given, strict=True))
        atoms = tuple(a if isinstance(a, compat.Literal) else around[a] for a in inside.atoms)
        chosen = tuple(inside.outputs[i] for i in outputs)
        return Whole(
            inside.body, atoms, chosen, inside.axes, inside.in_specs, inside.out_specs, inside.mesh, inside.source
        )
    if eqn.primitive.name != "shard_map":
        return None
    return _whole(eqn, given, outputs)


def _whole(eqn: Any, atoms: tuple[Any, ...], outputs: tuple[int, ...]) -> Whole:
    given, source = eqn.params, _source(eqn)
    axes = tuple((str(name), int(size)) for name, size in given["mesh"].shape.items())
    if set(given.get("newly_manual_axes", dict(axes))) != set(dict(axes)):
        raise UnsupportedError(
            describe("shard_map: some axes of the mesh are left to XLA", given=sorted(given["newly_manual_axes"]),
                     allowed=f"all of {', '.join(dict(axes))}", where=source, do="leave axis_names out")
        )  # fmt: skip
    specs = [tuple(_parts(spec, source) for spec in given[key]) for key in ("in_specs", "out_specs")]
    return Whole(given["jaxpr"], atoms, outputs, axes, specs[0], specs[1], given["mesh"], source)


def _source(eqn: Any) -> str:
    """The user's line, or the function of one socket where no line of the user calls it."""
    file, name = compat.source_function(eqn)
    return compat.source_line(eqn) or (f"{file} ({name})" if file else "")


def _parts(spec: PartitionSpec, where: str) -> Parts:
    """The axes of the mesh by the axes of a tensor; UnsupportedError where sockets hold terms of a sum to be made."""
    if spec.unreduced or spec.reduced:
        raise UnsupportedError(
            describe("a layout of sums that are not made yet", given=spec, where=where, do="sum with jax.lax.psum")
        )
    return tuple(() if each is None else each if isinstance(each, tuple) else (each,) for each in spec)


def _laid(x: jax.ShapeDtypeStruct, where: str) -> Parts:
    """How a struct is laid out by its type; an empty part for every axis where it says nothing."""
    sharding = compat.explicit_sharding(x)
    return ((),) * len(x.shape) if sharding is None else _parts(sharding.spec, where)


def _over(parts: Parts, axes: Sequence[str]) -> Parts:
    """The parts as far as they are over these axes of the mesh."""
    return tuple(tuple(name for name in names if name in axes) for names in parts)


def _spec(parts: Parts) -> PartitionSpec:
    return PartitionSpec(*(names or None for names in parts))


def _is_smooth(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)
