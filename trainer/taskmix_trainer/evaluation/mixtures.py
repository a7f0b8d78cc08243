"""A language model on the evaluation splits of a mixture: choices are ranked, other answers are written and compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from taskmix_trainer.evaluation import metrics
from taskmix_trainer.evaluation.choices import causal_questions, encoder_questions
from taskmix_trainer.evaluation.generating import generate
from taskmix_trainer.evaluation.measures import mean_of
from taskmix_trainer.evaluation.posing import BETWEEN_SHOTS, Group
from taskmix_trainer.evaluation.ranking import rank
from taskmix_trainer.evaluation.sandbox import run_all
from taskmix_trainer.evaluation.scores import Record
from taskmix_trainer.evaluation.statistics import baseline

NEW_TOKENS = 128
"""Tokens that are written at most, as in the evaluation of Tk-Instruct (Wang et al. 2022)."""
NEW_TOKENS_OF_CODE = 512
Tests = Mapping[int, str]
"""By source row, the tests of a program."""


@dataclass(frozen=True)
class Asked:
    """Figures of all groups, and what to tell about how they came about."""

    records: tuple[Record, ...]
    predictions: tuple[dict[str, Any], ...]
    notes: tuple[str, ...]


def ask(
    model: Any,
    tokenizer: Any,
    groups: Sequence[Group],
    *,
    max_length: int | None,
    new_tokens: int | None = None,
    tests: Mapping[str, Tests] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Asked:
    """Return what a language model makes of the groups' examples.

    Args:
        model: causal or encoder-decoder.
        tokenizer: the model's.
        groups: what it is asked.
        max_length: the tokens that the model takes.
        new_tokens: tokens that are written at most; by default 128, of code 512.
        tests: by task, the tests to run what is written against; without them none of it is run.
        progress: called with the number of examples that are done.
    """
    ranked = [group for group in groups if group.ranks]
    written = [group for group in groups if not group.ranks]
    notes: list[str] = []
    records, predictions = _ranked(model, tokenizer, ranked, max_length, notes, progress)
    for group in written:
        made = _written(model, tokenizer, group, max_length, new_tokens, (tests or {}).get(group.task), notes, progress)
        records.append(made[0])
        predictions += made[1]
    order = {(group.split, group.task, group.template, group.style): at for at, group in enumerate(groups)}
    records.sort(key=lambda each: order[each.split, each.task, each.template, each.style])
    return Asked(tuple(records), tuple(predictions), tuple(dict.fromkeys(notes)))


def _ranked(
    model: Any,
    tokenizer: Any,
    groups: Sequence[Group],
    max_length: int | None,
    notes: list[str],
    progress: Callable[[int], None],
) -> tuple[list[Record], list[dict[str, Any]]]:
    """Rank the choices of all groups in one go, so that questions of like lengths share batches."""
    examples = [example for group in groups for example in group.examples]
    if not examples:
        return [], []
    make = encoder_questions if model.config.is_encoder_decoder else causal_questions
    questions = make(
        tokenizer,
        [example.prompt for example in examples],
        [example.choices or () for example in examples],
        max_length=max_length,
    )
    found = rank(model, questions, progress=progress)
    if found.truncated:
        notes.append(f"{found.truncated:,} prompts were longer than the model reads, and lost their beginning")
    if found.choices_cut:
        notes.append(f"{found.choices_cut:,} choices were longer than the model reads, and lost their end")
    records, predictions, start = [], [], 0
    for group in groups:
        results = found.ranked[start : start + len(group.examples)]
        start += len(group.examples)
        answers = [example.answer or 0 for example in group.examples]
        best = [each.best for each in results]
        several = {example.choices for example in group.examples}
        labels = next(iter(several)) if len(several) == 1 and group.kind != "multiple-choice" else None
        measures = metrics.score_choices(answers, best, [each.best_per_character for each in results], labels)
        chance = baseline(
            answers if labels is not None else [str(example.answer) for example in group.examples],
            [len(example.choices or ()) for example in group.examples],
        )
        records.append(_record(group, measures, chance))
        predictions += [
            _prediction(group, example, (example.choices or ())[one], one == example.answer, sums=list(each.sums))
            for example, one, each in zip(group.examples, best, results, strict=True)
        ]
    return records, predictions


def _written(
    model: Any,
    tokenizer: Any,
    group: Group,
    max_length: int | None,
    new_tokens: int | None,
    tests: Tests | None,
    notes: list[str],
    progress: Callable[[int], None],
) -> tuple[Record, list[dict[str, Any]]]:
    """Let the model write an answer to each example of a group, and compare it with the references."""
    limit = new_tokens or (NEW_TOKENS_OF_CODE if group.cluster == "code" else NEW_TOKENS)
    made = generate(
        model,
        tokenizer,
        [example.prompt for example in group.examples],
        max_new_tokens=limit,
        stops=[BETWEEN_SHOTS],
        max_length=max_length,
        progress=progress,
    )
    if made.truncated:
        notes.append(
            f"{group.task}: {made.truncated:,} prompts were longer than the model reads, and lost their beginning"
        )
    if made.endless:
        notes.append(f"{group.task}: {made.endless:,} answers were cut after {limit} tokens")
    texts = [each.text.strip() for each in made.generated]
    runs = tests is not None and all(example.source_row in tests for example in group.examples)
    names = metrics.text_metrics(group.kind, group.cluster, tests=runs)
    references = [list(example.references) for example in group.examples]
    compared = metrics.score_texts([name for name in names if name != "tests_passed"], texts, references)
    if runs and tests is not None:
        verdicts = run_all(
            [(text, tests[example.source_row]) for text, example in zip(texts, group.examples, strict=True)]
        )
        compared = (mean_of("tests_passed", [verdict.outcome == "pass" for verdict in verdicts]), *compared)
    predictions = [_prediction(group, example, text, None) for example, text in zip(group.examples, texts, strict=True)]
    return _record(group, compared, None), predictions


def _record(group: Group, measures: tuple[Any, ...], chance: Any) -> Record:
    return Record(
        task=group.task,
        cluster=group.cluster,
        template=group.template,
        split=group.split,
        measures=measures,
        style=group.style,
        rows=tuple(example.source_row for example in group.examples),
        baseline=chance,
    )


def _prediction(group: Group, example: Any, text: str, right: bool | None, **more: Any) -> dict[str, Any]:
    found = {
        "id": example.id,
        "split": group.split,
        "task": group.task,
        "template": group.template,
        "style": group.style,
        "prediction": text,
        "references": list(example.references),
        **more,
    }
    return found if right is None else {**found, "right": right}
