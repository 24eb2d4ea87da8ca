"""What can never deadlock: routes whose links do not wait for one another in a circle, and tokens that can flow.

A packet holds its place in the queue at the end of a link until each link that it takes next has a place for it: the
first link depends on the next ones. Where these dependencies form no circle, some queue can always be emptied (Dally
and Seitz, 1987). Routes in one dimension order never form one, since they only turn from the first dimension into the
second. Each copy of a multicast leaves as soon as its own link has a place, so that forks add no other dependency.

End to end, a node fires when there is a token on every one of its inputs. Such a graph runs for ever if and only if
every circuit of it holds a token at the start (Commoner, Holt, Even and Pnueli, 1971).
"""

from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import TypeVar

from rdujax.base.errors import ArgumentError, describe
from rdujax.units.rdn.mesh import Link
from rdujax.units.rdn.routing import Route

Node = TypeVar("Node", bound=Hashable)


def circle(pairs: Iterable[tuple[Node, Node]]) -> list[Node]:
    """A circle in a graph of (before, after) pairs, its first node again at the end; empty where there is none."""
    graph: dict[Node, set[Node]] = defaultdict(set)
    for before, after in pairs:
        graph[after].add(before)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def check_credits(routes: Sequence[Route]) -> None:
    """Refuses routes of one fabric whose credits can wait for one another: ArgumentError, with the circle of links."""
    turns = {(link, each): route for route in routes for link, after in route.next_links().items() for each in after}
    found = circle(turns)
    if found:
        raise ArgumentError(
            describe(
                "routes that close a circle of credits: each link can wait for the next one for ever",
                given="".join(
                    f"\n    {link} waits for {after} in {turns[link, after]}"
                    for link, after in zip(found, found[1:], strict=False)
                ),
                allowed="no circle, as with dimension-order routes",
                do="route along the same dimension first everywhere, or take one of these turns out",
            )
        )


@dataclass(frozen=True)
class Token:
    """A channel of tokens: `source` puts one in each time it fires, `target` takes one out, `initial` are there."""

    source: str
    target: str
    initial: int = 0


def check_tokens(tokens: Sequence[Token]) -> None:
    """Refuses channels with which a node would wait for itself for ever: ArgumentError, with the circle of nodes.

    >>> check_tokens([Token("load", "gemm"), Token("gemm", "load", initial=2)])
    """
    for token in tokens:
        if token.initial < 0:
            raise ArgumentError(
                describe("a negative number of tokens", given=token.initial, where=f"{token.source} -> {token.target}")
            )
    found = circle((token.source, token.target) for token in tokens if not token.initial)
    if found:
        raise ArgumentError(
            describe(
                "tokens that deadlock: each node waits for the one before it, and no token is there at the start",
                given=" -> ".join(found),
                allowed="a token at the start on every circuit",
                do="put an initial token on one of these channels, as many as there are buffers behind it",
            )
        )


def waiting_circle(waits: Iterable[tuple[Link, Link]]) -> str:
    """The text of a circle of links, each waiting for the next."""
    return " -> ".join(map(str, circle(waits)))
