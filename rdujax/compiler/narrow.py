"""Pass: a sum over sockets that is only rounded to BF16 afterwards is rounded by the sockets that make it.

    lax.psum(partial_sums, axis).astype(jnp.bfloat16)      FP32 there, FP32 back, rounded  ->  FP32 there, BF16 back

Each socket makes a part of the sum and sends it to all. Rounding is element by element, so that it changes no bit where
it is done: before, only half as many bytes come back.
"""

from collections.abc import Mapping
from dataclasses import replace

from rdujax.graph.graph import NO_PINS, Graph, Node, Region
from rdujax.numerics.formats import BF16, FP32
from rdujax.ops.exchange import Exchange
from rdujax.ops.map import Map
from rdujax.units.pcu.expression import CONVERT


def narrow(graph: Graph) -> Graph:
    """The graph with such sums joined with their rounding, in its place, also inside of regions."""
    readers: dict[int, list[Node]] = {}
    for node in graph.nodes:
        for value in node.operands:
            readers.setdefault(value, []).append(node)
    summed = {}  # the node that makes a sum, by the result of the one that rounds it
    for node in filter(_is_wide_sum, graph.nodes):
        others = readers.get(node.result, [])
        if len(others) == 1 and _rounds(others[0]) and node.result not in graph.outputs:
            summed[others[0].result] = node
    wide = {node.result for node in summed.values()}
    nodes = [_narrowed(node, summed) for node in graph.nodes if wide.isdisjoint(node.results)]
    rounding = {node.label: summed[node.result].label for node in graph.nodes if summed.keys() & set(node.results)}
    return replace(
        graph,
        types={v: kind for v, kind in graph.types.items() if v not in wide},
        labels={v: label for v, label in graph.labels.items() if v not in wide},
        nodes=tuple(nodes),
        joined=graph.joined | rounding,
    )


def _is_wide_sum(node: Node) -> bool:
    op = node.op
    return isinstance(op, Exchange) and op.kind == "all_reduce" and op.function == "sum" and op.output is None


def _rounds(node: Node) -> bool:
    """Whether a node does nothing but round FP32 to BF16, and its author fixed nothing by hand."""
    if not isinstance(node.op, Map) or node.pins != NO_PINS:
        return False
    steps = node.op.expression.instructions
    return len(steps) == 1 and (steps[0].function, steps[0].fmt, steps[0].target) == (CONVERT, FP32, BF16)


def _narrowed(node: Node, summed: Mapping[int, Node]) -> Node:
    """A node, or in the place of one that rounds a sum, the sum."""
    if isinstance(node.op, Region):
        return replace(node, op=node.op.with_bodies([narrow(body) for body in node.op.bodies]))
    if node.result not in summed:
        return node
    before = summed[node.result]
    assert isinstance(before.op, Exchange)
    return replace(before, op=replace(before.op, output=BF16), results=node.results)
