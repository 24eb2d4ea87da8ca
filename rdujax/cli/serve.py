"""A Samba-CoE over HTTP, as OpenAI's API: trained experts, on an emulated node that says what all takes.

`./scripts/serve --as llama2-7b` or, where the package is installed, `rdujax serve --as llama2-7b` serves on port 8000.

Model "samba-coe" lets the router choose, "samba-coe/math" names an expert. Each reply has a field `rdujax`: the expert,
the router's confidence, whether HBM had it, and the parts of its time on the node, on which each expert has the size
that --as says. Open the address in a browser for a page. Ctrl-C ends it when what waits is answered; twice, at once.
"""

import argparse
import ipaddress
import signal
import sys
from contextlib import suppress
from math import ceil
from pathlib import Path

import uvicorn

from experts.composition import TRAINED, Composition
from experts.generate import generate
from experts.llama import Llama
from experts.router import route
from experts.tokenizer import prompt_ids
from rdujax.base.errors import ArgumentError, describe
from rdujax.cli.coe import SIZES
from rdujax.cli.options import length
from rdujax.coe.models import Shapes
from rdujax.coe.nodes import Options
from rdujax.coe.platforms import OnGpus, OnRdus, Platform
from rdujax.coe.policies import POLICIES
from rdujax.coe.store import Store
from rdujax.coe.systems import system
from rdujax.machines.dgx import STACKS, dgx_a100, dgx_h100
from rdujax.machines.node import sn40l_node
from rdujax.serve.app import Limits, Service
from rdujax.serve.emulated import CLOCKS, EmulatedNode
from rdujax.serve.engine import Engine
from rdujax.serve.protocol import PatientProtocol
from rdujax.serve.shelf import Shelf

NODES = ("sn40l", "dgx-a100", "dgx-h100")
LOOPBACK = ("localhost", "127.0.0.1", "[::1]")
CONNECTIONS = 512  # at the same time; more are refused


