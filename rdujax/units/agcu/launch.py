"""Launch of a kernel: program load, argument load, execute; its order kept by the host or by the AGCUs.

What it is     Before a kernel runs, AGCUs load its program (the configuration of all units of the tile) and its
               arguments, then let it execute (MICRO 2024, section IV-D). Orchestrated by software, the host asks for
               each launch; by hardware, a static schedule kept by the AGCUs does.

                   software   host | program | argument | execute | run |  host | program | ...
                   hardware          program | argument | execute | run |  program | argument | ...
                   prefetch          program | argument | execute | run |  argument | execute | ...
                                                        | program  |

The law        A phase of a kernel begins when the one before it has ended. The first phase of a kernel begins when the
               kernel before it has run; with `prefetch`, its program load begins when that kernel's execute begins, and
               its argument load waits for both. Overhead of one launch = the sum of its phases, the run not included.
               The host says each argument of a kernel: host = host_s + arguments x host_argument_s.
Modelled       the four phases, both orchestrations, one program loaded ahead, exact times; how many arguments the host
               has to say: every stream between a kernel and memory is one.
Not modelled   sizes of programs, how many arguments the AGCUs load, several tiles that run kernels at the same time, a
               program kept for the next launch (a loop inside one launch is the compiler's business).
Sources        MICRO 2024, section IV-D; no duration is public: they are assumptions of the machine.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from rdujax.base.errors import ArgumentError, describe, unknown
from rdujax.base.facts import Fact, record
from rdujax.ledger.numbers import Number, Priced, common, is_exact, maximum

ORCHESTRATIONS = ("software", "hardware")


@record()
class Config:
    """Facts of one kernel launch, in seconds.

    program_load_s, argument_load_s: the two loads. execute_s: from the start signal until the pipeline is full, and
    from its last result until it is empty. host_s, host_argument_s: of the host, only under software orchestration: for
    each launch, and for each argument of its kernel.
    """

    program_load_s: Fact
    argument_load_s: Fact
    execute_s: Fact
    host_s: Fact
    host_argument_s: Fact


@dataclass(frozen=True)
class Kernel:
    """One launch of a schedule: its name, the seconds that it runs once it executes, and how many arguments it has."""

    name: str
    run_s: Number
    arguments: int = 0


@dataclass(frozen=True)
class Phase:
    """One phase of one launch. name: "host", "program", "argument", "execute" or "run"."""

    kernel: str
    name: str
    start_s: Priced
    end_s: Priced


def launch_s(config: Config, orchestration: str, arguments: int = 0) -> Priced:
    """Seconds of overhead of one launch of a kernel of so many arguments: exact, or differentiable in the facts.

    Raises UnknownNameError for anything but "software" and "hardware".
    """
    return reduce(_plus, (seconds for _, seconds in _phases(config, orchestration, arguments)))


def timeline(
    config: Config, kernels: Sequence[Kernel], orchestration: str, *, prefetch: bool = False
) -> tuple[Phase, ...]:
    """Every phase of a schedule of launches, in order of kernels and phases: who waits for what.

    kernels: launched one after another. prefetch: load the next program while a kernel executes and runs; only the
    hardware's schedule knows what comes next. Exact on plain facts and run times, differentiable otherwise. Raises
    ArgumentError for a negative run time and for a prefetch by software, UnknownNameError for an orchestration.

    >>> from rdujax.machines import tiny
    >>> for phase in timeline(tiny().launch, [Kernel("gemm", 0.002)], "software"):
    ...     print(f"{phase.name:<8} {float(phase.start_s):.5f} {float(phase.end_s):.5f}")
    host     0.00000 0.00090
    program  0.00090 0.00095
    argument 0.00095 0.00097
    execute  0.00097 0.00100
    run      0.00100 0.00300
    """
    _phases(config, orchestration, 0)  # the name is checked even where there is no kernel
    if prefetch and orchestration != "hardware":
        raise ArgumentError(
            describe(
                "a program cannot be loaded ahead of a launch that the host has not asked for",
                given=f"prefetch=True, orchestration {orchestration!r}",
                allowed="prefetch=False, or orchestration 'hardware'",
            )
        )
    found: list[Phase] = []
    idle_s: Priced = 0
    loader_s: Priced | None = None
    for kernel in kernels:
        phases = _launch(kernel, _phases(config, orchestration, kernel.arguments), idle_s, loader_s)
        found += phases
        idle_s = phases[-1].end_s
        loader_s = phases[-2].start_s if prefetch else None
    return tuple(found)


def end_s(phases: Sequence[Phase]) -> Priced:
    """When the last kernel of a timeline has run; 0 for an empty one."""
    return phases[-1].end_s if phases else 0


def _launch(
    kernel: Kernel, durations: Sequence[tuple[str, Priced]], idle_s: Priced, loader_s: Priced | None
) -> list[Phase]:
    """The phases of a kernel. idle_s: when the one before has run. loader_s: when its program may be loaded ahead."""
    if is_exact(kernel.run_s) and kernel.run_s < 0:
        raise ArgumentError(
            describe("a kernel cannot run for less than no time", given=f"{kernel.run_s} s", where=kernel.name)
        )
    now, found = idle_s if loader_s is None else loader_s, []
    for name, seconds in (*durations, ("run", kernel.run_s)):
        if name == "argument":
            now = maximum(now, idle_s)
        found.append(Phase(kernel.name, name, now, _plus(now, seconds)))
        now = found[-1].end_s
    return found


def _phases(config: Config, orchestration: str, arguments: int) -> list[tuple[str, Priced]]:
    if orchestration not in ORCHESTRATIONS:
        raise unknown("orchestration", orchestration, ORCHESTRATIONS)
    each, count = common(config.host_argument_s.value, arguments)
    host = _plus(config.host_s.value, each * count)
    return [
        *([("host", host)] if orchestration == "software" else []),
        ("program", config.program_load_s.value),
        ("argument", config.argument_load_s.value),
        ("execute", config.execute_s.value),
    ]


def _plus(a: Number, b: Number) -> Priced:
    one, other = common(a, b)
    return one + other
