"""A Samba-CoE: prompts through the router to really trained experts, with what the same takes on emulated nodes.

Tokens are those that the small experts of experts/trained really write. Times are of a composition of as many experts
as --experts says, each priced as --as says, on a node of SN40L sockets and on DGX nodes: routing, switching the expert
into HBM, prefill, decoding. Before the first prompt every expert was asked once, so that HBM is full of others.
"""

import argparse
import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from experts.composition import Answer, Composition
from experts.llama import LLAMA2_7B, LLAMA2_13B, LLAMA2_70B, Config
from experts.tokenizer import prompt_ids
from rdujax.base.errors import CapacityError
from rdujax.cli import experts as plain
from rdujax.cli.options import length
from rdujax.coe.models import Shapes
from rdujax.coe.platforms import OnGpus, OnRdus, Platform
from rdujax.coe.policies import LeastRecentlyUsed
from rdujax.coe.requests import Request, Served
from rdujax.coe.serving import Server
from rdujax.coe.systems import system
from rdujax.coe.traffic import Open
from rdujax.compiler.texts import table
from rdujax.machines.dgx import STACKS, dgx_a100, dgx_h100
from rdujax.machines.node import sn40l_node

SIZES = {"llama2-7b": LLAMA2_7B, "llama2-13b": LLAMA2_13B, "llama2-70b": LLAMA2_70B}
PROMPTS = plain.PROMPTS[:3] + plain.PROMPTS[:1] + plain.PROMPTS[-1:]
LONGEST = 128  # tokens of a prompt that programs are priced for; of a longer one, the end is priced
SHAPES = Shapes(prompts=(1,), tokens=(LONGEST,), positions=(128, 256, 512))


def add_options(p: argparse.ArgumentParser) -> None:
    """The options of `./scripts/demo coe`."""
    plain.add_options(p)
    p.add_argument(
        "--as", dest="size", choices=SIZES, default="llama2-7b", help="each expert is priced as one of these"
    )
    p.add_argument("--experts", type=length, default=140, help="experts of the composition (default 140)")
    p.add_argument("--stack", choices=STACKS, default=STACKS[0], help=f"software of the DGX (default {STACKS[0]})")
    p.add_argument("-i", "--interactive", action="store_true", help="ask for prompts, until an empty line")


@dataclass
class Desk:
    """A node that serves the composition, prompt by prompt. out_of_memory: why it cannot, else "" and a server."""

    title: str
    server: Server | None
    out_of_memory: str = ""

    def ask(self, expert: str, tokens_in: int, tokens_out: int) -> Served | None:
        """What a request takes now; None where experts have no room."""
        if self.server is None:
            return None
        request = Request(0, self.server.now_ps, (expert,), min(tokens_in, LONGEST), tokens_out)
        [served] = self.server.serve(Open([request]))
        assert isinstance(served, Served)
        return served


def desks(names: tuple[str, ...], config: Config, count: int, stack: str) -> list[Desk]:
    """All nodes, each with HBM full of other experts. count: experts in all, of which `names` were asked first."""
    others = [f"another {at}" for at in range(count - len(names))]
    every = [*names, *others]
    found = []
    nodes: dict[str, Platform] = {
        "SN40L": OnRdus(sn40l_node()), "DGX A100": OnGpus(dgx_a100(stack)), "DGX H100": OnGpus(dgx_h100(stack))
    }  # fmt: skip
    for title, platform in nodes.items():
        of = system(platform, every, config, config, SHAPES, routed=(1,))
        try:
            server = Server(of.node, of.experts, LeastRecentlyUsed())
        except CapacityError as error:
            found.append(Desk(title, None, str(error)))
            continue
        desk = Desk(title, server)
        for name in every:
            desk.ask(name, 1, 1)
        found.append(desk)
    return found


def main(args: argparse.Namespace) -> int:
    """Answers prompts and prices each; 0 whatever the answers are. Raises CheckpointError and ValueError."""
    composition = Composition(args.models)
    config = SIZES[args.size]
    names = composition.experts
    if args.experts < len(names):
        raise ValueError(f"--experts {args.experts}: the trained ones alone are {len(names)}")
    print("pricing programs on three nodes ...", file=sys.stderr, flush=True)
    nodes = desks(names, config, args.experts, args.stack)
    for prompt in _prompts(args):
        answer = _answered(composition, prompt, args.json)
        tokens_in = len(prompt_ids(composition.tokenizer, prompt))
        rows = list(rows_of(nodes, answer, tokens_in))
        if args.json:
            print(json.dumps(plain.row_of(prompt, answer) | {"nodes": rows}), flush=True)
        elif rows:
            print(_text(rows) + "\n", flush=True)
    return 0


def _prompts(args: argparse.Namespace) -> Iterator[str]:
    """Those that were given, or asked for one after the other."""
    if not args.interactive:
        yield from args.prompt or PROMPTS
        return
    yield from args.prompt
    while True:
        try:
            line = input("prompt (empty to end): ").strip()
        except EOFError:
            return
        if not line:
            return
        yield line


def _answered(composition: Composition, prompt: str, quietly: bool) -> Answer:
    return composition.answer(prompt) if quietly else plain.shown(composition, prompt)


def rows_of(nodes: list[Desk], answer: Answer, tokens_in: int) -> Iterator[dict[str, Any]]:
    """What the request takes on each node, in milliseconds; nothing where no expert is for it."""
    if not answer.tokens:
        return
    for desk in nodes:
        served = desk.ask(answer.route.label, tokens_in, answer.tokens)
        if served is None:
            yield {"node": desk.title, "out_of_memory": desk.out_of_memory}
            continue
        parts = {name: value / 1e9 for name, value in (
            ("route_ms", served.route_ps), ("switch_ms", served.switch_ps), ("prefill_ms", served.prefill_ps),
            ("decode_ms", served.decode_ps), ("latency_ms", served.latency_ps),
            ("first_token_ms", served.first_token_ps), ("per_token_ms", served.per_token_ps),
        )}  # fmt: skip
        yield {
            "node": desk.title,
            "in_hbm": bool(served.hits),
            "tokens_in": tokens_in,
            "tokens_out": answer.tokens,
            **parts,
        }


def _text(rows: list[dict[str, Any]]) -> str:
    """A line for each node."""
    shown = ("route", "switch", "prefill", "decode", "latency", "first_token", "per_token")
    lines = []
    for row in rows:
        if "out_of_memory" in row:
            lines.append([row["node"], "out of memory", *[""] * len(shown)])
        else:
            where = "in HBM" if row["in_hbm"] else "copied in"
            lines.append([row["node"], where, *(f"{row[f'{name}_ms']:,.1f}" for name in shown)])
    head = ["ms", "expert", "route", "switch", "prefill", "decode", "in all", "TTFT", "TPOT"]
    return table(head, lines, indent="  ", right=True)
