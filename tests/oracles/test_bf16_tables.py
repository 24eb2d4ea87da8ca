"""The BF16 tables: every word of every table against MPFR, and the look-up in every mode."""

import jax
import numpy as np
import pytest

from rdujax.base.errors import FormatError, UnknownNameError
from rdujax.numerics import tables
from rdujax.numerics.special import SPECIAL
from tests.oracles import special_reference
from tests.oracles.harness import MODES, patterns, raw

NAMES = list(tables.EXACT)
ALL_WORDS = np.arange(1 << 16, dtype=np.uint32)
EVERY_BF16 = raw(ALL_WORDS << 16)
UNARY_MODES = [mode for mode in MODES if mode not in ("first_constant", "last_constant", "odd_lengths")]


def test_every_function_has_a_table_and_every_table_a_function():
    assert set(NAMES) == set(SPECIAL) == set(special_reference.REAL)


@pytest.mark.parametrize("name", NAMES)
def test_every_word_is_correctly_rounded(name: str):
    want = special_reference.bf16_words(name, EVERY_BF16)
    wrong = np.flatnonzero(tables.words(name) != want)
    assert wrong.size == 0, [(hex(i), hex(tables.words(name)[i]), hex(want[i])) for i in wrong[:5]]


@pytest.mark.parametrize("mode", UNARY_MODES)
def test_look_up_gives_the_word_in_every_mode(mode: str):
    """Denormals, signalling NaNs and NaNs of either sign included: the index is simply the upper half."""
    for name in ("silu", "log") if mode == "without_jit" else NAMES:
        got = patterns(MODES[mode](SPECIAL[name].bf16, EVERY_BF16))
        np.testing.assert_array_equal(got, tables.words(name).astype(np.uint32) << 16, err_msg=name)


def test_odd_lengths_and_shapes():
    whole = patterns(SPECIAL["gelu"].bf16(EVERY_BF16))
    for length in range(1, 34):
        np.testing.assert_array_equal(patterns(SPECIAL["gelu"].bf16(EVERY_BF16[:length])), whole[:length])
    assert SPECIAL["gelu"].bf16(EVERY_BF16.reshape(2, 128, 256)).shape == (2, 128, 256)
    assert SPECIAL["gelu"].bf16(EVERY_BF16[5]).shape == ()


def test_rounding_of_float64_is_one_rounding():
    """Values whose detour over float32 would round the wrong way, the flush after rounding, and the overflow."""
    one_bit = 2.0**-7
    cases = {
        1.0 + one_bit / 2 + 2.0**-40: 0x3F81,  # float32 would drop the last bit and tie to even
        1.0 + one_bit / 2: 0x3F80,
        1.0 + 3 * one_bit / 2: 0x3F82,
        -(1.0 + one_bit / 2 + 2.0**-40): 0xBF81,
        2.0**-126 * (1 - 2.0**-9): 0x0080,  # a tie that rounds up to the smallest normal number
        2.0**-126 * (1 - 2.0**-9 - 2.0**-40): 0x0000,
        -(2.0**-126) * (1 - 2.0**-8): 0x8000,
        2.0**127 * (2 - 2.0**-8): 0x7F80,
        2.0**127 * (2 - 2.0**-8 - 2.0**-40): 0x7F7F,
        5e-324: 0x0000,
        -0.0: 0x8000,
        np.inf: 0x7F80,
    }
    got = tables.round_to_words(np.array(list(cases)))
    np.testing.assert_array_equal(got, np.array(list(cases.values()), np.uint16))
    negative_nan = np.array([0xFFF8000000000001], np.uint64).view(np.float64)
    assert tables.round_to_words(negative_nan)[0] == 0x7FC0


def test_tables_are_read_only_and_shared():
    table = tables.words("exp")
    assert table is tables.words("exp") and table.dtype == np.uint16 and not table.flags.writeable


def test_bad_input_is_named():
    with pytest.raises(UnknownNameError, match="did you mean 'sigmoid'"):
        tables.words("sigmod")
    with pytest.raises(FormatError, match="silu"):
        SPECIAL["silu"].bf16(jax.numpy.zeros(3, "bfloat16"))
