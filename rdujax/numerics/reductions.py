"""Every reduction of the machine, by name and by format: the last axis of an array made one value (N9).

    sum, prod      FP32 (BF16 operands are exact in it), INT32 and UINT32, in the order of N9
    max, min       FP32, INT32, bool; the order shows in no bit
    and, or, xor   INT32, UINT32 and bool (the maximum of bool is `or`, its minimum `and`)

A row is halved as a tree, or by `lanes` values in time first.
"""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from rdujax.base.errors import FormatError, describe
from rdujax.base.registry import Registry
from rdujax.numerics import reduce as trees
from rdujax.numerics.formats import BOOL, FP32, INT32, UINT32, Format

Fold = Callable[[jax.Array, jax.Array], jax.Array]
Tree = Callable[[jax.Array, int], jax.Array]
REDUCTIONS: Registry["Reduction"] = Registry("reduction", do="rdujax.numerics.reductions.REDUCTIONS lists them all")


@dataclass(frozen=True)
class Form:
    """A reduction in one format: identity, halving tree, and (total [*shape], rows [steps, *shape]) -> total in time.

    chooses: the result is one of the values, which shares its derivative with its equals.
    in_lanes: lanes in time and then a tree (values, axis, lanes), where that order shows in the bits.
    """

    identity: float | int
    tree: Tree
    in_time: Fold
    chooses: bool = False
    in_lanes: Callable[[jax.Array, int, int], jax.Array] | None = None


@dataclass(frozen=True)
class Reduction:
    """One reduction; a format that it does not have is None.

    predicate: its tree on bool. signed: INT32's form is not that of UINT32.
    """

    name: str
    fp32: Form | None = None
    int32: Form | None = None
    predicate: Tree | None = None
    signed: bool = False

    def form(self, fmt: Format) -> Form | None:
        """The form on carriers of a number format."""
        words = fmt is INT32 or (fmt is UINT32 and not self.signed)
        return self.fp32 if fmt.is_float else self.int32 if words else None

    def tree(self, fmt: Format) -> Tree | None:
        """The halving tree on carriers of `fmt`."""
        form = self.form(fmt)
        return form.tree if form else self.predicate if fmt is BOOL else None

    def check(self, fmt: Format, output: Format) -> None:
        """Raises FormatError where there is no such reduction from `fmt` to `output`."""
        same_kind = output.is_float if fmt.is_float else output is fmt
        if self.tree(fmt) is None or not same_kind:
            formats = ["bf16 or fp32 to either"] if self.fp32 else []
            formats += [str(kind) for kind in (INT32, UINT32, BOOL) if self.tree(kind)]
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
    form = found.form(fmt)
    if lanes is not None and form is not None and form.in_lanes is not None:
        return form.in_lanes(x, x.ndim - 1, lanes)
    tree = found.tree(fmt)
    assert tree is not None
    return tree(x, x.ndim - 1)


def _any_order(identity: float | int, tree: Tree, chooses: bool = False) -> Form:
    """The form of a reduction whose bits do not depend on the order: in time it is a tree as well."""
    return Form(identity, tree, lambda total, rows: tree(jnp.concatenate([total[None], rows]), 0), chooses)


def _predicate(tree: Tree) -> Tree:
    return lambda x, axis: tree(x.astype(jnp.int32), axis) != 0


def _define() -> None:
    most, least = 2**31 - 1, -(2**31)
    either, both, odd = (_predicate(tree) for tree in (trees.integer_or, trees.integer_and, trees.integer_xor))
    total = Form(-0.0, trees.tree_sum, trees.time_sum, in_lanes=trees.lane_sum)
    product = Form(1.0, trees.tree_prod, trees.time_prod, in_lanes=trees.lane_prod)
    highest = _any_order(-np.inf, trees.tree_max, chooses=True)
    lowest = _any_order(np.inf, trees.tree_min, chooses=True)
    for reduction in (
        Reduction("sum", total, _any_order(0, trees.integer_sum)),
        Reduction("prod", product, _any_order(1, trees.integer_prod)),
        Reduction("max", highest, _any_order(least, trees.integer_max), either, signed=True),
        Reduction("min", lowest, _any_order(most, trees.integer_min), both, signed=True),
        Reduction("and", None, _any_order(-1, trees.integer_and), both),
        Reduction("or", None, _any_order(0, trees.integer_or), either),
        Reduction("xor", None, _any_order(0, trees.integer_xor), odd),
    ):
        REDUCTIONS.add(reduction.name, reduction)


_define()
