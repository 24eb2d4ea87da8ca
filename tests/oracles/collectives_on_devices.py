"""Every collective over eight sockets, emulated on any number of devices and processes: prints what each socket holds.

The number of devices is fixed when JAX starts, so it is a process of its own that prints one JSON object: for every
result a list of hashes, one for each socket that this process emulates, by number.

    python -m tests.oracles.collectives_on_devices --devices 4
    python -m tests.oracles.collectives_on_devices --devices 8 --processes 2 --process 0 --port 12345

On one device the sockets are the leading axis of an array; on eight each is a device; on fewer, each has several.
"""

import argparse
import hashlib
import json

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.units.p2p import collectives
from rdujax.units.p2p.collectives import Group
from tests.oracles.composite import hashed, ordinary

SOCKETS, SHAPE = 8, (8, 5)


def operands() -> tuple[np.ndarray, np.ndarray]:
    """[SOCKETS, *SHAPE]: floats that cancel and round, arbitrary patterns in every fourth place; and integers."""
    shape = (SOCKETS, *SHAPE)
    usual, any_bits = ordinary(shape, 3, low=120, bf16=False), hashed(shape, 7)
    pick = np.arange(usual.size).reshape(shape) % 4 == 0
    return np.where(pick, any_bits, usual).view(np.float32), hashed(shape, 9).view(np.int32)


def program(x: jax.Array, i: jax.Array, group: Group) -> dict[str, jax.Array]:
    """Every collective, their counts, and gradients."""
    results, counts = {}, {}
    for order in ("chain", "ring", "tree"):
        results[order], counts[order] = collectives.all_reduce(x, FP32, order=order, group=group)
    results["bf16"] = collectives.all_reduce(x, FP32, order="tree", wire=BF16, out=BF16, group=group)[0]
    results["part"] = collectives.reduce_scatter(x, FP32, order="ring", group=group)[0]
    results["max"] = collectives.all_reduce(x, FP32, op="max", group=group)[0]
    results["integers"] = collectives.all_reduce(i, INT32, group=group)[0]
    results["gathered"] = collectives.all_gather(x, FP32, axis=1, group=group)[0]
    results["dealt"] = collectives.all_to_all(x, FP32, group=group)[0]
    results["copied"] = collectives.broadcast(i, INT32, root=3, group=group)[0]

    def both(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        gathered = collectives.all_gather(x, FP32, group=group)[0]
        return collectives.all_reduce(x, FP32, order="ring", group=group)[0], gathered

    value, back = jax.vjp(both, jnp.where(jnp.isfinite(x), x, 0.0))
    results["gradient"] = back(value)[0]
    return results | {f"{order}, {name}": amount for order, each in counts.items() for name, amount in each.items()}


def hashes(results: dict[str, jax.Array]) -> dict[str, dict[int, str]]:
    """For every result the hash of what each socket holds, of the sockets that this process has."""
    found: dict[str, dict[int, str]] = {}
    for name, array in results.items():
        for shard in array.addressable_shards:
            first, block = shard.index[0].start or 0, np.asarray(shard.data)
            for i, mine in enumerate(block):
                digest = hashlib.sha256(f"{mine.shape}{mine.dtype}".encode() + mine.tobytes()).hexdigest()
                found.setdefault(name, {})[first + i] = digest
    return found


def on_devices(devices: int) -> dict[str, dict[int, str]]:
    """The program with its sockets spread over that many devices, all processes together."""
    if devices == 1:
        return hashes(jax.jit(lambda x, i: program(x, i, Group()))(*map(jnp.asarray, operands())))
    mesh = jax.make_mesh((devices,), ("s",), axis_types=(AxisType.Auto,))
    spec = PartitionSpec("s")
    placed = [
        jax.make_array_from_callback(each.shape, NamedSharding(mesh, spec), lambda index, each=each: each[index])
        for each in operands()
    ]
    group = Group("s", stacked=True)
    run = jax.shard_map(lambda x, i: program(x, i, group), mesh=mesh, in_specs=spec, out_specs=spec)
    return hashes(jax.jit(run)(*placed))


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("devices", 1), ("processes", 1), ("process", 0), ("port", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    if args.processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{args.port}", args.processes, args.process, initialization_timeout=60)
    assert jax.device_count() >= args.devices, jax.devices()
    print(json.dumps(on_devices(args.devices)))


if __name__ == "__main__":
    main()
