"""A function that is one `jax.shard_map`: the program of one socket, and how the whole is cut into parts and joined.

    jax.shard_map(f, mesh, in_specs, out_specs)        the graph is f on one part; a part for every place of the mesh

All sockets run the same program, each on its parts; they meet in collectives. What is not cut is the same on all.
The mesh may be abstract: then, and on one device, the sockets are a mapped axis for each of the mesh's.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import prod
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import PartitionSpec

from rdujax.base import compat
from rdujax.base.errors import UnsupportedError, describe

Parts = tuple[tuple[str, ...], ...]  # for every axis of a tensor, the axes of the mesh that it is cut over, outer first


@dataclass(frozen=True)
class Sockets:
    """The places that a program runs on. axes: of the mesh, name and size. taken, given: of inputs and outputs.

    mesh: the devices, where the function names them.
    """

    axes: tuple[tuple[str, int], ...]
    taken: tuple[Parts, ...]
    given: tuple[Parts, ...]
    mesh: Any = field(default=None, compare=False)

    @property
    def count(self) -> int:
        """How many sockets there are."""
        return self._times([name for name, _ in self.axes])

    def whole_shape(self, i: int, part: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of input i of which every socket has a part of this shape."""
        return tuple(n * self._times(names) for n, names in zip(part, self._spec(i, len(part)), strict=True))

    def part_shape(self, i: int, whole: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of a part of input i."""
        return tuple(n // self._times(names) for n, names in zip(whole, self._spec(i, len(whole)), strict=True))

    def everywhere(self, fn: Callable[..., list[jax.Array]]) -> Callable[..., list[jax.Array]]:
        """`fn(parts, *shared)` of one socket, as a function of whole inputs to whole results.

        On the devices of the mesh where the function names them, otherwise by mapped axes: the same bits (law L1).
        Derivatives by the inputs are taken on every socket, where the axes of the mesh have their names; shared values
        have none.
        """
        if not self.axes:
            return fn
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

        return whole

    def _on_all(self, fn: Callable[..., list[jax.Array]]) -> Callable[..., list[jax.Array]]:
        if self.mesh is None:
            return lambda flat, *shared: self._joined(self.mapped(fn)(flat, *shared))

        def placed(flat: Sequence[jax.Array], *shared: Any) -> list[jax.Array]:
            taken, given = (
                [PartitionSpec(*(names or None for names in p)) for p in parts] for parts in (self.taken, self.given)
            )
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

        return run if self.axes else fn

    def _spec(self, i: int, rank: int) -> Parts:
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
        for n, names in zip(x.shape, self._spec(i, x.ndim), strict=True):
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

    def sockets(self, inputs: Sequence[Any], labels: Sequence[str]) -> Sockets:
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
        taken = tuple(specs.get(v, ()) for v in inputs)
        return Sockets(self.axes, taken, tuple(self.out_specs[i] for i in self.outputs), self.mesh)


def found(jaxpr: Any) -> Whole | None:
    """What a jaxpr says if it is one `shard_map`, perhaps inside of a `jit`; None where it is something else.

    Raises UnsupportedError where only some axes of the mesh are taken.
    """
    if len(jaxpr.eqns) != 1:
        return None
    (eqn,) = jaxpr.eqns
    places = {v: i for i, v in enumerate(eqn.outvars)}
    if any(isinstance(v, compat.Literal) or v not in places for v in jaxpr.outvars):
        return None
    outputs = tuple(places[v] for v in jaxpr.outvars)
    if eqn.primitive.name in ("jit", "pjit"):
        inner, consts = compat.open_jaxpr(eqn.params["jaxpr"])
        inside = found(inner) if not consts else None
        if inside is None or len(inside.outputs) != len(eqn.outvars):
            return None
        around = dict(zip(inner.invars, eqn.invars, strict=True))
        atoms = tuple(a if isinstance(a, compat.Literal) else around[a] for a in inside.atoms)
        chosen = tuple(inside.outputs[i] for i in outputs)
        return Whole(
            inside.body, atoms, chosen, inside.axes, inside.in_specs, inside.out_specs, inside.mesh, inside.source
        )
    if eqn.primitive.name != "shard_map":
        return None
    return _whole(eqn, outputs)


def _whole(eqn: Any, outputs: tuple[int, ...]) -> Whole:
    given, source = eqn.params, compat.source_line(eqn)
    axes = tuple((str(name), int(size)) for name, size in given["mesh"].shape.items())
    if set(given.get("newly_manual_axes", dict(axes))) != set(dict(axes)):
        raise UnsupportedError(
            describe("shard_map: some axes of the mesh are left to XLA", given=sorted(given["newly_manual_axes"]),
                     allowed=f"all of {', '.join(dict(axes))}", where=source, do="leave axis_names out")
        )  # fmt: skip
    specs = [tuple(_parts(spec) for spec in given[key]) for key in ("in_specs", "out_specs")]
    mesh = given["mesh"] if isinstance(given["mesh"], jax.sharding.Mesh) else None
    return Whole(given["jaxpr"], tuple(eqn.invars), outputs, axes, specs[0], specs[1], mesh, source)


def _parts(spec: Any) -> Parts:
    return tuple(() if each is None else each if isinstance(each, tuple) else (each,) for each in spec)


def _is_smooth(x: Any) -> bool:
    return jnp.issubdtype(x.dtype, jnp.inexact)
