"""Lists of three to eight numbers below 100: put in order, searched, thinned out, counted.

The steps before the result:

    sort    [45, 3, 17, 41]   45 03 17 41;0:3;1:7;2:;3:;4:15;5:;6:;7:;8:;9:;=[3, 17, 41, 45]
            two digits of each; behind each ten its ones, in order
    largest [45, 3, 17, 41]   45 03 17 41;9:;8:;7:;6:;5:;4:51;=45
            the same, down to the first ten that occurs
    even    [45, 12, 8]       45o 12e12 8e8;=[12, 8]
            each number, odd or even; once more, if it stays
    unique  [7, 14, 7]        07y07 14y14 07n;=[7, 14]
            two digits of each, and whether it is new; once more, if it is
    count   [7, 4, 7]         7:1 4:2 7:3;=3
"""

from collections.abc import Callable, Sequence
from random import Random

from experts.data.steps import END
from experts.data.tasks import Content, Task, same_result
from experts.data.wordings import bare, questions, requests

SHORTEST, LONGEST, HIGHEST = 3, 8, 99

_LISTS = "[the|this] list [of numbers|] {list}"
_NUMBERS = f"[{{list}}|{_LISTS}|[the|these] numbers {{items}}]"
_OF = "[{list}|[the|this] list {list}|[the|these] numbers {items}]"


def _numbers(rng: Random) -> Content:
    return tuple(rng.randint(0, HIGHEST) for _ in range(rng.randint(SHORTEST, LONGEST)))


def _distinct(rng: Random) -> Content:
    return tuple(rng.sample(range(HIGHEST + 1), rng.randint(SHORTEST, LONGEST)))


def _repeated(rng: Random) -> Content:
    """Of any length, from few numbers: in most lists some occur again."""
    pool = _distinct(rng)
    return tuple(rng.choice(pool[: rng.randint(2, LONGEST)]) for _ in range(rng.randint(SHORTEST, LONGEST)))


def _written(content: Content) -> dict[str, str]:
    return {"list": str(list(content)), "items": ", ".join(map(str, content))}


