"""Files are read without losing or changing anything, or refused with file and line."""

import csv
import io
import itertools
import json
import math
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import datasets
import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from taskmix.errors import SourceError
from taskmix.frames import SOURCE_ROW
from taskmix.sources import files, jsonrows
from taskmix.sources.finding import find_splits, root_of
from taskmix.sources.opening import BATCH_ROWS, Source

NUMBERS = itertools.count()


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def read(*paths: Path) -> pl.DataFrame:
    return files.guarded(paths, lambda: files.scan(paths).collect(engine="streaming"))


def rows_of(folder: Path, suffix: str, content: str | bytes) -> list[dict[str, Any]]:
    """Return the rows of a new file."""
    return read(write(folder, f"file{next(NUMBERS)}{suffix}", content)).to_dicts()


def refusal(*paths: Path) -> SourceError:
    with pytest.raises(SourceError) as caught:
        read(*paths)
    return caught.value


# -- which files make which split


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(
            ["train.parquet", "validation.parquet"],
            {"train": ["train.parquet"], "validation": ["validation.parquet"]},
            id="one file a split",
        ),
        pytest.param(
            ["train-00001-of-00002.parquet", "train-00000-of-00002.parquet"],
            {"train": ["train-00000-of-00002.parquet", "train-00001-of-00002.parquet"]},
            id="shards, in order",
        ),
        pytest.param(
            ["train_00000_of_00002.jsonl", "train.00001.of.00002.jsonl", "test-00001.jsonl"],
            {"train": ["train.00001.of.00002.jsonl", "train_00000_of_00002.jsonl"], "test": ["test-00001.jsonl"]},
            id="other ways to number",
        ),
        pytest.param(
            ["validation_matched.csv", "validation_mismatched.csv", "validation.csv"],
            {name: [f"{name}.csv"] for name in ("validation", "validation_matched", "validation_mismatched")},
            id="names that begin alike",
        ),
        pytest.param(
            ["test_r1.jsonl", "test_r2.jsonl", "train_r1-00000-of-00001.jsonl"],
            {
                "test_r1": ["test_r1.jsonl"],
                "test_r2": ["test_r2.jsonl"],
                "train_r1": ["train_r1-00000-of-00001.jsonl"],
            },
            id="names that end in a number",
        ),
        pytest.param(["2024-01.json"], {"2024-01": ["2024-01.json"]}, id="a month"),
        pytest.param(["a.b.arrow"], {"a.b": ["a.b.arrow"]}, id="a dot in the name"),
        pytest.param(
            ["train.jsonl", "README.md", "train.txt", ".train.jsonl", "dataset_info.yaml", "train.jsonl.gz"],
            {"train": ["train.jsonl"]},
            id="other and hidden files are left alone",
        ),
    ],
)
def test_files_of_a_folder_by_split(tmp_path: Path, names: list[str], expected: Mapping[str, list[str]]) -> None:
    for name in names:
        write(tmp_path, name, "x")

    found = find_splits(tmp_path)

    assert {split: [path.name for path in paths] for split, paths in found.items()} == expected


def test_a_file_is_a_split_and_so_are_the_files_of_a_glob(tmp_path: Path) -> None:
    for name in ("b/2.jsonl", "a/1.jsonl", "a/2.jsonl", "a/x.csv"):
        write(tmp_path, name, "x")

    assert find_splits(tmp_path / "a/x.csv") == {"train": (tmp_path / "a/x.csv",)}
    assert find_splits(tmp_path / "a/*.jsonl") == {"train": (tmp_path / "a/1.jsonl", tmp_path / "a/2.jsonl")}
    assert find_splits(tmp_path / "**/2.jsonl") == {"train": (tmp_path / "a/2.jsonl", tmp_path / "b/2.jsonl")}


@pytest.mark.parametrize("suffix", [".jsonl", ".ndjson", ".json", ".csv", ".parquet", ".arrow"])
@pytest.mark.parametrize(("name", "taken"), [("[1]", "1"), ("a*", "ab"), ("a?", "ab"), ("[x]*", "xy"), ("{a,b}", "a")])
def test_a_name_with_the_characters_of_a_pattern_is_a_name(tmp_path: Path, suffix: str, name: str, taken: str) -> None:
    for stem, value in ((name, "right"), (taken, "wrong")):
        frame, path = pl.DataFrame({"a": [value]}), tmp_path / "f[2]" / f"{stem}{suffix}"
        path.parent.mkdir(exist_ok=True)
        if suffix in (".parquet", ".arrow"):
            (frame.write_parquet if suffix == ".parquet" else frame.write_ipc)(path)
        elif suffix == ".csv":
            path.write_text(frame.write_csv())
        else:
            path.write_text(json.dumps(frame.to_dicts() if suffix == ".json" else frame.to_dicts()[0]))
    path = tmp_path / "f[2]" / f"{name}{suffix}"

    assert find_splits(path) == {"train": (path,)}
    assert read(path).to_dicts() == [{"a": "right"}]


@pytest.mark.parametrize("name", ["nope", "nope.jsonl", "*.parquet"])
def test_what_is_not_there_is_an_error(tmp_path: Path, name: str) -> None:
    with pytest.raises(SourceError, match="no such file") as caught:
        find_splits(tmp_path / name)
    assert caught.value.where.endswith(name)


