"""Each kind of task: two rows in, two rows out, and every value that cannot be used named with its row."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from taskmix.catalog.loading import load_catalog
from taskmix.errors import CatalogError, RowError, TaskmixError
from taskmix.frames import SOURCE_ROW
from taskmix.kinds import KINDS, Column, View
from taskmix.kinds.labels import Labels, make_labels
from taskmix.kinds.token_classification import Entity, decode, entity_types, has_prefixes
from taskmix.tasks.opening import open_task
from tests.workers import WORKERS

FIRST_ROW = 100
Columns = Mapping[str, Any]


def canonical(kind: str, columns: Columns, labels: Labels | None = None, multi: bool = False) -> list[dict[str, Any]]:
    """Return the rows that a kind makes of named columns, without `source_row`, which must stay as it was."""
    frame = pl.DataFrame(dict(columns), strict=True)
    rows = pl.Series(SOURCE_ROW, range(FIRST_ROW, FIRST_ROW + len(frame)), dtype=pl.UInt64)
    view = View("reviews", frozenset(columns), labels, multi)
    made = KINDS[kind].canonical(frame.with_columns(rows), view, KINDS[kind].names)
    assert made[SOURCE_ROW].equals(rows)
    assert set(KINDS[kind].names) - {"keys"} <= set(made.columns)
    return made.drop(SOURCE_ROW).to_dicts()


def row_error(kind: str, columns: Columns, labels: Labels | None = None, multi: bool = False) -> RowError:
    with pytest.raises(RowError) as caught:
        canonical(kind, columns, labels, multi)
    return caught.value


SENTIMENT = make_labels(["bad", "good"], pl.Int64(), None, "", "")


# -- text classification


def test_two_texts_in_two_texts_out() -> None:
    assert canonical("text-classification", {"text": ["dull", "fine"], "label": [0, 1]}, SENTIMENT) == [
        {"text": "dull", "text_pair": None, "label": 0, "choices": ["bad", "good"]},
        {"text": "fine", "text_pair": None, "label": 1, "choices": ["bad", "good"]},
    ]


def test_two_pairs_in_two_pairs_out() -> None:
    columns = {"text": ["a", "b"], "text_pair": ["c", ""], "label": [1, 0]}

    found = canonical("text-classification", columns, SENTIMENT)

    assert [(row["text"], row["text_pair"], row["label"]) for row in found] == [("a", "c", 1), ("b", "", 0)]


def test_two_rows_of_several_labels_in_two_out() -> None:
    columns = {"text": ["a", "b"], "label": [[1, 0], []]}

    found = canonical("text-classification", columns, SENTIMENT, multi=True)

    assert [(row["label"], row["choices"]) for row in found] == [([1, 0], ["bad", "good"]), ([], ["bad", "good"])]


@pytest.mark.parametrize(
    ("spec", "values", "expected"),
    [
        (["bad", "good"], ["good", "bad"], [1, 0]),
        (["bad", "good"], ["1", "0"], [1, 0]),
        ({"pos": "good", "neg": "bad"}, ["neg", "pos"], [1, 0]),
        ({5: "bad", 1: "good"}, [1, 5], [1, 0]),
        (["no", "yes"], [True, False], [1, 0]),
    ],
)
def test_labels_become_positions(spec: Any, values: list[Any], expected: list[int]) -> None:
    labels = make_labels(spec, pl.Series(values).dtype, None, "", "")

    found = canonical("text-classification", {"text": ["a", "b"], "label": values}, labels)

    assert [row["label"] for row in found] == expected


def test_whole_numbers_are_texts_by_their_digits() -> None:
    found = canonical("text-classification", {"text": [7, -1], "label": [0, 1]}, SENTIMENT)

    assert [row["text"] for row in found] == ["7", "-1"]


def test_no_rows_in_no_rows_out() -> None:
    columns = {"text": pl.Series([], dtype=pl.String), "label": pl.Series([], dtype=pl.Int64)}

    assert canonical("text-classification", columns, SENTIMENT) == []


LATE = [0] * 5


@pytest.mark.parametrize(
    ("columns", "row", "shown"),
    [
        pytest.param({"label": [0, 1, None]}, 102, "`label` is null", id="null label"),
        pytest.param({"label": [0, -1, -1]}, 101, "`label` is -1", id="the hub's -1"),
        pytest.param({"label": [0, 1, 2]}, 102, "`label` is 2", id="out of range"),
        pytest.param({"label": ["bad", "good", "odd"]}, 102, "`label` is 'odd'", id="unknown name"),
        pytest.param({"label": [0, 1, 1], "text": ["a", None, None]}, 101, "`text` is null", id="null text"),
        pytest.param({"label": [0, 1, 1], "text_pair": ["a", "b", None]}, 102, "`text_pair` is null", id="null pair"),
        pytest.param({"label": [[0], [1, None], []]}, 101, "`label` is [1, None]", id="a null among labels"),
        pytest.param({"label": [[0], None, []]}, 101, "`label` is null", id="null in place of a list"),
        pytest.param({"label": [[], [0, 1], [0, 2]]}, 102, "`label` is [0, 2]", id="one of several out of range"),
    ],
)
def test_an_unusable_value_is_named_with_its_row(columns: Columns, row: int, shown: str) -> None:
    labels = make_labels(["bad", "good"], pl.String() if "odd" in columns["label"] else pl.Int64(), None, "", "")

    error = row_error("text-classification", {"text": ["a", "b", "c"], **columns}, labels)

    assert error.where == f"task reviews, row {row}"
    assert shown in error.message
    assert "where" in error.hint


@pytest.mark.parametrize(
    ("text", "described"),
    [([1.5], "Float64"), ([True], "true or false"), ([["a"]], "a list (text)"), ([{"a": "b"}], "a mapping with a")],
)
def test_a_column_of_another_type_is_named(text: list[object], described: str) -> None:
    error = row_error("text-classification", {"text": text, "label": [0]}, SENTIMENT)

    assert error.message == f"`text` is {described}, not text"


def test_hostile_text_in_a_label_is_shown_escaped() -> None:
    labels = make_labels(["bad", "good"], pl.String(), None, "", "")

    error = row_error("text-classification", {"text": ["a"], "label": ["\x1b[31m\u202egood"]}, labels)

    assert "\x1b" not in str(error)
    assert "\u202e" not in str(error)


# -- question answering


def answered(answers: Sequence[Any] | pl.Series) -> list[tuple[list[str], list[int] | None, str]]:
    columns = {"context": ["c"] * len(answers), "question": ["q"] * len(answers), "answers": answers}
    found = canonical("question-answering", columns)
    assert all((row["context"], row["question"]) == ("c", "q") for row in found)
    return [(row["answers"], row["answer_starts"], row["answer"]) for row in found]


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        pytest.param(
            [{"text": ["x", "y"], "answer_start": [1, 7]}, {"text": [], "answer_start": []}],
            [(["x", "y"], [1, 7], "x"), ([], [], "")],
            id="a mapping of lists, one unanswerable",
        ),
        pytest.param(
            [[{"text": "x", "answer_start": 1}, {"text": "y", "answer_start": 7}], []],
            [(["x", "y"], [1, 7], "x"), ([], [], "")],
            id="a list of mappings, one unanswerable",
        ),
        pytest.param([["x", "y"], []], [(["x", "y"], None, "x"), ([], None, "")], id="a list of texts"),
        pytest.param(["x", "y"], [(["x"], None, "x"), (["y"], None, "y")], id="one text"),
        pytest.param(
            [{"text": "x", "answer_start": 1}, {"text": "y", "answer_start": 0}],
            [(["x"], [1], "x"), (["y"], [0], "y")],
            id="a mapping of one text and offset",
        ),
        pytest.param([{"text": ["x"]}, {"text": []}], [(["x"], None, "x"), ([], None, "")], id="no offsets"),
        pytest.param([[{"text": "x"}], []], [(["x"], None, "x"), ([], None, "")], id="mappings without offsets"),
        pytest.param([[4, 5], [6]], [(["4", "5"], None, "4"), (["6"], None, "6")], id="a list of numbers"),
        pytest.param([4, 5], [(["4"], None, "4"), (["5"], None, "5")], id="a number"),
        pytest.param([[], []], [([], None, ""), ([], None, "")], id="no answers at all"),
        pytest.param(
            [{"text": ["x"], "answer_start": None}, {"text": ["y"], "answer_start": None}],
            [(["x"], None, "x"), (["y"], None, "y")],
            id="null offsets",
        ),
    ],
)
def test_two_questions_in_two_questions_out(answers: list[Any], expected: list[Any]) -> None:
    assert answered(answers) == expected


@pytest.mark.parametrize(
    ("answers", "row", "shown"),
    [
        (
            [{"text": ["x"], "answer_start": [1]}, {"text": ["x"], "answer_start": [1, 2]}],
            101,
            "1 answers but 2 offsets",
        ),
        ([{"text": ["x"], "answer_start": [1]}, None], 101, "`answers` is null"),
        ([{"text": ["x", None], "answer_start": [1, 2]}, {"text": ["y"], "answer_start": [1]}], 100, "a null among"),
        ([[{"text": "x", "answer_start": 1}], [{"text": None, "answer_start": 1}]], 101, "a null among"),
        ([["x"], ["y", None]], 101, "a null among"),
        (["x", None], 101, "`answers` is null"),
    ],
)
def test_an_unusable_answer_is_named_with_its_row(answers: list[Any], row: int, shown: str) -> None:
    columns = {"context": ["c"] * len(answers), "question": ["q"] * len(answers), "answers": answers}
    error = row_error("question-answering", columns)

    assert error.where == f"task reviews, row {row}"
    assert shown in error.message


@pytest.mark.parametrize(
    ("answers", "shown"),
    [
        ([{"answer": ["x"]}], "has no `text`"),
        ([[{"span": "x"}]], "has no `text`"),
        ([{"text": ["x"], "answer_start": ["3"]}], "answer_start"),
        ([{"text": ["x"], "answer_start": [1.5]}], "answer_start"),
        ([1.5], "not a list of texts"),
        ([[[1]]], "not a list of texts"),
    ],
)
def test_answers_of_another_shape_are_refused(answers: list[Any], shown: str) -> None:
    error = row_error("question-answering", {"context": ["c"], "question": ["q"], "answers": answers})

    assert error.where == "task reviews"
    assert shown in error.message


# -- multiple choice


def chosen(columns: Columns, labels: Labels | None = None) -> list[tuple[list[str], int]]:
    found = canonical("multiple-choice", {"question": ["q", "r"], **columns}, labels)
    assert [row["question"] for row in found] == ["q", "r"]
    return [(row["choices"], row["label"]) for row in found]


OPTIONS = [["a", "b"], ["c", "d", "e"]]
LETTERS = make_labels(["A", "B", "C"], pl.String(), None, "", "")


@pytest.mark.parametrize(
    ("columns", "labels"),
    [
        pytest.param({"label": [1, 2]}, None, id="by position"),
        pytest.param({"label": pl.Series([1, 2], dtype=pl.UInt8)}, None, id="by small position"),
        pytest.param({"label": ["B", "C"], "keys": [["A", "B"], ["A", "B", "C"]]}, None, id="by key"),
        pytest.param({"label": ["y", "3"], "keys": [["x", "y"], ["1", "2", "3"]]}, None, id="by keys of each row"),
        pytest.param({"label": [2, 3], "keys": [[1, 2], [1, 2, 3]]}, None, id="by number as key"),
        pytest.param({"label": ["B", "C"]}, LETTERS, id="by the letters of the catalog"),
        pytest.param({"label": ["1", "2"]}, LETTERS, id="by position as text"),
    ],
)
def test_two_choices_in_two_choices_out(columns: Columns, labels: Labels | None) -> None:
    assert chosen({"choices": OPTIONS, **columns}, labels) == [(["a", "b"], 1), (["c", "d", "e"], 2)]


def test_context_and_rationale_may_be_null() -> None:
    columns = {"question": ["q"], "choices": [["a"]], "label": [0]}

    assert canonical("multiple-choice", columns)[0]["context"] is None
    assert canonical("multiple-choice", columns)[0]["rationale"] is None
    given_nulls = {**columns, "context": ["passage"], "rationale": pl.Series([None], dtype=pl.String)}
    assert canonical("multiple-choice", given_nulls)[0]["context"] == "passage"
    assert canonical("multiple-choice", given_nulls)[0]["rationale"] is None


@pytest.mark.parametrize(
    ("columns", "labels", "row", "shown"),
    [
        pytest.param({"label": [1, 3]}, None, 101, "`label` is 3, but there are 3 choices", id="past the options"),
        pytest.param({"label": [-1, 0]}, None, 100, "`label` is -1", id="the hub's -1"),
        pytest.param({"label": [1, None]}, None, 101, "`label` is null", id="null label"),
        pytest.param(
            {"label": pl.Series([0, 2**63], dtype=pl.UInt64)},
            None,
            101,
            "but there are 3 choices",
            id="a huge position",
        ),
        pytest.param({"label": ["A", "C"], "keys": [["A", "B"]] * 2}, None, 101, "'C'", id="none of the keys"),
        pytest.param({"label": ["A", None], "keys": [["A", "B"]] * 2}, None, 101, "`label` is null", id="null key"),
        pytest.param({"label": ["C", "A"], "keys": [["A", "B", "C"]] * 2}, None, 100, "2 choices", id="too many keys"),
        pytest.param({"label": ["A", "A"], "keys": [["A"], ["A", None]]}, None, 101, "null", id="null among keys"),
        pytest.param({"label": ["A", "A"], "keys": [["A"], None]}, None, 101, "`keys` is null", id="null keys"),
        pytest.param({"label": ["C", "C"]}, LETTERS, 100, "2 choices", id="a letter past the options"),
        pytest.param({"label": ["A", "D"]}, LETTERS, 101, "'D'", id="an unknown letter"),
        pytest.param({"label": [0, 0], "choices": [["a"], ["b", None]]}, None, 101, "null", id="null option"),
        pytest.param({"label": [0, 0], "choices": [["a"], None]}, None, 101, "`choices` is null", id="null options"),
        pytest.param({"label": [0, 0], "choices": [["a"], []]}, None, 101, "0 choices", id="no options"),
    ],
)
def test_an_unusable_choice_is_named_with_its_row(
    columns: Columns, labels: Labels | None, row: int, shown: str
) -> None:
    error = row_error("multiple-choice", {"question": ["q", "r"], "choices": OPTIONS, **columns}, labels)

    assert error.where == f"task reviews, row {row}"
    assert shown in error.message


CHOICE_CATALOG = """\
version: 1
tasks:
  t:
    kind: multiple-choice
    cluster: c
    source: {path: data}
    columns: {question: ask, choices: %s, label: %s}
