"""How long it takes from a function to its full price, from shapes alone, and how much memory.

Decoding one token and reading a prompt with models of the paper's Table 1 (`benchmarks/models/decoder.py`), layers
under `lax.scan` or written out one after the other. Each row is a process of its own: cold is the first time in it,
warm the second, both in seconds of processor time beyond importing JAX; memory is the most that the process ever held.
The goals: decoding by a scan under 3 s cold and 1 s warm, 32 layers written out under 6 s, all under 1.5 GiB. The price
is of one socket, as it comes: what its HBM cannot hold rests in DDR. On eight sockets, tensor-parallel, it is that of
each, exchanges included.
"""

import json
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import jax

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models.calls import MODEL_CACHE, MODELS, Call, model_call
from benchmarks.models.decoder import Cache, Config, Decoder, Layer
from benchmarks.models.parallel import parallel_call
from benchmarks.models.parts import one_layer

CASES = (
    *((model, "decode", "scan") for model in MODELS),
    ("Llama2-7B", "prefill", "scan"),
    ("Llama2-7B", "decode", "unrolled"),
    *((model, "decode", "8 sockets") for model in ("Llama2-7B", "Llama2-70B", "BLOOM-176B")),
)
SOCKETS = 8
CONTEXT = 4096  # positions of the cache, and tokens of the prompt
GOALS_S = {"scan": (3.0, 1.0), "unrolled": (6.0, 6.0), "8 sockets": (3.0, 1.0)}  # of decoding: cold, warm
MEMORY_GOAL_GIB = 1.5


@dataclass(frozen=True, kw_only=True)
class Compiled(Row):
    """One model. value, cold_s: processor time to compile and price it, warm and cold. run_ms: its price."""

    cold_s: float
    goal_cold_s: float | None
    memory_gib: float
    kernels: int
    launches: int
    run_ms: float
    hbm_gb: float
    ddr_gb: float

    @property
    def met(self) -> bool | None:
        """Whether all three goals are; None where there are none."""
        if self.goal_cold_s is None:
            return None
        return bool(super().met) and self.cold_s <= self.goal_cold_s and self.memory_gib <= MEMORY_GOAL_GIB


COLUMNS = (
    names("model", 28),
    Column("cold", "cold_s", 6, ".2f", group="seconds"),
    Column("goal", "goal_cold_s", 4, "g", group="seconds"),
    Column("warm", "value", 6, ".2f", group="seconds"),
    *goals(),
    Column("GiB", "memory_gib", 6, ".2f"),
    Column("kernels", "kernels", 7),
    Column("launches", "launches", 8),
    Column("price, ms", "run_ms", 10, ".3f"),
    Column("hbm", "hbm_gb", 9, ".2f", group="GB moved"),
    Column("ddr", "ddr_gb", 9, ".2f", group="GB moved"),
)


def program_of(config: Config, phase: str, form: str) -> tuple[Call, int]:
    """A model as a function, the shapes of its arguments, and which of these is the cache."""
    read = CONTEXT if phase == "prefill" else 1
    if form == "8 sockets":
        return parallel_call(config, SOCKETS, read, CONTEXT), MODEL_CACHE
    forward, (model, tokens, cache, start) = model_call(config, read, CONTEXT)
    if form == "scan":
        return (forward, (model, tokens, cache, start)), MODEL_CACHE
    layers, caches = [one_layer(model.layers)] * config.layers, [one_layer(cache)] * config.layers
    return (unrolled, (model, layers, tokens, caches, start)), MODEL_CACHE + 1


def unrolled(
    model: Decoder, layers: list[Layer], tokens: jax.Array, caches: list[Cache], start: jax.Array
) -> tuple[jax.Array, list[Cache | None]]:
    """The model with its layers written out one after the other, weights and caches of each by themselves."""
    x, kept = model.embedded(tokens, start), []
    for layer, cache in zip(layers, caches, strict=True):
        x, new = layer(x, model.data(), cache, start)
        kept.append(new)
    return model.logits(x[:, -1]), kept


def measured(model: str, phase: str, form: str) -> Compiled:
    """Compiles and prices twice, in this process."""
    (fn, args), donated = program_of(MODELS[model], phase, form)
    start = time.process_time()
    rdu.compile(fn, *args, donate_argnums=donated).cost()
    again = time.process_time()
    cost = rdu.compile(fn, *args, donate_argnums=donated).cost()
    warm_s = time.process_time() - again
    goal_cold_s, goal_warm_s = GOALS_S[form] if phase == "decode" else (None, None)
    return Compiled(
        row=f"{model} {phase}, {form}",
        value=warm_s,
        unit="s",
        goal=goal_warm_s,
        cold_s=again - start,
        goal_cold_s=goal_cold_s,
        memory_gib=resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        kernels=len(cost.kernels),
        launches=cost.launches,
        run_ms=float(cost.total_s) * 1e3,
        hbm_gb=cost.moved_bytes("hbm") / 1e9,
        ddr_gb=cost.moved_bytes("ddr") / 1e9,
    )


def rows() -> Iterator[Compiled]:
    """All cases, each in a fresh process."""
    for case in CASES:
        progress("compile " + " ".join(case))
        command = [sys.executable, "-m", "benchmarks.compile", "--one", *case]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        yield Compiled(**json.loads(ran.stdout))


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("compile", __doc__)
    asked.add_argument("--one", nargs=3, metavar=("MODEL", "PHASE", "FORM"), help="measure one case, here and now")
    options = asked.parse_args(arguments)
    if options.one:
        print(json.dumps(asdict(measured(*options.one))))
        return 0
    return show("compile", options, COLUMNS, rows())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