def test_a_folder_without_data_is_an_error(tmp_path: Path) -> None:
    write(tmp_path, "README.md", "x")

    with pytest.raises(SourceError, match="no data files"):
        find_splits(tmp_path)


@pytest.mark.parametrize(
    ("path", "root"),
    [("d", "d"), ("d/a.jsonl", "d"), ("d/*.jsonl", "d"), ("d/*/x/*.jsonl", "d"), ("d/**/*.jsonl", "d")],
)
def test_the_root_of_a_source_is_the_folder_above_its_files(tmp_path: Path, path: str, root: str) -> None:
    write(tmp_path, "d/a.jsonl", "x")

    assert root_of(tmp_path / path) == tmp_path / root


def test_formats_of_a_split_are_not_mixed(tmp_path: Path) -> None:
    one, other = write(tmp_path, "a.jsonl", '{"a": 1}\n'), write(tmp_path, "a.csv", "a\n1\n")

    assert ".csv, .jsonl" in refusal(one, other).message


@pytest.mark.parametrize("name", ["train.txt", "train", "train.jsonl.gz", "train.PARQUET"])
def test_other_formats_are_refused(tmp_path: Path, name: str) -> None:
    error = refusal(write(tmp_path, name, '{"a": 1}\n'))

    assert "cannot read" in error.message
    assert name in error.where


def test_a_file_that_went_away_is_named(tmp_path: Path) -> None:
    assert refusal(tmp_path / "train.parquet").where.endswith("train.parquet")


# -- what is written is read

ROWS: list[dict[str, Any]] = [
    {"id": 2**53 + 1, "text": 'naïve \U0001f600\n\t"q" \\', "x": 0.1, "ok": True, "tags": ["a", ""], "of": {"k": "v"}},
    {"id": -(2**63), "text": "", "x": -0.0, "ok": False, "tags": [], "of": {"k": ""}},
    {"id": 2**63 - 1, "text": "\u2028 \x7f 007 NA", "x": 1e-300, "ok": None, "tags": ["null"], "of": {"k": None}},
    {"id": None, "text": None, "x": None, "ok": None, "tags": None, "of": None},
]
EMPTY_OF = {"k": None}


def _json_lines(path: Path) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in ROWS), "utf-8")


