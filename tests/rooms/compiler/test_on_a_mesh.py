"""A program gives the same bits however its arguments are laid out over devices (law L1)."""

from tests.oracles.processes import printed, start


def test_eight_devices_give_the_bits_of_one():
    found = printed(start("tests.rooms.compiler.on_a_mesh", 8))
    assert len(found) == 12 and set(found.values()) == {0}, found
