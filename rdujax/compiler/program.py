"""The program: one value for a compiled function and a kernel written by hand; it runs, prices and reports itself."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, Never

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base import compat
from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, ShapeError, describe, unknown
from rdujax.compiler import driver, fuse
from rdujax.compiler.arguments import by_place, check_argument, leaves_of, no_choices, other_structure
from rdujax.compiler.driver import CHOICES, Choices
from rdujax.compiler.floorplan import Floorplan, floorplan
from rdujax.compiler.passes import Passes
from rdujax.compiler.planner import Seen
from rdujax.compiler.report import Report, report
from rdujax.compiler.timeline import Timeline, timeline
from rdujax.emulate.regions import Mode, Result
from rdujax.emulate.run import enter, leave, run
from rdujax.estimate.price import ProgramCost, predict, price
from rdujax.frontend import door
from rdujax.frontend.modules import as_function
from rdujax.frontend.trace import PROGRAM, Traced, argument_names, key_words, trace
from rdujax.graph.graph import Graph, all_nodes
from rdujax.graph.graph import text as graph_text
from rdujax.graph.launches import Course
from rdujax.graph.plan import Plan, texts
from rdujax.graph.regions import Loop
from rdujax.ledger.counts import Counts, total
from rdujax.ledger.numbers import is_exact
from rdujax.machines.machine import ORCHESTRATIONS, Machine, named
from rdujax.streams.lift import EXECUTORS, Executor

Numbers = Mapping[str, int] | None  # by the label of a loop or branch


@dataclass(frozen=True, eq=False)
class Program:
    """A program placed on a machine.

    Calling it executes it bit-accurately through the units; it is a pure JAX function of its arguments, so `jax.jit`,
    `jax.vmap` and `jax.grad` compose with it. Everything else needs no arrays.
    """

    traced: Traced
    plan: Plan
    machine: Machine
    choices: Choices
    name: str
    seen: Seen = field(default_factory=Seen, repr=False)  # what its planners know

    def __call__(self, *args: Any, **others: Never) -> Any:
        """The function's value, through the units; results have the dtypes that the function has under plain JAX.

        That is for arguments like those it was compiled for, weak types included. Raises ArgumentError, ShapeError and
        FormatError for others.
        """
        flat = self._checked(args, others)
        return jax.tree.unflatten(self.traced.out_tree, self._run(flat, tuple(self.plan.graph.constants.values())))

    def execute(self, *args: Any, executor: Executor = "whole", **others: Never) -> Any:
        """As a call, with the executor chosen: "whole", "vmap" over tiles, or strictly tile by tile ("scan").

        The tails of ragged tiles hold NaN as poison, which jax_debug_nans takes for an accident.
        """
        flat = self._checked(args, others)

        def units(xs: Sequence[jax.Array]) -> list[jax.Array]:
            return self._leave(run(self.plan, self.machine, self._operands(xs), Mode(executor)))

        return jax.tree.unflatten(self.traced.out_tree, self.traced.sockets.everywhere(units)(flat))

    def tally(self, *args: Any, executor: Executor = "scan", **others: Never) -> Counts:
        """What the units count while they execute, tile by tile; equal to `predicted_counts()` (law L3)."""
        if executor not in EXECUTORS[1:]:
            allowed = ", ".join(map(repr, EXECUTORS[1:]))
            raise ArgumentError(
                describe("an executor that walks tiles is needed", given=repr(executor), allowed=allowed)
            )
        flat = self._checked(args, others)
        if any(compat.is_tracer(x) for x in flat):
            raise ConcretenessError(
                describe("a tally needs values", given="tracers", do="call it outside of jit, vmap and grad")
            )
        mode = Mode(executor, tally=True, longest=self._longest(flat))
        counting = self.traced.sockets.mapped(lambda xs: run(self.plan, self.machine, self._operands(xs), mode).counts)
        counted = jax.jit(counting, keep_unused=True)(flat)  # the arguments say which devices
        return sum((total(c) for c in counted), Counts())

    def captured(self, *args: Any) -> Result:
        """A run that keeps every stage's result as carriers; in a loop, those of every trip.

        Stage by stage, each compiled once for all that are equal, and not as one function.
        """
        flat = self._checked(args)
        mode = Mode(capture=True, longest=self._longest(flat))
        return self.traced.sockets.mapped(lambda xs: run(self.plan, self.machine, self._operands(xs), mode))(flat)

    def predicted_counts(self, *, trips: Numbers = None, branches: Numbers = None) -> Counts:
        """What the units will count, from shapes alone. trips, branches: as for `cost`."""
        return predict(self.plan, self.machine, self._course(trips, branches), self.traced.sockets.count)

    def cost(self, machine: Machine | None = None, *, trips: Numbers = None, branches: Numbers = None) -> ProgramCost:
        """Cycles, seconds and bytes per tier, per kernel and in total; on another machine's facts if one is given.

        The plan stays as it is. With facts that JAX traces, the cost is differentiable in them.
        trips: how often each `while` loop turns, branches: the index of the branch that each `cond` takes, by label;
        the same in every trip of a loop around. Raises ArgumentError for one that is not said.
        """
        placed = self.machine if machine is None else self._same_decisions(named(machine))
        return price(self.plan, placed, self._course(trips, branches), self.traced.sockets.count)

    def _course(self, trips: Numbers, branches: Numbers) -> Course:
        return Course(self.graph, trips, branches)

    def _longest(self, flat: Sequence[jax.Array]) -> dict[str, int]:
        """Most trips of every `while` loop on these arguments."""
        loops = [n.label for n in all_nodes(self.graph) if isinstance(n.op, Loop) and n.op.trips is None]
        if not loops:
            return {}
        turned = self._turning(flat)
        return {label: int(np.max(turned[label])) for label in loops}

    def _same_decisions(self, machine: Machine) -> Machine:
        """The machine, if it differs only in facts that decided nothing in the plan."""
        there = self.machine.facts()
        for path, fact in machine.facts().items():
            if decides(path) and is_exact(fact.value) and fact.value != there[path].value:
                raise ArgumentError(
                    describe(
                        f"the plan was made for another {path}",
                        given=str(fact.value),
                        allowed=str(there[path].value),
                        where=self.name,
                        do="plan again with program.replace(machine=...)",
                    )
                )
        return machine

    def report(self, *, trips: Numbers = None, branches: Numbers = None) -> Report:
        """Kernels, stages, tiles, units, cycles and bytes: printable, a dictionary, and a picture.

        `.save("report.txt")`, or .json, or .svg or .png for the floorplan of a kernel. trips, branches: as for `cost`.
        """
        cost = self.cost(trips=trips, branches=branches)
        return report(self.plan, self.machine, cost, self.name, self.floorplan)

    def timeline(self, turns: int | None = None, *, trips: Numbers = None, branches: Numbers = None) -> Timeline:
        """When every stage turns, what buffers hold and tiers move; `.save("trace.pftrace")` for ui.perfetto.dev.

        turns: keep only the first and the last so many turns of each kernel, with the gap marked. trips, branches: as
        for `cost`. Of a loop, the first trip is drawn, and how long the others take.
        """
        return timeline(self.plan, self.machine, self.name, self._course(trips, branches), turns)

    def floorplan(self, kernel: int = 0) -> Floorplan:
        """Where the units of a kernel sit and how loaded the wires are; `.save("floorplan.svg")` (or .png) draws it.

        Raises ArgumentError for a kernel that the program does not have.
        """
        placed = list(self.plan.placed())
        if isinstance(kernel, bool) or not isinstance(kernel, int) or not 0 <= kernel < len(placed):
            allowed = f"an int from 0 to {len(placed) - 1}" if placed else "none is launched"
            raise ArgumentError(describe("no such kernel", given=repr(kernel), allowed=allowed, where=self.name))
        plan, planned = placed[kernel]
        return floorplan(plan.graph, planned, self.machine, self.name)

    def replace(self, **choices: Any) -> "Program":
        """The same function compiled with other choices (and `machine=`)."""
        machine = named(choices.pop("machine", self.machine))
        for given in choices:
            if given not in CHOICES:
                raise unknown("choice", given, (*CHOICES, "machine"))
        seen = self.seen if machine == self.machine and choices.keys() <= {"orchestration"} else Seen()
        return _planned(self.traced, machine, replace(self.choices, **choices), self.name, seen)

    def relaunched(self, orchestration: str) -> "Program":
        """The same kernels, launched otherwise; raises UnknownNameError for an orchestration that does not exist.

        Nothing is planned; `replace(orchestration=...)` may cut elsewhere, for what a launch takes decides about that.
        """
        choices = replace(self.choices, orchestration=orchestration)
        return replace(self, plan=self.plan.launched(orchestration), choices=choices)

    def passes(self) -> Passes:
        """What every pass of the compiler made of the program: texts before and after, printed as differences."""
        return driver.passes(self.traced.graph, self.choices, self.plan)

    @property
    def graph(self) -> Graph:
        """The operations of the program."""
        return self.plan.graph

    def __repr__(self) -> str:
        kernels = len(self.plan.kernels)
        return f"<Program {self.name}: {kernels} kernel{'' if kernels == 1 else 's'} on {self.machine.name}>"

    def __str__(self) -> str:
        """The program's text form: its graph and its kernels."""
        return "\n".join([graph_text(self.graph), *texts(self.plan)])

    @cached_property
    def _run(self) -> Callable[..., list[jax.Array]]:
        def units(flat: Sequence[jax.Array], constants: Sequence[jax.Array]) -> list[jax.Array]:
            return self._leave(run(self.plan, self.machine, self._operands(flat, constants)))

        def through_units(flat: Sequence[jax.Array], constants: Sequence[jax.Array]) -> list[jax.Array]:
            return self.traced.sockets.everywhere(units)(flat, constants)

        through_units.__name__ = PROGRAM + self.name
        return jax.jit(through_units)

    @cached_property
    def _turning(self) -> Callable[..., dict[str, jax.Array]]:
        units = self.traced.sockets.mapped(lambda xs: run(self.plan, self.machine, self._operands(xs)).turned)
        return jax.jit(units, keep_unused=True)

    def _operands(
        self, flat: Sequence[jax.Array], constants: Sequence[jax.Array] | None = None
    ) -> dict[int, jax.Array]:
        graph = self.plan.graph
        arrays = [jnp.asarray(c) for c in (graph.constants.values() if constants is None else constants)]
        return enter(graph, graph.inputs, flat) | enter(graph, tuple(graph.constants), arrays)

    def _leave(self, result: Result) -> list[jax.Array]:
        arrays = [leave(self.plan.graph, v, result.memory[v]) for v in self.plan.graph.outputs]
        return [jax.random.wrap_key_data(x) if i in self.traced.key_outputs else x for i, x in enumerate(arrays)]

    def _checked(self, args: Sequence[Any], others: Mapping[str, Any] = MappingProxyType({})) -> list[jax.Array]:
        by_place(others, [self.graph.labels[v] for v in self.graph.inputs], self.name)
        flat, tree = jax.tree.flatten(tuple(args))
        graph = self.plan.graph
        if tree != self.traced.in_tree:
            raise other_structure(tuple(args), self.traced.in_tree, [graph.labels[v] for v in graph.inputs], self.name)
        flat = self._words(flat)
        for i, (x, v) in enumerate(zip(flat, graph.inputs, strict=True)):
            shape = self.traced.sockets.whole_shape(i, graph.types[v].shape)
            check_argument(x, graph.labels[v], shape, graph.types[v].fmt.dtype.name, self.name)
            self.traced.sockets.check_layout(i, x, graph.labels[v], self.name)
        return flat

    def _words(self, flat: Sequence[Any]) -> list[Any]:
        """Keys of random numbers as the words that the graph has in their place."""
        kinds = [(self.graph.labels[v], i in self.traced.key_inputs) for i, v in enumerate(self.graph.inputs)]
        return [key_words(x, label, self.name) if is_key else x for x, (label, is_key) in zip(flat, kinds, strict=True)]


