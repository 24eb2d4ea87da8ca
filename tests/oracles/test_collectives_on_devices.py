"""Collectives give the same bits, counts and gradients on one device, on eight, on fewer, and over two processes."""

import json
from functools import cache

import pytest

from tests.oracles import collectives_on_devices as here
from tests.oracles.processes import printed, printed_by_all, start


@cache
def alone() -> dict[str, dict[str, str]]:
    """All sockets in the leading axis, in this process."""
    found = json.loads(json.dumps(here.on_devices(1)))
    assert all(list(map(int, each)) == list(range(here.SOCKETS)) for each in found.values())
    return found


@pytest.mark.parametrize("devices", [8, *(pytest.param(n, marks=pytest.mark.full) for n in (2, 4))])
def test_the_number_of_devices_changes_no_bit(devices: int):
    assert printed(start(here.__name__, devices, "--devices", str(devices))) == alone()


def test_two_processes_change_no_bit():
    """Four devices each; sums cross the border of the processes in both directions."""
    found = printed_by_all(here.__name__, 2, 4, "--devices", "8")
    assert [len(each["chain"]) for each in found] == [4, 4]
    assert {name: found[0][name] | found[1][name] for name in found[0]} == alone()


def test_the_orders_differ_and_hashes_see_it():
    results = alone()
    assert len({results[name]["0"] for name in ("chain", "ring", "tree")}) == 3
    assert results["ring"]["0"] == results["ring"]["7"] and results["gathered"]["0"] == results["gathered"]["5"]
    assert len(set(results["part"].values())) == here.SOCKETS
