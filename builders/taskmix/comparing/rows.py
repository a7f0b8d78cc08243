"""Rows that two mixtures both have, by their ids, and whose texts differ.

A split whose content has the same hash in both locks is not read. Of another one every file is read once, in a stream;
what is held of a row is its id and hashes of its texts, about a hundred bytes. Of a split with more rows than
`ROWS_HELD` only those are compared whose ids leave no rest by a number: a sample, which says so.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from taskmix.errors import OutputError
from taskmix.output.inputs import Json

ROWS_HELD = 4_000_000
"""Rows of one mixture's split that are compared at once."""
_KEY_DIGITS = 15
"""Digits of an id, in hexadecimal, that are taken for it: as many as a signed integer holds."""
_TEXTS = ("prompt", "completion")
_GAP = "\n\n"


@dataclass(frozen=True)
class Example:
    """A row that both mixtures have, with its texts in each."""

    split: str
    task: str
    template: str
    style: str
    source_split: str
    source_row: int
    id: str
    before: Mapping[str, str]
    after: Mapping[str, str]


@dataclass(frozen=True)
class SplitRows:
    """How the rows of a split compare. `one_in`: that so many are compared, 1 for all.

    `prompts`, `completions` and `alternatives` (choices and references) count the rows in both whose texts differ, by
    task and template.
    """

    split: str
    one_in: int
    both: int
    only_before: int
    only_after: int
    prompts: Mapping[tuple[str, str], int]
    completions: Mapping[tuple[str, str], int]
    alternatives: Mapping[tuple[str, str], int]
    examples: tuple[Example, ...] = ()


@dataclass(frozen=True)
class Mixture:
    """A mixture to read: its folder and its lock."""

    folder: Path
    lock: Json

    def scan(self, split: str) -> pl.LazyFrame:
        """Return a split's rows, with `key`, `prompt` and `completion` added whatever the format."""
        name = re.compile(rf"data/{re.escape(split)}-\d+-of-\d+\.parquet")
        paths = [self.folder / path for path in self.lock["outputs"] if name.fullmatch(path)]
        prompt, completion = FORMS[self.lock["spec"]["format"]]()
        key = pl.col("id").str.head(_KEY_DIGITS).str.to_integer(base=16)
        frame = pl.scan_parquet(paths, glob=False, hive_partitioning=False)
        return frame.with_columns(key.alias("key"), prompt.alias("prompt"), completion.alias("completion"))


def _turns(column: str, text: str) -> tuple[pl.Expr, pl.Expr]:
    texts = pl.col(column).list.eval(pl.element().struct.field(text))
    return texts.list.head(texts.list.len() - 1).list.join(_GAP), texts.list.last()


FORMS: Mapping[str, Callable[[], tuple[pl.Expr, pl.Expr]]] = {
    "prompt-completion": lambda: (pl.col("prompt"), pl.col("completion")),
    "messages": lambda: _turns("messages", "content"),
    "sharegpt": lambda: _turns("conversations", "value"),
    "alpaca": lambda: (pl.concat_str("instruction", "input", separator=_GAP), pl.col("output")),
    "text": lambda: (pl.col("text"), pl.lit("")),
}
"""What of each format is the prompt, and what the completion."""


def compare_rows(a: Mixture, b: Mixture, examples: int) -> tuple[SplitRows, ...]:
    """Return how the rows of each split compare that is not the same in both; with so many examples in all.

    Raises:
        OutputError: a file of a mixture cannot be read.
    """
    if a.lock["spec"]["format"] != b.lock["spec"]["format"]:
        return ()
    found: list[SplitRows] = []
    for split, before in a.lock["splits"].items():
        after = b.lock["splits"].get(split)
        if after is not None and after["content_sha256"] != before["content_sha256"]:
            wanted = examples - sum(len(each.examples) for each in found)
            found.append(_compare(a, b, split, max(before["rows"], after["rows"]), wanted))
    return tuple(found)


def _compare(a: Mixture, b: Mixture, split: str, rows: int, examples: int) -> SplitRows:
    one_in = -(-rows // ROWS_HELD)
    before, after = _hashed(a, split, one_in), _hashed(b, split, one_in)
    both = before.join(after, on="key", suffix="_after")
    differs = {name: both[name] != both[f"{name}_after"] for name in (*_TEXTS, "alternatives")}
    texts = both.filter(differs["prompt"] | differs["completion"])
    return SplitRows(
        split,
        one_in,
        len(both),
        len(before) - len(both),
        len(after) - len(both),
        prompts=_counts(both.filter(differs["prompt"])),
        completions=_counts(both.filter(differs["completion"])),
        alternatives=_counts(both.filter(differs["alternatives"])),
        examples=_examples(a, b, split, _chosen(texts, examples)),
    )


def _hashed(mixture: Mixture, split: str, one_in: int) -> pl.DataFrame:
    """Return the rows of a split by key, with hashes of their texts that hold for this run."""
    frame = mixture.scan(split)
    if one_in > 1:
        frame = frame.filter(pl.col("key") % one_in == 0)
    alternatives = pl.concat_str(
        _listed("choices"), pl.col("answer").cast(pl.String).fill_null(""), _listed("references")
    )
    hashes = [pl.col(name).hash() for name in _TEXTS]
    wanted = frame.select(
        "key", _category("task"), _category("template"), *hashes, alternatives.hash().alias("alternatives")
    )
    return _collected(mixture, wanted)


def _category(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.Categorical)


def _listed(name: str) -> pl.Expr:
    return pl.col(name).list.join("\0", ignore_nulls=False).fill_null("")


def _counts(rows: pl.DataFrame) -> Mapping[tuple[str, str], int]:
    """Return the number of rows by task and template."""
    found = rows.group_by(pl.col("task", "template").cast(pl.String)).len().sort("task", "template")
    return {(task, template): count for task, template, count in found.rows()}


def _chosen(rows: pl.DataFrame, count: int) -> Sequence[int]:
    """Return the keys of some rows, of as many tasks and templates as there may be, always the same ones."""
    place = pl.col("key").rank("ordinal").over("task", "template").alias("place")
    ranked = rows.select("key", pl.col("task", "template").cast(pl.String), place)
    return ranked.sort("place", "task", "template").head(count)["key"].to_list()


def _examples(a: Mixture, b: Mixture, split: str, keys: Sequence[int]) -> tuple[Example, ...]:
    """Read the rows with these keys."""
    if not keys:
        return ()
    about = ("task", "template", "style", "source_split", "source_row", "id")
    rows = []
    for mixture in (a, b):
        wanted = mixture.scan(split).filter(pl.col("key").is_in(keys)).select("key", *about, *_TEXTS)
        rows.append({row["key"]: row for row in _collected(mixture, wanted).iter_rows(named=True)})
    return tuple(
        Example(
            split,
            **{name: rows[0][key][name] for name in about},
            before={name: rows[0][key][name] for name in _TEXTS},
            after={name: rows[1][key][name] for name in _TEXTS},
        )
        for key in keys
    )


def _collected(mixture: Mixture, frame: pl.LazyFrame) -> pl.DataFrame:
    try:
        return frame.collect(engine="streaming")
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        message = next(iter(str(error).splitlines()), type(error).__name__)
        hint = "`mix verify` says which file is not what it was"
        raise OutputError(f"its rows cannot be read: {message}", where=str(mixture.folder), hint=hint) from None
