"""Draws are the same in Python and in Polars, the same in every version, and spread evenly."""

import hashlib
import math
from pathlib import Path

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskmix import hashing

WORD = st.integers(0, 2**64 - 1)


@given(key=WORD, rows=st.lists(WORD, max_size=20))
@example(key=0, rows=[0, 1, 2**64 - 1])
@example(key=2**64 - 1, rows=[0, 1, 2**31, 2**32, 2**63, 2**64 - 1])
def test_polars_draws_what_python_draws(key: int, rows: list[int]) -> None:
    frame = pl.DataFrame({"row": pl.Series(rows, dtype=pl.UInt64)})

    drawn = frame.select(hashing.draws(key, pl.col("row")))["row"]

    assert drawn.dtype == pl.UInt64
    assert drawn.to_list() == [hashing.draw(key, row) for row in rows]


def test_the_streaming_engine_draws_the_same() -> None:
    rows = pl.LazyFrame({"row": pl.Series(range(100_000), dtype=pl.UInt64)})
    drawn = rows.select(draw=hashing.draws(hashing.key("seed", 7), pl.col("row")))

    assert drawn.collect(engine="streaming").equals(drawn.collect())


def test_the_mixing_function_is_that_of_splitmix64() -> None:
    # the first outputs of the published generator from the seed 0, which adds this constant at each step
    step = 0x9E3779B97F4A7C15

    assert [hashing.draw(0, step * n % 2**64) for n in (1, 2, 3)] == [
        0xE220A8397B1DCDAF,
        0x6E789E6AA1B965F4,
        0x06C45D188009454F,
    ]


@pytest.mark.parametrize(
    ("key", "row", "expected"),
    [
        (0, 0, 0),
        (1, 0, 6238072747940578789),
        (0, 1, 6238072747940578789),
        (2**64 - 1, 0, 13029008266876403067),
        (123456789, 987654321, 5759318837376482871),
    ],
)
def test_draws_never_change_from_one_version_to_the_next(key: int, row: int, expected: int) -> None:
    assert hashing.draw(key, row) == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ((), 13020603013274838756),
        (("a",), 9243798235275095992),
        (("sst2", 0, "cut"), 5624808804103770827),
        (("é",), 9132449165465651573),
    ],
)
def test_keys_never_change_from_one_version_to_the_next(parts: tuple[object, ...], expected: int) -> None:
    assert hashing.key(*parts) == expected


@given(
    one=st.lists(st.text(max_size=4), max_size=4),
    other=st.lists(st.text(max_size=4), max_size=4),
)
@example(one=["ab", "c"], other=["a", "bc"])
@example(one=["a", ""], other=["a"])
@example(one=["a", "\0"], other=["a\0", ""])
def test_keys_tell_parts_apart(one: list[str], other: list[str]) -> None:
    assert (hashing.key(*one) == hashing.key(*other)) == (one == other)


def test_a_number_and_its_digits_are_one_part() -> None:
    assert hashing.key("seed", 0) == hashing.key("seed", "0")


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.25, 2**62), (0.5, 2**63), (1, 2**64 - 1)])
def test_threshold_of_known_shares(share: float, expected: int) -> None:
    assert hashing.threshold(share) == expected


@given(st.floats(0, 1), st.floats(0, 1))
def test_a_larger_share_has_no_smaller_threshold(one: float, other: float) -> None:
    low, high = sorted((one, other))
    assert 0 <= hashing.threshold(low) <= hashing.threshold(high) < 2**64


@pytest.mark.parametrize("share", [0.01, 0.05, 0.5, 0.9])
@pytest.mark.parametrize("purpose", ["cut", "template", "shuffle"])
def test_about_that_share_of_the_rows_is_drawn(share: float, purpose: str) -> None:
    rows, edge, key = 20_000, hashing.threshold(share), hashing.key(0, "task", purpose)

    found = sum(hashing.draw(key, row) < edge for row in range(rows))

    assert abs(found - share * rows) < 4 * math.sqrt(rows * share * (1 - share))


def test_purposes_draw_independently() -> None:
    rows, edge = 20_000, hashing.threshold(0.5)
    one, other = hashing.key(0, "task", "one"), hashing.key(0, "task", "other")

    both = sum(hashing.draw(one, row) < edge and hashing.draw(other, row) < edge for row in range(rows))

    assert abs(both - rows / 4) < 4 * math.sqrt(rows * 3 / 16)


@pytest.mark.parametrize("size", [0, 1, 2**20 - 1, 2**20, 2**20 + 1])
def test_the_hash_of_a_file_is_that_of_its_bytes(tmp_path: Path, size: int) -> None:
    content = bytes(position % 251 for position in range(size))
    (tmp_path / "file").write_bytes(content)

    assert hashing.file_sha256(tmp_path / "file") == hashlib.sha256(content).hexdigest()
