"""`mix eval` of classic heads on real rows, against transformers' pipelines or plain loops over one row at a time."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from seqeval.metrics import f1_score as entity_f1
from seqeval.scheme import IOB2
from sklearn.metrics import accuracy_score, f1_score, matthews_corrcoef
from torchmetrics.text import SQuAD
from transformers import AutoTokenizer, pipeline
from transformers.models.auto import modeling_auto

from taskmix.catalog.loading import load_catalog
from taskmix.errors import TaskmixError
from taskmix_trainer.evaluation.running import Evaluation, Options, evaluate
from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.targets import RawTask
from tests.trainer.folders import save_model

CATALOG = """
version: 1
tasks:
  sentiment:
    {kind: text-classification, cluster: c, license: unknown, source: {hub: stanfordnlp/sst2},
     columns: {text: sentence}, labels: [negative, positive]}
  pairs:
    {kind: text-classification, cluster: c, license: unknown, source: {hub: aps/super_glue, config: rte},
     columns: {text: premise, text_pair: hypothesis}, labels: {entailment: yes, not_entailment: no}}
  emotions:
    {kind: text-classification, cluster: c, license: unknown, source: {hub: google-research-datasets/go_emotions},
     columns: {label: labels}}
  entities:
    {kind: token-classification, cluster: c, license: unknown, source: {hub: leondz/wnut_17},
     columns: {tags: ner_tags}}
  questions: {kind: question-answering, cluster: c, license: unknown, source: {hub: rajpurkar/squad}}
  science:
    {kind: multiple-choice, cluster: c, license: unknown, source: {path: options.jsonl},
     splits: {validation: train}}
  doubtful: {kind: question-answering, cluster: c, license: unknown, source: {path: doubtful.jsonl},
     splits: {validation: train}}
  sums:
    {kind: text-generation, cluster: math, license: unknown, source: {hub: openai/gsm8k, config: main},
     splits: {validation: test}, columns: {input: question, target: "{{ answer.split('#### ')[1] | trim }}"}}
"""
Project = Callable[..., Path]


@pytest.fixture
def task(project: Project, shared_data: Path) -> Callable[..., RawTask]:
    """Return a task of the catalog above, with files of its own where it has such."""

    def open_task(name: str, files: dict[str, str] | None = None) -> RawTask:
        return RawTask(load_catalog(project(CATALOG, files)).tasks[name], shared_data)

    return open_task


def rows_of(data: Path, name: str, count: int) -> list[dict[str, Any]]:
    """Return the first rows of a file of real data."""
    return pl.read_parquet(data / f"{name}.parquet").head(count).to_dicts()


def values(found: Evaluation) -> dict[str, float]:
    """Return the figures of an evaluation that has one task."""
    (record,) = found.records
    return {measure.metric: measure.value for measure in record.measures}


def predicted(found: Evaluation) -> list[Any]:
    return [each["prediction"] for each in found.predictions]


def opened(name: ModelName, kind: str) -> tuple[Any, Any]:
    """Return a model and its tokenizer by transformers' own means."""
    maker: Any = getattr(modeling_auto, f"AutoModelFor{kind}")
    return maker.from_pretrained(name.name).eval(), AutoTokenizer.from_pretrained(name.name)


def test_labels_of_texts(task: Any, shared_data: Path, tmp_path: Path) -> None:
    rows = rows_of(shared_data, "stanfordnlp/sst2/validation", 60)
    texts, gold = [row["sentence"] for row in rows], [row["label"] for row in rows]
    labels = ["negative", "positive"]
    model = save_model(tmp_path / "model", "sequence-classification", texts, labels)
    found = evaluate(model, task("sentiment"), Options(limit=60))
    theirs: Any = pipeline("text-classification", model=model.name, device="cpu")
    words = [each["label"] for each in theirs(texts, truncation=True)]
    assert predicted(found) == words
    assert [each["right"] for each in found.predictions] == [labels[at] for at in gold]
    assert len(set(words)) == 2
    best = [labels.index(word) for word in words]
    assert values(found) == pytest.approx(
        {
            "accuracy": accuracy_score(gold, best),
            "macro_f1": f1_score(gold, best, average="macro"),
            "mcc": matthews_corrcoef(gold, best),
        }
    )
    assert {each.name: each.f1 for each in found.classes} == pytest.approx(
        dict(zip(labels, f1_score(gold, best, average=None), strict=True))
    )
    (record,) = found.records
    assert record.baseline is not None
    assert record.baseline.majority == max(gold.count(0), gold.count(1)) / 60
    assert record.baseline.chance == 0.5


