"""Recipes of loops and branches around drawn bodies."""

import numpy as np

from tests.laws.programs.draft import FLOATS, LIMITS, RECIPES, Draft, Value, recipe
from tests.laws.programs.program import Function, Region

INSIDE = (
    "add mul sub neg tanh sin logistic max square exp select_n dot_general reduce_sum rev slice gather sort cumsum "
    "convert_element_type transpose broadcast_in_dim scatter-add lt clamp concatenate dynamic_update_slice"
).split()


@recipe("scan")
def _scan(d: Draft) -> None:
    """A carry and what is stacked, forwards or backwards; the body reads values around, too."""
    carry = d.pick(*FLOATS, least=1, most=2, test=lambda v: v.size <= 100)
    length, reverse = d.integer(1, 4), d.chance(0.5)
    xs = d.argument((length, *d.shape(1, 1)), d.one("F32", "BF16"))
    body, given = _body(d, [carry, Value("", xs.shape[1:], xs.fmt, xs.low, xs.high)])
    again = _of_kind(body, carry)
    extra = [v for v in body.values.values() if v.name not in {*body.captured, *(g.name for g in given)}][-1]
    outputs = (again.name, extra.name)
    name = f"body{next(d.numbers)}"
    function = Function(name, tuple(v.name for v in given), tuple(body.steps), outputs)
    region = Region("scan", (function,), tuple(body.captured), (carry.name,), (xs.name,), reverse=reverse)
    text = f"lax.scan({name}, {carry.name}, {xs.name}, reverse={reverse})"
    kinds = [_kind(again, carry), ((length, *extra.shape), extra.fmt, extra.low, extra.high)]
    d.add_all(text, [carry, xs], kinds, region=region)


@recipe("while")
def _while(d: Draft) -> None:
    """As many trips as a value says: none, or up to three."""
    carry = d.pick(*FLOATS, least=1, most=2, test=lambda v: v.size <= 100)
    limit = d.argument((), "I32", -1, 3)
    body, (given,) = _body(d, [carry])
    again, name = _of_kind(body, carry), f"body{next(d.numbers)}"
    index = f"i{next(d.numbers)}"
    function = Function(
        name, (given.name,), tuple(body.steps), (again.name,), (f"{index}, {given.name} = c",), "c",
        f"{index} + 1, {again.name}",
    )  # fmt: skip
    region = Region("while", (function,), tuple(body.captured), (carry.name,), limit=limit.name)
    text = f"lax.while_loop(lambda c: c[0] < {limit.name}, {name}, (np.int32(0), {carry.name}))"
    kinds = [((), "I32", 0, 3), _kind(again, carry)]
    d.add_all(text, [carry, limit], kinds, region=region)


@recipe("cond")
def _cond(d: Draft) -> None:
    """One of two or three bodies, by an index that may lie outside."""
    x = d.pick(*FLOATS, least=1, most=2, test=lambda v: v.size <= 100)
    index, functions, captured, results = d.argument((), "I32", -1, 3), [], {}, []
    for _ in range(d.integer(2, 3)):
        body, (given,) = _body(d, [x])
        result = _of_kind(body, x)
        functions.append(Function(f"branch{next(d.numbers)}", (given.name,), tuple(body.steps), (result.name,)))
        captured |= body.captured
        results.append(result)
    names = ", ".join(f.name for f in functions)
    region = Region("cond", tuple(functions), tuple(captured), (x.name,), limit=index.name)
    low, high = min(v.low for v in results), max(v.high for v in results)
    text = f"lax.switch({index.name}, [{names}], {x.name})"
    d.add_all(text, [index, x], [(x.shape, x.fmt, low, high)], region=region)


@recipe("many whiles")
def _each_for_itself(d: Draft) -> None:
    """A loop under vmap, each element with its own trips: how often a number can be halved."""
    x = d.within(d.pick("I32", least=1, most=1), 0, 255)
    text = (
        "jax.vmap(lambda n: lax.while_loop(lambda c: c[0] > 1, lambda c: (lax.shift_right_logical(c[0], 1), "
        f"c[1] + 1), (n, np.int32(0)))[1])({x.name})"
    )
    d.add(text, [x], x.shape, "I32", 0, 8)


@recipe("nested scan")
def _nested(d: Draft) -> None:
    """A loop in a loop, of words."""
    x = d.pick("I32", least=2, most=2)
    text = f"lax.scan(lambda c, row: (lax.scan(lambda c, e: (c * 31 + e, None), c, row)[0], c), np.int32(7), {x.name})"
    d.add_all(text, [x], [((), "I32", *LIMITS["I32"]), (x.shape[:1], "I32", *LIMITS["I32"])])


def _body(d: Draft, kinds: list[Value]) -> tuple[Draft, list[Value]]:
    """A draft of a few lines with parameters of these kinds, which may take any value of the kind's format."""
    inner = Draft(d.rng, d.wild, d)
    given = []
    for kind in kinds:
        value = Value(f"p{next(d.numbers)}", kind.shape, kind.fmt, -np.inf, np.inf)
        inner.values[value.name] = value
        given.append(value)
    start = given[0]
    inner.add(f"jnp.clip({start.name}, -2.0, 2.0)", [start], start.shape, start.fmt, -2, 2)
    for _ in range(d.integer(1, 3)):
        RECIPES[str(d.rng.choice(INSIDE))](inner)
    return inner, given


def _of_kind(d: Draft, kind: Value) -> Value:
    """A value of the kind's shape and format: the last such, with one line more."""
    found = [v for v in d.values.values() if (v.shape, v.fmt) == (kind.shape, kind.fmt) and np.isfinite(v.most)]
    x = found[-1] if found else next(v for v in d.values.values() if (v.shape, v.fmt) == (kind.shape, kind.fmt))
    return d.add(f"lax.neg({x.name})", [x], x.shape, x.fmt, -x.high, -x.low)


def _kind(again: Value, first: Value) -> tuple[tuple[int, ...], str, float, float]:
    return first.shape, first.fmt, min(again.low, first.low), max(again.high, first.high)
