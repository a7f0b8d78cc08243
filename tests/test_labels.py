"""Labels: which value of the source means which word, and what contradicts the source is refused."""

from collections.abc import Mapping, Sequence

import polars as pl
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from taskmix.errors import CatalogError
from taskmix.kinds.labels import Labels, LabelsSpec, make_labels


def made(
    spec: LabelsSpec | None, dtype: pl.DataType | None = None, class_names: Sequence[str] | None = None
) -> Mapping[str, str]:
    """Return the word of each value, as the labels of a column of that type give it."""
    labels = make_labels(spec, dtype or pl.Int64(), class_names, "catalog.yaml:7", "org/data (train)")
    return {value: labels.words[index] for value, index in labels.index.items()}


def refusal(spec: LabelsSpec | None, dtype: pl.DataType | None = None, class_names: Sequence[str] | None = None) -> str:
    with pytest.raises(CatalogError) as caught:
        made(spec, dtype, class_names)
    assert caught.value.where == "catalog.yaml:7"
    return str(caught.value)


WORDS = ["negative", "positive"]


@pytest.mark.parametrize(
    ("spec", "dtype", "class_names", "expected"),
    [
        pytest.param(WORDS, pl.Int64(), None, {"0": "negative", "1": "positive"}, id="words for ids"),
        pytest.param(WORDS, pl.UInt8(), None, {"0": "negative", "1": "positive"}, id="small ids"),
        pytest.param(None, pl.Int64(), WORDS, {"0": "negative", "1": "positive"}, id="the source's own names"),
        pytest.param(WORDS, pl.Int64(), WORDS, {"0": "negative", "1": "positive"}, id="the same names again"),
        pytest.param(["bad", "good"], pl.Int64(), WORDS, {"0": "bad", "1": "good"}, id="new words, in order"),
        pytest.param(
            WORDS,
            pl.String(),
            None,
            {"negative": "negative", "positive": "positive", "0": "negative", "1": "positive"},
            id="names, or ids as text from CSV",
        ),
        pytest.param(["1", "0"], pl.String(), None, {"1": "1", "0": "0"}, id="words that are digits are names"),
        pytest.param(["-1", "1"], pl.String(), None, {"-1": "-1", "1": "1"}, id="words that are signed digits"),
        pytest.param(["A", "B", "C"], pl.String(), None, dict(zip("ABC012", "ABCABC", strict=True)), id="letters"),
        pytest.param(["no", "yes"], pl.Boolean(), None, {"false": "no", "true": "yes"}, id="truth values"),
        pytest.param({"pos": "good", "neg": "bad"}, pl.String(), None, {"pos": "good", "neg": "bad"}, id="mapped"),
        pytest.param({1: "bad", 5: "good"}, pl.Int64(), None, {"1": "bad", "5": "good"}, id="mapped ids"),
        pytest.param({"1": "bad", "5": "good"}, pl.Int64(), None, {"1": "bad", "5": "good"}, id="mapped ids as text"),
        pytest.param({True: "yes", False: "no"}, pl.Boolean(), None, {"true": "yes", "false": "no"}, id="mapped truth"),
        pytest.param(
            {1: "bad", 2: "bad", 3: "good"}, pl.Int64(), None, {"1": "bad", "2": "bad", "3": "good"}, id="many to one"
        ),
        pytest.param(
            {"positive": "good", "negative": "bad"},
            pl.Int64(),
            WORDS,
            {"0": "bad", "1": "good"},
            id="the source's names renamed, in another order",
        ),
        pytest.param({0: "bad", 1: "good"}, pl.Int64(), WORDS, {"0": "bad", "1": "good"}, id="ids renamed"),
    ],
)
def test_values_mean_words(
    spec: LabelsSpec | None, dtype: pl.DataType, class_names: Sequence[str] | None, expected: Mapping[str, str]
) -> None:
    assert made(spec, dtype, class_names) == expected


def test_the_order_of_the_words_is_that_of_a_mapping() -> None:
    labels = make_labels({"pos": "good", "neg": "bad"}, pl.String(), None, "", "")

    assert labels.words == ("good", "bad")
    assert labels.index == {"pos": 0, "neg": 1}


@pytest.mark.parametrize(
    ("spec", "dtype", "class_names", "shown"),
    [
        pytest.param(["positive", "negative"], pl.Int64(), WORDS, ["another order", "rename"], id="another order"),
        pytest.param(["a", "b", "c"], pl.Int64(), WORDS, ["3 labels", "has 2", "positive"], id="too many"),
        pytest.param(["a"], pl.Int64(), WORDS, ["1 labels", "has 2"], id="too few"),
        pytest.param({"positiv": "good", "negative": "bad"}, pl.Int64(), WORDS, ["positiv'", "positive'"], id="typo"),
        pytest.param({"positive": "good"}, pl.Int64(), WORDS, ["each of the source's labels"], id="one left out"),
        pytest.param(["good", "good"], pl.Int64(), None, ["same word"], id="the same word twice"),
        pytest.param(None, pl.Int64(), None, ["org/data (train)", "`labels`"], id="ids without names"),
        pytest.param(None, pl.String(), None, ["`labels`"], id="names without an order"),
        pytest.param(None, pl.Boolean(), None, ["`labels`"], id="truth values without words"),
        pytest.param(None, pl.Int64(), [], ["`labels`"], id="an empty list of names"),
        pytest.param(WORDS, pl.Float64(), None, ["Float64"], id="fractions"),
        pytest.param(WORDS, pl.List(pl.Int64()), None, ["List(Int64)"], id="a list of lists"),
        pytest.param(WORDS, pl.Struct({"a": pl.Int64()}), None, ["Struct"], id="a mapping"),
        pytest.param(WORDS, pl.Array(pl.Int64(), 2), None, ["Array"], id="an array"),
    ],
)
def test_what_contradicts_the_source_is_refused(
    spec: LabelsSpec | None, dtype: pl.DataType, class_names: Sequence[str] | None, shown: Sequence[str]
) -> None:
    message = refusal(spec, dtype, class_names)

    for part in shown:
        assert part in message


