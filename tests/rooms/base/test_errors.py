"""Errors: one shape of message, and the built-in exception that a caller would expect."""

import pytest

from rdujax.base import errors
from rdujax.base.errors import RduError, UnknownNameError, describe, unknown

BUILT_IN = {
    "ShapeError": ValueError,
    "FormatError": TypeError,
    "ArgumentError": ValueError,
    "UnknownNameError": LookupError,
    "UnsupportedError": NotImplementedError,
    "CapacityError": ValueError,
    "ConcretenessError": TypeError,
}


def test_every_error_is_also_the_built_in_one():
    classes = {
        name: each for name, each in vars(errors).items() if isinstance(each, type) and issubclass(each, RduError)
    }
    assert set(classes) - {"RduError"} == set(BUILT_IN)
    for name, built_in in BUILT_IN.items():
        with pytest.raises(built_in, match="text") as caught:
            raise classes[name]("text")
        assert isinstance(caught.value, RduError)


def test_a_message_says_what_is_known_and_nothing_else():
    assert describe("wrong") == "wrong"
    assert describe("wrong", given=0, allowed="1 or 2", where="x", do="pass 1") == (
        "wrong\n  given:   0\n  allowed: 1 or 2\n  where:   x\n  do:      pass 1"
    )
    assert describe("wrong", given=None, where="") == "wrong"
    assert describe("wrong", given=()) == "wrong\n  given:   ()"


def test_an_unknown_name_comes_with_the_near_miss():
    error = unknown("tier", "hbn", ["host", "hbm", "ddr"], where="here", do="look")
    assert isinstance(error, UnknownNameError)
    assert str(error) == (
        "unknown tier\n  given:   'hbn'\n  allowed: 'ddr', 'hbm', 'host'\n  where:   here\n"
        "  do:      did you mean 'hbm'?; look"
    )
    assert "did you mean" not in str(unknown("tier", "sram", ["hbm", "ddr"]))
    assert "nothing is registered" in str(unknown("tier", "hbm", []))
    assert "given:   7" in str(unknown("tier", 7, ["hbm"]))
