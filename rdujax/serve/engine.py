"""Who answers: one thread that takes wishes from a bounded queue, runs the models, and asks the node what it took.

    submit -> queue -> [a batch: router -> each answer, token by token -> the emulated node] -> told

Experts really run, one prompt after the other; what a batch, its order and its copies take is the emulated node's to
say (`rdujax.coe.serving`), of the tokens that were really written. A wish that fails, is given up or comes too late
takes nothing from the others, and on the node the tokens that were written for it.
"""

import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from threading import Condition, Thread
from typing import TypeVar

from experts.data.others import OTHER
from experts.generate import generate
from experts.router import Route, Router, route
from experts.tokenizer import END, Tokenizer
from rdujax.coe.requests import Served
from rdujax.serve.emulated import Asked, EmulatedNode
from rdujax.serve.shelf import Shelf
from rdujax.serve.wishes import ExpertFailed, IsClosing, QueueIsFull, Reply, Text, TookTooLong, TooMany, Wish

Found = TypeVar("Found")
LOG = logging.getLogger(__name__)
SLICE_S = 0.02  # between two looks at whether anybody still waits


class _Enough(Exception):
    """A text has ended before the model has."""


class _GivenUp(Exception):
    """Nobody waits for this any more."""


@dataclass
class _Work:
    """A wish on its way. expert: who answers it, None where no expert is for it. pieces: of text, by token."""

    wish: Wish
    route: Route | None
    expert: str | None
    tokens: int = 0
    finish: str = "stop"
    pieces: list[tuple[int, str]] = field(default_factory=list)
    error: Exception | None = None


