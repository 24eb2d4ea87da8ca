"""Sentences of a small vocabulary in English, French and German, with genders, cases and word orders as they belong.

A sentence is a tuple of one clause, or of a clause, a conjunction and a clause. A clause is a noun phrase and what is
said of it: a verb, a verb and another noun phrase, or an adjective. A noun phrase is an article, an adjective or an
empty string, and a noun. All words stand there in English.
"""

from random import Random
from typing import Any

NounPhrase = tuple[str, str, str]
Clause = tuple[Any, ...]

# In French with the gender, in German with the gender. The first ones are alive: they can do something.
ALIVE = {
    "dog": ("chien", "m", "Hund", "m"),
    "cat": ("chat", "m", "Katze", "f"),
    "horse": ("cheval", "m", "Pferd", "n"),
    "bird": ("oiseau", "m", "Vogel", "m"),
    "cow": ("vache", "f", "Kuh", "f"),
    "woman": ("femme", "f", "Frau", "f"),
    "man": ("homme", "m", "Mann", "m"),
    "child": ("enfant", "m", "Kind", "n"),
    "girl": ("fille", "f", "Mädchen", "n"),
    "friend": ("ami", "m", "Freund", "m"),
    "doctor": ("médecin", "m", "Arzt", "m"),
    "queen": ("reine", "f", "Königin", "f"),
    "king": ("roi", "m", "König", "m"),
}
THINGS = {
    "house": ("maison", "f", "Haus", "n"),
    "tree": ("arbre", "m", "Baum", "m"),
    "car": ("voiture", "f", "Auto", "n"),
    "book": ("livre", "m", "Buch", "n"),
    "table": ("table", "f", "Tisch", "m"),
    "chair": ("chaise", "f", "Stuhl", "m"),
    "door": ("porte", "f", "Tür", "f"),
    "window": ("fenêtre", "f", "Fenster", "n"),
    "flower": ("fleur", "f", "Blume", "f"),
    "garden": ("jardin", "m", "Garten", "m"),
    "bridge": ("pont", "m", "Brücke", "f"),
    "ship": ("bateau", "m", "Schiff", "n"),
    "letter": ("lettre", "f", "Brief", "m"),
    "apple": ("pomme", "f", "Apfel", "m"),
    "lamp": ("lampe", "f", "Lampe", "f"),
    "key": ("clé", "f", "Schlüssel", "m"),
}
NOUNS = ALIVE | THINGS
# French for masculine and feminine nouns, German; in French the first ones stand before the noun.
BEFORE = {
    "small": ("petit", "petite", "klein"),
    "big": ("grand", "grande", "groß"),
    "young": ("jeune", "jeune", "jung"),
    "pretty": ("joli", "jolie", "hübsch"),
    "good": ("bon", "bonne", "gut"),
}
BEHIND = {
    "black": ("noir", "noire", "schwarz"),
    "white": ("blanc", "blanche", "weiß"),
    "red": ("rouge", "rouge", "rot"),
    "green": ("vert", "verte", "grün"),
    "blue": ("bleu", "bleue", "blau"),
    "calm": ("calme", "calme", "ruhig"),
    "strong": ("fort", "forte", "stark"),
    "slow": ("lent", "lente", "langsam"),
    "rich": ("riche", "riche", "reich"),
    "heavy": ("lourd", "lourde", "schwer"),
    "cold": ("froid", "froide", "kalt"),
}
ADJECTIVES = BEFORE | BEHIND
INTRANSITIVE = {
    "sleeps": ("dort", "schläft"),
    "sings": ("chante", "singt"),
    "works": ("travaille", "arbeitet"),
    "laughs": ("rit", "lacht"),
    "waits": ("attend", "wartet"),
    "runs": ("court", "rennt"),
    "dances": ("danse", "tanzt"),
    "swims": ("nage", "schwimmt"),
    "dreams": ("rêve", "träumt"),
}
TRANSITIVE = {
    "sees": ("voit", "sieht"),
    "likes": ("aime", "mag"),
    "finds": ("trouve", "findet"),
    "buys": ("achète", "kauft"),
    "draws": ("dessine", "zeichnet"),
    "knows": ("connaît", "kennt"),
    "hears": ("entend", "hört"),
    "sells": ("vend", "verkauft"),
    "carries": ("porte", "trägt"),
}
CONJUNCTIONS = {"and": ("et", "und"), "but": ("mais", "aber"), "because": ("car", "weil")}

