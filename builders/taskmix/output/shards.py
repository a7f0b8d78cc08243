"""Shuffling without holding a split in memory: buckets on disk by the shuffle hash, each sorted into a shard.

A shard is a pure function of the plan: which rows it holds follows from their hashes, and their order too.
"""

import hashlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import polars as pl
import pyarrow as pa

from taskmix import hashing
from taskmix.output.formats import ORDER

ROWS_PER_SHARD = 250_000
ROW_GROUP_ROWS = 10_000
_HASHES = 2**64


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


@dataclass
class Buckets:
    """Receives a split's examples in any order; `write_shards` writes them in shuffled order.

    `folder` holds temporary files; `rows` is how many examples will come.
    """

    folder: Path
    split: str
    rows: int
    _writers: dict[int, pa.RecordBatchStreamWriter] = field(default_factory=dict)

    @property
    def count(self) -> int:
        """Return the number of buckets, which is that of shards."""
        return max(1, -(-self.rows // ROWS_PER_SHARD))

    def add(self, examples: pl.DataFrame) -> None:
        """Append examples (with `order`) to the buckets that their hashes name."""
        if self.count == 1:
            self._append(0, examples)
            return
        width = -(-_HASHES // self.count)
        numbered = examples.with_columns(bucket=pl.col(ORDER) // pl.lit(width, dtype=pl.UInt64))
        for (bucket,), rows in numbered.partition_by("bucket", as_dict=True, include_key=False).items():
            self._append(int(bucket), rows)

    def write_shards(self, root: Path) -> WrittenSplit:
        """Sort every bucket and write it as `data/SPLIT-0000I-of-0000N.parquet` below `root`."""
        for writer in self._writers.values():
            writer.close()
        content, shards = hashlib.sha256(), []
        (root / "data").mkdir(exist_ok=True)
        for index in range(self.count):
            path = f"data/{self.split}-{index:05}-of-{self.count:05}.parquet"
            if index not in self._writers:
                # every shard has rows: a few hundred thousand hashes leave no band of them empty
                raise AssertionError((self.split, index, self.rows))
            rows = pl.read_ipc_stream(self._file(index)).sort(ORDER, "id").drop(ORDER)
            self._file(index).unlink()
            write_parquet(rows, root / path)
            for part in rows.iter_slices(ROW_GROUP_ROWS):
                content.update("\n".join(part.select(pl.struct(pl.all()).struct.json_encode()).to_series()).encode())
                content.update(b"\n")
            shards.append(describe(root, path, len(rows)))
        return WrittenSplit(tuple(shards), content.hexdigest())

    def _append(self, bucket: int, rows: pl.DataFrame) -> None:
        table = rows.to_arrow(compat_level=pl.CompatLevel.oldest())
        if bucket not in self._writers:
            self._writers[bucket] = pa.ipc.new_stream(str(self._file(bucket)), table.schema)
        self._writers[bucket].write_table(table)

    def _file(self, bucket: int) -> Path:
        return self.folder / f"{self.split}-{bucket:05}.arrow"


def write_parquet(rows: pl.DataFrame, path: Path) -> None:
    """Write rows so that the same rows give the same bytes, and are on the disk when this returns."""
    try:
        # a fixed row group size: the default depends on how the frame happens to be chunked
        rows.rechunk().write_parquet(path, compression="zstd", row_group_size=ROW_GROUP_ROWS)
    except (pl.exceptions.ComputeError, OSError) as error:
        raise _system_error(error) or error from None
    sync(path)


def _system_error(error: Exception) -> OSError | None:
    """Return the system's error behind one of Polars, which hides its number and calls a full disk a broken file."""
    code = re.search(r"\(os error (\d+)\)", str(error))
    return OSError(int(code[1]), os.strerror(int(code[1]))) if code else None


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
