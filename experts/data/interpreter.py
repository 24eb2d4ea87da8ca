"""Runs a small Python function that nobody has vetted.

Nothing is handed to Python itself but the parser. The function is one `def` of one argument whose body is one `return`
of an expression; the expression is walked here, node by node. Only nodes, functions and methods that are named below
exist, so there is nothing to import, to open or to call back. Every node costs a step, and the size of a result is
known before it is made: a hostile program ends in `Refused`, after some milliseconds and some kilobytes.
"""

import ast
import operator
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

LONGEST_TEXT = 300  # characters of a program
MOST_STEPS = 20_000  # nodes that are looked at in one call
LARGEST = 10_000  # characters of a string, entries of a list
HIGHEST = 10**18  # of a number, either sign
MOST_LOOPS = 2  # `for`s in one program


class Refused(Exception):
    """What a program may not do, or does for too long."""


_ARITHMETIC: Mapping[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_COMPARISONS: Mapping[type, Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_SIGNS: Mapping[type, Callable[[Any], Any]] = {ast.Not: operator.not_, ast.USub: operator.neg, ast.UAdd: operator.pos}


def _sum(numbers: Any, start: Any = 0) -> Any:
    """Of numbers alone: a sum of lists takes time without end."""
    if not all(isinstance(each, int | float) for each in (*numbers, start)):
        raise TypeError("a sum is of numbers")
    return sum(numbers, start)


# Of these, none makes more than it is given.
_FUNCTIONS: Mapping[str, Callable[..., Any]] = {
    each.__name__: each for each in (abs, all, any, bool, int, len, list, max, min, set, sorted, str)
} | {"sum": _sum}
_KEYWORDS = {"reverse", "default"}
_METHODS = {"count", "endswith", "find", "isdigit", "islower", "isupper", "lower", "startswith", "strip", "upper"}


def run(program: str, *arguments: Any) -> list[tuple[str, Any]]:
    """What the function gives for each argument: ("gives", value), or ("raises", name of the exception).

    Raises `Refused` where the text is no such function, does what is not allowed, or goes on for too long.
    """
    name, body = _parsed(program)
    return [_outcome(name, body, argument) for argument in arguments]


def _outcome(name: str, body: ast.expr, argument: Any) -> tuple[str, Any]:
    try:
        return "gives", _Run().value(body, {name: argument})
    except RecursionError as error:
        raise Refused("nested too deeply") from error
    except (TypeError, ValueError, ArithmeticError, IndexError) as error:
        return "raises", type(error).__name__


def _parsed(program: str) -> tuple[str, ast.expr]:
    """Name of the argument, and the expression that is returned."""
    if len(program) > LONGEST_TEXT:
        raise Refused("too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(program)
    except (SyntaxError, ValueError, MemoryError, RecursionError) as error:
        raise Refused("not a program") from error
    match tree.body:
        case [
            ast.FunctionDef(
                args=ast.arguments(posonlyargs=[], args=[ast.arg(arg=name)], vararg=None, kwonlyargs=[], kwarg=None),
                body=[ast.Return(value=ast.expr() as body)],
                decorator_list=[],
            )
        ]:
            if sum(isinstance(node, ast.comprehension) for node in ast.walk(body)) > MOST_LOOPS:
                raise Refused("too many loops")
            return name, body
    raise Refused("not one function of one argument that returns an expression")


def _small(size: int) -> None:
    """Refuses what would have so many characters or entries."""
    if size > LARGEST:
        raise Refused("too long a value")


def _repeated(a: Any, b: Any) -> int:
    """Characters of a string times a number, in either order; 0 for numbers. Lists are not repeated."""
    for many, times in ((a, b), (b, a)):
        if isinstance(many, list):
            raise Refused("a list times a number is not allowed")
        if isinstance(many, str) and isinstance(times, int):
            return len(many) * times
    return 0


class _Run:
    """One call: counts its steps."""

    def __init__(self):
        self.steps = 0

    def value(self, node: ast.AST, names: dict[str, Any]) -> Any:
        """What a node stands for."""
        self.steps += 1
        if self.steps > MOST_STEPS:
            raise Refused("too many steps")
        how = getattr(self, f"_{type(node).__name__}", None)
        if how is None:
            raise Refused(f"{type(node).__name__} is not allowed")
        found = how(node, names)
        if isinstance(found, str | list | set):
            _small(len(found))
            self.steps += len(found)
        elif isinstance(found, int) and abs(found) > HIGHEST:
            raise Refused("too large a number")
        return found

    def _Constant(self, node: ast.Constant, names: dict[str, Any]) -> Any:
        if not isinstance(node.value, int | float | str | None):
            raise Refused("such a constant is not allowed")
        return node.value

    def _Name(self, node: ast.Name, names: dict[str, Any]) -> Any:
        if node.id not in names:
            raise Refused(f"unknown name {node.id}")
        return names[node.id]

    def _BinOp(self, node: ast.BinOp, names: dict[str, Any]) -> Any:
        a, b = self.value(node.left, names), self.value(node.right, names)
        if type(node.op) not in _ARITHMETIC:
            raise Refused("such an operation is not allowed")
        if isinstance(a, str) and isinstance(node.op, ast.Mod):
            raise Refused("formats are not allowed")  # a width may be any number
        if isinstance(node.op, ast.Pow) and not (isinstance(b, int) and 0 <= b <= 8):
            raise Refused("too large a power")
        if isinstance(node.op, ast.Mult):
            _small(_repeated(a, b))
        return _ARITHMETIC[type(node.op)](a, b)

    def _UnaryOp(self, node: ast.UnaryOp, names: dict[str, Any]) -> Any:
        if type(node.op) not in _SIGNS:
            raise Refused("such a sign is not allowed")
        return _SIGNS[type(node.op)](self.value(node.operand, names))

    def _BoolOp(self, node: ast.BoolOp, names: dict[str, Any]) -> Any:
        found = None
        for each in node.values:
            found = self.value(each, names)
            if bool(found) == isinstance(node.op, ast.Or):
                break
        return found

    def _Compare(self, node: ast.Compare, names: dict[str, Any]) -> bool:
        left = self.value(node.left, names)
        for how, other in zip(node.ops, node.comparators, strict=True):
            right = self.value(other, names)
            if type(how) not in _COMPARISONS:
                raise Refused("such a comparison is not allowed")
            if not _COMPARISONS[type(how)](left, right):
                return False
            left = right
        return True

    def _IfExp(self, node: ast.IfExp, names: dict[str, Any]) -> Any:
        return self.value(node.body if self.value(node.test, names) else node.orelse, names)

    def _List(self, node: ast.List | ast.Tuple, names: dict[str, Any]) -> list[Any]:
        return [self.value(each, names) for each in node.elts]

    def _Subscript(self, node: ast.Subscript, names: dict[str, Any]) -> Any:
        many = self.value(node.value, names)
        if isinstance(node.slice, ast.Slice):
            bounds = (node.slice.lower, node.slice.upper, node.slice.step)
            return many[slice(*(None if each is None else self.value(each, names) for each in bounds))]
        return many[self.value(node.slice, names)]

    def _ListComp(self, node: ast.ListComp | ast.GeneratorExp, names: dict[str, Any]) -> list[Any]:
        return [self.value(node.elt, inner) for inner in self._turns(node.generators, names)]

    def _SetComp(self, node: ast.SetComp, names: dict[str, Any]) -> set[Any]:
        return {self.value(node.elt, inner) for inner in self._turns(node.generators, names)}

    _GeneratorExp, _Tuple = _ListComp, _List

    def _turns(self, loops: list[ast.comprehension], names: dict[str, Any]) -> Iterator[dict[str, Any]]:
        if not loops:
            yield names
            return
        loop, *inner = loops
        if not isinstance(loop.target, ast.Name) or loop.is_async:
            raise Refused("such a loop is not allowed")
        for each in self.value(loop.iter, names):
            held = {**names, loop.target.id: each}
            if all(self.value(test, held) for test in loop.ifs):
                yield from self._turns(inner, held)

    def _Call(self, node: ast.Call, names: dict[str, Any]) -> Any:
        keywords = {each.arg: self.value(each.value, names) for each in node.keywords if each.arg in _KEYWORDS}
        if len(keywords) < len(node.keywords):
            raise Refused("such an argument is not allowed")
        given = [self.value(each, names) for each in node.args]
        if isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS:
            return _FUNCTIONS[node.func.id](*given, **keywords)
        if not isinstance(node.func, ast.Attribute):
            raise Refused("such a call is not allowed")
        return self._method(self.value(node.func.value, names), node.func.attr, given)

    def _method(self, text: Any, name: str, given: list[Any]) -> Any:
        if not isinstance(text, str) or not all(isinstance(each, str) for each in given):
            raise Refused("methods are for strings")
        if name == "replace" and len(given) == 2:
            _small((len(text) + 1) * (len(given[1]) + 1))
            return text.replace(*given)
        if name not in _METHODS:
            raise Refused(f"unknown method {name}")
        return getattr(text, name)(*given)
