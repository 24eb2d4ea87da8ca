"""Registries: append-only, in order, with near misses."""

import pytest

from rdujax.base.errors import ArgumentError, UnknownNameError
from rdujax.base.registry import Registry


@pytest.fixture
def colours() -> Registry[int]:
    registry: Registry[int] = Registry("colour", do="see the rainbow")
    for i, name in enumerate(("red", "green", "blue")):
        registry.add(name, i)
    return registry


def test_members_are_kept_in_order(colours):
    assert list(colours) == ["red", "green", "blue"] and len(colours) == 3
    assert list(colours.items()) == [("red", 0), ("green", 1), ("blue", 2)]
    assert colours["green"] == 1 and "green" in colours and "pink" not in colours and 3 not in colours


def test_the_decorator_returns_what_it_registers(colours):
    @colours.register("violet")
    def violet():
        return 7

    assert colours["violet"] is violet and violet() == 7


def test_a_second_member_of_one_name_is_refused(colours):
    with pytest.raises(ArgumentError, match="a second colour of the same name\n  given:   'red'"):
        colours.add("red", 9)
    assert colours["red"] == 0


def test_an_unknown_name_is_refused(colours):
    with pytest.raises(UnknownNameError, match="unknown colour\n  given:   'gren'(.|\n)*'green'\\?; see the rainbow"):
        colours["gren"]
