"""What a model is asked of a mixture: its prompts to the byte, in every format, with worked examples or without."""

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from taskmix.errors import UsageError
from taskmix.mixing.styles import BETWEEN_SHOTS
from taskmix_trainer.evaluation.posing import Example, Group, read_groups
from taskmix_trainer.models import scratch
from taskmix_trainer.targets import Mixture
from taskmix_trainer.tokens.texts import PLAIN_CHAT
from tests.test_formats import PARTS, PARTS_MIXTURE, PARTS_TEMPLATES
from tests.trainer.folders import build_mixture

SPLITS = ("validation", "heldout_templates", "heldout")
CATALOG = """\
version: 1
extends: builtin
mixtures:
"""
MIXTURE = """\
  {form}:
    tasks: [review-sentiment, everyday-entailment, short-passages, plain-reasoning, phrasebook, small-functions]
    holdout: {{clusters: [nli], templates: 1}}
    sampling: {{cap: 60}}
    evaluation: {{rows: 8}}
    format: {form}
"""
FORMATS = ("prompt-completion", "text", "alpaca", "messages", "sharegpt")


@pytest.fixture(scope="module")
def mixtures(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Mixture]:
    """One mixture in each format."""
    folder = tmp_path_factory.mktemp("formats")
    (folder / "catalog.yaml").write_text(CATALOG + "".join(MIXTURE.format(form=form) for form in FORMATS))
    return {form: build_mixture(folder / "catalog.yaml", form) for form in FORMATS}


def rows_of(mixture: Mixture, split: str) -> dict[str, dict[str, Any]]:
    """Return the rows of a split by their ids."""
    frame = pl.concat([pl.read_parquet(file) for file in sorted((mixture.folder / "data").glob(f"{split}-*"))])
    return {row["id"]: row for row in frame.to_dicts()}


def tokenizer() -> Any:
    return scratch.train_tokenizer("tiny", "causal-language-model", ["some words to learn from"])


def asked(groups: list[Group]) -> dict[str, Example]:
    """Return the examples of groups by their ids."""
    return {example.id: example for group in groups for example in group.examples}


@pytest.mark.parametrize("form", FORMATS[:3])
@pytest.mark.parametrize("split", SPLITS)
def test_the_prompt_is_the_mixtures_own(mixtures: Mapping[str, Mixture], form: str, split: str) -> None:
    rows = rows_of(mixtures["prompt-completion"], split)
    found = asked(read_groups(mixtures[form], [split], None))
    assert found.keys() == rows.keys()
    assert len(rows) > 30
    for name, row in rows.items():
        example = found[name]
        assert example.prompt == row["prompt"]
        assert example.completion == row["completion"]
        assert example.choices == (None if row["choices"] is None else tuple(row["choices"]))
        assert example.answer == row["answer"]
        assert example.references == tuple(row["references"])
        assert example.origin == (row["source_split"], row["source_row"])
        assert example.choices is None or example.choices[row["answer"]] == row["completion"]


def test_texts_with_ends_of_their_own(project: Callable[..., Path]) -> None:
    """Separators, endings and line breaks that other templates have: a text is cut where its prompt ends."""
    lines = "".join(json.dumps({"given": f"word {at}", "wanted": f"word {at % 7}\n"}) + "\n" for at in range(40))
    files = {"data/train.jsonl": lines, "data/validation.jsonl": lines.replace("word", "name")}
    files["templates/parts.yaml"] = PARTS_TEMPLATES
    forms = ("prompt-completion", "text")
    catalog = project(PARTS + "".join(PARTS_MIXTURE.format(form=form) for form in forms), files)
    rows = rows_of(build_mixture(catalog, "prompt-completion"), "validation")
    found = asked(read_groups(build_mixture(catalog, "text"), ["validation"], None))
    assert {name: (each.prompt, each.completion) for name, each in found.items()} == {
        name: (row["prompt"], row["completion"]) for name, row in rows.items()
    }


@pytest.mark.parametrize("form", ["messages", "sharegpt"])
def test_messages_come_under_the_models_chat_template(mixtures: Mapping[str, Mixture], form: str) -> None:
    plain, own = tokenizer(), tokenizer()
    own.chat_template = (
        "{% for m in messages %}[{{ m.role }}]{{ m.content }}{% endfor %}{% if add_generation_prompt %}[me]{% endif %}"
    )
    rows = rows_of(mixtures["messages"], "heldout")
    found = asked(read_groups(mixtures[form], ["heldout"], own))
    default = asked(read_groups(mixtures[form], ["heldout"], plain))
    assert plain.chat_template == PLAIN_CHAT
    assert found.keys() == rows.keys()
    for name, row in rows.items():
        user, told = row["messages"]
        assert found[name].prompt == f"[user]{user['content']}[me]"
        assert default[name].prompt == plain.apply_chat_template([user], tokenize=False, add_generation_prompt=True)
        assert found[name].completion == told["content"]


@pytest.mark.parametrize("form", FORMATS)
def test_an_encoder_reads_what_it_was_trained_on(mixtures: Mapping[str, Mixture], form: str) -> None:
    from taskmix_trainer.reading import mixture_rows

    found = asked(read_groups(mixtures[form], ["validation"], None, encoder=True))
    plain = asked(read_groups(mixtures["prompt-completion"], ["validation"], None))
    assert {name: each.prompt for name, each in found.items()} == {
        name: each.prompt.rstrip() for name, each in plain.items()
    }
    if form == "messages":
        for batch in mixture_rows(mixtures[form], "validation"):
            for name, messages in zip(batch["row"], batch["messages"], strict=True):
                assert found[name].prompt == messages[0]["content"].rstrip()


