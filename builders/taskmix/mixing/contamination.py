"""Finding the evaluation rows that stand in training rows: whole, or nearly.

Rows are compared by their inputs, as `words` reads them. A training row is one text, its columns in order; of an
evaluation row every column is looked for in that text.

- *exact*: the words of both rows' inputs are the same, in order. Rows without any word are never found.
- *near*: the rows share a lead, and every column of the evaluation row is found in the training row: at least
  `Limits.overlap` of its words, by their weight, lie in pairs of words that one stretch of the training row has too
  (see `overlaps`). The overlap of two rows is the least of their columns.

A lead is a run of `Limits.ngram` words that both rows have (see `leads`). Rows without a column of
eight words that weigh anything have none, and are found when exact alone; so are those that many rows are alike in.

A column of fewer than `Limits.ngram` words is found when they follow each other in the training row. Of one that
stands in the other columns of its own row too, such as a question in the words of its passage, a pair of words counts
where the training row has it more often than they: else any row with the passage would seem to have the question.

An index holds the evaluation rows alone. What is found follows from the two rows and the evaluation rows, never from
batches or threads. docs/contamination.md has the reasons and the figures.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from taskmix.frames import SOURCE_ROW
from taskmix.kinds.base import DataType
from taskmix.mixing.leads import Leads, leading, leads
from taskmix.mixing.lists import Lists, distinct, grouped
from taskmix.mixing.overlaps import Pairs, Texts, Training, overlaps, texts, training
from taskmix.mixing.sieve import Sieve
from taskmix.mixing.words import Words, words

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Places = NDArray[np.int64]
    Shares = NDArray[np.float64]

REASONS = pl.Enum(["exact", "near"])
_ROWS_AT_ONCE = 20_000


@dataclass(frozen=True)
class Limits:
    """When a training row is near an evaluation row.

    `ngram` words must follow each other in both, and at least the share `overlap` (0 to 1) of each column be found.
    """

    ngram: int = 5
    overlap: float = 0.65


@dataclass(frozen=True)
class Origin:
    """Where evaluation rows are from."""

    task: str
    split: str


def joined(inputs: pl.DataFrame) -> pl.Series:
    """Return the columns of each row as one text, in order, with spaces between.

    Lists are joined by spaces, mappings by their fields in order, and null is empty.
    """
    columns = [_text(pl.col(name), dtype).fill_null("") for name, dtype in inputs.schema.items()]
    empty = pl.repeat("", pl.len(), dtype=pl.String)
    return inputs.select(pl.concat_str(columns or [empty], separator=" ").alias("text"))["text"]


def _text(value: pl.Expr, dtype: DataType) -> pl.Expr:
    if isinstance(dtype, pl.List):
        return value.list.eval(_text(pl.element(), dtype.inner)).list.join(" ", ignore_nulls=True)
    if isinstance(dtype, pl.Struct):
        fields = [_text(value.struct.field(each.name), each.dtype) for each in dtype.fields]
        return pl.concat_str(fields, separator=" ", ignore_nulls=True)
    return value.cast(pl.String)


@dataclass(frozen=True)
class Near:
    """Training rows (ascending), the evaluation row that each is nearest to, and their overlap."""

    row: "Places"
    match: "Places"
    overlap: "Shares"


@dataclass(frozen=True)
class Index:
    """Evaluation rows, and how to find them.

    Attributes:
        limits: when a row is near.
        rows: where they are from: `task`, `split`, `evaluation_row`.
        exact: the hashes of whole rows, and in `first` the first row with each.
        texts: the different texts of their columns.
        parts: of each row its texts, and in `own` which of `others` has the other columns, -1 if it does not matter.
        leads: the runs of words for which rows are compared, and the texts to which they lead.
        led: of each text the rows to which it leads.
    """

    limits: Limits
    rows: pl.DataFrame
    exact: Sieve
    first: "Places"
    texts: Texts
    parts: Lists
    own: "Places"
    others: Training
    leads: Leads
    led: Lists

    def find(self, frame: pl.DataFrame) -> pl.DataFrame:
        """Return what is found of training rows, in their order.

        Args:
            frame: `source_row` and the input columns, in order.

        Returns:
            `source_row`; `reason` (one of `REASONS`, null if nothing is found); `overlap` (Float64, 1 if exact, 0 if
            nothing is found), and the evaluation row with the largest, the first of several: `task`, `split`,
            `evaluation_row` (UInt64).
        """
        pieces = [self._find(piece) for piece in frame.iter_slices(_ROWS_AT_ONCE)]
        return pl.concat(pieces or [self._find(frame)])

    def _find(self, frame: pl.DataFrame) -> pl.DataFrame:
        found = words(joined(frame.drop(SOURCE_ROW)))
        row, overlap = np.full(len(found), -1), np.zeros(len(found))
        near = self._near(found)
        row[near.row], overlap[near.row] = near.match, near.overlap
        reason = np.where(row < 0, 2, 1)
        same, places = self.exact.find(found.whole())
        row[same], overlap[same], reason[same] = self.first[places], 1.0, 0
        return self._described(frame[SOURCE_ROW], row, reason, overlap)

    def _near(self, found: Words) -> Near:
        """Return the best match of each row that is near an evaluation row."""
        led, text = self.leads.of(found)
        rows, at = np.unique(led, return_inverse=True)
        train = training(found.only(rows), self.texts)
        alone = Pairs(at, text, np.full(len(at), -1))
        close = overlaps(alone, train, self.texts, self.others) >= self.limits.overlap
        which, row = self.led.take(text[close])
        at = at[close][which]
        best = _best(at, row, self._least(at, row, train), self.limits.overlap)
        return Near(rows[best.row], best.match, best.overlap)

    def _least(self, at: "Places", row: "Places", train: Training) -> "Shares":
        """Return the least overlap of the columns of evaluation rows with training rows."""
        pair, place = self.parts.places(row)
        # rows may share columns, each of which is looked for once
        size = len(self.others.words) + 1
        key = self.parts.values[place] * size + self.own[place] + 1
        first, second, inverse = distinct(at[pair], key, size * len(self.texts.words))
        pairs = Pairs(first, second // size, second % size - 1)
        share = overlaps(pairs, train, self.texts, self.others)[inverse]
        counts = self.parts.counts[row]
        return np.minimum.reduceat(share, counts.cumsum() - counts) if len(row) else share

    def _described(self, numbers: pl.Series, row: "Places", reason: "Places", overlap: "Shares") -> pl.DataFrame:
        at = pl.Series("at", row).to_frame().select(pl.when(pl.col("at") >= 0).then("at")).to_series()
        reasons = pl.Series("reason", ["exact", "near", None], dtype=REASONS)[pl.Series(reason)]
        return pl.DataFrame([numbers, reasons, pl.Series("overlap", overlap), *self.rows.select(pl.all().gather(at))])


def _best(at: "Places", match: "Places", overlap: "Shares", least: float) -> Near:
    """Return of each training row the match with the largest overlap of at least so much, the first of several."""
    order = np.lexsort((match, -overlap, at))
    order = order[overlap[order] >= least]
    _, first = np.unique(at[order], return_index=True)
    chosen = order[first]
    return Near(at[chosen], match[chosen], overlap[chosen])


def index(evaluation: Iterable[tuple[Origin, pl.DataFrame]], limits: Limits) -> Index:
    """Return an index of evaluation rows.

    Args:
        evaluation: where rows are from, with `source_row` and the input columns, in order. One origin may come
            several times, but each of its rows once.
        limits: when a training row is near one of them.
    """
    given = list(evaluation)
    rows = pl.concat([_named(origin, frame) for origin, frame in given] or [pl.DataFrame(schema=_ROWS)])
    exact, first = _exact(frame for _, frame in given)
    cells = _cells(given)
    different = cells.select("split", "text").unique(maintain_order=True).with_row_index("number")
    number = cells.join(different, on=["split", "text"], how="left", maintain_order="left")["number"]
    part = number.to_numpy().astype(np.int64)
    found = texts(words(different["text"]), different["split"].to_numpy(), limits.ngram)
    parts = grouped(cells["row"].to_numpy(), part, len(rows))
    led = leading(parts, found.telling)
    ways = leads(found.words, led.counts > 0, limits.ngram)
    return Index(limits, rows, Sieve.of(exact), first, found, parts, *_own(cells, part, found, limits), ways, led)


_ROWS = {"task": pl.String, "split": pl.String, "evaluation_row": pl.UInt64}
_CELLS = {"row": pl.Int64, "split": pl.Int64, "text": pl.String, "others": pl.String}


def _named(origin: Origin, frame: pl.DataFrame) -> pl.DataFrame:
    row = pl.col(SOURCE_ROW).cast(pl.UInt64).alias("evaluation_row")
    return frame.select(pl.lit(origin.task).alias("task"), pl.lit(origin.split).alias("split"), row)


def _exact(frames: Iterable[pl.DataFrame]) -> "tuple[NDArray[np.uint64], Places]":
    """Return the different hashes of whole rows, and the first row with each; not of rows without a word."""
    found = [words(joined(frame.drop(SOURCE_ROW))) for frame in frames]
    hashes = np.concatenate([*(each.whole() for each in found), np.empty(0, np.uint64)])
    rows = np.flatnonzero(np.concatenate([*(each.counts for each in found), np.empty(0, np.int64)]))
    different, first = np.unique(hashes[rows], return_index=True)
    return different, rows[first]


def _cells(given: Sequence[tuple[Origin, pl.DataFrame]]) -> pl.DataFrame:
    """Return for each column of each row: the row, the number of its split, its text, and that of the others."""
    first, cells = 0, [pl.DataFrame(schema=_CELLS)]
    splits = {origin: number for number, origin in enumerate(dict.fromkeys(origin for origin, _ in given))}
    for origin, frame in given:
        row = pl.int_range(first, first + len(frame), dtype=pl.Int64, eager=True)
        split = pl.repeat(splits[origin], len(frame), dtype=pl.Int64, eager=True)
        inputs = frame.drop(SOURCE_ROW)
        for name in inputs.columns:
            columns = [row, split, joined(inputs.select(name)), joined(inputs.drop(name))]
            cells.append(pl.DataFrame(dict(zip(_CELLS, columns, strict=True))))
        first += len(frame)
    return pl.concat(cells).sort("row", maintain_order=True)


def _own(cells: pl.DataFrame, part: "Places", found: Texts, limits: Limits) -> "tuple[Places, Training]":
    """Return the other columns of the rows where a column stands in them, and of each column which they are, or -1."""
    none = np.full(len(part), -1)
    others = training(words(cells["others"]), found)
    inside = overlaps(Pairs(np.arange(len(part)), part, none), others, found, others) >= limits.overlap
    kept = np.flatnonzero(inside & ~found.plain[part])
    none[kept] = np.arange(len(kept))
    return none, training(others.words.only(kept), found)
