"""Results of an evaluation: what was measured, put together by template, task, cluster and split.

A task's figure is the median over its templates (T0, Sanh et al. 2022), by the metric that most of them are measured
with first: where some ask for a choice and others for an explanation, say, their figures have no common median. A
cluster's is the mean of its tasks, a split's the mean of all of its tasks, each task counting the same. Intervals are
bootstraps that draw source rows anew within each task (`statistics.median_draws`).
"""

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np

from taskmix_trainer.evaluation.measures import Measure
from taskmix_trainer.evaluation.statistics import (
    RESAMPLES,
    Baseline,
    Difference,
    Draws,
    Interval,
    Spread,
    above_chance,
    mean_draws,
    median_draws,
    spread,
)

SPLITS: Mapping[str, str] = {
    "validation": "seen tasks",
    "heldout_templates": "unseen phrasings",
    "heldout": "held-out tasks",
}


@dataclass(frozen=True)
class Record:
    """What was measured of one task under one template, in one split of a mixture.

    Attributes:
        task: the task's name.
        cluster: the task's.
        template: the template's name; `raw` for a task in its raw form.
        split: one of `SPLITS`, or any other name.
        measures: with examples in the same order in each that has all of them; the first is the one to quote.
        style: how the examples are posed, such as `zero-shot`.
        rows: the source row of each example of the first measure; None where examples are rows.
        baseline: what the first measure is without looking at the input, if that can be told.
    """

    task: str
    cluster: str
    template: str
    split: str
    measures: tuple[Measure, ...]
    style: str = "zero-shot"
    rows: tuple[int, ...] | None = None
    baseline: Baseline | None = None

    def __post_init__(self) -> None:
        if not self.measures:
            raise ValueError(f"nothing was measured of {self.task} under {self.template}")
        if self.rows is not None and len(self.rows) != len(self.measures[0]):
            raise ValueError(f"{len(self.measures[0])} examples of {self.task} but {len(self.rows)} source rows")


@dataclass(frozen=True)
class TemplateScore:
    """A template's figures by metric, 0 to 1, and how many examples there were."""

    template: str
    style: str
    examples: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class TaskScore:
    """A task's figures.

    Attributes:
        metric: the one that is quoted: that by which most templates are measured first.
        examples: over those templates.
        interval: of the median over them.
        spread: of that metric over them.
        others: medians of the other metrics, each over the templates that have it.
        templates: all of them, those too that are measured in another way.
        baseline: mean over the templates that are quoted; None where it makes no sense.
        above_chance: whether the whole interval is above the better baseline; None without one.
    """

    task: str
    cluster: str
    split: str
    metric: str
    examples: int
    interval: Interval
    spread: Spread
    others: Mapping[str, float]
    templates: tuple[TemplateScore, ...]
    baseline: Baseline | None
    above_chance: bool | None
    draws: Draws = field(repr=False, compare=False)


@dataclass(frozen=True)
class GroupScore:
    """The mean of several tasks: of a cluster in a split, or of a whole split (then `cluster` is empty).

    `baseline` is the mean of the tasks' better baselines, None where a task has none.
    """

    split: str
    cluster: str
    tasks: int
    interval: Interval
    baseline: float | None
    above_chance: bool | None
    draws: Draws = field(repr=False, compare=False)


@dataclass(frozen=True)
class Results:
    """All scores, splits in the order of `SPLITS`, then by cluster and task."""

    tasks: tuple[TaskScore, ...]
    clusters: tuple[GroupScore, ...]
    splits: tuple[GroupScore, ...]


def put_together(records: Sequence[Record], seed: int = 0, resamples: int = RESAMPLES) -> Results:
    """Return the scores of tasks, clusters and splits.

    Raises:
        ValueError: a task is in two clusters, or one of its templates comes twice.
    """
    grouped: dict[tuple[str, str], list[Record]] = {}
    for record in records:
        grouped.setdefault((record.split, record.task), []).append(record)
    order = list(SPLITS)
    tasks = sorted(
        (_task(members, seed, resamples) for members in grouped.values()),
        key=lambda each: (_place(order, each.split), each.split, each.cluster, each.task),
    )
    homes: dict[tuple[str, str], list[TaskScore]] = {}
    splits: dict[str, list[TaskScore]] = {}
    for task in tasks:
        homes.setdefault((task.split, task.cluster), []).append(task)
        splits.setdefault(task.split, []).append(task)
    return Results(
        tasks=tuple(tasks),
        clusters=tuple(group(split, cluster, members) for (split, cluster), members in homes.items()),
        splits=tuple(group(split, "", members) for split, members in splits.items()),
    )


def _place(order: list[str], split: str) -> int:
    return order.index(split) if split in order else len(order)


