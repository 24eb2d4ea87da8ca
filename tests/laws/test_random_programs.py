"""Random programs of everything that has a rule: one meaning, fused or not, whole or strictly tile by tile (L1 to L3).

Their values are those of plain JAX line by line: bits where a line rounds nothing, else float64 within what the line's
formats and number of roundings allow.

A program is drawn from NumPy's generator of a seed, line by line, each line from operands in its domain; every fifth
program is wild: its arguments are infinities, NaN, zeros, denormals, large and small numbers. Seeds and not a shrinking
search, because each try costs three compilations: a failure is made small by leaving out all lines that the first wrong
result does not need, and prints itself as a Python program.
"""

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.base.errors import CapacityError
from rdujax.emulate.regions import Mode, Result
from rdujax.emulate.run import enter, leave, run
from rdujax.frontend.rule import RULES
from rdujax.frontend.rules.control import REGIONS
from rdujax.frontend.rules.random import KEY_RULES
from rdujax.graph.graph import all_nodes
from rdujax.graph.regions import Branch, Loop
from rdujax.ledger.counts import Counts, total
from tests.laws.programs.check import check_lines, values_of
from tests.laws.programs.draft import FLOATS
from tests.laws.programs.drawn import draw
from tests.laws.programs.program import QUICK, Program
from tests.rooms.compiler.flat_memory import Flat
from tests.rooms.compiler.samples import assert_same, turns

COUNT = 200
IN_QUICK = (9, 92, 101, 103, 106)  # special numbers, an update, a loop, a branch, a product
SMALL = rdu.machines.tiny().replace({"pmu.count": 8, "pmu.capacity_bytes": 64, "name": "cramped"})
SEEDS = [pytest.param(i, marks=() if i in IN_QUICK else pytest.mark.full) for i in range(COUNT)]
# What has no recipe: it needs several sockets, has an oracle of its own, or marks values and does nothing.
SOCKETS = {
    "all_gather",
    "all_to_all",
    "axis_index",
    "pmax",
    "pmin",
    "ppermute",
    "psum",
    "psum_invariant",
    "reduce_scatter",
}
ELSEWHERE = {
    "conv_general_dilated",
    "empty",
    "empty2",
    "eq_to",
    "le_to",
    "lt_to",
    "platform_index",
    "ragged_dot_general",
    "reduce",
    "select_and_gather_add",
}  # rooms/frontend
MARKS = {"device_put", "name", "pvary", "reshard", "sharding_constraint"}
NEWER = {
    "log2",
    "one_minus_square",
    "polynomial",
}  # what only newer versions of JAX write, by a recipe that older ones write otherwise
LONGEST = 9  # no loop that is drawn turns more often


