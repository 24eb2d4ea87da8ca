"""The price of a program on a node of GPUs: the same graph, its operators as kernels, memory between them.

The law: a kernel takes what its operations take at the reachable peak or its bytes at the reachable bandwidth,
whichever is longer, and its overhead; a collective takes what a GPU sends at the bandwidth of its link, and its
overhead. Kernels run one after the other. An operator that only computes element by element, or only moves, is a part
of the kernel before or behind it, as libraries of such stacks have it, and costs nothing of its own; `fused=False`
prices it, too, as a framework runs it that has no such library.

Bytes are of operands and results, each once: what a cache holds back or a tile reads twice is not modelled.
"""

from dataclasses import dataclass
from typing import Any

from rdujax.base.errors import ArgumentError, describe
from rdujax.graph.launches import Course, Launches, launches
from rdujax.graph.plan import Plan
from rdujax.ledger.numbers import common, maximum, ratio
from rdujax.machines.dgx import Dgx
from rdujax.ops.contract import Contract
from rdujax.ops.reduce import Reduce


@dataclass(frozen=True)
class GpuCost:
    """Of one GPU, all of which do the same; seconds by cause. kernels, collectives: how often they run."""

    kernels: int
    collectives: int
    flops: int
    moved_bytes: int
    work_s: Any
    sent_s: Any
    kernel_overhead_s: Any
    collective_overhead_s: Any

    @property
    def total_s(self) -> Any:
        """Of everything, but for what a stack takes to start (`Stack.start_s`)."""
        parts = common(self.work_s, self.sent_s, self.kernel_overhead_s, self.collective_overhead_s)
        return sum(parts[1:], parts[0])


def gpu_price(plan: Plan, dgx: Dgx, course: Course, sockets: int, fused: bool = True) -> GpuCost:
    """What a plan that cuts operator by operator costs on a node that has as many GPUs as the plan has sockets.

    Exact on plain facts; differentiable in facts that JAX traces. Raises ArgumentError for another number of GPUs, and
    for a plan of larger kernels.
    """
    if plan.fusion != "none" or sockets not in (1, dgx.gpus.value):
        raise ArgumentError(
            describe("a plan that does not fit a node of GPUs", given=f"fusion={plan.fusion!r}, {sockets} sockets",
                     allowed=f"fusion='none', 1 or {dgx.gpus.value} sockets")
        )  # fmt: skip
    kernels = collectives = flops = moved_bytes = 0
    work_s: Any = 0
    sent_s: Any = 0
    for each in launches(plan, course):
        if sent := _sent_bytes(each):
            collectives += each.times
            sent_s = _plus(sent_s, ratio(sent * each.times, dgx.link_bytes_per_s.value))
        elif not fused or _is_kernel(each):
            kernels += each.times
            own_flops, own_bytes = _flops(each), _bytes(each)
            flops, moved_bytes = flops + own_flops * each.times, moved_bytes + own_bytes * each.times
            work_s = _plus(work_s, _times(_work_s(dgx, own_flops, own_bytes), each.times))
    overheads = _times(dgx.stack.kernel_s.value, kernels), _times(dgx.stack.collective_s.value, collectives)
    return GpuCost(kernels, collectives, flops, moved_bytes, work_s, sent_s, *overheads)


def _work_s(dgx: Dgx, flops: int, moved_bytes: int) -> Any:
    """What the slower one of computing and moving takes."""
    computing, moving = (
        common(dgx.peak_flops.value, dgx.stack.compute_efficiency.value),
        common(dgx.hbm.bandwidth_bytes_per_s.value, dgx.hbm.efficiency.value),
    )
    return maximum(ratio(flops, computing[0] * computing[1]), ratio(moved_bytes, moving[0] * moving[1]))


def _is_kernel(each: Launches) -> bool:
    """Whether it contracts or reduces."""
    return any(isinstance(stage.op, Contract | Reduce) for stage in each.kernel.kernel.stages)


def _flops(each: Launches) -> int:
    return sum(stage.op.flops(*stage.operands(each.plan.graph)) for stage in each.kernel.kernel.stages)


def _bytes(each: Launches) -> int:
    """Of operands and results, each once."""
    tiling = each.kernel.tiling
    return sum(
        stream.total_bytes if stream.is_store else stream.total_bytes // tiling.sweeps(stream.value)
        for stream in each.kernel.streams
    )


def _sent_bytes(each: Launches) -> int:
    """What one GPU sends in one run; 0 where none does."""
    sent = 0
    for stage in each.kernel.kernel.stages:
        if stage.op.group > 1:
            sent += int(stage.op.work(*stage.operands(each.plan.graph))["p2p.sent_bytes"]) // stage.op.group
    return sent


def _times(amount: Any, count: int) -> Any:
    amount, count = common(amount, count)
    return amount * count


def _plus(one: Any, other: Any) -> Any:
    one, other = common(one, other)
    return one + other
