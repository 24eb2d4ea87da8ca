"""What fusion and orchestration gain on the paper's Table 1: unfused by software; fused by software, hardware, looped.

Every benchmark is compiled for a node of SN40L sockets, tensor-parallel but for the cases that `models/table1.py`
names, and priced per socket: operator by operator, each launched by the host (unfused); fused, launched by the host
(SO); fused, launched by the AGCUs (HO); and the kernels of HO with layers of one kernel each in one launch (looped),
for which the paper has no bar. Nothing is typed in from the paper but what stands in its columns; one unknown, what an
argument of a kernel costs the host, is calibrated to one number (`rdujax/machines/calibration.py`), whose row says so.
The paper's bars are not published as numbers, only ranges of its text: a row says whether it lies in its range.

PCUs, PMUs and the share of the peak HBM bandwidth are those of the fused kernel that takes longest; bytes are those of
one socket. Each benchmark is a process of its own, two at a time. The exit status is 1 where a row misses its range.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import rdujax as rdu
from benchmarks._rows import Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models.table1 import BARS, Bar
from rdujax.compiler.drawing import Drawing, Line, Rectangle, Shape, Style, Words, width_of
from rdujax.compiler.memory import FITS

PROCESSES = 2
# By phase, the least and the most that fusion gains with hardware orchestration, and what that gains over software:
# MICRO 2024, section VI-A. A convolution gains 13 times, whoever launches.
PUBLISHED = {"prefill": (1.5, 3.0), "train": (1.5, 3.0), "decode": (1.0, 13.0), "convolution": (13.0, 13.0)}
OVER_SOFTWARE = {"prefill": (1.0, 1.1), "train": (1.0, 1.1), "decode": (1.4, 8.0), "convolution": (1.0, 1.0)}
CALIBRATED = "mistral7B-2k-decode"
KERNEL_RATIO = {"llama7B-4k-prefill": 11.0}  # MICRO 2024, Figure 11 and its text
NEAR = 0.005  # a range as printed includes what is rounded to it


@dataclass(frozen=True, kw_only=True)
class Gain(Row):
    """One benchmark. value: how many times as fast fused with hardware orchestration is as unfused.

    ms, launches: of the four configurations. least, most: the published range of the value; over_least, over_most:
    that of hardware over software orchestration. units: shares of PCUs and PMUs, and of the HBM's peak bandwidth.
    """

    phase: str
    unfused_ms: float
    fused_so_ms: float
    fused_ho_ms: float
    looped_ms: float
    unfused_launches: int
    fused_so_launches: int
    fused_ho_launches: int
    looped_launches: int
    pcu_share: float
    pmu_share: float
    hbm_share: float
    hbm_gb: float
    ddr_gb: float
    unfused_hbm_gb: float
    intensity: float
    peak_hbm_gb: float
    peak_ddr_gb: float
    compiled_s: float

    @property
    def by_software(self) -> float:
        """How many times as fast fused is as unfused, both launched by software."""
        return self.unfused_ms / self.fused_so_ms

    @property
    def by_looping(self) -> float:
        """How many times as fast fused is as unfused, with layers launched once."""
        return self.unfused_ms / self.looped_ms

    @property
    def over_software(self) -> float:
        """How many times as fast hardware orchestration is as software's, both fused."""
        return self.fused_so_ms / self.fused_ho_ms

    @property
    def kernel_ratio(self) -> float:
        """Launches of the unfused over those of the fused."""
        return self.unfused_launches / self.fused_ho_launches

    @property
    def met(self) -> bool | None:
        """Whether the value and what hardware orchestration gains lie in what is published."""
        pairs = (self.value, PUBLISHED[self.phase]), (self.over_software, OVER_SOFTWARE[self.phase])
        return not any(misses(*pair) for pair in pairs)


def misses(value: float, span: tuple[float, float]) -> str:
    """By how much a value lies outside of a published range, in words; nothing where it lies inside."""
    least, most = span
    if value < least - NEAR:
        return f"{value / least:.2f} of {least:g}"
    return f"{value / most:.2f} of {most:g}" if value > most + NEAR else ""


