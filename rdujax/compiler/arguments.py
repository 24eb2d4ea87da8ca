"""What a program refuses to be called with: other arguments than it was compiled for, and why."""

from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from inspect import signature
from typing import Any

import jax
import jax.numpy as jnp

from rdujax.base.errors import ArgumentError, ConcretenessError, FormatError, ShapeError, describe

_CLOSE = "let the function close over it, or fix it: functools.partial(f, name=value)"


def other_structure(args: tuple[Any, ...], expected: Any, labels: Sequence[str], where: str) -> ArgumentError:
    """The error for arguments that are nested in another way, naming the first that is."""
    takes = ", ".join(labels) or "no arrays"
    children = expected.children()
    if len(args) != len(children):
        problem = f"{len(children)} argument{'' if len(children) == 1 else 's'} needed"
        return ArgumentError(describe(problem, given=len(args), allowed=takes, where=where))
    at = next(i for i, (arg, child) in enumerate(zip(args, children, strict=True)) if jax.tree.structure(arg) != child)
    return ArgumentError(
        describe(
            f"argument {at} is of another structure than the program was compiled for",
            given=repr(args[at]) if jax.tree.structure(args[at]).num_leaves == 0 else str(jax.tree.structure(args[at])),
            allowed=f"{children[at]} (arrays in all: {takes})",
            where=where,
        )
    )


def check_argument(x: Any, label: str, shape: tuple[int, ...], dtype: str, where: str) -> None:
    """Refuses what is no array of this shape and dtype: FormatError, ConcretenessError, ShapeError."""
    if not hasattr(x, "shape") or not hasattr(x, "dtype"):
        raise FormatError(
            describe(
                f"argument {label} is no array", given=repr(x), allowed=f"an array {dtype}{list(shape)}", where=where
            )
        )
    if isinstance(x, jax.ShapeDtypeStruct):
        raise ConcretenessError(
            describe(f"argument {label} has no values", given=repr(x), where=where,
                     allowed=f"an array {dtype}{list(shape)}", do="cost() and report() work without arrays")
        )  # fmt: skip
    if tuple(x.shape) != shape:
        raise ShapeError(
            describe(
                f"argument {label} has another shape",
                given=tuple(x.shape),
                allowed=shape,
                where=where,
                do="compile for this shape",
            )
        )
    is_key = jnp.issubdtype(x.dtype, jax.dtypes.extended)
    given = str(x.dtype) if is_key else jnp.dtype(x.dtype).name
    if given != dtype:
        convert = "draw numbers from it" if is_key else f"convert it with .astype({dtype!r})"
        do = f"{convert}, or compile for arguments of this dtype"
        raise FormatError(
            describe(f"argument {label} has another dtype", given=given, allowed=dtype, where=where, do=do)
        )


def by_place(others: Mapping[str, Any], takes: Sequence[str], where: str) -> None:
    """Refuses keyword arguments: a program has its arguments in the order in which it was compiled for them."""
    if others:
        raise ArgumentError(
            describe(
                "the arguments of a program are positional",
                given=", ".join(f"{name}=..." for name in others),
                allowed=", ".join(takes) or "no arguments",
                where=where,
                do="pass them in this order and without their names",
            )
        )


def no_choices(fn: Any, others: Mapping[str, Any], choices: Collection[str]) -> None:
    """Refuses keywords that are no choices of the compiler, and says what each was probably meant for."""
    for name, value in others.items():
        near = get_close_matches(name, choices, n=1)
        if name in ("static_argnums", "static_argnames"):
            what, do = "a program has no static arguments", _CLOSE
        elif name in _parameters(fn):
            what, do = "the arguments of a function to be compiled are positional", f"pass it by its place, or {_CLOSE}"
        else:
            what, do = "unknown choice", f"did you mean {near[0]!r}?" if near else f"for an argument: {_CLOSE}"
        raise ArgumentError(
            describe(what, given=f"{name}={value!r}", allowed="choices: " + ", ".join(choices), where="compile", do=do)
        )


def _parameters(fn: Any) -> Collection[str]:
    """The names of a function's parameters; none where Python does not tell them."""
    try:
        return signature(fn).parameters
    except (TypeError, ValueError):
        return ()


def leaves_of(tree: Any, numbers: Sequence[int], program: str) -> list[int]:
    """Which leaves of a tree of arguments belong to some of these, by number; ArgumentError for numbers of none."""
    counts = [argument.num_leaves for argument in tree.children()]
    for number in numbers:
        if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(counts):
            allowed = f"integers from 0 to {len(counts) - 1}" if counts else "none: it has no arguments"
            raise ArgumentError(describe("donate_argnums", given=repr(number), allowed=allowed, where=program))
    return [leaf for number in set(numbers) for leaf in range(sum(counts[:number]), sum(counts[: number + 1]))]
