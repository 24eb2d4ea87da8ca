"""Pass: what reads a value soon after what makes it.

Kernels are made of consecutive nodes, and a traced program is not always written so that what belongs together is
consecutive: an optimiser updates the first moments of all parameters, then the second moments of all of them, and so
on, and as kernels every step of it would go through memory. Between regions, nodes are put in order depth first, from
the results that no node there reads, where that leaves far fewer bytes waiting between the nodes; otherwise they stay
as they are. No value and no label changes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import groupby

from rdujax.graph.graph import Graph, Node, Region

WORTH = 0.8  # an order is changed for one in which no more than this share of the bytes waits


def order(graph: Graph) -> Graph:
    """The graph with its nodes in another order, also inside of regions."""
    found: list[Node] = []
    for _, part in groupby(graph.nodes, lambda node: isinstance(node.op, Region)):
        nodes = list(part)
        if isinstance(nodes[0].op, Region):
            found += map(_of_region, nodes)
            continue
        other = list(_in_depth(nodes))
        found += other if _waiting(graph, other) < WORTH * _waiting(graph, nodes) else nodes
    return replace(graph, nodes=tuple(found))


def _of_region(node: Node) -> Node:
    assert isinstance(node.op, Region)
    return replace(node, op=node.op.with_bodies([order(body) for body in node.op.bodies]))


def _waiting(graph: Graph, nodes: Sequence[Node]) -> int:
    """Bytes of what nodes make for one another, each times the places between nodes that lie before its last reader."""
    last = {value: at for at, node in enumerate(nodes) for value in node.operands}
    made = [(at, value) for at, node in enumerate(nodes) for value in node.results]
    return sum((last.get(value, at) - at) * graph.types[value].size_bytes for at, value in made)


def _in_depth(nodes: Sequence[Node]) -> Iterator[Node]:
    """The nodes, each one right behind what it alone needs: depth first from those that no other one reads."""
    maker = {value: node for node in nodes for value in node.results}
    read = {value for node in nodes for value in node.operands}
    done: set[int] = set()
    for last in nodes:
        todo = [(last, iter(last.operands))] if read.isdisjoint(last.results) else []
        while todo:
            node, operands = todo[-1]
            before = next((maker[v] for v in operands if v in maker and v not in done), None)
            if before is not None:
                todo.append((before, iter(before.operands)))
                continue
            todo.pop()
            if done.isdisjoint(node.results):
                done |= set(node.results)
                yield node