def test_both_orders_are_shown() -> None:
    message = refusal(["positive", "negative"], pl.Int64(), WORDS)

    assert "['positive', 'negative']" in message
    assert "['negative', 'positive']" in message


def test_the_summary_shows_words_and_what_means_them() -> None:
    assert make_labels({1: "bad", 2: "bad", 5: "good"}, pl.Int64(), None, "", "").summary() == "labels: 1/2=bad, 5=good"
    assert make_labels(["1", "0"], pl.String(), None, "", "").summary() == "labels: 1, 0"


def test_the_summary_of_many_labels_is_cut() -> None:
    summary = make_labels([f"w{n}" for n in range(200)], pl.Int64(), None, "", "").summary()

    assert summary.endswith(", …")
    assert len(summary) < 200


LABELS = Labels(("no", "yes", "maybe"), {"0": 0, "1": 1, "2": 2, "true": 1, "false": 0, "no": 0, "yes": 1})
VALUES: Mapping[str, tuple[pl.DataType, st.SearchStrategy[object]]] = {
    "ids": (pl.Int64(), st.integers(-2, 4)),
    "small ids": (pl.Int8(), st.integers(-2, 4)),
    "wide ids": (pl.Int128(), st.integers(-2, 4)),
    "names": (pl.String(), st.sampled_from(["no", "yes", "maybe", "0", "", "NO"])),
    "truth values": (pl.Boolean(), st.booleans()),
}


def index_of(value: object) -> int | None:
    """The plain reading of a label: null is none, and so is what the labels do not have."""
    if value is None:
        return None
    return LABELS.index.get(str(value).lower() if isinstance(value, bool) else str(value))


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_indices_of_values_are_those_of_a_plain_loop(kind: str, data: st.DataObject) -> None:
    dtype, values = VALUES[kind]
    drawn = data.draw(st.lists(st.none() | values, max_size=12))

    found = LABELS.indices(pl.Series("label", drawn, dtype=dtype))

    assert found.dtype == pl.Int64
    assert found.to_list() == [index_of(value) for value in drawn]


@pytest.mark.parametrize("kind", VALUES)
@given(data=st.data())
def test_indices_of_lists_are_those_of_a_plain_loop(kind: str, data: st.DataObject) -> None:
    dtype, values = VALUES[kind]
    drawn = data.draw(st.lists(st.none() | st.lists(st.none() | values, max_size=4), max_size=12))

    found = LABELS.indices(pl.Series("label", drawn, dtype=pl.List(dtype)))

    assert found.dtype == pl.List(pl.Int64)
    assert found.name == "label"
    assert found.to_list() == [None if row is None else [index_of(value) for value in row] for row in drawn]


@given(st.lists(st.integers(0, 3), max_size=6))
@example([])
@example([0, 0])
def test_lists_of_a_type_without_values_have_no_labels(lengths: list[int]) -> None:
    rows = [[None] * length for length in lengths]

    found = LABELS.indices(pl.Series("label", rows, dtype=pl.List(pl.Null())))

    assert found.to_list() == rows


def test_indices_of_a_slice_are_those_of_its_own_rows() -> None:
    # a slice of a list column keeps the items of the whole
    whole = pl.Series("label", [[0], [1, 2], [], None, [2], [1]])

    assert LABELS.indices(whole.slice(1, 4)).to_list() == [[1, 2], [], None, [2]]
    assert LABELS.indices(whole.filter(pl.Series([False, True, False, False, False, True]))).to_list() == [[1, 2], [1]]


def test_ids_that_are_indices_already_are_checked_as_others_are() -> None:
    series = pl.Series("label", [0, 1, 2, -1, None, 3], dtype=pl.Int32)
    whole = Labels(("a", "b", "c"), {"0": 0, "1": 1, "2": 2})
    assert whole.indices(series).to_list() == [0, 1, 2, None, None, None]
    with_a_gap = Labels(("a", "b", "c"), {"0": 0, "2": 2})
    assert with_a_gap.indices(series).to_list() == [0, None, 2, None, None, None]
    lists = pl.Series("label", [[0, 2], [], None, [1, 7]])
    assert whole.indices(lists).to_list() == [[0, 2], [], None, [1, None]]
