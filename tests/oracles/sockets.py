"""Collectives hop by hop, in NumPy and the integer softfloat: each socket with its memory, each message written down.

Written from the law of collectives and from the textbook algorithms; nothing is imported from rdujax. Values are FP32
patterns (uint32) or int32; a log line is (source, target, elements), with nothing logged for an empty message.
"""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from tests.oracles import softfloat

Combine = Callable[[np.ndarray, np.ndarray], np.ndarray]
COMBINE: dict[str, Combine] = {"sum": softfloat.add, "max": softfloat.maximum, "min": softfloat.minimum}
WRAPPING: dict[str, Combine] = {
    "sum": lambda x, y: softfloat.wrap(x.astype(np.int64) + y),
    "max": np.maximum,
    "min": np.minimum,
}
ROUND = {"fp32": softfloat.canonical, "bf16": softfloat.to_bf16, "int32": lambda x: x}


@dataclass
class Log:
    """What was sent and combined: messages in order, and elements combined by each socket."""

    messages: list[tuple[int, int, int]] = field(default_factory=list)
    combined: dict[int, int] = field(default_factory=dict)

    def send(self, source: int, target: int, values: np.ndarray) -> np.ndarray:
        """The values at the target."""
        if values.size:
            self.messages.append((source, target, values.size))
        return values.copy()

    def combine(self, socket: int, op: Combine, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """op(x, y), made by a socket."""
        self.combined[socket] = self.combined.get(socket, 0) + x.size
        return op(x, y)

    def of(self, socket: int) -> tuple[int, int, int]:
        """(elements sent, messages, elements combined) by a socket."""
        sizes = [size for source, _, size in self.messages if source == socket]
        return sum(sizes), len(sizes), self.combined.get(socket, 0)


def chunks(x: np.ndarray, n: int) -> list[np.ndarray]:
    """A flat array in n chunks of ceil(size / n), the last ones shorter or empty."""
    size = -(-x.size // n)
    return [x[i * size : (i + 1) * size] for i in range(n)]


def reduce_scatter(parts: list[list[np.ndarray]], op: Combine, order: str, rounded: Callable, log: Log) -> list:
    """parts[socket][chunk] -> the reduced chunk of each socket, not yet rounded to the format of the result."""
    n = len(parts)
    held = [[rounded(chunk) for chunk in mine] for mine in parts]
    if order == "chain":
        totals = []
        for owner in range(n):
            arrived = [held[s][owner] if s == owner else log.send(s, owner, held[s][owner]) for s in range(n)]
            total = arrived[0]
            for value in arrived[1:]:
                total = log.combine(owner, op, total, value)
            totals.append(total)
        return totals
    return _ring(held, op, rounded, log) if order == "ring" else _tree(held, op, rounded, log)


def _ring(held: list, op: Combine, rounded: Callable, log: Log) -> list:
    n = len(held)
    for step in range(n - 1):
        going = [log.send(s, (s + 1) % n, held[s][(s - 1 - step) % n]) for s in range(n)]
        for s in range(n):
            at = (s - 2 - step) % n
            total = log.combine(s, op, going[(s - 1) % n], held[s][at])
            held[s][at] = total if step == n - 2 else rounded(total)
    return [held[s][s] for s in range(n)]


def _tree(held: list, op: Combine, rounded: Callable, log: Log) -> list:
    n = len(held)
    low, high = [0] * n, [n] * n  # the chunks that each socket still works on
    distance = n // 2
    while distance:
        sent = {}
        for s in range(n):
            middle = (low[s] + high[s]) // 2
            away = range(middle, high[s]) if s < (s ^ distance) else range(low[s], middle)
            log.send(s, s ^ distance, np.concatenate([held[s][c] for c in away]))
            sent[s] = {c: held[s][c] for c in away}
            low[s], high[s] = (low[s], middle) if s < (s ^ distance) else (middle, high[s])
        for s in range(n):
            for c in range(low[s], high[s]):
                total = log.combine(s, op, held[s][c], sent[s ^ distance][c])
                held[s][c] = total if distance == 1 else rounded(total)
        distance //= 2
    return [held[s][s] for s in range(n)]


def all_gather(parts: list[np.ndarray], route: str, log: Log) -> list[list[np.ndarray]]:
    """parts[socket] -> for each socket the parts of all, in order."""
    n = len(parts)
    has = [{s: parts[s]} for s in range(n)]
    if route == "direct":
        for s in range(n):
            for target in range(n):
                if target != s:
                    has[target][s] = log.send(s, target, parts[s])
    elif route == "ring":
        for step in range(n - 1):
            going = [((s - step) % n, log.send(s, (s + 1) % n, has[s][(s - step) % n])) for s in range(n)]
            for s in range(n):
                chunk, values = going[(s - 1) % n]
                has[s][chunk] = values
    else:
        distance = 1
        while distance < n:
            before = [dict(each) for each in has]
            for s in range(n):
                log.send(s, s ^ distance, np.concatenate([before[s][c] for c in sorted(before[s])]))
                has[s ^ distance].update(before[s])
            distance *= 2
    return [[each[c] for c in range(n)] for each in has]


def all_reduce(
    x: np.ndarray, *, op: str = "sum", order: str = "chain", shots: int = 2, wire: str = "fp32", out: str = "fp32"
) -> tuple[np.ndarray, Log, Log]:
    """x [n, ...] -> ([n, ...] on every socket, what the first half sent, what the second half sent)."""
    n, first, second = len(x), Log(), Log()
    combine = (WRAPPING if x.dtype == np.int32 else COMBINE)[op]
    flat = x.reshape(n, -1)
    if shots == 1:
        results = []
        for s in range(n):
            arrived = [ROUND[wire](flat[i]) if i == s else first.send(i, s, ROUND[wire](flat[i])) for i in range(n)]
            total = arrived[0]
            for value in arrived[1:]:
                total = first.combine(s, combine, total, value)
            results.append(ROUND[out](total))
        return np.stack(results).reshape(x.shape), first, second
    totals = reduce_scatter([chunks(mine, n) for mine in flat], combine, order, ROUND[wire], first)
    route = {"chain": "direct", "ring": "ring", "tree": "halving"}[order]
    everywhere = all_gather([ROUND[out](total) for total in totals], route, second)
    return np.stack([np.concatenate(each) for each in everywhere]).reshape(x.shape), first, second
