"""What is asked of a node that serves, and what comes of it.

    Wish -> (Route) -> pieces of text -> Reply, or an exception

A wish is told of all that happens to it, in this order, by the one thread that runs models.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from threading import Event

from experts.generate import GREEDY, Sampling
from experts.router import Route
from experts.tokenizer import Stream
from rdujax.base.errors import RduError
from rdujax.coe.requests import Served


class Unanswered(RduError):
    """A wish that is not answered; what its name says is told to whoever asked."""


class QueueIsFull(Unanswered):
    """As many wait as may."""


class TooMany(Unanswered):
    """More at once than may ever wait."""


class IsClosing(Unanswered):
    """No more wishes are taken."""


class TookTooLong(Unanswered):
    """Its time was over before its answer was."""


class ExpertFailed(Unanswered):
    """Its expert cannot be read, or is broken. Others are as they were."""


@dataclass(frozen=True)
class Reply:
    """An answer. expert: who wrote it; None where no expert is for the prompt, and the text is empty.

    route: the router's choice; None where the wish named its expert. finish: why it ends: "stop" or "length".
    served: what it took on the emulated node.
    """

    text: str
    expert: str | None
    route: Route | None
    tokens_in: int
    tokens_out: int
    finish: str
    served: Served


Happening = Route | str | Reply | Exception
Told = Callable[[Happening], None]


@dataclass(eq=False)
class Wish:
    """A prompt, as token ids, and how it is to be answered.

    expert: who is to answer; None: the router says. most: tokens of the answer. stop: texts before which it ends.
    deadline_s: until when, on the clock of `time.monotonic`. arrival_ps: when it arrives at the emulated node.
    """

    ids: list[int]
    told: Told
    most: int
    expert: str | None = None
    sampling: Sampling = GREEDY
    seed: int = 0
    stop: tuple[str, ...] = ()
    deadline_s: float = float("inf")
    arrival_ps: int = 0
    _given_up: Event = field(default_factory=Event, repr=False)
    _is_over: bool = field(default=False, repr=False)

    def tell(self, what: Happening) -> None:
        """Tells what happened; nothing after a reply or an error. Whoever cannot be told any more has given up."""
        if self._is_over:
            return
        self._is_over = isinstance(what, Reply | Exception)
        try:
            self.told(what)
        except Exception:
            self.give_up()

    @property
    def is_over(self) -> bool:
        """Whether its reply or its error was told."""
        return self._is_over

    def give_up(self) -> None:
        """Nobody waits for it any more: work for it stops. From any thread."""
        self._given_up.set()

    @property
    def is_given_up(self) -> bool:
        """Whether nobody waits for it."""
        return self._given_up.is_set()


class Text:
    """Text from tokens, up to the first of some stops. What was shown never changes: what may become a stop waits."""

    def __init__(self, letters: Stream, stops: tuple[str, ...]):
        self._letters, self._stops = letters, stops
        self._waiting = ""
        self.has_ended = False

    def push(self, tokens: list[int]) -> str:
        """What can be shown of it now."""
        return self._shown("".join(map(self._letters.push, tokens)))

    def finish(self) -> str:
        """What still waits, now that nothing more comes."""
        text = self._shown(self._letters.finish())
        rest, self._waiting = self._waiting, ""
        return text + rest

    def _shown(self, new: str) -> str:
        if self.has_ended:
            return ""
        text = self._waiting + new
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.has_ended, self._waiting = True, ""
            return text[: min(found)]
        keep = max((_overlap(text, stop) for stop in self._stops), default=0)
        self._waiting = text[len(text) - keep :]
        return text[: len(text) - keep]


def _overlap(text: str, stop: str) -> int:
    """How many of the last letters of a text may be the first of a stop."""
    return next((size for size in range(min(len(text), len(stop) - 1), 0, -1) if text.endswith(stop[:size])), 0)
