"""A decoder layer that eight sockets share out, emulated on any number of devices and processes: prints its bits.

The number of devices is fixed when JAX starts, so it is a process of its own that prints one JSON object: for every
result of every case a list of hashes, one for each socket that this process emulates, by number.

    python -m tests.laws.layer_on_devices "bf16 prompt" --devices 8
    python -m tests.laws.layer_on_devices "bf16 prompt" --devices 8 --processes 2 --process 0 --port 12345

On one device the sockets are a mapped axis; on eight each is a device. Weights are BF16, as published. So are hidden
states in the cases "bf16"; in the cases "fp32" nothing is rounded after a sum, and its order shows in every result.
"""

import argparse
import hashlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding, PartitionSpec

import rdujax as rdu
from benchmarks.models import decoder, parallel
from benchmarks.models.parts import one_layer

SOCKETS, POSITIONS, PROMPT = 8, 8, 5
CONFIG = decoder.Config(d_model=32, layers=1, heads=8, kv_heads=8, d_ff=48, vocab=64, positions=POSITIONS)
DTYPES = {"bf16": jnp.bfloat16, "fp32": jnp.float32}
PHASES = {"prompt": (PROMPT, 0), "token": (1, PROMPT)}  # how many tokens, and the position of the first
CASES = tuple(f"{dtype} {phase}" for dtype in DTYPES for phase in PHASES)

WHOLE, EACH = PartitionSpec(), PartitionSpec(parallel.AXIS)
HEADS = {name: PartitionSpec(None, None, parallel.AXIS) for name in ("k", "v")}


def operands(case: str) -> tuple[decoder.Layer, jax.Array, dict[str, jax.Array], decoder.Cache, jax.Array]:
    """The arguments of `decoder.Layer.__call__`, the same in every process; of a token, with a cache before it."""
    dtype, phase = case.split()
    rng, (length, start) = np.random.default_rng(5), PHASES[phase]

    def drawn(like: jax.ShapeDtypeStruct, dtype: Any = jnp.bfloat16) -> jax.Array:
        """Of size one; of a matrix, so that products with it are."""
        size = like.shape[0] ** -0.5 if like.ndim == 2 else 1.0
        return jnp.asarray(size * rng.standard_normal(like.shape), dtype)

    layer = jax.tree.map(drawn, one_layer(decoder.abstract_model(CONFIG).layers))
    cache = one_layer(decoder.cache_shapes(CONFIG, 1, POSITIONS))
    x = drawn(jax.ShapeDtypeStruct((1, length, CONFIG.d_model), jnp.float32), DTYPES[dtype])
    tables = jax.tree.map(jnp.asarray, CONFIG.tables())
    return layer, x, tables, jax.tree.map(lambda each: drawn(each, DTYPES[dtype]), cache), jnp.int32(start)


def shared_out(layer: decoder.Layer, mesh: Mesh | AbstractMesh) -> tuple[Any, tuple[Any, ...]]:
    """The layer on all sockets, and how its arguments are cut; every socket gives its own [1, 1, length, d_model]."""
    share = decoder.abstract_model(parallel.share(CONFIG, SOCKETS))
    kind, _ = nnx.split(one_layer(share.layers))

    def one_socket(state: Any, x: jax.Array, tables: Any, cache: decoder.Cache, start: jax.Array) -> Any:
        x, cache = nnx.merge(kind, state)(x, tables, cache, start)
        return x[None], cache

    cut = (parallel.cut_of(nnx.state(layer)), WHOLE, WHOLE, HEADS, WHOLE)
    return jax.shard_map(one_socket, mesh=mesh, in_specs=cut, out_specs=(EACH, HEADS), check_vma=False), cut


def laid_out(args: Any, cut: Any, mesh: Mesh) -> Any:
    """Arguments as arrays that all processes have together, cut over the devices of the mesh."""

    def one(x: jax.Array, spec: PartitionSpec) -> jax.Array:
        host = np.asarray(x)
        return jax.make_array_from_callback(host.shape, NamedSharding(mesh, spec), lambda index: host[index])

    def is_spec(x: Any) -> bool:
        return isinstance(x, PartitionSpec)

    return jax.tree.map(lambda spec, xs: jax.tree.map(lambda x: one(x, spec), xs), cut, args, is_leaf=is_spec)


def on_devices(cases: Sequence[str], devices: int) -> dict[str, dict[int, str]]:
    """Hashes by result and number of socket, with the sockets spread over that many devices of all processes.

    What the units count is asserted to be what is predicted, for there is no array of it.
    """
    mesh: Any = parallel.node(SOCKETS)
    if devices > 1:
        mesh = jax.make_mesh((devices,), (parallel.AXIS,), axis_types=(AxisType.Auto,))
    found: dict[str, dict[int, str]] = {}
    for case in cases:
        layer, *others = operands(case)
        fn, cut = shared_out(layer, mesh)
        args = (nnx.state(layer), *others)
        if devices > 1:
            args = laid_out(args, cut, mesh)
        program = rdu.compile(fn, *args)
        x, cache = program(*args)
        found |= hashes(case, x, cache)
    assert program.tally(*args) == program.predicted_counts()  # of the last one
    return found


def hashes(case: str, x: jax.Array, cache: decoder.Cache) -> dict[str, dict[int, str]]:
    """By result: of what each socket has of it that this process emulates. x: one [1, length, d_model] per socket."""
    results = {"x": (x, 0), "k": (cache["k"], 2), "v": (cache["v"], 2)}
    return {f"{case}, {name}": dict(_hashes(*result)) for name, result in results.items()}


def _hashes(x: jax.Array, axis: int) -> Iterator[tuple[int, str]]:
    width = x.shape[axis] // SOCKETS
    for shard in x.addressable_shards:
        first, block = (shard.index[axis].start or 0) // width, np.asarray(shard.data)
        for i, mine in enumerate(np.split(block, block.shape[axis] // width, axis)):
            yield first + i, hashlib.sha256(f"{mine.shape}{mine.dtype}".encode() + mine.tobytes()).hexdigest()


def main() -> None:
    """Runs and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", choices=CASES)
    for name, default in (("devices", 1), ("processes", 1), ("process", 0), ("port", 0)):
        parser.add_argument(f"--{name}", type=int, default=default)
    args = parser.parse_args()
    if args.processes > 1:
        jax.distributed.initialize(f"127.0.0.1:{args.port}", args.processes, args.process, initialization_timeout=60)
    assert jax.device_count() >= args.devices, jax.devices()
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        print(json.dumps(on_devices(args.cases, args.devices)))


if __name__ == "__main__":
    main()
