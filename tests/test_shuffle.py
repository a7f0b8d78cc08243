"""Rows come out in the order of their hashes, whether they were held in memory or went through disk."""

from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from taskmix import hashing
from taskmix.output import shuffle as shuffling
from taskmix.output.content import block_hash
from taskmix.output.formats import narrow
from taskmix.output.places import Folder
from taskmix.output.shuffle import Shuffle, arrow


def rows(count: int, origin: int = 0, prefix: str = "row") -> pl.DataFrame:
    numbers = pl.DataFrame({"source_row": pl.Series(range(count), dtype=pl.UInt64)})
    return numbers.select(
        pl.format("{} {}", pl.lit(prefix), "source_row").alias("text"),
        pl.when(pl.col("source_row") % 3 == 0).then(pl.concat_list("source_row")).alias("maybe"),
        "source_row",
        pl.lit(origin, pl.UInt32).alias("origin"),
        hashing.draws(hashing.key("shuffle", origin), pl.col("source_row")).alias("order"),
    )


def shuffled(folder: Path, pieces: list[pl.DataFrame], size: int, memory: int, end: int = 800) -> list[pl.DataFrame]:
    folder.mkdir()
    shuffle = Shuffle(Folder(folder), end, memory)
    for piece in pieces:
        shuffle.add(piece)
    return list(shuffle.finish().blocks(0, end, size))


@pytest.mark.parametrize("band_rows", [16, 300, 10_000])
@pytest.mark.parametrize("memory", [1, 5_000, 20_000])
@pytest.mark.parametrize("size", [7, 100, 5_000])
def test_through_disk_the_order_is_that_of_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, band_rows: int, memory: int, size: int
) -> None:
    monkeypatch.setattr(shuffling, "BAND_ROWS", band_rows)
    pieces = [*rows(500).iter_slices(70), *rows(300, 1, "an other").iter_slices(11)]
    held = shuffled(tmp_path / "held", pieces, size, 1 << 30)
    spilled = shuffled(tmp_path / "spilled", pieces, size, memory)
    assert not list((tmp_path / "held").iterdir())
    assert list((tmp_path / "spilled").iterdir())
    assert [len(block) for block in held[:-1]] == [size] * (len(held) - 1)
    assert len(held) == len(spilled) == -(-800 // size)
    for one, other in zip(held, spilled, strict=True):
        assert one.equals(other)
    whole = pl.concat(held)
    assert whole.equals(pl.concat(pieces).sort("order"))
    assert whole["order"].is_sorted()


@pytest.mark.parametrize("memory", [1, 1 << 30])
@pytest.mark.parametrize(("first", "end"), [(0, 90), (90, 91), (100, 350), (799, 800), (33, 800)])
def test_any_span_of_the_order_can_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, memory: int, first: int, end: int
) -> None:
    monkeypatch.setattr(shuffling, "BAND_ROWS", 60)
    shuffle = Shuffle(Folder(tmp_path), 800, memory)
    for piece in rows(800).iter_slices(90):
        shuffle.add(piece)
    blocks = list(shuffle.finish().blocks(first, end, 40))
    assert pl.concat(blocks).equals(rows(800).sort("order")[first:end])
    assert {len(block) for block in blocks[:-1]} <= {40}


def test_once_rows_go_to_disk_a_quarter_of_the_memory_is_held_and_files_are_few(tmp_path: Path) -> None:
    shuffle, held = Shuffle(Folder(tmp_path), 8_000, 40_000), list[int]()
    pieces = [*rows(8_000).iter_slices(10)]
    for piece in pieces:
        shuffle.add(piece)
        held.append(shuffle._bytes)
    assert 36_000 < max(held) <= 40_000
    spilled = held.index(0)
    assert max(held[spilled:]) <= 10_000
    runs = shuffle.runs()
    assert len(runs) > 2 * shuffling._RUNS_A_FILE
    assert len(list(tmp_path.iterdir())) == -(-len(runs) // shuffling._RUNS_A_FILE)
    assert pl.concat(shuffling.merged(runs).blocks(0, 8_000, 900)).equals(rows(8_000).sort("order"))


def test_a_band_may_be_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shuffling, "BAND_ROWS", 1)
    few = rows(3)
    for memory in (1, 1 << 30):
        (found,) = shuffled(tmp_path / str(memory), [few], 40, memory, end=3)
        assert found.equals(few.sort("order"))


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_rows_of_one_hash_come_in_one_order_however_they_arrive(tmp_path: Path, memory: int) -> None:
    same = pl.lit(7, pl.UInt64).alias("order")
    tied = [rows(4).with_columns(same), rows(4, 1).with_columns(same), rows(20, 2)]
    orders = [
        pl.concat(shuffled(tmp_path / str(index), pieces, 2, memory, end=28))
        for index, pieces in enumerate((tied, tied[::-1], [piece[at] for piece in tied for at in range(len(piece))]))
    ]
    assert orders[0].equals(orders[1])
    assert orders[0].equals(orders[2])
    assert orders[0].filter(pl.col("order") == 7)["origin"].to_list() == [0] * 4 + [1] * 4


