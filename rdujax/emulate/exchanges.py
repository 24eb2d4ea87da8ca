"""What sockets do together, between kernels: from memory over the links to memory, on one of them."""

from collections.abc import Mapping

import jax

from rdujax.emulate.regions import Mode
from rdujax.graph.plan import Plan, PlannedRegion
from rdujax.ledger.counts import Counts
from rdujax.machines.machine import Machine
from rdujax.ops.exchange import Exchange
from rdujax.streams import layout as layouts
from rdujax.streams.stream import tile, untile
from rdujax.units import agcu


def run_exchange(
    plan: Plan, step: PlannedRegion, machine: Machine, memory: Mapping[int, jax.Array], mode: Mode
) -> tuple[jax.Array, list[Counts]]:
    """The carriers that a collective leaves in memory, and what the socket counts; where its axis is a mapped one."""
    op, graph, counts = step.op, plan.graph, list[Counts]()
    assert isinstance(op, Exchange)
    operands = []
    for v in step.node.operands:
        whole, fmt = layouts.whole(graph.types[v].shape), graph.types[v].fmt
        stream, read = agcu.load(machine.agcu, memory[v], whole, fmt, plan.tiers[v], None, mode.how, mode.tally)
        operands.append(untile(stream))
        counts.append(read)
    result, exchanged = op.run(operands, [kind.fmt for kind in graph.types_of(step.node.operands)], mode.tally)
    (value,) = step.node.results
    stream = tile(result, fmt=graph.types[value].fmt)
    left, written = agcu.store(machine.agcu, stream, plan.tiers[value], mode.how, mode.tally)
    return left, [*counts, exchanged, written] if mode.tally else []
