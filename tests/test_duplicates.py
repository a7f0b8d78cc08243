"""Exact duplicates: the first of each is left, in memory and through files, whatever the batches."""

from pathlib import Path
from tempfile import gettempdir

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix.errors import OutputError
from taskmix.mixing.duplicates import Duplicates

ROWS = st.lists(st.tuples(st.sampled_from(["", "a", "b", "é", "e\u0301"]), st.sampled_from([None, 0, 1])), max_size=60)


def frame(rows: list[tuple[str, int | None]], first: int = 0) -> pl.DataFrame:
    numbers = pl.Series("source_row", range(first, first + len(rows)), pl.UInt64)
    return pl.DataFrame([numbers, *pl.DataFrame(rows, {"text": pl.String, "label": pl.Int64}, orient="row")])


def dropped(rows: pl.DataFrame, size: int = 7, memory: int = 1 << 20) -> list[int]:
    duplicates = Duplicates(memory)
    for piece in rows.iter_slices(size):
        duplicates.add(piece)
    found = duplicates.finish()
    numbers = [row for piece in found.numbers(16) for row in piece]
    assert len(found) == len(numbers)
    assert rows["source_row"].filter(found.has(rows["source_row"])).sort().to_list() == numbers
    return numbers


def naive(rows: list[tuple[str, int | None]]) -> list[int]:
    seen: set[tuple[str, int | None]] = set()
    return [at for at, row in enumerate(rows) if row in seen or seen.add(row)]  # type: ignore[func-returns-value]


@given(ROWS, st.integers(1, 20), st.sampled_from([0, 100, 1 << 20]))
def test_all_but_the_first_are_dropped_through_files_too(
    rows: list[tuple[str, int | None]], size: int, memory: int
) -> None:
    before = set(Path(gettempdir()).glob("taskmix-*"))
    assert dropped(frame(rows), size, memory) == naive(rows)
    assert set(Path(gettempdir()).glob("taskmix-*")) <= before


@given(ROWS, st.randoms(use_true_random=False))
def test_the_order_of_rows_does_not_matter(rows: list[tuple[str, int | None]], random: object) -> None:
    mixed = frame(rows).sample(fraction=1, shuffle=True, seed=random.getrandbits(30))  # type: ignore[attr-defined]
    assert dropped(mixed, 3, 50) == naive(rows)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([["a", "b"], ["a", "b"], ["ab"], ["b", "a"], None, []], [1]),
        ([{"x": "a", "y": "b"}, {"x": "ab", "y": ""}, {"x": "a", "y": "b"}], [2]),
        ([[{"role": "user", "content": "Hi"}], [{"role": "user", "content": "Hi"}], []], [1]),
        ([0.5, 0.5, 1.0], [1]),
    ],
)
def test_lists_and_mappings_are_compared_by_their_items(values: list[object], expected: list[int]) -> None:
    rows = pl.DataFrame({"source_row": pl.Series(range(len(values)), dtype=pl.UInt64), "value": values})
    assert dropped(rows) == expected


def test_the_answer_counts() -> None:
    assert dropped(frame([("a", 0), ("a", 1), ("A", 0), ("a", 0)])) == [3]


def test_nothing_is_dropped_of_nothing() -> None:
    found = Duplicates().finish()
    assert len(found) == 0
    assert not list(found.numbers())
    assert found.has(pl.Series([3], dtype=pl.UInt64)).to_list() == [False]


def test_a_temporary_folder_that_cannot_be_written_is_said_to_be_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", "/nowhere/at/all")
    with pytest.raises(OutputError, match="a temporary file cannot be written"):
        dropped(frame([("a", 0)] * 50), 7, 50)
    assert dropped(frame([("a", 0)] * 3)) == [1, 2]
