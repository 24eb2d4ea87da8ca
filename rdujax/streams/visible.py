"""Unit calls that stay visible by name in a jaxpr.

A kernel written by hand is a JAX function of streams. For the front end to read it, every unit call is one jit whose
name is its complete description: "rdu." and a JSON object. Profiles show the same names.
"""

import json
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import jax

PREFIX = "rdu."


def call(
    description: dict[str, Any], body: Callable[..., Any], statics: tuple[Any, ...], *data: jax.Array
) -> jax.Array:
    """`body(*statics, *data)` as a jit named by `description`. `body` is a module-level function, statics hash."""
    name = PREFIX + json.dumps(description, sort_keys=True, separators=(",", ":"))
    return _jitted(name, body, statics)(*data)


def describe(name: str) -> dict[str, Any]:
    """The description in a name made by `call`."""
    return json.loads(name.removeprefix(PREFIX))


@lru_cache(maxsize=1024)
def _jitted(name: str, body: Callable[..., Any], statics: tuple[Any, ...]) -> Callable[..., Any]:
    def run(*data: jax.Array) -> jax.Array:
        return body(*statics, *data)

    run.__name__ = run.__qualname__ = name
    return jax.jit(run)
