"""The labels of a task: words in order, and which value of the source means which."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from taskmix.errors import CatalogError
from taskmix.text import quoted

_ID = re.compile(r"0|-?[1-9]\d{0,17}", re.ASCII)
_BELOW_64_BITS = (pl.Int8, pl.Int16, pl.Int32, pl.Int64, pl.UInt8, pl.UInt16, pl.UInt32)
LabelsSpec = Sequence[str] | Mapping[str | bool | int, str]


class NoWordsError(CatalogError):
    """Neither the catalog nor the source has words for a task's labels."""


@dataclass(frozen=True)
class Labels:
    """Label words in order; `index` maps a value of the source, as text, to the position of its word."""

    words: tuple[str, ...]
    index: Mapping[str, int]

    def indices(self, series: pl.Series) -> pl.Series:
        """Return the label index (Int64) of each value, or of each item of each list; null where it is none."""
        item = pl.element() if isinstance(series.dtype, pl.List) else pl.col(series.name)
        inner = series.dtype.inner if isinstance(series.dtype, pl.List) else series.dtype
        ids = {int(value): position for value, position in self.index.items() if _ID.fullmatch(value)}
        if inner in _BELOW_64_BITS and ids:
            # several times as fast as by their texts, and again where they are indices already
            number, same = item.cast(pl.Int64), ids == {position: position for position in range(len(ids))}
            by_value = number.replace_strict(ids, default=None, return_dtype=pl.Int64)
            index = pl.when(number.is_between(0, len(ids) - 1)).then(number) if same else by_value
        else:
            index = item.cast(pl.String).replace_strict(dict(self.index), default=None, return_dtype=pl.Int64)
        found = pl.col(series.name).list.eval(index) if isinstance(series.dtype, pl.List) else index
        return series.to_frame().select(found).to_series()

    def summary(self) -> str:
        """Return the labels for a message: each word with the values that mean it."""
        values = {word: [v for v, i in self.index.items() if i == n] for n, word in enumerate(self.words)}
        parts = [word if found == [word] else f"{'/'.join(found)}={word}" for word, found in values.items()]
        return "labels: " + ", ".join(parts[:12]) + (", …" if len(parts) > 12 else "")


def make_labels(
    spec: LabelsSpec | None, dtype: pl.DataType, class_names: Sequence[str] | None, where: str, source: str
) -> Labels:
    """Work out a task's labels from the catalog, the type of the source's column, and its ClassLabel names.

    Args:
        spec: the catalog's `labels`: words for the ids in order, or {value in the source: word}.
        dtype: the type of one label in the source.
        class_names: the source's own names for its ids, if it has any.
        where: the catalog's place, for messages.
        source: the source's name, for messages.

    Raises:
        CatalogError: there are no words for the labels, or they contradict the source's own names.
    """
    if not (dtype.is_integer() or dtype in (pl.String, pl.Boolean)):
        raise CatalogError(f"labels of type {dtype} are neither ids nor names", where=where)
    if spec is None:
        return _from_source(dtype, class_names, where, source)
    if isinstance(spec, Mapping):
        return _from_mapping(spec, dtype, class_names, where, source)
    words = tuple(spec)
    if len(set(words)) < len(words):
        raise CatalogError("two labels have the same word", where=where, hint="map values instead: {value: word}")
    if dtype == pl.String:
        return _from_names(words)
    if class_names:
        _check_order(words, class_names, where, source)
    ids = ("false", "true") if dtype == pl.Boolean else tuple(map(str, range(len(words))))
    return Labels(words, dict(zip(ids, range(len(words)), strict=False)))


def _from_source(dtype: pl.DataType, class_names: Sequence[str] | None, where: str, source: str) -> Labels:
    if not class_names or not dtype.is_integer():
        hint = "give `labels`: a list of words for the ids in order, or {value in the source: word}"
        raise NoWordsError(f"{source} has no names for its labels", where=where, hint=hint)
    return Labels(tuple(class_names), {str(i): i for i in range(len(class_names))})


def _from_names(words: tuple[str, ...]) -> Labels:
    index = {word: position for position, word in enumerate(words)}
    if not any(word.lstrip("-").isdigit() for word in words):
        # a CSV file has its ids as text
        index |= {str(position): position for position in range(len(words))}
    return Labels(words, index)


def _from_mapping(
    spec: Mapping[str | bool | int, str],
    dtype: pl.DataType,
    class_names: Sequence[str] | None,
    where: str,
    source: str,
) -> Labels:
    words = tuple(dict.fromkeys(spec.values()))
    by_value = {_as_text(value): words.index(word) for value, word in spec.items()}
    if not (class_names and dtype.is_integer() and all(isinstance(value, str) for value in spec)):
        return Labels(words, by_value)
    if set(by_value) != set(class_names):
        raise CatalogError(
            f"the labels {quoted(sorted(by_value), 200)} are not those of {source}: {quoted(sorted(class_names), 400)}",
            where=where,
            hint="name each of the source's labels once",
        )
    return Labels(words, {str(i): by_value[name] for i, name in enumerate(class_names)})


def _as_text(value: str | bool | int) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _check_order(words: tuple[str, ...], class_names: Sequence[str], where: str, source: str) -> None:
    if len(words) != len(class_names):
        raise CatalogError(
            f"{len(words)} labels {quoted(list(words), 200)}, but {source} has {len(class_names)}: "
            f"{quoted(list(class_names), 400)}",
            where=where,
            hint="one word for each, in that order",
        )
    if set(words) == set(class_names) and words != tuple(class_names):
        raise CatalogError(
            f"the labels {quoted(list(words), 200)} stand in another order in {source}: "
            f"{quoted(list(class_names), 200)}",
            where=where,
            hint="ids follow the source's order; to rename, map {value in the source: word}",
        )