def _json_lines_unescaped(path: Path) -> None:
    path.write_text("\r\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS), "utf-8", newline="")


def _arrow(path: Path, new: Callable[..., Any]) -> None:
    table = pa.Table.from_pylist(ROWS)
    with pa.OSFile(str(path), "wb") as file, new(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=2)


def _saved(path: Path) -> None:
    """Write a stream as `datasets` keeps it in its cache and in `save_to_disk`."""
    folder = path.parent / "saved"
    datasets.Dataset.from_list(ROWS).save_to_disk(folder)
    (folder / "data-00000-of-00001.arrow").rename(path)


WRITERS: Mapping[str, tuple[str, Callable[[Path], object]]] = {
    "parquet": (".parquet", lambda path: pl.DataFrame(ROWS).write_parquet(path)),
    "parquet by datasets": (".parquet", lambda path: datasets.Dataset.from_list(ROWS).to_parquet(path)),
    "jsonl": (".jsonl", _json_lines),
    "jsonl with CRLF, without the last line end": (".jsonl", _json_lines_unescaped),
    "jsonl by datasets": (".jsonl", lambda path: datasets.Dataset.from_list(ROWS).to_json(path)),
    "ndjson": (".ndjson", _json_lines),
    "json": (".json", lambda path: path.write_text(json.dumps(ROWS), "utf-8")),
    "json, indented": (".json", lambda path: path.write_text(json.dumps(ROWS, indent=2), "utf-8")),
    "json under a key": (".json", lambda path: path.write_text(json.dumps({"version": "1", "data": ROWS}), "utf-8")),
    "arrow file": (".arrow", lambda path: _arrow(path, pa.ipc.new_file)),
    "arrow stream": (".arrow", lambda path: _arrow(path, pa.ipc.new_stream)),
    "arrow stream by datasets": (".arrow", _saved),
}


@pytest.mark.parametrize("form", WRITERS)
def test_every_format_gives_back_what_was_written(tmp_path: Path, form: str) -> None:
    suffix, writer = WRITERS[form]
    path = tmp_path / f"train{suffix}"
    writer(path)

    found = read(path)

    # JSON has no null for a whole mapping that readers agree on: one with null fields is the same to a template
    assert [{**row, "of": row["of"] or EMPTY_OF} for row in found.to_dicts()] == [
        {**row, "of": row["of"] or EMPTY_OF} for row in ROWS
    ]
    if form != "jsonl by datasets":
        # which writes -0.0 as 0.0
        assert [math.copysign(1, x) for x in found["x"].drop_nulls()] == [1, -1, 1]
    assert found.schema == {
        "id": pl.Int64,
        "text": pl.String,
        "x": pl.Float64,
        "ok": pl.Boolean,
        "tags": pl.List(pl.String),
        "of": pl.Struct({"k": pl.String}),
    }


def test_shards_are_read_in_order(tmp_path: Path) -> None:
    paths = [write(tmp_path, f"train-0000{n}-of-00003.jsonl", f'{{"a": {n}}}\n') for n in (2, 0, 1)]
    source = Source("data", tmp_path, find_splits(tmp_path))

    (batch,) = source.batches("train", ["a"])

    assert len(paths) == 3
    assert batch.to_dicts() == [{SOURCE_ROW: n, "a": n} for n in range(3)]
    assert batch.schema[SOURCE_ROW] == pl.UInt64


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl", ".csv", ".arrow"])
def test_rows_are_numbered_over_batches(tmp_path: Path, suffix: str) -> None:
    count = 2 * BATCH_ROWS + 5
    frame = pl.DataFrame({"a": range(count), "b": ["x"] * count})
    path = tmp_path / f"train{suffix}"
    if suffix == ".csv":
        frame.write_csv(path)
    elif suffix == ".jsonl":
        frame.write_ndjson(path)
    else:
        (frame.write_parquet if suffix == ".parquet" else frame.write_ipc)(path)
    source = Source("data", tmp_path, find_splits(tmp_path))

    batches = list(source.batches("train", ["a"]))

    assert max(map(len, batches)) <= BATCH_ROWS
    whole = pl.concat(batches)
    assert whole.columns == [SOURCE_ROW, "a"]
    assert whole[SOURCE_ROW].to_list() == list(range(count))
    assert whole["a"].cast(pl.Int64).to_list() == list(range(count))


# -- JSON


def lines(*rows: str) -> str:
    return "".join(row + "\n" for row in rows)


READ_RIGHT = {
    "a column that appears late": (['{"a": 1}'] * 3000 + ['{"a": 2, "b": "x"}'], [{"a": 2, "b": "x"}]),
    "a field that appears late": (['{"a": {"k": 1}}', '{"a": {"l": 2}}'], [{"a": {"k": None, "l": 2}}]),
    "a field of a list's items that appears late": (
        ['{"a": [{"k": 1}]}', '{"a": [{"l": "x"}]}'],
        [{"a": [{"k": None, "l": "x"}]}],
    ),
    "a column that is null at first": (['{"a": null}'] * 3000 + ['{"a": "x"}'], [{"a": "x"}]),
    "a list that is empty at first": (['{"a": []}', '{"a": ["x"]}'], [{"a": ["x"]}]),
    "a large whole number": (['{"a": 9007199254740993}'], [{"a": 9007199254740993}]),
    "a larger one": (['{"a": 1}', '{"a": 18446744073709551616}'], [{"a": 18446744073709551616}]),
    "whole numbers and fractions": (['{"a": 1}', '{"a": 0.1}'], [{"a": 0.1}]),
    "fractions and whole numbers": (['{"a": 0.1}', '{"a": 9007199254740992}'], [{"a": 9007199254740992.0}]),
    "a date": (['{"a": "2024-01-31"}', '{"a": "2024-01-31T00:00:00"}'], [{"a": "2024-01-31T00:00:00"}]),
    "digits": (['{"a": "007"}', '{"a": "1e5"}'], [{"a": "1e5"}]),
    "words for nothing": (['{"a": "NA"}', '{"a": "null"}'], [{"a": "null"}]),
    "a whole surrogate pair": (['{"a": "\\ud83d\\ude00"}'], [{"a": "\U0001f600"}]),
    "what looks like half of one": (['{"a": "\\\\ud800"}'], [{"a": "\\ud800"}]),
    "an escaped NUL": (['{"a": "x\\u0000y"}'], [{"a": "x\0y"}]),
    "characters that end no line": (['{"a": "x\u2028\u0085y"}'], [{"a": "x\u2028\u0085y"}]),
    "spaces around": (['  {"a" : 1 }\t'], [{"a": 1}]),
    "no fields": (['{"a": {}}'], [{"a": {}}]),
    "a key with a dot": (['{"a.b": 1}'], [{"a.b": 1}]),
    "an empty key": (['{"": 1}'], [{"": 1}]),
}


@pytest.mark.parametrize("case", READ_RIGHT)
@pytest.mark.parametrize("suffix", [".jsonl", ".json"])
def test_json_is_read_right(tmp_path: Path, case: str, suffix: str) -> None:
    rows, last = READ_RIGHT[case]
    content = lines(*rows) if suffix == ".jsonl" else f"[{','.join(rows)}]"

    found = rows_of(tmp_path, suffix, content)

    assert len(found) == len(rows)
    assert found[-1:] == last


def test_blank_lines_of_jsonl_are_no_rows(tmp_path: Path) -> None:
    assert rows_of(tmp_path, ".jsonl", '\n{"a": 1}\n\n  \r\n{"a": 2}\n\n') == [{"a": 1}, {"a": 2}]


FAULTY_ROWS = {
    "text for a number": ('{"a": "x"}', "'a' is a text"),
    "a number's digits as text": ('{"a": "1"}', "'a' is a text"),
    "a truth value for a number": ('{"a": true}', "'a' is true or false"),
    "a list for a number": ('{"a": [1]}', "'a' is a list"),
    "an object for a number": ('{"a": {}}', "'a' is an object"),
    "a text in a list of numbers": ('{"a": 1, "b": [1, "x"]}', "'b[]' is a text"),
    "a text in a field of a number": ('{"a": 1, "c": {"k": "x"}}', "'c.k' is a text"),
    "a list in a list": ('{"a": 1, "b": [[1]]}', "'b[]' is a list"),
    "a fraction beside a large number": ('{"a": 1, "d": 0.5}', "'d' is a fraction"),
    "a number of more than 128 bits": ('{"a": 1, "e": 1' + "0" * 50 + "}", "128 bits"),
    "a fraction too large to hold": ('{"a": 1, "e": 1e400}', "too large"),
    "NaN": ('{"a": NaN}', "NaN"),
    "Infinity": ('{"a": 1, "e": Infinity}', "Infinity"),
    "-Infinity": ('{"a": 1, "e": -Infinity}', "-Infinity"),
    "a key twice": ('{"a": 1, "a": 2}', "'a' stands twice"),
    "a key twice, further in": ('{"a": 1, "c": {"k": 1, "k": 1}}', "'k' stands twice"),
    "a lone high surrogate": ('{"a": 1, "t": "\\ud800"}', "surrogate"),
    "a lone low surrogate": ('{"a": 1, "t": "\\udc00"}', "surrogate"),
    "surrogates in the wrong order": ('{"a": 1, "t": "\\ude00\\ud83d"}', "surrogate"),
    "a surrogate pair with a letter between": ('{"a": 1, "t": "\\ud83dx\\ude00"}', "surrogate"),
    "a lone surrogate in capitals": ('{"a": 1, "t": "\\uDBFF"}', "surrogate"),
    "a lone surrogate in a key": ('{"a": 1, "\\ud800": 1}', "surrogate"),
    "deep lists": ('{"a": 1, "n": ' + "[" * 100_000 + "]" * 100_000 + "}", "nested deeper"),
    "deep objects": ('{"a": 1, "n": ' + '{"k":' * 100_000 + "1" + "}" * 100_001, "nested deeper"),
    "objects deep enough to crash the reader": ('{"a": 1, "n": ' + '{"k":' * 900 + "1" + "}" * 901, "nested deeper"),
    "a comma too many": ('{"a": 1,}', "not valid JSON"),
    "single quotes": ("{'a': 1}", "not valid JSON"),
    "a leading zero": ('{"a": 01}', "not valid JSON"),
    "no value": ('{"a": }', "not valid JSON"),
    "a tab in a text": ('{"a": 1, "t": "x\ty"}', "not valid JSON"),
    "a comment": ('{"a": 1 /* one */}', "not valid JSON"),
    "a bad escape": ('{"a": 1, "t": "\\x41"}', "not valid JSON"),
}
GOOD_ROW = '{"a": 1, "b": [1], "c": {"k": 1}, "d": 9007199254740993}'


@pytest.mark.parametrize("case", FAULTY_ROWS)
def test_what_jsonl_would_be_misread_is_refused_with_its_line(tmp_path: Path, case: str) -> None:
    row, shown = FAULTY_ROWS[case]

    error = refusal(write(tmp_path, "train.jsonl", lines(GOOD_ROW, "", row, GOOD_ROW)))

    assert error.where == f"{tmp_path}/train.jsonl:3"
    assert shown in error.message


@pytest.mark.parametrize("case", FAULTY_ROWS)
def test_what_json_would_be_misread_is_refused_with_its_file(tmp_path: Path, case: str) -> None:
    row, shown = FAULTY_ROWS[case]

    error = refusal(write(tmp_path, "train.json", f"[{GOOD_ROW}, {row}]"))

    assert error.where in (f"{tmp_path}/train.json", f"{tmp_path}/train.json: row 1")
    assert shown in error.message


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [
        pytest.param('{"a": 1}\n{"a": 2, "b', 2, "cut off", id="cut off"),
        pytest.param('{"a": 1}\n{"a": "x', 2, "cut off", id="cut off in a text"),
        pytest.param('{"a": {"k": 1}}\n{"a": {"k": 1}', 2, "JSON", id="cut off before the last brace"),
        pytest.param('{"a": 1}\n[1]\n', 2, "not a JSON object", id="a list"),
        pytest.param('{"a": 1}\nnull\n', 2, "not a JSON object", id="null"),
        pytest.param('{"a": 1}{"a": 2}\n', 1, "JSON", id="two objects on a line"),
        pytest.param('{"a": 1} {"a": 2}\n', 1, "JSON", id="two objects with a space"),
        pytest.param('{"a": 1}\r{"a": 2}\r', 1, "JSON", id="lines that end in CR alone"),
        pytest.param('{\n"a": 1\n}\n', 1, "not a JSON object", id="an indented object"),
        pytest.param('[{"a": 1}]', 1, "not a JSON object", id="a list of objects"),
        pytest.param("a,b\n1,2\n", 1, "not a JSON object", id="CSV"),
        pytest.param('\ufeff{"a": 1}\n', 1, "byte order mark", id="byte order mark"),
        pytest.param(b'{"a": "x"}\n{"a": "\xff"}\n', 2, "not UTF-8", id="bad UTF-8"),
        pytest.param(b'{"a": "\xed\xa0\x80"}\n', 1, "not UTF-8", id="a surrogate as UTF-8"),
        pytest.param('{"a": 1}\n'.encode("utf-16"), 1, "", id="UTF-16"),
        pytest.param('{"a": 1}\n{"a": "x"}', 2, "a text", id="the last line without its end"),
        pytest.param(b"\x1f\x8b\x08\0\0", 1, "", id="gzip under another name"),
    ],
)
def test_a_faulty_jsonl_file_is_refused_with_the_line(
    tmp_path: Path, content: str | bytes, line: int, shown: str
) -> None:
    error = refusal(write(tmp_path, "train.jsonl", content))

    assert error.where == f"{tmp_path}/train.jsonl:{line}"
    assert shown in str(error)


