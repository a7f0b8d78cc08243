"""Rows come out in the order of their hashes, whether they were held in memory or went through disk."""

import itertools
from pathlib import Path

import polars as pl
import pyarrow as pa
import pytest

from taskmix import hashing
from taskmix.output.content import ContentHash
from taskmix.output.shuffle import Shuffle


def rows(count: int, origin: int = 0, prefix: str = "row") -> pl.DataFrame:
    numbers = pl.DataFrame({"source_row": pl.Series(range(count), dtype=pl.UInt64)})
    return numbers.select(
        pl.format("{} {}", pl.lit(prefix), "source_row").alias("text"),
        pl.when(pl.col("source_row") % 3 == 0).then(pl.concat_list("source_row")).alias("maybe"),
        "source_row",
        pl.lit(origin, pl.UInt32).alias("origin"),
        hashing.draws(hashing.key("shuffle", origin), pl.col("source_row")).alias("order"),
    )


def arrow(frame: pl.DataFrame) -> pa.Table:
    return frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def shuffled(folder: Path, pieces: list[pl.DataFrame], bands: int, memory: int) -> list[pl.DataFrame]:
    folder.mkdir()
    shuffle = Shuffle(folder, bands, memory)
    for piece in pieces:
        shuffle.add(arrow(piece))
    return list(shuffle.sorted_bands())


@pytest.mark.parametrize("bands", [1, 3, 50])
@pytest.mark.parametrize("memory", [1, 5_000, 20_000])
def test_through_disk_the_order_is_that_of_memory(tmp_path: Path, bands: int, memory: int) -> None:
    pieces = [*rows(500).iter_slices(70), *rows(300, 1, "an other").iter_slices(11)]
    held = shuffled(tmp_path / "held", pieces, bands, 1 << 30)
    spilled = shuffled(tmp_path / "spilled", pieces, bands, memory)
    assert not list((tmp_path / "held").iterdir())
    assert list((tmp_path / "spilled").iterdir())
    assert len(held) == len(spilled) == bands
    for one, other in zip(held, spilled, strict=True):
        assert one.equals(other)
    whole = pl.concat(held)
    assert whole.equals(pl.concat(pieces).sort("order"))
    assert whole["order"].is_sorted()


def test_a_band_may_be_empty(tmp_path: Path) -> None:
    few = rows(3)
    for memory in (1, 1 << 30):
        bands = shuffled(tmp_path / str(memory), [few], 40, memory)
        assert sum(map(len, bands)) == 3
        assert pl.concat(bands).equals(few.sort("order"))


@pytest.mark.parametrize("memory", [1, 1 << 30])
def test_rows_of_one_hash_come_in_one_order_however_they_arrive(tmp_path: Path, memory: int) -> None:
    same = pl.lit(7, pl.UInt64).alias("order")
    tied = [rows(4).with_columns(same), rows(4, 1).with_columns(same), rows(20, 2)]
    orders = [
        pl.concat(shuffled(tmp_path / str(index), pieces, 2, memory))
        for index, pieces in enumerate((tied, tied[::-1], [piece[at] for piece in tied for at in range(len(piece))]))
    ]
    assert orders[0].equals(orders[1])
    assert orders[0].equals(orders[2])
    assert orders[0].filter(pl.col("order") == 7)["origin"].to_list() == [0] * 4 + [1] * 4


def test_no_more_rows_are_held_than_the_memory_allows(tmp_path: Path) -> None:
    piece, memory = arrow(rows(1000)), 200_000
    shuffle = Shuffle(tmp_path, 4, memory)
    before, most = pa.total_allocated_bytes(), 0
    for _ in range(40):
        # a copy that nothing but the shuffle keeps
        shuffle.add(piece.take(pa.array(range(len(piece)))))
        most = max(most, pa.total_allocated_bytes() - before)
    assert piece.nbytes * 40 > 5 * memory
    assert most < memory + 2 * piece.nbytes
    assert sum(map(len, shuffle.sorted_bands())) == 40_000


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


def content(*pieces: pl.DataFrame) -> str:
    found = ContentHash()
    for piece in pieces:
        found.update(arrow(piece))
    return found.hexdigest()


def test_the_content_hash_is_a_fixed_function_of_the_rows() -> None:
    # a lock of another version holds such hashes, too
    assert content(MIXED) == "93935e1fb8292c6a51c06a88cdd95aca92af45670fd35f1dde9725a142d98380"


@pytest.mark.parametrize("cuts", [(1,), (0, 4), (1, 2, 3), (3, 3)])
def test_the_content_hash_does_not_depend_on_how_rows_are_cut(cuts: tuple[int, ...]) -> None:
    edges = [0, *cuts, len(MIXED)]
    assert content(*(MIXED[low:high] for low, high in itertools.pairwise(edges))) == content(MIXED)


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
