"""What a model's time rests on: how many percent it changes for one percent of every fact of the machine.

The elasticity (d log time / d log fact) is the slope of the priced time by each fact, the plan kept, from one reverse
derivative through the price. Beside it stands what the exact price says of one percent less and one percent more, where
the plan does not depend on the fact and it need not be a whole number: the plan has every stage just keep up with its
loads, so that less of a bandwidth costs what more of it does not bring. Facts that no time rests on are left out. Then
rows add up by confidence: the factor by which the time would move, at most and to first order, if every such fact were
off by the spread at once.

The last rows are of what the paper prints ranges of: how many times as fast the fused program is as the unfused one,
and launched by hardware as by software. Between which numbers each of them lies if every assumption is off by the
spread, to first order, and how much of the printed range that covers, in logarithms: the rest of it, the uncertainty of
the assumptions does not explain, for the range is that of many models.
"""

import sys
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from math import inf, log, nan

import jax

import rdujax as rdu
from benchmarks import fig6
from benchmarks._rows import Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models.calls import MODEL_CACHE, MODELS
from benchmarks.models.parallel import shared_call
from rdujax.base.facts import CONFIDENCES, COUNTED, Fact
from rdujax.compiler.program import decides
from rdujax.machines.machine import ORCHESTRATIONS

CONTEXT = 4096  # positions of the cache, and tokens of the prompt
STEP = 0.01
LEAST = 1e-4  # elasticities below are left out


@dataclass(frozen=True, kw_only=True)
class Rests(Row):
    """One fact, or all of one confidence. value: the elasticity, or the factor by which the time moves at most.

    less, more: the elasticity by difference, with a fact one percent smaller, and larger. low, high: of a gain, with
    assumptions off by the spread; explained: the share of the printed range that lies between.
    """

    less: float | None = None
    more: float | None = None
    low: float | None = None
    high: float | None = None
    explained: float | None = None
    confidence: str = ""
    fact: str = ""
    source: str = ""


COLUMNS = (
    names("fact", 32),
    Column("slope", lambda row: row.value if row.unit == "1" else None, 8, "+.4f", group="elasticity"),
    Column("1% less", "less", 8, "+.4f", group="elasticity"),
    Column("1% more", "more", 8, "+.4f", group="elasticity"),
    Column("x", lambda row: row.value if row.unit == "x" else None, 6, ".2f"),
    Column("from", "low", 6, ".2f", group="if assumed facts are off"),
    Column("to", "high", 6, ".2f", group="if assumed facts are off"),
    Column("explains", "explained", 8, ".0%", group="if assumed facts are off"),
    Column("confidence", "confidence", 10, left=True),
    Column("value", "fact", 28, left=True),
    Column("source", lambda row: row.source.partition(";")[0][:60], 60, left=True),
)


def elasticities(program: rdu.Program) -> dict[str, float]:
    """d log time / d log fact, by the path of the fact, the plan kept."""
    machine, total_s = program.machine, float(program.cost().total_s)
    slopes = jax.grad(lambda m: program.cost(m).total_s)(machine.relaxed()).facts()
    return {path: float(slopes[path].value) * float(fact.value) / total_s for path, fact in machine.facts().items()}


def rows(program: rdu.Program, spread: float) -> Iterator[Rests]:
    """Facts by how much rests on them, then by confidence."""
    progress("slopes")
    facts, found = program.machine.facts(), elasticities(program)
    for path in sorted(found, key=lambda path: -abs(found[path])):
        fact = facts[path]
        if abs(found[path]) >= LEAST:
            progress(path)
            less, more = differences(program, path, fact)
            yield Rests(
                row=path,
                value=found[path],
                unit="1",
                less=less,
                more=more,
                confidence=fact.confidence,
                fact=f"{fact.value:,} {fact.unit}",
                source=fact.source,
            )
    for confidence in CONFIDENCES:
        resting = sum(abs(found[path]) for path, fact in facts.items() if fact.confidence == confidence)
        if resting >= LEAST:
            yield Rests(
                row=f"all {confidence}, off by {spread:g}", value=spread**resting, unit="x", confidence=confidence
            )


