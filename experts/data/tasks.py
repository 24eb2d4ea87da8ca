"""What a task is: how its contents are drawn, asked, answered and judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random
from typing import Any

Content = tuple[Any, ...]  # what is asked, whatever its wording: numbers and words


@dataclass(frozen=True)
class Task:
    """One kind of question.

    wordings: how it can be asked, with fields in braces. draw: a random content. fields: the content's texts for the
    wordings. answer: the right answer to it. check: whether a text, the second argument, is as right as the answer,
    the first one.
    """

    name: str
    domain: str
    wordings: tuple[str, ...]
    draw: Callable[[Random], Content]
    fields: Callable[[Content], Mapping[str, str]]
    answer: Callable[[Content], str]
    check: Callable[[str, str], bool]


@dataclass(frozen=True)
class Example:
    """One question and its answer. content: what is asked, the same in every wording. wording: the template used."""

    domain: str
    task: str
    prompt: str
    answer: str
    content: str
    wording: str


def canonical(content: Content) -> str:
    """The content as one line of text."""
    return " ".join(map(str, content))


def same(answer: str, text: str) -> bool:
    """Whether the whole text is the answer, spaces around it aside."""
    return text.strip() == answer


def same_result(answer: str, text: str) -> bool:
    """Whether the text ends in the same result: only what stands behind the last "=" counts, and there must be one."""
    head, sign, result = text.rpartition("=")
    return bool(sign) and result.strip() == answer.rpartition("=")[2]
