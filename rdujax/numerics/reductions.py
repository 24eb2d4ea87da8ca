"""Every reduction of the machine, by name and by format: the last axis of an array made one value (N9).

    sum, prod      FP32 (BF16 operands are exact in it) and INT32, in the order of N9
    max, min       FP32, INT32, bool; the order shows in no bit
    and, or, xor   INT32 and bool (the maximum of bool is `or`, its minimum `and`)

A row is halved as a tree, or by `lanes` values in time first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp

from rdujax.base.errors import FormatError, describe
from rdujax.base.registry import Registry
from rdujax.numerics import reduce as trees
from rdujax.numerics.formats import BOOL, FP32, INT32, Format

Tree = Callable[[jax.Array, int], jax.Array]
REDUCTIONS: Registry["Reduction"] = Registry("reduction", do="rdujax.numerics.reductions.REDUCTIONS lists them all")


@dataclass(frozen=True)
class Reduction:
    """One reduction: its halving tree by format; a format that it does not have is None.

    in_lanes: the form by lanes in time and then a tree, where the order shows in the bits.
    """

    name: str
    fp32: Tree | None = None
    int32: Tree | None = None
    predicate: Tree | None = None
    in_lanes: Callable[[jax.Array, int, int], jax.Array] | None = None

    def form(self, fmt: Format) -> Tree | None:
        """The tree on carriers of `fmt`."""
        return self.fp32 if fmt.is_float else self.int32 if fmt is INT32 else self.predicate

    def check(self, fmt: Format, output: Format) -> None:
        """Raises FormatError where there is no such reduction from `fmt` to `output`."""
        same_kind = output.is_float if fmt.is_float else output is fmt
        if self.form(fmt) is None or not same_kind:
            formats = [kind for kind, form in (("bf16 or fp32 to either", self.fp32), ("int32", self.int32),
                                               ("bool", self.predicate)) if form]  # fmt: skip
            raise FormatError(
                describe("formats of a reduction", given=f"{fmt} to {output}", allowed=", ".join(formats),
                         where=self.name, do="convert the operand")
            )  # fmt: skip


def reduce(name: str, x: jax.Array, lanes: int | None = None) -> jax.Array:
    """The reduction `name` over the last axis of carriers (float32, int32 or bool): FP32, int32 or bool carriers.

    lanes: see the head. Derivatives: a sum's is the sum, that of a maximum is shared by its equals.
    Raises UnknownNameError for a reduction that does not exist, FormatError for a format that it does not have.
    """
    found = REDUCTIONS[name]
    fmt = FP32 if x.dtype == jnp.float32 else INT32 if x.dtype == jnp.int32 else BOOL
    found.check(fmt, fmt)
    if lanes is not None and fmt is FP32 and found.in_lanes is not None:
        return found.in_lanes(x, x.ndim - 1, lanes)
    form = found.form(fmt)
    assert form is not None
    return form(x, x.ndim - 1)


def _predicate(tree: Tree) -> Tree:
    return lambda x, axis: tree(x.astype(jnp.int32), axis) != 0


def _define() -> None:
    either, both, odd = (_predicate(tree) for tree in (trees.integer_or, trees.integer_and, trees.integer_xor))
    for reduction in (
        Reduction("sum", trees.tree_sum, trees.integer_sum, None, trees.lane_sum),
        Reduction("prod", trees.tree_prod, trees.integer_prod, None, trees.lane_prod),
        Reduction("max", trees.tree_max, trees.integer_max, either),
        Reduction("min", trees.tree_min, trees.integer_min, both),
        Reduction("and", None, trees.integer_and, both),
        Reduction("or", None, trees.integer_or, either),
        Reduction("xor", None, trees.integer_xor, odd),
    ):
        REDUCTIONS.add(reduction.name, reduction)


_define()
