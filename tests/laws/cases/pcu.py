"""Work for a PCU: body, lanes, tail, counters, header and forks, each against softfloat or plain loops."""

from collections.abc import Callable
from itertools import product
from typing import Any

import jax.numpy as jnp
import numpy as np

from rdujax.ledger.counts import Counts
from rdujax.machines import tiny
from rdujax.numerics.formats import BF16, FP32, INT32
from rdujax.streams import stream as streams
from rdujax.streams.layout import tiled, whole
from rdujax.units.pcu import counters, header, lanes, tail
from rdujax.units.pcu.contraction import Contraction
from rdujax.units.pcu.counters import Counter, Nest
from rdujax.units.pcu.expression import Expression, Instruction
from rdujax.units.pcu.lanes import Reducer
from rdujax.units.pcu.parallel import Split, data_parallel
from rdujax.units.pcu.simd import simd
from rdujax.units.pcu.systolic import systolic
from rdujax.units.pcu.tail import Tail
from tests.laws.cases.case import Case
from tests.oracles import softfloat
from tests.oracles import threefry_reference as threefry
from tests.rooms.units.streams_of import carriers


def bits(x: np.ndarray) -> np.ndarray:
    """The FP32 patterns of carriers."""
    return x.view(np.uint32)


def cases(rng: np.random.Generator) -> list[Case]:
    """One small piece of work for each part of the unit."""
    makers: tuple[Callable[[np.random.Generator], Case], ...] = (
        contraction, element_wise, bit_wise, row_sums, stochastic_rounding, random_words, loop_nest, held_operand,
        dealt_tiles,
    )  # fmt: skip
    return [make(rng) for make in makers]


def contraction(rng: np.random.Generator) -> Case:
    """Sums over k in increasing order."""
    a, b = carriers(rng, (5, 7), BF16), carriers(rng, (7, 3), BF16)

    def run(x: Any, y: Any) -> tuple[Any, Counts]:
        left, right = streams.tile(x, (2, 4), fmt=BF16), streams.tile(y, (4, 3), fmt=BF16)
        result, counts = systolic(Contraction((1,), (0,)), left, right, tiled((5, 3), (2, 3)), FP32, "vmap")
        return streams.untile(result), counts

    predicted = Counts({"pcu.macs": 105, "pmu.read_bytes": 2 * (35 + 3 * 21)})
    return Case("contraction", run, (a, b), softfloat.contract(bits(a), bits(b)), predicted)


def element_wise(rng: np.random.Generator) -> Case:
    """x * y + x in BF16, each result rounded."""
    x, y = carriers(rng, (4, 6), BF16), carriers(rng, (4, 6), BF16)
    expression = Expression((BF16, BF16), (Instruction("mul", BF16, (0, 1)), Instruction("add", BF16, (2, 0))))

    def run(*operands: Any) -> tuple[Any, Counts]:
        result, counts = simd(expression, *(streams.tile(v, (3, 6), fmt=BF16) for v in operands), how="scan")
        return streams.untile(result), counts

    product_ = softfloat.to_bf16(softfloat.mul(bits(x), bits(y)))
    expected = softfloat.to_bf16(softfloat.add(product_, bits(x)))
    return Case("element-wise", run, (x, y), expected, Counts({"pcu.simd_operations": 48, "pmu.read_bytes": 96}))


def bit_wise(rng: np.random.Generator) -> Case:
    """(x and y) xor not x, INT32."""
    x, y = carriers(rng, (9,), INT32), carriers(rng, (9,), INT32)
    steps = (Instruction("and", INT32, (0, 1)), Instruction("not", INT32, (0,)), Instruction("xor", INT32, (2, 3)))

    def run(*operands: Any) -> tuple[Any, Counts]:
        result, counts = simd(Expression((INT32, INT32), steps), *(streams.tile(v, fmt=INT32) for v in operands))
        return streams.untile(result), counts

    return Case("bit-wise", run, (x, y), (x & y) ^ ~x, Counts({"pcu.simd_operations": 27, "pmu.read_bytes": 72}))


