"""Recipes of element-wise lines: functions of floats, words and predicates, comparisons, choices, conversions."""

from math import inf

import numpy as np

from rdujax.numerics.functions import FUNCTIONS
from rdujax.units.pcu.expression import TABLES
from tests.laws.programs.draft import FLOATS, KINDS, LIMITS, NUMBERS, WORDS, Draft, Value, half_ulp, recipe, wraps

# JAX's name: the machine's name, where its results are numbers, what range it maps that to.
UNARY = {
    "square": ("square", (-64, 64), (0, 4096)), "sqrt": ("sqrt", (0, 1e6), (0, 1e3)),
    "rsqrt": ("rsqrt", (2**-6, 1e6), (0, 8)), "exp": ("exp", (-20, 6), (0, 404)), "exp2": ("exp2", (-20, 8), (0, 256)),
    "expm1": ("expm1", (-20, 6), (-1, 404)), "log": ("log", (2**-8, 1e6), (-6, 14)),
    "log1p": ("log1p", (0, 1e6), (0, 14)), "logistic": ("sigmoid", (-20, 20), (0, 1)),
    "tanh": ("tanh", (-20, 20), (-1, 1)), "erf": ("erf", (-8, 8), (-1, 1)), "erfc": ("erfc", (-4, 8), (0, 2)),
    "erf_inv": ("erf_inv", (-0.75, 0.75), (-1, 1)), "cbrt": ("cbrt", (-1e6, 1e6), (-100, 100)),
    "sin": ("sin", (-100, 100), (-1, 1)), "cos": ("cos", (-100, 100), (-1, 1)), "tan": ("tan", (-1.5, 1.5), (-15, 15)),
    "asin": ("asin", (-1, 1), (-1.6, 1.6)), "acos": ("acos", (-1, 1), (0, 3.2)),
    "atan": ("atan", (-1e6, 1e6), (-1.6, 1.6)),
    "sinh": ("sinh", (-8, 8), (-1491, 1491)), "cosh": ("cosh", (-8, 8), (1, 1491)),
    "asinh": ("asinh", (-1e6, 1e6), (-15, 15)), "acosh": ("acosh", (1, 1e6), (0, 15)),
    "atanh": ("atanh", (-0.75, 0.75), (-1, 1)),
}  # fmt: skip
BINARY = {"add": "+", "sub": "-", "mul": "*"}
COMPARED = ("eq", "ne", "lt", "le", "gt", "ge")
SCALARS = (0.5, -1.5, 2.0, 0.25, 3.0, -0.125)


def bound_of(function: str, fmt: str) -> str:
    """The error of a registered function in front of the rounding to BF16; tables of BF16 have none."""
    if fmt == "BF16" and function in TABLES:
        return half_ulp(0.0)
    return half_ulp(FUNCTIONS[function].bound_ulp)


@recipe(*UNARY)
def _unary(d: Draft, name: str) -> None:
    function, domain, image = UNARY[name]
    x = d.within(d.pick(*FLOATS), *domain)
    d.add(f"lax.{name}({x.name})", [x], x.shape, x.fmt, *image, bound=bound_of(function, x.fmt))


@recipe("neg", "abs", "sign", "floor", "ceil", "round")
def _exact(d: Draft, name: str) -> None:
    fmts = (*FLOATS, "I32") if name in ("neg", "abs", "sign") else FLOATS
    x = d.pick(*fmts)
    extra = f", lax.RoundingMethod({d.integer(0, 1)})" if name == "round" else ""
    most = 1 if name == "sign" else x.most + 1
    low, high = wraps(-most if name != "abs" else 0, most, x.fmt)
    d.add(f"lax.{name}({x.name}{extra})", [x], x.shape, x.fmt, low, high)


@recipe("square of words", "neg of words", "not", "population_count", "clz")
def _of_words(d: Draft, name: str) -> None:
    x = d.pick(*WORDS, *(("BOOL",) if name == "not" else ()))
    image = (0, 32) if name in ("population_count", "clz") else LIMITS[x.fmt]
    d.add(f"lax.{name.partition(' ')[0] if name != 'not' else 'bitwise_not'}({x.name})", [x], x.shape, x.fmt, *image)


