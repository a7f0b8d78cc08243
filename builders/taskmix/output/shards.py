"""Writing a split's shuffled rows as Parquet files, with the hashes of the files and of the rows' content."""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import chain, pairwise
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from taskmix.output.content import REPEATED, block_hash, content_hash
from taskmix.output.folder import sync
from taskmix.threads import in_order

ROWS_PER_SHARD = 250_000
_PIECE_BYTES = 1 << 20
_LEVEL = 3
_ID_LEVEL = 1
"""Levels of zstd: in the digits of a hash there is nothing to find but that they are digits."""

_REPEATED_INSIDE = (".role", ".from", "choices.list.element", "references.list.element")


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


def write_shards(
    blocks: Callable[[int, int], Iterator[pa.Table]],
    rows: int,
    split: str,
    root: Path,
    threads: int,
    written: Callable[[int], None],
) -> WrittenSplit:
    """Write a split's rows as `data/SPLIT-0000I-of-0000N.parquet` below `root`, some shards at a time.

    Args:
        blocks: gives the rows from one number up to another in blocks of `BLOCK_ROWS`, each a row group.
        rows: how many rows there are.
        split: the split's name.
        root: the mixture's folder.
        threads: how many shards are written at a time, each with one block of rows in memory.
        written: called with the number of rows of each shard.
    """
    (root / "data").mkdir(exist_ok=True)
    wanted = shard_spans(split, rows)
    writing = (partial(_write, blocks(*span), root, path) for path, span in wanted.items())
    shards, hashes = [], list[bytes]()
    for shard, found in in_order(writing, min(threads, len(wanted))):
        sync(root / shard.path)
        written(shard.rows)
        shards.append(shard)
        hashes += found
    return WrittenSplit(tuple(shards), content_hash(hashes))


def shard_spans(split: str, rows: int) -> Mapping[str, tuple[int, int]]:
    """Return the path of each shard of a split below the mixture's folder, and of which rows it is, in order."""
    spans = list(pairwise([*range(0, rows, ROWS_PER_SHARD), rows]))
    return {f"data/{split}-{index:05}-of-{len(spans):05}.parquet": span for index, span in enumerate(spans)}


def _write(blocks: Iterator[pa.Table], root: Path, path: str) -> tuple[Shard, list[bytes]]:
    with (root / path).open("wb") as opened:
        return write_shard(blocks, opened, path)


def write_shard(blocks: Iterator[pa.Table], opened: BinaryIO, path: str) -> tuple[Shard, list[bytes]]:
    """Write blocks of rows to a file as a shard; return its record, under `path`, and the hashes of the blocks."""
    rows, hashes, first = 0, [], next(blocks)
    file = _HashedFile(opened)
    # a few large pieces: for each the threads wait for one another
    with pa.output_stream(file, buffer_size=_PIECE_BYTES) as stream, _writer(stream, first) as writer:
        for block in chain([first], blocks):
            hashes.append(block_hash(block))
            writer.write_table(block, row_group_size=len(block))
            rows += len(block)
    return Shard(path, file.sha256.hexdigest(), opened.tell(), rows), hashes


def _writer(file: pa.NativeFile, first: pa.Table) -> pq.ParquetWriter:
    """Return a writer of rows like the first ones; texts that come again are written once a row group."""
    paths = [path for field in first.schema for path in _paths(field.name, field.type)]
    return pq.ParquetWriter(
        file,
        first.schema,
        compression="zstd",
        compression_level=dict.fromkeys(paths, _LEVEL) | {"id": _ID_LEVEL},
        use_dictionary=[*_repeating(first), *(path for path in paths if path.endswith(_REPEATED_INSIDE))],
        # of shuffled rows they say nothing
        write_statistics=False,
        # without Arrow's own schema readers find plain texts, not this program's dictionaries
        store_schema=False,
    )


def _paths(name: str, kind: pa.DataType) -> Iterator[str]:
    """Yield the paths that Parquet has for a column: one for each type of value inside."""
    if pa.types.is_large_list(kind):
        yield from _paths(f"{name}.list.element", kind.value_type)
    elif pa.types.is_struct(kind):
        for field in kind:
            yield from _paths(f"{name}.{field.name}", field.type)
    else:
        yield name


def _repeating(rows: pa.Table) -> list[str]:
    """Return the columns of texts of which fewer than half are different."""
    texts = [field.name for field in rows.schema if pa.types.is_large_string(field.type)]
    different = {name: pc.count_distinct(rows[name]).as_py() for name in texts}
    return [*REPEATED, *(name for name, count in different.items() if count * 2 < len(rows))]


@dataclass
class _HashedFile:
    """A file that hashes what is written to it."""

    file: BinaryIO
    sha256: "hashlib._Hash" = field(default_factory=hashlib.sha256)
    closed: bool = False

    def write(self, content: bytes) -> int:
        self.sha256.update(content)
        return self.file.write(content)

    def flush(self) -> None:
        self.file.flush()

    def close(self) -> None:
        """Do nothing: who opened the file closes it."""


Written = Mapping[str, WrittenSplit]
