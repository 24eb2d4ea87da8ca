"""JSON objects of two to four fields: written from a sentence, read, and changed."""

import json
from collections.abc import Callable, Mapping, Sequence
from random import Random

from experts.data.tasks import Content, Task, same
from experts.data.wordings import bare, questions, requests

NAMES = (
    """Anna Ben Clara David Emma Felix Greta Hugo Ida Jonas Karl Laura Max Nina Oskar Paul Rosa Sara Tom Vera""".split()
)
CITIES = "Paris London Berlin Rome Madrid Vienna Oslo Prague Lisbon Dublin Athens Warsaw".split()
JOBS = "baker teacher painter nurse farmer pilot cook driver writer singer".split()
THINGS = "lamp chair table phone radio clock knife glass shirt shoe ball bag desk bottle".split()
COLORS = "red green blue black white yellow brown grey".split()
TITLES = "Night Rivers Home Winter Stars Fire Islands Silence Shadows Roads".split()
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday".split()

# Values that a field can have, by its key.
FIELDS: Mapping[str, Sequence[str | int]] = {
    "name": NAMES,
    "age": range(18, 90),
    "city": CITIES,
    "job": JOBS,
    "product": THINGS,
    "price": range(2, 500),
    "color": COLORS,
    "stock": range(2, 100),
    "title": TITLES,
    "author": NAMES,
    "year": range(1900, 2030),
    "pages": range(40, 900),
    "day": DAYS,
    "hour": range(8, 21),
    "room": range(100, 400),
}
# Sentences about something, in three ways each, with the fields in the order in which they stand in the object.
SENTENCES = (
    (
        "{name} is {age} years old and lives in {city}",
        "{age} years old, {name} lives in {city}",
        "in {city} lives {name}, aged {age}",
    ),
    (
        "{name} works as a {job} in {city}",
        "the {job} {name} works in {city}",
        "in {city}, {name} has a job as a {job}",
    ),
    (
        "the {product} is {color} and costs {price} euros",
        "a {color} {product} costs {price} euros",
        "for {price} euros there is a {product} in {color}",
    ),
    (
        "we have {stock} of the {product} at {price} euros",
        "the {product} costs {price} euros and {stock} are in stock",
        "at {price} euros each, {stock} of the {product} are left",
    ),
    (
        "{author} wrote {title} in {year}",
        "{title} was written by {author} in {year}",
        "in {year}, {author} wrote the book {title}",
    ),
    (
        "the book {title} of {year} has {pages} pages",
        "in {year} came {title}, a book with {pages} pages",
        "{title} has {pages} pages and is from {year}",
    ),
    (
        "on {day} at {hour} we meet in room {room}",
        "we meet in room {room} on {day} at {hour}",
        "the meeting in room {room} is on {day} at {hour}",
    ),
)
KEYS = (
    ("name", "age", "city"),
    ("name", "job", "city"),
    ("product", "color", "price"),
    ("product", "price", "stock"),
    ("title", "author", "year"),
    ("title", "year", "pages"),
    ("day", "hour", "room"),
)


def _pairs(rng: Random, keys: tuple[str, ...] | list[str]) -> Content:
    return tuple((key, rng.choice(FIELDS[key])) for key in keys)


def _draw_sentence(rng: Random) -> Content:
    about = rng.randrange(len(KEYS))
    return about, *_pairs(rng, KEYS[about])


def _sentence_fields(content: Content) -> dict[str, str]:
    """The three sentences, and the same with a capital letter and a point."""
    about, *pairs = content
    values = {key: str(value) for key, value in pairs}
    texts = [sentence.format(**values) for sentence in SENTENCES[about]]
    return {f"text{at}": f"{text[0].upper()}{text[1:]}." for at, text in enumerate(texts)}


def _draw_object(rng: Random) -> Content:
    """The fields, and which one is meant."""
    keys = rng.sample(tuple(FIELDS), rng.choice((2, 3, 3, 4)))
    return _pairs(rng, keys), rng.choice(keys)


def _draw_change(rng: Random) -> Content:
    """The fields, which one is meant, and another value of it."""
    pairs, key = _draw_object(rng)
    return pairs, key, rng.choice([value for value in FIELDS[key] if value != dict(pairs)[key]])


def _draw_addition(rng: Random) -> Content:
    """Two or three fields, and another one with its value."""
    *keys, key = rng.sample(tuple(FIELDS), rng.choice((3, 4)))
    return _pairs(rng, keys), key, rng.choice(FIELDS[key])