def test_labels_of_pairs_that_are_cut(task: Any, shared_data: Path, tmp_path: Path) -> None:
    rows = rows_of(shared_data, "aps/super_glue/rte/validation", 30)
    texts = [row[name] for row in rows for name in ("premise", "hypothesis")]
    model = save_model(tmp_path / "model", "sequence-classification", texts, ["yes", "no"])
    found = evaluate(model, task("pairs"), Options(limit=30, max_length=48))
    theirs: Any = pipeline("text-classification", model=model.name, device="cpu")
    pairs = [{"text": row["premise"], "text_pair": row["hypothesis"]} for row in rows]
    words = [theirs(pair, truncation=True, max_length=48)["label"] for pair in pairs]
    assert predicted(found) == words
    _, tokenizer = opened(model, "SequenceClassification")
    cut = sum(len(tokenizer(row["premise"], row["hypothesis"])["input_ids"]) > 48 for row in rows)
    assert cut > 0
    assert found.notes == (f"validation: {cut} cut",)


def test_several_labels(task: Any, shared_data: Path, tmp_path: Path) -> None:
    rows = rows_of(shared_data, "google-research-datasets/go_emotions/validation", 50)
    texts = [row["text"] for row in rows]
    target = task("emotions")
    names = json.loads((shared_data / "google-research-datasets/go_emotions/features.json").read_text())
    labels = names["default"]["labels"]["feature"]["names"]
    model = save_model(tmp_path / "model", "sequence-classification", texts, labels, multi_label=True)
    found = evaluate(model, target, Options(limit=50))
    theirs: Any = pipeline("text-classification", model=model.name, device="cpu", top_k=None)
    sets = [
        {each["label"] for each in scores if each["score"] > 0.5}
        for scores in theirs(texts, function_to_apply="sigmoid")
    ]
    assert [set(each) for each in predicted(found)] == sets
    gold = np.array([[at in row["labels"] for at in range(len(labels))] for row in rows])
    made = np.array([[label in one for label in labels] for one in sets])
    figures = values(found)
    assert figures["micro_f1"] == pytest.approx(f1_score(gold, made, average="micro"))
    assert figures["subset_accuracy"] == pytest.approx(accuracy_score(gold, made))
    occur = (gold | made).any(0)
    assert figures["macro_f1"] == pytest.approx(
        f1_score(gold[:, occur], made[:, occur], average="macro", zero_division=0)
    )


def test_tags_of_words_some_of_which_are_cut_off(task: Any, shared_data: Path, tmp_path: Path) -> None:
    rows = rows_of(shared_data, "leondz/wnut_17/validation", 40)
    names = json.loads((shared_data / "leondz/wnut_17/features.json").read_text())
    labels = names["default"]["ner_tags"]["feature"]["names"]
    texts = [" ".join(row["tokens"]) for row in rows[:20]]
    name = save_model(tmp_path / "model", "token-classification", texts, labels)
    found = evaluate(name, task("entities"), Options(limit=40, max_length=24))
    model, tokenizer = opened(name, "TokenClassification")
    made, lost = [], 0
    for row in rows:
        encoded = tokenizer(
            row["tokens"], is_split_into_words=True, truncation=True, max_length=24, return_tensors="pt"
        )
        with torch.no_grad():
            best = model(**encoded).logits[0].argmax(-1).tolist()
        tags: dict[int, str] = {}
        for label, word in zip(best, encoded.word_ids(0), strict=True):
            if word is not None:
                tags.setdefault(word, labels[label])
        lost += len(tags) < len(row["tokens"])
        made.append([tags.get(at, "O") for at in range(len(row["tokens"]))])
    assert lost > 5
    assert predicted(found) == made
    gold = [[labels[at] for at in row["ner_tags"]] for row in rows]
    assert values(found) == pytest.approx(
        {
            "entity_f1": entity_f1(gold, made, mode="strict", scheme=IOB2),
            "entity_f1_conll": entity_f1(gold, made),
        }
    )
    assert values(found)["entity_f1"] > 0


