"""Prompts as people type them in a hurry: small letters, no marks, words left out, slips of the fingers.

They teach a router to look at what is asked, and tell how sure it may be: wordings by grammar alone are too easy.
"""

import re
from random import Random

# Without them a request still asks for the same.
SMALL = frozenset(
    "a an the this that these those of for from to in on by with as is are was be do does did can could would you your "
    "me my i it its please what tell give show write find want like know hello".split()
)
_WORD = re.compile(r"[^\W\d_]{4,}")


def roughened(prompt: str, rng: Random) -> str:
    """The prompt after some of these; numbers, and the order of what is left, stay."""
    if rng.random() < 0.4:
        prompt = prompt.lower()
    if rng.random() < 0.5:
        prompt = prompt.rstrip(".?! ")
    if rng.random() < 0.5:
        prompt = _shortened(prompt, rng)
    for _ in range(rng.choice((0, 0, 1, 2))):
        prompt = _slipped(prompt, rng)
    return prompt


def _shortened(prompt: str, rng: Random) -> str:
    """Without some of the small words; never without all words."""
    words = prompt.split(" ")
    kept = [word for word in words if word.lower().strip(",") not in SMALL or rng.random() < 0.5]
    return " ".join(kept or words)


def _slipped(prompt: str, rng: Random) -> str:
    """Two letters of a word in the wrong order, one left out, or one twice."""
    words = list(_WORD.finditer(prompt))
    if not words:
        return prompt
    word = rng.choice(words)
    at = rng.randrange(word.start(), word.end() - 1)
    pair = prompt[at : at + 2]
    return prompt[:at] + rng.choice((pair[::-1], pair[1], pair[0] + pair)) + prompt[at + 2 :]
