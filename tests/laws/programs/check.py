"""The values of a program, line by line, against plain JAX on the same operands: bits, or float64 within a bound."""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import rdujax as rdu
from tests.laws.programs.program import FORMATS, QUICK, Function, Program, Region, Step, Value, namespace, rounded, ulp

Values = dict[str, Any]
LARGEST = 2.0**128 * (1 - 2.0**-9)  # from here on a result may round to infinity, in either format
WIDE = {"BF16": np.float64, "F32": np.float64}


def values_of(program: Program, executed: Sequence[Any]) -> Values:
    """Arguments, as they enter the machine, and results of `program.function.returning_all()`, by name."""
    names = [v.name for v, _ in program.arguments]
    found = dict(zip(names, map(_entered, program.args), strict=True))
    return found | dict(zip(program.function.values, executed, strict=True))


def check_lines(steps: Sequence[Step], values: Values) -> None:
    """AssertionError, with the names of its results in front, at the first line whose results are not what they are."""
    plain = _in_plain_jax([s for s in steps if s.bound is None and s.region is None], values)
    exact = _in_float64([s for s in steps if s.bound is not None], values)
    for step in steps:
        if step.region:
            _check_region(step, step.region, values)
        for value in step.results:
            if value.name in plain:
                _check_bits(step, value.name, values[value.name], plain[value.name])
            if value.name in exact:
                _check_near(step, value, np.asarray(values[value.name], np.float64), *exact[value.name])


def _in_plain_jax(steps: Sequence[Step], values: Values) -> Values:
    """Results of lines by name, each from the emulator's own operands."""

    def lines(given: Values) -> Values:
        return {v.name: y for step in steps for v, y in zip(step.results, _evaluated(step, given), strict=True)}

    return jax.jit(lines, compiler_options=QUICK)(_operands(steps, values)) if steps else {}


def _in_float64(steps: Sequence[Step], values: Values) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """(what is exact, how far an FP32 result may be off) by name."""

    def lines(given: Values) -> dict[str, tuple[Any, Any]]:
        found = {}
        for step in steps:
            for value, y in zip(step.results, _evaluated(step, given, WIDE), strict=True):
                names = namespace() | WIDE | given | {"y": y, "u": 2.0**-24, "tiny": 2.0**-126, "ulp": ulp}
                found[value.name] = y, jnp.broadcast_to(eval(step.bound or "", names), y.shape)  # noqa: S307
        return found

    with jax.enable_x64(True):
        given = {name: _widened(x) for name, x in _operands(steps, values).items()}
        found = jax.jit(lines, compiler_options=QUICK)(given) if steps else {}
    return {name: (np.asarray(y), np.asarray(error)) for name, (y, error) in found.items()}


def _operands(steps: Sequence[Step], values: Values) -> Values:
    return {name: jnp.asarray(values[name]) for step in steps for name in step.operands}


def _check_near(step: Step, value: Value, got: np.ndarray, y: np.ndarray, error: np.ndarray) -> None:
    with np.errstate(all="ignore"):
        bound = rounded(error, y, value.fmt)
        off = np.abs(got - y)
        fine = (off <= bound) | (got == y) | (np.isnan(got) & np.isnan(y))
        fine |= np.isinf(got) & (np.sign(got) == np.sign(y)) & (np.abs(y) + error >= LARGEST)
        # Where partial results may leave the range of FP32, what float64 gives says nothing.
        fine |= ~(error * 2.0**24 < 2.0**126)
    where = np.argwhere(~fine)
    if len(where):
        at = tuple(where[0])
        raise AssertionError(
            f"{value.name}: {len(where)} of {y.size} elements of `{step.text}` are too far off; at {at} it is "
            f"{got[at]!r}, exactly {y[at]!r}, off by {off[at]:.3g}, allowed {bound[at]:.3g}"
        )


