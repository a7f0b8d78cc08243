"""Local data files: how each format is scanned without losing anything.

The readers of Polars are fast and lenient; what they would change in silence is looked for first and refused: JSON
whose types differ from row to row (`jsonrows` has the list), rows of ragged or CR-only CSV, empty lines of CSV (read as
rows), text after a closing quote (dropped), duplicate columns, Arrow streams that are cut off.
"""

import csv
import functools
import glob
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import polars as pl

from taskmix.errors import SourceError
from taskmix.sources import jsonrows
from taskmix.sources.finding import EXTENSIONS
from taskmix.text import quoted, shown, visible

_BOM = b"\xef\xbb\xbf"
_END_OF_STREAM = b"\xff\xff\xff\xff\0\0\0\0"
_LONGEST_FIELD = 2**31 - 1

T = TypeVar("T")

# By default Polars reads row groups ahead, more of them the more there are: several hundred megabytes of short rows,
# which those who render them have no use for yet. It looks at this whenever a scan begins.
os.environ.setdefault("POLARS_ROW_GROUP_PREFETCH_SIZE", "1")


def scan(files: Sequence[Path]) -> pl.LazyFrame:
    """Return a lazy frame over files of one format.

    Raises:
        SourceError: a file is missing, corrupt, or of an unknown or mixed format; with its name and line.
    """
    kinds = {file.suffix for file in files}
    if len(kinds) > 1 or not kinds <= set(EXTENSIONS):
        listed = ", ".join(sorted(kinds))
        hint = f"one of {', '.join(EXTENSIONS)} a split"
        raise SourceError(f"cannot read {listed} files", where=shown(files[0]), hint=hint)
    stamps = tuple((file, stat.st_mtime_ns, stat.st_size) for file in files if (stat := _stat(file)))
    return guarded(files, lambda: _scan(stamps))


@functools.lru_cache(maxsize=256)
def _scan(stamps: tuple[tuple[Path, int, int], ...]) -> pl.LazyFrame:
    """Scan files, and check those of text formats, once for each state that they are in."""
    files = [file for file, _, _ in stamps]
    return _READERS[files[0].suffix](files)


def _stat(file: Path) -> os.stat_result:
    try:
        return file.stat()
    except OSError as error:
        raise SourceError(f"cannot be read: {error.strerror}", where=shown(file)) from None


def guarded(files: Sequence[Path], action: Callable[[], T]) -> T:
    """Run what reads the files, turning the reader's errors into one that names the file at fault."""
    try:
        return action()
    except (pl.exceptions.PolarsError, pl.exceptions.PanicException, OSError) as error:
        # the Arrow reader panics on some corrupt files
        message, file = _blame(files, error)
        raise SourceError(message, where=file) from None


def _blame(files: Sequence[Path], error: Exception) -> tuple[str, str]:
    """Return a message and the file that it is about: the first that cannot be read alone."""
    message = visible(str(error).splitlines()[0] if str(error) else type(error).__name__)[:300]
    for file in files:
        if not file.is_file():
            return "no such file", shown(file)
        if not _readable(file):
            return f"cannot be read: {message}", shown(file)
    return f"cannot be read: {message}", shown(files[0])


def _readable(file: Path) -> bool:
    try:
        _READERS[file.suffix]([file]).collect(engine="streaming")
    except (Exception, pl.exceptions.PanicException):
        return False
    return True


def _scan_parquet(files: Sequence[Path]) -> pl.LazyFrame:
    return pl.scan_parquet(list(files), glob=False, hive_partitioning=False)


def _scan_arrow(files: Sequence[Path]) -> pl.LazyFrame:
    try:
        frame = pl.scan_ipc(list(files), glob=False, hive_partitioning=False)
        frame.collect_schema()
    except pl.exceptions.ComputeError:
        # what `datasets` keeps in its cache is the streaming form
        return pl.concat([_read_stream(file) for file in files]).lazy()
    return frame


def _read_stream(file: Path) -> pl.DataFrame:
    """Read a stream, whose end mark alone tells that no batch is missing."""
    frame = pl.read_ipc_stream(file)
    with file.open("rb") as stream:
        stream.seek(-len(_END_OF_STREAM), os.SEEK_END)
        if stream.read() != _END_OF_STREAM:
            raise SourceError("the Arrow stream has no end mark", where=shown(file), hint="is the file cut off?")
    return frame


def _scan_jsonl(files: Sequence[Path]) -> pl.LazyFrame:
    place = jsonrows.Place()
    for file in files:
        rows = 0
        for number, line in _lines(file):
            if line.strip():
                _check_json_line(place, file, number, line)
                rows += 1
        if not rows:
            raise SourceError("the file has no rows", where=shown(file), hint="one JSON object {…} a line")
    # this reader alone takes every path for a pattern
    return pl.scan_ndjson([glob.escape(str(file)) for file in files], schema=place.schema())


def _check_json_line(place: jsonrows.Place, file: Path, number: int, line: bytes) -> None:
    """Refuse a line that is not an object, or that Polars would misread."""
    stripped = line.strip()
    if stripped[:1] != b"{" or stripped[-1:] != b"}":
        where = f"{shown(file)}:{number}"
        raise SourceError("not a JSON object", where=where, hint="one object {…} a line; is the file cut off?")
    try:
        place.check(jsonrows.decode(stripped.decode()))
    except ValueError as error:
        raise SourceError(visible(str(error)), where=f"{shown(file)}:{number}") from None


