"""The five formats of one mixture hold the same examples, and conversations pass through the two that can hold them."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import polars as pl
import pytest

from taskmix.building import build
from taskmix.catalog.loading import load_catalog
from taskmix.errors import CatalogError

FORMATS = {
    "prompt-completion": ("prompt", "completion"),
    "messages": ("messages",),
    "alpaca": ("instruction", "input", "output"),
    "sharegpt": ("conversations",),
    "text": ("text",),
}
COMMON = ("id", "task", "cluster", "template", "style", "source_split", "source_row", "choices", "answer", "references")
SPLITS = ("train", "validation", "heldout", "heldout_templates")
STARTER = """\
version: 1
extends: builtin
mixtures:
"""
MIXTURE = """\
  {form}:
    tasks: [review-sentiment, headline-topics, everyday-entailment, name-tagging, short-passages, plain-reasoning,
      phrasebook, brief-summaries, worked-arithmetic, small-functions]
    holdout: {{clusters: [nli], templates: 1}}
    styles: {{chain_of_thought: 0.5, inverted: 0.1}}
    evaluation: {{rows: 10}}
    format: {form}
"""
# what the starter's templates do not have: parts that render empty, other separators and endings, newlines at the ends
PARTS = """\
version: 1
tasks:
  parts:
    kind: text-generation
    cluster: parts
    source: {path: data}
    columns: {input: given, target: wanted}
mixtures:
"""
PARTS_MIXTURE = """\
  {form}: {{tasks: [parts], decontamination: off, evaluation: {{rows: 10}}, format: {form}}}
"""
PARTS_TEMPLATES = r"""
- {name: plain, instruction: "Say it.", input: "{{ input }}", output: "{{ target }}"}
- {name: empty-instruction, instruction: "{{ '' }}", input: "{{ input }}!", output: "{{ target }}"}
- {name: empty-input, instruction: "Say {{ input }}.", input: "{{ '' }}", output: "{{ target }}"}
- {name: own-ends, instruction: "Q:", separator: " ", input: "{{ input }}", ending: "\nA: ", output: "{{ target }}"}
- {name: no-ending, instruction: "{{ input }}: ", ending: "", output: "{{ target }}\n"}
- {name: newlines, instruction: "\n{{ input }}\n\n", input: "{{ input }}\n", output: "\n{{ target }}\n\n"}
"""
PARTS_ROWS = '{"given": "a  été", "wanted": "日本\\n"}\n{"given": "\\n\\nb\\n\\n", "wanted": " c "}\n'
# template and row: user turn, ending, completion, instruction, input
PARTS_RENDERED = {
    "plain 0": ("Say it.\n\na  été", "\n\n", "日本\n", "Say it.", "a  été"),
    "plain 1": ("Say it.\n\n\n\nb\n\n", "\n\n", " c ", "Say it.", "\n\nb\n\n"),
    # an empty instruction leaves its place to the input
    "empty-instruction 0": ("a  été!", "\n\n", "日本\n", "a  été!", ""),
    "empty-input 0": ("Say a  été.", "\n\n", "日本\n", "Say a  été.", ""),
    "own-ends 0": ("Q: a  été", "\nA: ", "日本\n", "Q:", "a  été"),
    "no-ending 0": ("a  été: ", "", "日本\n\n", "a  été: ", ""),
    "newlines 0": ("\na  été\n\n\n\na  été\n", "\n\n", "\n日本\n\n\n", "\na  été\n\n", "a  été\n"),
}


def read(folder: Path) -> dict[str, pl.DataFrame]:
    """Return the rows of every split of a mixture, in the order of their ids."""
    return {
        split: pl.concat(map(pl.read_parquet, files)).sort("id")
        for split in SPLITS
        if (files := sorted((folder / "data").glob(f"{split}-*.parquet")))
    }


def build_formats(catalog: Path, out: Path) -> dict[str, Path]:
    loaded = load_catalog(catalog)
    return {form: build(form, catalog=loaded, out=out / form).out for form in FORMATS}


@pytest.fixture(scope="module")
def starter(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The starter mixture in every format, by format."""
    folder = tmp_path_factory.mktemp("starter")
    catalog = folder / "catalog.yaml"
    catalog.write_text(STARTER + "".join(MIXTURE.format(form=form) for form in FORMATS), "utf-8")
    return build_formats(catalog, folder / "mixtures")