def _check_bits(step: Step, name: str, got: Any, want: Any) -> None:
    got, want = np.asarray(got), np.asarray(want)
    if (got.dtype, got.shape) != (want.dtype, want.shape):
        raise AssertionError(f"{name}: {got.dtype}{got.shape} instead of {want.dtype}{want.shape}: `{step.text}`")
    wrong = np.argwhere(_bits(got) != _bits(want))
    if len(wrong):
        at = tuple(wrong[0])
        raise AssertionError(
            f"{name}: {len(wrong)} of {got.size} elements of `{step.text}` differ; at {at} it is {got[at]!r}, in plain "
            f"JAX {want[at]!r}"
        )


def _bits(x: np.ndarray) -> np.ndarray:
    """Patterns as the machine has them."""
    return x if x.dtype.kind in "iub" else _entered(x).astype(np.float32).view(np.uint32)


def _entered(x: Any) -> np.ndarray:
    """Numbers as the machine has them: one NaN, no denormals (N2, N3)."""
    x = np.asarray(x)
    if x.dtype.kind in "iub":
        return x
    single = x.astype(np.float32)
    single = np.where(np.abs(single) < 2.0**-126, np.copysign(np.float32(0), single), single)
    return np.where(np.isnan(single), np.float32(np.nan), single).astype(x.dtype)


def _widened(x: Any) -> Any:
    return jnp.asarray(np.asarray(x, np.float64)) if jnp.issubdtype(x.dtype, jnp.floating) else jnp.asarray(x)


def _evaluated(step: Step, given: Values, formats: Mapping[str, Any] = FORMATS) -> tuple[Any, ...]:
    """Results of the line in plain JAX."""
    names = namespace() | dict(formats) | {name: jnp.asarray(x) for name, x in given.items()}
    found = eval(step.text, names)  # noqa: S307
    return tuple(found) if isinstance(found, tuple | list) else (found,)


def _check_region(step: Step, region: Region, values: Values) -> None:
    """Every trip on the emulator's own carry; the results are the last carry and the stacked others."""
    captured = [values[name] for name in region.captured]
    carry = [values[name] for name in region.first]
    if region.kind == "cond":
        index = int(np.clip(int(values[region.limit]), 0, len(region.bodies) - 1))
        got = _trip(region.bodies[index], captured, region.captured, carry)
    elif region.kind == "while":
        trips = max(0, int(values[region.limit]))
        for _ in range(trips):
            carry = _trip(region.bodies[0], captured, region.captured, carry)
        got = [jnp.int32(trips), *carry]
    else:
        got = _scanned(region, captured, carry, [values[name] for name in region.xs])
    for value, want in zip(step.results, got, strict=True):
        _check_bits(step, value.name, values[value.name], want)


def _scanned(region: Region, captured: list[Any], carry: list[Any], xs: list[Any]) -> list[Any]:
    length, ys = len(xs[0]), {}
    for t in reversed(range(length)) if region.reverse else range(length):
        found = _trip(region.bodies[0], captured, region.captured, [*carry, *(x[t] for x in xs)])
        carry, ys[t] = found[: len(carry)], found[len(carry) :]
    stacked = [np.stack([np.asarray(ys[t][i]) for t in range(length)]) for i in range(len(ys[0]))]
    return [*carry, *stacked]


def _trip(body: Function, captured: list[Any], names: tuple[str, ...], given: list[Any]) -> list[Any]:
    """One trip by itself, its lines judged."""
    every = body.returning_all(names)
    arrays = tuple(map(jnp.asarray, (*captured, *given)))
    executed = _alone(every, tuple((x.shape, str(x.dtype)) for x in arrays))(*arrays)
    values = dict(zip(every.parameters, arrays, strict=True)) | dict(zip(every.outputs, executed, strict=True))
    check_lines(body.steps, values)
    return [values[name] for name in body.outputs]


@lru_cache(maxsize=4)
def _alone(function: Function, kinds: tuple[tuple[tuple[int, ...], str], ...]) -> Callable[..., Any]:
    structs = [jax.ShapeDtypeStruct(shape, dtype) for shape, dtype in kinds]
    program = rdu.compile(function.compiled(), *structs, machine="sn40l", fusion="none")
    return jax.jit(program.execute, compiler_options=QUICK)