def _scan_json(files: Sequence[Path]) -> pl.LazyFrame:
    """Read lists of objects whole, and hand them to the reader of JSONL, so that both formats mean the same."""
    place = jsonrows.Place()
    lines: list[str] = []
    for file in files:
        text = b"".join(line for _, line in _lines(file)).decode()
        try:
            value = jsonrows.decode(text)
            if isinstance(value, dict) and len(lists := [v for v in value.values() if isinstance(v, list)]) == 1:
                value = lists[0]
            if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
                raise SourceError("not a list of objects", where=shown(file), hint="[{…}, {…}]")
            if not value:
                raise SourceError("the file has no rows", where=shown(file), hint="[{…}, {…}]")
        except ValueError as error:
            raise SourceError(visible(str(error)), where=shown(file)) from None
        for number, row in enumerate(value):
            try:
                place.check(row)
            except ValueError as error:
                raise SourceError(visible(str(error)), where=f"{shown(file)}: row {number}") from None
            lines.append(json.dumps(row))
    return pl.read_ndjson("\n".join(lines).encode(), schema=place.schema()).lazy()


def _scan_csv(files: Sequence[Path]) -> pl.LazyFrame:
    """Scan CSV as text: nothing is guessed, so `007`, `NA` and the empty text stay what they are."""
    for file in files:
        _check_csv(file)
    frames = [pl.scan_csv(file, infer_schema=False, empty_string_is_null=False, glob=False) for file in files]
    return pl.concat(frames, how="vertical")


def _check_csv(file: Path) -> None:
    for _ in _lines(file):
        pass
    allowed = csv.field_size_limit(_LONGEST_FIELD)
    try:
        _check_csv_rows(file)
    finally:
        csv.field_size_limit(allowed)


class _Lines:
    """The lines of a text file, of which it knows the number and the last one."""

    def __init__(self, text: Iterator[str]) -> None:
        self.text, self.number, self.last = text, 0, ""

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        self.last = next(self.text)
        self.number += 1
        return self.last

    def check_end(self, file: Path) -> None:
        """Refuse a row that ends in CR alone, which Polars takes for text."""
        if self.last.endswith("\r"):
            where, hint = f"{shown(file)}:{self.number}", "save it with LF or CRLF line ends"
            raise SourceError("the line ends in CR alone", where=where, hint=hint)


def _check_csv_rows(file: Path) -> None:
    with file.open(encoding="utf-8", newline="") as text:
        lines = _Lines(text)
        reader = csv.reader(lines, strict=True)
        try:
            header = next(reader, None)
            lines.check_end(file)
            if not header:
                raise SourceError(
                    "the file is empty", where=shown(file), hint="a CSV file starts with its column names"
                )
            if repeated := [name for name in header if header.count(name) > 1]:
                raise SourceError(f"two columns are named {quoted(repeated[0])}", where=f"{shown(file)}:1")
            for row in reader:
                lines.check_end(file)
                if len(row) != len(header):
                    found = f"{len(row)} fields where the header has {len(header)}" if row else "an empty line"
                    hint = "quote texts that hold commas or line breaks" if row else 'remove it, or write `""`'
                    raise SourceError(found, where=f"{shown(file)}:{reader.line_num}", hint=hint)
        except csv.Error as error:
            raise SourceError(f"not valid CSV: {error}", where=f"{shown(file)}:{reader.line_num}") from None


def _lines(file: Path) -> Iterator[tuple[int, bytes]]:
    """Yield the lines of a text file, refusing a byte order mark and bad UTF-8."""
    with file.open("rb") as lines:
        for number, line in enumerate(lines, 1):
            if number == 1 and line.startswith(_BOM):
                where, hint = f"{shown(file)}:1", "save it as UTF-8 without BOM"
                raise SourceError("starts with a byte order mark", where=where, hint=hint)
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"{shown(file)}:{number}"
                raise SourceError(f"not UTF-8: {error.reason} at byte {error.start} of the line", where=where) from None
            yield number, line


_READERS: Mapping[str, Callable[[Sequence[Path]], pl.LazyFrame]] = {
    ".parquet": _scan_parquet,
    ".arrow": _scan_arrow,
    ".jsonl": _scan_jsonl,
    ".ndjson": _scan_jsonl,
    ".json": _scan_json,
    ".csv": _scan_csv,
}


def class_names(files: Sequence[Path]) -> Mapping[str, tuple[str, ...]]:
    """Return the ClassLabel names of each column, from the `huggingface` metadata of a Parquet file.

    A list of ClassLabels counts as its items. Other formats, and files without the metadata, have none.
    """
    if files[0].suffix != ".parquet":
        return {}
    metadata = guarded(files[:1], lambda: pl.read_parquet_metadata(files[0])).get("huggingface")
    try:
        features = json.loads(metadata)["info"]["features"] if metadata else {}
    except (ValueError, KeyError, TypeError):
        return {}
    if not isinstance(features, dict):
        return {}
    found = {name: _names_of(feature) for name, feature in features.items()}
    return {name: names for name, names in found.items() if names}


def _names_of(feature: object) -> tuple[str, ...] | None:
    while isinstance(feature, list) and feature:
        feature = feature[0]
    if not isinstance(feature, dict):
        return None
    if feature.get("_type") == "ClassLabel":
        return tuple(str(name) for name in feature.get("names") or ())
    inner = feature.get("feature")
    return _names_of(inner) if feature.get("_type") in ("Sequence", "List", "LargeList") else None
