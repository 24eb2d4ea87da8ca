"""Pass: the same work on the same operands is computed once, and what nothing needs is left out.

Two nodes are the same work where their operations, their operands and the choices made by hand are equal; so are two
loops or branches whose graphs are the same but for the numbers of their values. Everything is a pure function of its
operands, random draws included, so that the one result has the bits of both. Constants of the same bits are one.

The first of equal nodes stays, under its label; its `source` then names the lines of all, and the labels of the others
still lead to it (`Graph.joined`), those of the nodes inside of joined regions included. It reads no value that is not
there, for it stands before the others. Each body of a region is simplified by itself, and reads nothing but its own
inputs, as before; what it returns stays in places of its own. Kept apart are nodes that an author fixed by hand, and
what `jax.checkpoint` computes again (`Node.again`): there the user chose to compute twice and to keep less.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import fields, replace
from typing import Any

import numpy as np

from rdujax.graph.graph import NO_PINS, Graph, Node, Region
from rdujax.graph.regions import Branch, Loop
from rdujax.ops.op import TensorType

SMALL_BYTES = 4096  # constants up to this size are compared by their bits, larger ones by identity


def simplify(graph: Graph) -> Graph:
    """The graph with equal work done once and dead nodes dropped, also inside of regions."""
    return _simplified(graph, distinct=False)


def _simplified(graph: Graph, distinct: bool) -> Graph:
    """distinct: the outputs must stay different values, as those of a body must."""
    stands_for = _equal_constants(graph)
    joined = {graph.labels[v]: graph.labels[same] for v, same in stands_for.items()}
    returned = set(graph.outputs)  # the values that are returned so far
    first: dict[Hashable, int] = {}  # some work: where in `nodes` the first that does it stands
    nodes: list[Node] = []
    for node in graph.nodes:
        node = _inside(replace(node, operands=tuple(stands_for.get(v, v) for v in node.operands)))
        at = first.setdefault(_work(node), len(nodes)) if node.pins == NO_PINS else len(nodes)
        if at == len(nodes):
            nodes.append(node)
            continue
        both = dict(zip(node.results, nodes[at].results, strict=True))
        if distinct and any(v in returned and same in returned for v, same in both.items()):
            nodes.append(node)
            continue
        joined |= {node.label: nodes[at].label} | {graph.labels[v]: graph.labels[same] for v, same in both.items()}
        nodes[at] = _standing(nodes[at], node)
        returned = {both.get(v, v) for v in returned}
        stands_for |= both
    return _live(graph, nodes, tuple(stands_for.get(v, v) for v in graph.outputs), joined)


def _inside(node: Node) -> Node:
    """The node with its bodies simplified, operands of one value given to them only once."""
    if isinstance(node.op, Branch):
        index, *given = node.operands
        kept, bodies = _given_once(given, node.op.branches)
        return replace(node, op=Branch(tuple(_simplified(b, True) for b in bodies)), operands=(index, *kept))
    if not isinstance(node.op, Loop):
        return node
    loop, (asked, consts, carry, xs) = node.op, node.op.split(node.operands)
    kept, (body,) = _given_once(consts, (loop.body,))
    slices, (body,) = _given_once(xs, (body,), len(kept) + len(carry))
    questions, conditions = _given_once(asked, (loop.condition,)) if loop.condition is not None else ([], (None,))
    condition = None if conditions[0] is None else _simplified(conditions[0], True)
    loop = replace(loop, body=_simplified(body, True), n_consts=len(kept), condition=condition)
    return replace(node, op=loop, operands=(*questions, *kept, *carry, *slices))


def _given_once(operands: Sequence[int], bodies: Sequence[Graph], begin: int = 0) -> tuple[list[int], list[Graph]]:
    """(the operands without repetition, the bodies that take them so); begin: of the first among their inputs."""
    kept = list(dict.fromkeys(operands))
    if len(kept) == len(operands):
        return kept, list(bodies)
    return kept, [_with_inputs_joined(body, operands, begin) for body in bodies]


def _with_inputs_joined(body: Graph, operands: Sequence[int], begin: int) -> Graph:
    end = begin + len(operands)
    first: dict[int, int] = {}
    same = {v: first.setdefault(operand, v) for operand, v in zip(operands, body.inputs[begin:end], strict=True)}
    gone = {v for v, stays in same.items() if v != stays}
    return replace(
        body,
        joined=_led_on(body.joined, {body.labels[v]: body.labels[same[v]] for v in gone}),
        types={v: kind for v, kind in body.types.items() if v not in gone},
        labels={v: label for v, label in body.labels.items() if v not in gone},
        inputs=tuple(v for v in body.inputs if v not in gone),
        nodes=tuple(replace(n, operands=tuple(same.get(v, v) for v in n.operands)) for n in body.nodes),
    )


def _live(graph: Graph, nodes: Sequence[Node], outputs: tuple[int, ...], joined: Mapping[str, str]) -> Graph:
    """The graph of the nodes that some output needs, and of the constants that these read; all inputs stay.

    joined: labels that are gone since `graph`, and those that stand for them.
    """
    needed, kept = set(outputs), list[Node]()
    for node in reversed(nodes):
        if needed.intersection(node.results):
            needed.update(node.operands)
            kept.append(node)
    constants = {v: array for v, array in graph.constants.items() if v in needed}
    values = {*graph.inputs, *constants, *(v for node in kept for v in node.results)}
    labels = {v: label for v, label in graph.labels.items() if v in values}
    there = {*labels.values(), *(node.label for node in kept)}
    return Graph(
        {v: kind for v, kind in graph.types.items() if v in values},
        labels,
        graph.inputs,
        constants,
        tuple(kept[::-1]),
        outputs,
        {gone: stays for gone, stays in _led_on(graph.joined, joined).items() if stays in there},
    )


def _led_on(before: Mapping[str, str], joined: Mapping[str, str]) -> dict[str, str]:
    """All labels that are gone, each with the one that stands for it once those of `joined` are gone, too."""
    return {gone: joined.get(stays, stays) for gone, stays in before.items()} | dict(joined)


def _standing(node: Node, gone: Node) -> Node:
    """A node that stands for another of equal work, too: with its lines, and in regions with the labels inside."""
    node = _with_source(node, gone.source)
    if not isinstance(node.op, Region):
        return node
    assert isinstance(gone.op, Region)
    bodies = zip(node.op.bodies, gone.op.bodies, strict=True)
    return replace(node, op=node.op.with_bodies([_standing_body(body, other) for body, other in bodies]))


def _standing_body(body: Graph, gone: Graph) -> Graph:
    """A body that stands for another of the same form."""
    values = zip(body.inputs, gone.inputs, strict=True)
    joined = {gone.labels[other]: body.labels[v] for v, other in values}
    nodes = []
    for node, other in zip(body.nodes, gone.nodes, strict=True):
        joined |= {other.label: node.label}
        joined |= {gone.labels[w]: body.labels[v] for v, w in zip(node.results, other.results, strict=True)}
        nodes.append(_standing(node, other))
    new = {label: stays for label, stays in _led_on(gone.joined, joined).items() if label != stays}
    return replace(body, nodes=tuple(nodes), joined=body.joined | new)


def _with_source(node: Node, source: str) -> Node:
    lines = dict.fromkeys(filter(None, (*node.source.split("; "), *source.split("; "))))
    return replace(node, source="; ".join(lines))


def _work(node: Node) -> Hashable:
    """What a node computes, equal for equal work: its results' numbers and its label are no part of it."""
    return node.again, node.operands, _form(node.op) if isinstance(node.op, Region) else node.op


