"""The HTTP server: OpenAI's endpoints over an emulated node, its state, its metrics, and a page for people.

    POST /v1/completions, /v1/chat/completions    GET /v1/models, /v1/experts    POST /v1/experts/NAME/prefetch
    GET /health, /metrics, /

Bodies are bounded in bytes and in time, the queue in requests, answers in time. Work for a client that leaves stops.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from experts import composition
from experts.tokenizer import prompt_ids
from rdujax.base.errors import CapacityError, UnknownNameError
from rdujax.serve.engine import Engine
from rdujax.serve.gauges import CONTENT_TYPE, Gauges
from rdujax.serve.wire import MODEL, Chat, Common, Completion, Form, Refusal, expert_of, parsed
from rdujax.serve.wishes import (
    ExpertFailed,
    Happening,
    IsClosing,
    QueueIsFull,
    Reply,
    TookTooLong,
    TooMany,
    Unanswered,
    Wish,
)

PAGE = Path(__file__).parent / "page"
_STATUS = {
    QueueIsFull: (429, "queue_full"),
    TooMany: (400, "too_many_prompts"),
    IsClosing: (503, "shutting_down"),
    TookTooLong: (504, "timeout"),
    ExpertFailed: (503, "expert_failed"),
}
_HEADERS = {
    "content-security-policy": "default-src 'self'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "cache-control": "no-store",
}
# What a reader gets: what happened, to which of the request's prompts. None: the client has left.
_Heard = tuple[int, Happening]


@dataclass(frozen=True)
class Limits:
    """Of one request: bytes of its body, seconds until the body is there, seconds until its answer is."""

    body_bytes: int = 64 * 1024
    body_s: float = 10.0
    answer_s: float = 60.0


class Service:
    """The endpoints, over an engine. experts: by name, those that a request may ask for."""

    def __init__(self, engine: Engine, experts: tuple[str, ...], limits: Limits | None = None):
        self.engine, self.experts, self.limits = engine, experts, limits or Limits()
        self.gauges = Gauges(engine)
        self._begun = int(time.time())

    def app(self, hosts: tuple[str, ...] = ("*",)) -> Starlette:
        """As ASGI. hosts: names by which it may be asked, against pages elsewhere that resolve theirs to this one."""
        routes = [
            Route("/v1/completions", self._answering(Completion), methods=["POST"]),
            Route("/v1/chat/completions", self._answering(Chat), methods=["POST"]),
            Route("/v1/models", self._models),
            Route("/v1/experts", self._state),
            Route("/v1/experts/{expert}/prefetch", self._prefetch, methods=["POST"]),
            Route("/health", self._health),
            Route("/metrics", self._metrics),
            Route("/", self._page),
            Mount("/page", _Page(directory=PAGE)),
        ]

        @asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            yield
            await asyncio.to_thread(self.engine.close)

        hosts_only = Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts), www_redirect=False)
        errors: Any = {Refusal: _refused, 404: _no_page, 405: _no_page}
        return Starlette(routes=routes, middleware=[hosts_only], exception_handlers=errors, lifespan=lifespan)

    def _answering(self, kind: type[Common]) -> Callable[[Request], Awaitable[Response]]:
        async def endpoint(request: Request) -> Response:
            try:
                response = await self._answer(kind, request)
            except Refusal as error:
                self.gauges.requests.labels(str(error.status)).inc()
                raise
            except ClientDisconnect:
                self.gauges.given_up.inc()
                return Response(status_code=499)  # to nobody
            self.gauges.requests.labels(str(response.status_code)).inc()
            return response

        return endpoint

    async def _answer(self, kind: type[Common], request: Request) -> Response:
        asked = parsed(kind, await self._body(request))
        expert = expert_of(asked.model, self.experts)
        heard: asyncio.Queue[_Heard | None] = asyncio.Queue()
        wishes = [self._wish(asked, expert, prompt, at, heard) for at, prompt in enumerate(asked.prompts)]
        try:
            self.engine.submit(*wishes)
        except Unanswered as error:
            raise _as_refusal(error) from error
        answers = _Answers(wishes, heard, self.gauges)
        names = ", ".join(self.experts)
        form = Form(asked, self.engine.node.clock, f"no expert is for this prompt; there are experts for {names}")
        if asked.stream:
            return StreamingResponse(
                answers.events(form), media_type="text/event-stream", headers={"cache-control": "no-store"}
            )
        return JSONResponse(form.whole(await answers.all(request)))

    def _wish(
        self, asked: Common, expert: str | None, prompt: str, at: int, heard: "asyncio.Queue[_Heard | None]"
    ) -> Wish:
        """One prompt of a request. Raises Refusal where it leaves no room for an answer."""
        ids, positions = prompt_ids(self.engine.tokenizer, prompt), self.engine.router.body.config.positions
        room = positions - len(ids)
        if room < (asked.most or 1):
            wanted = "" if asked.most is None else f" and max_tokens {asked.most}"
            raise Refusal(
                400, f"a prompt and its answer have {positions} tokens at most; given: {len(ids)}{wanted}",
                "context_length_exceeded", "max_tokens" if room > 0 else "prompt",
            )  # fmt: skip
        loop = asyncio.get_running_loop()

        def told(what: Happening) -> None:
            loop.call_soon_threadsafe(heard.put_nowait, (at, what))

        return Wish(
            ids, told, asked.most or min(room, composition.MOST), expert, asked.sampling, asked.seed or 0, asked.stops,
            time.monotonic() + self.limits.answer_s,
        )  # fmt: skip

    async def _body(self, request: Request) -> bytes:
        """The whole of it. Raises Refusal for what is not JSON, too large, or too slow."""
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind != "application/json":
            raise Refusal(
                415, f"a body is application/json; given: {kind or 'no content-type'}", "unsupported_media_type"
            )
        most, got = self.limits.body_bytes, bytearray()
        try:
            async with asyncio.timeout(self.limits.body_s):
                async for part in request.stream():
                    got += part
                    if len(got) > most:
                        raise Refusal(413, f"a body has {most:,} bytes at most", "request_too_large")
        except TimeoutError as error:
            raise Refusal(408, f"the body was not there within {self.limits.body_s:g} s", "body_timeout") from error
        return bytes(got)

    async def _models(self, request: Request) -> Response:
        names = [MODEL, *(f"{MODEL}/{expert}" for expert in self.experts)]
        models = [{"id": name, "object": "model", "created": self._begun, "owned_by": "rdujax"} for name in names]
        return JSONResponse({"object": "list", "data": models})

    async def _state(self, request: Request) -> Response:
        store = self.engine.shelf.store
        own = {"at_home": [name for name in store.names if store.is_home(name)], "loaded": self.engine.shelf.loaded}
        return JSONResponse(self.engine.node.state | own | {"waiting": self.engine.waiting}, headers=_HEADERS)

    async def _prefetch(self, request: Request) -> Response:
        expert, origin = request.path_params["expert"], request.headers.get("origin")
        if origin is not None and origin.partition("://")[2] != request.headers.get("host"):
            raise Refusal(403, f"pages of {origin} may change nothing here", "foreign_origin")
        try:
            begun = self.engine.between(lambda: self.engine.node.prefetch(expert))
            there = await asyncio.wrap_future(begun)
        except UnknownNameError as error:
            raise Refusal(404, str(error), "expert_not_found", "expert") from error
        except Unanswered as error:
            raise _as_refusal(error) from error
        if not there:
            raise Refusal(409, f"HBM has no room for {expert!r} beside experts on their way there", "no_room")
        return JSONResponse({"expert": expert, "resident": True})

    async def _health(self, request: Request) -> Response:
        is_well = self.engine.is_alive and not self.engine.is_closing
        return JSONResponse({"status": "ok" if is_well else "closing"}, status_code=200 if is_well else 503)

    async def _page(self, request: Request) -> Response:
        return FileResponse(PAGE / "index.html", headers=_HEADERS)

    async def _metrics(self, request: Request) -> Response:
        return Response(self.gauges.text(), media_type=CONTENT_TYPE)


class _Answers:
    """What is heard of the wishes of one request."""

    def __init__(self, wishes: list[Wish], heard: "asyncio.Queue[_Heard | None]", gauges: Gauges):
        self._wishes, self._heard, self._gauges = wishes, heard, gauges
        self._begun_s = time.monotonic()
        self._replies: dict[int, Reply] = {}

    async def all(self, request: Request) -> list[Reply]:
        """Every reply. Raises Refusal where one is none, and ClientDisconnect where nobody waits any more."""
        leaving = asyncio.create_task(self._leaving(request))
        try:
            while len(self._replies) < len(self._wishes):
                heard = await self._heard.get()
                if heard is None:
                    raise ClientDisconnect
                self._note(*heard)
        finally:
            leaving.cancel()
            self._give_up()
        return self._in_order()

    async def events(self, form: Form) -> AsyncIterator[bytes]:
        """Server-sent events of a stream. An error is one of them, and ends it; so does a client that leaves."""
        has_failed = False
        try:
            for at in range(len(self._wishes)):
                yield _event(form.first(at))
            while len(self._replies) < len(self._wishes):
                heard = await self._heard.get()
                assert heard is not None, "only readers that do not stream watch for clients that leave"
                at, what = heard
                self._note(at, what)
                if isinstance(what, str):
                    yield _event(form.piece(at, what))
                elif isinstance(what, Reply):
                    yield _event(form.last(at, what))
                elif not isinstance(what, Exception):
                    yield _event(form.routed(at, what))
            if used := form.used(self._in_order()):
                yield _event(used)
            yield b"data: [DONE]\n\n"
        except Refusal as error:
            has_failed = True
            self._gauges.failed.labels(error.code).inc()
            yield _event(error.body)
            yield b"data: [DONE]\n\n"
        finally:
            if len(self._replies) < len(self._wishes) and not has_failed:
                self._gauges.given_up.inc()
            self._give_up()

    def _note(self, at: int, what: Happening) -> None:
        if isinstance(what, Exception):
            raise _as_refusal(what) from what
        if isinstance(what, Reply):
            self._replies[at] = what
            self._gauges.answered(what)
            self._gauges.wall.observe(time.monotonic() - self._begun_s)

    def _in_order(self) -> list[Reply]:
        return [self._replies[at] for at in range(len(self._wishes))]

    def _give_up(self) -> None:
        for wish in self._wishes:
            wish.give_up()

    async def _leaving(self, request: Request) -> None:
        """Says so when the client is gone."""
        while (await request.receive())["type"] != "http.disconnect":
            pass
        self._heard.put_nowait(None)


class _Page(StaticFiles):
    """What the page is made of; it may talk to nobody but this server."""

    async def get_response(self, path: str, scope: Any) -> Response:
        response = await super().get_response(path, scope)
        response.headers.update(_HEADERS)
        return response


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(data, separators=(",", ":")).encode() + b"\n\n"


def _as_refusal(error: Exception) -> Refusal:
    if isinstance(error, CapacityError):
        return Refusal(503, str(error), "out_of_memory")
    if type(error) in _STATUS:
        status, code = _STATUS[type(error)]
        return Refusal(status, str(error), code)
    return Refusal(500, f"the server failed: {error}", "internal_error")


async def _refused(request: Request, error: Refusal) -> Response:
    headers = {"retry-after": "1"} if error.status in (429, 503) else None
    return JSONResponse(error.body, status_code=error.status, headers=headers)


async def _no_page(request: Request, error: Any) -> Response:
    what = "no such page" if error.status_code == 404 else f"not with {request.method}"
    refusal = Refusal(error.status_code, f"{request.url.path}: {what}", "not_found")
    return JSONResponse(refusal.body, status_code=error.status_code, headers=getattr(error, "headers", None))