def gains(programs: Mapping[str, rdu.Program], phase: str, spread: float) -> Iterator[Rests]:
    """What fusion and hardware gain, of the programs of `fig6.CONFIGURATIONS`, beside the printed ranges."""
    progress("slopes of the gains")
    slopes = {name: elasticities(program) for name, program in programs.items()}
    total_s = {name: float(program.cost().total_s) for name, program in programs.items()}
    for text, slower, printed in (
        ("fused, HO, over unfused", "unfused", fig6.PUBLISHED[phase]),
        ("fused, HO over SO", "fused_so", fig6.OVER_SOFTWARE[phase]),
    ):
        facts = programs[slower].machine.facts()
        own = {path: slopes[slower][path] - slopes["fused_ho"][path] for path in facts}
        off = spread ** sum(abs(own[path]) for path, fact in facts.items() if fact.confidence == "assumed")
        gain = total_s[slower] / total_s["fused_ho"]
        yield Rests(
            row=text, value=gain, unit="x", low=gain / off, high=gain * off,
            explained=covered((gain / off, gain * off), printed), confidence="assumed",
            fact=f"printed {printed[0]:g} to {printed[1]:g}", source="MICRO 2024, section VI-A",
        )  # fmt: skip


def covered(span: tuple[float, float], printed: tuple[float, float]) -> float:
    """The share of a printed range that a span covers, in logarithms; of a single number, whether it is in it."""
    least, most = printed
    if least == most:
        return float(span[0] <= least <= span[1])
    return max(0.0, log(min(span[1], most) / max(span[0], least))) / log(most / least)


def differences(program: rdu.Program, path: str, fact: Fact) -> tuple[float | None, float | None]:
    """The elasticities to both sides, from exact prices; None where the plan would be another, or values are whole."""
    if decides(path) or fact.unit in COUNTED:
        return None, None
    sides = [program.machine.replace({path: fact.value * (1 + step)}) for step in (-STEP, STEP)]
    below, now, above = (float(program.cost(m).total_s) for m in (sides[0], program.machine, sides[1]))
    return (now - below) / (STEP * now), (above - now) / (STEP * now)


def factor(text: str) -> float:
    """A factor from the command line: 1 or more."""
    try:
        value = float(text)
    except ValueError:
        value = nan
    if not 1 <= value < inf:
        raise ArgumentTypeError(f"{text!r} is no factor of 1 or more")
    return value


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("sensitivity", __doc__)
    asked.add_argument("model", nargs="?", default="Llama2-7B", choices=MODELS, help="which model (Llama2-7B)")
    asked.add_argument("--phase", choices=("decode", "prefill"), default="decode", help="a token or a prompt (decode)")
    asked.add_argument("--sockets", type=int, choices=(1, 2, 4, 8), default=1, help="tensor-parallel on so many (1)")
    asked.add_argument("--orchestration", choices=ORCHESTRATIONS, default="hardware", help="who launches (hardware)")
    asked.add_argument("--spread", type=factor, default=1.5, help="factor of the last rows (1.5)")
    options = asked.parse_args(arguments)
    config, tokens = MODELS[options.model], 1 if options.phase == "decode" else CONTEXT
    fn, args = shared_call(config, options.sockets, tokens, CONTEXT)
    progress(f"compile {options.model}")
    program = rdu.compile(fn, *args, donate_argnums=MODEL_CACHE, orchestration=options.orchestration)
    by_hardware = program if options.orchestration == "hardware" else program.replace(orchestration="hardware")
    found = chain(rows(program, options.spread), gains(fig6.programs_of(by_hardware), options.phase, options.spread))
    return show("sensitivity", options, COLUMNS, found)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
