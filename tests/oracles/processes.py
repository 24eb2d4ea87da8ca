"""Python modules as processes with as many devices as a test wants: that number is fixed when JAX starts."""

import json
import os
import socket
import subprocess
import sys
from typing import Any

from tests.storeys.source import ROOT


def start(module: str, devices: int, *options: str) -> subprocess.Popen:
    """A process that runs a module and has that many devices of its own."""
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", module, *options]
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def printed(process: subprocess.Popen) -> dict[str, Any]:
    """The JSON object in the last line that a process printed; the process is ended if it hangs."""
    try:
        out, err = process.communicate(timeout=240)
    finally:
        process.kill()
    assert process.returncode == 0, err[-2000:]
    return json.loads(out.splitlines()[-1])


def both(module: str, devices: int, *options: str) -> list[dict[str, Any]]:
    """What two processes print that work together, each with that many devices; they are told `--process`, `--port`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [start(module, devices, *options, "--port", str(port), "--process", str(i)) for i in range(2)]
    try:
        return [printed(process) for process in processes]
    finally:
        for process in processes:
            process.kill()
