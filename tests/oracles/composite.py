"""One composite of some sixty operations whose output bits are hashed: the membrane between the law and XLA.

`program` is written once, against a set of operations; it runs on the machine's numerics, in any of several ways and
under any XLA flags, and on the integer softfloat, which gives the hash that all of them must have. Inputs come from an
integer hash. Run as a module it prints one JSON object:

    python -m tests.oracles.composite --road jit
"""

import argparse
import hashlib
import json
from collections.abc import Callable
from types import SimpleNamespace

import numpy as np

ROADS = ("jit", "eager", "constants", "rows", "features")
TOKENS, WIDTH, HIDDEN, COUNT = 24, 40, 64, 512


def hashed(shape: tuple[int, ...], salt: int) -> np.ndarray:
    """uint32 words from an integer hash of the index."""
    word = np.arange(int(np.prod(shape)), dtype=np.uint64) + np.uint64(salt << 32 | 0x9E3779B9)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        word = (word ^ (word >> np.uint64(shift))) * np.uint64(factor)
    return ((word ^ (word >> np.uint64(31))) >> np.uint64(16)).astype(np.uint32).reshape(shape)


def ordinary(shape: tuple[int, ...], salt: int, *, low: int = 119, high: int = 128, bf16: bool = True) -> np.ndarray:
    """Patterns with exponent fields low..high-1; BF16 ones unless asked otherwise."""
    word, field = hashed(shape, salt), hashed(shape, salt + 1) % np.uint32(high - low) + np.uint32(low)
    pattern = (word & np.uint32(0x807FFFFF)) | field << np.uint32(23)
    return pattern & np.uint32(0xFFFF0000) if bf16 else pattern


def inputs() -> dict[str, np.ndarray]:
    """All inputs as uint32 patterns, uint16 words and int32 values; denormals and odd NaNs among the raw ones."""
    any_bits = hashed((COUNT,), 90)
    near = any_bits ^ np.uint32(0x80000000) ^ hashed((COUNT,), 91) % np.uint32(4)
    return {
        "x": ordinary((TOKENS, WIDTH), 10),
        **{f"w{name}": ordinary((WIDTH, WIDTH), 20 + i, low=117, high=125) for i, name in enumerate("qkv")},
        "gain": ordinary((1, WIDTH), 30, low=126),
        "gate": (ordinary((WIDTH, HIDDEN), 40, low=118, high=126) >> 16).astype(np.uint16),
        "up": ordinary((WIDTH, HIDDEN), 50, low=118, high=126),
        "down": ordinary((HIDDEN, WIDTH), 60, low=117, high=125),
        "bits": np.concatenate([any_bits, ordinary((COUNT,), 70, bf16=False)]),
        "other": np.concatenate([near, ordinary((COUNT,), 72, bf16=False)]),
        "third": np.concatenate([hashed((COUNT,), 92), ordinary((COUNT,), 74, bf16=False)]),
        "tiny": ordinary((2 * COUNT,), 80, low=58, high=70, bf16=False),
        "i": hashed((COUNT,), 93).view(np.int32),
        "j": (hashed((COUNT,), 94).view(np.int32) >> (hashed((COUNT,), 95) % np.uint32(32)).view(np.int32)),
        "noise": hashed((2 * COUNT,), 96),
    }


def program(o: SimpleNamespace, v: dict) -> list:
    """Attention, normalisation, MLP, adversarial element-wise chains, conversions, integers: a list of arrays."""
    return [*_layer(o, v), *_elementwise(o, v), *_integers(o, v)]


def _softmax(o, scores):
    top = o.tree_max(scores, 1)
    weights = o.bf16_exp(o.bf16(o.sub(scores, top[:, None])))
    share = o.div(o.one, o.tree_sum(weights, 1))
    return o.bf16(o.mul(weights, share[:, None]))


def _norm(o, x, gain):
    mean = o.mul(o.tree_sum(o.mul(x, x), 1), o.div(o.one, o.number(float(WIDTH))))
    scale = o.rsqrt(o.add(mean, o.number(1e-5)))
    return o.bf16(o.mul(o.bf16(o.mul(x, scale[:, None])), gain))


