"""`./scripts/serve` as a process: it serves, ends in good order, survives a kill, and refuses what it cannot do."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import openai
import pytest

from rdujax.coe.store import PREFIX

COMMAND = [sys.executable, "-m", "rdujax.cli.command", "serve"]


def environment(scratch: Path) -> dict[str, str]:
    users = {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}
    return os.environ | users | {"TMPDIR": str(scratch)}


@contextmanager
def serving(scratch: Path, *options: str) -> Iterator[tuple[subprocess.Popen, int]]:
    """The process and its port."""
    command = [*COMMAND, "--port", "0", "--experts", "8", *options]
    with subprocess.Popen(command, env=environment(scratch), stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := re.search(r"serving on http://127\.0\.0\.1:(\d+)", line):
                    yield process, int(found[1])
                    break
            else:
                pytest.fail("it ended before it served")
        finally:
            process.kill()


def homes(scratch: Path) -> list[Path]:
    return list(scratch.glob(f"{PREFIX}*"))


def client(port: int) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"http://127.0.0.1:{port}/v1", api_key="none", max_retries=0)


def test_it_answers_and_ends_when_what_is_asked_is_answered(tmp_path: Path):
    with serving(tmp_path) as (process, port):
        talk = client(port).chat.completions.create(
            model="samba-coe", messages=[{"role": "user", "content": "What is 17 times 23?"}], stream=True
        )
        pieces = []
        for chunk in talk:
            pieces.append(chunk.choices[0].delta.content or "")
            if len(pieces) == 4:
                process.send_signal(signal.SIGTERM)
        assert "".join(pieces).endswith("=391") and process.wait(60) == 0
    assert homes(tmp_path) == []


def test_after_a_kill_it_serves_again_and_clears_up(tmp_path: Path):
    with serving(tmp_path) as (process, port):
        client(port).completions.create(model="samba-coe/roman", prompt="Write 1994 as a Roman numeral.")
        [left] = homes(tmp_path)
        process.kill()
        process.wait(60)
    assert homes(tmp_path) == [left]
    with serving(tmp_path) as (process, port):
        found = client(port).completions.create(model="samba-coe/roman", prompt="Write 1994 as a Roman numeral.")
        assert found.choices[0].text == "MCMXCIV" and left not in homes(tmp_path)
        foreign = http.client.HTTPConnection("127.0.0.1", port)
        foreign.request("GET", "/health", headers={"host": "elsewhere.example"})
        assert foreign.getresponse().status == 400, "a name that somebody else resolves to this machine"
        foreign.close()
        connection = http.client.HTTPConnection("127.0.0.1", port)
        connection.request("GET", "/v1/experts")
        state = json.load(connection.getresponse())
        assert state["node"] == "sn40l-node" and len(state["resident"]) == 8
        connection.close()
        with socket.socket() as other:
            other.settimeout(0.5)
            assert other.connect_ex(("127.0.0.2", port)) != 0, "it listens where it was told to, and nowhere else"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--models", "/nowhere"], "nowhere"),
        (["--experts", "3"], "8 or more"),
        (["--pin", "nobody"], "nobody"),
        (["--timeout", "0"], "--timeout"),
        (["--node", "abacus"], "invalid choice"),
    ],
)
def test_what_cannot_be_served_is_refused(tmp_path: Path, options: list[str], message: str):
    found = subprocess.run([*COMMAND, *options], env=environment(tmp_path), capture_output=True, text=True, timeout=120)
    assert found.returncode == 2 and message in found.stderr and "Traceback" not in found.stderr
    assert homes(tmp_path) == []
