"""How much memory Llama2-7B takes on one socket, and what sharing addresses by lifetime and spilling to DDR save.

For serving, 4,096 positions: the prompt at once, then one token; for training, one step of AdamW on 4,096 tokens, one
operator per kernel as in an eager framework (every value between operators rests in memory) or fused. Layers are under
`lax.scan`. Everything is computed from shapes; MICRO 2024, section V, says that jobs of this model would not fit into
the 64 GiB of a socket's HBM without sharing by lifetime.

    sum      what the symbols would take if each kept addresses of its own
    bound    the most bytes that are alive at once: no addresses need fewer
    peak     what they take
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax

import rdujax as rdu
from benchmarks._timing import progress
from benchmarks.models import decoder

POSITIONS = 4096
TIERS = ("hbm", "ddr")


@dataclass(frozen=True)
class Job:
    """A function and its arguments as shapes; how it is fused."""

    name: str
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    fusion: str


@dataclass(frozen=True)
class Row:
    """One number: bytes, symbols, seconds, or a ratio of bytes."""

    row: str
    value: float
    unit: str

    def as_json(self) -> str:
        """The row as one JSON object."""
        return json.dumps(
            {"benchmark": "memory", "kind": "measured", "published": None, "ratio": None, **self.__dict__}
        )


def jobs(config: decoder.Config, fused_training: bool) -> Iterator[Job]:
    """The prompt, a token, a step of training."""
    params, tables = decoder.shapes(config), _structs(config.tables())
    start, cache = jax.ShapeDtypeStruct((), jnp.int32), decoder.cache_shapes(config, 1, POSITIONS)
    serve = partial(decoder.forward, config)
    for fusion in ("none", "streaming"):
        yield Job("decode", serve, (params, tables, _tokens(1), cache, start), fusion)
        yield Job("prefill", serve, (params, tables, _tokens(POSITIONS), cache, start), fusion)
    optimizer = optax.adamw(1e-4)

    def step(params: Any, state: Any, tables: Any, tokens: Any) -> Any:
        slope = jax.grad(partial(decoder.loss, config))(params, tables, tokens)
        change, state = optimizer.update(slope, state, params)
        return optax.apply_updates(params, change), state

    training = (params, jax.eval_shape(optimizer.init, params), tables, _tokens(POSITIONS + 1))
    for fusion in ("none", "streaming")[: 1 + fused_training]:
        yield Job("train", step, training, fusion)


def _structs(tables: Any) -> Any:
    return jax.tree.map(lambda t: jax.ShapeDtypeStruct(t.shape, t.dtype), tables)


def _tokens(length: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((1, length), jnp.int32)


def rows(job: Job) -> Iterator[Row]:
    """What one job takes."""
    name = f"{job.name}, {job.fusion}"
    progress(name)
    begin = time.perf_counter()
    program = rdu.compile(job.fn, *job.args, fusion=job.fusion)
    seconds, memory = time.perf_counter() - begin, program.plan.memory
    for tier in TIERS:
        peak, bound = memory.peak_bytes(tier), memory.bound_bytes[tier]
        yield Row(f"{name}: {tier} symbols", len(memory.of_tier(tier)), "symbols")
        yield Row(f"{name}: {tier} sum", memory.sum_bytes(tier), "bytes")
        yield Row(f"{name}: {tier} bound", bound, "bytes")
        yield Row(f"{name}: {tier} peak", peak, "bytes")
        if peak:
            yield Row(f"{name}: {tier} peak over bound", peak / bound, "x")
            yield Row(f"{name}: {tier} sum over peak", memory.sum_bytes(tier) / peak, "x")
    yield Row(f"{name}: planning", seconds, "s")


def main(arguments: list[str]) -> None:
    """Prints a table, or one JSON object per row."""
    parser = argparse.ArgumentParser(prog="memory", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--json", action="store_true", help="one JSON object per row")
    parser.add_argument("--layers", type=int, default=decoder.LLAMA2_7B.layers, help="layers of the model")
    parser.add_argument("--only", choices=("decode", "prefill", "train"), help="one job instead of all")
    parser.add_argument("--fused-training", action="store_true", help="also the fused step of training, which is slow")
    options = parser.parse_args(arguments)
    if not options.json:
        columns = ("sum", "bound", "peak", "peak/bound", "sum/peak")
        print(f"{'GiB':<24} {'symbols':>8} " + " ".join(f"{column:>10}" for column in columns))
    for job in jobs(replace(decoder.LLAMA2_7B, layers=options.layers), options.fused_training):
        if options.only not in (None, job.name):
            continue
        found = list(rows(job))
        progress("")
        if options.json:
            print("\n".join(row.as_json() for row in found), flush=True)
            continue
        print("\n".join(_lines(f"{job.name}, {job.fusion}", {row.row: row.value for row in found})), flush=True)


def _lines(name: str, found: dict[str, float]) -> Iterator[str]:
    for tier in TIERS:
        of = {row.removeprefix(f"{name}: {tier} "): value for row, value in found.items()}
        if not of["peak"]:
            continue
        sizes = " ".join(f"{of[column] / 2**30:10.3f}" for column in ("sum", "bound", "peak"))
        label = f"{name}, {tier}"
        yield f"{label:<24} {of['symbols']:8,} {sizes} {of['peak over bound']:10.4f} {of['sum over peak']:10.3f}"


if __name__ == "__main__":
    main(sys.argv[1:])