@pytest.mark.parametrize("content", ["", "\n", " \n\r\n"])
def test_a_jsonl_file_without_rows_is_refused(tmp_path: Path, content: str) -> None:
    error = refusal(write(tmp_path, "train.jsonl", content))

    assert "no rows" in error.message
    assert error.where == f"{tmp_path}/train.jsonl"


@pytest.mark.parametrize(
    ("content", "shown"),
    [
        ("", "not valid JSON"),
        ("[]", "no rows"),
        ('{"data": []}', "no rows"),
        ("{}", "not a list of objects"),
        ("[1, 2]", "not a list of objects"),
        ('["a"]', "not a list of objects"),
        ('[{"a": 1}, null]', "not a list of objects"),
        ('{"a": [{}], "b": [{}]}', "not a list of objects"),
        ("1", "not a list of objects"),
        ('[{"a": 1}', "not valid JSON"),
        ('[{"a": 1},\n {"a": 2]', "line 2"),
        ('{"a": 1}\n{"a": 2}\n', "line 2"),
        ("[" * 100_000, "nested deeper"),
        ("9" * 5000, "digits"),
        ('\ufeff[{"a": 1}]', "byte order mark"),
        (b'[{"a": "\xff"}]', "not UTF-8"),
    ],
)
def test_a_faulty_json_file_is_refused(tmp_path: Path, content: str | bytes, shown: str) -> None:
    error = refusal(write(tmp_path, "train.json", content))

    assert error.where.startswith(f"{tmp_path}/train.json")
    assert shown in error.message


