"""Sets of rows are sets, and the lowest draws are those that sorting finds."""

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix import hashing, rowsets
from taskmix.rowsets import RowSet, lowest

ROWS = st.sets(st.integers(0, 300), max_size=80)


@pytest.fixture(autouse=True, scope="module")
def small_chunks() -> Iterator[None]:
    """Many chunks of few rows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rowsets, "_CHUNK", 16)
        yield


def rowset(rows: set[int], pieces: int = 1) -> RowSet:
    ordered = np.array(sorted(rows), np.uint64)
    return RowSet.of(np.array_split(ordered, pieces))


def members(rows: RowSet) -> list[int]:
    return [row for numbers in rows.chunks() for row in numbers.tolist()]


@given(rows=ROWS, pieces=st.integers(1, 9))
def test_a_set_holds_its_numbers_in_order_however_they_came(rows: set[int], pieces: int) -> None:
    found = rowset(rows, pieces)
    assert members(found) == sorted(rows)
    assert len(found) == len(rows)


@given(pieces=st.lists(ROWS, max_size=6))
def test_pieces_may_overlap_and_come_in_any_order(pieces: list[set[int]]) -> None:
    found = RowSet.of(np.array(sorted(piece), np.uint64) for piece in pieces)
    assert members(found) == sorted(set().union(*pieces))


@given(one=ROWS, other=ROWS)
def test_union_intersection_and_difference(one: set[int], other: set[int]) -> None:
    first, second = rowset(one), rowset(other, 3)
    assert members(first | second) == sorted(one | other)
    assert members(first & second) == sorted(one & other)
    assert members(first - second) == sorted(one - other)
    assert len(first - second) == len(one - other)


@given(rows=ROWS, first=st.integers(0, 320), length=st.integers(0, 320))
def test_numbers_between(rows: set[int], first: int, length: int) -> None:
    assert rowset(rows).between(first, first + length).tolist() == [
        row for row in sorted(rows) if first <= row < first + length
    ]


@given(rows=ROWS, divisor=st.integers(1, 7))
def test_where(rows: set[int], divisor: int) -> None:
    found = rowset(rows).where(lambda numbers: numbers % np.uint64(divisor) == 0)
    assert members(found) == [row for row in sorted(rows) if row % divisor == 0]


@given(sets=st.lists(ROWS, min_size=1, max_size=4), count=st.integers(0, 200), seed=st.integers(0, 2**64 - 1))
def test_the_lowest_are_those_that_sorting_finds(sets: list[set[int]], count: int, seed: int) -> None:
    keys = [hashing.key(seed, index) for index in range(len(sets))]
    draws = sorted((hashing.draw(key, row), index, row) for index, key in enumerate(keys) for row in sets[index])
    wanted = [sorted(row for _, index, row in draws[:count] if index == one) for one in range(len(sets))]
    assert [members(each) for each in lowest([rowset(rows) for rows in sets], keys, count)] == wanted


@given(rows=ROWS, counts=st.tuples(st.integers(0, 90), st.integers(0, 90)), key=st.integers(0, 2**64 - 1))
def test_a_larger_sample_keeps_a_smaller_one(rows: set[int], counts: tuple[int, int], key: int) -> None:
    few, many = (set(members(lowest([rowset(rows)], [key], count)[0])) for count in sorted(counts))
    assert few <= many


def test_many_rows_in_many_chunks() -> None:
    rows = RowSet.of(np.arange(first, first + 1000, dtype=np.uint64) for first in range(0, 50_000, 1000))
    (few,) = lowest([rows], [7], 20_000)
    drawn = hashing.draw(np.uint64(7), np.arange(50_000, dtype=np.uint64))
    assert members(few) == np.sort(np.argsort(drawn)[:20_000]).tolist()
