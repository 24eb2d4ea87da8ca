"""Processes with devices of their own: how many there are is fixed when JAX starts."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Sequence
from typing import Any

from tests.storeys.source import ROOT


def start(module: str, devices: int, *options: str) -> subprocess.Popen[str]:
    """`python -m module options` with that many devices."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def printed(process: subprocess.Popen[str]) -> Any:
    """What a process printed last, as JSON; the process is ended if it hangs."""
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.splitlines()[-1])


def printed_by_all(module: str, processes: int, devices: int, *options: str) -> Sequence[Any]:
    """What each of several processes printed that work together, with so many devices each.

    They are told `--processes`, their own number by `--process`, and by `--port` where the first of them listens.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    together = ["--processes", str(processes), "--port", str(port)]
    started = [start(module, devices, *options, *together, "--process", str(i)) for i in range(processes)]
    try:
        return [printed(process) for process in started]
    finally:
        for process in started:
            process.kill()
