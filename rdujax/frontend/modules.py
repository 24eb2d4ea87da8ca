"""Modules as functions: a callable that is a pytree (a Flax NNX module) is its own first argument.

    compile(model, x)        is        compile(lambda model, x: model(x), model, x)

so that weights are arguments with names (`model.blocks[0].kernel`), abstract ones are enough, and whoever trains the
model hands the new one to the same program.

A program is a function: what a module does to its own arrays while it runs is refused, unless the function returns it.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from inspect import Parameter, Signature, signature
from typing import Any

import jax

from rdujax.base.errors import ArgumentError, UnsupportedError, describe
from rdujax.frontend.trace import argument_names, within

_RETURN = "return the changed module from a function of your own: compile(lambda model, x: (model(x), model), model, x)"


def is_module(fn: Any) -> bool:
    """Whether a callable carries arrays of its own that JAX can see."""
    return callable(fn) and not jax.tree_util.all_leaves([fn])


def as_function(fn: Any, args: Sequence[Any]) -> tuple[Callable[..., Any], tuple[Any, ...]]:
    """The function to trace and its arguments; a function without modules among its arguments is left as it is.

    What a module does to its own arrays would be lost where the function does not return them: it raises
    UnsupportedError while it is traced, with the path of the array. A Flax Linen module has no arrays of its own:
    ArgumentError says how it is given.
    """
    _check_bound(fn)
    if not is_module(fn):
        has_state = callable(fn) and any(map(_has_state, jax.tree.leaves(args, is_leaf=_has_state)))
        return _without_loss(fn) if has_state else fn, tuple(args)

    def call(model: Any, *args: Any) -> Any:
        return model(*args)

    call.__name__ = type(fn).__name__
    own = [p for p in signature(fn).parameters.values() if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    call.__signature__ = Signature([Parameter("model", Parameter.POSITIONAL_ONLY), *own])  # type: ignore[attr-defined]
    return _without_loss(call), (fn, *args)


def _without_loss(fn: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which refuses to change modules among its arguments that it does not return."""

    @wraps(fn)
    def call(*args: Any) -> Any:
        modules = _modules(args, argument_names(fn, len(args)))
        before = {path: _arrays(module) for path, module in modules.items()}
        result = fn(*args)
        whole, parts = jax.tree.leaves(result, is_leaf=_has_state), jax.tree.leaves(result)
        kept = {id(each) for each in (*whole, *parts)}
        for path, module in modules.items():
            if id(module) not in kept:
                _check_kept(path, module, before[path], kept)
        return result

    call.__name__ = getattr(fn, "__name__", type(fn).__name__)
    return call


def _check_kept(name: str, module: Any, before: dict[str, Any], kept: set[int]) -> None:
    """Refuses arrays of a module that are others than before, or gone, and that are not among those that are kept."""
    after = _arrays(module)
    for path in {**before, **after}:
        if before.get(path) is not after.get(path) and id(after.get(path)) not in kept:
            raise UnsupportedError(
                describe("a module that changes its own state while it runs", given=f"{name}{path} is written",
                         where=type(module).__name__, do=_RETURN)
            )  # fmt: skip


def _has_state(x: Any) -> bool:
    """Whether an argument is a module, or another object of Flax with arrays: an optimizer, a stream of keys."""
    flax = any(c.__module__.startswith("flax.nnx") and c.__name__ in ("Object", "Pytree") for c in type(x).__mro__)
    return (flax and not jax.tree_util.all_leaves([x])) or is_module(x)


def _modules(args: tuple[Any, ...], names: Sequence[str]) -> dict[str, Any]:
    """The modules among arguments, each by where it is."""
    found = jax.tree_util.tree_flatten_with_path(args, is_leaf=_has_state)[0]
    return {names[int(path[0].idx)] + within(path[1:]): each for path, each in found if _has_state(each)}


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
    return {within(path): leaf for path, leaf in jax.tree_util.tree_flatten_with_path(model)[0]}