class Engine:
    """Answers wishes until it is closed. most: as many may wait. batch: as many are taken from the queue at once."""

    def __init__(
        self, router: Router, tokenizer: Tokenizer, shelf: Shelf, node: EmulatedNode, most: int = 64, batch: int = 1
    ):
        self.router, self.tokenizer, self.shelf, self.node = router, tokenizer, shelf, node
        self.most, self.batch = most, batch
        self._waiting: deque[Wish] = deque()
        self._calls: deque[tuple[Future, Callable[[], object]]] = deque()
        self._changed = Condition()
        self._is_closing = False
        self._thread = Thread(target=self._run, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._waiting)

    @property
    def is_closing(self) -> bool:
        """Whether no more wishes are taken."""
        return self._is_closing

    @property
    def is_alive(self) -> bool:
        """Whether it answers at all."""
        return self._thread.is_alive()

    def submit(self, *wishes: Wish) -> None:
        """Takes wishes, all or none. Raises QueueIsFull, TooMany, IsClosing."""
        with self._changed:
            if self._is_closing or not self._thread.is_alive():
                raise IsClosing("the server is shutting down, and takes no more requests")
            if len(wishes) > self.most:
                raise TooMany(f"{len(wishes)} prompts at once; {self.most} may wait in all")
            if len(self._waiting) + len(wishes) > self.most:
                raise QueueIsFull(f"{len(self._waiting)} requests wait already, and {self.most} may: try again later")
            for wish in wishes:
                wish.arrival_ps = self.node.arrival_ps()
                self._waiting.append(wish)
            self._changed.notify_all()

    def between(self, call: Callable[[], Found]) -> "Future[Found]":
        """What a call gives that runs between two batches, when nothing else touches node and models."""
        found: Future[Found] = Future()
        with self._changed:
            if self._is_closing or not self._thread.is_alive():
                raise IsClosing("the server is shutting down")
            self._calls.append((found, call))
            self._changed.notify_all()
        return found

    def close(self, within_s: float = 60.0) -> bool:
        """Takes no more, and waits until all that wait are answered; whether they are. May be called again."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(within_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._calls or self._is_closing)
                calls, self._calls = self._calls, deque()
                batch = [self._waiting.popleft() for _ in range(min(self.batch, len(self._waiting)))]
                if not calls and not batch:
                    return
            for found, call in calls:
                _fulfil(found, call)
            if batch:
                self._answer(batch)

    def _answer(self, batch: list[Wish]) -> None:
        """Answers all; whatever goes wrong is told, so that nobody waits for ever and the thread goes on."""
        works: list[_Work] = []
        try:
            works = self._routed([wish for wish in batch if self._is_wanted(wish)])
            for work in works:
                self._write(work)
            self._price(works)
        except Exception as error:  # of our own making: nobody may wait for ever because of it
            LOG.exception("a batch failed")
            for wish in batch:
                wish.tell(error)
        self.shelf.keep(self.node.resident)

    def _is_wanted(self, wish: Wish) -> bool:
        """Whether a wish is still to be answered."""
        if not wish.is_given_up and time.monotonic() > wish.deadline_s:
            wish.tell(TookTooLong("the request waited in the queue until its time was over"))
            return False
        return not wish.is_given_up

    def _routed(self, wishes: list[Wish]) -> list[_Work]:
        """All of them with who answers; the router is asked about those that do not say."""
        asked = [wish for wish in wishes if wish.expert is None]
        routes = dict(
            zip(map(id, asked), route(self.router, [wish.ids for wish in asked]) if asked else (), strict=True)
        )
        works = []
        for wish in wishes:
            way = routes.get(id(wish))
            expert = wish.expert if way is None else None if way.label == OTHER else way.label
            if way is not None:
                wish.tell(way)
            works.append(_Work(wish, way, expert))
        return works

    def _write(self, work: _Work) -> None:
        """Runs the expert. Text is told as it comes, or kept until the node has it."""
        wish = work.wish
        if work.expert is None:
            return
        text = Text(self.tokenizer.stream(), wish.stop)

        def streamed(new: list[list[int]]) -> None:
            work.tokens += len(new[0])
            self._show(work, text.push(new[0]))
            if text.has_ended or work.tokens == wish.most:
                raise _Enough
            if wish.is_given_up:
                raise _GivenUp
            if time.monotonic() > wish.deadline_s:
                raise TookTooLong(f"{work.tokens} tokens were written when the time of the request was over")

        try:
            model = self.shelf.model(work.expert)
            # Always the whole context, so that few programs are compiled; whoever has enough ends it.
            room = model.config.positions - len(wish.ids)
            generate(
                model, [wish.ids], most=room, stop={END}, sampling=wish.sampling, seed=wish.seed, streamed=streamed
            )
        except _Enough:
            work.finish = "stop" if text.has_ended else "length"
        except (_GivenUp, TookTooLong, ExpertFailed) as error:
            work.error = error
        except Exception as error:
            LOG.exception("expert %r failed", work.expert)
            work.error = ExpertFailed(f"expert {work.expert!r} failed: {error}")
            work.error.__cause__ = error
        self._show(work, text.finish())

    def _show(self, work: _Work, piece: str) -> None:
        if piece:
            work.pieces.append((work.tokens, piece))
            if not self.node.is_blocking:
                work.wish.tell(piece)

    def _price(self, works: list[_Work]) -> None:
        """Asks the node about all that was written, and tells of it."""
        done = [work for work in works if work.error is None or work.tokens]
        served = self.node.serve([
            Asked(work.wish.arrival_ps, work.expert, len(work.wish.ids), work.tokens, named=work.route is None)
            for work in done
        ])  # fmt: skip
        taken = list[tuple[_Work, Served]]()
        for work, each in zip(done, served, strict=True):
            if isinstance(each, Served):
                taken.append((work, each))
            else:
                work.error = work.error or each
        if self.node.is_blocking:
            self._play(taken)
        for work, each in taken:
            if work.error is None:
                work.wish.tell(_reply(work, each))
        for work in works:
            if work.error is not None and not isinstance(work.error, _GivenUp):
                work.wish.tell(work.error)

    def _play(self, taken: list[tuple[_Work, Served]]) -> None:
        """Tells pieces of text and replies when the node has them; ends when nobody waits for any of them."""
        moments = list[tuple[int, _Work, str | Reply]]()
        for work, served in taken:
            if work.error is None:
                first_ps = served.request.arrival_ps + served.first_token_ps
                for token, piece in work.pieces:
                    at_ps = first_ps + round((token - 1) * served.per_token_ps)
                    moments.append((min(at_ps, served.end_ps), work, piece))  # never behind the reply
                moments.append((served.end_ps, work, _reply(work, served)))
        for at_ps, work, what in sorted(moments, key=lambda moment: moment[0]):
            while (left_s := self.node.left_s(at_ps)) > 0:
                if not any(_is_awaited(each) for _, each, _ in moments):
                    return
                time.sleep(min(left_s, SLICE_S))
            if _is_awaited(work):
                work.wish.tell(what)


def _reply(work: _Work, served: Served) -> Reply:
    text, wish = "".join(piece for _, piece in work.pieces), work.wish
    return Reply(text, work.expert, work.route, len(wish.ids), work.tokens, work.finish, served)


def _is_awaited(work: _Work) -> bool:
    """Whether somebody waits for it, and still may; says so where its time is over."""
    if work.error is None and work.wish.is_given_up:
        work.error = _GivenUp()
    elif work.error is None and time.monotonic() > work.wish.deadline_s:
        work.error = TookTooLong("its time was over before the node had written it")
        work.wish.tell(work.error)
    return work.error is None and not work.wish.is_over


def _fulfil(found: Future, call: Callable[[], object]) -> None:
    if not found.set_running_or_notify_cancel():
        return  # whoever asked has gone
    try:
        found.set_result(call())
    except Exception as error:
        found.set_exception(error)
