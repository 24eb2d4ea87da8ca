"""How much shorter and less loaded the wires of a placed decoder layer are than in the order of its text, and how soon.

A layer of a small model and one of Llama2-7B (`benchmarks/models/decoder.py`, shapes only), each in prefill and in
decoding, is compiled for the SN40L, and every kernel of it placed and routed twice: in the naive order, which counts
stages and buffers out row by row, and as the compiler places it. The length of wires is vector-hops: packets times
links between switches over the routed trees, a multicast once per link, all kernels together. The goals: at most 70 %
of the naive length, and under 5 s of processor time to place and to route. A slowdown above 1 is how much longer than
its price the slowest kernel takes for its fullest link; it is smaller where the busiest link carries less.
"""

import argparse
import json
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

import rdujax as rdu
from benchmarks._timing import progress
from benchmarks.models import decoder
from benchmarks.models.decoder import LLAMA2_7B, Config
from rdujax.compiler.place import place
from rdujax.compiler.wires import Wires, priced_cycles, wires

LENGTH_GOAL, TIME_GOAL_S = 0.7, 5.0
SMALL = Config(d_model=256, layers=1, heads=4, kv_heads=4, d_ff=688, vocab=1000, positions=512)
MODELS = {"small": (SMALL, 256), "Llama2-7B": (LLAMA2_7B, 2048)}  # and the positions of the cache
PHASES = ("prefill", "decode")


@dataclass(frozen=True)
class Row:
    """One layer: vector-hops placed over vector-hops in the naive order, and the seconds that placing takes.

    value: the ratio. naive_, placed_: hops; packets per cycle on the busiest link of any kernel, of the `capacity` of
    one; packets per cycle from die to die, of the capacity of all its links; how much the wires slow the slowest down.
    place_s, route_s: seconds of processor time for all kernels.
    """

    row: str
    value: float
    goal: float
    kernels: int
    naive_hops: int
    placed_hops: int
    naive_busiest: float
    placed_busiest: float
    capacity: float
    naive_d2d: float
    placed_d2d: float
    d2d_capacity: float
    naive_slowdown: float
    placed_slowdown: float
    place_s: float
    route_s: float
    goal_s: float

    @property
    def met(self) -> bool:
        """Whether both goals are."""
        return self.value <= self.goal and self.place_s + self.route_s < self.goal_s

    def as_json(self) -> str:
        """The row as one JSON object."""
        given = {"benchmark": "placement", "kind": "measured", "published": None, "ratio": None, "unit": "x"}
        return json.dumps(given | self.__dict__ | {"met": self.met})

    def as_text(self) -> str:
        """The row of a table."""
        return (
            f"{self.row:<18} {self.kernels:>3} {self.naive_hops:>15,} {self.placed_hops:>15,} {self.value:6.3f} "
            f"{'met' if self.met else 'MISSED':<6} {self.naive_busiest:6.2f} {self.placed_busiest:6.2f} "
            f"{self.capacity:g} {self.naive_d2d:7.2f} {self.placed_d2d:6.2f} {self.d2d_capacity:g} "
            f"{self.naive_slowdown:7.2f} {self.placed_slowdown:6.2f} {self.place_s:7.2f} {self.route_s:6.2f}"
        )


def layer(config: Config, positions: int, phase: str) -> rdu.Program:
    """A decoder layer compiled for the SN40L: all positions at once, or one token."""
    one: Any = jax.tree.map(lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), decoder.shapes(config)["layers"])
    cache = jax.tree.map(
        lambda s: jax.ShapeDtypeStruct(s.shape[1:], s.dtype), decoder.cache_shapes(config, 1, positions)
    )
    tables = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), config.tables())
    x = jax.ShapeDtypeStruct((1, positions if phase == "prefill" else 1, config.d_model), jnp.bfloat16)

    def run(weights: Any, tables: Any, x: jax.Array, cache: Any, start: jax.Array) -> Any:
        return decoder.layer(config, weights, tables, x, cache, start)

    return rdu.compile(run, one, tables, x, cache, jax.ShapeDtypeStruct((), jnp.int32))


