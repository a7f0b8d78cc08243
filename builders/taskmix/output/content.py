"""A hash of rows' content, in order, that depends on neither the Parquet writer nor how the rows are cut into files.

The rows are taken in blocks of `BLOCK_ROWS`, counted from the split's first row. In a block every column is one or a
few streams of bytes, in the order of the rows, each with a SHA-256 of its own:

- of a column with nulls a byte a row: 1 where there is a value, 0 for null; the others are about values alone;
- whole numbers: their bytes, little-endian;
- texts: the bytes that each has (uint32, little-endian), and their UTF-8, one after the other;
- lists: the items that each has (uint32, little-endian), and the streams of the items;
- mappings: the streams of their fields;
- texts of the columns in `REPEATED`: the different ones in the order in which they come, as texts, and for each row
  which it is (int32, little-endian).

A block's hash is the SHA-256 of its streams' names and hashes, sorted by name; that of the content is the SHA-256 of
the blocks' hashes, in order.
"""

import hashlib
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import DTypeLike, NDArray

BLOCK_ROWS = 25_000
REPEATED = ("task", "cluster", "template", "style", "source_split")

Stream = tuple[str, memoryview]


def content_hash(blocks: Iterable[bytes]) -> str:
    """Return the hash of a split's rows, in hex, from the hashes of its blocks in order."""
    return hashlib.sha256(b"".join(blocks)).hexdigest()


def block_hash(rows: pa.Table) -> bytes:
    """Return the hash of a block of rows, whose `REPEATED` columns may be dictionaries with the words as they come."""
    lines = []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        array = column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
        if name in REPEATED and not pa.types.is_dictionary(array.type):
            array = array.dictionary_encode()
        lines += [f"{stream} {hashlib.sha256(content).hexdigest()}\n" for stream, content in _streams(name, array)]
    return hashlib.sha256("".join(sorted(lines)).encode()).digest()


def _streams(name: str, column: pa.Array) -> Iterator[Stream]:
    values, kind = column, column.type
    if column.null_count:
        yield f"{name} present", _present(column).data
        values = column.drop_null()
    if pa.types.is_dictionary(kind):
        yield from _streams(f"{name} words", values.dictionary)
        yield from _streams(name, values.indices)
    elif pa.types.is_large_string(kind):
        bounds, content = _numbers(values, np.int64, 1), values.buffers()[2]
        yield f"{name} lengths", _little(np.diff(bounds).astype(np.uint32))
        yield name, memoryview(content or b"")[bounds[0] : bounds[-1]]
    elif pa.types.is_large_list(kind):
        yield f"{name} lengths", _little(np.diff(_numbers(values, np.int64, 1)).astype(np.uint32))
        yield from _streams(f"{name}[]", values.flatten())
    elif pa.types.is_struct(kind):
        for index, inside in enumerate(values.flatten()):
            yield from _streams(f"{name}.{kind.field(index).name}", inside)
    else:
        assert pa.types.is_integer(kind), (name, kind)
        yield name, _little(_numbers(values, np.dtype(str(kind))))


def _little(numbers: "NDArray[np.generic]") -> memoryview:
    return numbers.astype(numbers.dtype.newbyteorder("<"), copy=False).data


def _numbers(array: pa.Array, dtype: "DTypeLike", more: int = 0) -> "NDArray[np.integer[Any]]":
    """Return the numbers of an array's second buffer, which has `more` than the array has values.

    Arrow's own way to NumPy imports pandas.
    """
    buffer = array.buffers()[1]
    if buffer is None or not buffer.size:
        return np.zeros(len(array) + more, dtype)
    return np.frombuffer(buffer, dtype)[array.offset : array.offset + len(array) + more]


def _present(array: pa.Array) -> "NDArray[np.uint8]":
    """Return 1 for every value and 0 for every null."""
    bits = np.frombuffer(array.buffers()[0], np.uint8)
    return np.unpackbits(bits, bitorder="little")[array.offset : array.offset + len(array)]
