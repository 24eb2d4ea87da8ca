"""The table of rules: how one equation of a jaxpr becomes nodes of a graph.

A rule is one small entry: a function from a `Site` (the equation, its operands, its place in the user's source) to
the values of its results, registered under the primitive's name as a string. Names, not objects: they outlive the
renaming and moving of JAX's own primitives.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import copysign
from typing import Any

import jax
import numpy as np

from rdujax.base import compat
from rdujax.base.errors import UnsupportedError, describe
from rdujax.base.registry import Registry
from rdujax.frontend.builder import Builder
from rdujax.frontend.refused import REFUSED
from rdujax.graph.graph import NO_PINS, Pins
from rdujax.ops.op import Op


@dataclass(frozen=True)
class Scalar:
    """A number in the text of the function (a jaxpr literal): an immediate, not a value in memory."""

    value: Any
    dtype: Any

    @property
    def number(self) -> float | int | bool:
        """Its Python value as it enters the machine: a denormal is a zero of its sign (N11)."""
        value = np.asarray(self.value, self.dtype).item()
        return copysign(0.0, value) if isinstance(value, float) and abs(value) < 2.0**-126 else value


@dataclass(frozen=True)
class Pair:
    """A complex value: its real and its imaginary part, FP32 each (see rules/complexes.py).

    A part that is 0 throughout is a scalar, and no work is done on it.
    """

    real: int | Scalar
    imaginary: int | Scalar


@dataclass(frozen=True)
class Key:
    """Keys of random numbers: their two words, UINT32 values of the keys' shape (see rules/random.py)."""

    first: int
    second: int


@dataclass(frozen=True)
class Empty:
    """An array without elements: nothing in memory (see rules/empties.py)."""

    shape: tuple[int, ...]
    dtype: Any


Operand = int | Scalar | Pair | Key | Empty


@dataclass(frozen=True)
class Site:
    """One equation where it stands.

    operands: value numbers, or scalars of the text. parameters: those of the primitive. results: abstract results.
    """

    builder: Builder
    primitive: str
    operands: tuple[Operand, ...]
    parameters: dict[str, Any]
    results: tuple[Any, ...]
    scope: str
    source: str

    def value(self, i: int) -> int:
        """Operand i as a value; a scalar of the text becomes a constant in memory."""
        operand = self.operands[i]
        if isinstance(operand, Scalar):
            return self.builder.constant(np.asarray(operand.value, operand.dtype), str(operand.value))
        if isinstance(operand, Empty):
            raise self.unsupported(f"an empty array, of shape {operand.shape}", "leave empty arrays out")
        if isinstance(operand, Pair):
            raise self.unsupported("a complex operand", "write it with the real and the imaginary part")
        if isinstance(operand, Key):
            raise self.unsupported("a random key", "draw numbers from it, or take its words: jax.random.key_data(key)")
        return operand

    def add(self, op: Op, *operands: int, pins: Pins = NO_PINS) -> int:
        """A new node at this place."""
        return self.builder.add(op, operands, scope=self.scope, source=self.source, pins=pins)

    def unsupported(self, what: str, do: str) -> UnsupportedError:
        """The error for a form of the primitive that the rule does not have."""
        return UnsupportedError(describe(f"{self.primitive}: {what}", where=self.source, do=do))


Rule = Callable[[Site], tuple[int, ...]]
RULES: Registry[Rule] = Registry("rule for a primitive")


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Registers a rule under one or more primitive names."""

    def wrap(function: Rule) -> Rule:
        for name in names:
            RULES.add(name, function)
        return function

    return wrap


def expanded(site: Site, fn: Callable[..., Any], *values: int) -> tuple[int, ...]:
    """The results of `fn`, a JAX function of the values, by the rules of what it is made of, at the place of the site.

    For primitives that are a short function of others. It may call jitted functions, and has no loops or branches.
    """
    kinds = [site.builder.types[v] for v in values]
    given = [jax.ShapeDtypeStruct(kind.shape, kind.fmt.dtype) for kind in kinds]
    return _applied(site, jax.make_jaxpr(fn)(*given), values)


def _applied(site: Site, closed: Any, operands: Sequence[Operand]) -> tuple[Any, ...]:
    jaxpr, consts = compat.open_jaxpr(closed)
    known: dict[Any, Operand] = dict(zip(jaxpr.invars, operands, strict=True))
    for var, const in zip(jaxpr.constvars, consts, strict=True):
        known[var] = site.builder.constant(np.asarray(const), f"of {site.primitive}")

    def read(atom: Any) -> Operand:
        return Scalar(atom.val, compat.dtype_of(atom)) if isinstance(atom, compat.Literal) else known[atom]

    for eqn in jaxpr.eqns:
        name, given = eqn.primitive.name, tuple(read(atom) for atom in eqn.invars)
        if name in ("jit", "pjit"):
            results = _applied(site, eqn.params["jaxpr"], given)
        else:
            kinds = tuple(v.aval for v in eqn.outvars)
            results = RULES[name](
                replace(site, primitive=name, operands=given, parameters=dict(eqn.params), results=kinds)
            )
        known |= dict(zip(eqn.outvars, results, strict=True))
    return tuple(read(atom) for atom in jaxpr.outvars)


def missing(primitive: str, scope: str, source: str) -> UnsupportedError:
    """The error for a primitive without a rule: why there is none, where that is known."""
    where = f"scope {scope}" if scope else ""
    given = f"{primitive} at {source}" if source else primitive
    if primitive in REFUSED:
        reason, do = REFUSED[primitive]
        return UnsupportedError(describe(f"no rule for {primitive!r}: {reason}", given=given, where=where, do=do))
    return UnsupportedError(
        describe(
            f"no rule for the JAX primitive {primitive!r}",
            given=given,
            allowed=", ".join(sorted(RULES)),
            where=where,
            do=f"rewrite it with these, or add a rule: one @rule({primitive!r}) in a file of rdujax/frontend/rules/",
        )
    )