def _span(of: dict[str, tuple[float, float]], row: Gain) -> str:
    least, most = of[row.phase]
    return f"{least:g}" if least == most else f"{least:g}-{most:g}"


COLUMNS = (
    names("benchmark", 24),
    Column("unfused", "unfused_ms", 9, ",.2f", group="milliseconds"),
    Column("SO", "fused_so_ms", 9, ",.2f", group="milliseconds"),
    Column("HO", "fused_ho_ms", 9, ",.2f", group="milliseconds"),
    Column("looped", "looped_ms", 9, ",.2f", group="milliseconds"),
    Column("SO", "by_software", 5, ".1f", group="gains"),
    Column("HO", "value", 5, ".1f", group="gains"),
    Column("printed", lambda row: _span(PUBLISHED, row), 7, group="gains"),
    Column("looped", "by_looping", 6, ".1f", group="gains"),
    Column("here", "over_software", 5, ".2f", group="HO over SO"),
    Column("printed", lambda row: _span(OVER_SOFTWARE, row), 7, group="HO over SO"),
    Column("unfused", "unfused_launches", 7, ",", group="launches"),
    Column("fused", "fused_ho_launches", 5, ",", group="launches"),
    Column("ratio", "kernel_ratio", 5, ".1f", group="launches"),
    Column("looped", "looped_launches", 6, ",", group="launches"),
    Column("PCUs", "pcu_share", 5, ".0%", group="longest kernel"),
    Column("PMUs", "pmu_share", 5, ".0%", group="longest kernel"),
    Column("HBM", "hbm_share", 5, ".0%", group="longest kernel"),
    Column("unfused", "unfused_hbm_gb", 8, ",.1f", group="GB moved"),
    Column("HBM", "hbm_gb", 8, ",.2f", group="GB moved"),
    Column("DDR", "ddr_gb", 6, ",.2f", group="GB moved"),
    Column("F/B", "intensity", 6, ",.1f"),
    Column("outside of what is printed", lambda row: outside(row), 44, left=True),
)


def outside(row: Gain) -> str:
    """What of a row lies outside of what is published, and which row was calibrated."""
    found = [misses(row.value, PUBLISHED[row.phase]), misses(row.over_software, OVER_SOFTWARE[row.phase])]
    words = [f"{name} {text}" for name, text in zip(("gain", "HO over SO"), found, strict=True) if text]
    if row.row in KERNEL_RATIO:
        words.append(f"kernel ratio {row.kernel_ratio:.1f}, printed {KERNEL_RATIO[row.row]:g}")
    return "; ".join([*(["calibrated"] if row.kind == "calibrated" else []), *words])


def measured(bar: Bar) -> Gain:
    """Compiles and prices one benchmark in all configurations, in this process."""
    fn, args = bar.call()
    start = time.process_time()
    programs = programs_of(rdu.compile(fn, *args, donate_argnums=bar.donated))
    costs = {name: program.cost() for name, program in programs.items()}
    compiled_s = time.process_time() - start
    times = {name: 1e3 * float(cost.total_s) for name, cost in costs.items()}
    best, cost = programs["fused_ho"], costs["fused_ho"]
    machine = best.machine
    pairs = list(zip(cost.kernels, best.plan.kernels, strict=True))
    longest, planned = max(pairs, key=lambda pair: float(pair[0].run_s) * pair[0].runs)
    peak_bytes = float(longest.run_s) * float(machine.hbm.bandwidth_bytes_per_s.value)
    published = PUBLISHED[bar.phase]
    return Gain(
        row=bar.title,
        value=times["unfused"] / times["fused_ho"],
        unit="x",
        published=published[1] if bar.title == CALIBRATED or published[0] == published[1] else None,
        kind="calibrated" if bar.title == CALIBRATED else "test",
        phase=bar.phase,
        **{f"{name}_ms": value for name, value in times.items()},
        **{f"{name}_launches": each.launches for name, each in costs.items()},
        pcu_share=planned.pcus / int(machine.pcu.count.value),
        pmu_share=planned.pmus / int(machine.pmu.count.value),
        hbm_share=longest.cost.moved_bytes("hbm") / peak_bytes,
        hbm_gb=cost.moved_bytes("hbm") / 1e9,
        ddr_gb=cost.moved_bytes("ddr") / 1e9,
        unfused_hbm_gb=costs["unfused"].moved_bytes("hbm") / 1e9,
        intensity=cost.operational_intensity(),
        peak_hbm_gb=best.plan.peak_bytes("hbm") / 1e9,
        peak_ddr_gb=best.plan.peak_bytes("ddr") / 1e9,
        compiled_s=compiled_s,
    )


