"""How much memory Llama2-7B takes on one socket, and what sharing addresses by lifetime and spilling to DDR save.

For serving, 4,096 positions: the prompt at once, then one token; for training, one step of AdamW on 4,096 tokens, one
operator per kernel as in an eager framework (every value between operators rests in memory) or fused. Layers are under
`lax.scan`. Everything is computed from shapes; MICRO 2024, section V, says that jobs of this model would not fit into
the 64 GiB of a socket's HBM without sharing by lifetime. With first moments in FP32 training does not fit with it
either: what is moved least, moments and what the optimiser leaves between two operators, rests in DDR.

    sum      what the symbols would take if each kept addresses of its own
    bound    the most bytes that are alive at once: no addresses need fewer
    peak     what they take
    moved    what one run reads and writes
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import rdujax as rdu
from benchmarks._rows import Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models import decoder
from benchmarks.models.calls import (
    MODEL_CACHE,
    OPTIMIZER,
    TRAINED,
    WIDE_OPTIMIZER,
    model_call,
    tokens_of,
    train_call,
)

POSITIONS = 4096
TIERS = ("hbm", "ddr")
JOBS = ("decode", "prefill", "train", "train fp32")


@dataclass(frozen=True)
class Job:
    """A function and its arguments as shapes; how it is fused; which arguments are needed no more.

    tokens: how many one run reads.
    """

    name: str
    tokens: int
    fn: Callable[..., Any]
    args: tuple[Any, ...]
    fusion: str
    given_away: int | tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Held(Row):
    """One job in one tier. value: the peak in bytes. planning_s: from the function to the program, for all tiers.

    moved_bytes: that one run on so many tokens moves.
    """

    symbols: int
    sum_bytes: int
    bound_bytes: int
    moved_bytes: int
    tokens: int
    planning_s: float

    @property
    def moved_gib(self) -> float:
        """What one run moves."""
        return self.moved_bytes / 2**30

    @property
    def moved_per_token_mib(self) -> float:
        """The same for one of its tokens."""
        return self.moved_bytes / self.tokens / 2**20

    @property
    def over_bound(self) -> float | None:
        """The peak over the bound; None for an empty tier."""
        return self.value / self.bound_bytes if self.value else None

    @property
    def shared(self) -> float | None:
        """The sum over the peak; None for an empty tier."""
        return self.sum_bytes / self.value if self.value else None


COLUMNS = (
    names("job: tier", 24),
    Column("symbols", "symbols", 8, ","),
    *(
        Column(title, lambda row, of=of: getattr(row, of) / 2**30, 9, ".3f", group="GiB")
        for title, of in (("sum", "sum_bytes"), ("bound", "bound_bytes"), ("peak", "value"))
    ),
    Column("moved", "moved_gib", 9, ".3f", group="GiB"),
    Column("per token", "moved_per_token_mib", 11, ",.3f", group="MiB"),
    Column("peak/bound", "over_bound", 10, ".4f"),
    Column("sum/peak", "shared", 8, ".3f"),
    Column("planning, s", "planning_s", 11, ".1f"),
)


def jobs(config: decoder.Config, fused_training: bool) -> Iterator[Job]:
    """The prompt, a token, a step of training, and one with first moments in FP32."""
    for fusion in ("none", "streaming"):
        yield Job("decode", 1, *model_call(config, 1, POSITIONS), fusion, MODEL_CACHE)
        yield Job("prefill", POSITIONS, *model_call(config, POSITIONS, POSITIONS), fusion, MODEL_CACHE)
    for name, optimizer in (("train", OPTIMIZER), ("train fp32", WIDE_OPTIMIZER)):
        training = train_call(decoder.abstract_model(config), tokens_of(POSITIONS + 1), optimizer)
        for fusion in ("none", "streaming")[: 1 + fused_training]:
            yield Job(name, POSITIONS, *training, fusion, TRAINED)


def rows(jobs: Iterator[Job]) -> Iterator[Held]:
    """What each job takes of each tier."""
    for job in jobs:
        progress(f"{job.name}, {job.fusion}")
        begin = time.perf_counter()
        program = rdu.compile(job.fn, *job.args, fusion=job.fusion, donate_argnums=job.given_away)
        planning_s = time.perf_counter() - begin
        memory, cost = program.plan.memory, program.cost()
        for tier in TIERS:
            yield Held(
                row=f"{job.name}, {job.fusion}: {tier}",
                value=memory.peak_bytes(tier),
                unit="bytes",
                symbols=len(memory.of_tier(tier)),
                sum_bytes=memory.sum_bytes(tier),
                bound_bytes=memory.bound_bytes[tier],
                moved_bytes=cost.moved_bytes(tier),
                tokens=job.tokens,
                planning_s=planning_s,
            )


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("memory", __doc__)
    asked.add_argument("--layers", type=int, default=decoder.LLAMA2_7B.layers, help="layers of the model (32)")
    asked.add_argument("--only", choices=JOBS, help="one job instead of all")
    asked.add_argument("--fused-training", action="store_true", help="also the fused step of training, which is slow")
    options = asked.parse_args(arguments)
    all_jobs = jobs(replace(decoder.LLAMA2_7B, layers=options.layers), options.fused_training)
    return show("memory", options, COLUMNS, rows(job for job in all_jobs if options.only in (None, job.name)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
