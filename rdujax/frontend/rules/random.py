"""Random numbers by keys: Threefry-2x32-20, the default of `jax.random`, on UINT32 words in the tails of PCUs.

A key is two words, carried as two values of the keys' shape; moves act on both alike. Every word of `jax.random` is a
function of a key and a counter, the place of the word in its array (row-major), and so it is here, bit by bit:

    bits       first word ^ second word of threefry(key; 0, place)
    split      both words of threefry(key; 0, place)
    fold_in    both words of threefry(key; 0, data)
    seed       the words (0, seed)

That is JAX's partitionable form, its default. Both words of a new key are computed one apart from the other.
"""

from collections.abc import Callable
from dataclasses import replace
from math import prod
from typing import Any

import jax
import numpy as np

from rdujax.base.errors import FormatError, describe
from rdujax.base.registry import Registry
from rdujax.frontend.builder import Builder
from rdujax.frontend.rule import RULES, Key, Operand, Site, rule
from rdujax.frontend.rules.complexes import MOVES
from rdujax.frontend.rules.elementwise import converted, instruction
from rdujax.numerics.formats import UINT32
from rdujax.ops.concat import Concat
from rdujax.ops.map import Map
from rdujax.ops.move import Move
from rdujax.streams.access import Broadcast, Reshape, Slice
from rdujax.units.pcu.expression import IMMEDIATE, Expression, Instruction

Rule = Callable[[Site], tuple[Operand, ...]]
KEY_RULES: Registry[Rule] = Registry("rule for keys of random numbers")
THREEFRY = "key<fry>"


def is_key(dtype: Any) -> bool:
    """Whether a dtype is that of random keys, of any kind."""
    return jax.numpy.issubdtype(dtype, jax.dtypes.prng_key)


def concerns(site: Site) -> bool:
    """Whether an equation reads or makes keys."""
    return any(isinstance(o, Key) for o in site.operands) or any(is_key(r.dtype) for r in site.results)


def apply(site: Site) -> tuple[Operand, ...]:
    """The results of an equation on keys; UnsupportedError for a primitive that has no form for them."""
    for result in site.results:
        check_kind(result.dtype, site.source)
    if site.primitive not in KEY_RULES:
        raise site.unsupported(
            f"no rule for random keys (there are: {', '.join(sorted(KEY_RULES))})",
            "work on jax.random.key_data(key), uint32 words",
        )
    return KEY_RULES[site.primitive](site)


def check_kind(dtype: Any, where: str) -> None:
    """Raises FormatError for keys of another generator than Threefry."""
    if is_key(dtype) and str(dtype) != THREEFRY:
        raise FormatError(
            describe("keys of another generator", given=dtype, allowed=THREEFRY, where=where,
                     do='make them with jax.random.key(seed, impl="threefry2x32")')
        )  # fmt: skip


def from_words(builder: Builder, words: int, scope: str = "", source: str = "") -> Key:
    """Keys [*shape] of UINT32 [*shape, 2]."""
    shape = builder.types[words].shape[:-1]

    def part(i: int) -> int:
        one = Slice((0,) * len(shape) + (i,), (*shape, i + 1), (1,) * (len(shape) + 1))
        taken = builder.add(Move(one), (words,), scope=scope, source=source)
        return builder.add(Move(Reshape(shape)), (taken,), scope=scope, source=source)

    return Key(part(0), part(1))


def to_words(builder: Builder, key: Key, scope: str = "", source: str = "") -> int:
    """UINT32 [*shape, 2] of keys [*shape]."""
    shape = builder.types[key.first].shape
    access = Move(Reshape((*shape, 1)))
    parts = [builder.add(access, (part,), scope=scope, source=source) for part in (key.first, key.second)]
    return builder.add(Concat(len(shape)), parts, scope=scope, source=source)


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def wrap(function: Rule) -> Rule:
        for name in names:
            KEY_RULES.add(name, function)
        return function

    return wrap


@_rule(*MOVES)
def _move(site: Site) -> tuple[Operand, ...]:
    results = tuple(jax.ShapeDtypeStruct(r.shape, np.dtype(np.uint32)) if is_key(r.dtype) else r for r in site.results)
    halves = []
    for part in ("first", "second"):
        operands = tuple(getattr(o, part) if isinstance(o, Key) else o for o in site.operands)
        halves.append(RULES[site.primitive](replace(site, operands=operands, results=results)))
    return tuple(Key(first, second) for first, second in zip(*halves, strict=True))