def row_sums(rng: np.random.Generator) -> Case:
    """Four lanes in time, then the tree."""
    x = carriers(rng, (3, 10), FP32)

    def run(v: Any) -> tuple[Any, Counts]:
        result, counts = lanes.reduce_rows(Reducer("sum", 4), streams.tile(v, (2, 8), fmt=FP32), how="vmap")
        return streams.untile(result), counts

    each = [softfloat.chain(list(bits(x)[:, lane::4].T)) for lane in range(4)]
    expected = softfloat.add(softfloat.add(each[0], each[2]), softfloat.add(each[1], each[3]))
    return Case("row sums", run, (x,), expected, Counts({"pcu.lane_reductions": 27, "pmu.read_bytes": 120}))


def stochastic_rounding(rng: np.random.Generator) -> Case:
    """Rounded with the words of a seed."""
    x = carriers(rng, (5, 4), FP32)

    def run(v: Any) -> tuple[Any, Counts]:
        config, stream = Tail(BF16, rounding="stochastic"), streams.tile(v, (2, 3), (1, 0), fmt=FP32)
        _, result, counts = tail.tail(config, tail.generator(77), stream, "vmap")
        return streams.untile(result), counts

    expected = softfloat.to_bf16_stochastic(bits(x), threefry.of_elements(77, 0, x.shape) & 0xFFFF)
    return Case("stochastic rounding", run, (x,), expected, Counts({"pcu.tail_operations": 20, "pcu.random_words": 20}))


def random_words(rng: np.random.Generator) -> Case:
    """Words of two draws of a generator that is an argument."""
    seed = int(rng.integers(0, 2**63))
    key = np.array([seed & 0xFFFFFFFF, seed >> 32], np.uint32)

    def run(k: Any) -> tuple[Any, Counts]:
        state = tail.Generator(k, jnp.zeros((), jnp.uint32))
        state, first, counts = tail.draw(state, whole((6,)))
        state, second, more = tail.draw(state, whole((6,)))
        return (streams.untile(first), streams.untile(second), state.draw), counts + more

    words = tuple(threefry.of_elements(seed, draw, (6,)).view(np.int32) for draw in (0, 1))
    return Case("random words", run, (key,), (*words, np.uint32(2)), Counts({"pcu.random_words": 12}))


def loop_nest(rng: np.random.Generator) -> Case:
    """Two counters, the inner stop a scalar that arrives; idle after the end."""
    stop = int(rng.integers(2, 5))
    nest = Nest((Counter(3, 0, -1), Counter(0, None)))

    def run(scalar: Any) -> tuple[Any, Counts]:
        turns, counts = counters.run(nest, 15, [scalar])
        return (turns.indices[: 3 * stop], turns.done), counts

    indices = np.array(list(product((3, 2, 1), range(stop))), np.int32)
    done = np.zeros((15, 2), bool)
    done[stop - 1 : 3 * stop : stop, 1] = True
    done[3 * stop - 1, 0] = True
    predicted = Counts({"pcu.turns": 3 * stop, "pcu.events": 4})
    return Case("loop nest", run, (np.int32(stop),), (indices, done), predicted)


def held_operand(rng: np.random.Generator) -> Case:
    """An operand loaded once and shown to every row."""
    x = carriers(rng, (4,), BF16)

    def run(v: Any) -> tuple[Any, Counts]:
        state, counts = header.load(header.init(tiny().pcu, (4,), BF16), v)
        return streams.untile(header.multicast(state, tiled((3, 4), (2, 4)))), counts

    return Case("held operand", run, (x,), bits(np.stack([x] * 3)), Counts({"pcu.header_bytes": 8}))


def dealt_tiles(rng: np.random.Generator) -> Case:
    """Tiles dealt over two PCUs, each of which squares its share."""
    x = carriers(rng, (8, 3), FP32)
    square = Expression((FP32,), (Instruction("square", FP32, (0,)),))

    def run(v: Any) -> tuple[Any, Counts]:
        stream = streams.tile(v, (2, 3), fmt=FP32)
        result, (first, second) = data_parallel(lambda s: simd(square, s, how="vmap"), Split(0, 2, dealt=True), stream)
        return streams.untile(result), first + second

    predicted = Counts({"pcu.simd_operations": 24, "pmu.read_bytes": 96})
    return Case("dealt tiles", run, (x,), softfloat.mul(bits(x), bits(x)), predicted)