def _form(region: Region) -> Hashable:
    """A region with the values of its graphs numbered in the order of their text."""
    return type(region), tuple(
        (field.name, tuple(map(_graph_form, value)) if isinstance(value, tuple) else _graph_form(value))
        for field in fields(region)  # type: ignore[arg-type]
        for value in [getattr(region, field.name)]
    )


def _graph_form(value: Any) -> Hashable:
    """A graph under numbers of its own; anything else as it is."""
    if not isinstance(value, Graph):
        return value
    numbers = {v: i for i, v in enumerate((*value.inputs, *(v for node in value.nodes for v in node.results)))}
    return (
        value.types_of(value.inputs),
        tuple(_work(replace(node, operands=tuple(numbers[v] for v in node.operands))) for node in value.nodes),
        tuple(numbers[v] for v in value.outputs),
    )


def _equal_constants(graph: Graph) -> dict[int, int]:
    """For every constant that another one before it equals: that one."""
    first: dict[tuple[TensorType, Hashable], int] = {}
    found = {}
    for value, array in graph.constants.items():
        kind = graph.types[value]
        known = first.setdefault((kind, _bits(array) if kind.size_bytes <= SMALL_BYTES else id(array)), value)
        if known != value:
            found[value] = known
    return found


def _bits(array: Any) -> bytes:
    return np.asarray(array).tobytes()