def test_types_must_agree_over_the_files_of_a_split(tmp_path: Path) -> None:
    one, other = write(tmp_path, "a-00000.jsonl", '{"a": 1}\n'), write(tmp_path, "a-00001.jsonl", '{"a": "x"}\n')

    error = refusal(one, other)

    assert error.where == f"{other}:1"
    assert "'a' is a text, but a whole number before" in error.message


def test_a_column_that_only_a_later_file_has_is_kept(tmp_path: Path) -> None:
    one, other = write(tmp_path, "a-0.jsonl", '{"a": 1}\n'), write(tmp_path, "a-1.jsonl", '{"a": 0.5, "b": [{}]}\n')

    assert read(one, other).to_dicts() == [{"a": 1.0, "b": None}, {"a": 0.5, "b": [{}]}]


def test_hostile_names_are_shown_escaped(tmp_path: Path) -> None:
    error = refusal(write(tmp_path, "train.jsonl", '{"\\u001b[31m": 1, "\\u001b[31m": 2}\n'))

    assert "\x1b" not in str(error)


Shape = tuple[str, Any]
SCALARS: Mapping[str, st.SearchStrategy[Any]] = {
    "text": st.text(max_size=4),
    "whole": st.integers(-(2**53), 2**53),
    "large": st.sampled_from([0, 2**53 + 1, -(2**63), 2**63 - 1, 2**64, 2**127 - 1, -(2**127)]),
    "fraction": st.floats(allow_nan=False, allow_infinity=False),
    "truth": st.booleans(),
    "nothing": st.none(),
}
SHAPES: st.SearchStrategy[Shape] = st.recursive(
    st.tuples(st.sampled_from(sorted(SCALARS)), st.none()),
    lambda inner: (
        st.tuples(st.just("list"), inner)
        | st.tuples(st.just("object"), st.dictionaries(st.sampled_from(["k", "l", "m.n", ""]), inner, min_size=1))
    ),
    max_leaves=5,
)


def values_of(shape: Shape) -> st.SearchStrategy[Any]:
    kind, inner = shape
    if kind == "list":
        return st.none() | st.lists(values_of(inner), max_size=3)
    if kind == "object":
        return st.none() | st.fixed_dictionaries({}, optional={key: values_of(of) for key, of in inner.items()})
    return st.none() | SCALARS[kind]


def without_nulls(value: Any) -> Any:
    """Leave out the fields that are null, since a row without a field is one in which it is null."""
    if isinstance(value, dict):
        return {key: kept for key, item in value.items() if (kept := without_nulls(item)) is not None}
    return [without_nulls(item) for item in value] if isinstance(value, list) else value


