"""A small random Llama2 on one SN40L socket: prefill, then token by token, fused and operator by operator.

The model is plain Flax (experts/llama.py). Both forms are compiled from shapes alone, run on the same random weights,
and give the same bits of every logit and of the cache; a table says how many kernels each launches, what each moves,
and how long a token takes.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from experts.llama import Config, Llama, abstract_model, empty_cache, random_model
from rdujax.cli.bits import differing, elements
from rdujax.cli.options import length, seed
from rdujax.compiler.program import Program, compile
from rdujax.compiler.texts import table
from rdujax.machines import Machine

FUSIONS = {"operator by operator": "none", "fused": "streaming"}


# (tokens int32 [1, length], cache, first position) to (logits [1, vocab] of the last one, cache)
Step = Callable[[jax.Array, Any, jax.Array], tuple[jax.Array, Any]]

# How large the pieces of a model are that become a kernel each, the smallest first.
GRANULARITIES = ("primitives", "none", "streaming")


class BadSizes(ValueError):
    """Sizes from the command line that make no model."""


@dataclass(frozen=True)
class Job:
    """A model and what it is asked to do: read `prompt` tokens, then write `tokens` more."""

    config: Config
    prompt: int
    tokens: int
    seed: int

    @property
    def title(self) -> str:
        """One line on the model."""
        c = self.config
        return (
            f"Llama2 of {c.layers} layers, width {c.d_model}, {c.heads} heads ({c.kv_heads} of keys), hidden {c.d_ff}, "
            f"{c.vocab} words: {self.prompt} tokens read, {self.tokens} written"
        )

    def model(self) -> Llama:
        """The model with random weights, the same for the same seed."""
        return random_model(self.config, self.seed)

    def cache(self) -> Any:
        """An empty cache, long enough for all tokens."""
        return empty_cache(self.config, 1, self.prompt + self.tokens)

    def question(self) -> jax.Array:
        """The random prompt, int32 [1, prompt]."""
        rng = np.random.default_rng(self.seed)
        return jnp.asarray(rng.integers(0, self.config.vocab, (1, self.prompt)), jnp.int32)


@dataclass(frozen=True)
class Form:
    """One way to compile the job: the programs of both phases."""

    prefill: Program
    decode: Program


@dataclass(frozen=True)
class Written:
    """What a form wrote: the tokens, and the logits and the cache behind each of them."""

    tokens: tuple[int, ...]
    logits: tuple[np.ndarray, ...]
    cache: Any


def forms(config: Config, prompt: int, positions: int, **choices: Any) -> dict[str, Form]:
    """Both phases, fused and not, compiled from shapes: no array of the model exists yet.

    positions: of the cache. choices: those of `compile`, beside fusion.
    """
    model = abstract_model(config)
    cache = jax.eval_shape(lambda: empty_cache(config, 1, positions))
    start = jax.ShapeDtypeStruct((), jnp.int32)

    def phase(count: int, fusion: str) -> Program:
        tokens = jax.ShapeDtypeStruct((1, count), jnp.int32)
        return compile(model, tokens, cache, start, fusion=fusion, donate_argnums=2, **choices)  # the cache

    return {name: Form(phase(prompt, fusion), phase(1, fusion)) for name, fusion in FUSIONS.items()}


def layer_kernels(job: Job, machine: Machine) -> dict[str, dict[str, int]]:
    """Kernels of one decoder layer, for each phase, by fusion: counted from the graph of the layer alone."""
    c, start = job.config, jax.ShapeDtypeStruct((), jnp.int32)
    layer, (cache, *_) = abstract_model(c).layers[0], jax.eval_shape(job.cache)

    def kernels(count: int, fusion: str) -> int:
        x = jax.ShapeDtypeStruct((1, count, c.d_model), jnp.bfloat16)
        angles = (jax.ShapeDtypeStruct((count, c.d_head // 2), jnp.float32),) * 2
        program = compile(layer, x, angles, cache, start, machine=machine, fusion=fusion, donate_argnums=3)
        return len(program.plan.kernels)

    phases = {"prefill": job.prompt, "decode": 1}
    return {phase: {name: kernels(count, name) for name in GRANULARITIES} for phase, count in phases.items()}


def write(question: jax.Array, cache: Any, count: int, prefill: Step, decode: Step) -> Written:
    """Greedy decoding of so many tokens. question: int32 [1, length]."""
    logits, cache = prefill(question, cache, jnp.int32(0))
    tokens, seen = [int(logits.argmax())], [np.asarray(logits)]
    for place in range(question.shape[1], question.shape[1] + count - 1):
        logits, cache = decode(jnp.full((1, 1), tokens[-1], jnp.int32), cache, jnp.int32(place))
        tokens.append(int(logits.argmax()))
        seen.append(np.asarray(logits))
    return Written(tuple(tokens), tuple(seen), cache)


def rows_of(job: Job, compiled: dict[str, Form]) -> list[dict[str, Any]]:
    """One row of figures per form and phase, for the table and for --json."""
    rows = []
    for name, form in compiled.items():
        for phase, program in (("prefill", form.prefill), ("decode", form.decode)):
            cost = program.cost()
            rows.append(
                {
                    "form": name, "phase": phase, "kernels": len(cost.kernels), "launches": cost.launches,
                    "cycles": cost.cycles,
                    "run_s": float(cost.run_s), "launch_s": float(cost.launch_s), "total_s": float(cost.total_s),
                    "hbm_bytes": cost.moved_bytes("hbm"), "flops": cost.flops,
                    "flop_per_byte": cost.operational_intensity(),
                }
            )  # fmt: skip
    return rows


def cost_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for a person: one column per form and phase."""
    lines: list[tuple[str, Callable[[dict[str, Any]], str]]] = [
        ("kernels launched", lambda r: f"{r['launches']:,}"),
        ("HBM moved (KiB)", lambda r: f"{r['hbm_bytes'] / 1024:,.0f}"),
        ("FLOP", lambda r: f"{r['flops']:,}"),
        ("FLOP/byte", lambda r: f"{r['flop_per_byte']:.2f}"),
        ("cycles", lambda r: f"{r['cycles']:,}"),
        ("time running (us)", lambda r: f"{r['run_s'] * 1e6:,.2f}"),
        ("time of launches (us)", lambda r: f"{r['launch_s'] * 1e6:,.2f}"),
        ("time in all (us)", lambda r: f"{r['total_s'] * 1e6:,.2f}"),
    ]
    head = ["", *(f"{r['phase']}, {r['form']}" for r in rows)]
    return table(head, [[name, *(show(r) for r in rows)] for name, show in lines], indent="  ", right=True)


