"""What a composition takes under load, and what each way of serving gains: batches, groups, copies ahead, joining.

140 experts of Llama2-7B, popular by Zipf's law with exponent 1, asked at random (a Poisson process) at a share of what
the node can do one prompt after the other; 128 tokens in, 20 out. A request is good that has its first token within two
seconds and each further one within 200 ms. Nodes: an SN40L, and DGX H100 on the stack of 2026, each at its own rate.

    one by one     a prompt after the other, as the paper's latencies
    guessed        the same, and while the router runs an expert is copied that is the right one in 4 of 5 cases
    batches        up to 8 prompts are routed together
    grouped        and prompts of a batch for the same expert run together
    resident first and those experts first that are in HBM
    copied ahead   and the next expert is copied while one runs
    joining        and requests join what runs for their expert, for up to half a second
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

from benchmarks._coe import H100, PROMPT, RDU, platform
from benchmarks._rows import Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from experts.llama import LLAMA2_7B
from rdujax.cli.options import length
from rdujax.coe.metrics import Objectives, Summary, summed
from rdujax.coe.models import Shapes
from rdujax.coe.nodes import Options
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.requests import Request
from rdujax.coe.serving import Server
from rdujax.coe.systems import System, system
from rdujax.coe.traffic import SECOND_PS, Open, arrivals, asks, zipf

SHAPES = Shapes(prompts=(1, 8), tokens=(128,), positions=(256,))
NAMES = [f"expert {at}" for at in range(140)]
TOKENS, REQUESTS = 20, 4000
SHARES = (0.5, 0.9, 1.3)  # of what a node can do one by one
OBJECTIVES = Objectives(first_token_s=2.0, per_token_s=0.2)
NODES = {RDU: "nemo-2024", H100: "trtllm-2026"}  # an SN40L has no such stack
RIGHT = 0.8  # of guesses; the others are any expert


def guess(request: Request) -> tuple[str, ...]:
    """Somebody quicker than the router, who is often right: a cache of prompts, a first layer, a client's history."""
    rng = Random(f"guess {request.number}")
    return request.experts[:1] if rng.random() < RIGHT else (rng.choice(NAMES),)


WAYS = {
    "one by one": Options(),
    "guessed": Options(guess=guess),
    "batches": Options(batch=8),
    "grouped": Options(batch=8, grouped=True),
    "resident first": Options(batch=8, grouped=True, resident_first=True),
    "copied ahead": Options(batch=8, grouped=True, resident_first=True, prefetch=1),
    "joining": Options(batch=8, grouped=True, resident_first=True, prefetch=1, joining_ps=SECOND_PS // 2),
}


@dataclass(frozen=True, kw_only=True)
class Loaded(Row):
    """A node under a load. value: good requests per second. Seconds: medians, and what 99 % of requests stay below."""

    offered_per_s: float
    answered_per_s: float
    attainment: float
    first_token_s: float
    first_token_p99_s: float
    per_token_s: float
    latency_p99_s: float
    hit_rate: float


COLUMNS = (
    names("", 36),
    Column("offered", "offered_per_s", 7, ".2f", group="requests per second"),
    Column("answered", "answered_per_s", 8, ".2f", group="requests per second"),
    Column("good", "value", 6, ".2f", group="requests per second"),
    Column("good", "attainment", 6, ".1%"),
    Column("median", "first_token_s", 7, ".2f", group="TTFT, s"),
    Column("99%", "first_token_p99_s", 7, ".2f", group="TTFT, s"),
    Column("ms", lambda row: 1e3 * row.per_token_s, 6, ".1f", group="TPOT"),
    Column("99%", "latency_p99_s", 7, ".2f", group="E2E, s"),
    Column("hits", "hit_rate", 5, ".0%"),
)


def rows(requests: int) -> Iterator[Loaded]:
    """Every way at every load on every node."""
    for name, stack in NODES.items():
        progress(f"pricing, {name}")
        of = system(platform(name, stack), NAMES, LLAMA2_7B, LLAMA2_7B, SHAPES)
        most = _answered(of, 1e6, 500, Options())
        for share in SHARES:
            for way, options in WAYS.items():
                progress(f"{name}, {share:.0%}, {way}")
                rate = share * (most.latency.count / most.duration_s)
                yield _row(f"{name} at {share:.0%}, {way}", rate, _answered(of, rate, requests, options))


def _answered(of: System, rate: float, requests: int, options: Options) -> Summary:
    server = Server(of.node, of.experts, LeastRecentlyUsed(), options)
    traffic = Open(arrivals(asks(zipf(NAMES, 1.0), PROMPT, TOKENS), rate, requests))
    return summed(server.serve(traffic), OBJECTIVES)


def _row(title: str, rate: float, found: Summary) -> Loaded:
    return Loaded(
        row=title, value=found.goodput_per_s, unit="requests/s", offered_per_s=rate,
        answered_per_s=found.latency.count / found.duration_s, attainment=found.attainment,
        first_token_s=found.first_token.percentile(50) / SECOND_PS,
        first_token_p99_s=found.first_token.percentile(99) / SECOND_PS,
        per_token_s=found.per_token.percentile(50) / SECOND_PS,
        latency_p99_s=found.latency.percentile(99) / SECOND_PS, hit_rate=found.hit_rate,
    )  # fmt: skip


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("load", __doc__)
    asked.add_argument("--requests", type=length, default=REQUESTS, help=f"of each row (default {REQUESTS:,})")
    options = asked.parse_args(arguments)
    return show("load", options, COLUMNS, rows(options.requests))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