@given(data=st.data())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
def test_rows_of_one_shape_are_read_exactly(tmp_path: Path, data: st.DataObject) -> None:
    shape = data.draw(st.dictionaries(st.sampled_from("abc"), SHAPES, min_size=1))
    row = st.fixed_dictionaries({}, optional={key: values_of(of) for key, of in shape.items()})
    rows = data.draw(st.lists(row, min_size=1, max_size=6))
    cut = data.draw(st.integers(1, len(rows)))
    escaped = data.draw(st.booleans())
    parts = [part for part in (rows[:cut], rows[cut:]) if part]
    for suffix, between in ((".jsonl", "\n"), (".json", ",\n")):
        paths = []
        for part in parts:
            content = between.join(json.dumps(each, ensure_ascii=escaped) for each in part)
            content = f"[{content}]" if suffix == ".json" else content
            paths.append(write(tmp_path, f"part{next(NUMBERS)}{suffix}", content))

        assert without_nulls(read(*paths).to_dicts()) == without_nulls(rows)


@given(value=st.recursive(st.none() | st.sampled_from([1, 0.5, "x", True, 2**60]), lambda of: st.lists(of, max_size=3)))
@example(value=[[1], [0.5]])
@example(value=[1, True])
def test_a_place_admits_what_its_type_can_hold(value: object) -> None:
    place = jsonrows.Place("a")
    try:
        place.check(value)
    except ValueError:
        return

    assert pl.Series("a", [value], dtype=place.dtype(), strict=True).to_list() == [value]


@pytest.mark.parametrize("form", ["jsonl", "arrow stream", "arrow file", "parquet"])
def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, form: str) -> None:
    suffix, writer = WRITERS[form]
    writer(tmp_path / f"whole{suffix}")
    content = (tmp_path / f"whole{suffix}").read_bytes()
    whole = read(tmp_path / f"whole{suffix}").to_dicts()
    step = max(1, len(content) // 150)
    silent = []
    for length in [*range(0, len(content), step), len(content) - 1]:
        path = write(tmp_path, f"cut{length}{suffix}", content[:length])
        try:
            found = read(path).to_dicts()
        except SourceError:
            continue
        # a JSONL file that ends with a line is whole as far as anyone can tell
        if not (form == "jsonl" and content[length - 1 : length + 1] in (b"}\n", b"\n{")) and found != whole:
            silent.append((length, found))

    assert silent == []


FLIPS = """
import sys
from pathlib import Path
from taskmix.errors import SourceError
from taskmix.sources import files
content = Path(sys.argv[1]).read_bytes()
for at in range(0, len(content), max(1, len(content) // 60)):
    path = Path(sys.argv[1]).with_name(f"flipped{at}.arrow")
    path.write_bytes(content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1:])
    try:
        files.guarded([path], lambda: files.scan([path]).collect(engine="streaming"))
    except SourceError as error:
        assert str(path.name) in error.where
print("done")
"""


@pytest.mark.parametrize("form", ["arrow file", "arrow stream"])
def test_a_flipped_bit_is_read_or_refused_but_never_a_traceback(tmp_path: Path, form: str) -> None:
    path = tmp_path / "train.arrow"
    WRITERS[form][1](path)

    # the reader of Arrow panics on some; another process, since it may also abort
    found = subprocess.run([sys.executable, "-c", FLIPS, path], capture_output=True, text=True, timeout=60)

    assert found.stdout == "done\n", found.stderr[-2000:]


@pytest.mark.parametrize("suffix", [".parquet", ".arrow"])
@pytest.mark.parametrize("content", [b"", b"x", b"PAR1", b"ARROW1", b"PAR1 garbage PAR1", b'{"a": 1}\n' * 50])
def test_what_is_no_data_file_is_refused_with_its_name(tmp_path: Path, suffix: str, content: bytes) -> None:
    error = refusal(write(tmp_path, f"train{suffix}", content))

    assert error.where == f"{tmp_path}/train{suffix}"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"a": [1]}, {"a": ["x"]}),
        ({"a": [1]}, {"a": [1.5]}),
        ({"a": [1]}, {"a": [1], "b": [2]}),
        ({"a": [1]}, {"b": [1]}),
    ],
)
def test_parquet_files_of_a_split_must_agree(tmp_path: Path, one: dict[str, Any], other: dict[str, Any]) -> None:
    paths = (tmp_path / "a-0.parquet", tmp_path / "a-1.parquet")
    for path, columns in zip(paths, (one, other), strict=True):
        pl.DataFrame(columns).write_parquet(path)

    assert "a-" in refusal(*paths).where


def test_parquet_files_may_have_their_columns_in_another_order(tmp_path: Path) -> None:
    paths = (tmp_path / "a-0.parquet", tmp_path / "a-1.parquet")
    pl.DataFrame({"a": [1], "b": ["x"]}).write_parquet(paths[0])
    pl.DataFrame({"b": ["y"], "a": [2]}).write_parquet(paths[1])

    assert read(*paths).to_dicts() == [{"a": 1, "b": "x"}, {"a": 2, "b": "y"}]


