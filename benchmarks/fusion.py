"""What fusion saves: a decoder layer by operators, in greedy kernels, and in the cheapest ones.

Layers of models of the paper's Table 1 (`benchmarks/models/decoder.py`, shapes only), decoding one token and reading a
prompt, are compiled for one SN40L socket in four ways: one kernel per primitive, one per operator of an
operator-by-operator framework, greedily (each kernel as long as it fits), and as the compiler does it: the cheapest
partition into consecutive kernels. Times are priced, launches by hardware and by software included. The gap is how much
longer greedy kernels take than the cheapest ones found, launched by hardware.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass

import rdujax as rdu
from benchmarks._rows import Column, Row, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models.calls import LAYER_CACHE, MODELS, layer_call

WAYS = ("primitives", "none", "greedy", "streaming")
TOKENS = {"decode": 1, "prefill": 2048}
CONTEXT = 2048  # positions of the cache


@dataclass(frozen=True, kw_only=True)
class Fused(Row):
    """One layer. value: the gap, as a share. kernels: launches by way; *_us: priced time by way and by who launches."""

    kernels: dict[str, int]
    hardware_us: dict[str, float]
    software_us: dict[str, float]

    @property
    def saved(self) -> float:
        """How many times as long one kernel per operator takes, launched by hardware."""
        return self.hardware_us["none"] / self.hardware_us["streaming"]

    @property
    def saved_by_both(self) -> float:
        """The same, where the operators are launched by software."""
        return self.software_us["none"] / self.hardware_us["streaming"]


COLUMNS = (
    names("layer", 20),
    *(Column(way, lambda row, way=way: row.kernels[way], 10, group="kernels") for way in WAYS),
    *(
        Column(way, lambda row, way=way: row.hardware_us[way], 10, ",.1f", group="us, launched by hardware")
        for way in WAYS
    ),
    Column("gap", "value", 6, ".1%"),
    Column("by HO, x", "saved", 8, ".2f", group="none / streaming"),
    Column("by SO, x", "saved_by_both", 8, ".2f", group="none / streaming"),
)


def measured(model: str, phase: str) -> Fused:
    """The row of a layer."""
    fn, args = layer_call(MODELS[model], TOKENS[phase], CONTEXT)
    kernels, hardware, software = {}, {}, {}
    for way in WAYS:
        progress(f"compile {model} {phase}, {way}")
        program = rdu.compile(fn, *args, fusion=way, donate_argnums=LAYER_CACHE)
        kernels[way] = program.cost().launches
        hardware[way] = float(program.cost().total_s) * 1e6
        software[way] = float(program.replace(orchestration="software").cost().total_s) * 1e6
    return Fused(
        row=f"{model} {phase}",
        value=hardware["greedy"] / hardware["streaming"] - 1,
        unit="1",
        kernels=kernels,
        hardware_us=hardware,
        software_us=software,
    )


def rows(quick: bool) -> Iterator[Fused]:
    """All layers; `quick` leaves out prompts."""
    for phase in list(TOKENS)[: 1 if quick else None]:
        for model in MODELS:
            yield measured(model, phase)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    options = parser("fusion", __doc__, quick="decoding only").parse_args(arguments)
    return show("fusion", options, COLUMNS, rows(options.quick))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
