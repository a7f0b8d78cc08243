"""Writing a split's shuffled rows as Parquet files, with the hashes of the files and of the rows' content."""

import hashlib
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice
from pathlib import Path
from typing import BinaryIO, cast

import polars as pl
import pyarrow as pa
from polars.io.plugins import register_io_source

from taskmix import hashing
from taskmix.output.content import ContentHash

ROWS_PER_SHARD = 250_000
PIECES_PER_SHARD = 8
ROW_GROUP_ROWS = 10_000


@dataclass(frozen=True)
class Shard:
    """A written file: its path below the mixture's folder, its hash, its size in bytes and rows."""

    path: str
    sha256: str
    bytes: int
    rows: int


@dataclass(frozen=True)
class WrittenSplit:
    """The shards of a split, and a hash of its rows' content in order, whatever the Parquet writer did."""

    shards: tuple[Shard, ...]
    content_sha256: str

    @property
    def rows(self) -> int:
        """Return the number of rows."""
        return sum(shard.rows for shard in self.shards)


def shard_count(rows: int) -> int:
    """Return into how many shards a split of so many rows is cut."""
    return max(1, -(-rows // ROWS_PER_SHARD))


def write_shards(
    pieces: Iterator[pa.Table], count: int, split: str, root: Path, written: Callable[[int], None]
) -> WrittenSplit:
    """Write each shard as `data/SPLIT-0000I-of-0000N.parquet` below `root`, and report its rows.

    Each is made of the next `PIECES_PER_SHARD` pieces, of which but a few are in memory.
    """
    (root / "data").mkdir(exist_ok=True)
    content, shards = ContentHash(), []
    for index in range(count):
        path = f"data/{split}-{index:05}-of-{count:05}.parquet"
        shard = _write(islice(pieces, PIECES_PER_SHARD), content, root, path)
        # every shard has rows: a few hundred thousand hashes leave no band of them empty
        assert shard.rows, path
        sync(root / path)
        written(shard.rows)
        shards.append(shard)
    return WrittenSplit(tuple(shards), content.hexdigest())


def _write(pieces: Iterator[pa.Table], content: ContentHash, root: Path, path: str) -> Shard:
    rows = 0

    def hashed() -> Iterator[pl.DataFrame]:
        nonlocal rows
        for piece in chain([first], pieces):
            content.update(piece)
            rows += len(piece)
            yield pl.DataFrame(piece)

    first = next(pieces)
    with (root / path).open("wb") as opened:
        file = _HashedFile(opened)
        write_parquet(hashed(), pl.DataFrame(first).schema, file)
        return Shard(path, file.sha256.hexdigest(), opened.tell(), rows)


@dataclass
class _HashedFile:
    """A file that hashes what is written to it, and keeps the system's error, of which Polars would give but words."""

    file: BinaryIO
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    failure: OSError | None = None

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        try:
            return self.file.write(content)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self.file.flush()


def write_parquet(pieces: Iterator[pl.DataFrame], schema: pl.Schema, file: _HashedFile) -> None:
    """Write pieces one after the other, so that the same rows give the same bytes however they are cut."""
    frame = register_io_source(lambda *_: pieces, schema=schema)
    try:
        # a fixed row group size: the default depends on how the rows happen to be cut
        frame.sink_parquet(cast(BinaryIO, file), compression="zstd", row_group_size=ROW_GROUP_ROWS)
        file.flush()
    except pl.exceptions.PolarsError as error:
        raise file.failure or error from None


def describe(root: Path, path: str, rows: int) -> Shard:
    """Return the record of a file below `root`."""
    file = root / path
    return Shard(path, hashing.file_sha256(file), file.stat().st_size, rows)


def sync(path: Path) -> None:
    """Wait until a file or folder is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


Written = Mapping[str, WrittenSplit]
