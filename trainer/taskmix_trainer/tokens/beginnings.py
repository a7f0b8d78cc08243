"""The tokens that the beginning of a text has by itself, from those of the whole text.

A model is asked with the tokens of a prompt alone. They need not be the first ones of prompt and completion together,
and to know them, every prompt would be tokenised twice. But most tokenizers part a text into words by a pattern, and
only then words into tokens. Where a word ends, the pattern decides by what follows up to the next word: all words but
the last ones of a beginning are the same in both, and these alone are tokenised again, once for all texts that end so.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

_LOOKS_ELSEWHERE = re.compile(r"\(\?(?!:|i:)|\$|\\[bBAzZGK]|(?<!\[)\^|[+*?]\+|\{[\d,]+\}\+")
"""What makes a pattern depend on more than the characters that it takes: looking around, anchors, never giving back."""


@dataclass(frozen=True)
class Beginning:
    """The tokens of a text's beginning: the first `kept` of the whole, then those of the characters from `start` on."""

    whole: Any
    kept: int
    start: int
    end: Any

    @property
    def ids(self) -> list[int]:
        """Return the tokens."""
        return [*self.whole.ids[: self.kept], *self.end.ids]

    @property
    def offsets(self) -> list[tuple[int, int]]:
        """Return the characters of each token."""
        end = [(self.start + a, self.start + b) for a, b in self.end.offsets]
        return [*self.whole.offsets[: self.kept], *end]


def encoded(tokenizer: Any, texts: Sequence[str]) -> Sequence[Any]:
    """Return what a fast tokenizer makes of texts, without special tokens: encodings of tokenizers."""
    backend = tokenizer.backend_tokenizer
    # what an earlier call has left
    backend.no_truncation()
    backend.no_padding()
    found: Sequence[Any] = backend.encode_batch(list(texts), add_special_tokens=False)
    return found


def beginnings(tokenizer: Any, texts: Sequence[str], cuts: Sequence[Sequence[int]]) -> Iterator[list[Beginning]]:
    """Yield for each text its beginnings, up to each of its cuts, as the tokenizer has them by themselves.

    Args:
        tokenizer: a fast tokenizer of transformers.
        texts: the whole texts.
        cuts: for each, how many characters the beginnings have.
    """
    wholes = encoded(tokenizer, texts)
    rules = _Rules.of(tokenizer)
    places = [
        [rules.settled(whole, text, cut) if rules else (0, 0) for cut in each]
        for whole, text, each in zip(wholes, texts, cuts, strict=True)
    ]
    ends = [
        [text[start:cut] for cut, (_, start) in zip(each, of_text, strict=True)]
        for text, each, of_text in zip(texts, cuts, places, strict=True)
    ]
    distinct = list(dict.fromkeys(end for each in ends for end in each))
    known = dict(zip(distinct, encoded(tokenizer, distinct), strict=True))
    for whole, of_text, each in zip(wholes, places, ends, strict=True):
        yield [Beginning(whole, kept, start, known[end]) for (kept, start), end in zip(of_text, each, strict=True)]


@dataclass(frozen=True)
class _Rules:
    """A tokenizer whose words are decided by their neighbours: whether it composes letters, and its added tokens."""

    composes: bool
    added: frozenset[int]

    @staticmethod
    def of(tokenizer: Any) -> "_Rules | None":
        """Return the rules of a tokenizer; None if words may depend on more, or if that is not known."""
        backend, added = tokenizer.backend_tokenizer, tokenizer.added_tokens_decoder
        normalizer, after = _state(backend.normalizer), json.dumps(_state(backend.post_processor))
        if not _splits_by_words(_state(backend.pre_tokenizer)) or normalizer.get("type") not in (None, "NFC"):
            return None
        # an offset that leaves spaces out does not say where a word starts
        if '"trim_offsets": true' in after or any(token.single_word for token in added.values()):
            return None
        return _Rules(bool(normalizer), frozenset(added))

    def settled(self, whole: Any, text: str, cut: int) -> tuple[int, int]:
        """Return how many tokens of a text are those of its beginning for sure, and the characters that they are of."""
        # white space at the end is parted by what follows it
        last = len(text[:cut].rstrip())
        if not last or (self.composes and cut < len(text) and not _stands_alone(text[cut])):
            return 0, 0
        inner, outer = whole.char_to_token(last - 1), whole.char_to_token(cut - 1)
        if inner is None or outer is None:
            return 0, 0
        # an added token across the cut ends the text before it
        if whole.word_to_chars(whole.token_to_word(outer))[1] > cut and whole.ids[outer] in self.added:
            return 0, 0
        # the last word, and the one before it, which ends where it does because of the last
        word = whole.token_to_word(inner)
        tokens = whole.word_to_tokens(word - 1) if word else None
        if tokens is None:
            return 0, 0
        start = whole.word_to_chars(word - 1)[0]
        return (0, 0) if self.composes and not _stands_alone(text[start]) else (tokens[0], start)


def _splits_by_words(pre: dict[str, Any]) -> bool:
    """Whether a text is parted once, by a pattern that looks no further than the next word."""
    steps = pre["pretokenizers"] if pre.get("type") == "Sequence" else [pre]
    patterns = []
    for step in steps:
        if step.get("type") == "ByteLevel" and not step["add_prefix_space"]:
            patterns += [""] * step["use_regex"]
        elif step.get("type") == "Split" and step["behavior"] == "Isolated" and not step["invert"]:
            patterns.append(step["pattern"].get("Regex", "$"))
        else:
            return False
    # white space up to a word is the one look ahead that is common: `_Rules.settled` knows it
    return len(patterns) == 1 and not _LOOKS_ELSEWHERE.search(patterns[0].replace(r"\s+(?!\S)", ""))


def _stands_alone(letter: str) -> bool:
    """Whether a character is never composed with one before it (of Unicode's first plane, and marks and jamo aside)."""
    return letter < "\U00010000" and unicodedata.category(letter)[0] != "M" and not "\u1100" <= letter <= "\u11ff"


def _state(part: Any) -> dict[str, Any]:
    """Return what a part of a tokenizer is; nothing for one that is not there."""
    found: dict[str, Any] = json.loads(part.__getstate__()) if part is not None else {}
    return found
