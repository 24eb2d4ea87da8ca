"""What goes over the wire: OpenAI's requests, checked, and its replies, with what the emulated node says beside them.

Whatever a request asks for that this server does not do is refused by name; nothing is ignored. The values at which
such a parameter asks for nothing are accepted.
"""

import time
from abc import abstractmethod
from typing import Annotated, Any, Literal
from uuid import uuid4

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from experts.data.others import OTHER
from experts.generate import Sampling
from experts.router import Route
from rdujax.serve.emulated import milliseconds
from rdujax.serve.wishes import Reply

MODEL = "samba-coe"  # of which the router says who answers; MODEL/math is an expert by name
MOST_PROMPTS = 16  # of one request


class Refusal(Exception):
    """A request that is answered with an error, in OpenAI's form."""

    def __init__(self, status: int, message: str, code: str, param: str | None = None):
        super().__init__(message)
        self.status, self.message, self.code, self.param = status, message, code, param

    @property
    def body(self) -> dict[str, Any]:
        """As JSON."""
        kind = "invalid_request_error" if self.status < 500 and self.status != 429 else "server_error"
        return {"error": {"message": self.message, "type": kind, "param": self.param, "code": self.code}}


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


def _no(given: bool) -> bool:
    if given:
        raise ValueError("this server does not do that: false, or nothing")
    return given


One = Annotated[int, Field(ge=1, le=1)]
No = Annotated[bool, AfterValidator(_no)]


class PlainText(_Strict):
    """What is asked for anyway."""

    type: Literal["text"]


class StreamOptions(_Strict):
    """usage: with the last chunk."""

    include_usage: bool | None = False