"""


def opened_choices(project: Callable[..., Path], choices: str, label: str, rows: str) -> list[dict[str, Any]]:
    path = project(CHOICE_CATALOG % (choices, label), {"data/train.jsonl": rows})
    task = open_task(load_catalog(path).task("t"), None, WORKERS)
    (batch,) = task.batches(task.splits["train"], ["question", "choices", "label"])
    return batch.drop(SOURCE_ROW).to_dicts()


def test_options_may_lie_in_columns_of_their_own(project: Callable[..., Path]) -> None:
    rows = '{"ask": "q", "one": "a", "two": "b", "gold": 1}\n{"ask": "r", "one": "c", "two": "d", "gold": 0}\n'

    found = opened_choices(project, "[one, two]", "gold", rows)

    assert [(row["choices"], row["label"]) for row in found] == [(["a", "b"], 1), (["c", "d"], 0)]


def test_a_null_among_options_in_columns_is_named(project: Callable[..., Path]) -> None:
    rows = '{"ask": "q", "one": "a", "two": null, "gold": 1}\n{"ask": "r", "one": "c", "two": "d", "gold": 0}\n'

    with pytest.raises(RowError, match=r"row 0: `choices` has a null"):
        opened_choices(project, "[one, two]", "gold", rows)


def test_options_and_keys_may_lie_inside_a_column(project: Callable[..., Path]) -> None:
    rows = '{"ask": "q", "of": [{"text": "a"}, {"text": "b"}], "gold": "1"}\n'

    found = opened_choices(project, "of.text", '"{{ gold | int }}"', rows)

    assert [(row["choices"], row["label"]) for row in found] == [(["a", "b"], 1)]


@pytest.mark.parametrize(
    ("gold", "error"), [("0.0", CatalogError), ("true", CatalogError), ('"B"', CatalogError), ("[0]", RowError)]
)
def test_a_label_that_is_no_position_needs_words(
    project: Callable[..., Path], gold: str, error: type[TaskmixError]
) -> None:
    with pytest.raises(error, match="label"):
        opened_choices(project, "[ask, ask]", "gold", f'{{"ask": "q", "gold": {gold}}}\n')


# -- text generation


def test_two_texts_to_write_in_two_out() -> None:
    columns = {"input": ["3 + 4", "5 + 6"], "target": ["7", "11"], "rationale": ["count", None]}

    assert canonical("text-generation", columns) == [
        {"input": "3 + 4", "target": "7", "targets": ["7"], "rationale": "count"},
        {"input": "5 + 6", "target": "11", "targets": ["11"], "rationale": None},
    ]


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        ([["a", "b"], ["c"]], [("a", ["a", "b"]), ("c", ["c"])]),
        ([7, 11], [("7", ["7"]), ("11", ["11"])]),
        ([[7, 8], [9]], [("7", ["7", "8"]), ("9", ["9"])]),
    ],
)
def test_a_target_may_be_a_list_or_a_number(targets: list[Any], expected: list[Any]) -> None:
    found = canonical("text-generation", {"target": targets})

    assert [(row["target"], row["targets"]) for row in found] == expected
    assert [row["input"] for row in found] == [None, None]


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        ({"target": ["a", None]}, "`target` is null"),
        ({"target": [["a"], []]}, "`target` is an empty list"),
        ({"target": [["a"], None]}, "`target` is null"),
        ({"target": [["a"], ["b", None]]}, "a null among"),
        ({"target": ["a", "b"], "input": ["a", None]}, "`input` is null"),
    ],
)
def test_an_unusable_target_is_named_with_its_row(columns: Columns, shown: str) -> None:
    error = row_error("text-generation", columns)

    assert error.where == "task reviews, row 101"
    assert shown in error.message


# -- conversation


def turns(*contents: str, user: str = "user", assistant: str = "assistant") -> list[dict[str, str]]:
    return [
        {"role": assistant if position % 2 else user, "content": content} for position, content in enumerate(contents)
    ]


def test_two_chats_in_two_chats_out() -> None:
    chats = [turns("hello", "hi"), [{"role": "system", "content": "be brief"}, *turns("a", "b", "c", "d")]]

    assert canonical("conversation", {"messages": chats}) == [{"messages": chat} for chat in chats]


def test_from_and_value_become_role_and_content() -> None:
    chats = [
        [{"from": "human", "value": "hello"}, {"from": "gpt", "value": "hi"}],
        [{"from": "system", "value": "be brief"}, {"from": "user", "value": "a"}, {"from": "assistant", "value": "b"}],
    ]

    assert canonical("conversation", {"messages": chats}) == [
        {"messages": turns("hello", "hi")},
        {"messages": [{"role": "system", "content": "be brief"}, *turns("a", "b")]},
    ]


def test_further_fields_of_a_turn_are_left_out() -> None:
    chat = [{**turn, "weight": 1} for turn in turns("hello", "hi")]

    assert canonical("conversation", {"messages": [chat]}) == [{"messages": turns("hello", "hi")}]


@pytest.mark.parametrize(
    ("chat", "shown"),
    [
        pytest.param(turns("a", "b", user="tool"), "role", id="unknown role"),
        pytest.param(turns("a", "b", user="User"), "role", id="a role in capitals"),
        pytest.param([{"role": None, "content": "a"}, *turns("a", "b")], "role", id="null role"),
        pytest.param([None, *turns("a", "b")], "role", id="null turn"),
        pytest.param(None, "role", id="null chat"),
        pytest.param([], "the assistant's", id="no turns"),
        pytest.param(turns("a"), "the assistant's", id="no answer"),
        pytest.param(turns("a", "b", "c"), "the assistant's", id="the last turn is the user's"),
        pytest.param(turns("", "b"), "empty", id="empty turn"),
        pytest.param([{"role": "user", "content": None}, *turns("a", "b")], "empty", id="null content"),
    ],
)
def test_an_unusable_chat_is_named_with_its_row(chat: object, shown: str) -> None:
    error = row_error("conversation", {"messages": [turns("a", "b"), chat]})

    assert error.where == "task reviews, row 101"
    assert shown in error.message


@pytest.mark.parametrize(
    "chats",
    [
        pytest.param(["a"], id="text"),
        pytest.param([["a", "b"]], id="a list of texts"),
        pytest.param([[{"speaker": "user", "text": "a"}]], id="other names"),
        pytest.param([[{"role": "user", "content": 1}]], id="content that is a number"),
        pytest.param([[{"role": "user", "content": ["a"]}]], id="content that is a list"),
        pytest.param([[{"role": 1, "content": "a"}]], id="a role that is a number"),
        pytest.param([{"role": "user", "content": "a"}], id="one turn"),
        pytest.param([[]], id="nothing"),
        pytest.param([None], id="null"),
    ],
)
def test_messages_of_another_shape_are_refused(chats: list[Any]) -> None:
    error = row_error("conversation", {"messages": chats})

    assert error.where == "task reviews"
    assert "not a list of {role, content}" in error.message


# -- token classification

TAGS = make_labels(["O", "B-per", "I-per", "B-loc", "I-loc"], pl.Int64(), None, "", "")


def test_two_tagged_sentences_in_two_out() -> None:
    columns = {"tokens": [["Ada", "saw", "New", "York"], []], "tags": [[1, 0, 3, 4], []]}

    first, second = canonical("token-classification", columns, TAGS)

    assert first == {
        "tokens": ["Ada", "saw", "New", "York"],
        "tags": ["B-per", "O", "B-loc", "I-loc"],
        "text": "Ada saw New York",
        "types": ["per", "loc"],
        "choices": ["per", "loc"],
        "entities": [
            {"text": "Ada", "type": "per", "start": 0, "end": 1},
            {"text": "New York", "type": "loc", "start": 2, "end": 4},
        ],
    }
    assert second == {**first, "tokens": [], "tags": [], "text": "", "entities": []}


def test_tags_may_be_names() -> None:
    labels = make_labels(["O", "B-per", "I-per"], pl.String(), None, "", "")
    columns = {"tokens": [["Ada"], ["no", "one"]], "tags": [["B-per"], ["O", "O"]]}

    found = canonical("token-classification", columns, labels)

    assert [[entity["text"] for entity in row["entities"]] for row in found] == [["Ada"], []]


@pytest.mark.parametrize(
    ("columns", "row", "shown"),
    [
        ({"tags": [[1], [0]]}, 101, "2 tokens but 1 tags"),
        ({"tags": [[0, 1], [0, 0]]}, 100, "1 tokens but 2 tags"),
        ({"tags": [[1], [0, None]]}, 101, "`tags` is [0, None]"),
        ({"tags": [[1], [0, 5]]}, 101, "`tags` is [0, 5]"),
        ({"tags": [[1], [0, -1]]}, 101, "`tags` is [0, -1]"),
        ({"tags": [[1], None]}, 101, "`tags` is null"),
        ({"tags": [[1], [0, 0]], "tokens": [["a"], ["b", None]]}, 101, "`tokens` has a null"),
        ({"tags": [[1], [0, 0]], "tokens": [["a"], None]}, 101, "`tokens` is null"),
    ],
)
def test_an_unusable_sentence_is_named_with_its_row(columns: Columns, row: int, shown: str) -> None:
    error = row_error("token-classification", {"tokens": [["a"], ["b", "c"]], **columns}, TAGS)

    assert error.where == f"task reviews, row {row}"
    assert shown in error.message


def test_one_tag_for_a_sentence_is_refused() -> None:
    error = row_error("token-classification", {"tokens": [["a"]], "tags": [1]}, TAGS)

    assert "`tags` is a whole number, not a list of tags" in error.message


Span = tuple[int, int, str]
TYPES = ("per", "loc")


def spans_of(tags: Sequence[str]) -> list[Span]:
    tokens = [f"t{position}" for position in range(len(tags))]
    entities = decode(tokens, tags, has_prefixes(tags))
    assert all(each["text"].split() == tokens[each["start"] : each["end"]] for each in entities)
    return [(each["start"], each["end"], each["type"]) for each in entities]


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        pytest.param("", [], id="nothing"),
        pytest.param("O O", [], id="only O"),
        pytest.param("B-x I-x O B-x", [(0, 2, "x"), (3, 4, "x")], id="IOB2"),
        pytest.param("B-x B-x I-x", [(0, 1, "x"), (1, 3, "x")], id="IOB2, neighbours of one type"),
        pytest.param("I-x I-x O I-x", [(0, 2, "x"), (3, 4, "x")], id="IOB1"),
        pytest.param("I-x B-x I-x", [(0, 1, "x"), (1, 3, "x")], id="IOB1, neighbours of one type"),
        pytest.param("I-x I-y", [(0, 1, "x"), (1, 2, "y")], id="IOB1, neighbours of two types"),
        pytest.param("B-x I-x E-x S-y", [(0, 3, "x"), (3, 4, "y")], id="BIOES"),
        pytest.param("S-x S-x B-x E-x", [(0, 1, "x"), (1, 2, "x"), (2, 4, "x")], id="BIOES, neighbours"),
        pytest.param("B-x I-x L-x U-y", [(0, 3, "x"), (3, 4, "y")], id="BILOU"),
        pytest.param("x x O y y x", [(0, 2, "x"), (3, 5, "y"), (5, 6, "x")], id="IO"),
        pytest.param("B-x I-y", [(0, 1, "x"), (1, 2, "y")], id="I of another type starts"),
        pytest.param("B-x E-x I-x", [(0, 2, "x"), (2, 3, "x")], id="I after E starts"),
        pytest.param("S-x I-x", [(0, 1, "x"), (1, 2, "x")], id="I after S starts"),
        pytest.param("E-x E-x", [(0, 1, "x"), (1, 2, "x")], id="E after E starts"),
        pytest.param("B-a-b I-a-b", [(0, 2, "a-b")], id="a type with a hyphen"),
    ],
)
def test_tags_of_every_scheme_mark_entities(tags: str, expected: list[Span]) -> None:
    assert spans_of(tags.split()) == expected


def encode(length: int, spans: Sequence[Span], scheme: str) -> list[str]:
    """Tag spans in a scheme; independent of what decodes them."""
    tags = ["O"] * length
    for number, (start, end, kind) in enumerate(spans):
        touches = number > 0 and spans[number - 1][1:] == (start, kind)
        for position in range(start, end):
            first, last = position == start, position == end - 1
            if scheme == "IO":
                prefix = ""
            elif scheme == "IOB1":
                prefix = "B-" if first and touches else "I-"
            elif scheme == "IOB2":
                prefix = "B-" if first else "I-"
            else:
                only, ending = ("S-", "E-") if scheme == "BIOES" else ("U-", "L-")
                prefix = only if first and last else "B-" if first else ending if last else "I-"
            tags[position] = prefix + kind
    return tags


def merged(spans: Sequence[Span]) -> list[Span]:
    """Join neighbours of one type, which the IO scheme cannot tell apart."""
    found: list[Span] = []
    for start, end, kind in spans:
        if found and found[-1][1:] == (start, kind):
            found[-1] = (found[-1][0], end, kind)
        else:
            found.append((start, end, kind))
    return found


@st.composite
def spans(draw: st.DrawFn) -> tuple[int, list[Span]]:
    """A sentence's length and entities in it, in order, without overlap, often next to each other."""
    found, position = [], 0
    for _ in range(draw(st.integers(0, 6))):
        start = position + draw(st.sampled_from([0, 0, 1, 2]))
        position = start + draw(st.integers(1, 3))
        found.append((start, position, draw(st.sampled_from(TYPES))))
    return position + draw(st.integers(0, 2)), found