_GERMAN_ARTICLES = {
    ("the", "m", False): ("der", "e"),
    ("the", "m", True): ("den", "en"),
    ("the", "f", False): ("die", "e"),
    ("the", "n", False): ("das", "e"),
    ("a", "m", False): ("ein", "er"),
    ("a", "m", True): ("einen", "en"),
    ("a", "f", False): ("eine", "e"),
    ("a", "n", False): ("ein", "es"),
}


def draw(rng: Random) -> tuple[Any, ...]:
    """One clause, or in one case of three a second short one with a conjunction before it."""
    first = _clause(rng, rng.random())
    return (
        (first,) if rng.random() < 2 / 3 else (first, rng.choice(tuple(CONJUNCTIONS)), _clause(rng, rng.random() / 2))
    )


def _noun_phrase(rng: Random, nouns: dict[str, Any], adjective: float) -> NounPhrase:
    described = rng.choice(tuple(ADJECTIVES)) if rng.random() < adjective else ""
    return rng.choice(("the", "the", "a")), described, rng.choice(tuple(nouns))


def _clause(rng: Random, kind: float) -> Clause:
    """kind, from 0 to 1: first the short clauses, then those with an object."""
    if kind < 0.25:
        return _noun_phrase(rng, ALIVE, 0.6), rng.choice(tuple(INTRANSITIVE))
    if kind < 0.5:
        return ("the", "", rng.choice(tuple(NOUNS))), "is", rng.choice(tuple(ADJECTIVES))
    return _noun_phrase(rng, ALIVE, 0.5), rng.choice(tuple(TRANSITIVE)), _noun_phrase(rng, NOUNS, 0.5)


def _joined(clauses: list[str]) -> str:
    text = " ".join(clauses)
    return f"{text[0].upper()}{text[1:]}."


def english(sentence: tuple[Any, ...]) -> str:
    """The sentence in English."""

    def phrase(article: str, adjective: str, noun: str) -> str:
        first = adjective or noun
        return " ".join(filter(None, (article + "n" * (article == "a" and first[0] in "aeiou"), adjective, noun)))

    def clause(subject: NounPhrase, verb: str, *rest: Any) -> str:
        return " ".join([phrase(*subject), verb, *(each if isinstance(each, str) else phrase(*each) for each in rest)])

    return _joined([each if isinstance(each, str) else clause(*each) for each in sentence])


def french(sentence: tuple[Any, ...]) -> str:
    """The sentence in French."""

    def phrase(article: str, adjective: str, noun: str) -> str:
        word, gender = NOUNS[noun][:2]
        form = ADJECTIVES[adjective][gender == "f"] if adjective else ""
        words = " ".join(filter(None, (form, word) if adjective in BEFORE else (word, form)))
        if article == "the" and words[0] in "aeiouéh":  # the vocabulary has no other h than that of homme
            return f"l'{words}"
        return f"{({'the': ('le', 'la'), 'a': ('un', 'une')}[article])[gender == 'f']} {words}"

    def clause(subject: NounPhrase, verb: str, *rest: Any) -> str:
        if verb == "is":
            return f"{phrase(*subject)} est {ADJECTIVES[rest[0]][NOUNS[subject[2]][1] == 'f']}"
        return " ".join([phrase(*subject), (INTRANSITIVE | TRANSITIVE)[verb][0], *(phrase(*each) for each in rest)])

    return _joined([CONJUNCTIONS[each][0] if isinstance(each, str) else clause(*each) for each in sentence])


def german(sentence: tuple[Any, ...]) -> str:
    """The sentence in German; behind weil the verb stands last."""

    def phrase(article: str, adjective: str, noun: str, accusative: bool = False) -> str:
        word, gender = NOUNS[noun][2:]
        written, ending = _GERMAN_ARTICLES[article, gender, accusative and gender == "m"]
        return " ".join(filter(None, (written, ADJECTIVES[adjective][2] + ending if adjective else "", word)))

    def clause(last: bool, subject: NounPhrase, verb: str, *rest: Any) -> str:
        said = "ist" if verb == "is" else (INTRANSITIVE | TRANSITIVE)[verb][1]
        behind = [ADJECTIVES[each][2] if isinstance(each, str) else phrase(*each, accusative=True) for each in rest]
        return " ".join([phrase(*subject), *([*behind, said] if last else [said, *behind])])

    first, *more = sentence
    if not more:
        return _joined([clause(False, *first)])
    conjunction, second = more
    comma = "" if conjunction == "and" else ","
    joined = [clause(False, *first) + comma, CONJUNCTIONS[conjunction][1], clause(conjunction == "because", *second)]
    return _joined(joined)
