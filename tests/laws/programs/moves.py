"""Recipes of lines that move values: views, joins, look-ups, updates, sorting."""

import numpy as np

from tests.laws.programs.draft import FLOATS, KINDS, LIMITS, NUMBERS, Draft, Value, recipe


def _moved(d: Draft, x: Value, text: str, shape) -> Value:  # noqa: ANN001
    return d.add(text, [x], shape, x.fmt, min(x.low, 0), max(x.high, 0))


@recipe("transpose")
def _transpose(d: Draft) -> None:
    x = d.pick(*KINDS, least=2)
    order = tuple(int(a) for a in d.rng.permutation(len(x.shape)))
    _moved(d, x, f"lax.transpose({x.name}, {order})", [x.shape[a] for a in order])


@recipe("reshape")
def _reshape(d: Draft) -> None:
    x = d.pick(*KINDS, least=1)
    factors = [p for p in (2, 3, 5, 7) for _ in range(6) if x.size % p == 0]
    rows = d.one(*factors) if factors else 1
    new = d.one((rows, x.size // rows), (x.size,), (x.size // rows, 1, rows), x.shape[::-1])
    _moved(d, x, f"{x.name}.reshape({new})", new)


@recipe("squeeze")
def _squeeze(d: Draft) -> None:
    x = d.pick(*KINDS, least=2, test=lambda v: 1 in v.shape)
    axis = x.shape.index(1)
    _moved(d, x, f"lax.squeeze({x.name}, ({axis},))", [n for a, n in enumerate(x.shape) if a != axis])


@recipe("broadcast_in_dim")
def _broadcast(d: Draft) -> None:
    x = d.pick(*KINDS, most=2, test=lambda v: v.size <= 100)
    at = d.integer(0, len(x.shape))
    shape = (*x.shape[:at], d.integer(1, 4), *x.shape[at:])
    axes = tuple(a for a in range(len(shape)) if a != at)
    _moved(d, x, f"lax.broadcast_in_dim({x.name}, {shape}, {axes})", shape)


@recipe("slice")
def _slice(d: Draft) -> None:
    x = d.pick(*KINDS, least=1)
    first = [d.integer(0, n - 1) for n in x.shape]
    last = [d.integer(a + 1, n) for a, n in zip(first, x.shape, strict=True)]
    steps = [d.integer(1, 3) for _ in x.shape]
    shape = [-(-(b - a) // s) for a, b, s in zip(first, last, steps, strict=True)]
    _moved(d, x, f"lax.slice({x.name}, {tuple(first)}, {tuple(last)}, {tuple(steps)})", shape)


@recipe("split")
def _split(d: Draft) -> None:
    x = d.pick(*KINDS, least=1, test=lambda v: max(v.shape) > 1)
    axis = int(np.argmax(x.shape))
    at = d.integer(1, x.shape[axis] - 1)
    sizes = (at, x.shape[axis] - at)
    kinds = [((*x.shape[:axis], n, *x.shape[axis + 1 :]), x.fmt, x.low, x.high) for n in sizes]
    d.add_all(f"lax.split({x.name}, {sizes}, axis={axis})", [x], kinds)


@recipe("unstack")
def _unstack(d: Draft) -> None:
    x = d.pick(*KINDS, least=1, test=lambda v: 2 in v.shape or 3 in v.shape)
    axis = next(a for a, n in enumerate(x.shape) if n in (2, 3))
    kind = ((*x.shape[:axis], *x.shape[axis + 1 :]), x.fmt, x.low, x.high)
    d.add_all(f"jnp.unstack({x.name}, axis={axis})", [x], [kind] * x.shape[axis])


@recipe("concatenate", "stack")
def _join(d: Draft, name: str) -> None:
    x = d.pick(*KINDS, least=1, test=lambda v: v.size <= 250)
    y, axis = d.like(x), d.integer(0, len(x.shape) - 1)
    n = 2 * x.shape[axis]
    shape = (*x.shape[:axis], n, *x.shape[axis + 1 :]) if name != "stack" else (*x.shape[:axis], 2, *x.shape[axis:])
    text = f"jnp.{name}([{x.name}, {y.name}], axis={axis})"
    d.add(text, [x, y], shape, x.fmt, min(x.low, y.low), max(x.high, y.high))


@recipe("tile")
def _repeated(d: Draft) -> None:
    x = d.pick(*KINDS, least=1, most=2, test=lambda v: v.size <= 60)
    repeats = tuple(d.integer(1, 3) for _ in x.shape)
    _moved(d, x, f"jnp.tile({x.name}, {repeats})", [n * r for n, r in zip(x.shape, repeats, strict=True)])


@recipe("pad")
def _pad(d: Draft) -> None:
    x = d.pick(*NUMBERS, least=1, most=2)
    edges = tuple((d.integer(-1 if n > 2 else 0, 3), d.integer(0, 2), d.integer(0, 1)) for n in x.shape)
    shape = [n + low + high + (n - 1) * gap for n, (low, high, gap) in zip(x.shape, edges, strict=True)]
    if d.chance(0.5):
        number = d.argument((), x.fmt, 0, 2)
        text = f"lax.pad({x.name}, {number.name}, {edges})"
        d.add(text, [x, number], shape, x.fmt, min(x.low, 0), max(x.high, 2))
        return
    number = 1.5 if x.fmt in FLOATS else 3
    text = f"lax.pad({x.name}, jnp.asarray({number}, {x.fmt}), {edges})"
    d.add(text, [x], shape, x.fmt, min(x.low, 0), max(x.high, 3))


@recipe("rev")
def _reverse(d: Draft) -> None:
    x = d.pick(*KINDS, least=1)
    _moved(d, x, f"lax.rev({x.name}, ({d.integer(0, len(x.shape) - 1)},))", x.shape)


@recipe("iota")
def _iota(d: Draft) -> None:
    x = d.pick("I32", "F32", least=1)
    axis = d.integer(0, len(x.shape) - 1)
    if x.fmt == "I32":
        text = f"lax.bitwise_xor({x.name}, lax.broadcasted_iota(I32, {x.shape}, {axis}))"
        d.add(text, [x], x.shape, "I32", -(2.0**31), 2.0**31 - 1)
        return
    text = f"lax.max({x.name}, lax.broadcasted_iota(F32, {x.shape}, {axis}))"
    d.add(text, [x], x.shape, "F32", x.low, max(x.high, x.shape[axis]))


@recipe("dynamic_slice", "dynamic_update_slice")
def _at_a_place(d: Draft, name: str) -> None:
    x = d.pick(*KINDS, least=1, most=2)
    sizes = tuple(d.integer(1, n) for n in x.shape)
    starts = [d.argument((), "I32", -2, n + 1) for n in x.shape]
    places = ", ".join(v.name for v in starts)
    if name == "dynamic_slice":
        text = f"lax.dynamic_slice({x.name}, ({places},), {sizes})"
        d.add(text, [x, *starts], sizes, x.fmt, x.low, x.high)
        return
    y = d.argument(sizes, x.fmt)
    text = f"lax.dynamic_update_slice({x.name}, {y.name}, ({places},))"
    d.add(text, [x, y, *starts], x.shape, x.fmt, min(x.low, y.low), max(x.high, y.high))


@recipe("gather")
def _take(d: Draft) -> None:
    x = d.pick(*KINDS, least=1, most=3)
    axis, mode = d.integer(0, len(x.shape) - 1), d.one("clip", "fill")
    where = d.argument(d.shape(1, 1) if len(x.shape) > 1 else d.shape(1, 2), "I32", -2, x.shape[axis] + 1)
    shape = (*x.shape[:axis], *where.shape, *x.shape[axis + 1 :])
    filled = ", fill_value=0" if mode == "fill" else ""
    text = f"jnp.take({x.name}, {where.name}, axis={axis}, mode='{mode}'{filled})"
    d.add(text, [x, where], shape, x.fmt, min(x.low, 0), max(x.high, 0))


@recipe("gather of windows")
def _windows_at(d: Draft) -> None:
    """Slices of a matrix at computed corners."""
    x = d.pick(*KINDS, least=2, most=2)
    sizes = tuple(d.integer(1, n) for n in x.shape)
    where = d.argument((d.integer(1, 5), 2), "I32", -1, max(x.shape))
    numbers = "lax.GatherDimensionNumbers((1, 2), (), (0, 1))"
    text = f"lax.gather({x.name}, {where.name}, {numbers}, {sizes}, mode='clip')"
    d.add(text, [x, where], (where.shape[0], *sizes), x.fmt, x.low, x.high)


@recipe("gather along")
def _along(d: Draft) -> None:
    x = d.pick(*KINDS, least=2, most=2)
    where = d.argument((x.shape[0], d.integer(1, 4)), "I32", 0, x.shape[1] - 1)
    text = f"jnp.take_along_axis({x.name}, {where.name}, axis=1)"
    d.add(text, [x, where], where.shape, x.fmt, x.low, x.high)


@recipe("scatter", "scatter-add", "scatter-sub", "scatter-mul", "scatter-min", "scatter-max")
def _put(d: Draft, name: str) -> None:
    x = d.pick(*NUMBERS, least=1, most=2)
    rows = d.integer(1, 5)
    where = d.argument((rows,), "I32", 0, x.shape[0])
    ends = (0.5, 1.5) if name == "scatter-mul" and x.fmt in FLOATS else (None, None)
    update = d.argument((rows, *x.shape[1:]), x.fmt, *ends)
    method = {"scatter": "set", "scatter-sub": "subtract", "scatter-mul": "multiply"}.get(name, name[8:])
    sums = name in ("scatter-add", "scatter-sub", "scatter-mul") and x.fmt in FLOATS
    x = d.within(x, -(2.0**12), 2.0**12) if sums else x
    if d.chance(0.5) and name == "scatter":
        method, where = "set", d.argument((rows,), "I32", -x.shape[0], x.shape[0] + 1)

    def text(x: str, update: str, method: str = method) -> str:
        return f"{x}.at[{where.name}].{method}({update}, mode='drop')"

    def size(sign: str) -> str:
        return text(f"abs({x.name})", f"abs({update.name})", sign)

    most = x.most + rows * update.most if name != "scatter-mul" else x.most * update.most**rows
    bound = None
    if sums:  # every update is one result
        grown = size("multiply") if name == "scatter-mul" else size("add")
        u = "u" if x.fmt == "F32" else "2**-8"
        bound = f"{rows} * {u} * (1 + {u}) ** {rows} * {grown} + {rows} * tiny"
    low, high = LIMITS.get(x.fmt, (-most, most))
    d.add(text(x.name, update.name), [x, where, update], x.shape, x.fmt, low, high, bound=bound)


@recipe("sort")
def _sort(d: Draft) -> None:
    x = d.pick(*NUMBERS, least=1, most=2)
    axis = d.integer(0, len(x.shape) - 1)
    if d.chance(0.4):
        _moved(d, x, f"lax.sort({x.name}, dimension={axis})", x.shape)
        return
    key = d.argument(x.shape, "I32", 0, 3)  # with equals, so that it shows whether the sort is stable
    kinds = [(v.shape, v.fmt, v.low, v.high) for v in (key, x)]
    text = f"lax.sort(({key.name}, {x.name}), dimension={axis}, num_keys={d.integer(1, 2)})"
    d.add_all(text, [key, x], kinds)


@recipe("top_k")
def _top(d: Draft) -> None:
    x = d.pick(*NUMBERS, least=1, most=2)
    k = d.integer(1, x.shape[-1])
    shape = (*x.shape[:-1], k)
    kinds = [(shape, x.fmt, x.low, x.high), (shape, "I32", 0, x.shape[-1] - 1)]
    d.add_all(f"lax.top_k({x.name}, {k})", [x], kinds)


@recipe("argmax", "argmin")
def _argument(d: Draft, name: str) -> None:
    x = d.pick(*NUMBERS, least=1)
    axis = d.integer(0, len(x.shape) - 1)
    shape = [n for a, n in enumerate(x.shape) if a != axis]
    d.add(f"lax.{name}({x.name}, {axis}, I32)", [x], shape, "I32", 0, x.shape[axis] - 1)
