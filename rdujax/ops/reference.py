"""The float64 value of every element-wise function: what emulated values are measured against.

NumPy and SciPy only, no rounding to the machine's formats; INT32 in int64, wrapped after each step (N7).
"""

# not emulated: NumPy computes the float64 reference
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from scipy import special

from rdujax.numerics.formats import BOOL, FP32, INT32, UINT32, Format
from rdujax.units.pcu.expression import BITCAST, CONVERT, IMMEDIATE, Expression, Instruction

FLOAT: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "neg": np.negative, "abs": np.abs,
    "sign": np.sign, "max": np.maximum, "min": np.minimum, "square": np.square, "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x), "reciprocal": lambda x: 1 / x, "exp": np.exp, "exp2": np.exp2,
    "expm1": np.expm1, "log": np.log, "log1p": np.log1p, "sigmoid": special.expit, "tanh": np.tanh,
    "silu": lambda x: x * special.expit(x), "gelu": lambda x: x * special.ndtr(x), "erf": special.erf,
    "erfc": special.erfc, "sin": np.sin, "cos": np.cos, "select": np.where, "equal": np.equal,
    "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "clamp": lambda lo, x, hi: np.minimum(np.maximum(x, lo), hi),
    "integer_power": lambda x, n: np.power(x, float(n)), "pow": np.power, "erf_inv": special.erfinv,
    "tan": np.tan, "sinh": np.sinh, "cosh": np.cosh, "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan,
    "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "atan2": np.arctan2, "cbrt": np.cbrt,
    "floor": np.floor, "ceil": np.ceil, "round": lambda x: np.copysign(np.floor(np.abs(x) + 0.5), x),
    "round_even": np.rint, "is_finite": np.isfinite,
    "next_after": lambda x, y: np.where((x == 0) & (y != 0), np.copysign(2.0**-126, y), np.nextafter(x, y)),
}  # fmt: skip
INTEGER: dict[str, Callable[..., Any]] = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative, "abs": np.abs, "sign": np.sign,
    "max": np.maximum, "min": np.minimum, "square": np.square, "select": np.where, "equal": np.equal,
    "not_equal": np.not_equal, "less": np.less, "less_equal": np.less_equal, "greater": np.greater,
    "greater_equal": np.greater_equal, "clamp": lambda lo, x, hi: np.minimum(np.maximum(x, lo), hi),
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.invert,
    "div": lambda a, b: np.where(b == 0, -1, _truncated(a, b)),
    "rem": lambda a, b: np.where(b == 0, a, a - _truncated(a, b) * b),
    "shift_left": lambda a, n: np.where((n < 0) | (n > 31), 0, a << np.clip(n, 0, 31)),
    "shift_right_logical": lambda a, n: np.where((n < 0) | (n > 31), 0, (a & 0xFFFFFFFF) >> np.clip(n, 0, 31)),
    "shift_right_arithmetic": lambda a, n: a >> np.where((n < 0) | (n > 31), 31, n),
    "integer_power": lambda a, n: _wrapped_power(a, n),
    "random_first": lambda *words: _threefry(*words)[0], "random_second": lambda *words: _threefry(*words)[1],
    "random_bits": lambda *words: np.bitwise_xor(*_threefry(*words)),
    "population_count": lambda a: np.bitwise_count(a & 0xFFFFFFFF).astype(np.int64),
    "count_leading_zeros": lambda a: 32 - np.ceil(np.log2((a & 0xFFFFFFFF) + 1.0)).astype(np.int64),
}  # fmt: skip


def evaluate(expression: Expression, operands: Sequence[np.ndarray]) -> np.ndarray:
    """The value of an expression on float64, int64 or bool operands of one shape."""
    values = list(operands)
    with np.errstate(all="ignore"):  # NaN and infinity are results here, not accidents
        for step in expression.instructions:
            values.append(_step(step, values))
    return values[-1]


def _step(step: Instruction, values: list[np.ndarray]) -> np.ndarray:
    if step.function == IMMEDIATE:
        kind = np.float64 if step.fmt.is_float else bool if step.fmt is BOOL else np.int64
        return np.full(values[0].shape if values else (), step.immediate, kind)
    operands = [values[i] for i in step.operands]
    if step.function == CONVERT:
        assert step.target is not None
        return converted(operands[0], step.target)
    if step.function == BITCAST:
        assert step.target is not None
        return reinterpreted(operands[0], step.fmt, step.target)
    table = FLOAT if step.fmt.is_float else INTEGER
    extra = () if step.immediate is None else (step.immediate,)
    result = np.asarray(table[step.function](*operands, *extra))
    return wrapped(result, step.result)


def converted(x: np.ndarray, target: Format) -> np.ndarray:
    """x as float64, as saturated int64 (NaN is 0, as N6 says), or as bool."""
    if target.is_float:
        return x.astype(np.float64)
    if target is BOOL:
        return x != 0
    if target is UINT32 and x.dtype.kind in "iu":
        return wrapped(x, UINT32)
    if target is UINT32:
        return np.clip(np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0), 0, 2**32 - 1).astype(np.int64)
    if x.dtype.kind in "iu":
        return _wrap(x)
    return np.clip(np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0), -(2**31), 2**31 - 1).astype(np.int64)


def _threefry(k0: np.ndarray, k1: np.ndarray, c0: np.ndarray, c1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both words of Threefry-2x32-20 on int64 words; see numerics/threefry.py for the law."""
    mask, keys = 2**32 - 1, (k0, k1, k0 ^ k1 ^ 0x1BD11BDA)
    x0, x1 = (c0 + k0) & mask, (c1 + k1) & mask
    for r in range(20):
        places = (13, 15, 26, 6, 17, 29, 16, 24)[r % 8]
        x0 = (x0 + x1) & mask
        x1 = (((x1 << places) & mask) | (x1 >> (32 - places))) ^ x0
        if r % 4 == 3:
            turn = r // 4 + 1
            x0, x1 = (x0 + keys[turn % 3]) & mask, (x1 + keys[(turn + 1) % 3] + turn) & mask
    return x0, x1


def _truncated(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    divisor = np.where(b == 0, 1, b)
    return np.sign(a) * np.sign(divisor) * (np.abs(a) // np.abs(divisor))


def _wrapped_power(a: np.ndarray, n: int) -> np.ndarray:
    result = np.ones_like(a)
    for _ in range(n):
        result = _wrap(result * a)
    return result


def reinterpreted(x: np.ndarray, source: Format, target: Format) -> np.ndarray:
    """The bits of x, rounded to FP32 first where it is a real number, as float64 or int64."""
    single = x.astype(np.float32)  # not emulated: the number whose bits are read
    word = single.view(np.uint32) if source is FP32 else (x % 2**32).astype(np.uint32)
    if target is FP32:
        return word.view(np.float32).astype(np.float64)
    return word.astype(np.int64) if target is UINT32 else word.view(np.int32).astype(np.int64)


def wrapped(x: np.ndarray, fmt: Format) -> np.ndarray:
    """x as int64 in the range of INT32 or UINT32; of another format, as it is."""
    if fmt is UINT32:
        return x.astype(np.int64) % 2**32
    return _wrap(x) if fmt is INT32 else x


def _wrap(x: np.ndarray) -> np.ndarray:
    return (x.astype(np.int64) + 2**31) % 2**32 - 2**31
