"""Ten thousand requests from 32 clients, some of which behave badly.

None is lost, none gets another's answer, and the memory of the server does not grow.
"""

import gc
import json
import random
import socket
import threading
import time
from collections import Counter
from http.client import HTTPConnection
from pathlib import Path

import pytest

from experts.data.splits import DOMAINS
from rdujax.coe.nodes import Options
from rdujax.serve.app import Service
from tests.rooms.serve.conftest import Make, listening

CLIENTS = 32
HEAD = "POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n"


def fields_of(rng: random.Random) -> dict:
    """One of few requests, so that the answer of each is known."""
    return {"model": f"samba-coe/{rng.choice(DOMAINS)}", "prompt": "one two", "max_tokens": 6, "temperature": 1.0,
            "seed": rng.randrange(3)}  # fmt: skip


class Client(threading.Thread):
    """Asks so many times. Every so often it leaves early, or asks for what there is not."""

    def __init__(self, number: int, port: int, requests: int, known: dict[str, str]):
        super().__init__()
        self.rng, self.port, self.requests, self.known = random.Random(number), port, requests, known
        self.found: Counter[str] = Counter()

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self.port, timeout=120)
        for _ in range(self.requests):
            body, kind = json.dumps(fields_of(self.rng)), self.rng.random()
            if kind < 0.02:
                self.leaves(body.encode())
            elif kind < 0.04:
                self.found[f"bad {self.ask(connection, body[:-1])[0]}"] += 1
            else:
                status, text = self.ask(connection, body)
                while status == 429:
                    self.found["again"] += 1
                    time.sleep(0.05 * self.rng.random())
                    status, text = self.ask(connection, body)
                is_right = status == 200 and json.loads(text)["choices"][0]["text"] == self.known[body]
                self.found["right" if is_right else f"wrong {status}"] += 1
        connection.close()

    def ask(self, connection: HTTPConnection, body: str) -> tuple[int, bytes]:
        connection.request("POST", "/v1/completions", body, {"content-type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read()

    def leaves(self, body: bytes) -> None:
        with socket.create_connection(("127.0.0.1", self.port), timeout=120) as connection:
            connection.sendall(HEAD.format(len(body)).encode() + body)
        self.found["left"] += 1


def resident_bytes() -> int:
    gc.collect()
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) * 1024


def soaked(port: int, requests: int, known: dict[str, str], first: int) -> Counter[str]:
    clients = [Client(first + number, port, requests // CLIENTS, known) for number in range(CLIENTS)]
    for each in clients:
        each.start()
    for each in clients:
        each.join(1200)
    return sum((each.found for each in clients), Counter())


@pytest.mark.parametrize("requests", [320, pytest.param(10_240, marks=pytest.mark.full)])
def test_no_request_is_lost_and_memory_does_not_grow(make: Make, requests: int):
    service = Service(make(most=24, options=Options(batch=4, grouped=True)), DOMAINS)
    with listening(service) as port:
        connection, known = HTTPConnection("127.0.0.1", port, timeout=120), dict[str, str]()
        one = Client(0, port, 0, {})
        for domain in DOMAINS:
            for seed in range(3):
                body = json.dumps(fields_of(random.Random(0)) | {"model": f"samba-coe/{domain}", "seed": seed})
                known[body] = json.loads(one.ask(connection, body)[1])["choices"][0]["text"]
        connection.close()
        soaked(port, requests // 4, known, 1000)  # allocators and pools have their size now
        before = resident_bytes()
        found = soaked(port, requests, known, 0)
        grown = resident_bytes() - before
        service.engine.between(lambda: None).result(60)
        assert service.engine.waiting == 0
    lost = requests - found["right"] - found["left"] - found["bad 400"]
    assert lost == 0 and not [kind for kind in found if kind.startswith("wrong")], found
    assert found["left"] and found["bad 400"]
    assert grown < 40e6, f"{grown / 1e6:.1f} MB"
