"""Collectives give the same bits, counts and gradients on one device, on eight, on fewer, and over two processes."""

import json
import os
import socket
import subprocess
import sys
from functools import cache

import pytest

from tests.oracles import collectives_on_devices as here
from tests.storeys.source import ROOT


def start(devices: int, *options: str) -> subprocess.Popen:
    """A process with that many devices of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.oracles.collectives_on_devices", *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def printed(process: subprocess.Popen) -> dict[str, dict[str, str]]:
    """What a process printed, by result and by number of socket; the process is ended if it hangs."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.splitlines()[-1])


@cache
def alone() -> dict[str, dict[str, str]]:
    """All sockets in the leading axis, in this process."""
    found = json.loads(json.dumps(here.on_devices(1)))
    assert all(list(map(int, each)) == list(range(here.SOCKETS)) for each in found.values())
    return found


@pytest.mark.parametrize("devices", [8, *(pytest.param(n, marks=pytest.mark.full) for n in (2, 4))])
def test_the_number_of_devices_changes_no_bit(devices: int):
    assert printed(start(devices, "--devices", str(devices))) == alone()


def test_two_processes_change_no_bit():
    """Four devices each; sums cross the border of the processes in both directions."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["--devices", "8", "--processes", "2", "--port", str(port)]
    processes = [start(4, *options, "--process", str(i)) for i in range(2)]
    try:
        found = [printed(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [len(each["chain"]) for each in found] == [4, 4]
    assert {name: found[0][name] | found[1][name] for name in found[0]} == alone()


def test_the_orders_differ_and_hashes_see_it():
    results = alone()
    assert len({results[name]["0"] for name in ("chain", "ring", "tree")}) == 3
    assert results["ring"]["0"] == results["ring"]["7"] and results["gathered"]["0"] == results["gathered"]["5"]
    assert len(set(results["part"].values())) == here.SOCKETS
