"""Functions over the sockets of a mesh, shared by the tests on one device and on several.

    python -m tests.rooms.frontend.sharded [name ...]        in a process of its own with four devices or more

prints, as JSON, for the functions named or for all, how many elements differ between sockets that are mapped axes,
sockets on devices, and plain JAX; of a mesh with explicit axes, also whether results are laid out as by plain JAX.
"""

import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

import rdujax as rdu

SOCKETS = 4
RING = [(i, (i + 1) % SOCKETS) for i in range(SOCKETS)]


@dataclass(frozen=True)
class Sharded:
    """A function of one socket with how its operand [8, 12] is cut and its result is joined."""

    fn: Callable[..., Any]
    taken: P
    given: P

    def over(self, mesh: Any) -> Callable[..., Any]:
        """The function of the whole over a mesh with an axis "s"."""
        return jax.shard_map(self.fn, mesh=mesh, in_specs=self.taken, out_specs=self.given, check_vma=False)


CASES = {
    "sum": Sharded(lambda x: lax.psum(x, "s"), P("s"), P()),
    "mean": Sharded(lambda x: lax.pmean(x, "s"), P("s"), P()),
    "maximum": Sharded(lambda x: lax.pmax(x, "s"), P(None, "s"), P()),
    "minimum": Sharded(lambda x: lax.pmin(x, "s"), P("s"), P()),
    "gather, tiled": Sharded(lambda x: lax.all_gather(x, "s", axis=1, tiled=True), P("s"), P("s")),
    "gather, stacked": Sharded(lambda x: lax.all_gather(x, "s", axis=1), P("s"), P("s")),
    "scatter, tiled": Sharded(lambda x: lax.psum_scatter(x, "s", scatter_dimension=1, tiled=True), P(), P(None, "s")),
    "scatter, stacked": Sharded(lambda x: lax.psum_scatter(x[:4], "s"), P(), P("s")),
    "swap, tiled": Sharded(lambda x: lax.all_to_all(x, "s", 1, 0, tiled=True), P("s"), P(None, "s")),
    "swap, stacked": Sharded(lambda x: lax.all_to_all(x[:4], "s", 0, 1), P(None), P("s")),
    "swap, stacked behind": Sharded(lambda x: lax.all_to_all(x[:, :4], "s", 1, 0), P(None), P("s")),
    "ring": Sharded(lambda x: lax.ppermute(x, "s", RING), P("s"), P("s")),
    "two of four": Sharded(lambda x: lax.ppermute(x, "s", [(0, 2), (3, 3)]), P("s"), P("s")),
    "place": Sharded(lambda x: x + lax.axis_index("s").astype(jnp.float32), P("s"), P("s")),
}


def operand(rng: np.random.Generator) -> jax.Array:
    """Values whose sums are exact in any order."""
    return jnp.asarray(rng.integers(-9, 10, (8, 12)), jnp.float32)


def normal(rng: np.random.Generator, *shape: int) -> jax.Array:
    """Values whose sums are not."""
    return jnp.asarray(rng.standard_normal(shape), jnp.float32)


def layers(w: dict[str, jax.Array], x: jax.Array) -> jax.Array:
    """Two MLPs in a loop, cut over their hidden units: a partial sum each, and a sum over the sockets in every trip."""

    def layer(x: jax.Array, w: dict[str, jax.Array]) -> tuple[jax.Array, None]:
        return x + lax.psum(jnp.tanh(x @ w["up"]) @ w["down"], "s"), None

    return lax.scan(layer, x, w)[0]


SPECS = {"up": P(None, None, "s"), "down": P(None, "s")}


def layers_over(mesh: Any) -> Callable[..., Any]:
    """The same as a function of the whole weights [2, ...]."""
    return jax.shard_map(layers, mesh=mesh, in_specs=(SPECS, P()), out_specs=P(), check_vma=False)


def weights(rng: np.random.Generator) -> dict[str, jax.Array]:
    """Of `layers`: 6 features and 16 hidden units."""
    return {"up": normal(rng, 2, 6, 16), "down": normal(rng, 2, 16, 6)}


def differences(names: Sequence[str]) -> dict[str, int]:
    """Differing elements, by function and what is compared; of the layers always."""
    rng = np.random.default_rng(3)
    devices, abstract = (
        Mesh(np.array(jax.devices()[:SOCKETS]), ("s",), axis_types=(AxisType.Auto,)),
        AbstractMesh((SOCKETS,), ("s",), axis_types=(AxisType.Auto,)),
    )
    found: dict[str, int] = {}
    for name in names:
        case, x = CASES[name], operand(rng)
        there = np.asarray(rdu.compile(case.over(devices), x, machine="tiny")(x))
        found[f"{name}, mapped"] = _differ(there, rdu.compile(case.over(abstract), x, machine="tiny")(x))
        found[f"{name}, plain"] = _differ(there, jax.jit(case.over(devices))(x))
    w, x = weights(rng), normal(rng, 3, 6)
    there, here = (rdu.compile(layers_over(mesh), w, x, machine="tiny") for mesh in (devices, abstract))
    found["layers, mapped"] = _differ(np.asarray(there(w, x)), here(w, x))
    laid = jax.device_put(w, jax.tree.map(lambda s: jax.sharding.NamedSharding(devices, s), SPECS))
    found["layers, laid out"] = _differ(np.asarray(there(laid, x)), here(w, x))
    return found


def explicit_differences() -> dict[str, int]:
    """Differing elements where layouts are types: a function that takes each argument as it is laid out."""
    devices = Mesh(np.array(jax.devices()[:SOCKETS]), ("s",), (AxisType.Explicit,))
    rng = np.random.default_rng(4)
    x, found = operand(rng), dict[str, int]()

    def shared(mesh: Any, out: P) -> Callable[..., Any]:
        return jax.shard_map(lambda x: (x * 2, lax.psum(x, "s")), mesh=mesh, out_specs=(out, P()), check_vma=False)

    for name, spec in (("rows", P("s")), ("columns", P(None, "s")), ("whole", P())):
        fn, laid = shared(devices, spec), jax.device_put(x, NamedSharding(devices, spec))
        program, plain = rdu.compile(fn, laid, machine="tiny"), jax.jit(fn)(laid)
        with jax.set_mesh(devices):
            set_there = rdu.compile(shared(None, spec), laid, machine="tiny")
            grads = [jax.grad(lambda x, f=f: (f(x)[1] * f(x)[0].sum()).sum())(laid) for f in (program, fn)]
            roads = {"inside": program(laid), "jit": jax.jit(program)(laid), "set": set_there(laid)}
        roads |= {"outside": program(laid), "execute": program.execute(laid, executor="scan")}
        for road, results in roads.items():
            found[f"{name}, {road}"] = sum(map(_differ, map(np.asarray, results), plain))
            found[f"{name}, {road}, laid out"] = sum(
                jax.typeof(a) != jax.typeof(b) for a, b in zip(results, plain, strict=True)
            )
        found[f"{name}, unlaid"] = sum(map(_differ, map(np.asarray, program(x)), plain))
        found[f"{name}, gradient"] = _differ(*map(np.asarray, grads))
        found[f"{name}, counts"] = int(program.tally(laid) != program.predicted_counts())
    return found


def _differ(a: np.ndarray, b: Any) -> int:
    return int((a != np.asarray(b)).sum()) if a.shape == b.shape else a.size


if __name__ == "__main__":
    print(json.dumps(differences(sys.argv[1:] or list(CASES)) | explicit_differences()))