def _layer(o, v):
    normed = _norm(o, v["x"], v["gain"])
    q, k, values = (o.bf16(o.contract(normed, v[name])) for name in ("wq", "wk", "wv"))
    scores = o.div(o.contract(q, k.T), o.sqrt(o.number(float(WIDTH))))
    probabilities = _softmax(o, scores)
    mixed = o.bf16(o.contract_split(probabilities, values))
    hidden = o.bf16(o.add(v["x"], mixed))
    gated = o.bf16_silu(o.bf16(o.contract_words(hidden, v["gate"])))
    product = o.bf16(o.mul(gated, o.bf16(o.contract(hidden, v["up"]))))
    out = o.bf16(o.add(hidden, o.bf16(o.contract(product, v["down"]))))
    tail = o.contract_from(out[:, 20:], out.T[20:, :], o.contract(out[:, :20], out.T[:20, :]))
    return [normed, scores, probabilities, mixed, gated, out, tail, o.lane_sum(out, 0), o.tree_min(tail, 0)]


def _elementwise(o, v):
    x, y, z, tiny = v["bits"], v["other"], v["third"], v["tiny"]
    chain = o.add(o.mul(x, y), z)
    back = o.sub(o.add(x, y), y)
    quotients = o.div(o.div(x, y), x)
    constant = o.add(o.div(x, o.number(3.0)), o.mul(y, o.number(0.7)))
    flushed = o.mul(tiny, o.absolute(tiny))
    small = o.add(flushed, o.neg(o.mul(tiny, o.number(2.0**-63))))
    roots = o.div(o.absolute(y), o.sqrt(o.absolute(z)))
    picked = o.select(o.less(x, y), o.maximum(x, z), o.minimum(y, z))
    rounded = o.stochastic(o.add(picked, z), v["noise"])
    return [chain, back, quotients, constant, flushed, small, roots, picked, rounded, o.bf16_exp(o.bf16(z))]


def _integers(o, v):
    i, j = v["i"], v["j"]
    mixed = o.integer_add(o.integer_mul(i, j), o.shift_right(o.integer_div(i, j), o.integer_rem(j, i)))
    floats = o.from_int32(mixed)
    scaled = o.mul(floats, o.number(2.0**-3))
    return [mixed, floats, o.bf16(floats), o.to_int32(scaled), o.to_int32(o.mul(floats, o.number(3.5)))]


def digest(outputs: list[np.ndarray]) -> str:
    """sha256 of shapes, dtypes and bits."""
    state = hashlib.sha256()
    for output in outputs:
        array = np.ascontiguousarray(output)
        array = array.view(np.uint32) if array.dtype.kind in "fi" else array
        state.update(f"{array.shape}{array.dtype}".encode() + array.astype("<u4").tobytes())
    return state.hexdigest()


