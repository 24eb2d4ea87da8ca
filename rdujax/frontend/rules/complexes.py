"""Complex numbers: two real values, one for each part; the machine has no complex format.

Equations on complex values are taken apart here: moves act on both parts alike, arithmetic is that of the parts, each
result rounded once (a product is four real ones and two sums). A part that is known to be 0 throughout, as that of a
real number made complex, takes no part: nothing is multiplied by it or added to it, so that infinity stays infinity.
Inputs and results of a program are real: a function takes and gives parts, and may be complex inside.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from rdujax.base.registry import Registry
from rdujax.frontend.rule import RULES, Operand, Pair, Scalar, Site, expanded

Rule = Callable[[Site], tuple[Operand, ...]]
COMPLEX_RULES: Registry[Rule] = Registry("rule for complex operands")
# They move values and compute nothing: what they do to a complex array, they do to both parts.
MOVES = (
    "broadcast_in_dim concatenate copy copy_p device_put dynamic_slice dynamic_update_slice expand_dims gather name "
    "optimization_barrier pad pvary reshape reshard rev select_n sharding_constraint slice split squeeze stack "
    "stop_gradient transpose unstack"
).split()


def is_complex(site: Site) -> bool:
    """Whether an equation reads or makes complex values."""
    return any(_is_complex(o) for o in site.operands) or any(_dtype(r).kind == "c" for r in site.results)


def apply(site: Site) -> tuple[Operand, ...]:
    """The results of an equation on complex values; UnsupportedError for a primitive that has no complex form here."""
    if site.primitive not in COMPLEX_RULES:
        raise site.unsupported(
            f"no rule for complex operands (there are: {', '.join(sorted(COMPLEX_RULES))})",
            "write it with the real and the imaginary part",
        )
    return COMPLEX_RULES[site.primitive](site)


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers the complex form of one or more primitives."""

    def wrap(function: Rule) -> Rule:
        for name in names:
            COMPLEX_RULES.add(name, function)
        return function

    return wrap


Part = int | Scalar
ZERO = Scalar(np.zeros((), np.float32), np.dtype(np.float32))


def parts(site: Site, i: int) -> tuple[Part, Part]:
    """The real and the imaginary part of operand i; a real one has the imaginary part 0."""
    operand = site.operands[i]
    if isinstance(operand, Pair):
        return operand.real, operand.imaginary
    if isinstance(operand, Scalar):
        value = np.asarray(operand.value)
        return _scalar(np.real(value)), _scalar(np.imag(value))
    assert isinstance(operand, int)
    return operand, ZERO


def is_zero(part: Operand) -> bool:
    """Whether a part is known to be 0 throughout."""
    return isinstance(part, Scalar) and not np.any(part.value)


def in_memory(site: Site, part: Part) -> int:
    """A part as a value of the result's shape: zeros where it is a scalar."""
    if isinstance(part, Scalar):
        array = np.full(site.results[0].shape, part.value, np.float32)
        return site.builder.constant(array, str(part.value))
    return part


def _full(site: Site, part: Part) -> int:
    """A part in the result's shape: a number spread over all of it."""
    if isinstance(part, Scalar):
        return on_parts(site, "broadcast_in_dim", part, parameters={"broadcast_dimensions": ()})
    return part


def on_parts(site: Site, name: str, *operands: Operand, parameters: Mapping[str, Any] | None = None) -> int:
    """One real equation `name` on parts, at the place of a complex one; parameters: those of the site by default."""
    given = site.parameters if parameters is None else dict(parameters)
    (result,) = RULES[name](replace(site, primitive=name, operands=operands, parameters=given, results=_reals(site)))
    return result


@rule(*MOVES)
def _move(site: Site) -> tuple[Operand, ...]:
    both = []
    for part in range(2):
        operands = tuple(
            parts(site, i)[part] if _is_complex(operand) else operand for i, operand in enumerate(site.operands)
        )
        if all(is_zero(o) for o, old in zip(operands, site.operands, strict=True) if _is_complex(old)):
            both.append([ZERO] * len(site.results))
            continue
        both.append(RULES[site.primitive](replace(site, operands=operands, results=_reals(site))))
    return tuple(Pair(real, imaginary) for real, imaginary in zip(*both, strict=True))