@recipe("is_finite")
def _is_finite(d: Draft) -> None:
    x = d.pick(*FLOATS)
    d.add(f"lax.is_finite({x.name})", [x], x.shape, "BOOL", 0, 1)


@recipe(*BINARY)
def _binary(d: Draft, name: str) -> None:
    x = d.pick(*NUMBERS)
    if x.fmt in FLOATS:
        x = d.within(x, -(2.0**12), 2.0**12)
    if x.fmt in FLOATS and d.chance(0.25):
        number = d.one(*SCALARS)
        text = f"{x.name} {BINARY[name]} {number}" if d.chance(0.5) else f"{number} {BINARY[name]} {x.name}"
        d.add(text, [x], x.shape, x.fmt, *_range(name, x, Value("", (), x.fmt, number, number)), bound=half_ulp())
        return
    y = d.like(x)
    y = d.within(y, -(2.0**12), 2.0**12) if y.fmt in FLOATS else y
    bound = half_ulp() if x.fmt in FLOATS else None
    text = f"{x.name} {BINARY[name]} {y.name}"
    d.add(text, [x, y], x.shape, x.fmt, *wraps(*_range(name, x, y), x.fmt), bound=bound)


def _range(name: str, x: Value, y: Value) -> tuple[float, float]:
    if name == "mul":
        ends = [a * b for a in (x.low, x.high) for b in (y.low, y.high)]
        return (min(ends), max(ends)) if np.isfinite(ends).all() else (-inf, inf)
    return (x.low + y.low, x.high + y.high) if name == "add" else (x.low - y.high, x.high - y.low)


@recipe("broadcast add")
def _spread_sum(d: Draft) -> None:
    """As `jnp` broadcasts: along an axis of length one, or a vector over rows."""
    x = d.within(d.pick(*FLOATS, least=2, most=3), -(2.0**12), 2.0**12)
    y = d.argument((*x.shape[:-1], 1) if d.chance(0.5) else x.shape[-1:], x.fmt)
    low, high = _range("add", x, y)
    d.add(f"{x.name} + {y.name}", [x, y], x.shape, x.fmt, low, high, bound=half_ulp())


@recipe("div")
def _quotient(d: Draft) -> None:
    x = d.pick(*NUMBERS)
    y = d.like(x)
    if x.fmt in WORDS:
        y = d.within(y, 0, 9) if d.chance(0.5) else y  # and so by zero
        d.add(f"lax.div({x.name}, {y.name})", [x, y], x.shape, x.fmt, *LIMITS[x.fmt])
        return
    x, y = d.within(x, -(2.0**12), 2.0**12), d.within(y, 0.25, 64.0)
    most = 4 * x.most
    d.add(f"{x.name} / {y.name}", [x, y], x.shape, x.fmt, -most, most, bound=half_ulp())


@recipe("rem")
def _remainder(d: Draft) -> None:
    x = d.pick(*WORDS)
    y = d.within(d.like(x), 0, 100)
    d.add(f"lax.rem({x.name}, {y.name})", [x, y], x.shape, x.fmt, *LIMITS[x.fmt])


@recipe("max", "min")
def _extreme(d: Draft, name: str) -> None:
    x = d.pick(*NUMBERS)
    y = d.like(x)
    d.add(f"lax.{name}({x.name}, {y.name})", [x, y], x.shape, x.fmt, min(x.low, y.low), max(x.high, y.high))


@recipe("clamp")
def _clamp(d: Draft) -> None:
    x = d.pick(*NUMBERS)
    if x.fmt in FLOATS and d.chance(0.5):
        low, high = d.argument((), x.fmt, -1, 0), d.argument((), x.fmt, 0, 1)
        operands, text = [low, x, high], f"lax.clamp({low.name}, {x.name}, {high.name})"
        d.add(text, operands, x.shape, x.fmt, -1, 1)
        return
    ends = (-0.5, 0.75) if x.fmt in FLOATS else (3, 1000)
    d.add(f"jnp.clip({x.name}, {ends[0]}, {ends[1]})", [x], x.shape, x.fmt, *ends)