def answers_by_hand(
    model: Any, tokenizer: Any, rows: Sequence[Any], length: int, stride: int, *, may_be_none: bool
) -> list[str]:
    """Return answers as the script `run_qa` of transformers finds them, a window at a time."""
    found = []
    for row in rows:
        encoded = tokenizer(
            row["question"].lstrip(),
            row["context"],
            truncation="only_second",
            max_length=length,
            stride=stride,
            return_overflowing_tokens=True,
            return_offsets_mapping=True,
        )
        spans: list[tuple[float, str]] = []
        null = float("inf")
        for at, ids in enumerate(encoded["input_ids"]):
            with torch.no_grad():
                out = model(input_ids=torch.tensor([ids]))
            starts, ends = out.start_logits[0].numpy(), out.end_logits[0].numpy()
            null = min(null, float(starts[0] + ends[0]))
            inside = [place for place, side in enumerate(encoded.sequence_ids(at)) if side == 1]
            for a in sorted(inside, key=lambda place: -starts[place])[:20]:
                for b in sorted(inside, key=lambda place: -ends[place])[:20]:
                    if a <= b < a + 30:
                        offsets = encoded["offset_mapping"][at]
                        spans.append((float(starts[a] + ends[b]), row["context"][offsets[a][0] : offsets[b][1]]))
        score, text = max(spans, key=lambda one: one[0])
        found.append("" if may_be_none and null > score else text)
    return found


def test_answers_over_several_windows(task: Any, shared_data: Path, tmp_path: Path) -> None:
    rows = rows_of(shared_data, "rajpurkar/squad/validation", 12)
    name = save_model(tmp_path / "model", "question-answering", [row["context"] for row in rows])
    found = evaluate(name, task("questions"), Options(limit=12, max_length=80))
    model, tokenizer = opened(name, "QuestionAnswering")
    made = answers_by_hand(model, tokenizer, rows, 80, 20, may_be_none=False)
    assert predicted(found) == made
    theirs = SQuAD()
    theirs.update(
        [{"id": str(at), "prediction_text": text} for at, text in enumerate(made)],
        [{"id": str(at), "answers": row["answers"]} for at, row in enumerate(rows)],
    )
    figures = values(found)
    assert figures["squad_f1"] == pytest.approx(float(theirs.compute()["f1"]) / 100)
    assert figures["squad_exact"] == pytest.approx(float(theirs.compute()["exact_match"]) / 100)
    assert any("more than one window" in note for note in found.notes)


def test_questions_without_an_answer(task: Any, shared_data: Path, tmp_path: Path) -> None:
    rows = rows_of(shared_data, "rajpurkar/squad/validation", 24)
    asked = [
        {
            "context": row["context"],
            "question": row["question"],
            "answers": [] if at % 3 == 0 else row["answers"]["text"],
            "answer_starts": [] if at % 3 == 0 else row["answers"]["answer_start"],
        }
        for at, row in enumerate(rows)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in asked)
    name = save_model(tmp_path / "model", "question-answering", [row["context"] for row in rows])
    found = evaluate(name, task("doubtful", {"doubtful.jsonl": lines}), Options(max_length=160))
    model, tokenizer = opened(name, "QuestionAnswering")
    made = answers_by_hand(model, tokenizer, asked, 160, 40, may_be_none=True)
    assert predicted(found) == made
    figures = values(found)
    right = [text == "" for text, row in zip(made, asked, strict=True) if not row["answers"]]
    assert figures["no_answer_exact"] == pytest.approx(sum(right) / len(right))
    assert {each["right"] == [] for each in found.predictions} == {True, False}