@rule("complex")
def _complex(site: Site) -> tuple[Operand, ...]:
    real, imaginary = site.operands
    assert isinstance(real, int | Scalar) and isinstance(imaginary, int | Scalar)
    return (Pair(real, imaginary),)


@rule("empty", "empty2")
def _undefined(site: Site) -> tuple[Operand, ...]:
    return (Pair(ZERO, ZERO),)


@rule("real")
def _real(site: Site) -> tuple[Operand, ...]:
    return (in_memory(site, parts(site, 0)[0]),)


@rule("imag")
def _imaginary(site: Site) -> tuple[Operand, ...]:
    return (in_memory(site, parts(site, 0)[1]),)


@rule("conj")
def _conjugate(site: Site) -> tuple[Operand, ...]:
    real, imaginary = parts(site, 0)
    return (Pair(real, negative(site, imaginary)),)


@rule("neg")
def _negative(site: Site) -> tuple[Operand, ...]:
    real, imaginary = parts(site, 0)
    return (Pair(negative(site, real), negative(site, imaginary)),)


@rule("add", "add_any", "sub")
def _sum(site: Site) -> tuple[Operand, ...]:
    combine = difference if site.primitive == "sub" else total
    (a, b), (c, d) = parts(site, 0), parts(site, 1)
    return (Pair(combine(site, a, c), combine(site, b, d)),)


@rule("mul")
def _product(site: Site) -> tuple[Operand, ...]:
    return (product(site, parts(site, 0), parts(site, 1)),)


@rule("square")
def _square(site: Site) -> tuple[Operand, ...]:
    return (product(site, parts(site, 0), parts(site, 0)),)


@rule("integer_pow")
def _power(site: Site) -> tuple[Operand, ...]:
    exponent = site.parameters["y"]
    if exponent < 1:
        raise site.unsupported(f"the power {exponent} of a complex number", "divide by hand")
    base = Pair(*parts(site, 0))
    result = base
    for digit in bin(exponent)[3:]:
        result = product(site, (result.real, result.imaginary), (result.real, result.imaginary))
        if digit == "1":
            result = product(site, (result.real, result.imaginary), (base.real, base.imaginary))
    return (result,)


@rule("div")
def _quotient(site: Site) -> tuple[Operand, ...]:
    """By a real divisor, part by part; else by Smith's method, so that no square of a large or small part is taken."""
    (a, b), (c, d) = parts(site, 0), parts(site, 1)
    if is_zero(d):
        return (Pair(*(ZERO if is_zero(p) else on_parts(site, "div", p, c) for p in (a, b))),)

    def smith(a: jax.Array, b: jax.Array, c: jax.Array, d: jax.Array) -> tuple[jax.Array, jax.Array]:
        wide = abs(c) >= abs(d)
        large, small = lax.select(wide, c, d), lax.select(wide, d, c)
        u, v = lax.select(wide, a, b), lax.select(wide, b, a)
        ratio = small / large  # not emulated: this is what gets traced
        whole = large + small * ratio
        turned = lax.select(wide, v - u * ratio, u * ratio - v)
        return (u + v * ratio) / whole, turned / whole  # not emulated: this is what gets traced

    return (Pair(*expanded(site, smith, *(_full(site, part) for part in (a, b, c, d)))),)


@rule("abs")
def _magnitude(site: Site) -> tuple[Operand, ...]:
    """The larger part times sqrt(1 + ratio^2), so that no square overflows; infinite where a part is."""
    a, b = parts(site, 0)
    if is_zero(b):
        return (on_parts(site, "abs", a),)

    def scaled(a: jax.Array, b: jax.Array) -> jax.Array:
        first, second = abs(a), abs(b)
        wide = first >= second
        large, small = lax.select(wide, first, second), lax.select(wide, second, first)
        infinite = (first == jnp.inf) | (second == jnp.inf)
        ratio = small / jnp.where(large == 0, 1, large)  # not emulated: this is what gets traced
        root = lax.sqrt(1 + ratio * ratio)  # not emulated: this is what gets traced
        return jnp.where(infinite, jnp.inf, large * root)

    return expanded(site, scaled, _full(site, a), _full(site, b))