@recipe("integer_pow")
def _integer_power(d: Draft) -> None:
    x, n = d.within(d.pick(*NUMBERS), -4.0, 4.0), d.integer(2, 5)
    if x.fmt in WORDS:
        d.add(f"lax.integer_pow({x.name}, {n})", [x], x.shape, x.fmt, *LIMITS[x.fmt])
        return
    if d.chance(0.3):
        n, x = -1, d.within(x, 0.25, 4.0)
    image = (-(x.most**n), x.most**n) if n > 0 else (0, 4)
    # A chain of products: half an ulp each, of which a square doubles what came before it.
    bound = f"{max(n - 1, 1)} * u * abs(y) + {abs(n)} * tiny"
    d.add(f"lax.integer_pow({x.name}, {n})", [x], x.shape, x.fmt, *image, bound=bound)


@recipe("pow")
def _power(d: Draft) -> None:
    x = d.within(d.pick(*FLOATS), 0.125, 8.0)
    y = d.within(d.like(x), -3.0, 3.0)
    d.add(f"lax.pow({x.name}, {y.name})", [x, y], x.shape, x.fmt, 0, 512, bound=bound_of("pow", x.fmt))


@recipe("atan2")
def _angle(d: Draft) -> None:
    y = d.pick(*FLOATS)
    x = d.like(y)
    d.add(f"lax.atan2({y.name}, {x.name})", [y, x], y.shape, y.fmt, -3.2, 3.2, bound=bound_of("atan2", y.fmt))


@recipe("nextafter")
def _next(d: Draft) -> None:
    """Not next to zero, where plain JAX has numbers that the machine has not."""
    x = d.pick("F32")
    x = d.argument(x.shape, "F32", 0.5, 64.0) if d.wild else d.within(x, 0.5, 64.0)
    y = d.like(x)
    d.add(f"lax.nextafter({x.name}, {y.name})", [x, y], x.shape, x.fmt, x.low - 1e-3, x.high + 1e-3)


@recipe(*COMPARED)
def _comparison(d: Draft, name: str) -> None:
    x = d.pick(*(KINDS if name in ("eq", "ne") else NUMBERS))
    if x.fmt in FLOATS and d.chance(0.3):
        d.add(f"lax.{name}({x.name}, jnp.zeros_like({x.name}))", [x], x.shape, "BOOL", 0, 1)
        return
    y = d.like(x)
    d.add(f"lax.{name}({x.name}, {y.name})", [x, y], x.shape, "BOOL", 0, 1)


@recipe("and", "or", "xor")
def _bitwise(d: Draft, name: str) -> None:
    x = d.pick(*WORDS, "BOOL")
    y = d.like(x)
    d.add(f"lax.bitwise_{name}({x.name}, {y.name})", [x, y], x.shape, x.fmt, *LIMITS[x.fmt])


@recipe("shift_left", "shift_right_logical", "shift_right_arithmetic")
def _shift(d: Draft, name: str) -> None:
    x = d.pick("I32") if name == "shift_right_arithmetic" else d.pick(*WORDS)
    y = d.within(d.like(x), 0, 40)  # and so beyond the word
    d.add(f"lax.{name}({x.name}, {y.name})", [x, y], x.shape, x.fmt, *LIMITS[x.fmt])


@recipe("select_n")
def _choice(d: Draft) -> None:
    x = d.pick(*KINDS)
    y, which = d.like(x), d.like(x, "BOOL")
    text = f"jnp.where({which.name}, {x.name}, {y.name})"
    d.add(text, [which, x, y], x.shape, x.fmt, min(x.low, y.low), max(x.high, y.high))


