"""Tokens on disk: one Arrow file a split, the tokenizer, and `tokens.json`, which says what they are.

Training from such a folder needs neither Polars nor datasets. The files are mapped into memory, so that examples are
read where they lie.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from taskmix.errors import SourceError
from taskmix_trainer.heads.base import Features

MANIFEST = "tokens.json"
VERSION = 1
_INT32, _TEXT = pa.int32(), pa.string()


@dataclass(frozen=True)
class SplitTokens:
    """What a split holds: rows that were read, features, tokens, the longest feature, and what became of rows."""

    rows: int
    features: int
    tokens: int
    longest: int
    tally: Mapping[str, int]


@dataclass(frozen=True)
class Manifest:
    """What a folder of tokens holds.

    Attributes:
        target: what the tokens were made from, in words.
        form: `raw` or `instruct`.
        head: the head that they are for.
        kind: the kind of the raw task; empty for a mixture.
        labels: the words of the labels.
        multi_label: whether a row may have several.
        max_length: the most tokens of a feature.
        format: the format of the mixture; empty for a raw task.
        model: the name of the model that the tokenizer is of.
        source: a hash of what was read: the mixture's content, or the task's files and entry.
        lock_sha256: the hash of the mixture's lock; empty for a raw task.
        stride: tokens that windows over a long context share; None where that is not known.
        splits: by name.
    """

    target: str
    form: str
    head: str
    kind: str
    labels: tuple[str, ...]
    multi_label: bool
    max_length: int
    format: str
    model: str
    source: str
    lock_sha256: str
    stride: int | None = None
    splits: Mapping[str, SplitTokens] = field(default_factory=dict)


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write `tokens.json`, which comes last: a folder without it is not whole."""
    text = json.dumps({"version": VERSION, **asdict(manifest)}, ensure_ascii=False, indent=1)
    (folder / MANIFEST).write_text(text + "\n", "utf-8")


def read_manifest(folder: Path) -> Manifest:
    """Return what a folder holds. Raises SourceError if it is no folder of tokens, or another version's."""
    try:
        values = json.loads((folder / MANIFEST).read_text("utf-8"))
        if values.pop("version") != VERSION:
            raise SourceError("the tokens were made by another version", where=str(folder), hint="prepare them again")
        splits = {name: SplitTokens(**split) for name, split in values.pop("splits").items()}
        return Manifest(**{**values, "labels": tuple(values["labels"]), "splits": splits})
    except FileNotFoundError:
        raise SourceError(f"no folder of tokens: it has no {MANIFEST}", where=str(folder)) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        raise SourceError(f"{MANIFEST} is damaged", where=str(folder), hint="prepare the tokens again") from None


@contextmanager
def writing(path: Path) -> Iterator["Writer"]:
    """Yield what takes features, batch by batch, and writes them to an Arrow file."""
    writer = Writer(path)
    try:
        yield writer
    finally:
        writer.close()


class Writer:
    """Features to an Arrow file. The first batch says which columns there are."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: Any = None
        self.lengths: list[NDArray[np.int64]] = []

    def add(self, features: Features) -> None:
        """Write a batch of features."""
        if not len(features["row"]):
            return
        table = pa.table({name: _array(values) for name, values in features.items()})
        if self._file is None:
            self._file = pa.ipc.new_file(self._path, table.schema)
        self._file.write_table(table)
        self.lengths.append(np.array([len(ids) for ids in features["input_ids"]], dtype=np.int64))

    def close(self) -> None:
        """Finish the file, if there is one."""
        if self._file is not None:
            self._file.close()


def _array(values: Sequence[Any]) -> pa.Array:
    first = values[0]
    if isinstance(first, str):
        return pa.array(values, _TEXT)
    if not isinstance(first, Sequence):
        return pa.array(values, _INT32)
    inner = _TEXT if any(row and isinstance(row[0], str) for row in values[:100]) else _INT32
    return pa.array(values, pa.list_(inner))


class Tokens:
    """The features of a split: `tokens[i]` is one, a mapping of columns to numbers, texts or arrays of them."""

    def __init__(self, path: Path) -> None:
        try:
            self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all()
        except (OSError, pa.ArrowInvalid) as error:
            raise SourceError(f"the tokens cannot be read: {error}", where=str(path)) from None
        self._columns = {name: _Column(self._table[name]) for name in self._table.column_names}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __getitem__(self, at: int) -> dict[str, Any]:
        return {name: column[at] for name, column in self._columns.items()}

    def features(self, indices: Iterable[int]) -> list[dict[str, Any]]:
        """Return some features."""
        return [self[int(at)] for at in indices]

    def column(self, name: str) -> list[Any]:
        """Return a column's values."""
        values: list[Any] = self._table[name].to_pylist()
        return values

    def lengths(self) -> NDArray[np.int64]:
        """Return how many tokens each feature has. (features,)"""
        return self._columns["input_ids"].lengths()


class _Column:
    """A column whose values are found without making a Python object of every one."""

    def __init__(self, chunked: pa.ChunkedArray) -> None:
        self._chunks = [_Chunk(chunk) for chunk in chunked.chunks]
        self._starts = np.cumsum([0, *(len(chunk) for chunk in chunked.chunks)])

    def __getitem__(self, at: int) -> Any:
        chunk = int(np.searchsorted(self._starts, at, side="right")) - 1
        return self._chunks[chunk][at - int(self._starts[chunk])]

    def lengths(self) -> NDArray[np.int64]:
        return np.concatenate([chunk.lengths() for chunk in self._chunks])


class _Chunk:
    def __init__(self, array: Any) -> None:
        self._array = array
        self._values: NDArray[np.int32] | None = None
        self._offsets: NDArray[np.int32] | None = None
        if pa.types.is_list(array.type) and array.type.value_type == _INT32:
            # not by `to_numpy`, which imports pandas where it is installed
            self._offsets = _ints(array.buffers()[1], array.offset, len(array) + 1)
            self._values = _ints(array.values.buffers()[1], array.values.offset, len(array.values))

    def __getitem__(self, at: int) -> Any:
        if self._values is None or self._offsets is None:
            return self._array[at].as_py()
        return self._values[self._offsets[at] : self._offsets[at + 1]]

    def lengths(self) -> NDArray[np.int64]:
        assert self._offsets is not None
        return np.diff(self._offsets).astype(np.int64)


def _ints(buffer: pa.Buffer | None, start: int, count: int) -> NDArray[np.int32]:
    """Return numbers of a buffer, where they lie. There is none where there are no numbers."""
    if buffer is None:
        return np.zeros(count, dtype=np.int32)
    return np.frombuffer(buffer, dtype=np.int32, offset=4 * start, count=count)
