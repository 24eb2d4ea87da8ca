"""Which values take the place of another in memory: updates that write only what is new.

An update (a slice overwritten, rows scattered) gives its operand with a part of it changed. Where nobody else needs the
operand, the result lies where the operand lay, and the rest of it need not be moved. That may be done to

    a result        whose only reader is the update
    an argument     likewise, if the caller gave it away (`donate_argnums`)
    a loop's carry  inside of the loop, if that may be done to its first value and the body returns it as the same carry
    a loop's xs     inside of the loop, if that may be done to the whole, and where the body returns what becomes of a
                    slice, as the slice of one of the ys, which is then the same array

and to nothing else: a constant of a loop is read in every trip, an input of a branch may be needed by another one, and
the last carry of a `while` loop may lie in either of two places.
"""

from collections import Counter
from collections.abc import Mapping, Sequence

from rdujax.graph.graph import Graph, Region
from rdujax.graph.regions import Loop
from rdujax.ops.move import Move
from rdujax.ops.on_buffers import OnBuffers


def overwritten(graph: Graph, given_away: frozenset[int]) -> dict[int, int]:
    """For every value, also of graphs inside, that takes the place of another: which.

    given_away: the inputs that nobody needs afterwards.
    """
    read = Counter(v for node in graph.nodes for v in node.operands)
    read.update(graph.outputs)
    free = set(given_away)  # may be overwritten by its only reader
    found: dict[int, int] = {}
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Loop):
            may = {v for v in node.operands if v in free and read[v] == 1}
            inside, results = _of_loop(op, node.operands, may, node.results)
            found |= inside | results
            carried = node.results[: op.n_carry] if op.trips is None else ()
            free |= {v for v in node.results if v in results or v not in carried}
            continue
        if isinstance(op, Region):
            for body in op.bodies:
                found |= overwritten(body, frozenset())
        elif isinstance(op, OnBuffers) and op.update_at(len(node.operands)) is not None:
            old = node.operands[0]
            if old in free and read[old] == 1:
                found[node.result] = old
        if not isinstance(op, Move):  # a view lies where another value does
            free |= set(node.results)
    return found


def succeeding(graph: Graph, given_away: frozenset[int], overwritten: Mapping[int, int]) -> dict[int, int]:
    """For every output that is the next call's argument in place of one that was given away: which input.

    An output takes the place of the first such input of its shape and format that no output before it has taken, as
    buffers that are donated to JAX are taken; or of the one that it lies in anyway. So a step of training finds its
    state where the step before has left it.
    """
    made = {v for node in graph.nodes for v in node.results} & set(graph.outputs)
    found = {v: end(overwritten, v) for v in graph.outputs if v in made and end(overwritten, v) in given_away}
    taken = {*found.values(), *graph.outputs}
    left = [v for v in graph.inputs if v in given_away and v not in taken]
    for output in graph.outputs:
        old = next((v for v in left if graph.types[v] == graph.types[output]), None)
        if old is not None and output in made and output not in found:
            left.remove(old)
            found[output] = old
    return found


def end(overwritten: Mapping[int, int], value: int) -> int:
    """The value that was the first where a value lies: it took the place of another, that one of another, and so on."""
    while value in overwritten:
        value = overwritten[value]
    return value


def _of_loop(
    loop: Loop, operands: Sequence[int], may: set[int], results: Sequence[int]
) -> tuple[dict[int, int], dict[int, int]]:
    """(what is overwritten inside of a loop, which results take the place of which operands).

    may: the operands that may be overwritten.
    """
    body = loop.body
    asked = {} if loop.condition is None else overwritten(loop.condition, frozenset())
    ends = dict(zip(body.inputs, loop.given(operands)[0], strict=True))  # what each input is of
    carried = loop.carried(body)
    given = {v for v in (*carried, *body.inputs[loop.n_consts + loop.n_carry :]) if ends[v] in may}
    while True:
        inside = overwritten(body, frozenset(given))
        returned = {v: at for at, v in enumerate(body.outputs) if v in inside}
        begins = {end(inside, v): at for v, at in returned.items()}
        # A carry has to come back as itself; what becomes of a slice of an x has to be a slice of a y, or no output.
        wrong = {v for v in given & set(carried) if begins.get(v) != carried.index(v)}
        wrong |= {v for v in given - wrong if begins.get(v, loop.n_carry) < loop.n_carry and v not in carried}
        if not wrong:
            taken = {results[at]: ends[v] for v, at in begins.items() if v in given}
            return asked | inside, taken
        given -= wrong
