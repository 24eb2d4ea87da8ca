"""Which equations of a traced program compute on floating values outside `rdujax/numerics/`.

The lint of the text cannot tell an array from a size, so it lets `x * y` pass. A traced program tells: each of its
equations knows the lines it came from. The innermost of them that is the project's own must lie in `numerics/`,
unless the equation only moves values.
"""

from collections.abc import Callable, Iterator
from functools import partial

import jax
import jax.numpy as jnp
from jax.extend.core import Jaxpr, JaxprEqn, jaxprs_in_params

from tests.storeys.source import ROOT

NUMERICS = str(ROOT / "rdujax" / "numerics")
MOVES = set(
    "reshape transpose broadcast_in_dim slice dynamic_slice dynamic_update_slice concatenate pad gather scatter"
    " select_n squeeze expand_dims rev copy split bitcast_convert_type optimization_barrier stop_gradient device_put"
    " sharding_constraint all_gather all_to_all ppermute iota empty".split()
)


def is_floating(variable: object) -> bool:
    """Whether a variable or literal of a jaxpr is a floating array."""
    dtype = getattr(getattr(variable, "aval", None), "dtype", None)
    return dtype is not None and jnp.issubdtype(dtype, jnp.floating)


def own_line(equation: JaxprEqn) -> str:
    """The innermost of the project's lines an equation was made by: "file, function"."""
    traceback = equation.source_info.traceback
    frames = traceback.frames if traceback else []
    own = (f"{f.file_name}, {f.function_name}" for f in frames if f.file_name.startswith(str(ROOT)))
    return next((line for line in own if "/.venv" not in line), "no line of the project")


def equations(jaxpr: Jaxpr) -> Iterator[JaxprEqn]:
    """Every equation that is not itself a program, at any depth."""
    for equation in jaxpr.eqns:
        inner = list(jaxprs_in_params(equation.params))
        if not inner:
            yield equation
        for each in inner:
            yield from equations(each)


def raw_equations(fn: Callable, *args: object, **static: object) -> list[str]:
    """One line for each equation of `fn(*args, **static)` that computes on floating values by itself."""
    jax.clear_caches()  # else an inner function keeps the lines of whoever called it first
    jaxpr = jax.make_jaxpr(partial(fn, **static))(*args).jaxpr
    return [
        f"{equation.primitive.name} at {line}"
        for equation in equations(jaxpr)
        if equation.primitive.name not in MOVES and any(map(is_floating, [*equation.invars, *equation.outvars]))
        if not (line := own_line(equation)).startswith(NUMERICS)
    ]
