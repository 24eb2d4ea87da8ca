"""Sweeps over the devices that there are, and over one: prints hashes of the times of each, as one JSON object.

The number of devices is fixed when JAX starts, so it is a process of its own:

    python -m tests.rooms.tune.on_devices
    python -m tests.rooms.tune.on_devices --process 0 --port 12345     (of two processes)
"""

import argparse
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh

import rdujax as rdu
from rdujax.tune import batch
from tests.rooms.compiler.samples import mlp

VARIANTS = 1000  # some 500 of a plan: no multiple of any number of devices here
CHUNKS = (2**17, 2**8)  # all of a plan operation by operation, or compiled in chunks


def times(mesh: Mesh | None) -> list[str]:
    """A hash of all times of a sweep over bandwidths, clocks and PCUs, for each size of chunks."""
    x, up, down = (jax.ShapeDtypeStruct(shape, jnp.bfloat16) for shape in ((8, 16), (16, 32), (32, 16)))
    program = rdu.compile(mlp, x, up, up, down, machine="tiny")
    rng = np.random.default_rng(3)
    values = {
        "clock_hz": rng.uniform(5e5, 2e6, VARIANTS),
        "hbm.bandwidth_bytes_per_s": rng.uniform(1e7, 4e7, VARIANTS),
        "launch.execute_s": rng.uniform(0, 1e-4, VARIANTS),
        "pcu.count": rng.choice([8, 12], VARIANTS),
    }
    hashes = []
    for batch.LARGEST_CHUNK in CHUNKS:
        found = rdu.sweep(program, values, mesh=mesh)
        hashes.append(hashlib.sha256(found.run_s.tobytes() + found.launch_s.tobytes()).hexdigest())
    return hashes


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--process", type=int)
    parser.add_argument("--port", type=int)
    args = parser.parse_args()
    if args.process is not None:
        jax.distributed.initialize(f"127.0.0.1:{args.port}", args.processes, args.process, initialization_timeout=60)
    n = jax.device_count()
    kinds = {"auto": AxisType.Auto, "explicit": AxisType.Explicit}
    meshes = {kind: jax.make_mesh((n // 2, 2), ("a", "b"), axis_types=(each, each)) for kind, each in kinds.items()}
    meshes["row of three"] = Mesh(np.array(jax.devices()[-3:]), ("x",)) if args.process is None else meshes["auto"]
    print(json.dumps({"one": times(None), **{kind: times(mesh) for kind, mesh in meshes.items()}}))


if __name__ == "__main__":
    main()