def decides(path: str) -> bool:
    """Whether the fact of that path is one that a plan is made for: how many units there are, and how much they hold.

    On a machine where it is another, a program is planned again; for all other facts, its plan can be kept.
    """
    return path.split(".")[0] in ("pcu", "pmu", "agcu") or path.endswith("capacity_bytes")


def compile(  # noqa: A001  (the name that the field uses)
    fn: Callable[..., Any],
    *args: Any,
    machine: Machine | str = "sn40l",
    fusion: driver.Fusion = "streaming",
    orchestration: str = "hardware",
    stage_buffer_format: str = "declared",
    k_splits: int | Mapping[str, int] = 1,
    tier: str = "auto",
    tiers: Mapping[str, str] | None = None,
    donate_argnums: int | Sequence[int] = (),
    **others: Never,
) -> Program:
    """Compiles a JAX function for an RDU.

    fn: any function of arrays (bfloat16, float32, int32, uint32, bool, random keys) and pytrees of them, made of
    primitives with a rule;
    or a module that is a pytree (Flax NNX), which becomes its own first argument: `program(model, x)`.
    args: arrays or `jax.ShapeDtypeStruct`s; only shapes and dtypes matter, and over explicit axes of a mesh the layout.
    machine: facts to compile for. fusion: "streaming" (the cheapest kernels that fit), "none" (one operator of an
    operator-by-operator framework, one kernel: softmax, gelu, a norm of Flax, a matrix product, a scope under
    `rdujax.operator`), "primitives" (one primitive, one kernel), "greedy" (each kernel as long as it fits) or
    `cut_after(label, ...)`. orchestration: who launches kernels: "hardware", "software", or "looped", by hardware with
    all trips of a loop in one launch where its body is one kernel.
    tier: where values rest: "auto" (in HBM; where that is full, what is moved least rests in DDR), "hbm", "ddr" or
    "host". tiers: that of single values by label; `{"params...": "ddr"}` is of all whose label begins so.
    stage_buffer_format, k_splits: the two choices that change bits; `validate` shows which bits and why.
    donate_argnums: arguments of the program, by number, that the caller needs no more, as of `jax.jit`: their memory is
    free once they have been read, and an update of one (`dynamic_update_slice`, `x.at[...].set`) that nothing else
    reads writes what is new where it lies. A result of the same shape and dtype, each taken by the first that it fits,
    is the next call's argument, and rests in the same tier. It is said of the machine's memory: the caller's own arrays
    stay valid.

    Raises UnsupportedError for a primitive without a rule, FormatError, ShapeError, CapacityError, UnknownNameError,
    ArgumentError for keywords that are none of these choices: the arguments of `fn` are positional.
    """
    no_choices(fn, others, ("machine", *CHOICES))
    machine = named(machine)
    given = {} if tiers is None else tiers
    choices = Choices(fusion, orchestration, stage_buffer_format, k_splits, tier, given, donate_argnums)
    if isinstance(fn, Program | Kernel):
        raise ArgumentError(
            describe("a program to be compiled again", given=fn.name, do="program.replace(...) compiles it otherwise")
        )
    fn, args = as_function(fn, args)
    return _planned(trace(fn, args), machine, choices, _name(fn), Seen())