@dataclass(frozen=True)
class Placed:
    """The wires of every kernel of a layer in one order, and the seconds to place and to route them."""

    cycles: list[int]
    loads: list[Wires]
    place_s: float
    route_s: float

    @property
    def hops(self) -> int:
        """Vector-hops of all kernels."""
        return sum(each.hops for each in self.loads)

    @property
    def busiest(self) -> float:
        """Packets per cycle on the busiest link of any kernel."""
        return max(each.busiest / cycles for each, cycles in zip(self.loads, self.cycles, strict=True))

    @property
    def d2d(self) -> float:
        """Packets per cycle that any kernel sends from one die to another."""
        return max(int(each.die_crossings.max()) / cycles for each, cycles in zip(self.loads, self.cycles, strict=True))

    def slowdown(self, machine: rdu.machines.Machine) -> float:
        """How much longer than its price any kernel takes for its fullest network; 1 where it takes no longer."""
        needs = (max(each.least_cycles(machine).values()) for each in self.loads)
        return max(1.0, *(least / cycles for least, cycles in zip(needs, self.cycles, strict=True)))


def placed(program: rdu.Program, order: str) -> Placed:
    """Every kernel of a program placed and routed."""
    place_s = route_s = 0.0
    cycles, loads = [], []
    for kernel in program.plan.kernels:
        start = time.process_time()
        placement = place(program.graph, kernel, program.machine, order)
        routing = time.process_time()
        loads.append(wires(program.graph, kernel, placement, program.machine))
        place_s, route_s = place_s + routing - start, route_s + time.process_time() - routing
        cycles.append(priced_cycles(program.graph, kernel, program.machine))
    return Placed(cycles, loads, place_s, route_s)


def measured(name: str, program: rdu.Program) -> Row:
    """The row of a layer."""
    naive, near = placed(program, "counted"), placed(program, "near")
    rdn, d2d = program.machine.rdn, program.machine.d2d
    d2d_capacity = d2d.links.value * d2d.link_bytes_per_cycle.value / rdn.vector_bytes.value
    return Row(
        name, near.hops / naive.hops, LENGTH_GOAL, len(near.loads), naive.hops, near.hops, naive.busiest, near.busiest,
        float(rdn.packets_per_cycle.value), naive.d2d, near.d2d, d2d_capacity,
        naive.slowdown(program.machine), near.slowdown(program.machine), near.place_s, near.route_s, TIME_GOAL_S,
    )  # fmt: skip


def rows(quick: bool) -> Iterator[Row]:
    """All layers; `quick` leaves out the one whose compilation takes minutes."""
    for model, (config, positions) in MODELS.items():
        for phase in PHASES:
            name = f"{model} {phase}"
            if not (quick and name == "Llama2-7B prefill"):
                progress(f"compile {name}")
                program = layer(config, positions, phase)
                progress(f"place {name}")
                yield measured(name, program)


def main(arguments: list[str]) -> int:
    """Prints a table, or one JSON object per row; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        prog="./scripts/bench placement", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="one JSON object per row on standard output")
    parser.add_argument("--quick", action="store_true", help="without the prefill of Llama2-7B, which compiles long")
    options = parser.parse_args(arguments)
    if not options.json:
        print(f"{'':<22} {'vector-hops':>31} {'':>13} {'busiest link':>15} {'die to die':>17} {'slowdown':>14} seconds")
        print(f"{'layer':<14} kernels {'naive':>15} {'placed':>15} {'ratio':>6} {'goal':<6} {'naive':>6} placed of"
              f" {'naive':>6} placed of {'naive':>6} placed   place  route")  # fmt: skip
    missed = 0
    for row in rows(options.quick):
        progress("")
        missed += not row.met
        print(row.as_json() if options.json else row.as_text(), flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
