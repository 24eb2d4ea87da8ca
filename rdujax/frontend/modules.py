"""Modules as functions: a callable that is a pytree (a Flax NNX module) is its own first argument.

    compile(model, x)        is        compile(lambda model, x: model(x), model, x)

so that weights are arguments with names (`model.blocks[0].kernel`), abstract ones are enough, and whoever trains the
model hands the new one to the same program.
"""

from collections.abc import Callable, Sequence
from inspect import Parameter, Signature, signature
from typing import Any

import jax

from rdujax.base.errors import ArgumentError, UnsupportedError, describe


def is_module(fn: Any) -> bool:
    """Whether a callable carries arrays of its own that JAX can see."""
    return callable(fn) and not jax.tree_util.all_leaves([fn])


def as_function(fn: Any, args: Sequence[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function to trace and its arguments; a function is left as it is.

    What the function of a module does to the module's own arrays would be lost: it raises UnsupportedError while it is
    traced, with the path of the array. A Flax Linen module has no arrays of its own: ArgumentError says how it is
    given.
    """
    _check_bound(fn)
    if not is_module(fn):
        return fn, tuple(args)

    def call(model: Any, *args: Any) -> Any:
        before = _arrays(model)
        result = model(*args)
        after = _arrays(model)
        for path in {**before, **after}:
            if before.get(path) is not after.get(path):
                raise UnsupportedError(
                    describe("a module that changes its own state while it runs", given=f"model{path} is written",
                             where=type(fn).__name__,
                             do="return the changed module from a function of your own: "
                                "compile(lambda model, x: (model(x), model), model, x)")
                )  # fmt: skip
        return result

    call.__name__ = type(fn).__name__
    own = [p for p in signature(fn).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    call.__signature__ = Signature([Parameter("model", Parameter.POSITIONAL_ONLY), *own])  # type: ignore[attr-defined]
    return call, (fn, *args)


def _check_bound(fn: Any) -> None:
    """Refuses a module of Flax Linen, or its `__call__`, that is not bound to its variables."""
    owner = fn.__self__ if getattr(fn, "__name__", "") == "__call__" and hasattr(fn, "__self__") else fn
    linen = any((c.__module__, c.__name__) == ("flax.linen.module", "Module") for c in type(owner).__mro__)
    if linen and getattr(owner, "scope", None) is None:
        name = type(owner).__name__
        raise ArgumentError(
            describe("a module of Flax Linen is no function of its variables", given=f"{name} without variables",
                     where="argument fn", do="compile its apply: rdujax.compile(module.apply, variables, x)")
        )  # fmt: skip


def _arrays(model: Any) -> dict[str, Any]:
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]}
