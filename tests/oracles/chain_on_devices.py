"""Contractions that the compiler itself shares out over devices: prints those that have other bits than on one device.

The number of devices is fixed when JAX starts, so it is a process of its own.

    python -m tests.oracles.chain_on_devices 1x8x64 2x12x32
"""

import json
import sys

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rdujax.numerics.chain import chain

# How the left operand, the right one and the accumulators lie on the devices.
LAYOUTS = {
    "rows": (("x", None), (None, None), (None, None)),
    "columns": ((None, None), (None, "x"), (None, None)),
    "accumulators": ((None, None), (None, None), ("x", None)),
}


def differing(rows: int, length: int, columns: int, rng: np.random.Generator) -> list[str]:
    """Layouts under which a product of so many rows and columns for each device has other bits than on one device."""
    devices = jax.device_count()
    mesh = jax.make_mesh((devices,), ("x",), axis_types=(AxisType.Auto,))
    shapes = (devices * rows, length), (length, devices * columns), (devices * rows, devices * columns)
    operands = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in shapes]
    want = np.asarray(jax.jit(chain)(*operands))
    found = []
    for name, layout in LAYOUTS.items():
        spread = zip(operands, layout, strict=True)
        placed = [jax.device_put(x, NamedSharding(mesh, PartitionSpec(*axes))) for x, axes in spread]
        if np.asarray(jax.jit(chain)(*placed)).tobytes() != want.tobytes():
            found.append(name)
    return found


def main(sizes: list[str]) -> None:
    """Runs and prints."""
    rng = np.random.default_rng(0)
    assert jax.device_count() > 1, jax.devices()
    found = {size: differing(*map(int, size.split("x")), rng) for size in sizes}
    print(json.dumps({size: names for size, names in found.items() if names}))


if __name__ == "__main__":
    main(sys.argv[1:])