def test_options_of_different_numbers(task: Any, shared_data: Path, tmp_path: Path) -> None:
    rows = [
        {"question": row["question"], "choices": row["choices"]["text"], "label": row["choices"]["label"].index(key)}
        for row in rows_of(shared_data, "allenai/ai2_arc/ARC-Challenge/test", 30)
        if (key := row["answerKey"])
    ]
    for row in rows[::3]:
        row["choices"] = [*row["choices"], "none of these"]
    for row in rows[1::3]:
        right = row["choices"][row["label"]]
        row |= {"choices": ["neither", right], "label": 1}
    texts = [row["question"] for row in rows]
    name = save_model(tmp_path / "model", "multiple-choice", texts)
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    found = evaluate(name, task("science", {"options.jsonl": lines}), Options())
    model, tokenizer = opened(name, "MultipleChoice")
    made = []
    for row in rows:
        scores = []
        for choice in row["choices"]:
            encoded = tokenizer(row["question"], choice, return_tensors="pt")
            with torch.no_grad():
                scores.append(float(model(**{key: each[None] for key, each in encoded.items()}).logits))
        made.append(int(np.argmax(scores)))
    assert predicted(found) == made
    gold = [row["label"] for row in rows]
    assert values(found) == {"accuracy": pytest.approx(accuracy_score(gold, made))}
    (record,) = found.records
    assert record.baseline is not None
    assert record.baseline.chance == pytest.approx(np.mean([1 / len(row["choices"]) for row in rows]))


def test_texts_that_are_written(task: Any, shared_data: Path, tmp_path: Path) -> None:
    """Greedy, a prompt at a time, by transformers' own `generate`."""
    rows = rows_of(shared_data, "openai/gsm8k/main/test", 10)
    name = save_model(tmp_path / "model", "causal-language-model", [row["question"] for row in rows])
    found = evaluate(name, task("sums"), Options(limit=10, new_tokens=12))
    model, tokenizer = opened(name, "CausalLM")
    made = []
    for row in rows:
        ids = tokenizer(row["question"].strip() + "\n\n", return_tensors="pt")
        written = model.generate(**ids, max_new_tokens=12, do_sample=False)[0, ids["input_ids"].shape[1] :]
        made.append(tokenizer.decode(written, skip_special_tokens=True).strip())
    assert predicted(found) == made
    assert list(values(found)) == ["final_number"]
    assert [each["references"] for each in found.predictions] == [
        [row["answer"].split("#### ")[1].strip()] for row in rows
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (Options(splits=("train",)), "train is for training"),
        (Options(splits=("test",)), "has no split 'test'"),
        (Options(shots=2), "--shots is for language models"),
        (Options(run_code=True), "--run-code is for language models"),
        (Options(max_length=100_000), "the model reads 2,048 tokens"),
    ],
)
def test_what_cannot_be_measured(task: Any, tmp_path: Path, options: Options, message: str) -> None:
    model = save_model(tmp_path / "model", "sequence-classification", ["a text"], ["negative", "positive"])
    with pytest.raises(TaskmixError, match=message):
        evaluate(model, task("sentiment"), options)


def test_other_labels_and_heads_are_refused(task: Any, tmp_path: Path) -> None:
    """Another order or number of labels would give figures that mean nothing, a new head random ones."""
    target = task("sentiment")
    turned = save_model(tmp_path / "turned", "sequence-classification", ["a text"], ["positive", "negative"])
    more = save_model(tmp_path / "more", "sequence-classification", ["a text"], ["LABEL_0", "LABEL_1", "LABEL_2"])
    unnamed = save_model(tmp_path / "unnamed", "sequence-classification", ["a text"], ["LABEL_0", "LABEL_1"])
    other = save_model(tmp_path / "other", "token-classification", ["a text"], ["negative", "positive"])
    writer = save_model(tmp_path / "writer", "causal-language-model", ["a text"])
    with pytest.raises(TaskmixError, match="its 2 labels are positive, negative; the task has 2: negative, positive"):
        evaluate(turned, target)
    with pytest.raises(TaskmixError, match="its 3 labels"):
        evaluate(more, target)
    assert evaluate(unnamed, target, Options(limit=5)).form == "raw"
    with pytest.raises(TaskmixError, match="BertForTokenClassification has no head for sequence-classification"):
        evaluate(other, target)
    with pytest.raises(TaskmixError, match="Qwen3ForCausalLM has no head") as refused:
        evaluate(writer, target)
    assert "--as instruct" in str(refused.value.hint)
