"""Rows of packed texts: several in a row, none cut, each seeing itself alone."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np


class Batch(NamedTuple):
    """Rows of texts, int32 and float32 [rows, length]; a text's position begins at 0.

    targets: the token that follows each. weights: what a wrong one costs; 0 where nothing is to be learnt. segments: by
    token, the number of its text, 0 where there is none.
    """

    tokens: np.ndarray
    targets: np.ndarray
    weights: np.ndarray
    positions: np.ndarray
    segments: np.ndarray


@dataclass(frozen=True)
class Text:
    """Tokens, first and last one included, and what not to foresee each of them costs."""

    tokens: Sequence[int]
    weights: Sequence[float]

    def __post_init__(self) -> None:
        if len(self.tokens) != len(self.weights) or len(self.tokens) < 2:
            raise ValueError(f"a text is two tokens or more, each with a weight; given: {len(self.tokens)} tokens, "
                             f"{len(self.weights)} weights")  # fmt: skip


def packed(texts: Iterator[Text], rows: int, length: int) -> Batch:
    """As many of the texts as fit into so many rows, taken one after the other until one fits into no row.

    A text of more than `length` + 1 tokens is refused: ValueError.
    """
    batch = Batch(*(np.zeros((rows, length), dtype) for dtype in (np.int32, np.int32, np.float32, np.int32, np.int32)))
    used, counts = [0] * rows, [0] * rows
    for text in texts:
        size = len(text.tokens) - 1  # the last one is only a target
        if size > length:
            raise ValueError(f"a text of {size + 1} tokens does not fit into rows of {length}: cut it before")
        row = next((i for i in range(rows) if used[i] + size <= length), None)
        if row is None:
            return batch
        at = slice(used[row], used[row] + size)
        counts[row] += 1
        batch.tokens[row, at], batch.targets[row, at] = text.tokens[:-1], text.tokens[1:]
        batch.weights[row, at] = text.weights[1:]
        batch.positions[row, at], batch.segments[row, at] = np.arange(size), counts[row]
        used[row] += size
    return batch