def test_a_corrupt_file_among_others_is_the_one_that_is_named(tmp_path: Path) -> None:
    paths = [tmp_path / f"a-{number}.parquet" for number in range(3)]
    for path in paths:
        pl.DataFrame({"a": [1]}).write_parquet(path)
    paths[1].write_bytes(b"PAR1 garbage PAR1")

    assert refusal(*paths).where == str(paths[1])


def test_a_parquet_file_without_rows_has_its_columns(tmp_path: Path) -> None:
    pl.DataFrame({"a": pl.Series([], dtype=pl.Int8)}).write_parquet(tmp_path / "train.parquet")

    assert read(tmp_path / "train.parquet").schema == {"a": pl.Int8}


# -- CSV


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        pytest.param("a,b\nNA,None\nnan,null\n", [("NA", "None"), ("nan", "null")], id="words for nothing"),
        pytest.param('a,b\n,""\n"",\n', [("", ""), ("", "")], id="empty texts, quoted or not"),
        pytest.param(
            "a,b\n007,1e5\n1_0,9007199254740993\n", [("007", "1e5"), ("1_0", "9007199254740993")], id="numbers"
        ),
        pytest.param("a,b\ntrue,2024-01-31\n", [("true", "2024-01-31")], id="truth values and dates"),
        pytest.param("a,b\r\n1,2\r\n3,4\r\n", [("1", "2"), ("3", "4")], id="CRLF"),
        pytest.param("a,b\n1,2", [("1", "2")], id="no last line end"),
        pytest.param('a,b\n"x\ny","u\r\nv"\n', [("x\ny", "u\r\nv")], id="line ends in quotes"),
        pytest.param('a,b\n"x\ry",2\n', [("x\ry", "2")], id="CR in quotes"),
        pytest.param('a,b\n"x,y","say ""hi"""\n', [("x,y", 'say "hi"')], id="commas and quotes in quotes"),
        pytest.param("a,b\n x , y \n", [(" x ", " y ")], id="spaces stay"),
        pytest.param("a,b\n#x,'y\n", [("#x", "'y")], id="no comments, no single quotes"),
        pytest.param('a,b\n"é\u2028",\U0001f600\n', [("é\u2028", "\U0001f600")], id="beyond ASCII"),
        pytest.param('a\n""\nx\n', [("",), ("x",)], id="one column, an empty text"),
        pytest.param('"a b","c,d"\n1,2\n', [("1", "2")], id="names in quotes"),
        pytest.param("a,b\n", [], id="no rows"),
        pytest.param("a,b\n" + "x" * 300_000 + ",y\n", [("x" * 300_000, "y")], id="a long text"),
    ],
)
def test_csv_is_read_as_text(tmp_path: Path, content: str, expected: list[tuple[str, ...]]) -> None:
    path = write(tmp_path, "train.csv", content)

    assert read(path).rows() == expected
    assert set(read(path).dtypes) == {pl.String}


@pytest.mark.parametrize(
    ("content", "line", "shown"),
    [
        pytest.param("a,b\r1,2\r3,4\r", 1, "CR alone", id="lines that end in CR alone"),
        pytest.param("a,b\n1,2\r3,4\n", 2, "CR alone", id="one line that ends in CR alone"),
        pytest.param("a\n1\r2\n", 2, "CR alone", id="one of one column"),
        pytest.param("a,b,a\n1,2,3\n", 1, "two columns are named 'a'", id="duplicate columns"),
        pytest.param("a,b\n1,2\n1\n", 3, "1 fields where the header has 2", id="too few fields"),
        pytest.param("a,b\n1,2,3\n", 2, "3 fields where the header has 2", id="too many fields"),
        pytest.param('a,b\n"1\n2",3\n4\n', 4, "1 fields", id="too few after a text of two lines"),
        pytest.param("a,b\n1,2\n\n3,4\n", 3, "an empty line", id="an empty line"),
        pytest.param("a,b\n1,2\n\n", 3, "an empty line", id="an empty last line"),
        pytest.param("a\n1\n\n2\n", 3, "an empty line", id="an empty line of one column"),
        pytest.param('a,b\n"x"y,2\n', 2, "not valid CSV", id="text after a quote"),
        pytest.param('a,b\n1,2\n"x,2\n', 3, "not valid CSV", id="an open quote"),
        pytest.param("\ufeffa,b\n1,2\n", 1, "byte order mark", id="byte order mark"),
        pytest.param(b"a,b\n1,2\n\xff,2\n", 3, "not UTF-8", id="bad UTF-8"),
        pytest.param("a,b\n1,2\n".encode("utf-16"), 1, "not UTF-8", id="UTF-16"),
        pytest.param("", None, "empty", id="an empty file"),
        pytest.param("\n", None, "empty", id="an empty first line"),
    ],
)
def test_a_faulty_csv_file_is_refused_with_the_line(
    tmp_path: Path, content: str | bytes, line: int | None, shown: str
) -> None:
    error = refusal(write(tmp_path, "train.csv", content))

    assert error.where == f"{tmp_path}/train.csv" + (f":{line}" if line else "")
    assert shown in error.message


def test_the_limit_of_pythons_reader_is_left_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    rows_of(tmp_path, ".csv", "a\n1\n")
    refusal(write(tmp_path, "bad.csv", "a\n1,2\n"))

    assert csv.field_size_limit() == before


