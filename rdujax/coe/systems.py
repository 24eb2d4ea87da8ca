"""A composition of experts on a node, put together: home copies, the router in HBM, and what everything takes.

The paper's system is 150 to 850 experts that are each a Llama2-7B, and a router of the same size: it reads the prompts
of a batch, and the last position says who answers, so that a run of it is a prefill.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from experts.llama import Config
from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.coe.models import Shapes, cache_bytes_per_token, kind_of, sizes_of, step_ps
from rdujax.coe.nodes import Kind, Node
from rdujax.coe.phases import Prices
from rdujax.coe.platforms import Platform


@dataclass(frozen=True)
class System:
    """What a `Server` is made of."""

    node: Node
    experts: dict[str, Kind]


def system(
    platform: Platform,
    names: Iterable[str],
    expert: Config,
    router: Config,
    shapes: Shapes,
    routed: tuple[int, ...] = (1, 8),
    pinned: Iterable[str] = (),
) -> System:
    """Experts of one size, and their router.

    shapes: of the experts' programs. routed: how large the batches are that the router is compiled for.
    The router and its keys and values never leave HBM, and no more do the experts of `pinned`, which are there from the
    beginning. Raises ArgumentError for two experts of one name, UnknownNameError for a pinned one that is none.
    """
    names, kept = list(names), list(pinned)
    if len(set(names)) != len(names):
        raise ArgumentError(
            describe("experts are told apart by name", given=f"{len(names)} names", allowed="all different")
        )
    for name in kept:
        if name not in names:
            raise unknown("expert", name, names, where="pinned")
    kind = kind_of(expert, platform, shapes)
    times_ps = {
        (prompts, tokens): platform.start_ps + step_ps(router, platform, prompts, tokens, tokens)
        for prompts in routed
        for tokens in shapes.tokens
    }
    routes = Prices(times_ps, ("prompts of a batch", "tokens of a prompt"))
    resident = {
        "router": sizes_of(router).in_bytes,
        "router's keys and values": max(routed) * max(shapes.tokens) * cache_bytes_per_token(router),
    }
    resident |= dict.fromkeys(kept, kind.sizes.in_bytes)
    node = Node(
        platform.name, platform.hbm_bytes, platform.home_bytes, resident, lambda *asked: routes[asked], platform.copy_ps
    )
    return System(node, dict.fromkeys(names, kind))
