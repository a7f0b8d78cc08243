"""Copies of evaluation rows, disguised, to be hidden in training rows: what a detector of leaks has to find.

Written apart from the detector: it knows nothing of how texts are normalised, cut into words or compared. A row is a
list of texts, one a column. Everything random is drawn from the generator that is given.
"""

import re
import string
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from random import Random

Row = Sequence[str]
Disguise = Callable[[Row, Random, Sequence[str]], list[str]]
"""From a row, a generator and other texts of its task to the disguised row."""

_ZERO_WIDTH = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_LIGATURES = {"ffi": "ﬃ", "ff": "ﬀ", "fi": "ﬁ", "fl": "ﬂ"}
_SPACES = (" ", "  ", "\t", "\n", " \n ", "\u00a0", "\u2003", "   ")
_MARKS = ".,;:!?…\"'()[]-–—"
_UNSPACED = re.compile("[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")


def verbatim(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    return list(row)


def case(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    change = random.choice([str.upper, str.lower, str.title, str.swapcase, str.capitalize])
    return [change(text) for text in row]


def whitespace(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    """Any white space for a space, and some before and after."""
    return [random.choice(_SPACES) + re.sub(" ", lambda _: random.choice(_SPACES), text) + "\n" for text in row]


def punctuation(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    """No mark at all, or another one for each, or more of them between words."""
    how = random.randrange(3)
    if how == 0:
        spaced = "".join(" " if each in string.punctuation else each for text in row for each in (*text, "\0"))
        return spaced.split("\0")[:-1]
    if how == 1:
        changed = str.maketrans({mark: random.choice(_MARKS) for mark in string.punctuation})
        return [text.translate(changed) for text in row]
    return [
        " ".join(word + random.choice(("", "", ",", " -", "!")) for word in text.split(" ")) + "..." for text in row
    ]


def unicode_form(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    """Decomposed accents, full-width letters, ligatures, or typographic quotes and compatibility forms."""
    return [random.choice((_decomposed, _full_width, _ligatures))(text) for text in row]


def zero_width(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    """Characters that show nothing, within words and beside them."""
    return [
        "".join(each + (random.choice(_ZERO_WIDTH) if random.random() < 0.2 else "") for each in text) for text in row
    ]


def inside_longer(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    """All columns in one text, with other texts of the task before and after."""
    before, after = (random.choice(others) for _ in range(2))
    return ["\n\n".join([before, *row, after]), *[""] * (len(row) - 1)]


def one_in_ten(row: Row, random: Random, others: Sequence[str]) -> list[str]:
    return kept(0.9)(row, random, others)


def kept(share: float) -> Disguise:
    """Return a disguise that keeps this share of a row's words, and changes at least one unless it keeps all."""

    def disguise(row: Row, random: Random, others: Sequence[str]) -> list[str]:
        units = [_units(text) for text in row]
        places = [(column, at) for column, found in enumerate(units) for at in range(len(found))]
        count = max(round(len(places) * (1 - share)), 1 if share < 1 and places else 0)
        for column, at in random.sample(places, count):
            units[column][at] = _other(units[column][at], random, others)
        return [_put_together(text, found) for text, found in zip(row, units, strict=True)]

    return disguise


DISGUISES: Mapping[str, Disguise] = {
    "verbatim": verbatim,
    "case": case,
    "white space": whitespace,
    "punctuation": punctuation,
    "Unicode form": unicode_form,
    "zero-width characters": zero_width,
    "inside longer text": inside_longer,
    "one word in ten changed": one_in_ten,
}


def is_unspaced(text: str) -> bool:
    """Whether a text is mostly of a script without spaces between words."""
    return len(_UNSPACED.findall(text)) * 2 > len(text)


def _units(text: str) -> list[str]:
    """Return what counts as a word in a text: between white space, or a character where there is none."""
    return list(text) if is_unspaced(text) else text.split()


def _put_together(text: str, units: Sequence[str]) -> str:
    return ("" if is_unspaced(text) else " ").join(units)


def _other(unit: str, random: Random, others: Sequence[str]) -> str:
    """Return another word, out of the texts of the task; a made-up one if they have none."""
    for _ in range(20):
        found = _units(random.choice(others))
        if found and (word := random.choice(found)).casefold() != unit.casefold() and word.isalnum():
            return word
    return "xyzzy"


def _decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


def _full_width(text: str) -> str:
    return "".join(chr(ord(each) + 0xFEE0) if "!" <= each <= "~" else each for each in text)


def _ligatures(text: str) -> str:
    for plain, ligature in _LIGATURES.items():
        text = text.replace(plain, ligature)
    return text