@pytest.fixture(scope="module")
def rows(starter: Mapping[str, Path]) -> dict[str, pl.DataFrame]:
    """The rows of all splits of the starter mixture in every format."""
    return {form: pl.concat(read(folder).values()) for form, folder in starter.items()}


@pytest.fixture(scope="module")
def parts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, dict[str, object]]]:
    """What each format makes of odd templates: format, then `TEMPLATE ROW`, then its columns."""
    folder = tmp_path_factory.mktemp("parts")
    catalog = PARTS + "".join(PARTS_MIXTURE.format(form=form) for form in FORMATS)
    files = {"catalog.yaml": catalog, "templates/parts.yaml": PARTS_TEMPLATES}
    for name, text in (files | {f"data/{split}.jsonl": PARTS_ROWS for split in ("train", "validation")}).items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    built = build_formats(folder / "catalog.yaml", folder / "mixtures")
    return {
        form: {
            f"{row['template']} {row['source_row']}": {name: row[name] for name in FORMATS[form]}
            for row in read(folder)["validation"].iter_rows(named=True)
        }
        for form, folder in built.items()
    }


def turns(frame: pl.DataFrame, column: str, at: int, field: str) -> pl.Series:
    return frame[column].list.get(at).struct.field(field)


@pytest.mark.parametrize("form", FORMATS)
def test_a_format_has_its_columns_first_and_then_those_of_every_format(starter: dict[str, Path], form: str) -> None:
    splits = read(starter[form])
    assert list(splits) == list(SPLITS)
    for frame in splits.values():
        assert frame.columns == [*FORMATS[form], *COMMON]
        assert not any(frame[name].null_count() for name in FORMATS[form])


@pytest.mark.parametrize("form", FORMATS)
def test_every_format_has_the_same_examples(rows: dict[str, pl.DataFrame], form: str) -> None:
    assert rows[form].select(COMMON).equals(rows["prompt-completion"].select(COMMON))


def test_text_is_prompt_and_completion_and_nothing_else(rows: dict[str, pl.DataFrame]) -> None:
    plain = rows["prompt-completion"]
    assert rows["text"]["text"].to_list() == (plain["prompt"] + plain["completion"]).to_list()


def test_a_user_turn_is_the_prompt_without_its_ending(rows: dict[str, pl.DataFrame]) -> None:
    plain, chats = rows["prompt-completion"], rows["messages"]
    assert set(chats["messages"].list.len()) == {2}
    assert set(turns(chats, "messages", 0, "role")) == {"user"}
    assert set(turns(chats, "messages", 1, "role")) == {"assistant"}
    assert (turns(chats, "messages", 0, "content") + "\n\n").to_list() == plain["prompt"].to_list()
    assert turns(chats, "messages", 1, "content").to_list() == plain["completion"].to_list()


def test_sharegpt_has_the_turns_of_messages_under_its_own_names(rows: dict[str, pl.DataFrame]) -> None:
    names = {"user": "human", "assistant": "gpt"}
    assert rows["sharegpt"]["conversations"].to_list() == [
        [{"from": names[turn["role"]], "value": turn["content"]} for turn in each]
        for each in rows["messages"]["messages"].to_list()
    ]


def test_alpaca_has_the_two_parts_of_the_prompt(rows: dict[str, pl.DataFrame]) -> None:
    plain, alpaca = rows["prompt-completion"], rows["alpaca"]
    assert alpaca["output"].to_list() == plain["completion"].to_list()
    for instruction, given, prompt in zip(alpaca["instruction"], alpaca["input"], plain["prompt"], strict=True):
        assert prompt == (f"{instruction}\n\n{given}\n\n" if given else f"{instruction}\n\n")
    assert 0 < (alpaca["input"] == "").sum() < len(alpaca)
    assert (alpaca["instruction"] != "").all()