@pytest.mark.parametrize("scheme", ["IOB1", "IOB2", "BIOES", "BILOU"])
@given(sentence=spans())
def test_what_is_encoded_is_decoded(scheme: str, sentence: tuple[int, list[Span]]) -> None:
    length, expected = sentence

    assert spans_of(encode(length, expected, scheme)) == expected


@given(sentence=spans())
def test_the_io_scheme_joins_neighbours_of_one_type(sentence: tuple[int, list[Span]]) -> None:
    length, expected = sentence

    assert spans_of(encode(length, expected, "IO")) == merged(expected)


def conlleval(tags: Sequence[str]) -> list[Span]:
    """Return the chunks that the rules of the CoNLL-2000 script find: its tables, one line each.

    It knows B, I, E, O (and S since its later versions); L and U of BILOU are E and S by other names.
    """
    named = {"L": "E", "U": "S"}
    pairs = [("O", "") if tag == "O" else (named.get(tag[0], tag[0]), tag[2:]) for tag in tags]
    found: list[Span] = []
    start = -1
    previous, previous_type = "O", ""
    for position, (tag, kind) in enumerate([*pairs, ("O", "")]):
        ends = (
            (previous, tag) in {("B", "B"), ("B", "O"), ("B", "S"), ("I", "B"), ("I", "O"), ("I", "S")}
            or previous in {"E", "S"}
            or (previous != "O" and previous_type != kind)
        )
        begins = (
            tag in {"B", "S"}
            or (previous, tag) in {("E", "E"), ("E", "I"), ("S", "E"), ("S", "I"), ("O", "E"), ("O", "I")}
            or (tag != "O" and previous_type != kind)
        )
        if start >= 0 and ends:
            found.append((start, position, previous_type))
            start = -1
        if begins:
            start = position
        previous, previous_type = tag, kind
    return found


