"""One registry type for the whole house: a family of named members, all under the same law tests."""

from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from rdujax.base.errors import ArgumentError, describe, unknown

T = TypeVar("T")


class Registry(Generic[T]):
    """An append-only mapping from a name to a member of one family.

    A second member of the same name is refused, and so is a look-up of a name that is not there
    (`UnknownNameError`, with the nearest name). Iteration is in order of registration.
    """

    def __init__(self, kind: str, *, do: str = ""):
        self.kind = kind
        self._do = do
        self._members: dict[str, T] = {}

    def add(self, name: str, member: T) -> T:
        """Registers `member` and returns it."""
        if name in self._members:
            raise ArgumentError(describe(f"a second {self.kind} of the same name", given=repr(name)))
        self._members[name] = member
        return member

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator form of `add`."""
        return lambda member: self.add(name, member)

    def __getitem__(self, name: str) -> T:
        if name not in self._members:
            raise unknown(self.kind, name, self._members, do=self._do)
        return self._members[name]

    def __contains__(self, name: object) -> bool:
        return name in self._members

    def __iter__(self) -> Iterator[str]:
        return iter(self._members)

    def __len__(self) -> int:
        return len(self._members)

    def items(self) -> Iterator[tuple[str, T]]:
        """Pairs of name and member, in order of registration."""
        return iter(self._members.items())
