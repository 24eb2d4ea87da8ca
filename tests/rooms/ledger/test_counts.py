"""Counts: an algebra over declared names, predicted exactly or tallied while executing."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, ShapeError, UnknownNameError
from rdujax.base.registry import Registry
from rdujax.ledger import counts as counts_file
from rdujax.ledger.counts import Counts, declare, total

TURNS, MACS = "pcu.turns", "pcu.macs"
LARGEST = 2**31 - 1


@pytest.fixture(autouse=True)
def two_counters(monkeypatch):
    monkeypatch.setattr(counts_file, "COUNTERS", Registry("counter"))
    assert declare(TURNS, unit="turn", doc="one pass of a tile") == TURNS
    declare(MACS, unit="MAC", doc="one multiplication with its addition")


def test_the_algebra():
    a, b = Counts({TURNS: 3}), Counts({TURNS: 2, MACS: 10**15})
    assert a + b == b + a == Counts({TURNS: 5, MACS: 10**15})
    assert a + Counts() == Counts() + a == a
    assert (a + b) + b == a + (b + b)
    assert b * 3 == 3 * b == b + b + b == sum([b] * 3, Counts())
    assert b * 0 == Counts() == Counts({TURNS: 0})
    assert a != b
    assert (a + b)[MACS] == 10**15 and a[MACS] == 0 and MACS not in a
    assert hash(Counts({TURNS: 3, MACS: 0})) == hash(a)
    assert a != {TURNS: 3}


def test_counts_do_not_change_and_can_be_copied():
    counts = Counts({TURNS: 3})
    with pytest.raises(TypeError):
        counts[TURNS] = 4
    assert pickle.loads(pickle.dumps(counts)) == copy.deepcopy(counts) == counts


def test_undeclared_names_are_refused_with_the_near_miss():
    for use in (lambda: Counts({"pcu.turn": 1}), lambda: Counts()["pcu.turn"]):
        with pytest.raises(UnknownNameError, match="unknown counter(.|\n)*did you mean 'pcu.turns'"):
            use()


@pytest.mark.parametrize("name", ["turns", "PCU.turns", "pcu.", "pcu turns", ""])
def test_malformed_names_are_refused(name):
    with pytest.raises(ArgumentError, match="malformed counter name"):
        declare(name, unit="turn", doc="x")


def test_a_counter_has_a_unit_a_doc_and_one_declaration():
    with pytest.raises(ArgumentError, match="a unit and a doc"):
        declare("pcu.other", unit=" ", doc="x")
    with pytest.raises(ArgumentError, match="a second counter of the same name"):
        declare(TURNS, unit="turn", doc="x")


def test_negative_amounts_are_refused():
    with pytest.raises(ArgumentError, match="a negative count\n  given:   -1\n(.|\n)*counter pcu.turns"):
        Counts({TURNS: -1})


@pytest.mark.parametrize("amount", [1.0, True, "1", np.float32(1), jnp.float32(1), np.int64([1]), jnp.uint32(1)])
def test_amounts_are_ints_or_int32_arrays(amount):
    with pytest.raises(FormatError, match="a count is a whole number"):
        Counts({TURNS: amount})


@pytest.mark.parametrize("turns", [-1, 1.5, True, None])
def test_a_loop_turns_a_whole_number_of_times(turns):
    with pytest.raises(ArgumentError, match="whole number of times"):
        Counts({TURNS: 1}) * turns


def test_a_tally_of_a_scan_equals_the_prediction_beyond_int32():
    per_step = Counts({TURNS: 1, MACS: LARGEST})

    def step(carry, x):
        seen = Counts({TURNS: jnp.sum((x >= 0).astype(jnp.int32)), MACS: jnp.int32(LARGEST)})
        return carry, seen

    _, tallied = jax.jit(lambda xs: jax.lax.scan(step, 0, xs))(jnp.arange(1000.0))
    assert tallied[MACS].shape == (1000,)
    assert total(tallied) == per_step * 1000
    assert total(tallied)[MACS] == 1000 * LARGEST
    assert total(total(tallied)) == total(tallied)


def test_a_tally_in_a_carry_keeps_its_structure():
    start = Counts({TURNS: jnp.int32(0)})
    end, _ = jax.lax.scan(lambda c, _: (c + Counts({TURNS: 2}), None), start, length=7)
    assert jax.tree.structure(end) == jax.tree.structure(start)
    assert total(end) == Counts({TURNS: 14})


def test_a_tally_under_vmap_is_folded():
    tallied = jax.vmap(lambda n: Counts({TURNS: n}) + Counts({TURNS: n}))(jnp.arange(5))
    assert total(tallied) == Counts({TURNS: 20})


def test_names_are_static_and_amounts_are_leaves():
    counts = Counts({TURNS: 3, MACS: 4})
    assert jax.tree.leaves(counts) == [4, 3]  # sorted by name, whatever the order they were given in
    assert jax.tree.map(lambda n: n + 1, counts) == Counts({MACS: 5, TURNS: 4})
    assert jax.eval_shape(lambda: counts)[MACS].shape == ()
    [(path, _), _] = jax.tree_util.tree_leaves_with_path(counts)
    assert jax.tree_util.keystr(path) == "['pcu.macs']"


def test_tallies_of_different_steps_are_not_added_step_by_step():
    stacked = Counts({TURNS: jnp.array([4, 4])})
    assert stacked + Counts() == stacked
    assert total(stacked + stacked) == Counts({TURNS: 16})
    for other in (Counts({TURNS: 1}), Counts({TURNS: jnp.int32(1)}), Counts({TURNS: jnp.array([1, 1, 1])})):
        with pytest.raises(ShapeError, match="total\\(\\) first"):
            stacked + other


def test_a_tally_that_passes_int32_is_refused_and_one_below_is_not():
    add = jax.jit(lambda a, b, c: Counts({MACS: a}) + Counts({MACS: b}) + Counts({MACS: c}))
    full = add(jnp.int32(LARGEST - 2), jnp.int32(1), jnp.int32(1))
    assert total(full)[MACS] == LARGEST
    one_more = add(jnp.int32(LARGEST), jnp.int32(1), jnp.int32(LARGEST))  # wraps twice: positive again, but caught
    with pytest.raises(ArgumentError, match="passed the largest int32\n  given:   1 of 1 steps"):
        total(one_more)


def test_a_tally_times_turns_is_checked_too():
    tally = Counts({TURNS: jnp.array([0, 3], jnp.int32)})
    assert total(tally * (LARGEST // 3))[TURNS] == LARGEST // 3 * 3
    assert total(tally * 0) == Counts()
    for turns in (LARGEST // 3 + 1, 2**40):
        with pytest.raises(ArgumentError, match="1 of 2 steps"):
            total(tally * turns)
    assert total(Counts({TURNS: jnp.int32(0)}) * 2**40) == Counts()


def test_a_prediction_too_large_for_a_tally_is_refused():
    tally = Counts({MACS: jnp.int32(1)})
    with pytest.raises(ArgumentError, match="2,147,483,648"):
        tally + Counts({MACS: LARGEST + 1})
    assert total(total(tally) + Counts({MACS: LARGEST + 1}))[MACS] == LARGEST + 2


def test_an_empty_loop_counts_nothing():
    assert total(Counts({TURNS: jnp.zeros((0,), jnp.int32)})) == Counts()


@pytest.mark.parametrize("use", [total, lambda c: c == c])
def test_traced_amounts_are_not_looked_at(use):
    with pytest.raises(ConcretenessError, match="counter pcu.turns"):
        jax.jit(lambda n: use(Counts({TURNS: n})) and n)(jnp.int32(1))


def test_the_printed_form():
    counts = Counts({TURNS: 12, MACS: 1234567})
    assert repr(counts) == "Counts:\n  pcu.macs   1,234,567 MAC\n  pcu.turns         12 turn"
    assert repr(Counts()) == "Counts: nothing"
    assert "int32[4] turn" in repr(Counts({TURNS: jnp.zeros(4, jnp.int32)}))