def buffers(texts: pl.Series) -> int:
    """Return the bytes of texts in the buffers that a series keeps alive, its own and others'."""
    array = texts.to_arrow(compat_level=pl.CompatLevel.newest())
    return sum(buffer.size for buffer in array.buffers()[2:] if buffer is not None)


@pytest.mark.parametrize("form", ["prompt-completion", "text", "alpaca", "messages"])
def test_rows_keep_nothing_of_the_batch_alive_that_they_were_made_from(form: str) -> None:
    batch = pl.DataFrame({"input": ["a text " * 10 + str(number) for number in range(10_000)]}).with_columns(
        instruction="input", output="input", ending=pl.lit("\n\n"), source_row=pl.int_range(10_000, dtype=pl.UInt64)
    )
    few = batch[[5, 7, 9]].with_columns(prompt=pl.concat_str("instruction", "input", "ending"))
    numbers, keys = pl.Series([0, 0, 0], dtype=pl.UInt32), pl.Series([1], dtype=pl.UInt64)
    assert buffers(few["output"]) > 500_000
    found = narrow(few, form, None, numbers, keys, 2, evaluation=False)
    texts = [
        part
        for column in found
        for part in (column.explode().struct.unnest() if column.dtype.is_nested() else [column])
        if part.dtype == pl.String
    ]
    assert texts
    assert all(buffers(part) < 2_000 for part in texts)


def test_no_more_rows_are_held_than_the_memory_allows(tmp_path: Path) -> None:
    piece, memory = rows(1000).drop("maybe"), 200_000
    bytes_a_row = piece.estimated_size() / 1000
    shuffle = Shuffle(Folder(tmp_path), 40_000, memory)
    for _ in range(40):
        shuffle.add(piece)
        assert sum(map(len, shuffle._held)) * bytes_a_row <= memory
    assert 40_000 * bytes_a_row > 4 * memory
    assert sum(map(len, shuffle.finish().blocks(0, 40_000, 10_000))) == 40_000


# The hash of the rows' content


MIXED = pl.DataFrame(
    {
        "text": ["a", None, "", "é\n"],
        "words": [["x", "yz"], [], None, ["", None]],
        "turns": [[{"role": "user", "content": "hi"}], [], None, [{"role": "assistant", "content": None}]],
        "number": [1, None, 3, 2**63],
    },
    schema_overrides={"number": pl.UInt64},
)


def content(rows: pl.DataFrame) -> str:
    return block_hash(arrow(rows)).hex()


def test_the_content_hash_is_a_fixed_function_of_the_rows() -> None:
    # a lock of another version holds such hashes, too
    assert content(MIXED) == "6012e13794d671fc5365c84b230d13b41031f6e6415bb23e3d26c3b20136b525"


@pytest.mark.parametrize("cut", [0, 1, 3])
def test_the_content_hash_does_not_depend_on_how_rows_lie_in_memory(cut: int) -> None:
    tables = [arrow(MIXED[:cut]), arrow(MIXED[cut:])]
    assert block_hash(pa.concat_tables(tables)).hex() == content(MIXED)
    assert block_hash(pa.concat_tables([arrow(MIXED), arrow(MIXED)])[cut : cut + len(MIXED)]).hex() == content(
        pl.concat([MIXED, MIXED])[cut : cut + len(MIXED)]
    )


def test_repeated_texts_hash_as_their_dictionary_does() -> None:
    words = pl.DataFrame({"task": ["b", "a", "b", "c"]})
    table = arrow(words)
    coded = pa.table({"task": table["task"].combine_chunks().dictionary_encode()})
    assert block_hash(coded) == block_hash(table)
    assert content(words) != content(words.select(pl.Series("task", ["b", "a", "b", "a"])))
    assert content(words) != content(words.select(pl.Series("task", ["b", "a", "c", "b"])))


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("text", ["a", "", None, "é\n"]),
        ("text", ["", None, "a", "é\n"]),
        ("words", [["x"], ["yz"], None, ["", None]]),
        ("words", [["x", "yz"], None, [], ["", None]]),
        ("words", [["x", "yz"], [], None, [None, ""]]),
        ("words", [["xy", "z"], [], None, ["", None]]),
        ("turns", [[{"role": "userhi", "content": ""}], [], None, [{"role": "assistant", "content": None}]]),
        ("turns", [[{"role": "user", "content": "hi"}], [], None, [{"role": "assistant", "content": ""}]]),
        ("number", [1, 3, None, 2**63]),
        ("number", [1, None, 3, 2**63 + 1]),
    ],
)
def test_the_content_hash_tells_any_change(column: str, values: list[object]) -> None:
    changed = MIXED.with_columns(pl.Series(column, values, MIXED.schema[column]))
    assert content(changed) != content(MIXED)


def test_the_content_hash_tells_the_order_of_rows() -> None:
    assert content(MIXED.reverse()) != content(MIXED)
