"""A language model on the evaluation splits of a mixture: it ranks choices, or writes answers that are compared."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from taskmix.mixing.styles import BETWEEN_SHOTS
from taskmix_trainer.evaluation import metrics
from taskmix_trainer.evaluation.choices import causal_questions, encoder_questions
from taskmix_trainer.evaluation.generating import Generated, generate
from taskmix_trainer.evaluation.measures import Measure, mean_of
from taskmix_trainer.evaluation.posing import PLAIN, Example, Group
from taskmix_trainer.evaluation.programs import Programs, written_program
from taskmix_trainer.evaluation.ranking import rank
from taskmix_trainer.evaluation.sandbox import run_all
from taskmix_trainer.evaluation.scores import Record
from taskmix_trainer.evaluation.statistics import Baseline, baseline

NEW_TOKENS = 128
"""Tokens that are written at most, as in the evaluation of Tk-Instruct (Wang et al. 2022)."""
NEW_TOKENS_OF_CODE = 512
_REFERENCES = 5
"""References that are run to see whether a template asks for programs."""


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
    separator_scored: bool = False,
    complete: bool = False,
    programs: Mapping[str, Programs] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Asked:
    """Return what a language model makes of the groups' examples.

    Args:
        model: causal or encoder-decoder.
        tokenizer: the model's.
        groups: what it is asked.
        max_length: the tokens that the model takes.
        new_tokens: tokens that are written at most; by default 128, of code 512.
        separator_scored: see `choices.causal_questions`.
        complete: whether prompts have all special tokens already.
        programs: by task, what to run the code with that is written; without it none is run.
        progress: called with the number of examples that are done.
    """
    notes: list[str] = []
    ranked = [group for group in groups if group.ranks]
    written = _runnable([group for group in groups if not group.ranks], programs or {}, notes)
    rules = {"separator_scored": separator_scored, "complete": complete}
    records, predictions = _ranked(model, tokenizer, ranked, max_length, rules, notes, progress)
    done = len(predictions)
    texts = _write(
        model, tokenizer, written, max_length, new_tokens, complete, notes, lambda count: progress(done + count)
    )
    for group, answers in zip(written, texts, strict=True):
        record, each = _compared(group, answers, (programs or {}).get(group.task))
        records.append(record)
        predictions += each
    order = {(group.split, group.task, group.template, group.style): at for at, group in enumerate(groups)}
    records.sort(key=lambda each: order[each.split, each.task, each.template, each.style])
    predictions.sort(key=lambda each: order[each["split"], each["task"], each["template"], each["style"]])
    return Asked(tuple(records), tuple(predictions), tuple(dict.fromkeys(notes)))


def most_new_tokens(group: Group, wanted: int | None = None) -> int:
    """Return how many tokens are written at most after a group's prompts."""
    return wanted or (NEW_TOKENS_OF_CODE if metrics.is_code(group.cluster) else NEW_TOKENS)


def stops_of(group: Group) -> tuple[str, ...]:
    """Return what ends an answer besides the end token: the gap after worked examples, which code may have within."""
    return (
        () if group.style == PLAIN or "-shot" not in group.style or metrics.is_code(group.cluster) else (BETWEEN_SHOTS,)
    )


