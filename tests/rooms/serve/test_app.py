"""The server as its clients see it: OpenAI's own client, and sockets that behave badly."""

import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.client import HTTPConnection
from typing import Any

import openai
import pytest
from prometheus_client.parser import text_string_to_metric_families

from experts.data.splits import DOMAINS
from rdujax.coe.nodes import Options
from rdujax.serve import protocol
from rdujax.serve.app import Limits, Service
from tests.rooms.serve.conftest import Make, listening, wait_for


@dataclass
class Running:
    """A server that runs, and ways to ask it."""

    service: Service
    port: int

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://127.0.0.1:{self.port}/v1", api_key="none", max_retries=0)

    def raw(self, method: str, path: str, body: bytes | None = None, kind: str = "application/json"):
        """(status, headers, body)."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, body, {"content-type": kind} if body is not None else {})
        response = connection.getresponse()
        found = response.status, dict(response.getheaders()), response.read()
        connection.close()
        return found

    def asked(self, **fields: Any) -> tuple[int, dict]:
        status, _, body = self.raw("POST", "/v1/completions", json.dumps(fields).encode())
        return status, json.loads(body)

    def idle(self) -> None:
        """Waits until nothing is worked on."""
        self.service.engine.between(lambda: None).result(60)


@pytest.fixture
def running(make: Make) -> Iterator[Running]:
    service = Service(make(most=4), DOMAINS, Limits(body_bytes=4000, body_s=0.5, answer_s=30))
    with listening(service) as port:
        yield Running(service, port)


ASK = {"model": "samba-coe/math", "prompt": "one two", "max_tokens": 8, "temperature": 1.0}
TALK: Any = {"model": "samba-coe/math", "max_tokens": 8, "temperature": 1.0,
             "messages": [{"role": "user", "content": "one two"}]}  # fmt: skip


def test_openais_client_lists_models_and_gets_answers(running: Running):
    client = running.client
    assert [each.id for each in client.models.list()] == ["samba-coe", *(f"samba-coe/{each}" for each in DOMAINS)]
    text = client.completions.create(**ASK)
    talk = client.chat.completions.create(**TALK)
    assert text.choices[0].text == talk.choices[0].message.content != ""
    assert text.usage is not None and text.usage.completion_tokens == 8 and text.choices[0].finish_reason == "length"
    told = [(each.model_extra or {})["rdujax"] for each in (text, talk)]
    assert [each["cache"] for each in told] == ["miss", "hit"] and told[0]["expert"] == "math"
    parts = ("queue_ms", "route_ms", "turn_ms", "switch_ms", "prefill_ms", "decode_ms")
    for each in told:
        assert sum(each[part] for part in parts) == pytest.approx(each["latency_ms"], rel=1e-12)
    assert told[0]["switch_ms"] == 4 and told[1]["switch_ms"] == 0


def test_streams_are_the_same_in_pieces(running: Running):
    client = running.client
    whole = client.chat.completions.create(**TALK)
    chunks = list(client.chat.completions.create(**TALK, stream=True, stream_options={"include_usage": True}))
    pieces = [each.choices[0].delta.content for each in chunks if each.choices]
    assert "".join(filter(None, pieces)) == whole.choices[0].message.content
    assert chunks[-1].usage == whole.usage and chunks[-2].choices[0].finish_reason == "length"
    assert (chunks[-2].model_extra or {})["rdujax"]["expert"] == "math"
    texts = [each.choices[0].text for each in client.completions.create(**ASK, stream=True)]
    assert "".join(texts) == whole.choices[0].message.content


def test_the_router_is_asked_and_says_how_sure_it_is(running: Running):
    found = running.client.completions.create(model="samba-coe", prompt=["one", "two three"], max_tokens=4)
    assert [each.index for each in found.choices] == [0, 1]
    for choice in found.choices:
        told = (choice.model_extra or {})["rdujax"]
        assert told["top"][0] == [told["expert"] or "other", told["router_confidence"]] and told["route_ms"] == 2


def test_a_conversation_says_what_of_it_was_not_read(running: Running):
    talk = TALK | {"messages": [{"role": "system", "content": "be short"}, *TALK["messages"]]}
    found = running.client.chat.completions.create(**talk)
    assert (found.model_extra or {})["rdujax"]["messages_not_read"] == 1
    assert found.choices[0].message.content == running.client.chat.completions.create(**TALK).choices[0].message.content


@pytest.mark.parametrize(
    ("changed", "status", "code", "param"),
    [
        ({"model": "gpt-4"}, 404, "model_not_found", "model"),
        ({"model": "samba-coe/other"}, 404, "model_not_found", "model"),
        ({"model": None}, 400, "invalid_value", "model"),
        ({"prompt": []}, 400, "invalid_value", "prompt"),
        ({"prompt": [1, 2]}, 400, "invalid_value", "prompt"),
        ({"prompt": "x y " * 300}, 400, "context_length_exceeded", "prompt"),
        ({"max_tokens": 1000}, 400, "context_length_exceeded", "max_tokens"),
        ({"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        ({"max_tokens": True}, 400, "invalid_value", "max_tokens"),
        ({"max_tokens": "8"}, 400, "invalid_value", "max_tokens"),
        ({"temperature": -1}, 400, "invalid_value", "temperature"),
        ({"temperature": 1e999}, 400, "invalid_value", "temperature"),
        ({"top_p": 0}, 400, "invalid_value", "top_p"),
        ({"seed": -1}, 400, "invalid_value", "seed"),
        ({"stop": ""}, 400, "invalid_value", "stop"),
        ({"stop": ["a"] * 5}, 400, "invalid_value", "stop"),
        ({"n": 2}, 400, "invalid_value", "n"),
        ({"echo": True}, 400, "invalid_value", "echo"),
        ({"logprobs": 1}, 400, "invalid_value", "logprobs"),
        ({"presence_penalty": 0.5}, 400, "invalid_value", "presence_penalty"),
        ({"best": 1}, 400, "invalid_value", "best"),
        ({"n": True}, 400, "invalid_value", "n"),
        ({"store": True}, 400, "invalid_value", "store"),
        ({"prompt": ["one"] * 5}, 400, "too_many_prompts", ""),
    ],
)
def test_what_cannot_be_done_is_refused_by_name(running: Running, changed: dict, status: int, code: str, param: str):
    found, body = running.asked(**ASK | changed)
    error = body["error"]
    assert (found, error["code"]) == (status, code) and (error["param"] or "").partition(".")[0] == param
    assert error["type"] == "invalid_request_error" and len(error["message"]) > 10


def test_parameters_that_ask_for_nothing_are_accepted(running: Running):
    nothing = {"n": 1, "echo": False, "logprobs": None, "best_of": 1, "suffix": None, "presence_penalty": 0,
               "frequency_penalty": 0.0, "logit_bias": {}, "user": "me", "stop": None, "stream": False}  # fmt: skip
    assert running.asked(**ASK | nothing)[0] == 200


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (b'{"model": "samba-coe", "prompt": "\xed\xa0\x80"}', "application/json", 400),
        (b"[" * 3000, "application/json", 400),
        (b" " * 4001, "application/json", 413),
        (b"{}", "text/plain", 415),
        (b"{}", "application/x-www-form-urlencoded", 415),
    ],
)
def test_bodies_that_are_none(running: Running, body: bytes, kind: str, status: int):
    for path in ("/v1/completions", "/v1/chat/completions"):
        found, _, text = running.raw("POST", path, body, kind)
        assert found == status and json.loads(text)["error"]["message"]
    assert running.asked(**ASK)[0] == 200


def test_messages_that_are_none(running: Running):
    for messages in ([], [{"role": "assistant", "content": "hi"}], [{"role": "king", "content": "hi"}],
                     [{"role": "user"}], [{"role": "user", "content": [{"type": "image_url"}]}]):  # fmt: skip
        with pytest.raises(openai.BadRequestError):
            running.client.chat.completions.create(**TALK | {"messages": messages})
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    found = running.client.chat.completions.create(**TALK | {"messages": [{"role": "user", "content": parts}]})
    assert found.choices[0].message.content == running.client.chat.completions.create(**TALK).choices[0].message.content


def test_a_conversation_that_asks_for_nothing_else_is_accepted(running: Running):
    spoken = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": None}, *TALK["messages"]]
    nothing = {"tools": [], "metadata": None, "store": False, "response_format": {"type": "text"}, "top_logprobs": None}
    found = running.client.chat.completions.create(**TALK | {"messages": spoken}, extra_body=nothing)
    assert found.choices[0].message.content and (found.model_extra or {})["rdujax"]["messages_not_read"] == 2


def test_pages_of_others_change_nothing(running: Running):
    own = f"127.0.0.1:{running.port}"
    for origin, status in (("http://elsewhere.example", 403), ("null", 403), (f"http://{own}", 200)):
        connection = HTTPConnection("127.0.0.1", running.port, timeout=60)
        connection.request("POST", "/v1/experts/sql/prefetch", headers={"origin": origin})
        assert connection.getresponse().status == status
        connection.close()


def test_pages_that_are_none(running: Running):
    pages = (("GET", "/v1/nothing", 404), ("GET", "/v1/completions", 405), ("GET", "/../x", 404),
             ("GET", "/page/%2e%2e/app.py", 404), ("POST", "/v1/experts/nobody/prefetch", 404))  # fmt: skip
    for method, path, status in pages:
        found, _, body = running.raw(method, path)
        assert found == status and json.loads(body)["error"]["message"]


def hold(running: Running) -> threading.Event:
    """The engine does nothing until the event."""
    held, going = threading.Event(), threading.Event()
    running.service.engine.between(lambda: (going.set(), held.wait(60)))
    assert going.wait(60)
    return held


def test_a_full_queue_says_to_try_again(running: Running):
    held, found = hold(running), list[int]()
    clients = [threading.Thread(target=lambda: found.append(running.asked(**ASK)[0])) for _ in range(4)]
    for each in clients:
        each.start()
    wait_for(lambda: running.service.engine.waiting == 4)
    status, headers, body = running.raw("POST", "/v1/completions", json.dumps(ASK).encode())
    assert status == 429 and headers["retry-after"] == "1" and json.loads(body)["error"]["code"] == "queue_full"
    with pytest.raises(openai.RateLimitError):
        running.client.completions.create(**ASK)
    held.set()
    for each in clients:
        each.join(60)
    assert found == [200] * 4


@pytest.mark.parametrize("stream", [False, True])
def test_work_stops_when_its_client_leaves(running: Running, stream: bool):
    held = hold(running)
    body = json.dumps(ASK | {"max_tokens": 200, "stream": stream}).encode()
    with socket.create_connection(("127.0.0.1", running.port)) as client:
        head = (
            f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {len(body)}"
        )
        client.sendall(head.encode() + b"\r\n\r\n" + body)
        wait_for(lambda: running.service.engine.waiting == 1)
        wish = running.service.engine._waiting[0]
    wait_for(lambda: wish.is_given_up)
    held.set()
    running.idle()
    assert running.service.engine.node.resident == frozenset()
    wait_for(lambda: b"rdujax_requests_given_up_total 1.0" in running.service.gauges.text())
    assert running.asked(**ASK)[0] == 200


def test_a_body_that_never_comes_is_not_waited_for(running: Running):
    with socket.create_connection(("127.0.0.1", running.port), timeout=30) as client:
        head = b"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: 500"
        client.sendall(head + b"\r\n\r\n{")
        assert b" 408 " in client.recv(4096)


@pytest.mark.parametrize("first", [b"", b"GET / HT", b"GET /health HTTP/1.1\r\nhost: x\r\n\r\nGET /hea"])
def test_a_connection_on_which_no_request_comes_ends(make: Make, monkeypatch: pytest.MonkeyPatch, first: bytes):
    monkeypatch.setattr(protocol, "HEAD_S", 0.3)
    with listening(Service(make(), DOMAINS)) as port:
        with socket.create_connection(("127.0.0.1", port), timeout=30) as client:
            client.sendall(first)
            heard = b""
            while part := client.recv(4096):
                heard += part
            assert (b"200 OK" in heard) == first.startswith(b"GET /health")


def test_an_answer_that_takes_too_long_is_an_error(running: Running):
    object.__setattr__(running.service.limits, "answer_s", 0.0)
    status, body = running.asked(**ASK)
    assert status == 504 and body["error"]["code"] == "timeout"
    with pytest.raises(openai.APIError, match="time"):
        list(running.client.completions.create(**ASK, stream=True))
    text = running.service.gauges.text()
    assert b'rdujax_streams_failed_total{code="timeout"} 1.0' in text and b"given_up_total 0.0" in text


def test_state_health_and_prefetch(running: Running):
    status, _, body = running.raw("POST", "/v1/experts/sql/prefetch")
    assert status == 200 and json.loads(body) == {"expert": "sql", "resident": True}
    state = json.loads(running.raw("GET", "/v1/experts")[2])
    assert [each["expert"] for each in state["resident"]] == ["sql"] and state["hbm_used_bytes"] == 120
    assert state["at_home"] == [] and state["loaded"] == []
    assert running.raw("GET", "/health")[0] == 200
    running.asked(**ASK)
    assert json.loads(running.raw("GET", "/v1/experts")[2])["loaded"] == ["math"]


def test_metrics_count_what_was_answered(running: Running):
    for _ in range(2):
        running.asked(**ASK)
    running.asked(**ASK | {"n": 2})
    text = running.raw("GET", "/metrics")[2].decode()
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }
    assert found["rdujax_requests_total", "200"] == 2 and found["rdujax_requests_total", "400"] == 1
    assert found["rdujax_answers_total", "miss", "math"] == found["rdujax_answers_total", "hit", "math"] == 1
    assert found["rdujax_tokens_total", "out"] == 16 and found["rdujax_resident_experts",] == 1
    parts = {name[1]: value for name, value in found.items() if name[0] == "rdujax_emulated_seconds_total"}
    assert parts["switch"] == pytest.approx(0.004) and parts["prefill"] == pytest.approx(0.006)
    assert found["rdujax_hbm_used_bytes",] == 120 and found["rdujax_waiting_requests",] == 0


def test_a_server_that_closes_takes_no_more(running: Running):
    running.service.engine.close(30)
    assert running.raw("GET", "/health")[0] == 503 and running.asked(**ASK)[0] == 503


def test_many_at_once_all_get_their_own_answer(make: Make):
    service = Service(make(most=64, options=Options(batch=4, grouped=True)), DOMAINS)
    with listening(service) as port:
        running, found = Running(service, port), dict[int, str]()

        def client(number: int) -> None:
            for at in range(5):
                fields = ASK | {"model": f"samba-coe/{DOMAINS[(number + at) % 8]}", "seed": number * 10 + at}
                status, body = running.asked(**fields)
                assert status == 200
                found[number * 10 + at] = body["choices"][0]["text"]

        clients = [threading.Thread(target=client, args=(number,)) for number in range(8)]
        for each in clients:
            each.start()
        for each in clients:
            each.join(120)
        assert len(found) == 40
        for key in (3, 42, 74):
            number, at = divmod(key, 10)
            fields = ASK | {"model": f"samba-coe/{DOMAINS[(number + at) % 8]}", "seed": key}
            assert running.asked(**fields)[1]["choices"][0]["text"] == found[key]
