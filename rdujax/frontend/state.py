"""What a program cannot have: memory of its own that a function changes from call to call."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from rdujax.base import compat
from rdujax.base.errors import UnsupportedError, describe

_HOLDER = re.compile(r"is referred to by (.+)")
_FUNCTION = re.compile(r"tracing the function (\S+) at (\S+)")


def reference(kind: Any, where: str) -> UnsupportedError:
    """The error for a reference to mutable memory, a `jax.Ref`, that a function is given or closes over."""
    return UnsupportedError(
        describe("a reference to mutable memory: a program has no state", given=str(kind), where=where,
                 do="pass the value that it holds as an argument, ref[...], and return the new one")
    )  # fmt: skip


@contextmanager
def refused() -> Iterator[None]:
    """Refuses, of what is traced within, traced values that stay alive elsewhere and modules that change elsewhere."""
    try:
        with jax.checking_leaks():
            yield
    except Exception as error:
        if type(error) is Exception and str(error).startswith("Leaked trace"):
            raise _leak(str(error)) from None
        if type(error).__name__ == "TraceContextError" and type(error).__module__.startswith("flax."):
            raise _other_module(error) from error
        raise


def _other_module(error: Exception) -> UnsupportedError:
    """A Flax module that the function closes over, and not one of its arguments."""
    return UnsupportedError(
        describe("a module that the function closes over changes its own state",
                 given=str(error).partition(" (")[0], where=compat.user_frame(error),
                 do="pass it as an argument, and return it: compile(lambda model, x: (model(x), model), model, x)")
    )  # fmt: skip


def _leak(text: str) -> UnsupportedError:
    """What JAX says of a leak is a tracer, then who refers to whom, the function that was traced somewhere between."""
    tracer = next((line for line in text.splitlines()[1:] if line), "")
    of_first = text.partition(tracer)[2].partition("\n\n")[0] if tracer else ""
    holders = [holder for holder in _HOLDER.findall(of_first) if not holder.startswith("<")]
    place = _FUNCTION.search(text)
    return UnsupportedError(
        describe("a traced value is kept outside of the function: a program has no state",
                 given=tracer + (f", in {holders[-1]}" if holders else ""),
                 where=f"{place[2]} ({place[1]})" if place else "",
                 do="return it, and keep what the program returns")
    )  # fmt: skip