def programs_of(best: rdu.Program) -> dict[str, rdu.Program]:
    """The four configurations, by name, of a program that is fused and launched by hardware.

    The host takes longer for each kernel and for each argument, of which one kernel has no more than its parts. So
    where nothing is cut, nothing is cut for the host either: there the kernels stay, unless they were cut while memory
    was shared out, which a tier that was not asked for tells. Otherwise they are planned for the host.
    """
    kept = best.plan.is_uncut and all(symbol.reason == FITS for symbol in best.plan.memory.symbols)
    return {
        "unfused": best.replace(fusion="none", orchestration="software"),
        "fused_so": best.relaunched("software") if kept else best.replace(orchestration="software"),
        "fused_ho": best,
        "looped": best.relaunched("looped"),
    }


def rows(bars: list[Bar]) -> Iterator[Gain]:
    """Each benchmark in a process of its own, in order."""

    def one(bar: Bar) -> Gain:
        command = [sys.executable, "-m", "benchmarks.fig6", "--one", bar.title]
        ran = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        return Gain(**json.loads(ran.stdout))

    with ThreadPoolExecutor(PROCESSES) as pool:
        for bar, future in [(bar, pool.submit(one, bar)) for bar in bars]:
            progress(bar.title)
            yield future.result()


NEARLY = {"PCUs": 0.9, "PMUs": 0.9, "HBM": 0.85}  # of a fused decoder layer; MICRO 2024, section VI-A


def notes(seen: list[Gain]) -> Iterator[str]:
    """Why rows lie outside of what is printed, and how full the kernels of decoding are."""
    for row in seen:
        if why := " ".join(reasons(row)):
            yield f"{row.row}: {why}"
    if decoding := [row for row in seen if row.phase == "decode"]:
        spans = (
            _span_of(decoding, *each) for each in (("PCUs", "pcu_share"), ("PMUs", "pmu_share"), ("HBM", "hbm_share"))
        )
        yield f"decoding, longest kernels: {'; '.join(spans)}. A stage has no more PCUs than make its kernel faster."


def _span_of(rows: list[Gain], name: str, of: str) -> str:
    """From what to what a share goes, beside what is printed."""
    shares = [getattr(row, of) for row in rows]
    return f"{name} {min(shares):.0%} to {max(shares):.0%}, printed near {NEARLY[name]:.0%}"


def reasons(row: Gain) -> Iterator[str]:
    """What makes a row miss its ranges, from its own numbers."""
    (least, most), (_, over_most) = PUBLISHED[row.phase], OVER_SOFTWARE[row.phase]
    host_ms = row.fused_so_ms - row.fused_ho_ms
    if row.phase == "convolution" and row.value > most:
        yield (
            f"one channel takes so short a time that launches decide: {row.unfused_launches} against "
            f"{row.fused_ho_launches}; several channels at once gain less, how many ran is not published."
        )
    elif row.value > most + NEAR:
        yield (
            f"unfused, {row.unfused_hbm_gb:,.0f} GB pass HBM and {row.hbm_gb:,.1f} GB fused, for every operator of the "
            "attention keeps its scores there; a baseline that fuses some of them gains less."
        )
    elif row.value < least - NEAR:
        yield f"fused, {row.hbm_gb:,.0f} GB still pass HBM, {row.unfused_hbm_gb:,.0f} GB unfused."
    if row.row in KERNEL_RATIO and row.kernel_ratio < KERNEL_RATIO[row.row]:
        yield (
            f"of the partitions that were tried, none takes less time than that into {row.fused_ho_launches} kernels, "
            "launches included."
        )
    if misses(row.over_software, OVER_SOFTWARE[row.phase]):
        asked = (
            "more launches" if row.over_software < OVER_SOFTWARE[row.phase][0] else f"no more than {over_most - 1:.0%}"
        )
        yield (
            f"the host takes {host_ms:,.1f} ms more for {row.fused_so_launches} launches, beside "
            f"{row.fused_ho_ms:,.1f} ms; the printed range asks for {asked}."
        )