@pytest.mark.parametrize("template", PARTS_RENDERED)
def test_every_format_keeps_the_rendered_text_as_it_is(
    parts: dict[str, dict[str, dict[str, object]]], template: str
) -> None:
    turn, ending, completion, instruction, given = PARTS_RENDERED[template]
    assert {form: found[template] for form, found in parts.items()} == {
        "prompt-completion": {"prompt": turn + ending, "completion": completion},
        "messages": {
            "messages": [{"role": "user", "content": turn}, {"role": "assistant", "content": completion}],
        },
        "alpaca": {"instruction": instruction, "input": given, "output": completion},
        "sharegpt": {
            "conversations": [{"from": "human", "value": turn}, {"from": "gpt", "value": completion}],
        },
        "text": {"text": turn + ending + completion},
    }


def test_datasets_loads_every_format(starter: dict[str, Path], tmp_path: Path) -> None:
    script = """\
import datasets, json, sys
found = {}
for folder in sys.argv[1:]:
    mixture = datasets.load_dataset(folder)
    found[folder] = {name: [split.num_rows, split.column_names] for name, split in mixture.items()}
    assert len({str(split.features) for split in mixture.values()}) == 1
print(json.dumps(found))
"""
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, *map(str, starter.values())],
        env=os.environ | offline,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == {
        str(folder): {split: [len(frame), frame.columns] for split, frame in read(folder).items()}
        for folder in starter.values()
    }


CHATS = """\
version: 1
extends: builtin
mixtures:
  chats: {{tasks: [helpful-chats, review-sentiment], evaluation: {{rows: 10}}, format: {form}}}
"""


@pytest.mark.parametrize(
    ("form", "role", "content", "names"),
    [
        ("messages", "role", "content", {}),
        ("sharegpt", "from", "value", {"user": "human", "assistant": "gpt"}),
    ],
)
def test_conversations_pass_through_turn_by_turn(
    project: Callable[..., Path], tmp_path: Path, form: str, role: str, content: str, names: dict[str, str]
) -> None:
    catalog = load_catalog(project(CHATS.format(form=form)))
    built = build("chats", catalog=catalog, out=tmp_path / "out")
    source = catalog.tasks["helpful-chats"].root / "examples" / "starter" / "helpful-chats"
    lengths = set()
    for split, frame in read(built.out).items():
        lines = [json.loads(line) for line in (source / f"{split}.jsonl").read_text("utf-8").splitlines()]
        chats = frame.filter(pl.col("task") == "helpful-chats")
        assert len(chats) == (len(lines) if split == "train" else 10)
        for row in chats.iter_rows(named=True):
            expected = [
                {role: names.get(turn["role"], turn["role"]), content: turn["content"]}
                for turn in lines[row["source_row"]]["messages"]
            ]
            assert row[FORMATS[form][0]] == expected
            assert (row["template"], row["style"]) == ("conversation", "zero-shot")
            assert (row["choices"], row["answer"], row["references"]) == (None, None, None)
            lengths.add(len(expected))
        assert "review-sentiment" in set(frame["task"])
    assert len(lengths) > 2


@pytest.mark.parametrize("form", ["prompt-completion", "alpaca", "text"])
def test_conversations_are_refused_where_they_do_not_fit(
    project: Callable[..., Path], tmp_path: Path, form: str
) -> None:
    path = project(CHATS.format(form=form))
    with pytest.raises(CatalogError) as caught:
        build("chats", catalog=load_catalog(path), out=tmp_path / "out")
    assert str(caught.value) == (
        f"{path}:4: the conversations of the task helpful-chats do not fit into the format {form}\n"
        "  use one of messages, sharegpt, or leave the task out"
    )
    assert not (tmp_path / "out").exists()
