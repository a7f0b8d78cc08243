"""Texts as words that can be compared, whatever the case, punctuation, spacing or Unicode form.

What becomes of a text:

1. Unicode's compatibility composition (NFKC): ligatures, full-width letters and decomposed accents become one form.
2. Characters that show nothing (format characters such as zero-width spaces, joiners and soft hyphens, and the other
   default-ignorable ones) are taken out, so that they part no word.
3. Full case folding (Unicode Standard, section 3.13), and NFKC again. A dotless ı is folded to i, as its capital is.
4. Words are what lies between other characters: letters, their marks, and digits make words; white space, punctuation
   and symbols part them. A text without a letter or digit has as words what lies between its white space.
5. In scripts that are written without spaces between words (`SPACELESS`) every character, with its marks, is a word.

Accents stay, and so do digits. Homoglyphs, such as a Cyrillic а for a Latin one, are other letters.

Words are held as 64-bit hashes: polynomials in an odd base modulo 2**64 over a random number for each byte, mixed by
the finaliser of SplitMix64 (see `hashing`). Pure functions of the text: the same on every machine.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from taskmix import hashing
from taskmix.mixing.lists import Lists, ends_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Hashes = NDArray[np.uint64]
    Places = NDArray[np.int64]

SPACELESS = ("Han", "Hiragana", "Katakana", "Bopomofo", "Thai", "Lao", "Khmer", "Myanmar", "Tibetan", "Yi")
_SPACELESS_CHARACTER = "([" + "".join(rf"\p{{{script}}}" for script in SPACELESS) + r"\x{30FC}]\p{M}*)"
_HIDDEN = r"[\p{Cf}\p{Default_Ignorable_Code_Point}]+"
_BETWEEN_WORDS = r"[^\p{L}\p{M}\p{N}]+"
_AT_ONCE = 1 << 18
"""Bytes of text that are hashed at once: few enough for the numbers of all of them to stay in the cache."""
_CASED = 0x20000
"""No character from here has case: going through those, too, takes eight times as long."""
_BASE = 0x9E3779B97F4A7C15
_INVERSE = pow(_BASE, -1, 2**64)


@dataclass(frozen=True)
class Words(Lists):
    """The words of some texts, in order: a list of hashes (uint64) a text."""

    def only(self, chosen: "Places") -> "Words":
        """Return the words of some of the texts."""
        return Words(self.take(chosen)[1], ends_of(self.counts[chosen]))

    def whole(self) -> "Hashes":
        """Return a hash of the words of each text, in order (uint64). Equal words, equal hash."""
        place = np.arange(len(self.values)) - np.repeat(self.ends[:-1], self.counts)
        terms = self.values * powers(_BASE, int(self.counts.max(initial=0)))[place]
        summed = np.concatenate((np.zeros(1, np.uint64), np.cumsum(terms, dtype=np.uint64)))
        return hashing.draw(self.counts.astype(np.uint64), summed[self.ends[1:]] - summed[self.ends[:-1]])

    def ngrams(self, n: int) -> "tuple[Hashes, Places]":
        """Return a hash (uint64) of each n words that follow each other in a text, and the place of the first."""
        count = max(len(self.values) - n + 1, 0)
        summed = np.zeros(count, np.uint64)
        for place, power in enumerate(powers(_BASE, n)):
            summed += self.values[place : place + count] * power
        left = np.repeat(self.ends[1:], self.counts)[:count] - np.arange(count)
        starts = np.flatnonzero(left >= n)
        return hashing.draw(np.uint64(n), summed[starts]), starts


def normalised(text: pl.Expr) -> pl.Expr:
    """Return texts whose words, folded, have one space between them, as the module says; empty where there are none."""
    shown = text.str.normalize("NFKC").str.replace_all(_HIDDEN, "")
    # Polars lowers a final sigma to one of its own, which is why folding comes after
    folded = shown.str.to_lowercase().str.replace_many(_folding()).str.normalize("NFKC")
    apart = folded.str.replace_all(_SPACELESS_CHARACTER, " $1 ").str.replace_all(_BETWEEN_WORDS, " ")
    words = apart.str.strip_chars(" ")
    wordless = folded.str.replace_all(r"\s+", " ").str.strip_chars(" ")
    return pl.when(words != "").then(words).otherwise(wordless)


def words(texts: pl.Series) -> Words:
    """Return the words of texts without nulls.

    In texts of ASCII characters alone only case and what lies between words matter, so that their bytes are read as
    they are; others are normalised first.
    """
    other = (texts.str.len_bytes() != texts.str.len_chars()).arg_true()
    if len(other):
        text = pl.col("text")
        folded = texts[other].to_frame("text").select(normalised(text))["text"]
        texts = texts.scatter(other, folded)
    found = _read(texts, _LETTERS)
    wordless = np.flatnonzero(found.counts == 0)
    return _filled(found, wordless, _read(texts[wordless], _VISIBLE)) if len(wordless) else found


@cache
def _folding() -> dict[str, str]:
    """Return what full case folding makes of characters in lower case that it changes."""
    characters = (chr(code) for code in range(_CASED) if not 0xD800 <= code < 0xE000)
    folded = {each: each.casefold() for each in characters if each != each.casefold() and each.lower() == each}
    return folded | {"ı": "i"}


def _table(within: Callable[[int], bool]) -> "Hashes":
    """Return a random number for every byte of a word, the same for both cases of a letter, and 0 for the others."""
    folded = np.array([ord(chr(byte).lower()) if byte < _ASCII else byte for byte in range(256)], np.uint64)
    inside = np.array([within(byte) for byte in range(256)])
    return np.where(inside, hashing.draw(np.uint64(hashing.key("byte")), folded), np.uint64(0))


_ASCII = 128
_LETTERS = _table(lambda byte: byte >= _ASCII or chr(byte).isalnum())
_VISIBLE = _table(lambda byte: not chr(byte).isspace() or byte >= _ASCII)


def _read(texts: pl.Series, table: "Hashes") -> Words:
    """Return the words of texts by a table of the bytes that make them up."""
    content, ends = _bytes(texts)
    pieces = [_read_piece(content, ends[low : high + 1], table) for low, high in pairwise(_cuts(ends))]
    hashes = np.concatenate([each.values for each in pieces] or [np.empty(0, np.uint64)])
    counts = np.concatenate([each.counts for each in pieces] or [np.empty(0, np.int64)])
    return Words(hashes, ends_of(counts))


def _bytes(texts: pl.Series) -> "tuple[NDArray[np.uint8], Places]":
    """Return the UTF-8 of texts, one after the other, and where each begins and the last ends."""
    array = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, ends, content = array.buffers()
    if not len(array):
        return np.empty(0, np.uint8), np.zeros(1, np.int64)
    places = np.frombuffer(ends, np.int64)[array.offset : array.offset + len(array) + 1]
    return np.frombuffer(content or b"", np.uint8), places


def _cuts(ends: "Places") -> "Places":
    """Return between which texts to cut, so that the pieces have some `_AT_ONCE` bytes."""
    wanted = np.arange(ends[0], ends[-1], _AT_ONCE)
    return np.unique([0, *np.searchsorted(ends, wanted), len(ends) - 1])


def _read_piece(content: "NDArray[np.uint8]", ends: "Places", table: "Hashes") -> Words:
    """Return the words of a few texts: runs of bytes that are in the table."""
    values = table[content[ends[0] : ends[-1]]]
    bounds = ends - ends[0]
    inside = np.zeros(len(values) + 1, bool)
    inside[:-1] = values != 0
    begins, stops = inside.copy(), inside.copy()
    begins[1:] &= ~inside[:-1]
    stops[:-1] &= ~inside[1:]
    # where one text ends and another begins there need be no other byte
    begins[bounds[:-1]] = inside[bounds[:-1]]
    stops[bounds[1:] - 1] = inside[bounds[1:] - 1]
    first, last = np.flatnonzero(begins), np.flatnonzero(stops)
    summed = np.cumsum(values * powers(_BASE, len(values)), dtype=np.uint64)
    before = np.where(first > 0, summed[first - 1], np.uint64(0)) if len(first) else summed[:0]
    hashes = (summed[last] - before) * powers(_INVERSE, len(values))[first]
    return Words(hashing.draw(np.uint64(0), hashes), np.searchsorted(first, bounds))


def _filled(found: Words, empty: "Places", more: Words) -> Words:
    """Return words with those of some texts that had none."""
    counts = found.counts
    counts[empty] = more.counts
    ends = ends_of(counts)
    hashes = np.empty(ends[-1], np.uint64)
    within = np.zeros(len(found), bool)
    within[empty] = True
    added = np.repeat(within, counts)
    hashes[added], hashes[~added] = more.values, found.values
    return Words(hashes, ends)


def powers(base: int, count: int) -> "Hashes":
    """Return the first powers of a base modulo 2**64: at least so many, beginning with the zeroth."""
    return _powers(base, 1 << count.bit_length())[:count]


@cache
def _powers(base: int, count: int) -> "Hashes":
    factors = np.full(count, base, np.uint64)
    factors[0] = 1
    return np.cumprod(factors, dtype=np.uint64)
