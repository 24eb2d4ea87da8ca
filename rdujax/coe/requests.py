"""A request and what became of it, to the picosecond."""

from dataclasses import dataclass
from typing import NamedTuple

from rdujax.coe.policies import Expert

PARTS = ("queue_ps", "route_ps", "turn_ps", "switch_ps", "prefill_ps", "decode_ps")

REASONS = ("queue is full", "out of memory")


class Request(NamedTuple):
    """A prompt. experts: who answers, one after the other, the first by the router's choice; none where it finds none.

    tokens_in: of the prompt. tokens_out: of each answer; an answer is the prompt of the next expert. named: the prompt
    says who answers it, and is not routed.
    """

    number: int
    arrival_ps: int
    experts: tuple[Expert, ...]
    tokens_in: int
    tokens_out: int
    named: bool = False


@dataclass(slots=True)
class Served:
    """What a request took. Its parts add up to its latency, exactly.

    queue_ps: until its batch is taken. route_ps: the router, on its batch. turn_ps: until it is its turn, while experts
    answer others. switch_ps: until its expert is in HBM, as far as nothing else went on. prefill_ps, decode_ps: its
    experts. Of several experts, the sum of each.

    first_token_ps: from its arrival to the end of the last expert's prefill; 0 without an expert. hits: how many of its
    experts were in HBM when it was their turn. end_ps: the moment at which its last token was there.
    """

    request: Request
    queue_ps: int = 0
    route_ps: int = 0
    turn_ps: int = 0
    switch_ps: int = 0
    prefill_ps: int = 0
    decode_ps: int = 0
    first_token_ps: int = 0
    hits: int = 0
    end_ps: int = 0

    @property
    def latency_ps(self) -> int:
        """From its arrival to its last token."""
        return self.end_ps - self.request.arrival_ps

    @property
    def per_token_ps(self) -> float:
        """TPOT: (latency - TTFT) / (tokens - 1), of the last expert's answer; 0 for an answer of one token."""
        tokens = self.request.tokens_out - 1
        return (self.latency_ps - self.first_token_ps) / tokens if tokens else 0.0


@dataclass(frozen=True, slots=True)
class Refused:
    """A request that was not admitted. at_ps: when. reason: one of `REASONS`."""

    request: Request
    at_ps: int
    reason: str = "queue is full"