@_rule("empty", "empty2")
def _undefined(site: Site) -> tuple[Operand, ...]:
    word = site.builder.constant(np.zeros(site.results[0].shape, np.uint32), "0")
    return (Key(word, word),)


@_rule("random_wrap")
def _wrap(site: Site) -> tuple[Operand, ...]:
    return (from_words(site.builder, site.value(0), scope=site.scope, source=site.source),)


@_rule("random_unwrap")
def _unwrap(site: Site) -> tuple[Operand, ...]:
    return (to_words(site.builder, _key(site), scope=site.scope, source=site.source),)


@_rule("random_clone")
def _clone(site: Site) -> tuple[Operand, ...]:
    return (_key(site),)


@_rule("random_seed")
def _seed(site: Site) -> tuple[Operand, ...]:
    seed = converted(site, site.value(0), UINT32)
    return (Key(site.builder.constant(np.zeros(site.results[0].shape, np.uint32), "0"), seed),)


@_rule("random_fold_in")
def _fold_in(site: Site) -> tuple[Operand, ...]:
    shape, data = tuple(site.results[0].shape), converted(site, site.value(1), UINT32)
    key = _key(site)
    spread = [_spread(site, v, shape, 0) for v in (key.first, key.second, data)]
    return (_both_words(site, *spread),)


@_rule("random_split")
def _split(site: Site) -> tuple[Operand, ...]:
    return (_both_words(site, *_keys_and_places(site)),)


@_rule("random_bits")
def _bits(site: Site) -> tuple[Operand, ...]:
    if site.parameters["bit_width"] != 32:
        raise site.unsupported(
            f"words of {site.parameters['bit_width']} bits", "draw in float32, uint32 or int32, and convert"
        )
    return (_words(site, "random_bits", *_keys_and_places(site)),)


@rule("threefry2x32")
def _threefry(site: Site) -> tuple[int, ...]:
    order = (0, 1, 2, 3)
    return instruction(site, "random_first", order), instruction(site, "random_second", order)


def _key(site: Site) -> Key:
    key = site.operands[0]
    assert isinstance(key, Key)
    return key


def _keys_and_places(site: Site) -> tuple[int, int, int]:
    """Both words of the keys and the places of the results, each in the shape of the results."""
    if not jax.config.jax_threefry_partitionable:  # pyright: ignore[reportAttributeAccessIssue]
        raise site.unsupported(
            "words in the order that is not partitionable", 'use jax.config.update("jax_threefry_partitionable", True)'
        )
    key, inner = _key(site), tuple(site.parameters["shape"])
    outer = site.builder.types[key.first].shape
    shape = outer + inner
    if prod(inner) >= 2**32:
        raise site.unsupported(f"{prod(inner)} words of one key", "split the key")
    first, second = (_spread(site, v, shape, 0) for v in (key.first, key.second))
    return first, second, _places(site, shape, len(outer))


def _places(site: Site, shape: tuple[int, ...], first: int) -> int:
    """UINT32 [*shape]: the place of each element among the axes from `first` on, row-major."""
    total = None
    for axis in range(first, len(shape)):
        stride = prod(shape[axis + 1 :])
        line = (np.arange(shape[axis], dtype=np.uint64) * stride).astype(np.uint32)  # not emulated: a constant
        spread = _spread(site, site.builder.constant(line, f"places{shape[axis]}x{stride}"), shape, axis)
        add = Expression((UINT32, UINT32), (Instruction("add", UINT32, (0, 1)),))
        total = spread if total is None else site.add(Map(add), total, spread)
    if total is None:
        total = _spread(site, site.builder.constant(np.zeros((), np.uint32), "0"), shape, 0)
    return total


def _spread(site: Site, value: int, shape: tuple[int, ...], first: int) -> int:
    """The value along the axes of `shape` from `first` on, again and again along the others."""
    source = site.builder.types[value].shape
    if source == shape:
        return value
    return site.add(Move(Broadcast(shape, tuple(range(first, first + len(source))))), value)


def _words(site: Site, function: str, *operands: int) -> int:
    """One function of (key, key, counter), the upper word of the counter being 0."""
    steps = (Instruction(IMMEDIATE, UINT32, (), 0), Instruction(function, UINT32, (0, 1, 3, 2)))
    return site.add(Map(Expression((UINT32,) * 3, steps)), *operands)


def _both_words(site: Site, *operands: int) -> Key:
    return Key(_words(site, "random_first", *operands), _words(site, "random_second", *operands))
