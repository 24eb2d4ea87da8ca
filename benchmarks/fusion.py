"""What fusion saves: a decoder layer by operators, in greedy kernels, and in the cheapest ones.

Layers of models of the paper's Table 1 (`benchmarks/models/decoder.py`, shapes only), decoding one token and reading a
prompt, are compiled for one SN40L socket in four ways: one kernel per primitive, one per operator of an
operator-by-operator framework, greedily (each kernel as long as it fits), and as the compiler does it: the cheapest
partition into consecutive kernels. Times are priced, launches by hardware and by software included. The gap is how much
longer greedy kernels take than the cheapest ones found, launched by hardware.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial

import jax
import jax.numpy as jnp

import rdujax as rdu
from benchmarks._timing import progress
from benchmarks.models import decoder
from benchmarks.models.decoder import Config

MODELS = {
    "Llama2-7B": decoder.LLAMA2_7B,
    "Llama2-70B": decoder.LLAMA2_70B,
    "Mistral-7B": decoder.MISTRAL_7B,
    "Falcon-40B": decoder.FALCON_40B,
    "BLOOM-176B": decoder.BLOOM_176B,
}
WAYS = ("primitives", "none", "greedy", "streaming")
TOKENS = {"decode": 1, "prefill": 2048}
CONTEXT = 2048  # positions of the cache


@dataclass(frozen=True)
class Row:
    """One layer. kernels: launches by way. hardware_us, software_us: priced time by way and by who launches."""

    row: str
    kernels: dict[str, int]
    hardware_us: dict[str, float]
    software_us: dict[str, float]

    @property
    def gap(self) -> float:
        """How much longer greedy kernels take than the cheapest, as a share."""
        return self.hardware_us["greedy"] / self.hardware_us["streaming"] - 1

    def as_json(self) -> str:
        """One JSON object."""
        return json.dumps({"benchmark": "fusion", "unit": "1", "value": self.gap, "kind": "measured", **asdict(self)})

    def as_text(self) -> str:
        """One line of the table."""
        kernels = " ".join(f"{self.kernels[way]:>10}" for way in WAYS)
        times = " ".join(f"{self.hardware_us[way]:>10,.1f}" for way in WAYS)
        saved = self.hardware_us["none"] / self.hardware_us["streaming"]
        by_software = self.software_us["none"] / self.hardware_us["streaming"]
        return f"{self.row:<20} {kernels}  {times}  {self.gap:>6.1%} {saved:>7.2f}x {by_software:>7.2f}x"


def layer(config: Config, phase: str, way: str) -> rdu.Program:
    """One layer with its cache, compiled one way."""
    weights = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), decoder.shapes(config)["layers"])
    cache = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), decoder.cache_shapes(config, 1, CONTEXT))
    tables = jax.tree.map(lambda a: jax.ShapeDtypeStruct(a.shape, a.dtype), config.tables())
    x = jax.ShapeDtypeStruct((1, TOKENS[phase], config.d_model), jnp.bfloat16)
    with jax.numpy_rank_promotion("allow"):
        return rdu.compile(
            partial(decoder.layer, config), weights, tables, x, cache, jax.ShapeDtypeStruct((), jnp.int32), fusion=way
        )


def measured(model: str, phase: str) -> Row:
    """The row of a layer."""
    kernels, hardware, software = {}, {}, {}
    for way in WAYS:
        progress(f"compile {model} {phase}, {way}")
        program = layer(MODELS[model], phase, way)
        kernels[way] = program.cost().launches
        hardware[way] = float(program.cost().total_s) * 1e6
        software[way] = float(program.replace(orchestration="software").cost().total_s) * 1e6
    return Row(f"{model} {phase}", kernels, hardware, software)


def rows(quick: bool) -> Iterator[Row]:
    """All layers; `quick` leaves out prompts."""
    for phase in list(TOKENS)[: 1 if quick else None]:
        for model in MODELS:
            yield measured(model, phase)


def main(arguments: list[str]) -> int:
    """Prints a table, or one JSON object per row."""
    parser = argparse.ArgumentParser(
        prog="./scripts/bench fusion", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per row on standard output")
    parser.add_argument("--quick", action="store_true", help="decoding only")
    options = parser.parse_args(arguments)
    if not options.json:
        print(f"{'':<20} {'kernels':>43}  {'us, launched by hardware':>43}  {'':>6} {'operators / streaming':>17}")
        ways = " ".join(f"{way:>10}" for way in WAYS)
        print(f"{'layer':<20} {ways}  {ways}  {'gap':>6} {'by HO':>8} {'by SO':>8}")
    for row in rows(options.quick):
        progress("")
        print(row.as_json() if options.json else row.as_text(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
