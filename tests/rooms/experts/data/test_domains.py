"""What the domains say is so: by facts that are written down here, or by another road to them."""

import json
import re

import pytest

from experts.data import corpus, examples
from experts.data.numerals import english, french, german
from experts.data.roman import numeral
from experts.data.sentences import english as in_english
from experts.data.sentences import french as in_french
from experts.data.sentences import german as in_german
from experts.data.translation import LANGUAGES, written
from experts.data.wordings import bare, core_of, expand, fill, questions, requests


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, ("zero", "zéro", "null")),
        (1, ("one", "un", "eins")),
        (21, ("twenty-one", "vingt et un", "einundzwanzig")),
        (70, ("seventy", "soixante-dix", "siebzig")),
        (71, ("seventy-one", "soixante et onze", "einundsiebzig")),
        (80, ("eighty", "quatre-vingts", "achtzig")),
        (81, ("eighty-one", "quatre-vingt-un", "einundachtzig")),
        (91, ("ninety-one", "quatre-vingt-onze", "einundneunzig")),
        (99, ("ninety-nine", "quatre-vingt-dix-neuf", "neunundneunzig")),
        (100, ("one hundred", "cent", "einhundert")),
        (101, ("one hundred one", "cent un", "einhunderteins")),
        (200, ("two hundred", "deux cents", "zweihundert")),
        (203, ("two hundred three", "deux cent trois", "zweihundertdrei")),
        (1000, ("one thousand", "mille", "eintausend")),
        (1180, ("one thousand one hundred eighty", "mille cent quatre-vingts", "eintausendeinhundertachtzig")),
        (
            5217,
            ("five thousand two hundred seventeen", "cinq mille deux cent dix-sept", "fünftausendzweihundertsiebzehn"),
        ),
    ],
)
def test_numbers_in_words(number: int, words: tuple[str, str, str]):
    assert (english(number), french(number), german(number)) == words


def test_no_two_numbers_have_the_same_words():
    for write in (english, french, german):
        assert len({write(number) for number in range(10_000)}) == 10_000


CAT = ("the", "black", "cat")


@pytest.mark.parametrize(
    ("sentence", "texts"),
    [
        (
            ((CAT, "sees", ("a", "small", "tree")),),
            (
                "The black cat sees a small tree.",
                "Le chat noir voit un petit arbre.",
                "Die schwarze Katze sieht einen kleinen Baum.",
            ),
        ),
        (
            ((("a", "", "man"), "sleeps"), "because", (("the", "", "apple"), "is", "red")),
            (
                "A man sleeps because the apple is red.",
                "Un homme dort car la pomme est rouge.",
                "Ein Mann schläft, weil der Apfel rot ist.",
            ),
        ),
        (
            ((("the", "", "child"), "likes", ("the", "blue", "bird")), "and", (("the", "pretty", "queen"), "sings")),
            (
                "The child likes the blue bird and the pretty queen sings.",
                "L'enfant aime l'oiseau bleu et la jolie reine chante.",
                "Das Kind mag den blauen Vogel und die hübsche Königin singt.",
            ),
        ),
        (
            ((("a", "young", "girl"), "buys", ("a", "", "apple")), "but", (("the", "", "house"), "is", "white")),
            (
                "A young girl buys an apple but the house is white.",
                "Une jeune fille achète une pomme mais la maison est blanche.",
                "Ein junges Mädchen kauft einen Apfel, aber das Haus ist weiß.",
            ),
        ),
    ],
)
def test_sentences_in_three_languages(sentence: tuple[object, ...], texts: tuple[str, str, str]):
    assert (in_english(sentence), in_french(sentence), in_german(sentence)) == texts


def test_dates_in_three_languages():
    day = ("date", 730_120, True)  # from 1 January of the year 1, which is day 1
    found = [written(day, language) for language in ("English", "French", "German")]
    assert found == ["Saturday, 1 January 2000", "samedi 1er janvier 2000", "Samstag, 1. Januar 2000"]
    assert written(("date", 730_121, False), "French") == "2 janvier 2000"


@pytest.mark.parametrize(
    ("content", "texts"),
    [
        (
            ("question", ("times", 17, 23)),
            ("What is 17 times 23?", "Combien font 17 fois 23 ?", "Was ist 17 mal 23?"),
        ),
        (
            ("question", ("divided", 91, 7)),
            ("What is 91 divided by 7?", "Combien font 91 divisé par 7 ?", "Was ist 91 geteilt durch 7?"),
        ),
        (
            ("question", ("roman", 1994)),
            (
                "Write 1994 as a Roman numeral.",
                "Écris 1994 en chiffres romains.",
                "Schreibe 1994 als römische Zahl.",
            ),
        ),
        (
            ("result", ("391",)),
            ("The result is 391.", "Le résultat est 391.", "Das Ergebnis ist 391."),
        ),
    ],
)
def test_questions_for_other_experts(content: tuple, texts: tuple[str, str, str]):
    assert tuple(written(content, language) for language in LANGUAGES) == texts


