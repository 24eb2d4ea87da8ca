"""The paper's Table 2: how many times as fast a node of SN40L serves a composition of experts as a DGX.

150 experts of Llama2-7B (or as many as a DGX has room for) and a router, in the steady state, every prompt for an
expert that is not in HBM: what the simulated node takes for a batch, from prices of compiled programs (router, prefill,
decoding) and bytes over bandwidth (switching). "expert only" is one run of an expert, nothing switched
or routed. The DGX of the paper runs NeMo; more rows have the same models on the stack of 2026, and on no software at
all (roofline), for which nothing is published.

Six facts in all are calibrated, each to one published number (rdujax/machines/calibration.py); rows that only give
these back say so, and all others are tests. The exit status is 1 where a test is more than 10 % off, or all are more
than 5 % on average.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks._coe import A100, EXPERTS, H100, PROMPT, RDU, SHAPES, most, platform, served
from benchmarks._rows import VERDICTS, Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from experts.llama import LLAMA2_7B
from rdujax.coe.models import sizes_of, table
from rdujax.machines.calibration import CALIBRATED
from rdujax.machines.dgx import STACKS

NEAR, NEAR_ON_AVERAGE = 0.10, 0.05
GPUS = (A100, H100)
# MICRO 2024, Table V; IEEE Micro, Table 2: the DGX's time over the SN40L's.
PUBLISHED = {
    ("overall", 8, 20): (6.6, 3.7),
    ("overall", 1, 20): (4.8, 2.8),
    ("expert only", 1, 20): (2.0, 1.5),
    ("overall", 8, 200): (4.2, 2.7),
    ("overall", 1, 200): (3.9, 2.6),
    ("expert only", 1, 200): (3.2, 2.3),
    ("switching", 1, 0): (31.0, 15.0),  # the text has 16
}


@dataclass(frozen=True, kw_only=True)
class Faster(Row):
    """One number of the table. value: how many times as fast. rdu_s, gpu_s: what both take. stack: of the DGX."""

    stack: str
    rdu_s: float
    gpu_s: float

    @property
    def met(self) -> bool | None:
        """Whether a test is near what is published; None where nothing is tested."""
        return None if self.kind != "test" or self.ratio is None else abs(self.ratio - 1) <= NEAR


COLUMNS = (
    names("", 40),
    Column("stack", "stack", 11, left=True),
    Column("SN40L", lambda row: 1e3 * row.rdu_s, 10, ",.1f", group="milliseconds"),
    Column("DGX", lambda row: 1e3 * row.gpu_s, 10, ",.1f", group="milliseconds"),
    Column("here", "value", 6, ".2f", group="times as fast"),
    Column("printed", "published", 7, ".4g", group="times as fast"),
    Column("ratio", "ratio", 5, ".2f"),
    Column("kind", "kind", 10, left=True),
    Column("", lambda row: VERDICTS[row.met], 6, left=True),
)


def rows(stacks: tuple[str, ...]) -> Iterator[Faster]:
    """All numbers, first those of the stack that the paper compares with."""
    calibrated = {each.benchmark for each in CALIBRATED}
    for stack in stacks:
        for (what, batch, tokens), printed in PUBLISHED.items():
            for gpu, number in zip(GPUS, printed, strict=True):
                title = _title(what, batch, tokens, gpu)
                progress(f"{title}, {stack}")
                rdu_s, gpu_s = (_seconds(name, stack, what, batch, tokens) for name in (RDU, gpu))
                is_paper = stack == STACKS[0]
                yield Faster(
                    row=title, value=gpu_s / rdu_s, unit="x", stack=stack, rdu_s=rdu_s, gpu_s=gpu_s,
                    published=number if is_paper else None,
                    kind="measured" if not is_paper else "calibrated" if f"table2: {title}" in calibrated else "test",
                )  # fmt: skip


def _title(what: str, batch: int, tokens: int, gpu: str) -> str:
    sizes = f", BS {batch}, {tokens} tokens" if tokens else ""
    return f"{what}{sizes}, {gpu}"


def _seconds(name: str, stack: str, what: str, batch: int, tokens: int) -> float:
    on = platform(name, stack)
    if what == "switching":
        return on.copy_ps(sizes_of(LLAMA2_7B).in_bytes) / 1e12
    if what == "expert only":
        prices = table(LLAMA2_7B, on, SHAPES)
        return (prices.prefill_ps(1, PROMPT) + prices.decode_ps(1, PROMPT + 1, tokens - 1)) / 1e12
    found = served(on, min(EXPERTS, most(on)), batch, tokens)
    assert found is not None, "as many experts as have a home are served"
    return found.total_s


def notes(seen: list[Faster]) -> Iterator[str]:
    """How far tests are off on average."""
    if {row.stack for row in seen} > {STACKS[0]}:
        start_ms = platform(RDU).start_ps / 1e9
        yield f"Times of {RDU} are with its software ({start_ms:g} ms before each run); a roofline has none."
    tests = _off(seen)
    if tests:
        yield f"{len(tests)} tests: {sum(tests) / len(tests):.1%} off on average, {max(tests):.1%} at most."


def _off(seen: list[Faster]) -> list[float]:
    """How far each test is off."""
    return [abs(row.ratio - 1) for row in seen if row.kind == "test" and row.ratio is not None]


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("table2", __doc__, quick="the stack of the paper only")
    options = asked.parse_args(arguments)
    seen: list[Faster] = []

    def kept() -> Iterator[Faster]:
        for row in rows(STACKS[:1] if options.quick else STACKS):
            seen.append(row)
            yield row

    status = show("table2", options, COLUMNS, kept(), notes=notes)
    off = _off(seen)
    return max(status, int(bool(off) and sum(off) / len(off) > NEAR_ON_AVERAGE))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