class Common(_Strict):
    """What both kinds of requests have. Fields with one allowed value are there for clients that send them."""

    model: str
    max_tokens: Annotated[int, Field(ge=1)] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    seed: Annotated[int, Field(ge=0, le=2**31 - 1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=4)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    user: str | None = None
    n: One | None = None
    store: No | None = None
    metadata: Annotated[dict[str, str], Field(max_length=0)] | None = None
    presence_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    frequency_penalty: Annotated[float, Field(ge=0, le=0)] | None = None
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def sampling(self) -> Sampling:
        """Greedy, unless a temperature is asked for."""
        return Sampling(self.temperature or 0.0, self.top_k or 0, 1.0 if self.top_p is None else self.top_p)

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts before which an answer ends."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if "" in given:
            raise Refusal(400, "an empty text is no stop", "invalid_value", "stop")
        return tuple(given)

    @property
    @abstractmethod
    def prompts(self) -> list[str]:
        """One or more."""

    @property
    def most(self) -> int | None:
        """Tokens of an answer; None where the request does not say."""
        return self.max_tokens


class Completion(Common):
    """POST /v1/completions."""

    prompt: str | Annotated[list[str], Field(min_length=1, max_length=MOST_PROMPTS)]
    echo: No | None = None
    logprobs: None = None
    best_of: One | None = None
    suffix: None = None

    @property
    def prompts(self) -> list[str]:
        """See `Common`."""
        return [self.prompt] if isinstance(self.prompt, str) else self.prompt


class Part(_Strict):
    """Of a message: text."""

    type: Literal["text"]
    text: str


class Message(_Strict):
    """Of a conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[Part] | None
    name: str | None = None
    refusal: str | None = None

    @property
    def text(self) -> str:
        """All of it."""
        return self.content if isinstance(self.content, str) else "".join(part.text for part in self.content or ())


class Chat(Common):
    """POST /v1/chat/completions. The last message is the prompt: experts answer one question at a time."""

    messages: Annotated[list[Message], Field(min_length=1)]
    max_completion_tokens: Annotated[int, Field(ge=1)] | None = None
    logprobs: No | None = None
    top_logprobs: None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none"] | None = None
    response_format: PlainText | None = None

    @property
    def prompts(self) -> list[str]:
        """See `Common`."""
        last = self.messages[-1]
        if last.role != "user":
            raise Refusal(400, f"the last message is the user's; given: {last.role!r}", "invalid_value", "messages")
        if last.content is None:
            raise Refusal(400, "the last message says nothing", "invalid_value", "messages")
        return [last.text]

    @property
    def most(self) -> int | None:
        """See `Common`."""
        return self.max_completion_tokens or self.max_tokens


def parsed(kind: type[Common], body: bytes) -> Common:
    """A request from its bytes. Raises Refusal that names the first field that is wrong."""
    try:
        return kind.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or None
        what = "unknown parameter" if first["type"] == "extra_forbidden" else first["msg"]
        code = "invalid_json" if first["type"] == "json_invalid" else "invalid_value"
        raise Refusal(400, f"{where}: {what}" if where else what, code, where) from error


def expert_of(model: str, experts: tuple[str, ...]) -> str | None:
    """Who is to answer; None: the router says. Raises Refusal for a model that there is not."""
    known = {MODEL: None} | {f"{MODEL}/{expert}": expert for expert in experts}
    if model not in known:
        raise Refusal(404, f"there is no model {model!r}; there are {', '.join(known)}", "model_not_found", "model")
    return known[model]


def told_of(reply: Reply) -> dict[str, Any]:
    """What the emulated node says of an answer: the field `rdujax` of a reply."""
    experts = len(reply.served.request.experts)
    return {
        "expert": reply.expert,
        "router_confidence": None if reply.route is None else reply.route.confidence,
        "top": [] if reply.route is None else [list(each) for each in reply.route.shares[:3]],
        "cache": None if not experts else "hit" if reply.served.hits == experts else "miss",
        **milliseconds(reply.served),
    }


def usage(replies: list[Reply]) -> dict[str, int]:
    """Tokens of all."""
    read, written = sum(each.tokens_in for each in replies), sum(each.tokens_out for each in replies)
    return {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}


class Form:
    """Replies to one request, whole or in chunks. no_expert: what is said where no expert is for a prompt."""

    def __init__(self, request: Common, clock: str, no_expert: str):
        self.is_chat, self._clock, self._no_expert = isinstance(request, Chat), clock, no_expert
        start = "chatcmpl" if self.is_chat else "cmpl"
        self._head = {"id": f"{start}-{uuid4().hex}", "created": int(time.time()), "model": request.model}
        self._unread = len(request.messages) - 1 if isinstance(request, Chat) else 0
        self._usage = request.stream_options is not None and bool(request.stream_options.include_usage)

    def whole(self, replies: list[Reply]) -> dict[str, Any]:
        """The reply of a request that is not streamed: its first answer in `rdujax`, every one in its choice."""
        choices = [self._choice(at, reply) for at, reply in enumerate(replies)]
        kind = "chat.completion" if self.is_chat else "text_completion"
        return {**self._head, "object": kind, "choices": choices, "usage": usage(replies), **self._beside(replies[0])}

    def first(self, at: int) -> dict[str, Any]:
        """What a stream begins with."""
        return self._chunk(at, {"role": "assistant", "content": ""} if self.is_chat else "", None)

    def routed(self, at: int, way: Route) -> dict[str, Any]:
        """Says early who will answer."""
        expert = None if way.label == OTHER else way.label
        said = {"rdujax": {"expert": expert, "router_confidence": way.confidence, "clock": self._clock}}
        return self._chunk(at, {} if self.is_chat else "", None) | said

    def piece(self, at: int, text: str) -> dict[str, Any]:
        """Some letters more."""
        return self._chunk(at, {"content": text} if self.is_chat else text, None)

    def last(self, at: int, reply: Reply) -> dict[str, Any]:
        """Why it ends, and what it took."""
        delta = {"refusal": self._no_expert} if reply.expert is None else {}
        return self._chunk(at, delta if self.is_chat else "", reply.finish) | self._beside(reply)

    def used(self, replies: list[Reply]) -> dict[str, Any] | None:
        """The chunk behind all others, where it was asked for."""
        return {**self._head, "object": self._chunks, "choices": [], "usage": usage(replies)} if self._usage else None

    @property
    def _chunks(self) -> str:
        return "chat.completion.chunk" if self.is_chat else "text_completion"

    def _chunk(self, at: int, said: Any, finish: str | None) -> dict[str, Any]:
        own = {"delta": said} if self.is_chat else {"text": said}
        choice = {"index": at, **own, "finish_reason": finish, "logprobs": None}
        return {**self._head, "object": self._chunks, "choices": [choice]}

    def _choice(self, at: int, reply: Reply) -> dict[str, Any]:
        refusal = self._no_expert if reply.expert is None else None
        message = {"message": {"role": "assistant", "content": reply.text, "refusal": refusal}}
        own = message if self.is_chat else {"text": reply.text}
        return {"index": at, **own, "finish_reason": reply.finish, "logprobs": None, "rdujax": told_of(reply)}

    def _beside(self, reply: Reply) -> dict[str, Any]:
        unread = {"messages_not_read": self._unread} if self._unread else {}
        return {"rdujax": told_of(reply) | {"clock": self._clock} | unread}
