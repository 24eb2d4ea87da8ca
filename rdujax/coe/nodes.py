"""What a composition is served with: nodes, experts as a node knows them, options, who asks, what is told."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from rdujax.base.errors import ArgumentError, describe
from rdujax.coe.phases import Phases
from rdujax.coe.policies import Expert
from rdujax.coe.requests import Request
from rdujax.coe.residency import Sizes


@dataclass(frozen=True)
class Kind:
    """What a node knows of an expert. cache_bytes_per_token: keys and values of one token of one prompt."""

    sizes: Sizes
    cache_bytes_per_token: int
    phases: Phases


@dataclass(frozen=True)
class Node:
    """What serves. route_ps: of so many prompts of at most so many tokens. copy_ps: of so many bytes, DDR to HBM.

    pinned: bytes that never leave HBM, by name: the router, its cache, programs.
    """

    name: str
    hbm_bytes: int
    ddr_bytes: int
    pinned: Mapping[str, int]
    route_ps: Callable[[int, int], int]
    copy_ps: Callable[[int], int]


@dataclass(frozen=True)
class Options:
    """How a node serves: see `rdujax.coe.serving`. queue: None for one without end; guess: None for no guesses."""

    batch: int = 1
    grouped: bool = False
    prefetch: int = 0
    queue: int | None = None
    channels: int = 8
    gather_ps: int = 0
    resident_first: bool = False
    joining_ps: int = 0
    guess: Callable[[Request], Sequence[Expert]] | None = None

    def __post_init__(self) -> None:
        for name, least in (("batch", 1), ("prefetch", 0), ("queue", 1), ("channels", 1)):
            value = getattr(self, name)
            if value is None and name == "queue":
                continue
            self._check(name, value, least)
        self._check("gather_ps", self.gather_ps, 0)
        self._check("joining_ps", self.joining_ps, 0)

    def _check(self, name: str, value: object, least: int) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ArgumentError(describe(name, given=repr(value), allowed=f"an integer, {least} or more"))


class Traffic(Protocol):
    """Who asks, and when."""

    def next_ps(self) -> int | None:
        """When the next request arrives, as far as is known now; None where none does before one is answered."""
        ...

    def take(self) -> Request:
        """That request."""
        ...

    def answered(self, request: Request, now_ps: int) -> None:
        """Told of the end of each request, in order of time within a run; a refused one ends when it arrives."""
        ...


class Event(NamedTuple):
    """Something that a node did.

    kind: "route" (what: "router"), "copy", "prefetch", "write back" (state, to make room for a run of the expert) or
    "run". prompts: how many of them; 0 for copies, which begin when they are asked for, a wait for a channel included.
    """

    kind: str
    what: Expert
    prompts: int
    first_ps: int
    last_ps: int
