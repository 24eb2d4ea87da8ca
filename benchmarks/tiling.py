"""How good the tiles of the compiler are: its choice for every kernel of some models against an exhaustive search.

Programs are compiled for one SN40L socket from shapes alone. Then, for each of their kernels, all legal tilings of a
grid are allocated and priced exactly: no loop, one of every number of trips up to 32 and every power of two, two of
powers of two, along every axis that the kernel can be cut along; each with every choice of what stays on chip (both
ends of it, where many loads could), and with loads whole or streaming by in slices of every power of two of an array's
rows; the slices at last stage by stage, as long as that makes the kernel shorter. A tiling that is estimated to take
longer than the best so far is not priced: no estimate is above the price. The ratio is how much longer the compiler's
kernels take than the best ones; its goal is 1.3 for every kernel.
"""

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import combinations, permutations

import jax
import jax.numpy as jnp
import numpy as np

import rdujax as rdu
from benchmarks._rows import Column, Row, goals, names
from benchmarks._run import parser, show
from benchmarks._timing import progress
from benchmarks.fusion import CONTEXT, TOKENS
from benchmarks.models import calls, fftconv, vision
from benchmarks.models.decoder import Config
from benchmarks.models.parts import abstract
from rdujax.base.errors import CapacityError
from rdujax.compiler.allocate import Allocator
from rdujax.compiler.axes import Way, streamable
from rdujax.compiler.tile import must_stay, streaming_by
from rdujax.compiler.wires import priced_cycles
from rdujax.estimate.pipeline import estimated_cycles
from rdujax.graph.plan import Loop, Plan, PlannedKernel, Tiling
from rdujax.machines.machine import Machine

GOAL = 1.3
MOST_TRIPS = 32  # of one loop alone; beyond, powers of two
SLICES = tuple(2**i for i in range(9))  # lengths of slices, in rows of an array
FEW = 3  # loads of which every subset is tried as what stays on chip


def struct(*shape: int) -> jax.ShapeDtypeStruct:
    """A BF16 array of that shape."""
    return jax.ShapeDtypeStruct(shape, jnp.bfloat16)


