"""Prices of one plan on very many machines: one price under `jax.vmap`, in chunks, over the devices of a mesh.

In float64, in which cycles are whole numbers as they are in an exact price: what float32 would round is some 1e-7 of a
time, and more of a short turn that is rounded up to one cycle too many.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from rdujax.compiler.program import Program

LARGEST_CHUNK, SMALLEST_CHUNK = 2**17, 2**8


def relaxed_seconds(
    program: Program, rows: Mapping[str, np.ndarray], numbers: Mapping[str, Any], mesh: Mesh | None
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Seconds of what runs and of launches, float64, chunk by chunk: (which of the variants, run_s, launch_s).

    rows: values [n] of facts that keep the program's plan, one or more. numbers: trips and branches, as for
    `Program.cost`.
    """
    count = len(next(iter(rows.values())))
    chunk = _chunk(count, 1 if mesh is None else mesh.size)

    def one(*values: jax.Array) -> tuple[jax.Array, jax.Array]:
        cost = program.cost(program.machine.replace(dict(zip(rows, values, strict=True))), **numbers)
        return cost.run_s, cost.launch_s

    # One chunk goes operation by operation, which takes no longer than to trace the price: what XLA makes of a single
    # operation is there for the next plan too. To compile the price as a whole pays where several chunks take it.
    price = jax.vmap(one) if count <= LARGEST_CHUNK else jax.jit(jax.vmap(one))
    for begin in range(0, count, chunk):
        part = slice(begin, min(begin + chunk, count))
        with jax.enable_x64(True):
            found = price(*(_placed(row[part], chunk, mesh) for row in rows.values()))
            run_s, launch_s = (_fetched(each, mesh)[: part.stop - begin] for each in found)
        yield part, run_s, launch_s


def _chunk(count: int, devices: int) -> int:
    """Variants of a chunk: a power of two, so that plans with about as many share what is compiled; on each device."""
    at_once = SMALLEST_CHUNK
    while at_once < min(count, LARGEST_CHUNK):
        at_once *= 2
    return -(-at_once // devices) * devices


def _placed(values: np.ndarray, chunk: int, mesh: Mesh | None) -> jax.Array:
    """Values as float64 [chunk], the last of them repeated to fill it; cut along all axes of the mesh."""
    filled = np.concatenate([values, np.repeat(values[-1:], chunk - len(values))]).astype(np.float64)
    if mesh is None:
        return jnp.asarray(filled)
    return jax.device_put(filled, NamedSharding(mesh, PartitionSpec(mesh.axis_names)))


def _fetched(found: jax.Array, mesh: Mesh | None) -> np.ndarray:
    """What all devices have, those of other processes included."""
    whole = found if mesh is None else jax.device_put(found, NamedSharding(mesh, PartitionSpec()))
    return np.asarray(whole)
