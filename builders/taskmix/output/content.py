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
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from hashlib import _Hash


@dataclass
class ContentHash:
    """Takes rows in order and any number of pieces, which do not matter."""

    _streams: "defaultdict[str, _Hash]" = field(default_factory=lambda: defaultdict(hashlib.sha256))

    def update(self, rows: pa.Table) -> None:
        """Append rows of the columns that all pieces have."""
        for name, column in zip(rows.column_names, rows.columns, strict=True):
            for chunk in column.chunks:
                self._add(name, chunk)

    def hexdigest(self) -> str:
        """Return the hash of all rows so far, in hex."""
        lines = (f"{name} {stream.hexdigest()}\n" for name, stream in sorted(self._streams.items()))
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def _add(self, name: str, column: pa.Array) -> None:
        self._note(f"{name} present", _present(column))
        values = column.drop_null() if column.null_count else column
        kind = values.type
        if pa.types.is_large_string(kind):
            bounds, content = _numbers(values, np.int64, 1), values.buffers()[2]
            self._note(f"{name} lengths", np.diff(bounds).astype(np.uint32))
            self._streams[name].update(memoryview(content or b"")[bounds[0] : bounds[-1]])
        elif pa.types.is_large_list(kind):
            self._note(f"{name} lengths", np.diff(_numbers(values, np.int64, 1)).astype(np.uint32))
            self._add(f"{name}[]", values.flatten())
        elif pa.types.is_struct(kind):
            for index, inside in enumerate(values.flatten()):
                self._add(f"{name}.{kind.field(index).name}", inside)
        else:
            assert pa.types.is_integer(kind), (name, kind)
            self._note(name, _numbers(values, np.dtype(str(kind))))

    def _note(self, stream: str, numbers: "np.typing.NDArray[np.generic]") -> None:
        self._streams[stream].update(numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).data)


def _numbers(array: pa.Array, dtype: "np.typing.DTypeLike", more: int = 0) -> "np.typing.NDArray[np.integer[Any]]":
    """Return the numbers of an array's second buffer, which has `more` than the array has values.

    Arrow's own way to NumPy imports pandas.
    """
    buffer = array.buffers()[1]
    if buffer is None or not buffer.size:
        return np.zeros(len(array) + more, dtype)
    return np.frombuffer(buffer, dtype)[array.offset : array.offset + len(array) + more]


def _present(array: pa.Array) -> "np.typing.NDArray[np.uint8]":
    """Return 1 for every value and 0 for every null."""
    if not array.null_count:
        return np.ones(len(array), np.uint8)
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    return np.unpackbits(bits, bitorder="little")[array.offset : array.offset + len(array)]
