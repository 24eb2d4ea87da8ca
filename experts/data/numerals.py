"""Numbers from 0 to 9999 in words: English, French and German."""

_ENGLISH = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen""".split()
_ENGLISH_TENS = "twenty thirty forty fifty sixty seventy eighty ninety".split()
_FRENCH = """zéro un deux trois quatre cinq six sept huit neuf dix onze douze treize quatorze quinze seize dix-sept
    dix-huit dix-neuf""".split()
_FRENCH_TENS = "vingt trente quarante cinquante soixante soixante quatre-vingt quatre-vingt".split()
_GERMAN = """null ein zwei drei vier fünf sechs sieben acht neun zehn elf zwölf dreizehn vierzehn fünfzehn sechzehn
    siebzehn achtzehn neunzehn""".split()
_GERMAN_TENS = "zwanzig dreißig vierzig fünfzig sechzig siebzig achtzig neunzig".split()


def english(number: int) -> str:
    """42 as forty-two; without an "and" behind the hundreds."""
    for size, name in ((1000, "thousand"), (100, "hundred")):
        if number >= size:
            rest = f" {english(number % size)}" if number % size else ""
            return f"{english(number // size)} {name}{rest}"
    if number < 20:
        return _ENGLISH[number]
    return _ENGLISH_TENS[number // 10 - 2] + (f"-{_ENGLISH[number % 10]}" if number % 10 else "")


def french(number: int) -> str:
    """42 as quarante-deux; vingt and cent take an s only at the end of a number."""
    if number >= 1000:
        words = ["mille"] if number < 2000 else [french(number // 1000), "mille"]
        return " ".join([*words, french(number % 1000)] if number % 1000 else words)
    if number >= 100:
        words = ["cent"] if number < 200 else [_FRENCH[number // 100], "cent" if number % 100 else "cents"]
        return " ".join([*words, french(number % 100)] if number % 100 else words)
    if number < 20:
        return _FRENCH[number]
    ten, one = _FRENCH_TENS[number // 10 - 2], number % 10 + 10 * (number // 10 in (7, 9))
    if one == 0:
        return "quatre-vingts" if number == 80 else ten
    return f"{ten} et {_FRENCH[one]}" if one in (1, 11) and number < 80 else f"{ten}-{_FRENCH[one]}"


def german(number: int) -> str:
    """42 as zweiundvierzig; a one at the end of a number is eins."""
    return "eins" if number == 1 else _german(number) + "s" * (number > 1 and number % 100 == 1)


def _german(number: int) -> str:
    for size, name in ((1000, "tausend"), (100, "hundert")):
        if number >= size:
            return _german(number // size) + name + (_german(number % size) if number % size else "")
    if number < 20:
        return _GERMAN[number]
    ten = _GERMAN_TENS[number // 10 - 2]
    return f"{_GERMAN[number % 10]}und{ten}" if number % 10 else ten