PIECES = ["a", ",", '"', "\n", "\r", "\r\n", " ", '""', '"x"', '"a\nb"', ",\n"]


@given(columns=st.integers(1, 2), pieces=st.lists(st.sampled_from(PIECES), max_size=12))
@example(columns=2, pieces=["\n"])
@example(columns=1, pieces=["a", "\r", "a", "\n"])
@example(columns=1, pieces=['"x"', "a"])
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
def test_csv_is_read_as_python_reads_it_or_refused(tmp_path: Path, columns: int, pieces: list[str]) -> None:
    content = ",".join("ab"[:columns]) + "\n" + "".join(pieces)
    path = write(tmp_path, f"{next(NUMBERS)}.csv", content)
    try:
        found = read(path).rows()
    except SourceError:
        return

    assert found == [tuple(row) for row in csv.reader(io.StringIO(content, newline=""), strict=True)][1:]


def test_texts_of_several_lines_are_kept_whole_in_a_large_file(tmp_path: Path) -> None:
    # large enough that the reader splits it into pieces, at places that only seem to be ends of rows
    rows = [(str(number), f'line "{number}"\n1,2\nlast,' * (number % 5)) for number in range(40_000)]
    path = tmp_path / "train.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([("a", "b"), *rows])

    assert read(path).rows() == rows


def test_csv_files_of_a_split_must_agree(tmp_path: Path) -> None:
    one = write(tmp_path, "a-0.csv", "a,b\n1,2\n")

    assert "a-" in refusal(one, write(tmp_path, "a-1.csv", "b,a\n1,2\n")).where
    assert "a-" in refusal(one, write(tmp_path, "a-2.csv", "a\n1\n")).where


# -- label names


@pytest.mark.parametrize(
    ("feature", "expected"),
    [
        (datasets.ClassLabel(names=["no", "yes"]), ("no", "yes")),
        (datasets.List(datasets.ClassLabel(names=["O", "B-x"])), ("O", "B-x")),
        (datasets.List(datasets.List(datasets.ClassLabel(names=["O", "B-x"]))), ("O", "B-x")),
        (datasets.Value("int64"), None),
        (datasets.List(datasets.Value("int64")), None),
    ],
)
def test_label_names_are_those_that_datasets_wrote(
    tmp_path: Path, feature: datasets.Value, expected: tuple[str, ...] | None
) -> None:
    path = tmp_path / "train.parquet"
    datasets.Dataset.from_dict({"a": [], "b": []}, datasets.Features(a=feature, b=datasets.Value("string"))).to_parquet(
        path
    )

    assert files.class_names([path]) == ({"a": expected} if expected else {})


@pytest.mark.parametrize(
    "metadata",
    [
        b"",
        b"no JSON",
        b"[]",
        b"{}",
        b'{"info": null}',
        b'{"info": {"features": []}}',
        b'{"info": {"features": {"a": null}}}',
        b'{"info": {"features": {"a": {"_type": "ClassLabel"}}}}',
        b'{"info": {"features": {"a": {"_type": "ClassLabel", "names": []}}}}',
        b'{"info": {"features": {"a": [{"_type": "Value"}]}}}',
    ],
)
def test_other_metadata_has_no_label_names(tmp_path: Path, metadata: bytes) -> None:
    table = pa.table({"a": [1]}).replace_schema_metadata({"huggingface": metadata})
    pa.parquet.write_table(table, tmp_path / "train.parquet")

    assert files.class_names([tmp_path / "train.parquet"]) == {}


def test_the_older_form_of_a_list_of_labels_has_names_too(tmp_path: Path) -> None:
    for form in (
        '[{"_type": "ClassLabel", "names": ["x"]}]',
        '{"_type": "Sequence", "feature": {"_type": "ClassLabel", "names": ["x"]}}',
    ):
        metadata = {"huggingface": f'{{"info": {{"features": {{"a": {form}}}}}}}'}
        pa.parquet.write_table(pa.table({"a": [1]}).replace_schema_metadata(metadata), tmp_path / "train.parquet")

        assert files.class_names([tmp_path / "train.parquet"]) == {"a": ("x",)}


@pytest.mark.parametrize("suffix", [".jsonl", ".csv", ".json", ".arrow"])
def test_other_formats_have_no_label_names(tmp_path: Path, suffix: str) -> None:
    assert files.class_names([write(tmp_path, f"train{suffix}", "x")]) == {}


# -- the shared datasets


def test_every_shared_dataset_is_read_whole(shared_data: Path) -> None:
    """A sample: the smallest file of each dataset, whose row count its Parquet footer states."""
    counted: dict[str, tuple[int, int]] = {}
    for folder in sorted(path for path in shared_data.iterdir() if path.is_dir()):
        found: Sequence[Path] = sorted(folder.rglob("*.parquet"), key=lambda path: path.stat().st_size)
        for path in found[:1]:
            stated = pa.parquet.read_metadata(path).num_rows
            counted[str(path)] = (files.scan([path]).select(pl.len()).collect().item(), stated)

    assert counted
    assert all(read == stated for read, stated in counted.values()), counted
