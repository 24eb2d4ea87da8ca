"""PMU, banks: which bank a word lies in, and how many cycles single ports need for the accesses of one cycle.

What it is     The SRAM array of a PMU: single-ported banks, which together take one vector in and give one out per
               cycle; software sets which address bits choose the bank (MICRO 2024, IV-B and VII).

                   word address  [ ... b b ... b b ]   bank = the chosen bits, each perhaps xor another bit
                                       |       |
                   one access per bank and cycle --> [bank 0] [bank 1] ... [bank n-1]

The law        A bank word is 2 x port / banks bytes wide, so that half of the banks serve a whole vector.
               cycles of a vector = the largest number of different words that it asks of one bank; lanes that want
               the same word share one access. A read and a write of one cycle never share one.
               conflict cycles = cycles - 1.
Modelled       bank bits, mixed bits (diagonal striping without arithmetic), conflicts within and between streams.
Not modelled   queues before the banks, which would spread conflicts over time.
Sources        MICRO 2024, IV-B; number of banks and the width of a word are assumptions of the machine.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, describe
from rdujax.numerics import integer
from rdujax.units import pmu

Access = tuple[jax.Array, jax.Array]


@dataclass(frozen=True)
class Geometry:
    """The SRAM of one PMU: banks, bytes of one bank word, words in all, words of one vector."""

    banks: int
    word_bytes: int
    words: int
    vector_words: int

    @property
    def bank_bits(self) -> int:
        """Bits that choose a bank."""
        return self.banks.bit_length() - 1

    @property
    def word_bits(self) -> int:
        """Bits of a word address."""
        return (self.words - 1).bit_length()


def geometry(config: pmu.Config) -> Geometry:
    """The banks of a PMU. Raises ArgumentError for facts that bits of an address cannot tell apart.

    >>> from rdujax.machines import sn40l
    >>> geometry(sn40l().pmu)
    Geometry(banks=16, word_bytes=8, words=65536, vector_words=8)
    """
    banks, port = int(config.banks.value), int(config.port_bytes_per_cycle.value)
    word_bytes, rest = divmod(2 * port, banks)
    words, odd = divmod(int(config.capacity_bytes.value), max(word_bytes, 1))
    if rest or odd or word_bytes < 4 or words % banks or any(n & (n - 1) for n in (banks, word_bytes)) or banks < 2:
        raise ArgumentError(
            describe(
                "a PMU whose banks cannot be told apart by address bits",
                given=f"{banks} banks, ports of {port} bytes/cycle, {config.capacity_bytes.value:,} bytes",
                allowed="2, 4, 8 ... banks of words of 2 x port / banks = 4, 8, 16 ... bytes, equally many in each",
                where="pmu.banks, pmu.port_bytes_per_cycle, pmu.capacity_bytes",
            )
        )
    return Geometry(banks, word_bytes, words, banks // 2)


@dataclass(frozen=True)
class Banking:
    """Bit i of the bank is bit `bits[i]` of the word address, xor bit `mixed[i]` where there is one."""

    bits: tuple[int, ...]
    mixed: tuple[int, ...] = ()

    def __str__(self) -> str:
        mixed = [f"^{bit}" for bit in self.mixed] + [""] * len(self.bits)
        return "bank bits " + " ".join(f"{bit}{also}" for bit, also in zip(self.bits, mixed, strict=False))


def interleaved(of: Geometry) -> Banking:
    """Neighbouring words in neighbouring banks: the lowest bits."""
    return Banking(tuple(range(of.bank_bits)))


def halves(of: Geometry, size_words: int) -> Banking:
    """The halves [0, size) and [size, 2 size) of a double buffer in different banks, each interleaved.

    Raises ArgumentError unless `size_words` is a power of two of at least one vector, and both halves fit.
    """
    bit = size_words.bit_length() - 1
    if size_words != 1 << bit or size_words < of.vector_words or 2 * size_words > of.words:
        raise ArgumentError(
            describe("a half that one address bit does not choose", given=f"{size_words} words",
                     allowed=f"a power of two, {of.vector_words} to {of.words // 2} words",
                     do="round the size of a slot up to a power of two")
        )  # fmt: skip
    return Banking((*range(of.bank_bits - 1), bit))


def check(of: Geometry, banking: Banking) -> None:
    """Refuses bank bits that are not in the address or would put two words into one place, by ArgumentError."""
    bits, mixed = banking.bits, banking.mixed
    inside = all(0 <= bit < of.word_bits for bit in (*bits, *mixed))
    if len(bits) != of.bank_bits or len(set(bits)) < len(bits) or len(mixed) > len(bits) or not inside:
        fits = False
    else:
        fits = not set(bits) & set(mixed)
    if not fits:
        raise ArgumentError(
            describe("bank bits that do not choose a bank", given=str(banking),
                     allowed=f"{of.bank_bits} different bits of {of.word_bits}, mixed with at most as many others",
                     where="PMU, bank bits")
        )  # fmt: skip


def bank_of(banking: Banking, words: jax.Array) -> jax.Array:
    """int32: the bank of each word address, of the same shape."""
    bank = jnp.zeros_like(words)
    for i, bit in enumerate(banking.bits):
        chosen = integer.shift_right_logical(words, bit)
        if i < len(banking.mixed):
            chosen = integer.bit_xor(chosen, integer.shift_right_logical(words, banking.mixed[i]))
        bank = integer.bit_or(bank, integer.shift_left(integer.bit_and(chosen, 1), i))
    return bank


def bank_cycles(banking: Banking, *accesses: Access) -> jax.Array:
    """int32 [...]: cycles that the banks take for the accesses of each turn; 0 where no lane is valid.

    accesses: for each stream the word addresses, int32 [..., lanes], and which lanes are valid, bool [..., lanes].
    """
    return jnp.max(sum(_accesses(banking, words, valid) for words, valid in accesses), axis=-1)  # not emulated: a tally


def _accesses(banking: Banking, words: jax.Array, valid: jax.Array) -> jax.Array:
    """int32 [..., banks]: different words that the valid lanes ask of each bank."""
    never = np.int32(-1)  # no word has a negative address: the lanes that ask for nothing come first
    asked = jnp.sort(jnp.where(valid, words, never), axis=-1)  # not emulated: addresses
    before = jnp.concatenate([jnp.full_like(asked[..., :1], never), asked[..., :-1]], axis=-1)
    which = jnp.where(asked != before, bank_of(banking, asked), never)
    banks = jnp.arange(1 << len(banking.bits), dtype=jnp.int32)
    return jnp.sum(which[..., None] == banks.reshape((1,) * which.ndim + (-1,)), axis=-2, dtype=jnp.int32)


def predicted_cycles(banking: Banking, *accesses: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    """`bank_cycles` on the host for addresses that are known before the program runs: int64 [n] for [n, lanes]."""
    count = 1 << len(banking.bits)
    hits = np.zeros((len(accesses[0][0]), count), np.int64)
    for words, valid in accesses:
        turn, _ = np.nonzero(valid)
        wanted = np.unique(np.stack([turn, words[valid]], axis=1).astype(np.int64), axis=0)
        bank = np.zeros(len(wanted), np.int64)
        for i, bit in enumerate(banking.bits):
            flips = (wanted[:, 1] >> banking.mixed[i]) & 1 if i < len(banking.mixed) else 0
            bank |= (((wanted[:, 1] >> bit) & 1) ^ flips) << i
        np.add.at(hits, (wanted[:, 0], bank), 1)
    return hits.max(axis=1)
