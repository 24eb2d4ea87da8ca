"""An operation compiled by itself gives the bits that it gives inside of a program (law L1).

What XLA joins, reorders or folds across the operations of one program would show: a sum fused with the product before
it, a quotient turned into a product, an intermediate result that is never rounded.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rdujax as rdu
from rdujax.numerics.formats import BF16, FP32
from rdujax.numerics.functions import FUNCTIONS, apply
from tests.laws.programs.check import values_of
from tests.laws.programs.drawn import FAMILIES, of_family
from tests.laws.programs.program import Function, Step
from tests.oracles.harness import assert_same_bits, patterns
from tests.rooms.compiler.samples import assert_same

IN_QUICK = ("running sums", "updates")
CHOSEN = [pytest.param(name, marks=() if name in IN_QUICK else pytest.mark.full) for name in FAMILIES]
# Functions that make a number of numbers; those that are exact or correctly rounded, apart from tables and series.
MAKERS = [name for name, f in FUNCTIONS.items() if BF16 in f.formats and not f.is_predicate and name != "select"]
SIMPLE = [name for name in MAKERS if FUNCTIONS[name].bound_ulp <= 0.5 and name not in ("clamp", "next_after")]
READERS = ("add", "sub", "mul", "div", "max")


@pytest.fixture(autouse=True)
def _promoted():
    """Programs are written as users write them: JAX promotes and broadcasts."""
    with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
        yield


def apart(step: Step) -> Function:
    """The line as a function of what it reads."""
    names = tuple(dict.fromkeys(step.reads))
    return Function("line", names, (step,), tuple(v.name for v in step.results))


@pytest.mark.parametrize("name", CHOSEN)
def test_a_line_compiled_by_itself_has_the_bits_of_the_program(name: str):
    program = of_family(name)
    whole = rdu.compile(program.function.returning_all().compiled(), *program.args)
    values = values_of(program, whole(*program.args))
    assert len(program.function.steps) > 1
    for step in program.function.steps:
        line = apart(step)
        operands = [values[read] for read in line.parameters]
        found = rdu.compile(line.compiled(), *operands)(*operands)
        assert_same(found, tuple(values[v.name] for v in step.results), step.text)


@pytest.mark.parametrize("fmt", [FP32, pytest.param(BF16, marks=pytest.mark.full)], ids=str)
@pytest.mark.parametrize("names", [SIMPLE, pytest.param(MAKERS, marks=pytest.mark.full)], ids=["simple", "all"])
def test_every_pair_of_functions(rng, names, fmt):
    """Each function's result read by each of READERS, all pairs in one program, against functions compiled one by one.

    Numbers from 1/2 to 2 of both signs: the sum of a product and such a number differs from the fused one in a third of
    all cases. The reader's other operand is one number, which XLA sees spread in the program alone.
    """
    numbers = rng.uniform(0.5, 2, (3, 512)) * rng.choice([-1, 1], (3, 512))
    *operands, other = (jnp.asarray(x, fmt.dtype).astype(jnp.float32) for x in (*numbers, rng.uniform(0.5, 2)))
    makers = {n: partial(apply, n, fmt, **({"n": 3} if n == "integer_power" else {})) for n in names}

    def together(other, *given):
        made, spread = {n: make(*given[: FUNCTIONS[n].arity]) for n, make in makers.items()}, jnp.full((512,), other)
        return made, {n: {m: apply(n, fmt, x, spread) for m, x in made.items()} for n in READERS}

    made, read = jax.jit(together)(other, *operands)
    alone = {n: jax.jit(make)(*operands[: FUNCTIONS[n].arity]) for n, make in makers.items()}
    for n, x in alone.items():
        assert_same_bits(made[n], patterns(x), note=n)
    stacked = jnp.stack(list(alone.values()))
    for n in READERS:
        want = jax.jit(partial(apply, n, fmt))(stacked, jnp.full_like(stacked, other))
        for x, m in zip(np.asarray(want), alone, strict=True):
            assert_same_bits(read[n][m], patterns(x), note=f"{n} of {m}")
