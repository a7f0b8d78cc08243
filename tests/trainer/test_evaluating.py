"""`mix eval` of language models on mixtures, against plain loops over one prompt at a time."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoTokenizer

from taskmix_trainer.evaluation import mixtures, shown
from taskmix_trainer.evaluation.generating import generate
from taskmix_trainer.evaluation.posing import Example, Group, read_groups
from taskmix_trainer.evaluation.running import Options, evaluate
from taskmix_trainer.evaluation.scores import read_records
from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.targets import Mixture
from tests.trainer.folders import build_mixture, save_model

CATALOG = """\
version: 1
extends: builtin
mixtures:
"""
MIXTURE = """\
  {form}:
    tasks: [review-sentiment, everyday-entailment, plain-reasoning, short-passages, worked-arithmetic]
    holdout: {{clusters: [nli], templates: 1}}
    sampling: {{cap: 40}}
    evaluation: {{rows: 4}}
    format: {form}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Mixture], dict[str, ModelName]]:
    """A mixture in two formats, and a model of each make."""
    folder = tmp_path_factory.mktemp("evaluating")
    forms = ("prompt-completion", "messages")
    (folder / "catalog.yaml").write_text(CATALOG + "".join(MIXTURE.format(form=form) for form in forms))
    built = {form: build_mixture(folder / "catalog.yaml", form) for form in forms}
    splits = ("validation", "heldout")
    groups = read_groups(built["prompt-completion"], splits, None)
    texts = [example.prompt + example.completion for group in groups for example in group.examples]
    heads = ("causal-language-model", "sequence-to-sequence")
    return built, {head: save_model(folder / head, head, texts) for head in heads}


def by_hand(model: Any, tokenizer: Any, example: Example, new: int) -> str:
    """Return the likeliest choice, or else what is written, of one example alone."""
    encoder = model.config.is_encoder_decoder
    prompt = tokenizer(example.prompt, return_tensors="pt")["input_ids"]
    with torch.no_grad():
        if example.choices is None:
            ids = model.generate(prompt, max_new_tokens=new, do_sample=False)[0]
            return str(tokenizer.decode(ids[1 if encoder else prompt.shape[1] :], skip_special_tokens=True)).strip()
        sums = []
        for choice in example.choices:
            own = tokenizer(choice, add_special_tokens=False, return_tensors="pt")["input_ids"]
            if encoder:
                start = torch.tensor([[model.config.decoder_start_token_id]])
                logits = model(input_ids=prompt, decoder_input_ids=torch.cat([start, own[:, :-1]], 1)).logits
            else:
                whole = tokenizer(example.prompt + choice, return_tensors="pt")["input_ids"]
                own = whole[:, prompt.shape[1] :]
                assert torch.equal(whole[:, : prompt.shape[1]], prompt)
                logits = model(input_ids=whole[:, :-1]).logits[:, prompt.shape[1] - 1 :]
            each = torch.log_softmax(logits[0], -1).gather(-1, own[0, :, None])
            sums.append(float(each.sum()))
    return example.choices[max(range(len(sums)), key=sums.__getitem__)]


@pytest.mark.parametrize(
    ("head", "form"),
    [
        ("causal-language-model", "prompt-completion"),
        ("causal-language-model", "messages"),
        ("sequence-to-sequence", "prompt-completion"),
        ("sequence-to-sequence", "messages"),
    ],
)
def test_answers_are_those_of_plain_loops(made: Any, head: str, form: str) -> None:
    mixture, name = made[0][form], made[1][head]
    maker: Any = AutoModelForCausalLM if head == "causal-language-model" else AutoModelForSeq2SeqLM
    model, tokenizer = maker.from_pretrained(name.name).eval(), AutoTokenizer.from_pretrained(name.name)
    found = evaluate(name, mixture, Options(limit=1, new_tokens=6))
    splits = ("validation", "heldout_templates", "heldout")
    groups = read_groups(mixture, splits, tokenizer, limit=1, encoder=head == "sequence-to-sequence")
    examples = [example for group in groups for example in group.examples]
    made_of = {each["id"]: each["prediction"] for each in found.predictions}
    assert made_of == {example.id: by_hand(model, tokenizer, example, 6) for example in examples}
    assert len(made_of) > 40
    assert [(each.split, each.task, each.template) for each in found.records] == [
        (group.split, group.task, group.template) for group in groups
    ]
    for record, group in zip(found.records, groups, strict=True):
        assert record.rows == tuple(example.source_row for example in group.examples)
        if group.ranks:
            right = [made_of[one.id] == (one.choices or ())[one.answer or 0] for one in group.examples]
            assert record.measures[0].value == sum(right) / len(right)
        assert (record.baseline is not None) == group.ranks
    ended = [note for note in found.notes if "were cut after 6 tokens" in note]
    assert all(note.startswith(("short-passages", "worked-arithmetic")) for note in ended)


