"""Exchange: what the sockets of a group do together: sums, gathers and swaps over the links between them.

It is a border between kernels, as a loop is: what goes in and what comes out rests in memory, from where and to where
it streams while the links carry it. The values and their bits, and who sends what to whom, are those of
`units/p2p/collectives.py`: sums are chained in the order of the sockets, every one rounded once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any, Literal

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import ArgumentError, FormatError, ShapeError, describe
from rdujax.ledger.counts import Counts
from rdujax.ledger.numbers import Number, Priced
from rdujax.numerics.formats import BF16, FP32, INT32, UINT32, Format
from rdujax.ops.op import TensorType
from rdujax.units import p2p
from rdujax.units.p2p import collective_times, collective_traffic, collectives
from rdujax.units.p2p.collective_traffic import Collective
from rdujax.units.p2p.collectives import Group

Kind = Literal["all_reduce", "reduce_scatter", "all_gather", "all_to_all", "permute", "index"]


@dataclass(frozen=True)
class Exchange:
    """One collective over the sockets along `axis_name`; it answers as a `Region` without bodies does.

    axis: of the operand, that is scattered, gathered or split; joined_axis: that an all_to_all joins. function: of a
    reduction. pairs: (source, target) of a permutation; who is no target gets zeros. An index takes no operand and
    gives the place of the socket, INT32.
    """

    kind: Kind
    axis_name: str
    sockets: int
    function: collectives.Op = "sum"
    axis: int = 0
    joined_axis: int = 0
    pairs: tuple[tuple[int, int], ...] = ()

    @property
    def name(self) -> str:
        """See `Op`."""
        return self.kind

    @property
    def bodies(self) -> tuple[Any, ...]:
        """None: see `Region`."""
        return ()

    @property
    def body_names(self) -> tuple[str, ...]:
        """None: see `Region`."""
        return ()

    def with_bodies(self, bodies: Sequence[Any]) -> "Exchange":
        """See `Region`."""
        return self

    def given(self, operands: Sequence[Any]) -> tuple[Sequence[Any], ...]:
        """See `Region`."""
        return ()

    def infer(self, *operands: TensorType) -> tuple[TensorType, ...]:
        """See `Region`; raises FormatError and ShapeError for what cannot be reduced or cut."""
        if self.kind == "index":
            return (TensorType((), INT32),)
        (x,) = operands
        if self.kind in ("all_reduce", "reduce_scatter"):
            allowed = (BF16, FP32, INT32, UINT32) if self.function == "sum" else (BF16, FP32, INT32)
            if x.fmt not in allowed:
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
        return (TensorType(tuple(shape), x.fmt),)

    def reference(self, *operands: np.ndarray, trip: Any = (), seen: Any = None) -> tuple[np.ndarray, ...]:
        """Refused: one socket does not know what the others hold; ArgumentError."""
        raise ArgumentError(
            describe(
                "the value of one socket alone", given=str(self), do="compare the program with the function itself"
            )
        )

    def flops(self, *operands: TensorType) -> int:
        """See `Region`: additions of the socket that makes most."""
        if self.kind not in ("all_reduce", "reduce_scatter") or not operands[0].fmt.is_float:
            return 0
        return self._work(operands[0]).chunk * (self.sockets - 1)

    def run(self, operands: Sequence[jax.Array], fmts: Sequence[Format], tally: bool) -> tuple[jax.Array, Counts]:
        """The carriers of the result on this socket, and what it counts; where `axis_name` is a mapped axis."""
        if self.kind == "index":
            return jax.lax.axis_index(self.axis_name), Counts()
        (x,), (fmt,) = operands, fmts
        # Under vmap, JAX's collectives take no operand that is alike on all sockets: a choice by place makes it differ.
        x = jnp.where(jax.lax.axis_index(self.axis_name) < 0, jnp.zeros_like(x), x)
        if self.kind == "permute":
            return self._permuted(x, fmt, tally)
        fmt = INT32 if fmt is UINT32 else fmt  # of the same words
        shared: dict[str, Any] = {"group": Group(self.axis_name), "tally": tally}
        if self.kind == "all_reduce":
            return collectives.all_reduce(x, fmt, op=self.function, **shared)
        if self.kind == "reduce_scatter":
            return collectives.reduce_scatter(x, fmt, axis=self.axis, op=self.function, **shared)
        if self.kind == "all_gather":
            return collectives.all_gather(x, fmt, axis=self.axis, **shared)
        return collectives.all_to_all(x, fmt, split_axis=self.axis, concat_axis=self.joined_axis, **shared)

    def counts(self, *operands: TensorType) -> Counts:
        """What all sockets count together, from shapes alone."""
        if self.kind == "index":
            return Counts()
        if self.kind == "permute":
            return Counts({"p2p.messages": len(self._sent), "p2p.sent_bytes": len(self._sent) * operands[0].size_bytes})
        return collective_traffic.predict(self._work(operands[0]))

    def cycles(self, config: p2p.Config, clock_hz: Number, *operands: TensorType) -> Priced:
        """Cycles until the last socket is done, each message in one piece; exact, or differentiable in the facts."""
        if self.kind == "index" or self.sockets == 1:
            return 0
        p2p.check_sockets(config, self.sockets)
        if self.kind == "permute":
            return p2p.transfer_cycles(config, clock_hz, operands[0].size_bytes) if self._sent else 0
        return collective_times.cycles(config, clock_hz, self._work(operands[0]))

    @property
    def _sent(self) -> tuple[tuple[int, int], ...]:
        """The pairs between which something travels."""
        return tuple((source, target) for source, target in self.pairs if source != target)

    def _work(self, x: TensorType) -> Collective:
        assert self.kind not in ("permute", "index")
        elements = prod(x.shape) * (self.sockets if self.kind == "all_gather" else 1)
        return Collective(self.kind, self.sockets, elements, x.fmt.width_bytes)

    def _permuted(self, x: jax.Array, fmt: Format, tally: bool) -> tuple[jax.Array, Counts]:
        """Every source to its target. Those without a partner are paired up, and what they get is taken as zeros."""
        sources, targets = {s for s, _ in self.pairs}, {t for _, t in self.pairs}
        every = range(self.sockets)
        others = zip((s for s in every if s not in sources), (t for t in every if t not in targets), strict=True)
        moved = jax.lax.ppermute(x, self.axis_name, [*self.pairs, *others])
        me = jax.lax.axis_index(self.axis_name)
        if len(targets) < self.sockets:
            gets = jnp.asarray(np.isin(np.arange(self.sockets), list(targets)))
            moved = jnp.where(gets[me], moved, jnp.zeros_like(moved))
        if not tally:
            return moved, Counts()
        sends = np.isin(np.arange(self.sockets), [s for s, _ in self._sent]).astype(np.int32)
        mine = jnp.asarray(sends)[me]
        size_bytes = x.size * fmt.width_bytes
        return moved, Counts({"p2p.messages": mine, "p2p.sent_bytes": mine * jnp.int32(size_bytes)})

    def __str__(self) -> str:
        over = f"over {self.axis_name}:{self.sockets}"
        detail: dict[str, Callable[[], str]] = {
            "all_reduce": lambda: f" {self.function}",
            "reduce_scatter": lambda: f" {self.function}[{self.axis}]",
            "all_gather": lambda: f"[{self.axis}]",
            "all_to_all": lambda: f"[{self.axis},{self.joined_axis}]",
            "permute": lambda: f"[{','.join(f'{s}>{t}' for s, t in self.pairs)}]",
            "index": lambda: "",
        }
        return f"{self.kind}{detail[self.kind]()} {over}"
