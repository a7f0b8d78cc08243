"""What a dataset shows of itself: its splits, columns and types, the names of its labels, and a sample of rows."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import polars as pl

from taskmix import hashing
from taskmix.frames import SOURCE_ROW
from taskmix.sources.opening import Source

SAMPLE = 1_000
_MOST_READ = 400_000
"""Rows of a split of which the sample is drawn: the first so many."""
_TRAIN = ("train", "training", "tune")
_VALIDATION = ("validation", "valid", "val", "dev", "validation_matched", "test", "testing")
_SHARES = ((400, 0.05), (200, 0.1), (100, 0.2), (0, 0.3))
"""From so many rows on, the share of train that is cut off for validation."""


@dataclass(frozen=True)
class Look:
    """A source, and the splits of it that make train and validation.

    Without a validation split a share of train is to be `cut` off; a share of 0 means that there is none.
    """

    source: Source
    train: str
    validation: str | None
    cut: float = 0.0

    @cached_property
    def schema(self) -> Mapping[str, pl.DataType]:
        """Return the columns and their types."""
        return dict(self.source.schema(self.train))

    @cached_property
    def class_names(self) -> Mapping[str, Sequence[str]]:
        """Return the names that the source has for the ids of a column."""
        return self.source.class_names(self.train)

    @cached_property
    def sample(self) -> pl.DataFrame:
        """Return rows of train, drawn by a hash."""
        order = hashing.draws(hashing.key("sample"), pl.col(SOURCE_ROW))
        kept: pl.DataFrame | None = None
        for batch in self.source.batches(self.train, list(self.schema)):
            drawn = batch.with_columns(order=order)
            kept = drawn if kept is None else pl.concat([kept, drawn])
            kept = kept.sort("order").head(SAMPLE)
            if int(batch[SOURCE_ROW][-1]) >= _MOST_READ:
                break
        assert kept is not None, self.source
        return kept.drop("order").sort(SOURCE_ROW)

    def chars(self, column: str) -> pl.Series:
        """Return the lengths of a column's texts, or of those in its lists, in the sample."""
        return _flat(self.sample[column]).drop_nulls().str.len_chars()

    def splits(self) -> Iterator[str]:
        """Yield the splits that the task is to use."""
        yield self.train
        if self.validation is not None:
            yield self.validation

    def values(self, column: str) -> pl.Series:
        """Return the distinct values of a column, or of its lists, in the splits that the task is to use."""
        found = [
            _flat(batch[column]).unique()
            for split in self.splits()
            if column in self.source.schema(split)
            for batch in self.source.batches(split, [column])
        ]
        return pl.concat([each for each in found if each.dtype == found[0].dtype]).unique().sort()

    def texts(self) -> list[str]:
        """Return the columns of text that are no ids, in the source's order."""
        return [name for name, dtype in self.schema.items() if dtype == pl.String and not self._is_id(name)]

    def _is_id(self, name: str) -> bool:
        parts = name.lower().replace("-", "_").split("_")
        return parts[-1] in ("id", "ids", "idx", "index", "uid", "guid", "qid", "url", "uuid", "key", "path", "file")


def _flat(series: pl.Series) -> pl.Series:
    return series.explode() if isinstance(series.dtype, pl.List) else series


def look_at(source: Source) -> Look:
    """Return a look with the splits to train and to validate on. Raises SourceError as reading does."""
    train, validation = choose_splits(source)
    return Look(source, train, validation, 0.0 if validation else share(source.count(train)))


def share(rows: int) -> float:
    """Return the share of so many rows to cut off for validation."""
    return next(part for least, part in _SHARES if rows >= least)


def choose_splits(source: Source) -> tuple[str, str | None]:
    """Return the splits of a source to train on and to validate on; test is trained on where it is the only one."""
    names = sorted(source.splits, key=lambda name: (-source.count(name), name))
    train = next((name for name in _TRAIN if name in names), None)
    if train is None:
        other = [name for name in names if name not in ("test", "testing")]
        train = (other or names)[0]
    # where validation has to be trained on, test is what is left to validate on
    order = _VALIDATION if train in _TRAIN else tuple(reversed(_VALIDATION))
    validation = next((name for name in order if name in names and name != train), None)
    return train, validation


def mean(series: pl.Series) -> float:
    """Return the mean of numbers; 0 of none."""
    found = series.mean()
    return float(found) if isinstance(found, int | float) else 0.0
