"""A machine: every fact that a price rests on, as one pytree, and the registry of presets."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from rdujax.base import facts
from rdujax.base.errors import unknown
from rdujax.base.facts import Fact, record
from rdujax.base.registry import Registry
from rdujax.units import agcu, memory, pcu, pmu

MACHINES: Registry[Callable[[], "Machine"]] = Registry("machine")
ORCHESTRATIONS = ("software", "hardware")


@record()
class Launch:
    """Facts of a kernel launch (program load, argument load, execute), in seconds per launch."""

    software_s: Fact
    hardware_s: Fact


@record("name")
class Machine:
    """One socket as a pytree of sourced facts.

    `jax.grad` of a price with respect to a machine gives the price's derivative by every fact. A machine is a value:
    `replace` returns another one.
    """

    name: str
    clock_hz: Fact
    pcu: pcu.Config
    pmu: pmu.Config
    agcu: agcu.Config
    hbm: memory.Config
    ddr: memory.Config
    host: memory.Config
    launch: Launch

    def facts(self) -> dict[str, Fact]:
        """Every fact by its dotted path, for example "hbm.bandwidth_bytes_per_s"."""
        return dict(facts.walk(self))

    def replace(self, values: dict[str, Any] | None = None, /, **named: Any) -> "Machine":
        """The machine with facts overridden, by dotted path: `replace({"pcu.count": 9})` or `replace(clock_hz=1.2e9)`.

        Overridden facts are marked as such and remember what they were. Raises UnknownNameError for a path that names
        no fact.
        """
        machine = self
        for path, value in {**(values or {}), **named}.items():
            if path == "name":
                machine = replace(machine, name=value)
            else:
                machine = facts.override(machine, path, value)
        return machine

    def tier(self, name: str) -> memory.Config:
        """The memory tier of that name; raises UnknownNameError for any other."""
        if name not in memory.TIERS:
            raise unknown("memory tier", name, memory.TIERS)
        return getattr(self, name)

    def launch_s(self, orchestration: str) -> Any:
        """Seconds of overhead per kernel launch under software or hardware orchestration."""
        if orchestration not in ORCHESTRATIONS:
            raise unknown("orchestration", orchestration, ORCHESTRATIONS)
        return getattr(self.launch, f"{orchestration}_s").value

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
        """Operational intensity (FLOP per byte) at which peak compute and the tier's peak bandwidth balance."""
        return self.peak_flops() / self.tier(tier).bandwidth_bytes_per_s.value


def named(name: "str | Machine") -> Machine:
    """The machine itself, or the preset of that name."""
    return name if isinstance(name, Machine) else MACHINES[name]()