def _planned(traced: Traced, machine: Machine, choices: Choices, name: str, seen: Seen) -> Program:
    inputs = traced.graph.inputs
    numbers = tuple(choices.donate_argnums)  # type: ignore[arg-type]  (several, once the record is made)
    given_away = frozenset(inputs[i] for i in leaves_of(traced.in_tree, numbers, name))
    return Program(traced, driver.plan(traced.graph, machine, choices, given_away, seen), machine, choices, name, seen)


@dataclass(frozen=True)
class Kernel:
    """A kernel written by hand from units; calling it compiles for the arguments' shapes and executes.

    Every pipeline is one kernel, stage by stage as its author wrote it.
    """

    fn: Callable[..., Any]
    machine: Machine
    tiles: tuple[tuple[str, tuple[int, ...]], ...]
    orchestration: str = "hardware"

    def program(self, *args: Any) -> Program:
        """The program for these arguments (arrays or ShapeDtypeStructs)."""
        traced = door.trace_kernel(self.fn, args, dict(self.tiles))
        choices = Choices(fuse.cut_after(), self.orchestration)
        return Program(traced, driver.plan(traced.graph, self.machine, choices), self.machine, choices, _name(self.fn))

    @property
    def name(self) -> str:
        """Name of the function."""
        return _name(self.fn)

    def __call__(self, *args: Any, **others: Never) -> Any:
        """Executes the kernel on arrays; raises FormatError for an argument that is none."""
        by_place(others, argument_names(self.fn, len(args) + len(others)), self.name)
        for x, label in zip(args, argument_names(self.fn, len(args)), strict=True):
            if not hasattr(x, "shape") or not hasattr(x, "dtype"):
                raise FormatError(
                    describe(
                        f"argument {label} is no array",
                        given=repr(x),
                        allowed="one array for each stream",
                        where=self.name,
                    )
                )
        signature = tuple((jnp.shape(x), jnp.result_type(x).name) for x in args)
        return _compiled(self, signature)(*args)