@recipe("select of three")
def _choice_of_three(d: Draft) -> None:
    x = d.pick(*FLOATS)
    y, z, which = d.like(x), d.like(x), d.argument(x.shape, "I32", 0, 2)
    operands = [which, x, y, z]
    low, high = min(v.low for v in operands[1:]), max(v.high for v in operands[1:])
    d.add(f"lax.select_n({', '.join(v.name for v in operands)})", operands, x.shape, x.fmt, low, high)


@recipe("convert_element_type")
def _conversion(d: Draft) -> None:
    x = d.pick(*KINDS)
    target = d.one(*(fmt for fmt in KINDS if fmt != x.fmt))
    if x.fmt in FLOATS and target == "U32":
        x = d.within(x, 0, 2.0**31)  # XLA defines no word for a negative number
    low, high = (0, 1) if target == "BOOL" else wraps(x.low - 1, x.high + 1, target)
    is_rounded = target in FLOATS and x.fmt != "BOOL"
    text = f"lax.convert_element_type({x.name}, {target})"
    d.add(text, [x], x.shape, target, low, high, bound=half_ulp() if is_rounded else None)


@recipe("bitcast_convert_type")
def _bits(d: Draft) -> None:
    x = d.pick("F32", *WORDS)
    target = d.one(*(fmt for fmt in ("F32", *WORDS) if fmt != x.fmt))
    text, image = x.name, LIMITS.get(target, (1, 2))
    if target == "F32":  # numbers from 1 to 2
        number = f"np.{'int' if x.fmt == 'I32' else 'uint'}32"
        text = f"(({x.name} & {number}(0x007FFFFF)) | {number}(0x3F800000))"
    d.add(f"lax.bitcast_convert_type({text}, {target})", [x], x.shape, target, *image)


@recipe("reduce_precision")
def _coarser(d: Draft) -> None:
    x = d.pick(*FLOATS)
    d.add(f"lax.reduce_precision({x.name}, 8, 7)", [x], x.shape, x.fmt, x.low - 1, x.high + 1)


@recipe("copy", "optimization_barrier", "stop_gradient")
def _same(d: Draft, name: str) -> None:
    x = d.pick(*KINDS)
    text = {"copy": "jnp.copy"}.get(name, f"lax.{name}")
    d.add(f"{text}({x.name})", [x], x.shape, x.fmt, x.low, x.high)


@recipe("add_any")
def _cotangents(d: Draft) -> None:
    """What flows back into a value that is read twice."""
    x = d.within(d.pick(*FLOATS), -(2.0**12), 2.0**12)
    y = d.within(d.like(x), -(2.0**12), 2.0**12)
    text = f"jax.vjp(lambda v: (v, v), jnp.zeros_like({x.name}))[1](({x.name}, {y.name}))[0]"
    d.add(text, [x, y], x.shape, x.fmt, *_range("add", x, y), bound=half_ulp())


@recipe("slope of tanh")
def _slope(d: Draft) -> None:
    """Written otherwise by newer versions of JAX: y (1 + t)(1 - t) or y (1 - t^2), with four or five roundings.

    No factor is above 2, so that each rounding adds at most 2 u |y|, and an error of t, |t| <= 1, twice itself.
    """
    x = d.within(d.pick("F32"), -20.0, 20.0)
    y = d.argument(x.shape, "F32", -2, 2)
    bound = f"{10 + 4 * FUNCTIONS['tanh'].bound_ulp} * u * abs({y.name}) + 5 * tiny"
    d.add(f"jax.jvp(lax.tanh, ({x.name},), ({y.name},))[1]", [x, y], x.shape, "F32", -2, 2, bound=bound)


@recipe("called")
def _called(d: Draft) -> None:
    """Calls that a front end has to enter: a jit, a function with a derivative of its own, a remat."""
    x = d.pick(*FLOATS)
    text = d.one("jax.nn.relu", "jax.jit(lambda v: lax.max(v, -v))", "jax.checkpoint(lambda v: -abs(v))")
    d.add(f"{text}({x.name})", [x], x.shape, x.fmt, -x.most, x.most)