def test_figures_are_read_back(made: Any) -> None:
    found = evaluate(made[1]["causal-language-model"], made[0]["prompt-completion"], Options(limit=2, new_tokens=4))
    whole = json.loads(shown.as_json(found))
    again = read_records("".join(json.dumps(record) + "\n" for record in whole["records"]))
    assert [(each.task, each.template, each.split, each.rows, each.baseline) for each in again] == [
        (each.task, each.template, each.split, each.rows, each.baseline) for each in found.records
    ]
    for one, other in zip(again, found.records, strict=True):
        assert [(each.metric, each.value) for each in one.measures] == [
            (each.metric, each.value) for each in other.measures
        ]
    assert {each["split"] for each in whole["splits"]} == {"validation", "heldout_templates", "heldout"}
    (heldout,) = (each for each in whole["tasks"] if each["split"] == "heldout")
    assert heldout["task"] == "everyday-entailment"
    assert heldout["spread"]["count"] == len(heldout["templates"])
    text = shown.as_text(found, templates=True)
    assert "held-out tasks" in text
    assert "#### everyday-entailment (heldout)" in text


def test_prompts_that_are_too_long_are_told(made: Any, tmp_path: Path) -> None:
    """A model that reads few tokens: the prompt's end stays, and the result says how many were cut."""
    mixture, name = made[0]["prompt-completion"], made[1]["causal-language-model"]
    tokenizer = AutoTokenizer.from_pretrained(name.name)
    AutoModelForCausalLM.from_pretrained(name.name).save_pretrained(tmp_path)
    tokenizer.model_max_length = 40
    tokenizer.save_pretrained(tmp_path)
    found = evaluate(ModelName(str(tmp_path)), mixture, Options(splits=("validation",), limit=1, new_tokens=8))
    groups = read_groups(mixture, ("validation",), tokenizer, limit=1)
    lengths = [(group.ranks, len(tokenizer(each.prompt)["input_ids"])) for group in groups for each in group.examples]
    written = sum(length > 40 - 8 for ranks, length in lengths if not ranks)
    words = "prompts were longer than the model reads, and lost their beginning"
    notes = [note for note in found.notes if words in note]
    assert len(notes) == 2
    assert f"{written} {words}" in notes


def test_answers_stop_at_the_gap_only_after_worked_examples() -> None:
    def group(style: str, cluster: str = "summarization") -> Group:
        return Group("heldout", "task", cluster, "text-generation", "template", style)

    assert mixtures.stops_of(group("zero-shot")) == ()
    assert mixtures.stops_of(group("chain-of-thought")) == ()
    for style in ("few-shot", "2-shot", "few-shot+options", "chain-of-thought+3-shot"):
        assert mixtures.stops_of(group(style)) == ("\n\n\n",)
        # between two functions there are two empty lines
        assert mixtures.stops_of(group(style, "code")) == ()


def test_groups_that_end_alike_are_written_together(made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []
    real = generate

    def counted(model: Any, tokenizer: Any, prompts: Any, **options: Any) -> Any:
        calls.append((len(prompts), options["max_new_tokens"], options["stops"]))
        return real(model, tokenizer, prompts, **options)

    monkeypatch.setattr(mixtures, "generate", counted)
    seen: list[int] = []
    found = evaluate(
        made[1]["causal-language-model"],
        made[0]["prompt-completion"],
        Options(limit=1, new_tokens=2),
        seen.append,
    )
    assert len(calls) == 1
    assert calls[0][1:] == (2, ())
    assert seen == sorted(seen)
    assert seen[-1] == len(found.predictions)


def test_a_classic_head_writes_no_text(made: Any, tmp_path: Path) -> None:
    from taskmix_trainer.errors import ModelError

    model = save_model(tmp_path / "model", "sequence-classification", ["a text"], ["negative", "positive"])
    with pytest.raises(ModelError, match="BertForSequenceClassification writes no text"):
        evaluate(model, made[0]["prompt-completion"])