def test_a_group_is_a_task_under_a_template(mixtures: Mapping[str, Mixture]) -> None:
    mixture = mixtures["prompt-completion"]
    groups = read_groups(mixture, SPLITS, None)
    keys = [(group.split, group.task, group.template, group.style) for group in groups]
    assert len(set(keys)) == len(keys)
    for group in groups:
        rows = rows_of(mixture, group.split)
        for example in group.examples:
            row = rows[example.id]
            assert (row["task"], row["template"], row["style"], row["cluster"]) == (
                group.task, group.template, group.style, group.cluster,
            )  # fmt: skip
        assert group.kind == mixture.lock["tasks"][group.task]["spec"]["kind"]
        assert group.ranks == (group.kind in ("text-classification", "multiple-choice"))
    unseen = {(group.task, group.template) for group in groups if group.split == "heldout_templates"}
    seen = {(group.task, group.template) for group in groups if group.split == "validation"}
    assert unseen
    assert not unseen & seen
    assert {task for task, _ in unseen} == {task for task, _ in seen}


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_takes_the_same_source_rows_for_all_templates(mixtures: Mapping[str, Mixture], limit: int) -> None:
    whole = asked(read_groups(mixtures["prompt-completion"], SPLITS, None))
    groups = read_groups(mixtures["prompt-completion"], SPLITS, None, limit=limit)
    rows: dict[tuple[str, str], set[tuple[tuple[str, int], ...]]] = {}
    for group in groups:
        rows.setdefault((group.split, group.task), set()).add(tuple(example.origin for example in group.examples))
        assert all(whole[example.id] == example for example in group.examples)
    assert all(len(each) == 1 for each in rows.values())
    assert {len(taken) for each in rows.values() for taken in each} == {limit}


def shown(example: Example, alone: Example) -> list[str]:
    """Return the worked examples before a row."""
    assert example.prompt.endswith(alone.prompt)
    before = example.prompt.removesuffix(alone.prompt)
    if not before:
        return []
    assert before.endswith(BETWEEN_SHOTS)
    return re.split(BETWEEN_SHOTS + "(?!\n)", before)[:-1]


@pytest.mark.parametrize("shots", [1, 3])
def test_worked_examples_are_others_of_task_and_template(mixtures: Mapping[str, Mixture], shots: int) -> None:
    mixture = mixtures["prompt-completion"]
    splits = {name: rows_of(mixture, name) for name in ("train", *SPLITS)}
    alone = asked(read_groups(mixture, SPLITS, None))
    for group in read_groups(mixture, SPLITS, None, shots=shots):
        assert group.style == f"{shots}-shot"
        if group.task == "small-functions":
            continue  # code has the gap between examples within
        here, train = (
            {
                row["prompt"] + row["completion"]: row
                for row in splits[split].values()
                if (row["task"], row["template"], row["style"]) == (group.task, group.template, "zero-shot")
            }
            for split in (group.split, "train")
        )
        for example in group.examples:
            texts = shown(example, alone[example.id])
            assert len(texts) == len(set(texts)) == shots
            assert example.origin == alone[example.id].origin
            pool = train if len(train) >= shots else here
            for text in texts:
                row = pool[text]
                if pool is here:
                    assert (row["source_split"], row["source_row"]) != example.origin
                assert row["prompt"] != alone[example.id].prompt


def test_worked_examples_follow_from_the_seed_and_not_from_the_limit(mixtures: Mapping[str, Mixture]) -> None:
    mixture = mixtures["prompt-completion"]

    def prompts(seed: int = 0, limit: int | None = None) -> dict[str, str]:
        found = asked(read_groups(mixture, ["validation", "heldout"], None, shots=2, seed=seed, limit=limit))
        return {name: each.prompt for name, each in found.items()}

    whole, again, other, few = prompts(), prompts(), prompts(seed=1), prompts(limit=1)
    assert whole == again
    assert sum(whole[name] != other[name] for name in whole) > len(whole) / 2
    assert 0 < len(few) < len(whole)
    assert all(whole[name] == prompt for name, prompt in few.items())


def test_an_encoders_worked_examples_keep_prompt_and_answer_apart(mixtures: Mapping[str, Mixture]) -> None:
    mixture = mixtures["prompt-completion"]
    rows = {row["prompt"] + row["completion"]: row for row in rows_of(mixture, "heldout").values()}
    alone = asked(read_groups(mixture, ["heldout"], None, encoder=True))
    for example in asked(read_groups(mixture, ["heldout"], None, shots=1, encoder=True)).values():
        (text,) = shown(example, alone[example.id])
        assert text in rows


def test_what_cannot_be_asked(mixtures: Mapping[str, Mixture]) -> None:
    plain = mixtures["prompt-completion"]
    with pytest.raises(UsageError, match="no evaluation rows in 'train'") as refused:
        read_groups(plain, ["train"], None)
    assert "validation" in str(refused.value.hint)
    with pytest.raises(UsageError, match="no evaluation rows in 'test'"):
        read_groups(plain, ["test"], None)
    with pytest.raises(UsageError, match="there are no 8 worked examples to show") as refused:
        read_groups(plain, ["heldout"], None, shots=8)
    assert "everyday-entailment" in str(refused.value.where)
    with pytest.raises(UsageError, match="before chat messages are not supported"):
        read_groups(mixtures["messages"], ["heldout"], tokenizer(), shots=1)