def _task(records: list[Record], seed: int, resamples: int) -> TaskScore:
    first = records[0]
    seen = set()
    for each in records:
        if each.cluster != first.cluster:
            raise ValueError(f"task {each.task} is in two clusters, {first.cluster} and {each.cluster}")
        if (each.template, each.style) in seen:
            raise ValueError(f"template {each.template} ({each.style}) of task {each.task} comes twice in {each.split}")
        seen.add((each.template, each.style))
    # of two that as many templates have, the one that comes first
    ((metric, _),) = Counter(each.measures[0].metric for each in records).most_common(1)
    quoted = [each for each in records if each.measures[0].metric == metric]
    templates = tuple(
        TemplateScore(
            each.template,
            each.style,
            len(each.measures[0]),
            {measure.metric: measure.value for measure in each.measures},
        )
        for each in records
    )
    draws = median_draws(
        [each.measures[0] for each in quoted], [each.rows for each in quoted], first.task, seed, resamples
    )
    interval = draws.interval()
    baselines = [each.baseline for each in quoted if each.baseline is not None]
    baseline = _mean_baseline(baselines) if len(baselines) == len(quoted) else None
    others = dict.fromkeys(name for each in templates for name in each.values if name != metric)
    return TaskScore(
        task=first.task,
        cluster=first.cluster,
        split=first.split,
        metric=metric,
        examples=sum(len(each.measures[0]) for each in quoted),
        interval=interval,
        spread=spread([each.measures[0].value for each in quoted]),
        others={
            name: spread([each.values[name] for each in templates if name in each.values]).median for name in others
        },
        templates=templates,
        baseline=baseline,
        above_chance=None if baseline is None else above_chance(interval, baseline),
        draws=draws,
    )


def _mean_baseline(baselines: Sequence[Baseline]) -> Baseline:
    count = len(baselines)
    majority = sum(each.majority for each in baselines) / count
    chance = sum(each.chance for each in baselines) / count
    return Baseline(majority, chance, baselines[0].answer)


def group(split: str, cluster: str, tasks: Sequence[TaskScore]) -> GroupScore:
    """Return the mean of tasks, each counting the same."""
    draws = mean_draws([each.draws for each in tasks])
    found = [each.baseline.best for each in tasks if each.baseline is not None]
    baseline = sum(found) / len(found) if len(found) == len(tasks) else None
    interval = draws.interval()
    return GroupScore(
        split=split,
        cluster=cluster,
        tasks=len(tasks),
        interval=interval,
        baseline=baseline,
        above_chance=None if baseline is None else above_chance(interval, baseline),
        draws=draws,
    )


def difference(one: TaskScore | GroupScore, other: TaskScore | GroupScore) -> Difference:
    """Return one model's figure minus another's on the same task or group, paired.

    Both come from `put_together` with the same seed and resamples, over the same examples.

    Raises:
        ValueError: they are not of the same task or group, or were resampled differently.
    """
    for name in ("task", "cluster", "split", "metric", "tasks", "examples"):
        if getattr(one, name, None) != getattr(other, name, None):
            raise ValueError(f"scores of different {name}: {getattr(one, name, None)} and {getattr(other, name, None)}")
    if len(one.draws.samples) != len(other.draws.samples):
        raise ValueError("scores with different numbers of resamples")
    return one.draws.minus(other.draws)


def as_json(results: Results) -> dict[str, Any]:
    """Return the results as what JSON can hold, in full precision; NaN becomes null."""
    parts = {"tasks": results.tasks, "clusters": results.clusters, "splits": results.splits}
    return {name: [_finite(asdict(_without_draws(each))) for each in scores] for name, scores in parts.items()}


def _without_draws(score: Any) -> Any:
    """Return the score with no samples in it, which `asdict` would copy."""
    return replace(score, draws=Draws(score.draws.value, np.zeros(0)))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items() if key != "draws"}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_records(records: Sequence[Record]) -> str:
    """Return records as JSON, a line each, with all that `read_records` needs to have them again."""

    def line(record: Record) -> str:
        found = {
            "task": record.task,
            "cluster": record.cluster,
            "template": record.template,
            "split": record.split,
            "style": record.style,
            "rows": record.rows,
            "baseline": None if record.baseline is None else asdict(record.baseline),
            "measures": [
                {
                    "metric": each.metric,
                    "pooling": each.pooling,
                    "width": each.terms.shape[1],
                    "terms": each.terms.tolist(),
                }
                for each in record.measures
            ],
        }
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))

    return "".join(f"{line(record)}\n" for record in records)


def read_records(text: str) -> list[Record]:
    """Return the records that `write_records` wrote.

    Raises:
        ValueError: the text is not of that form.
    """
    records = []
    for number, line in enumerate(text.splitlines(), 1):
        try:
            found = json.loads(line)
            measures = found.pop("measures")
            baseline, rows = found.pop("baseline"), found.pop("rows")
            records.append(
                Record(
                    **found,
                    measures=tuple(
                        Measure(
                            each["metric"],
                            each["pooling"],
                            np.array(each["terms"], dtype=np.float64).reshape(len(each["terms"]), each["width"]),
                        )
                        for each in measures
                    ),
                    rows=None if rows is None else tuple(rows),
                    baseline=None if baseline is None else Baseline(**baseline),
                )
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"line {number} is no record of scores: {error!r}") from error
    return records