@given(st.lists(st.sampled_from(["O", *(f"{prefix}-{kind}" for prefix in "BIESLU" for kind in TYPES)]), max_size=12))
def test_malformed_sequences_are_read_by_the_rules_of_conlleval(tags: list[str]) -> None:
    assert spans_of(tags) == conlleval(tags)


@given(st.lists(st.sampled_from(["O", "B-per", "I-per", "I-loc", "E-loc", "S-per"]), max_size=8))
def test_entities_cover_what_is_not_outside_once(tags: list[str]) -> None:
    covered = [position for start, end, _ in spans_of(tags) for position in range(start, end)]

    assert covered == [position for position, tag in enumerate(tags) if tag != "O"]


@pytest.mark.parametrize(
    ("words", "prefixed", "types"),
    [
        (["O", "B-per", "I-per", "B-loc"], True, ["per", "loc"]),
        (["per", "O", "loc"], False, ["per", "loc"]),
        (["O", "B-per", "loc"], False, ["B-per", "loc"]),
        (["O", "S-a", "E-b", "L-a", "U-c"], True, ["a", "b", "c"]),
        (["O"], True, []),
        (["O", "Person", "Item"], False, ["Person", "Item"]),
    ],
)
def test_the_scheme_and_the_types_follow_from_the_tag_names(words: list[str], prefixed: bool, types: list[str]) -> None:
    assert has_prefixes(words) is prefixed
    assert entity_types(words) == types


