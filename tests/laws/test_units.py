"""The family of units: bits, counts and prices that every one of them must keep, and a file that reads like the others.

Each unit brings its cases in `cases/<unit>.py`; a unit without them fails here.
"""

import doctest
import re
import sys
from collections.abc import Iterator
from dataclasses import fields
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from rdujax.base import facts
from rdujax.ledger.counts import COUNTERS, Counts, total
from rdujax.machines.machine import MACHINES, Machine
from rdujax.units.unit import UNITS, Unit
from tests.laws.cases import agcu, d2d, host_link, memory, p2p, pcu, pmu, rdn, tln
from tests.laws.cases.case import Case
from tests.oracles.harness import assert_same_bits

CASES = {
    "pcu": pcu, "pmu": pmu, "rdn": rdn, "agcu": agcu, "tln": tln, "d2d": d2d, "p2p": p2p, "host_link": host_link,
    "memory": memory,
}  # fmt: skip
PRESETS = {name: make() for name, make in MACHINES.items()}
SECTIONS = ("What it is", "The law", "Modelled", "Not modelled", "Sources")
each_unit = pytest.mark.parametrize("unit", [unit for _, unit in UNITS.items()], ids=lambda unit: unit.name)
each_machine = pytest.mark.parametrize("machine", PRESETS.values(), ids=lambda machine: machine.name)


def cases_of(unit: Unit) -> list[Case]:
    """The cases that a unit brings, always the same."""
    return CASES[unit.name].cases(np.random.default_rng(5))


def module_of(unit: Unit) -> Any:
    """The file that a unit is registered in."""
    return sys.modules[unit.price.__module__]


def configs_of(machine: Machine, unit: Unit) -> Iterator[tuple[str, Any]]:
    """The records of facts in a machine that are of a unit's kind, with their paths."""
    for field in fields(machine):
        if type(getattr(machine, field.name)) is unit.config:
            yield field.name, getattr(machine, field.name)


def test_the_units_of_the_die_are_all_there():
    assert set(UNITS) == set(CASES)


@each_unit
def test_a_unit_is_a_file_of_its_name_and_has_facts_in_every_machine(unit):
    module = module_of(unit)
    assert UNITS[unit.name] is module.UNIT and module.Config is unit.config
    assert module.__name__.rpartition(".")[2] == unit.name
    assert unit.counters and set(unit.counters) <= set(COUNTERS)
    assert all(list(configs_of(machine, unit)) for machine in PRESETS.values())


@each_unit
def test_the_head_of_a_unit_has_its_sections_in_their_order(unit):
    head = module_of(unit).__doc__ or ""
    places = [re.search(rf"^{section}\s", head, re.MULTILINE) for section in SECTIONS]
    assert all(places), [section for section, place in zip(SECTIONS, places, strict=True) if not place]
    assert all(a.start() < b.start() for a, b in pairwise(places))
    assert re.search(r"^ {8,}\S.*(>|-->|\[|\|)", head, re.MULTILINE), "no text sketch"


@each_unit
def test_the_examples_of_a_unit_run(unit):
    module = module_of(unit)
    finder, runner = doctest.DocTestFinder(exclude_empty=True), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    tried = sum(runner.run(example).attempted for example in finder.find(module, module.__name__))
    assert tried > 0, "no example"
    assert runner.summarize(verbose=False).failed == 0


HOWS = {
    "eager": lambda run, args: run(*args),
    "jit": lambda run, args: jax.jit(run)(*args),
    "constants": lambda run, args: jax.jit(lambda: run(*args))(),
}


@pytest.mark.parametrize("how", ["eager", "jit", pytest.param("constants", marks=pytest.mark.full)])
@each_unit
def test_bits_and_counts_are_those_of_the_reference(unit, how):
    for case in cases_of(unit):
        value, counts = HOWS[how](case.run, tuple(map(jnp.asarray, case.args)))
        jax.tree.map(lambda got, want: assert_same_bits(got, want, note=case.name), value, case.expected)  # noqa: B023
        assert total(counts) == case.predicted, case.name


@pytest.mark.parametrize("how", ["vmap", pytest.param("scan", marks=pytest.mark.full)])
@each_unit
def test_bits_and_counts_are_the_same_for_many_at_once(unit, how):
    for case in cases_of(unit):
        twice = tuple(jnp.stack([jnp.asarray(x)] * 2) for x in case.args)
        if not twice:
            continue
        over = jax.vmap(case.run) if how == "vmap" else lambda *xs: jax.lax.map(lambda x: case.run(*x), xs)  # noqa: B023
        values, counts = jax.jit(over)(*twice)
        for i in range(2):
            at = jax.tree.map(lambda x: x[i], values)  # noqa: B023
            jax.tree.map(lambda got, want: assert_same_bits(got, want, note=case.name), at, case.expected)  # noqa: B023
        assert total(counts) == case.predicted * 2, case.name


def random_counts(rng: np.random.Generator, unit: Unit) -> Counts:
    """Amounts from nothing to terabytes."""
    return Counts({name: int(10 ** rng.uniform(0, 13)) * int(rng.random() < 0.8) for name in unit.counters})


@each_machine
@each_unit
def test_no_work_is_free_and_more_work_never_cheaper(unit, machine, rng):
    clock = machine.clock_hz.value
    for _, config in configs_of(machine, unit):
        assert unit.price(config, Counts(), clock) == 0
        for _ in range(20):
            a, b = random_counts(rng, unit), random_counts(rng, unit)
            one, other, both = (unit.price(config, each, clock) for each in (a, b, a + b))
            assert {type(x) for x in (one, other, both)} == {int}
            assert max(one, other) <= both <= one + other
            assert unit.price(config, a * 3, clock) <= 3 * one


@each_machine
@each_unit
def test_each_counter_costs_something(unit, machine):
    clock = machine.clock_hz.value
    for _, config in configs_of(machine, unit):
        priced = {name for name in unit.counters if unit.price(config, Counts({name: 10**15}), clock)}
        assert priced, "nothing that is counted costs anything"
        free = set(unit.counters) - priced
        assert all("free" in COUNTERS[name].doc for name in free), f"free without saying so: {sorted(free)}"


@each_machine
@each_unit
def test_prices_are_differentiable_in_the_facts(unit, machine):
    clock = float(machine.clock_hz.value)
    counts = Counts({name: 10**9 for name in unit.counters})
    for _, config in configs_of(machine, unit):
        relaxed = jax.tree.map(jnp.float32, config)
        value, slope = jax.value_and_grad(lambda c: unit.price(c, counts, clock))(relaxed)  # noqa: B023
        assert value == pytest.approx(unit.price(config, counts, int(clock)), rel=1e-4)
        slopes = [float(fact.value) for _, fact in facts.walk(slope)]
        assert np.isfinite(slopes).all() and any(slopes)