MARGIN, PITCH, BAR, SIZE, ROOM = 16.0, 51.0, 13.0, 12.0, 520.0  # pixels; ROOM is the length of the longest bar
INK, SO, HO, LOOPED = map(Style, ("#222222", "#56b4e9", "#0072b2", "#009e73"))  # told apart by anyone
RANGE = Style(stroke="#d55e00", width=2.0)


def gains(seen: list[Gain]) -> Drawing:
    """Three bars for each benchmark, by who launches, over what is published; unfused is one."""
    left = MARGIN + max((width_of(row.row, SIZE) for row in seen), default=0.0) + 8
    most = max((max(row.value, row.by_looping, row.by_software, PUBLISHED[row.phase][1]) for row in seen), default=1.0)
    pixels, y = ROOM / most, MARGIN
    shapes: list[Shape] = []
    for at, (style, text) in enumerate(((SO, "fused, SO"), (HO, "fused, HO"), (LOOPED, "looped"))):
        shapes += [Rectangle(left + 110 * at, y, 24, BAR, style), _words(left + 110 * at + 30, y, text)]
    shapes += [*_range(left + 330, left + 354, y + BAR / 2), _words(left + 362, y, "published, HO")]
    y += PITCH
    for row in seen:
        shapes.append(Words(left - 8, y + BAR + 4, row.row, SIZE, INK, anchor="end"))
        for at, (value, style) in enumerate(((row.by_software, SO), (row.value, HO), (row.by_looping, LOOPED))):
            top = y + at * BAR
            shapes.append(Rectangle(left, top, value * pixels, BAR - 1, style, f"{row.row}: {value:.3g} x"))
            past = max(value, PUBLISHED[row.phase][1]) if style is HO else value
            shapes.append(_words(left + past * pixels + 8, top, f"{value:.2f}"))
        least, largest = PUBLISHED[row.phase]
        shapes += _range(left + least * pixels, left + largest * pixels, y + 1.5 * BAR)
        y += PITCH
    one = left + pixels
    shapes += [Line(one, MARGIN + PITCH - 6, one, y, Style("#222222", "#222222", 0.7)), _words(one - 24, y, "unfused")]
    return Drawing(left + ROOM + 80, y + PITCH, tuple(shapes))


def _words(x: float, y: float, text: str) -> Words:
    return Words(x, y + BAR - 3, text, SIZE, INK)


def _range(first: float, last: float, y: float) -> Iterator[Shape]:
    yield Line(first, y, last, y, RANGE)
    yield from (Line(x, y - 4, x, y + 4, RANGE) for x in (first, last))


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    asked = parser("fig6", __doc__)
    asked.add_argument("--only", default="", metavar="TEXT", help="benchmarks whose name contains this, as decode")
    asked.add_argument("--one", choices=[bar.title for bar in BARS], help="one benchmark, here and now, as JSON")
    options = asked.parse_args(arguments)
    if options.one:
        print(json.dumps(asdict(measured(next(bar for bar in BARS if bar.title == options.one)))))
        return 0
    chosen = [bar for bar in BARS if options.only in bar.title]
    if not chosen:
        asked.error(f"--only {options.only!r}: none of {', '.join(bar.title for bar in BARS)}")
    return show("fig6", options, COLUMNS, rows(chosen), gains, notes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
