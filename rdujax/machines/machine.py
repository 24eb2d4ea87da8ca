"""A machine: every fact that a price rests on, as one pytree, and the registry of presets."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import jax
import jax.numpy as jnp

from rdujax.base import facts
from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.base.facts import Fact, record
from rdujax.base.registry import Registry
from rdujax.ledger.numbers import maximum, minimum
from rdujax.units import agcu, d2d, host_link, memory, p2p, pcu, pmu, rdn, tln
from rdujax.units.agcu import launch
from rdujax.units.agcu.launch import ORCHESTRATIONS as ORCHESTRATIONS

MACHINES: Registry[Callable[[], "Machine"]] = Registry("machine")


@dataclass(frozen=True)
class Facts:
    """What can be asked of a record of facts that is a machine; its first field is `name`."""

    name: str

    def facts(self) -> dict[str, Fact]:
        """Every fact by its dotted path, for example "hbm.bandwidth_bytes_per_s"."""
        return dict(facts.walk(self))

    def replace(self, values: dict[str, Any] | None = None, /, **named: Any) -> Self:
        """The machine with facts overridden, by dotted path: `replace({"pcu.count": 9})` or `replace(clock_hz=1.2e9)`.

        Overridden facts are marked as such and remember what they were. Raises UnknownNameError for a path that names
        no fact, ArgumentError for a value that the fact cannot have.
        """
        machine = self
        if not isinstance(values, Mapping | None):
            raise ArgumentError(
                describe("facts to replace", given=repr(values), allowed='a dictionary like {"pcu.count": 9}')
            )
        for path, value in {**(values or {}), **named}.items():
            if path == "name":
                if not isinstance(value, str) or not value:
                    raise ArgumentError(describe("the name of a machine", given=repr(value), allowed="a string"))
                machine = replace(machine, name=value)
            else:
                machine = facts.override(machine, path, value)
        return machine


@record("name")
class Machine(Facts):
    """One socket as a pytree of sourced facts.

    `jax.grad` of a price with respect to a machine gives the price's derivative by every fact. A machine is a value:
    `replace` returns another one.
    """

    name: str
    clock_hz: Fact
    pcu: pcu.Config
    pmu: pmu.Config
    rdn: rdn.Config
    agcu: agcu.Config
    tln: tln.Config
    d2d: d2d.Config
    p2p: p2p.Config
    host_link: host_link.Config
    hbm: memory.Config
    ddr: memory.Config
    host: memory.Config
    launch: launch.Config

    def relaxed(self) -> "Machine":
        """The machine with every fact a float32 JAX value, for derivatives of a price by all facts at once.

        `jax.grad(lambda m: program.cost(m).total_s)(machine.relaxed())` is a machine of slopes.
        """
        return jax.tree.map(jnp.float32, self)

    def tier(self, name: str) -> memory.Config:
        """The memory tier of that name; raises UnknownNameError for any other."""
        if name not in memory.TIERS:
            raise unknown("memory tier", name, memory.TIERS)
        return getattr(self, name)

    def transfer_cycles(self, tier: str, read_bytes: Any, written_bytes: Any = 0) -> Any:
        """Cycles for which streams of a tile keep a memory tier busy that read and write so many bytes of it.

        Those of host memory pass the host link, whose two directions work at the same time: the slower of both counts.
        Exact on plain facts, differentiable in facts that JAX traces. Raises UnknownNameError for another tier.
        """
        clock = self.clock_hz.value
        cycles = memory.transfer_cycles(self.tier(tier), clock, read_bytes + written_bytes)
        if tier != "host":
            return cycles
        return maximum(cycles, host_link.occupied_cycles(self.host_link, clock, read_bytes, written_bytes))

    def launch_s(self, orchestration: str, arguments: int = 0, beginning: str = "launch") -> Any:
        """Seconds of overhead before a kernel runs, by who launches; the run is not included.

        beginning: that of a launch, or where looped, of a run of the kernel that is configured already.
        """
        return launch.launch_s(self.launch, orchestration, arguments, beginning)

    def peak_flops(self) -> Any:
        """BF16 operations per second with every cell of every array busy: PCUs x rows x columns x 2 x clock."""
        return (
            self.pcu.count.value
            * self.pcu.systolic_rows.value
            * self.pcu.systolic_columns.value
            * 2
            * self.clock_hz.value
        )

    def sram_bytes(self) -> Any:
        """SRAM of all PMUs."""
        return self.pmu.count.value * self.pmu.capacity_bytes.value

    def ridge(self, tier: str = "hbm") -> Any:
        """Operational intensity (FLOP per byte) at which peak compute and the tier's peak bandwidth balance.

        That of host memory is no more than the host link lets through one way.
        """
        bandwidth = self.tier(tier).bandwidth_bytes_per_s.value
        if tier == "host":
            bandwidth = minimum(bandwidth, self.host_link.bandwidth_bytes_per_s.value)
        return self.peak_flops() / bandwidth


def named(name: "str | Machine") -> Machine:
    """The machine itself, or the preset of that name; ArgumentError for anything else."""
    if isinstance(name, Machine):
        return name
    if not isinstance(name, str):
        raise ArgumentError(
            describe("a machine", given=repr(name), allowed=f"a Machine, or the name of one: {', '.join(MACHINES)}")
        )
    return MACHINES[name]()
