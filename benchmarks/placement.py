"""How much shorter and less loaded the wires of a placed decoder layer are than in the order of its text, and how soon.

A layer of a small model and one of Llama2-7B (`benchmarks/models/decoder.py`, shapes only), each in prefill and in
decoding, is compiled for the SN40L, and every kernel of it placed and routed twice: in the naive order, which counts
stages and buffers out row by row, and as the compiler places it. The length of wires is vector-hops: packets times
links between switches over the routed trees, a multicast once per link, all kernels together. The goals: at most 70 %
of the naive length, and under 5 s of processor time to place and to route. A slowdown above 1 is how much longer than
its price the slowest kernel takes for its fullest link; it is smaller where the busiest link carries less.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.models.calls import LAYER_CACHE, layer_call
from benchmarks.models.decoder import LLAMA2_7B, Config
from rdujax.compiler.place import place
from rdujax.compiler.wires import Wires, priced_cycles, wires

LENGTH_GOAL, TIME_GOAL_S = 0.7, 5.0
SMALL = Config(d_model=256, layers=1, heads=4, kv_heads=4, d_ff=688, vocab=1000, positions=512)
MODELS = {"small": (SMALL, 256), "Llama2-7B": (LLAMA2_7B, 2048)}  # and the positions of the cache
PHASES = ("prefill", "decode")


@dataclass(frozen=True, kw_only=True)
class Compared(Row):
    """One layer. value: vector-hops placed over vector-hops in the naive order.

    naive_, placed_: hops; packets per cycle on the busiest link of any kernel, of the `capacity` of one; packets per
    cycle from die to die, of the capacity of all its links; how much the wires slow the slowest down. place_s, route_s:
    seconds of processor time for all kernels.
    """

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
    def met(self) -> bool | None:
        """Whether both goals are."""
        return bool(super().met) and self.place_s + self.route_s < self.goal_s


COLUMNS = (
    names("layer", 18),
    Column("kernels", "kernels", 7),
    Column("naive", "naive_hops", 15, ",", group="vector-hops"),
    Column("placed", "placed_hops", 15, ",", group="vector-hops"),
    Column("ratio", "value", 6, ".3f"),
    *goals(),
    Column("naive", "naive_busiest", 6, ".2f", group="busiest link"),
    Column("placed", "placed_busiest", 6, ".2f", group="busiest link"),
    Column("of", "capacity", 2, "g", group="busiest link"),
    Column("naive", "naive_d2d", 7, ".2f", group="die to die"),
    Column("placed", "placed_d2d", 7, ".2f", group="die to die"),
    Column("of", "d2d_capacity", 4, "g", group="die to die"),
    Column("naive", "naive_slowdown", 6, ".2f", group="slowdown"),
    Column("placed", "placed_slowdown", 6, ".2f", group="slowdown"),
    Column("place", "place_s", 6, ".2f", group="seconds"),
    Column("route", "route_s", 6, ".2f", group="seconds"),
)


def layer(config: Config, positions: int, phase: str) -> rdu.Program:
    """A decoder layer compiled for the SN40L: all positions at once, or one token."""
    fn, args = layer_call(config, positions if phase == "prefill" else 1, positions)
    return rdu.compile(fn, *args, donate_argnums=LAYER_CACHE)


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


def measured(name: str, program: rdu.Program) -> Compared:
    """The row of a layer."""
    naive, near = placed(program, "counted"), placed(program, "near")
    rdn, d2d = program.machine.rdn, program.machine.d2d
    return Compared(
        row=name,
        value=near.hops / naive.hops,
        unit="x",
        goal=LENGTH_GOAL,
        kernels=len(near.loads),
        naive_hops=naive.hops,
        placed_hops=near.hops,
        naive_busiest=naive.busiest,
        placed_busiest=near.busiest,
        capacity=float(rdn.packets_per_cycle.value),
        naive_d2d=naive.d2d,
        placed_d2d=near.d2d,
        d2d_capacity=d2d.links.value * d2d.link_bytes_per_cycle.value / rdn.vector_bytes.value,
        naive_slowdown=naive.slowdown(program.machine),
        placed_slowdown=near.slowdown(program.machine),
        place_s=near.place_s,
        route_s=near.route_s,
        goal_s=TIME_GOAL_S,
    )


def rows(quick: bool) -> Iterator[Compared]:
    """All layers; `quick` leaves out the one with most kernels."""
    for model, (config, positions) in MODELS.items():
        for phase in PHASES:
            name = f"{model} {phase}"
            if not (quick and name == "Llama2-7B prefill"):
                progress(f"compile {name}")
                program = layer(config, positions, phase)
                progress(f"place {name}")
                yield measured(name, program)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    quick = "without the prefill of Llama2-7B, which takes longest"
    options = parser("placement", __doc__, quick=quick).parse_args(arguments)
    return show("placement", options, COLUMNS, rows(options.quick))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
