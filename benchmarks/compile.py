"""How long it takes from a function to its full price, from shapes alone, and how much memory.

Decoding one token and reading a prompt with models of the paper's Table 1 (`benchmarks/models/decoder.py`), layers
under `lax.scan` or written out one after the other. Each row is a process of its own: cold is the first time in it,
warm the second, both in seconds of processor time beyond importing JAX; memory is the most that the process ever held.
The goals: decoding by a scan under 3 s cold and 1 s warm, 32 layers written out under 6 s, all under 1.5 GiB. The price
is of one socket, as it comes: what its HBM cannot hold rests in DDR.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp

import rdujax as rdu
from benchmarks._timing import progress
from benchmarks.models import decoder
from benchmarks.models.decoder import Config, Tree

MODELS = {
    "Llama2-7B": decoder.LLAMA2_7B,
    "Llama2-70B": decoder.LLAMA2_70B,
    "Mistral-7B": decoder.MISTRAL_7B,
    "Falcon-40B": decoder.FALCON_40B,
    "BLOOM-176B": decoder.BLOOM_176B,
}
CASES = (
    *((model, "decode", "scan") for model in MODELS),
    ("Llama2-7B", "prefill", "scan"),
    ("Llama2-7B", "decode", "unrolled"),
)
CONTEXT = 4096  # positions of the cache, and tokens of the prompt
GOALS_S = {"scan": (3.0, 1.0), "unrolled": (6.0, 6.0)}  # cold, warm
MEMORY_GOAL_GIB = 1.5


@dataclass(frozen=True)
class Row:
    """One model. *_s: processor time of compiling and pricing. run_ms: what the program is priced at, with launches."""

    row: str
    cold_s: float
    warm_s: float
    goal_cold_s: float
    goal_warm_s: float
    memory_gib: float
    kernels: int
    launches: int
    run_ms: float
    hbm_gb: float
    ddr_gb: float

    @property
    def met(self) -> bool:
        """Whether the goals are met."""
        return self.cold_s < self.goal_cold_s and self.warm_s < self.goal_warm_s and self.memory_gib < MEMORY_GOAL_GIB

    def as_json(self) -> str:
        """One JSON object."""
        return json.dumps(
            {"benchmark": "compile", "unit": "s", "value": self.warm_s, "kind": "measured", **asdict(self)}
        )

    def as_text(self) -> str:
        """One line of the table."""
        return (
            f"{self.row:<28} {self.cold_s:>6.2f} {self.warm_s:>6.2f}  {self.goal_cold_s:g}/{self.goal_warm_s:g}"
            f" {'met   ' if self.met else 'missed'} {self.memory_gib:>6.2f} {self.kernels:>7} {self.launches:>8}"
            f" {self.run_ms:>9.3f} {self.hbm_gb:>8.2f} {self.ddr_gb:>8.2f}"
        )


def program_of(config: Config, phase: str, form: str) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """A model as a function, and the shapes of its arguments."""
    tokens = jax.ShapeDtypeStruct((1, CONTEXT if phase == "prefill" else 1), jnp.int32)
    tables = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), config.tables())
    params, cache = decoder.shapes(config), decoder.cache_shapes(config, 1, CONTEXT)
    start = jax.ShapeDtypeStruct((), jnp.int32)
    if form == "scan":
        return partial(decoder.forward, config), (params, tables, tokens, cache, start)
    params = {**params, "layers": _apart(config, params["layers"])}
    return partial(unrolled, config), (params, tables, tokens, _apart(config, cache), start)


def _apart(config: Config, stacked: Tree) -> list[Tree]:
    """The shapes of every layer by itself."""
    one = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), stacked)
    return [one] * config.layers


def unrolled(
    config: Config, params: Tree, tables: Tree, tokens: jax.Array, caches: list[Tree], start: jax.Array
) -> Any:
    """`decoder.forward` with its layers written out one after the other, weights and caches of each by themselves."""
    x, kept = decoder.embedded(config, params, tokens, start), []
    for weights, cache in zip(params["layers"], caches, strict=True):
        x, cache = decoder.layer(config, weights, tables, x, cache, start)
        kept.append(cache)
    return decoder.logits(config, params, x[:, -1]), kept


def measured(model: str, phase: str, form: str) -> Row:
    """Compiles and prices twice, in this process."""
    fn, args = program_of(MODELS[model], phase, form)
    with jax.numpy_rank_promotion("allow"):
        start = time.process_time()
        rdu.compile(fn, *args).cost()
        again = time.process_time()
        cost = rdu.compile(fn, *args).cost()
        cold_s, warm_s = again - start, time.process_time() - again
    memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Row(
        f"{model} {phase}, {form}", cold_s, warm_s, *GOALS_S[form], memory_gib, len(cost.kernels), cost.launches,
        float(cost.total_s) * 1e3, cost.moved_bytes("hbm") / 1e9, cost.moved_bytes("ddr") / 1e9,
    )  # fmt: skip


def rows() -> Iterator[Row]:
    """All cases, each in a fresh process."""
    for case in CASES:
        progress("compile " + " ".join(case))
        command = [sys.executable, "-m", "benchmarks.compile", "--one", *case]
        ran = subprocess.run(command, check=True, capture_output=True, text=True)
        yield Row(**json.loads(ran.stdout))


def main(arguments: list[str]) -> int:
    """Prints a table, or one JSON object per row; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="./scripts/bench compile", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per row on standard output")
    parser.add_argument("--one", nargs=3, metavar=("MODEL", "PHASE", "FORM"), help="measure one case, here and now")
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(asdict(measured(*options.one))))
        return 0
    if not options.json:
        print(f"{'':<28} {'seconds':>13}  {'goal, s':<12} {'GiB':>6} {'':>16} {'price,':>9} {'bytes moved, GB':>17}")
        print(
            f"{'model':<28} {'cold':>6} {'warm':>6} {'':<13} {'':>6} kernels launches {'ms':>9} {'hbm':>8} {'ddr':>8}"
        )
    missed = 0
    for row in rows():
        progress("")
        missed += not row.met
        print(row.as_json() if options.json else row.as_text(), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
