"""Launch of a kernel: program load, argument load, execute; its order kept by the host or by the AGCUs.

What it is     Before a kernel runs, AGCUs load its program (the configuration of all units of the tile) and its
               arguments, then let it execute (MICRO 2024, section IV-D). Orchestrated by software, the host asks for
               each launch; by hardware, a static schedule kept by the AGCUs does. Looped, that schedule also knows
               which kernel is configured already: its next run is no launch.

                   software   host | program | argument | execute | run |  host | program | ...
                   hardware          program | argument | execute | run |  program | argument | ...
                   prefetch          program | argument | execute | run |  argument | execute | ...
                                                        | program  |
                   looped            program | argument | execute | run |  advance  | execute | run | ...

The law        A phase of a kernel begins when the one before it has ended. The first phase of a kernel begins when the
               kernel before it has run; with `prefetch`, its program load begins when that kernel's execute begins, and
               its argument load waits for both. Overhead of one launch = the sum of its phases, the run not included.
               A run of the kernel that is configured already begins without a program load: with "advance", where its
               addresses follow from those of the run before by counters of the AGCUs, as from one trip of a loop to
               the next; with "argument", where others are loaded, as for a layer that was written out once more. Its
               pipeline has run empty and fills again, so that it has an "execute" like any other.
               The host says each argument of a kernel: host = host_s + arguments x host_argument_s.
Modelled       the phases, all orchestrations, one program loaded ahead, exact times; how many arguments the host has
               to say: every stream between a kernel and memory is one.
Not modelled   sizes of programs, how many arguments the AGCUs load, several tiles that run kernels at the same time,
               a trip of a loop that begins while the one before it drains.
Sources        MICRO 2024, section IV-D; "Kernel Looping", arXiv 2410.23668: consecutive calls of one kernel as a single
               call with a loop in it; no duration is public: they are assumptions of the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.base.facts import Fact, record
from rdujax.ledger.numbers import Number, Priced, common, is_exact, maximum

ORCHESTRATIONS = ("software", "hardware", "looped")
BEGINNINGS = ("launch", "argument", "advance")  # of a run; the last two of a kernel that is configured already


@record()
class Config:
    """Facts of one kernel launch, in seconds.

    program_load_s, argument_load_s: the two loads. execute_s: from the start signal until the pipeline is full, and
    from its last result until it is empty. host_s, host_argument_s: of the host, only under software orchestration: for
    each launch, and for each argument of its kernel. advance_s: only where looped: from the end of a run until the
    AGCUs have the addresses of the next one, by their own counters.
    """

    program_load_s: Fact
    argument_load_s: Fact
    execute_s: Fact
    host_s: Fact
    host_argument_s: Fact
    advance_s: Fact


@dataclass(frozen=True)
class Kernel:
    """One run of a schedule: its name, the seconds that it runs once it executes, and how many arguments it has.

    beginning: "launch", or of the kernel that is configured already "argument" or "advance", see the law.
    """

    name: str
    run_s: Number
    arguments: int = 0
    beginning: str = "launch"


@dataclass(frozen=True)
class Phase:
    """One phase of one run. name: "host", "program", "argument", "advance", "execute" or "run"."""

    kernel: str
    name: str
    start_s: Priced
    end_s: Priced


def launch_s(config: Config, orchestration: str, arguments: int = 0, beginning: str = "launch") -> Priced:
    """Seconds before a kernel of so many arguments runs: exact, or differentiable in the facts; raises as `phases`."""
    return reduce(_plus, (seconds for _, seconds in phases(config, orchestration, arguments, beginning)))


def timeline(
    config: Config, kernels: Sequence[Kernel], orchestration: str, *, prefetch: bool = False
) -> tuple[Phase, ...]:
    """Every phase of a schedule of runs, in order of kernels and phases: who waits for what.

    kernels: run one after another. prefetch: load the next program while a kernel executes and runs; only the
    hardware's schedule knows what comes next. Exact on plain facts and run times, differentiable otherwise. Raises
    ArgumentError for a negative run time, for a prefetch by software, and for a first kernel that is not launched;
    otherwise as `phases`.

    >>> from rdujax.machines import tiny
    >>> for phase in timeline(tiny().launch, [Kernel("gemm", 0.002)], "software"):
    ...     print(f"{phase.name:<8} {float(phase.start_s):.5f} {float(phase.end_s):.5f}")
    host     0.00000 0.00090
    program  0.00090 0.00095
    argument 0.00095 0.00097
    execute  0.00097 0.00100
    run      0.00100 0.00300
    """
    phases(config, orchestration)  # the name is checked even where there is no kernel
    if kernels and kernels[0].beginning != "launch":
        raise ArgumentError(
            describe("nothing is configured before the first kernel", given=repr(kernels[0].beginning),
                     allowed="'launch'", where=kernels[0].name)
        )  # fmt: skip
    if prefetch and orchestration == "software":
        raise ArgumentError(
            describe(
                "a program cannot be loaded ahead of a launch that the host has not asked for",
                given=f"prefetch=True, orchestration {orchestration!r}",
                allowed="prefetch=False, or orchestration 'hardware' or 'looped'",
            )
        )
    found: list[Phase] = []
    idle_s: Priced = 0
    loader_s: Priced | None = None
    for kernel in kernels:
        durations = phases(config, orchestration, kernel.arguments, kernel.beginning)
        found += _run(kernel, durations, idle_s, loader_s)
        idle_s = found[-1].end_s
        loader_s = found[-2].start_s if prefetch else None
    return tuple(found)


def end_s(phases: Sequence[Phase]) -> Priced:
    """When the last kernel of a timeline has run; 0 for an empty one."""
    return phases[-1].end_s if phases else 0


def _run(
    kernel: Kernel, durations: Sequence[tuple[str, Priced]], idle_s: Priced, loader_s: Priced | None
) -> list[Phase]:
    """The phases of a kernel. idle_s: when the one before has run. loader_s: when its program may be loaded ahead."""
    if is_exact(kernel.run_s) and kernel.run_s < 0:
        raise ArgumentError(
            describe("a kernel cannot run for less than no time", given=f"{kernel.run_s} s", where=kernel.name)
        )
    now, found = idle_s if loader_s is None else loader_s, []
    for name, seconds in (*durations, ("run", kernel.run_s)):
        if name in ("argument", "advance"):
            now = maximum(now, idle_s)
        found.append(Phase(kernel.name, name, now, _plus(now, seconds)))
        now = found[-1].end_s
    return found


def phases(
    config: Config, orchestration: str, arguments: int = 0, beginning: str = "launch"
) -> list[tuple[str, Priced]]:
    """Names and seconds of the phases before a kernel of so many arguments runs, in order.

    Raises UnknownNameError for an orchestration or a beginning that does not exist, ArgumentError for a run without a
    launch where each run is launched.
    """
    if orchestration not in ORCHESTRATIONS:
        raise unknown("orchestration", orchestration, ORCHESTRATIONS)
    if beginning not in BEGINNINGS:
        raise unknown("beginning of a run", beginning, BEGINNINGS)
    execute = ("execute", config.execute_s.value)
    if beginning != "launch":
        if orchestration != "looped":
            raise ArgumentError(
                describe("every run is launched", given=f"{beginning!r}, orchestration {orchestration!r}",
                         allowed="'launch', or orchestration 'looped'")
            )  # fmt: skip
        fact = config.argument_load_s if beginning == "argument" else config.advance_s
        return [(beginning, fact.value), execute]
    each, count = common(config.host_argument_s.value, arguments)
    host = _plus(config.host_s.value, each * count)
    return [
        *([("host", host)] if orchestration == "software" else []),
        ("program", config.program_load_s.value),
        ("argument", config.argument_load_s.value),
        execute,
    ]


def _plus(a: Number, b: Number) -> Priced:
    one, other = common(a, b)
    return one + other