def mlp(x: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """Two products around a GELU."""
    return jax.nn.gelu(x @ up) @ down


def gated(x: jax.Array, gate: jax.Array, up: jax.Array, down: jax.Array) -> jax.Array:
    """A Llama-style gated MLP."""
    return (jax.nn.silu(x @ gate) * (x @ up)) @ down


def attention(q: jax.Array, k: jax.Array, v: jax.Array) -> jax.Array:
    """Attention of all heads, not masked: [batch, length, heads, width]."""
    scores = jnp.einsum("bthd,bshd->bhts", q, k, preferred_element_type=jnp.float32) * np.float32(q.shape[-1] ** -0.5)
    return jnp.einsum("bhts,bshd->bthd", jax.nn.softmax(scores, axis=-1).astype(q.dtype), v)


def convolution(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """A 3 x 3 convolution of pictures [batch, rows, columns, channels]."""
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC"))


def long_convolution(factors: tuple[int, ...], batch: int, channels: int) -> rdu.Program:
    """FlashFFTConv with a transform of these factors."""
    x, spectrum = struct(batch, channels, int(np.prod(factors))), struct(channels, int(np.prod(factors)))
    tables = jax.eval_shape(lambda: fftconv.tables(factors))
    return rdu.compile(fftconv.convolve, x, x, (spectrum, spectrum), tables)


def vision_block() -> rdu.Program:
    """One block of CLIP's vision transformer, one picture."""
    config = vision.CLIP_VIT_L_336
    block = abstract(partial(vision.Block, config))
    return rdu.compile(vision.Block.__call__, block, struct(1, config.patches + 1, config.d_model))


Made = Callable[[], rdu.Program]
HEADS, CACHE = struct(1, 2048, 32, 128), struct(8, 2048, 32, 128)
SMALL: dict[str, Made] = {
    "MLP decode": lambda: rdu.compile(mlp, struct(1, 4096), struct(4096, 16384), struct(16384, 4096)),
    "gated MLP decode": lambda: rdu.compile(gated, struct(1, 4096), *[struct(4096, 11008)] * 2, struct(11008, 4096)),
    "gated MLP in two tiers": lambda: rdu.compile(
        gated, struct(48, 4096), *[struct(4096, 8192)] * 2, struct(8192, 4096), tiers={"gate": "ddr"}
    ),
    "attention decode": lambda: rdu.compile(attention, struct(8, 1, 32, 128), CACHE, CACHE),
    "convolution": lambda: rdu.compile(convolution, struct(8, 56, 56, 256), struct(3, 3, 256, 256)),
    "Monarch 64 x 64": partial(long_convolution, (64, 64), 8, 64),
    "vision block": vision_block,
}
PARTS: dict[str, Made] = {
    "product": lambda: rdu.compile(jnp.matmul, struct(4096, 4096), struct(4096, 4096)),
    "MLP prefill": lambda: rdu.compile(mlp, struct(2048, 4096), struct(4096, 16384), struct(16384, 4096)),
    "gated MLP prefill": lambda: rdu.compile(
        gated, struct(2048, 4096), *[struct(4096, 11008)] * 2, struct(11008, 4096)
    ),
    "attention prefill": lambda: rdu.compile(attention, HEADS, HEADS, HEADS),
    "Monarch 32 x 32 x 32": partial(long_convolution, (32, 32, 32), 4, 64),
}


def layer(config: Config, tokens: int) -> rdu.Program:
    """One decoder layer."""
    fn, args = calls.layer_call(config, tokens, CONTEXT)
    return rdu.compile(fn, *args, donate_argnums=calls.LAYER_CACHE)


LAYERS: dict[str, Made] = {
    f"{model} {phase}": partial(layer, config, tokens)
    for phase, tokens in TOKENS.items()
    for model, config in calls.MODELS.items()
}


@dataclass(frozen=True, kw_only=True)
class Tiled(Row):
    """One program. value: how much longer the worst of its kernels takes than in its best tiling.

    default_cycles, best_cycles: of all kernels, as compiled and in their best tilings. tilings: how many were tried.
    """

    kernels: int
    tilings: int
    default_cycles: int
    best_cycles: int

    @property
    def in_all(self) -> float:
        """How much longer all kernels take than the best ones."""
        return self.default_cycles / self.best_cycles


COLUMNS = (
    names("program", 24),
    Column("kernels", "kernels", 7),
    Column("tilings", "tilings", 9, ","),
    Column("compiled", "default_cycles", 12, ",", group="cycles of all kernels"),
    Column("best", "best_cycles", 12, ",", group="cycles of all kernels"),
    Column("all", "in_all", 6, ".3f", group="compiled / best"),
    Column("worst", "value", 6, ".3f", group="compiled / best"),
    *goals(),
)


class Search:
    """The best tiling of one kernel, from the compiler's own on. Where equal, that stays."""

    def __init__(self, plan: Plan, planned: PlannedKernel, machine: Machine):
        self.graph, self.kernel, self.machine = plan.graph, planned.kernel, machine
        self.allocator = Allocator(plan.graph, machine, plan.tiers)
        self.rows = int(machine.pcu.systolic_rows.value)
        self.best, self.tilings = planned, 0
        self.default_cycles = self.cycles = self._price(planned)

    def run(self) -> "Search":
        """Tries all tilings."""
        for bare in _nests(streamable(self.graph, self.kernel), self.rows):
            for tiling in self._alike(bare):
                self._try(tiling)
        while any([self._stage_by_stage(stage.result) for stage in self.kernel.stages]):
            continue
        return self

    def _price(self, planned: PlannedKernel) -> int:
        return priced_cycles(self.graph, planned, self.machine)

    def _try(self, tiling: Tiling) -> bool:
        """Whether the tiling fits and is better than the best so far."""
        self.tilings += 1
        try:
            planned = self.allocator.allocate(self.kernel, tiling, self.best.wide)
        except CapacityError:
            return False
        if estimated_cycles(self.graph, planned, self.machine) >= self.cycles:
            return False
        cycles = self._price(planned)
        if cycles >= self.cycles:
            return False
        self.best, self.cycles = planned, cycles
        return True

    def _alike(self, bare: Tiling) -> Iterator[Tiling]:
        """All tilings of a nest in which loads are whole, or stream by in slices of one length."""
        inner = dict.fromkeys(streaming_by(self.graph, self.kernel, bare.loops, n * self.rows) for n in SLICES)
        for slices in dict.fromkeys([(), *inner]):
            yield from self._resident(bare, slices)

    def _resident(self, bare: Tiling, inner: tuple[Loop, ...]) -> Iterator[Tiling]:
        """The tilings of these loops, by what stays on chip."""
        by = {value for loop in inner for value, _ in loop.members}
        must = must_stay(self.kernel, bare)
        may = [v for v in self.kernel.loads if bare.sweeps(v) > 1 and v not in must | by]
        counts = range(len(may) + 1) if len(may) <= FEW else (0, len(may))
        for chosen in (frozenset(some) for count in counts for some in combinations(may, count)):
            yield replace(bare, resident=(must | chosen) - by, inner=inner)

    def _stage_by_stage(self, result: int) -> bool:
        """Tries other slices of one stage, and none; whether that was better."""
        before, bare = self.cycles, replace(self.best.tiling, resident=frozenset(), inner=())
        for n in (None, *SLICES):
            own = () if n is None else streaming_by(self.graph, self.kernel, bare.loops, n * self.rows)
            others = [loop for loop in self.best.tiling.inner if not _of(loop, result)]
            inner = (*others, *(loop for loop in own if _of(loop, result)))
            for tiling in self._resident(bare, inner):
                self._try(tiling)
        return self.cycles < before


def _of(loop: Loop, result: int) -> bool:
    return any(value == result for value, _ in loop.members)


def _nests(ways: tuple[Way, ...], rows: int) -> Iterator[Tiling]:
    """No loop; one, of many sizes; two, of powers of two."""
    yield Tiling((), frozenset())
    for way in ways:
        for size in sorted(_powers(way.length, rows) | _by_trips(way.length)):
            yield Tiling((Loop(way.length, size, way.members),), frozenset(), sums=way.sums, late=way.late)
    for one, other in permutations((way for way in ways if not way.sums), 2):
        for size in sorted(_powers(one.length, rows)):
            outer = Loop(one.length, size, one.members)
            for n in sorted(_powers(other.length, rows)):
                yield Tiling((outer, Loop(other.length, n, other.members)), frozenset())


def _powers(length: int, rows: int) -> set[int]:
    """Powers of two below a length; of a long one no less than the rows of an array."""
    least = rows if length > 2 * rows else 1
    return {2**i for i in range(length.bit_length()) if least <= 2**i < length}


def _by_trips(length: int) -> set[int]:
    """The smallest tiles with which a length takes 2, 3 ... trips."""
    return {-(-length // trips) for trips in range(2, min(length, MOST_TRIPS) + 1)}


def measured(name: str, made: Made, machine: Machine) -> Tiled:
    """The row of a program."""
    progress(f"compile {name}")
    with jax.numpy_rank_promotion("allow"), jax.numpy_dtype_promotion("standard"):
        program = made()
    found = []
    for plan, planned in program.plan.placed():
        progress(f"search {name}: kernel {planned.kernel.name}")
        found.append(Search(plan, planned, machine).run())
    return Tiled(
        row=name,
        value=max(each.default_cycles / each.cycles for each in found),
        unit="x",
        goal=GOAL,
        kernels=len(found),
        tilings=sum(each.tilings for each in found),
        default_cycles=sum(each.default_cycles for each in found),
        best_cycles=sum(each.cycles for each in found),
    )


def rows(quick: bool) -> Iterator[Tiled]:
    """All programs; `quick` keeps the small ones."""
    machine = rdu.machines.sn40l()
    for name, made in (SMALL if quick else SMALL | PARTS | LAYERS).items():
        yield measured(name, made, machine)


def main(arguments: list[str]) -> int:
    """Runs the benchmark; see `benchmarks._run.show`."""
    options = parser("tiling", __doc__, quick="small programs only").parse_args(arguments)
    return show("tiling", options, COLUMNS, rows(options.quick))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
