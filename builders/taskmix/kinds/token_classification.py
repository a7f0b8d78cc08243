"""Named entities and other spans: one tag a token, in any of the usual schemes."""

import re
from collections.abc import Collection, Sequence
from typing import TypedDict

import polars as pl

from taskmix.kinds.base import Column, Kind, View, constant, fail, resolve_labels, texts, wrong_type

OUTSIDE = "O"
_PREFIXED = re.compile(r"[BIESLU]-.+")


class Entity(TypedDict):
    """A span of tokens: `start` inclusive, `end` exclusive."""

    text: str
    type: str
    start: int
    end: int


ENTITIES = pl.List(pl.Struct({"text": pl.String, "type": pl.String, "start": pl.Int64, "end": pl.Int64}))


def split_tag(tag: str, prefixed: bool) -> tuple[str, str]:
    """Return the prefix and the type of a tag; in the IO scheme, which has no prefixes, every tag continues."""
    if tag == OUTSIDE:
        return OUTSIDE, ""
    if not prefixed:
        return "I", tag
    return tag[0], tag[2:]


def decode(tokens: Sequence[str], tags: Sequence[str], prefixed: bool) -> list[Entity]:
    """Return the entities that tags of the IO, IOB1, IOB2, BIOES or BILOU scheme mark, in order.

    Malformed sequences are read as the CoNLL-2000 evaluation script reads them: an `I` of another type, or after
    `O`, `E`, `L`, `S` or `U`, starts an entity.
    """
    entities: list[Entity] = []
    start, open_type, last = -1, "", OUTSIDE
    for position, tag in enumerate([*tags, OUTSIDE]):
        prefix, kind = split_tag(tag, prefixed)
        begins = prefix in "BSU" or (prefix != OUTSIDE and (last in "OELSU" or kind != open_type))
        if start >= 0 and (begins or prefix == OUTSIDE):
            text = " ".join(tokens[start:position])
            entities.append({"text": text, "type": open_type, "start": start, "end": position})
            start = -1
        if begins:
            start, open_type = position, kind
        last = prefix
    return entities


def has_prefixes(words: Sequence[str]) -> bool:
    """Whether the tag names are of a scheme with prefixes: all but `O` have one."""
    return all(_PREFIXED.fullmatch(word) for word in words if word != OUTSIDE)


def entity_types(words: Sequence[str]) -> list[str]:
    """Return the types that a list of tag names has, in order of first appearance."""
    prefixed = has_prefixes(words)
    return list(dict.fromkeys(split_tag(word, prefixed)[1] for word in words if word != OUTSIDE))


def canonical(frame: pl.DataFrame, view: View, names: Collection[str]) -> pl.DataFrame:
    """Check that there is one known tag a token; add the entities."""
    assert view.labels is not None, view
    tokens = texts(view, frame, "tokens")
    if not isinstance(frame["tags"].dtype, pl.List):
        raise wrong_type(view, "tags", frame["tags"].dtype, "a list of tags")
    ids = resolve_labels(view, frame, "tags")
    uneven = tokens.list.len() != ids.list.len()
    fail(view, frame, uneven, lambda at: f"{len(tokens[at])} tokens but {len(ids[at])} tags")
    words, prefixed = view.labels.words, has_prefixes(view.labels.words)
    tags = [[words[i] for i in row] for row in ids.to_list()]
    types = entity_types(words)
    frame = frame.with_columns(
        tokens.alias("tokens"),
        pl.Series("tags", tags, dtype=pl.List(pl.String)),
        tokens.list.join(" ").alias("text"),
        constant(types).alias("types"),
        constant(types).alias("choices"),
    )
    if "entities" not in names:
        return frame
    entities = [decode(*row, prefixed) for row in zip(tokens.to_list(), tags, strict=True)]
    return frame.with_columns(pl.Series("entities", entities, dtype=ENTITIES))


KIND = Kind(
    name="token-classification",
    columns={"tokens": Column("a list of words"), "tags": Column("one tag a token: ids or names")},
    inputs=("tokens",),
    variables={
        "text": "the tokens joined by spaces",
        "entities": "the entities in order: text, type, start and end (in tokens, end exclusive)",
        "types": "the entity types in the order of the tag names",
        "choices": "the same as types",
    },
    metric="entity F1",
    head="token classification",
    canonical=canonical,
    fallback=lambda view: "token-classification",
    labelled="tags",
    constants=lambda view: dict.fromkeys(
        ("types", "choices"), tuple(entity_types(view.labels.words if view.labels else ()))
    ),
)
