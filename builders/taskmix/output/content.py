"""A hash of rows' content, in order, that depends on neither the Parquet writer nor how the rows are cut into files.

Every column is one or a few streams of bytes, in the order of the rows, each with a SHA-256 of its own:

- of every column a byte a row: 1 where there is a value, 0 for null; the others are about values alone;
- whole numbers: their bytes, little-endian;
- texts: the bytes that each has (uint32, little-endian), and their UTF-8, one after the other;
- lists: the items that each has (uint32, little-endian), and the streams of the items;
- mappings: the streams of their fields.

The hash of the content is the SHA-256 of all streams' names and hashes, sorted by name.
"""

import hashlib
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass
class ContentHash:
    """Takes rows in order and any number of pieces, which do not matter."""

    _streams: "defaultdict[str, _Hash]" = field(default_factory=lambda: defaultdict(hashlib.sha256))

    def update(self, rows: pl.DataFrame) -> None:
        """Append rows of the columns that all pieces have."""
        for column in rows.iter_columns():
            self._add(column.name, column)

    def hexdigest(self) -> str:
        """Return the hash of all rows so far, in hex."""
        lines = (f"{name} {stream.hexdigest()}\n" for name, stream in sorted(self._streams.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _add(self, name: str, column: pl.Series) -> None:
        self._note(f"{name} present", column.is_not_null().cast(pl.UInt8))
        values = column.drop_nulls() if column.null_count() else column
        if values.dtype == pl.String:
            self._note(f"{name} lengths", values.str.len_bytes().cast(pl.UInt32))
            self._streams[name].update(_joined(values))
        elif isinstance(values.dtype, pl.List):
            lengths = values.list.len()
            self._note(f"{name} lengths", lengths.cast(pl.UInt32))
            self._add(f"{name}[]", values.filter(lengths > 0).explode())
        elif isinstance(values.dtype, pl.Struct):
            for field in values.struct.fields:
                self._add(f"{name}.{field}", values.struct.field(field))
        else:
            assert values.dtype.is_integer(), (name, values.dtype)
            self._note(name, values)

    def _note(self, stream: str, numbers: pl.Series) -> None:
        found = numbers.to_numpy()
        little_endian = np.ascontiguousarray(found, found.dtype.newbyteorder("<"))
        self._streams[stream].update(little_endian.data)


def _joined(texts: pl.Series) -> memoryview:
    """Return the UTF-8 of texts, none of them null, one after the other."""
    array = texts.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest())
    _, offsets, content = array.buffers()
    bounds = np.frombuffer(offsets, np.int64)[array.offset : array.offset + len(array) + 1]
    return memoryview(content or b"")[bounds[0] : bounds[-1]]