@rule("eq", "ne")
def _compared(site: Site) -> tuple[Operand, ...]:
    """Equal where both parts are; parts that are 0 throughout are not compared."""
    (a, b), (c, d) = parts(site, 0), parts(site, 1)
    real = on_parts(site, site.primitive, a, c)
    if is_zero(b) and is_zero(d):
        return (real,)
    imaginary = on_parts(site, site.primitive, b, d)
    return (on_parts(site, "and" if site.primitive == "eq" else "or", real, imaginary),)


@rule("reduce_sum")
def _reduced(site: Site) -> tuple[Operand, ...]:
    return (Pair(*(ZERO if is_zero(p) else on_parts(site, "reduce_sum", p) for p in parts(site, 0))),)


@rule("convert_element_type")
def _converted(site: Site) -> tuple[Operand, ...]:
    if _dtype(site.results[0]).kind != "c":
        # Only JAX's own transposes convert so, and mean the real part; of a user's conversion it takes that first.
        return (on_parts(site, "convert_element_type", in_memory(site, parts(site, 0)[0])),)
    if _is_complex(site.operands[0]):
        return (site.operands[0],)
    kind = {"new_dtype": np.dtype(np.float32)}
    return (Pair(on_parts(site, "convert_element_type", site.operands[0], parameters=kind), ZERO),)


@rule("dot_general", "conv_general_dilated")
def _contracted(site: Site) -> tuple[Operand, ...]:
    (a, b), (c, d) = parts(site, 0), parts(site, 1)

    def dot(x: Part, y: Part) -> Part:
        return ZERO if is_zero(x) or is_zero(y) else on_parts(site, site.primitive, x, y)

    return (Pair(difference(site, dot(a, c), dot(b, d)), total(site, dot(a, d), dot(b, c))),)


def product(site: Site, x: tuple[Part, Part], y: tuple[Part, Part]) -> Pair:
    """(a + bi)(c + di) = (ac - bd) + (ad + bc)i, every product and sum one result."""
    (a, b), (c, d) = x, y

    def times(p: Part, q: Part) -> Part:
        return ZERO if is_zero(p) or is_zero(q) else on_parts(site, "mul", p, q)

    return Pair(difference(site, times(a, c), times(b, d)), total(site, times(a, d), times(b, c)))


def total(site: Site, p: Part, q: Part) -> Part:
    """p + q."""
    return q if is_zero(p) else p if is_zero(q) else on_parts(site, "add", p, q)


def difference(site: Site, p: Part, q: Part) -> Part:
    """p - q."""
    return negative(site, q) if is_zero(p) else p if is_zero(q) else on_parts(site, "sub", p, q)


def negative(site: Site, p: Part) -> Part:
    """-p."""
    return p if is_zero(p) else on_parts(site, "neg", p)


def _scalar(value: np.ndarray) -> Scalar:
    return Scalar(value.astype(np.float32), np.dtype(np.float32))  # not emulated: a number of the text


def _is_complex(operand: Operand) -> bool:
    return isinstance(operand, Pair) or (isinstance(operand, Scalar) and np.dtype(operand.dtype).kind == "c")


def _dtype(result: Any) -> np.dtype:
    """The dtype of a result; that of keys, which NumPy does not know, is not complex whatever it is."""
    return result.dtype if isinstance(result.dtype, np.dtype) else np.dtype(bool)


def _reals(site: Site) -> tuple[Any, ...]:
    return tuple(jax.ShapeDtypeStruct(r.shape, np.float32) if _dtype(r).kind == "c" else r for r in site.results)