def _ranked(
    model: Any,
    tokenizer: Any,
    groups: Sequence[Group],
    max_length: int | None,
    rules: Mapping[str, bool],
    notes: list[str],
    progress: Callable[[int], None],
) -> tuple[list[Record], list[dict[str, Any]]]:
    """Rank the choices of all groups in one go, so that questions of like lengths share batches."""
    examples = [example for group in groups for example in group.examples]
    if not examples:
        return [], []
    asked = [example.prompt for example in examples], [example.choices or () for example in examples]
    if model.config.is_encoder_decoder:
        questions = encoder_questions(tokenizer, *asked, max_length=max_length)
    else:
        scored, complete = rules["separator_scored"], rules["complete"]
        questions = causal_questions(
            tokenizer, *asked, max_length=max_length, separator_scored=scored, complete=complete
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


def _write(
    model: Any,
    tokenizer: Any,
    groups: Sequence[Group],
    max_length: int | None,
    new_tokens: int | None,
    complete: bool,
    notes: list[str],
    progress: Callable[[int], None],
) -> list[list[Generated]]:
    """Let the model write an answer to each example of each group, in one go where limits are the same."""
    found: list[list[Generated]] = [[] for _ in groups]
    together: dict[tuple[int, tuple[str, ...]], list[int]] = {}
    for at, group in enumerate(groups):
        together.setdefault((most_new_tokens(group, new_tokens), stops_of(group)), []).append(at)
    done = truncated = 0
    for (limit, stops), members in together.items():
        made = generate(
            model,
            tokenizer,
            [example.prompt for at in members for example in groups[at].examples],
            max_new_tokens=limit,
            stops=stops,
            max_length=max_length,
            complete=complete,
            progress=_counting_on(done, progress),
        )
        rest = iter(made.generated)
        for at in members:
            found[at] = [next(rest) for _ in groups[at].examples]
        done += len(made.generated)
        truncated += made.truncated
    if truncated:
        notes.append(f"{truncated:,} prompts were longer than the model reads, and lost their beginning")
    notes += _endless(groups, found, new_tokens)
    return found


def _counting_on(before: int, progress: Callable[[int], None]) -> Callable[[int], None]:
    """Return what tells how many are done where some were before."""
    return lambda count: progress(before + count)


def _endless(groups: Sequence[Group], found: Sequence[Sequence[Generated]], new_tokens: int | None) -> list[str]:
    """Return how many answers of each task came to no end by themselves, in words."""
    counts: dict[str, list[int]] = {}
    limits = {group.task: most_new_tokens(group, new_tokens) for group in groups}
    for group, answers in zip(groups, found, strict=True):
        counts.setdefault(group.task, []).extend(each.ended == "length" for each in answers)
    return [
        f"{task}: {sum(cut):,} of {len(cut):,} answers were cut after {limits[task]} tokens"
        for task, cut in counts.items()
        if sum(cut)
    ]


def _compared(
    group: Group, answers: Sequence[Generated], programs: Programs | None
) -> tuple[Record, list[dict[str, Any]]]:
    """Return the figures of what was written for a group, by its references, and by tests where there are some."""
    # the first line of code may be indented
    trim = _trimmed_code if metrics.is_code(group.cluster) else str.strip
    texts = [trim(each.text) for each in answers]
    verdicts = _run(group.examples, texts, programs)
    names = metrics.text_metrics(group.kind, group.cluster, tests=verdicts is not None)
    compared: tuple[Measure, ...] = metrics.score_texts(
        [name for name in names if name != "tests_passed"], texts, [list(each.references) for each in group.examples]
    )
    if verdicts is not None:
        compared = (mean_of("tests_passed", [not verdict for verdict in verdicts]), *compared)
    more: list[dict[str, Any]] = (
        [{}] * len(texts) if verdicts is None else [{"tests": verdict or "passed"} for verdict in verdicts]
    )
    predictions = [
        _prediction(group, example, text, None, **extra)
        for example, text, extra in zip(group.examples, texts, more, strict=True)
    ]
    return _record(group, compared, None), predictions


def _runnable(groups: Sequence[Group], programs: Mapping[str, Programs], notes: list[str]) -> list[Group]:
    """Return the groups without those of tasks with tests whose templates ask for something else than the program.

    That is where not even a reference passes: under a template that asks for the tests themselves, say.
    """
    found = []
    for group in groups:
        few = replace(group, examples=group.examples[:_REFERENCES])
        verdicts = _run(few.examples, [example.completion for example in few.examples], programs.get(group.task))
        if verdicts is None or not all(verdicts):
            found.append(group)
        else:
            words = "its references do not pass the tests, so it was left out"
            notes.append(f"{group.task}, template {group.template}: {words}")
    return found


def _trimmed_code(text: str) -> str:
    return text.strip("\r\n").rstrip()


def _run(examples: Sequence[Example], texts: Sequence[str], programs: Programs | None) -> list[str] | None:
    """Run what was written against its tests; return what went wrong with each, or None where there are no tests."""
    if programs is None or not all(example.origin in programs for example in examples):
        return None
    known = [programs[example.origin] for example in examples]
    pairs = [(written_program(text, each), each.tests) for text, each in zip(texts, known, strict=True)]
    return [f"{verdict.outcome}: {verdict.reason}" if not verdict.passed else "" for verdict in run_all(pairs)]


def _record(group: Group, measures: tuple[Measure, ...], chance: Baseline | None) -> Record:
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


def _prediction(group: Group, example: Example, text: str, right: bool | None, **more: Any) -> dict[str, Any]:
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
