"""Recipes of lines that combine many values: contractions, reductions, running results, windows, transforms."""

from math import log2, prod, sqrt

from rdujax.numerics.functions import FUNCTIONS
from tests.laws.programs.draft import FLOATS, LIMITS, NUMBERS, WORDS, Draft, Value, product_bound, recipe

MOST = 2.0**12


def _sum_bound(depth: int, magnitude: str) -> str:
    """Of a sum in which no term passes through more than `depth` roundings; partial results below tiny are 0."""
    return f"{depth} * u * (1 + u) ** {depth} * ({magnitude}) + {depth} * tiny"


@recipe("dot_general", "dot_general of a batch", "dot_general to fp32", "dot_general of words")
def _contraction(d: Draft, name: str) -> None:
    fmts = ("I32",) if name.endswith("words") else FLOATS
    x = d.pick(*fmts, least=1 if not name.endswith("batch") else 2, most=3)
    x = d.within(x, -8.0, 8.0) if x.fmt in FLOATS else x
    axes = [int(a) for a in d.rng.permutation(len(x.shape))]
    batch = axes[: 1 if name.endswith("batch") else d.integer(0, 1) * (len(axes) > 2)]
    contracted = axes[len(batch) : len(batch) + d.integer(1, max(1, min(2, len(axes) - len(batch) - 1)))]
    free, kept = [n for n in d.shape(0, 2) if n < 9], [a for a in sorted(axes) if a not in (*batch, *contracted)]
    room = max(1, 500 // max(1, prod(x.shape[a] for a in (*batch, *kept))))
    while prod(free) > room:
        free.pop()
    places = [int(a) for a in d.rng.permutation(len(batch) + len(contracted) + len(free))]
    sizes = [*(x.shape[a] for a in (*batch, *contracted)), *free]
    y = d.argument([sizes[i] for i in places], x.fmt)
    at = [places.index(i) for i in range(len(places))]
    of_y = tuple(at[len(batch) : len(batch) + len(contracted)]), tuple(at[: len(batch)])
    kind = f"(({tuple(contracted)}, {of_y[0]}), ({tuple(batch)}, {of_y[1]}))"
    output = "F32" if name.endswith("fp32") else x.fmt
    rest = [y.shape[a] for a in range(len(y.shape)) if a not in (*of_y[0], *of_y[1])]
    shape = [*(x.shape[a] for a in (*batch, *kept)), *rest]
    k = prod(x.shape[a] for a in contracted)

    def text(x: str, y: str) -> str:
        return f"lax.dot_general({x}, {y}, {kind}, preferred_element_type={output})"

    if name.endswith("words"):
        d.add(text(x.name, y.name), [x, y], shape, "I32", *LIMITS["I32"])
        return
    most = k * x.most * y.most
    bound = _sum_bound(k + 1, text(f"abs({x.name})", f"abs({y.name})"))
    d.add(text(x.name, y.name), [x, y], shape, output, -most, most, bound=bound)


@recipe("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or", "reduce_xor")
def _reduction(d: Draft, name: str) -> None:
    predicate = name in ("reduce_and", "reduce_or", "reduce_xor")
    small = (lambda v: v.size <= 40) if name == "reduce_prod" else None
    x = d.pick(*(("BOOL", *WORDS) if predicate else NUMBERS), least=1, test=small)
    axes = tuple(sorted(int(a) for a in d.rng.permutation(len(x.shape))[: d.integer(1, len(x.shape))]))
    shape = [n for a, n in enumerate(x.shape) if a not in axes]
    n = prod(x.shape[a] for a in axes)
    low, high, bound = x.low, x.high, None
    if name in ("reduce_sum", "reduce_prod") and x.fmt in WORDS:
        low, high = LIMITS[x.fmt]
    elif name == "reduce_sum":
        x = d.within(x, -MOST, MOST)
        low, high = -n * x.most, n * x.most
        bound = _sum_bound((n - 1).bit_length(), f"lax.reduce_sum(abs({x.name}), {axes})")
    elif name == "reduce_prod":
        x = d.within(x, 0.5, 1.5)
        low, high, bound = 0.0, max(1.0, x.high) ** n, product_bound(d, n)
    d.add(f"lax.{name}({x.name}, {axes})", [x], shape, x.fmt, low, high, bound=bound)


@recipe("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp")
def _running(d: Draft, name: str) -> None:
    fmts = FLOATS if name == "cumlogsumexp" else NUMBERS
    x = d.pick(*fmts, least=1, most=2, test=lambda v: v.size <= 120)
    axis, reverse = d.integer(0, len(x.shape) - 1), d.chance(0.5)
    n = x.shape[axis]

    def text(x: str) -> str:
        return f"lax.{name}({x}, axis={axis}, reverse={reverse})"

    low, high, bound = x.low, x.high, None
    if x.fmt in WORDS:
        low, high = (x.low, x.high) if name in ("cummax", "cummin") else LIMITS[x.fmt]
    elif name == "cumsum":
        x = d.within(x, -MOST, MOST)
        low, high, bound = -n * x.most, n * x.most, _sum_bound(n - 1, text(f"abs({x.name})"))
    elif name == "cumprod":
        x = d.within(x, 0.5, 1.5)
        low, high, bound = 0.0, max(1.0, x.high) ** n, product_bound(d, n)
    elif name == "cumlogsumexp":
        x = d.within(x, -20.0, 20.0)
        low, high, bound = -20, 30, f"{n} * u * {_of_a_step(x)}"
    d.add(text(x.name), [x], x.shape, x.fmt, low, high, bound=bound)


def _of_a_step(x: Value) -> str:
    """What max(a, b) + log1p(exp(-|a - b|)) adds, in u: an error that came before passes on at most once.

    The difference d is off by u d, which exp(-d) makes at most u / e; exp and log1p have their bounds, log1p a slope
    of at most 1 and values up to log 2; the last sum is rounded.
    """
    exp, log1p = (2 * FUNCTIONS[name].bound_ulp for name in ("exp", "log1p"))
    return f"({0.37 + exp + 0.7 * log1p:.3f} + jnp.max(abs({x.name})) + {log2(x.size + 1):.2f})"


@recipe("reduce_window_sum", "reduce_window_max", "reduce_window_min", "reduce_window")
def _windows(d: Draft, name: str) -> None:
    fmts = ("F32", "BF16", "I32") if name != "reduce_window_sum" else FLOATS
    x = d.pick(*fmts, least=1, most=2)
    sizes, strides = [d.integer(1, 3) for _ in x.shape], [d.integer(1, 2) for _ in x.shape]
    edges = [(d.integer(0, s - 1), s - 1) for s in sizes]
    between = [d.integer(1, 2) if d.chance(0.2) else 1 for _ in x.shape]
    spans = [(s - 1) * b + 1 for s, b in zip(sizes, between, strict=True)]
    lengths = [n + low + high for n, (low, high) in zip(x.shape, edges, strict=True)]
    shape = [max(0, (n - span) // step + 1) for n, span, step in zip(lengths, spans, strides, strict=True)]
    if 0 in shape:
        return
    count, bound = prod(sizes), None
    if name == "reduce_window":
        x = d.within(x, 0.5, 1.5) if x.fmt in FLOATS else x
        first, combine = ("1.0" if x.fmt in FLOATS else "1"), "lax.mul"
    else:
        combine = {"sum": "lax.add", "max": "lax.max", "min": "lax.min"}[name[14:]]
        first = {"sum": "0.0", "max": "-jnp.inf", "min": "jnp.inf"}[name[14:]]
        if x.fmt == "I32":
            first = f"np.int32({-(2**31) if name[14:] == 'max' else 2**31 - 1})"
    if name == "reduce_window_sum":
        x = d.within(x, -MOST, MOST)

    def text(x: str) -> str:
        start = f"jnp.asarray({first}, {x_fmt})" if name == "reduce_window" else first
        return (f"lax.reduce_window({x}, {start}, {combine}, {tuple(sizes)}, {tuple(strides)}, {tuple(edges)}, "
                f"window_dilation={tuple(between)})")  # fmt: skip

    x_fmt = x.fmt
    if name == "reduce_window_sum":
        bound = _sum_bound(count, text(f"abs({x.name})"))
    elif name == "reduce_window" and x.fmt in FLOATS:
        bound = product_bound(d, count)
    most = {"reduce_window_sum": count * x.most, "reduce_window": max(1.0, x.most) ** count}.get(name, x.most)
    low, high = LIMITS["I32"] if x.fmt == "I32" else (-most, most)
    if name in ("reduce_window_max", "reduce_window_min") and x.fmt in FLOATS and any(map(any, edges)):
        low, high = min(low, -MOST), max(high, MOST)
    d.add(text(x.name), [x], shape, x.fmt, low, high, bound=bound)


@recipe("select_and_scatter_add")
def _pooled_back(d: Draft) -> None:
    """The gradient of a maximum of windows, none with NaN: that goes to the NaN here, to what comes after it in XLA."""
    x = d.pick("F32", least=2, most=2, test=lambda v: min(v.shape) >= 2)
    x = d.argument(x.shape, "F32", -2, 2) if d.wild else x
    sizes, step = (2, d.integer(1, 2)), (1, d.integer(1, 2))
    shape = [(n - s) // t + 1 for n, s, t in zip(x.shape, sizes, step, strict=True)]
    y = d.argument(shape, "F32")
    pool = f"lambda v: lax.reduce_window(v, -jnp.inf, lax.max, {sizes}, {step}, 'VALID')"

    def text(y: str) -> str:
        return f"jax.vjp({pool}, {x.name})[1]({y})[0]"

    bound = _sum_bound(prod(sizes), text(f"abs({y.name})"))
    d.add(text(y.name), [x, y], x.shape, "F32", -prod(sizes) * y.most, prod(sizes) * y.most, bound=bound)


@recipe("fft", "rfft", "ifft")
def _transform(d: Draft, name: str) -> None:
    """Of the last axis, or of the last two."""
    x = d.within(d.pick("F32", least=1, most=3), -MOST, MOST)
    axes = 2 if len(x.shape) > 1 and d.chance(0.5) else 1
    lengths, shape = x.shape[-axes:], x.shape
    operands, signal = [x], x.name
    if name != "rfft":
        y = d.within(d.like(x), -MOST, MOST)
        operands, signal = [x, y], f"lax.complex({x.name}, {y.name})"
        if d.chance(0.3):
            signal = f"jnp.conj({signal})"
    shape = (*shape[:-1], shape[-1] // 2 + 1) if name == "rfft" else shape
    text = f"(lambda z: (jnp.real(z), jnp.imag(z)))(jnp.fft.{name}{'2' if axes == 2 else ''}({signal}))"
    # Along each axis a product with one matrix of sines and cosines (of fewer than 64 points), each rounded once: n + 1
    # roundings on a way, and those of the sum of both parts, the constant, the scale. |cos| + |sin| is at most sqrt(2).
    total, points = " + ".join(f"abs({v.name})" for v in operands), prod(lengths)
    scale = f" / {points}" if name == "ifft" else ""
    most_of_sum = f"{sqrt(2) ** axes} * jnp.sum({total}, {tuple(range(-axes, 0))}, keepdims=True){scale}"
    bound = _sum_bound(sum(lengths) + 6 * axes, most_of_sum)
    most = sum(v.most for v in operands) * points
    d.add_all(text, operands, [(shape, "F32", -most, most)] * 2, bound)


@recipe("random_bits", "random_split", "random_fold_in", "random_seed", "random_clone", "uniform", "threefry2x32")
def _random(d: Draft, name: str) -> None:
    """Words of a key that was computed: all exact."""
    words = d.argument((2,), "U32", 0, 2**32 - 1)
    key, operands, limits = f"jax.random.wrap_key_data({words.name})", [words], LIMITS["U32"]
    shape, fmt = d.shape(1, 2), "U32"
    if name == "random_split":
        d.add(f"jax.random.key_data(jax.random.split({key}, {shape[0]}))", operands, (shape[0], 2), fmt, *limits)
        return
    if name == "threefry2x32":
        counts = d.pick("U32", least=1, most=1)
        text = f"jax.extend.random.threefry_2x32({words.name}, {counts.name})"
        d.add(text, [words, counts], counts.shape, fmt, *limits)
        return
    if name in ("random_fold_in", "random_seed"):
        number = d.argument((), "I32")
        of_key = name == "random_fold_in"
        key = f"jax.random.fold_in({key}, {number.name})" if of_key else f"jax.random.key({number.name})"
        operands = [*operands, number] if of_key else [number]
    key = f"jax.random.clone({key})" if name == "random_clone" else key
    if name == "uniform":
        d.add(f"jax.random.uniform({key}, {shape})", operands, shape, "F32", 0, 1)
        return
    d.add(f"jax.random.bits({key}, {shape})", operands, shape, fmt, *limits)