@pytest.fixture(autouse=True)
def _promoted():
    """Programs are written as users write them: JAX promotes and broadcasts."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def fused(program: Program) -> rdu.Program:
    """Compiled for a machine that forces tiles, or for a larger one where the program does not fit.

    All arguments are given away, so that updates of them happen in place.
    """
    fn, args = program.function.compiled(), program.args
    try:
        return rdu.compile(fn, *args, machine=SMALL, donate_argnums=range(len(args)))
    except CapacityError:
        return rdu.compile(fn, *args, machine="tiny", donate_argnums=range(len(args)))


def tile_by_tile(program: rdu.Program, args: tuple[Any, ...]) -> tuple[tuple[jax.Array, ...], Result]:
    """(results, what happened) of a run under "scan" that also tallies."""
    graph = program.graph
    longest = {n.label: LONGEST for n in all_nodes(graph) if isinstance(n.op, Loop) and n.op.trips is None}
    constants = [jnp.asarray(c) for c in graph.constants.values()]

    def executed(args: tuple[Any, ...]) -> tuple[tuple[jax.Array, ...], Result]:
        operands = enter(graph, graph.inputs, args) | enter(graph, tuple(graph.constants), constants)
        result = run(program.plan, program.machine, operands, Mode("scan", tally=True, longest=longest))
        return tuple(leave(graph, v, result.memory[v]) for v in graph.outputs), result

    return jax.jit(executed, compiler_options=QUICK)(args)


def course(program: rdu.Program, result: Result) -> dict[str, dict[str, int]]:
    """How often loops turned and which branches were taken, as a prediction is asked for."""
    kinds: dict[str, Any] = {"trips": Loop, "branches": Branch}
    labels = {key: {n.label for n in all_nodes(program.graph) if isinstance(n.op, kind)} for key, kind in kinds.items()}
    turned = {label: int(value) for label, value in result.turned.items()}
    return {key: {label: turned[label] for label in labels[key] if label in turned} for key in labels}


def check_program(program: Program) -> None:
    """Every law for one program."""
    args = program.args
    every = rdu.compile(program.function.returning_all().compiled(), *args, machine="sn40l", fusion="none")
    values = values_of(program, jax.jit(every.execute, compiler_options=QUICK)(*args))
    want = tuple(values[name] for name in program.function.outputs)
    compiled = fused(program)
    assert_same(compiled(*args), want, "fused against unfused")
    results, happened = tile_by_tile(compiled, args)
    assert_same(results, want, "tile by tile against unfused")
    tallied = sum((total(c) for c in happened.counts), Counts())
    assert tallied == compiled.predicted_counts(**course(compiled, happened))
    check_lines(program.function.steps, values)


def smallest(program: Program) -> Program:
    """What the first result needs that fails alone; the whole program if none does."""
    for name in program.function.values:
        part = program.cone([name])
        try:
            check_program(part)
        except Exception:
            return part
    return program


@pytest.mark.parametrize("seed", SEEDS)
def test_a_random_program_keeps_every_law(seed: int):
    program = draw(seed)
    try:
        check_program(program)
    except Exception as error:
        error.add_note(f"the program of seed {seed}, made small:\n\n{smallest(program).source}")
        raise


@pytest.mark.parametrize("seed", [8, 82])
def test_a_wrong_result_of_any_line_is_found_and_named(seed: int):
    """One element of one result after the other is made wrong by a sixteenth, or by one."""
    program = draw(seed)
    every = rdu.compile(program.function.returning_all().compiled(), *program.args, machine="sn40l", fusion="none")
    values = values_of(program, every(*program.args))
    for value in program.function.values.values():
        x = np.array(values[value.name])
        place = np.unravel_index(np.argmax(abs(x.astype(np.float64))), x.shape)
        x[place] = not x[place] if value.fmt == "BOOL" else x[place] + (x[place] / 16 if value.fmt in FLOATS else 1)
        line = [step for step in program.function.steps if value in step.results]
        with pytest.raises(AssertionError, match=rf"^{value.name}:"):
            check_lines(line, values | {value.name: x})


def primitives(jaxpr: Any) -> Iterator[str]:
    """Names of all equations, those of bodies included."""
    for eqn in getattr(jaxpr, "jaxpr", jaxpr).eqns:
        yield eqn.primitive.name
        for parameter in eqn.params.values():
            for each in parameter if isinstance(parameter, tuple | list) else (parameter,):
                if hasattr(each, "eqns") or hasattr(each, "jaxpr"):
                    yield from primitives(each)


@pytest.mark.parametrize("seed", [pytest.param(i, marks=() if i == 92 else pytest.mark.full) for i in range(COUNT)])
def test_a_random_program_has_its_bits_on_flat_bytes(seed: int):
    """What takes the place of something else, and what shares addresses, destroys nothing that is needed."""
    program = draw(seed)
    compiled = fused(program)
    assert_same(Flat(compiled).run(*program.args), compiled(*program.args), f"seed {seed}")


@pytest.mark.full
def test_every_primitive_with_a_rule_is_drawn():
    drawn: set[str] = set()
    for seed in range(COUNT):
        program = draw(seed)
        kinds = [jax.ShapeDtypeStruct(x.shape, x.dtype) for x in program.args]
        drawn |= set(primitives(jax.make_jaxpr(program.function.compiled())(*kinds)))
    rules = {*RULES, *REGIONS, *(name for name in KEY_RULES if name.startswith("random_"))}
    assert rules - drawn == (SOCKETS | ELSEWHERE | MARKS | NEWER) & rules


@pytest.mark.full
def test_the_small_machine_cuts_most_programs_into_tiles():
    assert sum(max(turns(fused(draw(seed)).plan)) > 1 for seed in range(40)) >= 20
