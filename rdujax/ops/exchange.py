"""Exchange: what the sockets of a group do together: sums, gathers and swaps over the links between them.

It is a stage of a kernel like any other, as in the paper (MICRO 2024, section VII): what an earlier stage makes streams
from its buffer through AGCUs to the other sockets, PCUs add up what arrives, and the result lies in a buffer for the
next stage; memory sees none of it. The values and their bits, and who sends what to whom, are those of
`units/p2p/collectives.py`: sums are chained in the order of the sockets, every one rounded once. So it makes no
difference to them in which tiles it is done.

A tile keeps the links busy for its bytes, and is there when the last of its messages has arrived, a latency for each
half of a sum later; meanwhile the next tile may be on the links.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import Priced, ceil_div, exact
from rdujax.machines.machine import Machine
from rdujax.numerics.formats import BF16, FP32, INT32, UINT32, Format
from rdujax.ops.op import Stairs, TensorType, Work
from rdujax.streams.access import Axes
from rdujax.streams.layout import Layout
from rdujax.streams.lift import Executor, must_fit_int32
from rdujax.streams.stream import Stream
from rdujax.streams.tilewise import TileWork, over_results
from rdujax.units import p2p, pcu
from rdujax.units.p2p import collective_traffic, collectives
from rdujax.units.p2p.collective_traffic import Collective
from rdujax.units.p2p.collectives import Group

Kind = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "permute", "index"]
SUMMING: tuple[Kind, ...] = ("all_reduce", "reduce_scatter")


@dataclass(frozen=True)
class Links:
    """What an exchange is given: AGCUs to and from other sockets, as many as keep its links busy, and PCUs to add.

    All exchanges of a kernel share these AGCUs, as they share the links.
    """

    pcus: int
    agcus: int

    def __str__(self) -> str:
        return f"links through {self.agcus} AGCU{'' if self.agcus == 1 else 's'}"


@dataclass(frozen=True)
class Exchange(Work, TileWork):
    """One collective over the sockets along `axis_name`.

    axis: of the operand, that is scattered, gathered or split; joined_axis: that an all_to_all joins. function: of a
    reduction. output: of an all_reduce of FP32 whose total is rounded to BF16 before it is sent to all, that format.
    pairs: (source, target) of a permutation; who is no target gets zeros. An index takes no operand and gives the place
    of the socket, INT32.
    """

    kind: Kind
    axis_name: str
    sockets: int
    function: collectives.Op = "sum"
    axis: int = 0
    joined_axis: int = 0
    pairs: tuple[tuple[int, int], ...] = ()
    output: Format | None = None

    @property
    def name(self) -> str:
        """See `Op`."""
        return self.kind

    def infer(self, *operands: TensorType) -> TensorType:
        """See `Op`; raises FormatError and ShapeError for what cannot be reduced or cut."""
        if self.kind == "index":
            return TensorType((), INT32)
        (x,) = operands
        if self.kind in SUMMING:
            allowed = (BF16, FP32, INT32, UINT32) if self.function == "sum" else (BF16, FP32, INT32)
            if x.fmt not in allowed or (self.output and x.fmt is not FP32):
                allowed = (FP32,) if self.output else allowed
                raise FormatError(
                    describe(f"a {self.function} over sockets", given=x.fmt, allowed=", ".join(map(str, allowed)))
                )
        shape = list(x.shape)
        if self.kind in ("reduce_scatter", "all_to_all"):
            if shape[self.axis] % self.sockets:
                raise ShapeError(
                    describe("parts of unequal length", given=f"axis {self.axis} of {x}",
                             allowed=f"a multiple of {self.sockets} sockets", where=str(self))
                )  # fmt: skip
            shape[self.axis] //= self.sockets
        if self.kind in ("all_gather", "all_to_all"):
            shape[self.axis if self.kind == "all_gather" else self.joined_axis] *= self.sockets
        return TensorType(tuple(shape), self.output or x.fmt)

    def reference(self, *operands: np.ndarray) -> np.ndarray:
        """Refused: one socket does not know what the others hold; ArgumentError."""
        raise ArgumentError(
            describe(
                "the value of one socket alone", given=str(self), do="compare the program with the function itself"
            )
        )

    def flops(self, *operands: TensorType) -> int:
        """See `Op`: additions of the socket that makes most."""
        if self.kind not in SUMMING or not operands[0].fmt.is_float:
            return 0
        result = self.infer(*operands)
        return self._collective(result.elements, result.fmt).chunk * (self.sockets - 1)

    @property
    def reads_wide(self) -> bool:
        """See `Work`: what is sent has the format that is declared."""
        return False

    def walks(self, *shapes: tuple[int, ...]) -> tuple[Axes, ...]:
        """See `Work`: every axis but those that are scattered, gathered, split or joined."""
        whole = {
            "reduce_scatter": (self.axis,),
            "all_gather": (self.axis,),
            "all_to_all": (self.axis, self.joined_axis),
        }
        return tuple(tuple(None if a in whole.get(self.kind, ()) else a for a in range(len(shape))) for shape in shapes)

    def tile(self, output: Format, *operands: jax.Array) -> jax.Array:
        """See `TileWork`; where `axis_name` is a mapped axis."""
        if self.kind == "index":
            return jax.lax.axis_index(self.axis_name)
        (x,) = operands
        # Under vmap, JAX's collectives take no operand that is alike on all sockets: a choice by place makes it differ.
        x = jnp.where(jax.lax.axis_index(self.axis_name) < 0, jnp.zeros_like(x), x)
        if self.kind == "permute":
            return self._permuted(x)
        out = INT32 if output is UINT32 else output  # of the same words
        fmt = FP32 if self.output else out
        shared: dict[str, Any] = {"group": Group(self.axis_name), "tally": False}
        if self.kind == "all_reduce":
            return collectives.all_reduce(x, fmt, op=self.function, out=out, **shared)[0]
        if self.kind == "reduce_scatter":
            return collectives.reduce_scatter(x, fmt, axis=self.axis, op=self.function, **shared)[0]
        if self.kind == "all_gather":
            return collectives.all_gather(x, fmt, axis=self.axis, **shared)[0]
        return collectives.all_to_all(x, fmt, split_axis=self.axis, concat_axis=self.joined_axis, **shared)[0]

    def run(
        self,
        operands: Sequence[Stream],
        layout: Layout,
        output: Format,
        held: Sequence[Format],
        how: Executor = "whole",
        tally: bool = True,
    ) -> tuple[Stream, Counts]:
        """See `Work`."""
        walks = self.walks(*(o.shape for o in operands))
        stream, counts = over_results(self, operands, walks, layout, output, held, how, tally)
        if not tally or self.kind == "index":
            return stream, counts
        return stream, counts + self._tally(layout, self.output or operands[0].fmt)

    @property
    def group(self) -> int:
        """See `Work`."""
        return self.sockets

    def work(self, *operands: TensorType) -> Counts:
        """See `Work`: bytes and sums. Messages are none: the tiles of a stream follow one another on its links."""
        if self.kind == "index":
            return Counts()
        if self.kind == "permute":
            return Counts({"p2p.sent_bytes": len(self._sent) * operands[0].size_bytes})
        result = self.infer(*operands)
        return _in_a_stream(collective_traffic.predict(self._collective(result.elements, result.fmt)))

    def fewest(self, machine: Machine, *operands: TensorType) -> int:
        """See `Work`."""
        return self._line(machine, operands).pcus

    def shares(self, machine: Machine, most: int, *operands: TensorType) -> Stairs:
        """See `Work`: as much as keeps the links busy, and nothing else. Raises ArgumentError for too many sockets."""
        p2p.check_sockets(machine.p2p, self.sockets)
        line = self._line(machine, operands)
        return ((int(self.cycles(machine, line, *operands)), line),) if line.pcus <= most else ()

    def cycles(self, machine: Machine, share: Links, *operands: TensorType) -> Priced:
        """See `Work`: for which a tile keeps the links of a socket busy, each of its messages in one piece."""
        config, clock_hz = machine.p2p, machine.clock_hz.value
        if not self._travels:
            return 1
        if self.kind == "permute":
            return p2p.occupied_cycles(config, clock_hz, operands[0].size_bytes)
        result = self.infer(*operands)
        work = self._collective(result.elements, result.fmt)
        return sum(p2p.occupied_cycles(config, clock_hz, work.chunk * work.width_bytes(each)) for each in work.phases)

    def arrival_cycles(self, machine: Machine, *operands: TensorType) -> Priced:
        """See `Work`: the latency of the links, and that of the way back of a sum that all get."""
        halves = 2 if self.kind == "all_reduce" else 1
        return p2p.latency_cycles(machine.p2p, machine.clock_hz.value) * halves if self._travels else 0

    def feeds(
        self, machine: Machine, share: Links, operands: Sequence[TensorType], held: Sequence[Format], output: Format
    ) -> tuple[list[int], int]:
        """See `Work`: what the links carry."""
        rate = _link_bytes_per_cycle(machine)
        return [rate] * len(operands), rate

    @property
    def _travels(self) -> bool:
        """Whether anything leaves a socket."""
        return self.sockets > 1 and self.kind != "index" and (self.kind != "permute" or bool(self._sent))

    @property
    def _sent(self) -> tuple[tuple[int, int], ...]:
        """The pairs between which something travels."""
        return tuple((source, target) for source, target in self.pairs if source != target)

    def _line(self, machine: Machine, operands: Sequence[TensorType]) -> Links:
        if not self._travels:
            return Links(0, 0)
        rate = _link_bytes_per_cycle(machine)
        agcus = 2 * ceil_div(rate, int(machine.agcu.port_bytes_per_cycle.value))  # there and back
        fmt = operands[0].fmt
        adders = ceil_div(rate, pcu.lane_count(machine.pcu, fmt) * fmt.width_bytes) if self.kind in SUMMING else 0
        return Links(adders, agcus)

    def _collective(self, elements: int, fmt: Format) -> Collective:
        """The traffic that leaves so many elements of `fmt` on each socket."""
        assert self.kind not in ("permute", "index")
        whole = elements * (self.sockets if self.kind == "reduce_scatter" else 1)
        wire = FP32 if self.output else fmt
        return Collective(self.kind, self.sockets, whole, wire.width_bytes, result_bytes=fmt.width_bytes)

    def _tally(self, layout: Layout, fmt: Format) -> Counts:
        """What this socket sends and adds, for every tile that leaves `fmt` in its buffer."""
        sizes, which = np.unique(np.prod(layout.extents, axis=1, dtype=np.int64), return_inverse=True)
        me = jax.lax.axis_index(self.axis_name)
        each = [self._tally_of(int(size), fmt, me) for size in sizes]
        return jax.tree.map(lambda *amounts: jnp.stack(amounts)[which], *each)

    def _tally_of(self, elements: int, fmt: Format, me: jax.Array) -> Counts:
        if self.kind != "permute":
            return _in_a_stream(collective_traffic.tally(self._collective(elements, fmt), me))
        sends = np.isin(np.arange(self.sockets), [source for source, _ in self._sent]).astype(np.int32)
        must_fit_int32(elements * fmt.width_bytes, "bytes of a tile")
        return Counts({"p2p.sent_bytes": jnp.asarray(sends)[me] * jnp.int32(elements * fmt.width_bytes)})

    def _permuted(self, x: jax.Array) -> jax.Array:
        """Every source to its target. Those without a partner are paired up, and what they get is taken as zeros."""
        sources, targets = {s for s, _ in self.pairs}, {t for _, t in self.pairs}
        every = range(self.sockets)
        others = zip((s for s in every if s not in sources), (t for t in every if t not in targets), strict=True)
        moved = jax.lax.ppermute(x, self.axis_name, [*self.pairs, *others])
        if len(targets) == self.sockets:
            return moved
        gets = jnp.asarray(np.isin(np.arange(self.sockets), list(targets)))
        return jnp.where(gets[jax.lax.axis_index(self.axis_name)], moved, jnp.zeros_like(moved))

    def __str__(self) -> str:
        over = f"over {self.axis_name}:{self.sockets}"
        detail: dict[str, Callable[[], str]] = {
            "all_reduce": lambda: f" {self.function}" + (f"->{self.output}" if self.output else ""),
            "reduce_scatter": lambda: f" {self.function}[{self.axis}]",
            "all_gather": lambda: f"[{self.axis}]",
            "all_to_all": lambda: f"[{self.axis},{self.joined_axis}]",
            "permute": lambda: f"[{','.join(f'{s}>{t}' for s, t in self.pairs)}]",
            "index": lambda: "",
        }
        return f"{self.kind}{detail[self.kind]()} {over}"


def _link_bytes_per_cycle(machine: Machine) -> int:
    """Bytes that the links to all peers carry each way, per cycle."""
    config = machine.p2p
    used = p2p.links_per_peer(config) * (int(config.sockets.value) - 1)
    rate = exact(config.bandwidth_bytes_per_s.value) * used
    return ceil_div(rate, int(config.ports.value) * exact(machine.clock_hz.value))  # type: ignore[return-value]


def _in_a_stream(counts: Counts) -> Counts:
    """The counts of a collective whose tiles are no messages of their own."""
    return Counts({name: amount for name, amount in counts.items() if name != "p2p.messages"})