def bits_table(job: Job, written: dict[str, Written], plain: Written) -> tuple[str, bool]:
    """Bits of every form against the first; True where all forms agree."""
    first = next(iter(written.values()))
    rows = []
    for name, found in {**written, "plain jax.jit, for comparison": plain}.items():
        logits, cache = differing(found.logits, first.logits), differing(found.cache, first.cache)
        same = next((i for i, (a, b) in enumerate(zip(found.tokens, first.tokens, strict=True)) if a != b), job.tokens)
        rows.append([name, f"{logits:,}", f"{cache:,}", f"{same} of {job.tokens}"])
    sizes = elements(first.logits), elements(first.cache)
    head = ["bits that differ", f"logits, of {sizes[0]:,}", f"cache, of {sizes[1]:,}", "equal tokens"]
    equal = all(row[1] == row[2] == "0" for row in rows[:-1])
    return table(head, rows, indent="  ", right=True), equal


def show(job: Job, compiled: dict[str, Form], layers: dict[str, dict[str, int]]) -> bool:
    """Prints the job; True where both forms have the same bits."""
    print(f"{job.title}\n{'=' * len(job.title)}\n")
    rows = rows_of(job, compiled)
    print(cost_table(rows) + "\n")
    lines = [[phase, *(f"{n:,}" for n in by_fusion.values())] for phase, by_fusion in layers.items()]
    head = ["kernels of one decoder layer", *(f'fusion="{name}"' for name in GRANULARITIES)]
    print(table(head, lines, indent="  ", right=True) + "\n")
    by = {(r["form"], r["phase"]): r["total_s"] for r in rows}
    for phase in ("prefill", "decode"):
        unfused, fused = (by[name, phase] for name in FUSIONS)
        print(f"  {phase}: fused is {unfused / fused:.2f} times as fast, launches included")
    model, question, cache = job.model(), job.question(), job.cache()
    ways = {name: (partial(form.prefill, model), partial(form.decode, model)) for name, form in compiled.items()}
    written = {name: write(question, cache, job.tokens, *way) for name, way in ways.items()}
    jitted = partial(jax.jit(lambda model, *args: model(*args)), model)
    plain = write(question, cache, job.tokens, jitted, jitted)
    text, equal = bits_table(job, written, plain)
    print("\n" + text + "\n")
    print(f"  tokens written: {' '.join(map(str, next(iter(written.values())).tokens))}\n")
    return equal


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of `./scripts/demo llama`."""
    p.add_argument("--layers", type=length, default=2, help="decoder layers (default 2)")
    p.add_argument("--width", type=length, default=128, help="width of the model (default 128)")
    p.add_argument("--heads", type=length, default=4, help="heads (default 4)")
    p.add_argument("--kv-heads", type=length, default=2, help="heads of keys and values (default 2)")
    p.add_argument("--hidden", type=length, default=352, help="hidden width of the MLP (default 352)")
    p.add_argument("--vocab", type=length, default=512, help="words (default 512)")
    p.add_argument("--prompt", type=length, default=16, help="tokens of the prompt (default 16)")
    p.add_argument("--tokens", type=length, default=8, help="tokens to write (default 8)")
    p.add_argument("--seed", type=seed, default=0, help="seed of weights and prompt (default 0)")


def main(args: argparse.Namespace, machine: Machine) -> int:
    """Runs the demo; 0 where both forms have the same bits, 1 where they differ. Raises BadSizes."""
    positions = args.prompt + args.tokens
    try:
        config = Config(args.width, args.layers, args.heads, args.kv_heads, args.hidden, args.vocab, positions)
    except ValueError as error:
        raise BadSizes(str(error)) from None
    job = Job(config, args.prompt, args.tokens, args.seed)
    compiled = forms(config, args.prompt, positions, machine=machine, orchestration=args.orchestration)
    if args.json:
        for row in rows_of(job, compiled):
            print(json.dumps({"job": job.title, **row}))
        return 0
    return 0 if show(job, compiled, layer_kernels(job, machine)) else 1
