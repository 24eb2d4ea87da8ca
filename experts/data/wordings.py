"""Many ways to ask for the same thing, from few patterns, and which of them are never trained on.

A pattern holds alternatives in brackets, `[add|sum up]`, and fields in braces, `{a}`. Expanded, it is a set of cores;
a core asked in several tones is a set of wordings. What is held out is a core with all its tones: a held-out wording
differs from every seen one by more than a "please".
"""

import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from functools import cache
from hashlib import sha256

HELD_SHARE = 0.25  # of each task's wordings

_ALTERNATIVES = re.compile(r"\[([^\[\]]*)\]")
_FIELD = re.compile(r"\{(\w+)\}")
_OPEN_END = re.compile(r'(: \{\w+\}|")$')  # a text or a quotation: no mark may be set behind it

_REQUESTS = (
    "{}.",
    "please {}.",
    "{}, please.",
    "can you {}?",
    "could you please {}?",
    "I want you to {}.",
    "I would like you to {}.",
)
_QUESTIONS = (
    "{}?",
    "tell me, {}?",
    "please tell me, {}?",
    "quick question: {}?",
    "I would like to know: {}?",
    "hello, {}?",
)
_MARKS = "?.!= "
_TONES = [
    re.compile(re.escape(tone.rstrip(_MARKS)).replace(r"\{\}", "(.*)"), re.IGNORECASE)
    for tone in (*_REQUESTS, *_QUESTIONS)
]


def digest(text: str) -> int:
    """A number that a text always has, in every process."""
    return int.from_bytes(sha256(text.encode()).digest()[:8], "big")


def expand(*patterns: str) -> tuple[str, ...]:
    """Every text that the patterns stand for, each once. Groups of alternatives may lie in each other.

    >>> expand("[add|sum up] {a} [and|to] {b}")[:2]
    ('add {a} and {b}', 'add {a} to {b}')
    """
    return tuple(dict.fromkeys(text for pattern in patterns for text in _expanded(pattern)))


def _expanded(pattern: str) -> Iterator[str]:
    if not (group := _ALTERNATIVES.search(pattern)):
        yield " ".join(pattern.split())
        return
    for each in group[1].split("|"):
        yield from _expanded(pattern[: group.start()] + each + pattern[group.end() :])


def requests(*patterns: str) -> tuple[str, ...]:
    """Patterns of what someone is told to do, "add {a} and {b}", in several tones."""
    return tuple(text for core in expand(*patterns) for text in _in_tones(core, _REQUESTS))


def questions(*patterns: str) -> tuple[str, ...]:
    """Patterns of what is asked, "what is {a} plus {b}", in several tones."""
    return tuple(text for core in expand(*patterns) for text in _in_tones(core, _QUESTIONS))


def bare(*patterns: str, marks: tuple[str, ...] = ("", ".", "?", ", please.")) -> tuple[str, ...]:
    """Patterns of what is only named, "{a} + {b}" or "the sum of {a} and {b}", with marks behind it."""
    return tuple(
        dict.fromkeys(
            text
            for core in expand(*patterns)
            for mark in (("",) if _OPEN_END.search(core) else marks)
            for text in (core + mark, core[0].upper() + core[1:] + mark)
        )
    )


def _in_tones(core: str, tones: tuple[str, ...]) -> tuple[str, ...]:
    """The bare core as it is, and every tone of it with a capital letter."""
    if _OPEN_END.search(core):
        tones = tuple(tone.rstrip(_MARKS) for tone in tones if not tone.startswith("{},"))
    texts = (tone.replace("{}", core) for tone in tones)
    return tuple(dict.fromkeys((core, *(text[0].upper() + text[1:] for text in texts))))


def fill(wording: str, fields: Mapping[str, str]) -> str:
    """The wording with its fields written in."""
    return _FIELD.sub(lambda field: fields[field[1]], wording)


def core_of(wording: str) -> str:
    """What is left of a wording without its tone, its capital letter and its marks at the end."""
    text = wording.rstrip(_MARKS)
    shortest = min((found[1] for tone in _TONES if (found := tone.fullmatch(text))), key=len)
    return shortest[:1].lower() + shortest[1:]


@cache
def by_core(wordings: tuple[str, ...], *, held: bool) -> tuple[tuple[str, ...], ...]:
    """The wordings that are trained on, or those held out, in groups of one core each.

    Cores are held out in the order of their hashes until they make up a quarter of the wordings. A core without a word
    of its own, `{a} + {b}`, is always trained on: nothing else says what it means.
    """
    groups = defaultdict(list)
    for wording in wordings:
        groups[core_of(wording)].append(wording)
    out, count = set(), 0
    for each in sorted(filter(_has_words, groups), key=digest):
        if count + len(groups[each]) / 2 < HELD_SHARE * len(wordings):
            out.add(each)
            count += len(groups[each])
    return tuple(tuple(group) for each, group in groups.items() if (each in out) == held)


def _has_words(core: str) -> bool:
    return any(sign.isalpha() for sign in _FIELD.sub("", core))
