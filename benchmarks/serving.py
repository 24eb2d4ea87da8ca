"""How well policies keep the right experts in HBM, and how fast a node is simulated.

A node of SN40L serves 150 experts of Llama2-7B, one prompt of 128 tokens after the other, 20 tokens written, for 20,000
requests of several popularities: uniform, Zipf's law with exponents of 0.6, 1.0 and 1.2, the same with every second
request for the expert of before, and with another order of popularity after every 2,000. Look-ahead knows the turns of
a batch of 8; Belady's bound knows all. Below: seconds of this machine for a million requests, and the memory that more
requests take at most. The exit status is 1 where a million takes more than a minute, or memory grows with requests.
"""

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random

from benchmarks._coe import EXPERTS, PROMPT, RDU, composed, platform
from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from rdujax.cli.options import length
from rdujax.coe.metrics import summed
from rdujax.coe.nodes import Options
from rdujax.coe.policies import POLICIES, Belady, Policy
from rdujax.coe.requests import Request
from rdujax.coe.serving import Server
from rdujax.coe.traffic import Open, Popularity, arrivals, asks, drifting, sticky, uniform, zipf

TOKENS = 20
EVERY = 10**12  # picoseconds between two requests: each is served before the next arrives, or a batch has come together
REQUESTS, MANY = 20_000, 1_000_000
SECONDS, GROWTH = 60.0, 8.0  # for a million; MiB
NAMES = [f"expert {at}" for at in range(EXPERTS)]
POPULARITIES: dict[str, Callable[[], Popularity]] = {
    "uniform": lambda: uniform(NAMES),
    "Zipf 0.6": lambda: zipf(NAMES, 0.6),
    "Zipf 1.0": lambda: zipf(NAMES, 1.0),
    "Zipf 1.0, sticky 0.5": lambda: sticky(zipf(NAMES, 1.0), 0.5),
    "Zipf 1.0, drifting": lambda: drifting(NAMES, 1.0, 2000),
    "Zipf 1.2": lambda: zipf(NAMES, 1.2),
}
BOUND = "belady"


@dataclass(frozen=True, kw_only=True)
class Hits(Row):
    """Of one popularity: the share of hits by policy; value: that of the bound. Or a number of the simulation."""

    hits: dict[str, float] = field(default_factory=dict)


COLUMNS = (
    names("", 28),
    *(Column(name, lambda row, name=name: row.hits.get(name), 10, ".3f", group="share of hits") for name in
      (*POLICIES, BOUND)),
    Column("", lambda row: None if row.hits else row.value, 8, ",.1f"),
    Column("", lambda row: "" if row.hits else row.unit, 4, left=True),
    *goals(),
)  # fmt: skip


def rows(requests: int, many: int) -> Iterator[Hits]:
    """Hits by popularity, then how fast a simulation is, and what it needs."""
    of = composed(platform(RDU), EXPERTS)
    for name, make in POPULARITIES.items():
        rng, popularity = Random(name), make()
        asked = [Request(n, n * EVERY, (popularity(rng),), PROMPT, TOKENS) for n in range(requests)]
        bound = Belady(request.experts[0] for request in asked)
        policies: dict[str, Policy] = {**{each: made() for each, made in POLICIES.items()}, BOUND: bound}
        hits = {}
        for each, policy in policies.items():
            progress(f"{name}, {each}")
            batch = 8 if each == "look-ahead" else 1
            together = [r._replace(arrival_ps=r.number // batch * batch * EVERY) for r in asked]
            hits[each] = summed(Server(of.node, of.experts, policy, Options(batch)).serve(Open(together))).hit_rate
        yield Hits(row=name, value=hits[BOUND], unit="1", hits=hits)
    progress("a million requests")
    yield from _simulated(of, many)


def _simulated(of, requests: int) -> Iterator[Hits]:
    """Seconds of so many requests, and MiB that twice as many take more; which is measured on fewer, for it is slow."""

    def served(count: int) -> None:
        traffic = Open(arrivals(asks(zipf(NAMES, 1.0), PROMPT, TOKENS), 5.0, count))
        summed(Server(of.node, of.experts, POLICIES["lru"]()).serve(traffic))

    start = time.perf_counter()
    served(requests)
    yield Hits(
        row=f"simulated, {requests:,} requests", value=time.perf_counter() - start, unit="s",
        goal=SECONDS if requests == MANY else None,
    )  # fmt: skip
    peaks = []
    for count in (requests // 50, requests // 25):
        tracemalloc.start()
        served(count)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    yield Hits(row="memory of twice as many more", value=(peaks[1] - peaks[0]) / 2**20, unit="MiB", goal=GROWTH)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("serving", __doc__)
    asked.add_argument("--requests", type=length, default=REQUESTS, help=f"of each popularity (default {REQUESTS:,})")
    asked.add_argument("--many", type=length, default=MANY, help=f"of the simulation that is timed (default {MANY:,})")
    options = asked.parse_args(arguments)
    return show("serving", options, COLUMNS, rows(options.requests, options.many))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