def test_no_two_contents_translate_into_the_same_text():
    for language in ("French", "German"):
        known: dict[str, str] = {}
        for each in examples("translate", "train", "seen", 2, count=3000):
            if each.task == f"to {language}":
                assert known.setdefault(each.answer, each.content) == each.content


def test_roman_numerals_mean_their_numbers():
    values = {"I": 1, "V": 5, "X": 10, "L": 50, "C": 100, "D": 500, "M": 1000}
    assert [numeral(number) for number in (1, 4, 9, 14, 40, 90, 400, 1994, 3999)] == [
        *"I IV IX XIV XL XC CD MCMXCIV MMMCMXCIX".split()
    ]
    for number in range(1, 4000):
        digits = [values[sign] for sign in numeral(number)]
        signed = [-a if a < b else a for a, b in zip(digits, [*digits[1:], 0], strict=True)]
        assert sum(signed) == number and not re.search(r"(.)\1{3}", numeral(number))


def test_lists_are_answered_as_python_answers():
    answers = {
        "sort": sorted,
        "sort down": lambda xs: sorted(xs, reverse=True),
        "reverse": lambda xs: xs[::-1],
        "largest": max,
        "smallest": min,
        "unique": lambda xs: list(dict.fromkeys(xs)),
        "even": lambda xs: [x for x in xs if x in range(0, 100, 2)],
        "odd": lambda xs: [x for x in xs if x in range(1, 100, 2)],
        "count": len,
    }
    for each in examples("lists", "test", "seen", 5, count=1000):
        xs = [int(x) for x in each.content.split()]
        assert [int(x) for x in re.findall(r"\d+", each.prompt)] == xs and 3 <= len(xs) <= 8
        assert each.answer.endswith(f"={answers[each.task](xs)}")


def test_objects_are_answered_as_json_is_read():
    for each in examples("json", "test", "seen", 5, count=1000):
        answer = json.loads(each.answer)
        assert json.dumps(answer) == each.answer
        if each.task == "write":
            assert all(str(value) in each.prompt for value in answer.values())
            continue
        given = json.loads(each.prompt[each.prompt.index("{") : each.prompt.index("}") + 1])
        if each.task == "read":
            assert answer in given.values()
        else:
            grown = {"change": 0, "remove": -1, "add": 1}[each.task]
            assert len(answer) == len(given) + grown and len(answer.items() - given.items()) == (each.task != "remove")


def test_patterns_are_expanded_once_each():
    assert expand("[a|b [x|y]] {c}") == ("a {c}", "b x {c}", "b y {c}")
    assert expand("[a|] {c}") == ("a {c}", "{c}")
    assert fill("{a} and {b}, {a}", {"a": "{b}", "b": "2"}) == "{b} and 2, {b}"


def test_a_core_is_found_in_every_tone():
    for core, texts in (
        ("add {a} and {b}", requests("add {a} and {b}")),
        ("what is {a}", questions("what is {a}")),
        ("say in French: {text}", requests("say in French: {text}")),
        ("{a} + {b}", bare("{a} + {b}", marks=("", " =", "=", " = ?", "?"))),
    ):
        assert {core_of(text) for text in texts} == {core} and len(texts) == len(set(texts)) > 3


def test_no_mark_is_set_behind_a_text():
    assert not [each for each in (*requests("say: {text}"), *bare("in French: {text}")) if not each.endswith("{text}")]


def test_the_library_has_the_same_modules_in_the_same_order():
    names = [name for name, _ in corpus.library_texts()]
    assert names == sorted(names) and len(names) > 300 and len(set(names)) == len(names)
    assert {"json.decoder", "collections", "heapq"} <= set(names)
    assert not [name for name in names if {"test", "tests", "idlelib", "lib2to3"} & set(name.split("."))]
    assert dict(corpus.library_texts())["this"].startswith('s = """Gur Mra')


def test_the_library_is_split_by_module():
    parts = {part: [name for name, _ in corpus.library_texts(part)] for part in corpus.PARTS}
    assert sorted(parts["train"] + parts["held"]) == [name for name, _ in corpus.library_texts()]
    assert 0.05 < len(parts["held"]) / len(parts["train"]) < 0.2
    with pytest.raises(ValueError, match="parts of the library are train, held, given: 'test'"):
        corpus.library_texts("test")
