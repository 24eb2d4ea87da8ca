"""Every element-wise function of the machine, by name and by format: one family under the same law tests.

BF16 arithmetic is the FP32 operation, then rounded to BF16 (N4); BF16 special functions are correctly rounded tables
(N10). FP32 functions are single FP32 results or compositions of them. Comparisons give predicates (bool). Operands are
canonical carriers of the format (see `convert.enter`), broadcast as in NumPy.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from rdujax.base.errors import ArgumentError, FormatError, describe
from rdujax.base.registry import Registry
from rdujax.numerics import integer, registers, rounding, unsigned
from rdujax.numerics.bits import as_carriers, broadcast, commit_bf16
from rdujax.numerics.formats import BF16, BOOL, FP32, INT32, UINT32, Format, lookup
from rdujax.numerics.special import SPECIAL
from rdujax.numerics.special.angle import atan2
from rdujax.numerics.special.power import power

Unit = Callable[..., jax.Array]

FUNCTIONS: Registry["Function"] = Registry("function", do="rdujax.numerics.functions.FUNCTIONS lists them all")


@dataclass(frozen=True)
class Function:
    """One element-wise function; a format that it does not have is None.

    arity: number of operands. predicate: the form on bool. bound_ulp: largest error of the FP32 form against the
    real function in units of the last place; 0.5 is correct rounding, 0 exact. The BF16 form is the FP32 form rounded
    (arithmetic), or the real function rounded (tables). domain: the operands for which the result is a number.
    is_predicate: the result is bool.
    """

    name: str
    arity: int
    bf16: Unit | None = None
    fp32: Unit | None = None
    int32: Unit | None = None
    uint32: Unit | None = None
    predicate: Unit | None = None
    bound_ulp: float = 0.0
    domain: str = "all numbers"
    is_predicate: bool = False
    doc: str = ""

    @property
    def formats(self) -> tuple[Format, ...]:
        """The formats that the function has."""
        return tuple(fmt for fmt in (BF16, FP32, INT32, UINT32, BOOL) if self.form(fmt) is not None)

    def form(self, fmt: Format) -> Unit | None:
        """The callable on carriers of `fmt`."""
        return self.predicate if fmt is BOOL else getattr(self, fmt.name)


def apply(name: str, fmt: Format | str, *operands: ArrayLike, **parameters: int) -> jax.Array:
    """The function `name` on carriers of `fmt`: a carrier of `fmt`, or bool for a comparison.

    `select` takes its bool predicate first, `clamp` the lower limit; `integer_power` takes the keyword n.
    Raises UnknownNameError, FormatError for a format that the function does not have, and ArgumentError for another
    number of operands.
    """
    function, fmt = FUNCTIONS[name], lookup(fmt)
    unit = function.form(fmt)
    if unit is None:
        raise FormatError(
            describe(
                f"{name} does not exist in this format",
                given=fmt,
                allowed=", ".join(map(str, function.formats)),
                where=name,
                do="convert the operands first",
            )
        )
    if len(operands) != function.arity:
        raise ArgumentError(
            describe(f"{name} takes another number of operands", given=len(operands), allowed=function.arity)
        )
    return unit(*operands, **parameters)


def _unit(name: str, core: Unit, **options: Any) -> Unit:
    """`core`, written for equal float32 shapes, as a named and checked function."""

    def unit(*operands: ArrayLike, **parameters: int) -> jax.Array:
        return core(*as_carriers(name, *operands), **parameters)

    unit.__name__ = unit.__qualname__ = name
    return jax.jit(unit, **options)


def _predicate_unit(name: str, core: Unit) -> Unit:
    def unit(*operands: ArrayLike) -> jax.Array:
        return core(*broadcast(name, *(jnp.asarray(x, bool) for x in operands)))

    unit.__name__ = unit.__qualname__ = name
    return jax.jit(unit)


def _define(
    name: str, arity: int, doc: str, fp32: Unit, bf16: Unit | None = None, bound_ulp: float = 0.0, **others: Any
) -> None:
    """Registers a function whose BF16 form is `bf16`, or else the FP32 form because it only selects or moves."""
    single = _unit(f"{name}_fp32", fp32)
    half = _unit(f"{name}_bf16", bf16 or fp32)
    FUNCTIONS.add(name, Function(name, arity, half, single, doc=doc, bound_ulp=bound_ulp, **others))


def _select(pred: ArrayLike, on_true: ArrayLike, on_false: ArrayLike) -> jax.Array:
    operands = as_carriers("select", on_true, on_false)
    return jnp.where(*broadcast("select", jnp.asarray(pred, bool), *operands))


def _power_fp32(x: jax.Array, n: int) -> jax.Array:
    return registers.integer_power(x, n)


def _power_bf16(x: jax.Array, n: int) -> jax.Array:
    return commit_bf16(registers.integer_power(x, n))


def _both(word: Unit) -> dict[str, Any]:
    """The form of words of 32 bits, with a sign or without one."""
    return {"int32": word, "uint32": word}


def _define_arithmetic() -> None:
    r, i, u = registers, integer, unsigned
    half = 0.5
    _define("add", 2, "x + y.", r.add, r.add_bf16, half, **_both(i.add))
    _define("sub", 2, "x - y.", r.sub, r.sub_bf16, half, **_both(i.sub))
    _define("mul", 2, "x * y.", r.mul, r.mul_bf16, half, **_both(i.mul))
    _define("div", 2, "x / y; integers truncate, x/0 = -1.", r.div, r.div_bf16, half, int32=i.div, uint32=u.div)
    _define(
        "square", 1, "x * x.", lambda x: r.mul(x, x), lambda x: r.mul_bf16(x, x), half, **_both(lambda x: i.mul(x, x))
    )
    _define("neg", 1, "-x.", r.neg, **_both(i.neg))
    _define("abs", 1, "|x|.", r.absolute, int32=i.absolute)
    _define("sign", 1, "-1, a zero of the sign of x, or +1.", r.sign, int32=i.sign)
    _define("max", 2, "The larger by sign and magnitude, -0 < +0.", r.maximum, int32=i.maximum, uint32=u.maximum)
    _define("min", 2, "The smaller by sign and magnitude, -0 < +0.", r.minimum, int32=i.minimum, uint32=u.minimum)
    _define("clamp", 3, "min(max(x, lo), hi) of (lo, x, hi).", r.clamp, int32=i.clamp, uint32=u.clamp)
    power = Function(
        "integer_power",
        1,
        _unit("integer_power_bf16", _power_bf16, static_argnames="n"),
        _unit("integer_power_fp32", _power_fp32, static_argnames="n"),
        **_both(i.integer_power),
        bound_ulp=float("inf"),
        doc="x**n by squaring, each product one FP32 result; half an ulp more for each product of the chain.",
    )
    FUNCTIONS.add("integer_power", power)
    select = Function(
        "select", 3, jax.jit(_select), jax.jit(_select), **_both(i.select),
        predicate=_predicate_unit("select", jnp.where),
        doc="The second operand where the first (bool) is true, else the third.",
    )  # fmt: skip
    FUNCTIONS.add("select", select)


def _define_comparisons() -> None:
    comparisons = {
        "equal": (jnp.equal, "x == y; false with NaN."),
        "not_equal": (jnp.not_equal, "The negation of equal: true with NaN."),
        "less": (jnp.less, "x < y; false with NaN."),
        "less_equal": (jnp.less_equal, "x <= y; false with NaN."),
        "greater": (jnp.greater, "x > y; false with NaN."),
        "greater_equal": (jnp.greater_equal, "x >= y; false with NaN."),
    }
    for name, (compare, doc) in comparisons.items():
        words = unsigned if hasattr(unsigned, name) else integer
        others = {"int32": getattr(integer, name), "uint32": getattr(words, name), "is_predicate": True}
        if name in ("equal", "not_equal"):
            others["predicate"] = _predicate_unit(name, compare)
        _define(name, 2, doc, compare, **others)


def _define_bitwise() -> None:
    logic = {
        "and": (2, integer.bit_and, jnp.logical_and),
        "or": (2, integer.bit_or, jnp.logical_or),
        "xor": (2, integer.bit_xor, jnp.logical_xor),
        "not": (1, integer.bit_not, jnp.logical_not),
    }
    for name, (arity, word, predicate) in logic.items():
        doc = f"Bitwise {name} of words, logical {name} of predicates."
        FUNCTIONS.add(name, Function(name, arity, **_both(word), predicate=_predicate_unit(name, predicate), doc=doc))
    doc = "Remainder of div, signed as x; x rem 0 = x."
    FUNCTIONS.add("rem", Function("rem", 2, int32=integer.rem, uint32=unsigned.rem, doc=doc))
    for name in ("random_first", "random_second", "random_bits"):
        word = getattr(unsigned, name)
        FUNCTIONS.add(name, Function(name, 4, uint32=word, doc=word.__doc__ or ""))
    for name in ("population_count", "count_leading_zeros"):
        count = getattr(integer, name)
        FUNCTIONS.add(name, Function(name, 1, **_both(count), doc=count.__doc__ or ""))
    for name in ("shift_left", "shift_right_logical", "shift_right_arithmetic"):
        shift = getattr(integer, name)
        forms = {"int32": shift} if name == "shift_right_arithmetic" else _both(shift)
        FUNCTIONS.add(name, Function(name, 2, **forms, doc=shift.__doc__ or ""))


def _define_rounding() -> None:
    _define("floor", 1, "The largest whole number that is not above x.", rounding.floor)
    _define("ceil", 1, "The smallest whole number that is not below x.", rounding.ceil)
    _define("round", 1, "The nearest whole number, ties away from zero.", rounding.round_away)
    _define("round_even", 1, "The nearest whole number, ties to even.", rounding.round_even)
    doc = "The FP32 number next to x on the way to y; next to zero is 2**-126."
    near = Function("next_after", 2, fp32=_unit("next_after_fp32", rounding.next_after), bound_ulp=1.0, doc=doc)
    FUNCTIONS.add("next_after", near)
    _define("is_finite", 1, "Neither infinite nor NaN.", rounding.is_finite, is_predicate=True)


def _define_special() -> None:
    domain = "x > 0, or a whole y; NaN otherwise"
    _define("atan2", 2, atan2.__doc__ or "", atan2, lambda y, x: commit_bf16(atan2(y, x)), 0.6)
    _define("pow", 2, power.__doc__ or "", power, lambda x, y: commit_bf16(power(x, y)), 0.6, domain=domain)
    # Rounding a square root or quotient of BF16 values to 24 bits and then to 8 is the same as to 8 at once (24 is at
    # least 2 * 8 + 2), so these two need no table to be correctly rounded.
    without_table = {"sqrt": registers.sqrt_bf16, "reciprocal": registers.reciprocal_bf16}
    for name, special in SPECIAL.items():
        bf16 = _unit(f"{name}_bf16", without_table[name]) if name in without_table else special.bf16
        member = Function(
            name, 1, bf16, special.fp32, bound_ulp=special.bound_ulp, domain=special.domain, doc=special.doc
        )
        FUNCTIONS.add(name, member)


_define_arithmetic()
_define_comparisons()
_define_bitwise()
_define_rounding()
_define_special()