def parser() -> argparse.ArgumentParser:
    """The options of `rdujax serve`."""
    p = argparse.ArgumentParser(
        prog="rdujax serve", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--host", default="127.0.0.1", help="address to listen on (default 127.0.0.1: this machine alone)")
    p.add_argument("--port", type=_port, default=8000, help="port (default 8000; 0: any that is free)")
    p.add_argument("--models", type=Path, default=TRAINED, help="folder of the models (default experts/trained)")
    on = p.add_argument_group("the emulated node")
    on.add_argument("--node", choices=NODES, default=NODES[0], help=f"what serves (default {NODES[0]})")
    on.add_argument("--stack", choices=STACKS, default=STACKS[0], help=f"software of a DGX (default {STACKS[0]})")
    on.add_argument(
        "--as", dest="size", choices=SIZES, default="llama2-7b", help="each expert has the size of one of these"
    )
    on.add_argument("--experts", type=length, default=140, help="experts of the composition (default 140)")
    on.add_argument("--policy", choices=list(POLICIES), default="lru", help="who leaves HBM (default lru)")
    on.add_argument("--pin", action="append", default=[], metavar="EXPERT", help="never leaves HBM; may be repeated")
    on.add_argument("--batch", type=length, default=1, help="prompts that are taken at once (default 1)")
    on.add_argument("--grouped", action="store_true", help="prompts of a batch for one expert run together")
    on.add_argument("--prefetch", type=int, default=0, help="so many experts of a batch are copied ahead (default 0)")
    on.add_argument("--clock", choices=CLOCKS, default=CLOCKS[0], help="blocking: tokens come when the node has them")
    limits = p.add_argument_group("limits")
    limits.add_argument("--queue", type=length, default=64, help="prompts that may wait (default 64; then 429)")
    limits.add_argument("--timeout", type=float, default=60.0, help="seconds until an answer is there (default 60)")
    limits.add_argument("--body-bytes", type=length, default=64 * 1024, help="of a request, at most (default 65536)")
    return p


def _port(text: str) -> int:
    if not (text.isdecimal() and int(text) < 65536):
        raise argparse.ArgumentTypeError(f"{text!r} given, 0 to 65535 allowed")
    return int(text)


def service_of(args: argparse.Namespace, store: Store) -> Service:
    """The whole server but its socket, ready to answer. Raises RduError and CheckpointError for what cannot be."""
    if not 0 < args.timeout < float("inf"):
        raise ArgumentError(describe("--timeout", given=args.timeout, allowed="seconds, more than 0"))
    composition, config, names = Composition(args.models), SIZES[args.size], store.names
    if args.experts < len(names):
        raise ArgumentError(
            describe("--experts", given=args.experts, allowed=f"{len(names)} or more, the trained ones alone")
        )
    every = [*names, *(f"another {at}" for at in range(args.experts - len(names)))]
    room = composition.router.body.config.positions
    # Of prompts that run together, one may have the longest prompt and another the longest answer.
    positions = (room, 2 * room) if args.grouped else (room,)
    together = tuple({1, args.batch})
    shapes = Shapes(together, (room // 2, room), positions)
    options = Options(args.batch, args.grouped, args.prefetch)
    print(f"pricing programs on {args.node} ...", file=sys.stderr, flush=True)
    of = system(_platform(args), every, config, config, shapes, routed=together, pinned=args.pin)
    node = EmulatedNode(of, POLICIES[args.policy](), options, args.clock, filled=every)
    shelf = Shelf(store)
    _warm(composition, shelf.model(names[0]))
    engine = Engine(composition.router, composition.tokenizer, shelf, node, args.queue, args.batch)
    return Service(engine, names, Limits(args.body_bytes, answer_s=args.timeout))


def main(argv: list[str] | None = None) -> int:
    """Serves until it is told to end; 0 then. Raises RduError and CheckpointError for what cannot be served."""
    args = parser().parse_args(argv)
    signal.signal(signal.SIGTERM, _end)
    names = Composition(args.models).experts
    with Store.of_folders({name: args.models / name for name in names}) as store:
        service = service_of(args, store)
        app = service.app((*LOOPBACK, args.host) if _is_loopback(args.host) else ("*",))
        config = uvicorn.Config(
            app, args.host, args.port, log_level="warning", server_header=False, limit_concurrency=CONNECTIONS,
            http=PatientProtocol,
            timeout_graceful_shutdown=ceil(args.timeout), timeout_keep_alive=5,
        )  # fmt: skip
        with suppress(KeyboardInterrupt):  # which uvicorn passes on when it has ended in good order
            _Announced(config).run()
        service.engine.close()
    return 0


def _end(*of_a_signal: object) -> None:
    """As Ctrl-C, so that home copies are removed."""
    raise KeyboardInterrupt


class _Announced(uvicorn.Server):
    """Says where it listens, once it does."""

    async def startup(self, sockets: list | None = None) -> None:
        await super().startup(sockets)
        for server in self.servers if self.started else ():
            for socket in server.sockets:
                host, port = socket.getsockname()[:2]
                print(f"serving on http://{f'[{host}]' if ':' in host else host}:{port}", file=sys.stderr, flush=True)


def _warm(composition: Composition, model: Llama) -> None:
    """Compiles what prompts of usual lengths need, so that the first of them does not wait for it."""
    words = prompt_ids(composition.tokenizer, "one two three four five six seven eight nine ten " * 3)
    for size in (8, 16, 32, 48):
        ids = words[:size]
        route(composition.router, [ids])
        generate(
            model, [ids], most=model.config.positions - size, stop=range(model.config.vocab), streamed=lambda new: None
        )


def _platform(args: argparse.Namespace) -> Platform:
    if args.node == "sn40l":
        return OnRdus(sn40l_node())
    return OnGpus({"dgx-a100": dgx_a100, "dgx-h100": dgx_h100}[args.node](args.stack))


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


if __name__ == "__main__":
    sys.exit(main())