def _object_fields(content: Content) -> dict[str, str]:
    pairs, key, *value = content
    return {"object": json.dumps(dict(pairs)), "key": key, "value": json.dumps(value[0]) if value else ""}


def _changed(content: Content) -> str:
    pairs, key, value = content
    return json.dumps({**dict(pairs), key: value})


def _removed(content: Content) -> str:
    pairs, key = content
    return json.dumps({each: value for each, value in pairs if each != key})


_OBJECT = "[{object}|[the|this] [object|JSON|JSON object] {object}]"
_KEY = '["{key}"|{key}]'


def _written() -> tuple[str, ...]:
    text = "[{text0}|{text1}|{text2}]"
    json_ = "[JSON|a JSON object]"
    return (
        *requests(
            f"[write|put|turn|convert] [this|the following|this sentence] [as|into] {json_}: {text}",
            f"[make|create|give me|build] {json_} [from|of|for] [this|this sentence|the following]: {text}",
            f"[read|take] this sentence and [make|write] {json_} [of|from] it: {text}",
        ),
        *questions(f"what is [this|this sentence|the following] [as|in] {json_}: {text}"),
        *bare(f"[as|to|in|] JSON: {text}", f"JSON object for: {text}"),
    )


def _read() -> tuple[str, ...]:
    return (
        *requests(
            f"[give me|find|get|read|look up] the [value|entry] of {_KEY} in {_OBJECT}",
            f"[look at|take] {_OBJECT} and [give me|get] {_KEY}",
            f"[read|get] {_KEY} [from|in] {_OBJECT}",
        ),
        *questions(
            f"what is [the value of|] {_KEY} in {_OBJECT}",
            f"[what|which] value does {_KEY} have in {_OBJECT}",
            f"what does {_OBJECT} say [for|about] {_KEY}",
        ),
        *bare("{key} [of|in|from] {object}", "{object}: {key}"),
    )


def _set() -> tuple[str, ...]:
    return (
        *requests(
            f"[set|change] {_KEY} to {{value}} in {_OBJECT}",
            f"replace the [value|entry] of {_KEY} in {_OBJECT} [by|with] {{value}}",
            f"change the [value|entry] of {_KEY} in {_OBJECT} to {{value}}",
            f"[take|look at] {_OBJECT} and make {_KEY} {{value}}",
        ),
        *questions(f"what is {_OBJECT} with {_KEY} [set|changed] to {{value}}"),
        *bare(f"in {_OBJECT}, [set|change] {_KEY} to {{value}}", "{object} with {key} [set|changed] to {value}"),
    )


def _dropped() -> tuple[str, ...]:
    return (
        *requests(
            f"[remove|delete|drop] [the field|] {_KEY} [from|in] {_OBJECT}",
            f"[take out|leave out|strike out] [the field|] {_KEY} [from|of|in] {_OBJECT}",
        ),
        *questions(f"what is [left of|] {_OBJECT} without [the field|] {_KEY}"),
        *bare(f"in {_OBJECT}, [remove|delete|drop] [the field|] {_KEY}", "{object} without [the field|] {key}"),
    )


def _added() -> tuple[str, ...]:
    field = f"[the field|] {_KEY}"
    return (
        *requests(
            f"[add|append] {field} with [the value|] {{value}} to {_OBJECT}",
            f"give {_OBJECT} the field {_KEY} with [the value|] {{value}}",
            f"extend {_OBJECT} by the field {_KEY} with [the value|] {{value}}",
        ),
        *questions(f"what is {_OBJECT} plus {field} with [the value|] {{value}}"),
        *bare(
            f"in {_OBJECT}, [add|append] {field} with [the value|] {{value}}",
            "{object} and [the field|] {key} with {value}",
        ),
    )


def tasks() -> tuple[Task, ...]:
    """All tasks of the domain."""

    def written(content: Content) -> str:
        return json.dumps(dict(content[1:]))

    def read(content: Content) -> str:
        return json.dumps(dict(content[0])[content[1]])

    kinds: tuple[tuple[str, tuple[str, ...], Callable, Callable, Callable], ...] = (
        ("write", _written(), _draw_sentence, _sentence_fields, written),
        ("read", _read(), _draw_object, _object_fields, read),
        ("change", _set(), _draw_change, _object_fields, _changed),
        ("remove", _dropped(), _draw_object, _object_fields, _removed),
        ("add", _added(), _draw_addition, _object_fields, _changed),
    )
    return tuple(
        Task(name, "json", wordings, draw, fields, answer, same) for name, wordings, draw, fields, answer in kinds
    )
