"""Entity-level scores of tag sequences: an entity counts if its type and both ends are right.

How malformed sequences are read is what makes figures differ by a point. There are two rules, and both are reported:

- `strict`, the figure to quote: an entity must be written in full by its scheme. In IOB2 it starts with `B-`; an `I-`
  that continues nothing of its type belongs to no entity. Equal to seqeval's `mode="strict", scheme=IOB2`.
- `conll`, the rule of the CoNLL-2000 evaluation script, of seqeval's default mode, and so of the published figures on
  CoNLL-2003: an `I-` after `O` or of another type starts an entity.

On well-formed sequences they are the same. In the schemes IO and IOB1 an `I-` may start an entity, so that there
`strict` is `conll`; BIOES and BILOU have a strict reading of their own: one `S-` (`U-`), or `B-`, any `I-`, and `E-`
(`L-`), all of one type.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from taskmix_trainer.evaluation.classification import ClassScore, class_score
from taskmix_trainer.evaluation.measures import Measure

Span = tuple[str, int, int]
"""Type, first token, token after the last."""

_STARTS, _ENDS, _SINGLE = "BSU", "ELSU", "SU"


@dataclass(frozen=True)
class EntityScores:
    """The measures `entity_f1` (strict) and `entity_f1_conll`, and each type by the strict rule, sorted by name."""

    measures: tuple[Measure, ...]
    types: tuple[ClassScore, ...]
    precision: float
    recall: float


def scheme_of(sequences: Iterable[Sequence[str]]) -> str:
    """Return the scheme that well-formed sequences are in: IOB2, IOB1, BIOES, BILOU or IO.

    Give it gold tags. Where no tag has a prefix it is IO; a single `I-` with nothing of its type before makes it IOB1.
    """
    prefixes: set[str] = set()
    plain = orphan = False
    for tags in sequences:
        last = "O", ""
        for tag in tags:
            prefix, kind = split_tag(tag)
            plain = plain or (prefix == "I" and tag[:2] not in ("I", "I-"))
            orphan = orphan or (prefix == "I" and (last[0] == "O" or last[1] != kind))
            prefixes.add(prefix)
            last = prefix, kind
    if plain:
        return "IO"
    if prefixes & set("LU"):
        return "BILOU"
    if prefixes & set("ES"):
        return "BIOES"
    return "IOB1" if orphan else "IOB2"


def split_tag(tag: str) -> tuple[str, str]:
    """Return prefix and type of a tag; a tag without a prefix is of the scheme IO, in which every tag continues."""
    if tag == "O":
        return "O", ""
    if tag[1:2] == "-" and tag[0] in "BIESLU":
        return tag[0], tag[2:] or "_"
    if tag in tuple("BIESLU"):
        return tag, "_"
    return "I", tag


def conll_spans(tags: Sequence[str]) -> Iterator[Span]:
    """Yield the entities as the CoNLL-2000 script reads them, in order. No sequence is refused."""
    start, open_type, last = -1, "", "O"
    for position, tag in enumerate([*tags, "O"]):
        prefix, kind = split_tag(tag)
        begins = prefix in _STARTS or (prefix != "O" and (last in _ENDS or last == "O" or kind != open_type))
        if start >= 0 and (begins or prefix == "O"):
            yield open_type, start, position
            start = -1
        if begins:
            start, open_type = position, kind
        last = prefix


def iob2_spans(tags: Sequence[str]) -> Iterator[Span]:
    """Yield the entities that start with a `B-`, each as far as `I-` of its type follow."""
    start, open_type = -1, ""
    for position, tag in enumerate([*tags, "O"]):
        prefix, kind = split_tag(tag)
        if start >= 0 and not (prefix == "I" and kind == open_type):
            yield open_type, start, position
            start = -1
        if prefix == "B":
            start, open_type = position, kind


def bioes_spans(tags: Sequence[str]) -> Iterator[Span]:
    """Yield the entities that are one `S-` or `U-`, or go from a `B-` over `I-` to an `E-` or `L-` of one type."""
    start, open_type = -1, ""
    for position, tag in enumerate(tags):
        prefix, kind = split_tag(tag)
        if prefix in _SINGLE:
            yield kind, position, position + 1
            start = -1
        elif prefix == "B":
            start, open_type = position, kind
        elif start >= 0 and kind == open_type and prefix in ("E", "L"):
            yield kind, start, position + 1
            start = -1
        elif not (prefix == "I" and kind == open_type):
            start = -1


_STRICT: dict[str, Callable[[Sequence[str]], Iterator[Span]]] = {
    "IOB2": iob2_spans,
    "BIOES": bioes_spans,
    "BILOU": bioes_spans,
    "IOB1": conll_spans,
    "IO": conll_spans,
}


def entity_scores(
    gold: Sequence[Sequence[str]], predicted: Sequence[Sequence[str]], scheme: str | None = None
) -> EntityScores:
    """Return F1 over all entities (micro-averaged) and of each type.

    Args:
        gold: one tag a token for each sentence.
        predicted: the same shape.
        scheme: what both are written in; by default what gold is (`scheme_of`).

    Raises:
        ValueError: lengths differ, or there is no such scheme.
    """
    if len(gold) != len(predicted):
        raise ValueError(f"{len(gold)} gold sequences but {len(predicted)} predicted ones")
    for row, (one, other) in enumerate(zip(gold, predicted, strict=True)):
        if len(one) != len(other):
            raise ValueError(f"sequence {row} has {len(one)} gold tags but {len(other)} predicted ones")
    scheme = scheme or scheme_of(gold)
    if scheme not in _STRICT:
        raise ValueError(f"{scheme!r} is no scheme; known: {', '.join(_STRICT)}")
    strict, types = _count(gold, predicted, _STRICT[scheme])
    lenient, _ = _count(gold, predicted, conll_spans)
    overall = class_score("", *strict.sum(axis=0).tolist())
    return EntityScores(
        measures=(Measure("entity_f1", "f1", strict), Measure("entity_f1_conll", "f1", lenient)),
        types=types,
        precision=overall.precision,
        recall=overall.recall,
    )


def _count(
    gold: Sequence[Sequence[str]],
    predicted: Sequence[Sequence[str]],
    read: Callable[[Sequence[str]], Iterator[Span]],
) -> tuple["np.ndarray[tuple[int, int], np.dtype[np.float64]]", tuple[ClassScore, ...]]:
    """Return (hits, predicted, gold) of each sentence, and the scores of each type."""
    rows = np.zeros((len(gold), 3))
    hits, guesses, rights = Counter[str](), Counter[str](), Counter[str]()
    for row, (one, other) in enumerate(zip(gold, predicted, strict=True)):
        right, guess = set(read(one)), set(read(other))
        rows[row] = len(right & guess), len(guess), len(right)
        hits.update(kind for kind, *_ in right & guess)
        guesses.update(kind for kind, *_ in guess)
        rights.update(kind for kind, *_ in right)
    names = sorted(guesses.keys() | rights.keys())
    return rows, tuple(class_score(name, hits[name], guesses[name], rights[name]) for name in names)
