"""What a node is for a composition: the bytes of its tiers, how fast it copies, and what a program costs on it.

SN40L    HBM and DDR of all sockets; an expert is cut over them, and each copies its part from its own DDR
DGX      HBM of all GPUs, and the host's memory, from which experts come over the host's links
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Protocol

from rdujax.base.errors import ArgumentError, describe
from rdujax.coe.traffic import SECOND_PS
from rdujax.compiler.program import Program, compile
from rdujax.estimate.gpu import gpu_price
from rdujax.graph.launches import Course
from rdujax.ledger.numbers import ceil_div, exact, maximum
from rdujax.machines.dgx import Dgx
from rdujax.machines.machine import ORCHESTRATIONS
from rdujax.machines.node import RduNode


@dataclass(frozen=True)
class Call:
    """A function on all sockets of a node, with shapes of its arguments. donated: which of these are given away."""

    fn: Callable[..., Any]
    args: Sequence[Any]
    donated: tuple[int, ...] = ()


class Platform(Protocol):
    """What a composition asks of a node. Times are whole picoseconds."""

    @property
    def name(self) -> str:
        """As the machine's."""
        ...

    @property
    def sockets(self) -> int:
        """On how many a model is shared out."""
        ...

    @property
    def hbm_bytes(self) -> int:
        """Of the tier that programs run from."""
        ...

    @property
    def home_bytes(self) -> int:
        """Of the tier where experts are at home: DDR, or the host's memory."""
        ...

    @property
    def start_ps(self) -> int:
        """What a run of a model takes before its first kernel."""
        ...

    def copy_ps(self, amount_bytes: int) -> int:
        """So many bytes of an expert from its home to HBM."""
        ...

    def run_ps(self, call: Call) -> int:
        """One run of a program, `start_ps` not included."""
        ...


@dataclass(frozen=True)
class OnRdus:
    """A node of RDUs; orchestration: who launches kernels."""

    machine: RduNode
    orchestration: str = "hardware"

    def __post_init__(self) -> None:
        if self.orchestration not in ORCHESTRATIONS:
            raise ArgumentError(
                describe("orchestration", given=repr(self.orchestration), allowed=", ".join(ORCHESTRATIONS))
            )

    @property
    def name(self) -> str:
        """See `Platform`."""
        return self.machine.name

    @property
    def sockets(self) -> int:
        """See `Platform`."""
        return int(self.machine.sockets)

    @property
    def hbm_bytes(self) -> int:
        """See `Platform`."""
        return self.sockets * int(self.machine.socket.hbm.capacity_bytes.value)

    @property
    def home_bytes(self) -> int:
        """See `Platform`."""
        return self.sockets * int(self.machine.socket.ddr.capacity_bytes.value)

    @property
    def start_ps(self) -> int:
        """See `Platform`."""
        return picoseconds(self.machine.start_s.value)

    def copy_ps(self, amount_bytes: int) -> int:
        """Through the pipeline of both tiers, the slower of which counts; see `Platform`."""
        socket, part = self.machine.socket, -(-amount_bytes // self.sockets)
        cycles = maximum(socket.transfer_cycles("ddr", part), socket.transfer_cycles("hbm", 0, part))
        return picoseconds(Fraction(cycles) / exact(socket.clock_hz.value))

    def run_ps(self, call: Call) -> int:
        """See `Platform`."""
        return picoseconds(self.program(call).cost().total_s)

    def program(self, call: Call) -> Program:
        """Fused for one of the sockets."""
        found = compile(call.fn, *call.args, machine=self.machine.socket, donate_argnums=call.donated)
        return found if self.orchestration == "hardware" else found.replace(orchestration=self.orchestration)


@dataclass(frozen=True)
class OnGpus:
    """A node of GPUs."""

    machine: Dgx

    @property
    def name(self) -> str:
        """See `Platform`."""
        return self.machine.name

    @property
    def sockets(self) -> int:
        """See `Platform`."""
        return int(self.machine.gpus.value)

    @property
    def hbm_bytes(self) -> int:
        """See `Platform`."""
        return self.sockets * int(self.machine.hbm.capacity_bytes.value)

    @property
    def home_bytes(self) -> int:
        """See `Platform`."""
        return int(self.machine.host.capacity_bytes.value)

    @property
    def start_ps(self) -> int:
        """See `Platform`."""
        return picoseconds(self.machine.stack.start_s.value)

    def copy_ps(self, amount_bytes: int) -> int:
        """See `Platform`."""
        return ceil_div(amount_bytes * SECOND_PS, exact(self.machine.copy_bytes_per_s.value))

    def run_ps(self, call: Call) -> int:
        """See `Platform`."""
        program = compile(call.fn, *call.args, fusion="none", donate_argnums=call.donated)
        cost = gpu_price(program.plan, self.machine, Course(program.graph), self.sockets)
        return picoseconds(cost.total_s)


def picoseconds(seconds: Any) -> int:
    """Whole ones, rounded up."""
    return ceil_div(exact(seconds) * SECOND_PS, 1)