def _tens(numbers: Sequence[int], *, down: bool = False) -> list[str]:
    """Each ten in order, whether it occurs or not, with the ones of its numbers in the same order."""
    tens = sorted(range(10), reverse=down)
    ones = {ten: sorted((n % 10 for n in numbers if n // 10 == ten), reverse=down) for ten in tens}
    return [f"{ten}:{''.join(map(str, ones[ten]))}" for ten in tens]


def _in_two_digits(numbers: Sequence[int]) -> str:
    return " ".join(f"{number:02}" for number in numbers)


def _sorted(content: Content, *, down: bool = False) -> str:
    return END.join([_in_two_digits(content), *_tens(content, down=down), f"={sorted(content, reverse=down)}"])


def _extreme(content: Content, *, down: bool) -> str:
    """Tens up to the first that occurs."""
    found = max(content) if down else min(content)
    before = 9 - found // 10 if down else found // 10
    return END.join([_in_two_digits(content), *_tens(content, down=down)[: before + 1], f"={found}"])


def _kept(content: Content, keep: Callable[[int], bool], marks: str, form: str = "") -> str:
    """Every number with a mark, and once more if it stays; then all that stay.

    keep: of a place in the list. marks: of those that stay, of the others. form: of a number in the steps.
    """
    steps, kept = [], []
    for at, number in enumerate(content):
        text = format(number, form)
        steps.append(f"{text}{marks[0]}{text}" if keep(at) else f"{text}{marks[1]}")
        kept += [number] * keep(at)
    return f"{' '.join(steps)}{END}={kept}"


def _counted(content: Content) -> str:
    return f"{' '.join(f'{number}:{at}' for at, number in enumerate(content, 1))}{END}={len(content)}"


def _in_order(adverbs: str, questioned: str, short: str) -> tuple[str, ...]:
    return (
        *requests(
            f"[sort|order|arrange] {_NUMBERS} {adverbs}",
            f"put {_NUMBERS} in {questioned} order",
            f"sort {_OF} so that {short}",
        ),
        *questions(f"what is {_LISTS} in {questioned} order", f"how does {{list}} look when sorted {adverbs}"),
        *bare(f"{{list}} [sorted|in order] {adverbs}"),
    )


def _picked(which: str) -> tuple[str, ...]:
    return (
        *requests(
            f"[find|give me|pick|pick out|show me|name] the {which} [number|value|entry] [in|of|from] {_OF}",
            f"[look at|go through] {_OF} and [give me|name] the {which} [number|entry]",
        ),
        *questions(
            f"[what|which] is the {which} [number|value|entry] [in|of] {_OF}",
            f"which [number|entry] [in|of] {_OF} is the {which}",
        ),
        *bare(f"[the|] {which} [number|entry|] [in|of] {{list}}"),
    )


def _thinned(which: str, other: str) -> tuple[str, ...]:
    return (
        *requests(
            f"[keep|select|pick out|list|show me|give me] [only|] the {which} [numbers|entries] [of|from|in] {_OF}",
            f"[drop|remove|delete|take out] [all|] the {other} [numbers|entries] [from|of] {_OF}",
            f"filter {_OF} and keep only the {which} [numbers|entries]",
        ),
        *questions(f"which [numbers|entries] [of|in|from] {_OF} are {which}"),
        *bare(f"[the|only the|] {which} [numbers|entries] [of|in] {{list}}"),
    )


def _order_tasks() -> tuple[Task, ...]:
    up = "[from smallest to largest|in ascending order|in increasing order|from low to high]"
    down = "[from largest to smallest|in descending order|in decreasing order|from high to low]"
    sort = _in_order(up, "[ascending|increasing]", "the smallest [number|entry|one] comes first")
    descending = _in_order(down, "[descending|decreasing]", "the largest [number|entry|one] comes first")
    behind = "[backwards|in reverse order|from the end to the start|from back to front]"
    reverse = (
        *requests(
            f"[reverse|turn around|flip|mirror] {_NUMBERS}",
            f"[write|list|read|put] {_NUMBERS} {behind}",
            f"reverse the order of {_NUMBERS}",
        ),
        *questions(f"what is {_NUMBERS} [backwards|in reverse order|from back to front]"),
        *bare("{list} [backwards|reversed|in reverse order|from back to front]"),
    )
    return (
        Task("sort", "lists", sort, _numbers, _written, _sorted, same_result),
        Task("sort down", "lists", descending, _numbers, _written, lambda c: _sorted(c, down=True), same_result),
        Task("reverse", "lists", reverse, _distinct, _written, lambda c: f"={list(reversed(c))}", same_result),
    )


def _choice_tasks() -> tuple[Task, ...]:
    twice = "[duplicates|repeated numbers|repeated entries]"
    unique = (
        *requests(
            f"[remove|drop|delete|take out] [the|all] {twice} [from|in|of] {_OF}",
            f"keep [every|each] [number|entry] of {_OF} only once",
            f"[list|show me|give me|write] the [different|distinct|unique] [numbers|entries] [of|in|from] {_OF}",
        ),
        *questions(f"which [different|distinct|unique] [numbers|entries] are in {_OF}"),
        *bare(f"{{list}} without {twice}"),
    )
    count = (
        *requests(
            f"count the [numbers|entries|values] [in|of] {_OF}",
            f"[give me|find|tell me] the [length|number of entries|number of values] of {_OF}",
            "tell me how [long the list {list} is|many [numbers|entries] {list} has]",
        ),
        *questions(
            f"how many [numbers|entries|values] are [there|] in {_OF}",
            "how many [numbers|entries|values] does [the list|this list|] {list} [have|contain]",
            "how long is [the|this] list {list}",
        ),
        *bare("[the|] [length|number of entries] of {list}"),
    )
    even, odd = _thinned("even", "odd"), _thinned("odd", "even")
    return (
        Task("largest", "lists", _picked("[largest|biggest|highest]"), _numbers, _written, _largest, same_result),
        Task("smallest", "lists", _picked("[smallest|lowest]"), _numbers, _written, _smallest, same_result),
        Task("unique", "lists", unique, _repeated, _written, _unique, same_result),
        Task("even", "lists", even, _numbers, _written, _even, same_result),
        Task("odd", "lists", odd, _numbers, _written, _odd, same_result),
        Task("count", "lists", count, _numbers, _written, _counted, same_result),
    )


def _largest(content: Content) -> str:
    return _extreme(content, down=True)


def _smallest(content: Content) -> str:
    return _extreme(content, down=False)


def _unique(content: Content) -> str:
    return _kept(content, lambda at: content[at] not in content[:at], "yn", "02")


def _even(content: Content) -> str:
    return _kept(content, lambda at: content[at] % 2 == 0, "eo")


def _odd(content: Content) -> str:
    return _kept(content, lambda at: content[at] % 2 == 1, "oe")


def tasks() -> tuple[Task, ...]:
    """All tasks of the domain."""
    return (*_order_tasks(), *_choice_tasks())
