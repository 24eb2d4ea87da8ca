"""A program gives the same bits however its arguments are laid out over devices (law L1)."""

import json
import os
import subprocess
import sys

from tests.storeys.source import ROOT


def test_eight_devices_give_the_bits_of_one():
    flags = "--xla_force_host_platform_device_count=8"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "tests.rooms.compiler.on_a_mesh"]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    assert len(found) == 12 and set(found.values()) == {0}, found
