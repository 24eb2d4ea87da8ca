"""Facts: numbers with provenance, and records of them as pytrees."""

from fractions import Fraction

import jax
import jax.numpy as jnp
import pytest

from rdujax.base import facts
from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.base.facts import Fact, record


@record()
class Wheel:
    """For tests."""

    radius: Fact
    spokes: Fact


@record("name")
class Car:
    """For tests."""

    name: str
    speed: Fact
    wheel: Wheel


CAR = Car(
    "car",
    Fact(3.0, "bytes/s", "a sign", "stated"),
    Wheel(Fact(0.5, "1", "a rule", "derived"), Fact(8, "cells", "a guess", "assumed")),
)


def test_walk_names_every_fact_by_its_path():
    assert [(path, fact.value) for path, fact in facts.walk(CAR)] == [
        ("speed", 3.0),
        ("wheel.radius", 0.5),
        ("wheel.spokes", 8),
    ]


def test_records_are_frozen_pytrees_of_values():
    assert jax.tree.leaves(CAR) == [3.0, 0.5, 8]
    assert jax.tree.map(lambda x: x, CAR) == CAR
    with pytest.raises(AttributeError):
        CAR.speed = CAR.wheel.radius
    slope = jax.grad(lambda car: car.speed.value * car.wheel.radius.value)(jax.tree.map(jnp.float32, CAR))
    assert (slope.name, float(slope.speed.value), float(slope.wheel.radius.value)) == ("car", 0.5, 3.0)
    assert slope.wheel.radius.source == "a rule"


def test_an_override_is_marked_and_remembers():
    other = facts.override(CAR, "wheel.spokes", 9)
    assert other.wheel.spokes == Fact(9, "cells", "set by the user; was 8 (a guess)", "overridden")
    assert (CAR.wheel.spokes.value, other.wheel.radius, other.speed) == (8, CAR.wheel.radius, CAR.speed)
    again = facts.override(other, "wheel.spokes", 10)
    assert "was 9 (set by the user; was 8 (a guess))" in again.wheel.spokes.source


@pytest.mark.parametrize("path", ["wheel", "name", "spokes", "wheel.spoke", ""])
def test_a_path_that_names_no_fact_is_refused(path):
    with pytest.raises(UnknownNameError, match=f"unknown fact\n  given:   {path!r}"):
        facts.override(CAR, path, 1)


@pytest.mark.parametrize(
    ("value", "unit"),
    [
        (1, "cells"),
        (2**70, "bytes"),
        (0, "s"),
        (1e-9, "s"),
        (1, "1"),
        (1e-6, "1"),
        (Fraction(1, 3), "Hz"),
        (2.5, "bytes/s"),
    ],
)
def test_values_within_their_unit(value, unit):
    assert Fact(value, unit, "a source", "stated").value == value


@pytest.mark.parametrize(
    ("value", "unit", "allowed"),
    [
        (0, "cells", "a whole number, 1 or more"), (2.0, "bytes", "a whole number"), (True, "PCUs", "a whole number"),
        (-1, "s", "0 or more"), (0, "Hz", "greater than 0"), (float("inf"), "Hz", "a finite number"),
        (1.5, "1", "at most 1"), (0, "1", "greater than 0"), ("fast", "Hz", "a finite number"),
    ],
)  # fmt: skip
def test_values_outside_their_unit_are_refused(value, unit, allowed):
    with pytest.raises(
        ArgumentError,
        match=f"a fact that cannot be\n  given:   {value!r} {unit}\n  allowed: .*{allowed}(.|\n)*a source",
    ):
        Fact(value, unit, "a source", "stated")


def test_a_fact_needs_a_unit_a_source_and_a_confidence():
    with pytest.raises(ArgumentError, match="needs a unit and a source"):
        Fact(1, "", "a source", "stated")
    with pytest.raises(ArgumentError, match="needs a unit and a source"):
        Fact(1, "Hz", "", "stated")
    with pytest.raises(UnknownNameError, match="unknown confidence of a fact(.|\n)*did you mean 'stated'"):
        Fact(1, "Hz", "a source", "state")


def test_traced_values_are_not_looked_at():
    negative = jax.jit(lambda x: Fact(x, "Hz", "a source", "assumed").value)(jnp.float32(-1))
    assert float(negative) == -1