@lru_cache(maxsize=256)
def _compiled(kernel: Kernel, signature: tuple[tuple[tuple[int, ...], str], ...]) -> Program:
    return kernel.program(*(jax.ShapeDtypeStruct(shape, jnp.dtype(dtype)) for shape, dtype in signature))


def kernel(
    fn: Callable[..., Any] | None = None,
    *,
    machine: Machine | str = "sn40l",
    tiles: Mapping[str, tuple[int, ...]] | None = None,
    orchestration: str = "hardware",
) -> Any:
    """Decorator for a kernel written by hand: a function of `Stream`s that calls `gemm`, `simd` and `transpose`.

    tiles: how arguments are cut, by name (whole by default). It stands alone (`@rdu.kernel`) or with options, and makes
    a `Kernel`, which leads to the same `Program` as `compile` does. Raises ShapeError for tiles that are no tuples of
    lengths, UnknownNameError for a machine or an orchestration that does not exist.
    """
    if fn is not None:
        return kernel(machine=machine, tiles=tiles, orchestration=orchestration)(fn)
    placed = named(machine)
    driver.check_machine(placed)
    if orchestration not in ORCHESTRATIONS:
        raise unknown("orchestration", orchestration, ORCHESTRATIONS)
    if not isinstance(tiles, Mapping | None):
        raise ShapeError(describe("tiles", given=repr(tiles), allowed='a dictionary like {"x": (64, 128)}'))
    cut = tuple(sorted((name, _tile(name, tile)) for name, tile in (tiles or {}).items()))
    return lambda fn: Kernel(fn, placed, cut, orchestration)


def _tile(name: str, tile: Any) -> tuple[int, ...]:
    whole = isinstance(tile, tuple | list) and all(isinstance(n, int | np.integer) and n is not True for n in tile)
    if not whole or any(n < 1 for n in tile):
        raise ShapeError(
            describe(
                "a tile is a tuple of lengths", given=repr(tile), allowed="whole numbers, 1 or more",
                where=f"tiles, argument {name}",
            )
        )  # fmt: skip
    return tuple(int(n) for n in tile)


def _name(fn: Callable[..., Any]) -> str:
    name = getattr(fn, "__name__", type(fn).__name__)
    return "function" if name == "<lambda>" else name