def oracle_operations() -> SimpleNamespace:
    """The operations on uint32 patterns, by the integer softfloat and (exp, silu) MPFR."""
    from tests.oracles import mpfr
    from tests.oracles import softfloat as sf

    def lane_sum(x, axis):
        lanes = [sf.chain(list(lane)) for lane in x.reshape(-1, 8, *x.shape[1:]).swapaxes(0, 1)]
        return sf.tree_sum(np.stack(lanes), axis=axis)

    def contract_split(a, b):
        size = -(-a.shape[-1] // 3)
        return sf.contract(a, b, segments=(size, size, a.shape[-1] - 2 * size))

    return SimpleNamespace(
        **{name: getattr(sf, name) for name in ("add", "sub", "mul", "div", "sqrt", "rsqrt", "neg", "absolute")},
        **{name: getattr(sf, name) for name in ("maximum", "minimum", "select", "less", "from_int32", "to_int32")},
        **{name: getattr(sf, name) for name in ("contract", "tree_sum", "tree_max", "tree_min")},
        one=np.uint32(sf.ONE),
        number=lambda value: np.float32(value).view(np.uint32),
        bf16=sf.to_bf16,
        bf16_exp=mpfr.bf16_exp,
        bf16_silu=mpfr.bf16_silu,
        stochastic=sf.to_bf16_stochastic,
        contract_words=lambda a, words: sf.contract(a, words.astype(np.uint32) << 16),
        contract_split=contract_split,
        contract_from=lambda a, b, acc: sf.contract(a, b, acc=acc),
        lane_sum=lane_sum,
        integer_add=lambda x, y: sf.wrap(x.astype(np.int64) + y),
        integer_mul=lambda x, y: (x.view(np.uint32) * y.view(np.uint32)).view(np.int32),
        integer_div=sf.integer_div,
        integer_rem=sf.integer_rem,
        shift_right=sf.shift_right_arithmetic,
    )


def oracle_digest() -> str:
    """The hash that the law demands."""
    return digest(program(oracle_operations(), inputs()))


def machine_operations() -> SimpleNamespace:
    """The same operations by rdujax."""
    import jax.numpy as jnp

    from rdujax.numerics import arithmetic, contract, convert, functions, integer, reduce
    from rdujax.numerics.formats import BF16, FP32, INT32

    names = ("add", "sub", "mul", "div", "sqrt", "rsqrt", "neg", "absolute", "maximum", "minimum", "select", "less")
    return SimpleNamespace(
        **{name: getattr(arithmetic, name) for name in names},
        **{name: getattr(reduce, name) for name in ("tree_sum", "tree_max", "tree_min")},
        one=jnp.float32(1.0),
        number=jnp.float32,
        bf16=lambda x: convert.round_to(x, BF16),
        bf16_exp=lambda x: functions.apply("exp", BF16, x),
        bf16_silu=lambda x: functions.apply("silu", BF16, x),
        stochastic=convert.round_stochastic,
        from_int32=lambda x: convert.convert(x, INT32, FP32),
        to_int32=lambda x: convert.convert(x, FP32, INT32),
        contract=contract.contract,
        contract_words=contract.contract,
        contract_split=lambda a, b: contract.contract(a, b, k_splits=3),
        contract_from=lambda a, b, acc: contract.contract(a, b, acc=acc),
        lane_sum=lambda x, axis: reduce.lane_sum(x, axis, lanes=8),
        integer_add=integer.add,
        integer_mul=integer.mul,
        integer_div=integer.div,
        integer_rem=integer.rem,
        shift_right=integer.shift_right_arithmetic,
    )


def special_functions(o: SimpleNamespace, v: dict) -> list:
    """The FP32 special functions on ordinary and on arbitrary values; their oracle is another test's matter."""
    from rdujax.numerics import functions
    from rdujax.numerics.formats import FP32

    names = "exp exp2 expm1 log log1p sigmoid tanh silu gelu erf erfc sin cos".split()
    x = o.select(o.less(o.absolute(v["third"]), o.number(float("inf"))), v["third"], v["other"])
    return [functions.apply(name, FP32, o.add(x, o.number(0.0))) for name in names]


def _placed(values: dict, road: str) -> dict:
    """Operands over all devices, by rows or by features, where an axis divides into them."""
    import jax
    from jax.sharding import NamedSharding, PartitionSpec

    mesh = jax.make_mesh((jax.device_count(),), ("d",), axis_types=(jax.sharding.AxisType.Auto,))
    placed = {}
    for name, value in values.items():
        axis = 0 if road == "rows" else value.ndim - 1
        divides = value.shape[axis] % jax.device_count() == 0
        names = tuple("d" if divides and i == axis else None for i in range(value.ndim))
        placed[name] = jax.device_put(value, NamedSharding(mesh, PartitionSpec(*names)))
    return placed


def machine_digests(road: str) -> dict[str, str]:
    """The hashes of the program and of the special functions, run on the machine's numerics."""
    import jax
    import jax.numpy as jnp

    values = {k: v.view(np.float32) if v.dtype == np.uint32 and k != "noise" else v for k, v in inputs().items()}

    def run(part: Callable) -> str:
        def on(v: dict) -> list:
            return part(machine_operations(), v)

        if road == "constants":
            outputs = jax.jit(lambda: on({k: jnp.asarray(v) for k, v in values.items()}))()
        elif road == "eager":
            outputs = on({k: jnp.asarray(v) for k, v in values.items()})
        else:
            outputs = jax.jit(on)(values if road == "jit" else _placed(values, road))
        return digest([np.asarray(output) for output in outputs])

    return {"law": run(program), "special": run(special_functions)}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--road", choices=ROADS, default="jit")
    print(json.dumps(machine_digests(parser.parse_args().road)))