@given(spans())
def test_entities_of_a_frame_are_those_of_each_row(sentence: tuple[int, list[Span]]) -> None:
    length, expected = sentence
    assume(length)
    names = ["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in TYPES)]
    tokens = [f"t{position}" for position in range(length)]
    labels = make_labels(names, pl.String(), None, "", "")
    columns = {"tokens": [tokens, tokens], "tags": [encode(length, expected, "IOB2"), ["O"] * length]}

    first, second = canonical("token-classification", columns, labels)

    entities: list[Entity] = first["entities"]
    assert [(each["start"], each["end"], each["type"]) for each in entities] == expected
    assert second["entities"] == []


# -- every kind


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_describes_what_it_takes(kind: str) -> None:
    found = KINDS[kind]

    assert found.name == kind
    assert set(found.inputs) <= set(found.columns)
    assert found.labelled is None or found.labelled in found.columns
    assert all(column.meaning for column in found.columns.values())
    assert found.names == set(found.columns) | set(found.variables)
    assert found.answer is None or set(found.answer) <= found.names


SCALARS: list[st.SearchStrategy[object]] = [
    st.integers(-2, 3),
    st.integers(0, 1),
    st.booleans(),
    st.floats(0, 1),
    st.sampled_from(["", "a", "b", "0"]),
    st.sampled_from(["user", "assistant"]),
    st.none(),
]


@st.composite
def two_values(draw: st.DrawFn, depth: int = 0) -> list[object]:
    """Two values of one type, either of them perhaps null, as the rows of a column have them."""
    shape = draw(st.sampled_from(["scalar", "list", "mapping"] if depth < 2 else ["scalar"]))
    if shape == "scalar":
        values = st.none() | draw(st.sampled_from(SCALARS))
        return [draw(values), draw(values)]
    if shape == "list":
        inner = draw(two_values(depth + 1))
        return [draw(st.none() | st.lists(st.sampled_from(inner), max_size=3)) for _ in range(2)]
    names = draw(st.sampled_from([("text", "answer_start"), ("text",), ("role", "content"), ("from", "value")]))
    fields = [draw(two_values(depth + 1)) for _ in names]
    return [dict(zip(names, row, strict=True)) for row in zip(*fields, strict=True)]


@pytest.mark.parametrize("kind", KINDS)
@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_whatever_a_column_holds_rows_come_out_or_an_understood_error(kind: str, data: st.DataObject) -> None:
    # a table has whatever columns its source has
    named = KINDS[kind].columns or {"anything": Column("")}
    columns = {
        name: pl.Series(name, pa.array(data.draw(two_values(), label=name)))
        for name, column in named.items()
        if column.required or data.draw(st.booleans(), label=f"has {name}")
    }
    labelled = KINDS[kind].labelled
    labels = None
    try:
        # opening a task makes the labels first
        if labelled is not None and "keys" not in columns:
            dtype = columns[labelled].dtype
            inner = dtype.inner if isinstance(dtype, pl.List) else dtype
            assert isinstance(inner, pl.DataType)
            if kind != "multiple-choice" or not inner.is_integer():
                labels = make_labels(["a", "b"], inner, None, "", "")
        found = canonical(kind, columns, labels)
    except TaskmixError:
        return
    assert len(found) == 2
