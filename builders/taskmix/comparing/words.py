"""What changed from one text to another, word by word."""

import difflib
import re
from collections.abc import Iterator, Sequence

Piece = tuple[str, str]
"""What became of some words, `same`, `gone` or `come`, and the words."""
_WORD = re.compile(r"\s+|\w+|[^\w\s]+")
_AROUND = 8
_AT_MOST = 400
"""Words and spaces: of longer changes the end is cut off, since comparing takes the square of their number."""


def word_changes(old: str, new: str) -> list[Piece]:
    """Return the words that changed from one text to another, with a few around them.

    >>> word_changes("Is it good?", "Is it bad?")
    [('same', 'Is it '), ('gone', 'good'), ('come', 'bad'), ('same', '?')]
    """
    a, b = _WORD.findall(old), _WORD.findall(new)
    first = _common(a, b)
    last = _common(a[first:][::-1], b[first:][::-1])
    start = max(0, first - _AROUND)
    before, after = "".join(a[start:first]), a[len(a) - last :]
    pieces = [("same", f"… {before.lstrip()}" if start else before)]
    pieces += _middle(a[first : len(a) - last], b[first : len(b) - last])
    rest = "".join(after[:_AROUND])
    pieces.append(("same", f"{rest.rstrip()} …" if len(after) > _AROUND else rest))
    return [piece for piece in pieces if piece[1]]


def _common(a: Sequence[str], b: Sequence[str]) -> int:
    """Return how many words two texts begin with alike."""
    return next((index for index, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _middle(a: Sequence[str], b: Sequence[str]) -> Iterator[Piece]:
    matcher = difflib.SequenceMatcher(None, a[:_AT_MOST], b[:_AT_MOST], autojunk=False)
    for kind, low, high, other_low, other_high in matcher.get_opcodes():
        if kind == "equal":
            yield "same", _shortened(a[low:high])
        else:
            yield "gone", _shortened(a[low:high])
            yield "come", _shortened(b[other_low:other_high])
    if max(len(a), len(b)) > _AT_MOST:
        yield "same", "…"


def _shortened(words: Sequence[str]) -> str:
    """Return words as text, those in the middle of many left out."""
    if len(words) <= 3 * _AROUND:
        return "".join(words)
    return f"{''.join(words[:_AROUND])} … {''.join(words[-_AROUND:])}"
