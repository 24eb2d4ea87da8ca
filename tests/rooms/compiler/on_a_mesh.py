"""Prints how many bits of a program differ between one device and a mesh of eight, for several layouts, as JSON.

Run in a process of its own, since the number of devices is fixed when JAX starts:

    python -m tests.rooms.compiler.on_a_mesh
"""

import json
from contextlib import nullcontext

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

import rdujax as rdu


def differences() -> dict[str, int]:
    """Differing elements of a small MLP by kind of axis and layout, called plainly and in its gradient."""
    rng = np.random.default_rng(0)
    a, b = (jnp.asarray(rng.normal(size=shape), jnp.bfloat16) for shape in ((16, 24), (24, 32)))
    program = rdu.compile(lambda a, b: jax.nn.silu(a @ b) * 2, a, b)

    def loss(a, b):
        return program(a, b).astype(jnp.float32).sum()

    roads = {"call": program, "grad": jax.grad(loss, (0, 1))}
    alone = {name: jax.tree.map(np.asarray, road(a, b)) for name, road in roads.items()}
    found = {}
    for kind in (AxisType.Explicit, AxisType.Auto):
        mesh = jax.make_mesh((8,), ("x",), axis_types=(kind,))
        for left, right in ((("x", None), (None, None)), ((None, None), (None, "x")), ((None, "x"), ("x", None))):
            x, y = (jax.device_put(v, NamedSharding(mesh, PartitionSpec(*s))) for v, s in ((a, left), (b, right)))
            for name, road in roads.items():
                with jax.set_mesh(mesh) if name == "grad" else nullcontext():  # plain JAX asks for it there
                    there = jax.tree.map(np.asarray, road(x, y))
                count = jax.tree.map(lambda p, q: int((p != q).sum()), there, alone[name])
                found[f"{kind.name} {left} {right} {name}"] = sum(jax.tree.leaves(count))
    return found


if __name__ == "__main__":
    print(json.dumps(differences()))
