"""A Samba-CoE: prompts through the router to really trained experts, with what the same takes on emulated nodes.

Tokens are those that the small experts of experts/trained really write. Times are of a composition of as many experts
as --experts says, each priced as --as says, on a node of SN40L sockets and on DGX nodes: routing, switching the expert
into HBM, prefill, decoding. Before the first prompt every expert was asked once, so that HBM is full of others.

--through german takes questions in German: one expert translates them, the router reads the translation and says who
answers it, and the result is translated back. --ensemble 2 asks the two likeliest experts, and takes the surest.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

from experts.composition import Answer, Composition
from experts.data.others import OTHER
from experts.llama import LLAMA2_7B, LLAMA2_13B, LLAMA2_70B, Config
from experts.together import CHAINS, Step, chained, ensemble
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
    several = p.add_mutually_exclusive_group()
    several.add_argument("--through", choices=CHAINS, help="prompts are in this language: experts answer in a chain")
    several.add_argument("--ensemble", type=length, metavar="N", help="the N likeliest experts answer")
    p.add_argument("-i", "--interactive", action="store_true", help="ask for prompts, until an empty line")


@dataclass
class Desk:
    """A node that serves the composition, prompt by prompt. out_of_memory: why it cannot, else "" and a server."""

    title: str
    server: Server | None
    out_of_memory: str = ""

    def ask(self, expert: str | None, tokens_in: int, tokens_out: int, named: bool = False) -> Served | None:
        """What a request takes now; None where experts have no room. expert: None where the router finds none.

        named: the router is not asked.
        """
        if self.server is None:
            return None
        experts = () if expert is None else (expert,)
        request = Request(0, self.server.now_ps, experts, min(tokens_in, LONGEST), max(1, tokens_out), named)
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
        taken = list[list[dict[str, Any]]]()
        for step in _steps(args, composition, prompt):
            tokens_in = len(prompt_ids(composition.tokenizer, step.prompt))
            rows = list(rows_of(nodes, step.answer, tokens_in, step.named))
            taken.append(rows)
            if args.json:
                print(json.dumps(plain.row_of(step.prompt, step.answer) | {"nodes": rows}), flush=True)
            else:
                print(_text(rows) + "\n", flush=True)
        if len(taken) > 1 and not args.json:
            print(_sums(taken) + "\n", flush=True)
    return 0


def _steps(args: argparse.Namespace, composition: Composition, prompt: str) -> Iterable[Step]:
    """All prompts that come of one, with their answers, printed unless they are to be JSON."""
    if args.through:
        return chained(composition, CHAINS[args.through], prompt, partial(_answered, quietly=args.json))
    if not args.ensemble:
        return [Step(prompt, _answered(composition, prompt, args.json))]
    steps = ensemble(composition, prompt, args.ensemble)
    if not args.json:
        print(f"> {prompt}")
        for step in steps:
            way = step.answer.route
            print(f"  {way.label} ({way.confidence:.1%}), score {step.score:.2f}: {step.answer.text}")
        print(f"  answer: {steps[0].answer.result}" if steps else "  no expert is for this")
    return steps


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


def _answered(composition: Composition, prompt: str, quietly: bool = False) -> Answer:
    return composition.answer(prompt) if quietly else plain.shown(composition, prompt)


def rows_of(nodes: list[Desk], answer: Answer, tokens_in: int, named: bool = False) -> Iterator[dict[str, Any]]:
    """What the request takes on each node, in milliseconds; where no expert is for it, the router alone."""
    expert = None if answer.route.label == OTHER else answer.route.label
    for desk in nodes:
        served = desk.ask(expert, tokens_in, answer.tokens, named)
        if served is None:
            yield {"node": desk.title, "out_of_memory": desk.out_of_memory}
            continue
        parts = {name: value / 1e9 for name, value in (
            ("route_ms", served.route_ps), ("switch_ms", served.switch_ps), ("prefill_ms", served.prefill_ps),
            ("decode_ms", served.decode_ps), ("latency_ms", served.latency_ps),
            ("first_token_ms", served.first_token_ps), ("per_token_ms", 0.0 if expert is None else served.per_token_ps),
        )}  # fmt: skip
        yield {
            "node": desk.title,
            "in_hbm": None if expert is None else bool(served.hits),
            "tokens_in": tokens_in,
            "tokens_out": answer.tokens,
            **parts,
        }


def _sums(taken: list[list[dict[str, Any]]]) -> str:
    """A line for what all prompts together take on each node."""
    lines = []
    for of_node in zip(*taken, strict=True):
        served = [row for row in of_node if "out_of_memory" not in row]
        whole = f"{sum(row['latency_ms'] for row in served):,.1f} ms" if served else "out of memory"
        lines.append(f"{of_node[0]['node']} {whole}")
    return f"  in all, {len(taken)} prompts: {', '.join(lines)}"


def _text(rows: list[dict[str, Any]]) -> str:
    """A line for each node."""
    shown = ("route", "switch", "prefill", "decode", "latency", "first_token", "per_token")
    lines = []
    for row in rows:
        if "out_of_memory" in row:
            lines.append([row["node"], "out of memory", *[""] * len(shown)])
        else:
            where = {True: "in HBM", False: "copied in", None: "none"}[row["in_hbm"]]
            lines.append([row["node"], where, *(f"{row[f'{name}_ms']:,.1f}" for name in shown)])
    head = ["ms", "expert", "route", "switch", "prefill", "decode", "in all", "TTFT", "TPOT"]
    return table(head, lines, indent="  ", right=True)
