"""Results as tables for people: Markdown that is aligned, so that it reads well in a terminal too.

Figures are times 100. An interval follows in brackets, at 95% unless said otherwise; `–` is what does not apply.
"""

import math
from collections.abc import Sequence

from taskmix_trainer.evaluation.classification import ClassScore
from taskmix_trainer.evaluation.metrics import METRICS
from taskmix_trainer.evaluation.scores import SPLITS, GroupScore, Results, TaskScore
from taskmix_trainer.evaluation.statistics import Baseline, Interval

NOTHING = "–"


def results_table(results: Results) -> str:
    """Return all tasks, each split ending on its clusters and its mean, as Markdown."""
    parts = []
    for whole in results.splits:
        rows = [_task_row(each) for each in results.tasks if each.split == whole.split]
        groups = [each for each in results.clusters if each.split == whole.split]
        rows += [_group_row(f"mean of {each.cluster}", each) for each in groups if each.tasks > 1]
        rows.append(_group_row("mean of all tasks", whole))
        title = f"{whole.split}: {SPLITS[whole.split]}" if whole.split in SPLITS else whole.split
        parts.append(f"### {title}\n\n{table(_HEADS, rows, _RIGHT)}")
    return "\n".join(parts)


def templates_table(task: TaskScore) -> str:
    """Return the figures of a task under each of its templates, the best first."""
    metrics = [task.metric, *task.others]
    styled = any(each.style != "zero-shot" for each in task.templates)
    rows = [
        [each.template, *([each.style] if styled else []), str(each.examples)]
        + [percent(each.values.get(metric, math.nan)) for metric in metrics]
        for each in sorted(task.templates, key=lambda one: -_sortable(one.values.get(task.metric, math.nan)))
    ]
    heads = ["template", *(["style"] if styled else []), "examples", *(METRICS[each].label for each in metrics)]
    return table(heads, rows, range(2 if styled else 1, len(heads)))


def classes_table(classes: Sequence[ClassScore], name: str = "class") -> str:
    """Return precision, recall and F1 of each class or entity type."""
    rows = [
        [
            each.name,
            percent(each.precision),
            percent(each.recall),
            percent(each.f1),
            str(each.support),
            str(each.predicted),
        ]
        for each in classes
    ]
    return table([name, "precision", "recall", "F1", "gold", "predicted"], rows, range(1, 6))


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Return a Markdown table with aligned columns; those in `right` are set to the right."""
    cells = [[_cell(each) for each in row] for row in [heads, *rows]]
    widths = [max(3, *(len(row[at]) for row in cells)) for at in range(len(heads))]

    def line(row: Sequence[str]) -> str:
        padded = (
            cell.rjust(width) if at in right else cell.ljust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        return f"| {' | '.join(padded)} |"

    rule = "| " + " | ".join("-" * (w - 1) + ":" if at in right else "-" * w for at, w in enumerate(widths)) + " |"
    return "\n".join([line(cells[0]), rule, *map(line, cells[1:])]) + "\n"


def percent(value: float) -> str:
    """Return a share times 100 with one place, or a dash for NaN."""
    return NOTHING if math.isnan(value) else f"{100 * value:.1f}"


def with_interval(interval: Interval) -> str:
    """Return a value and its bounds, such as `71.2 [68.0, 74.1]`."""
    if math.isnan(interval.low):
        return percent(interval.value)
    return f"{percent(interval.value)} [{percent(interval.low)}, {percent(interval.high)}]"


def verdict(above: bool | None) -> str:
    """Return in words whether a figure is above chance."""
    return NOTHING if above is None else "yes" if above else "no"


_HEADS = [
    "task", "cluster", "metric", "examples", "median [95%]", "min–max", "IQR", "templates", "baseline", "above it",
]  # fmt: skip
_RIGHT = range(3, 9)


def _task_row(score: TaskScore) -> list[str]:
    several = score.spread.count > 1
    return [
        score.task,
        score.cluster,
        METRICS[score.metric].label if score.metric in METRICS else score.metric,
        str(score.examples),
        with_interval(score.interval),
        f"{percent(score.spread.low)}–{percent(score.spread.high)}" if several else NOTHING,
        percent(score.spread.interquartile) if several else NOTHING,
        str(score.spread.count),
        baseline_words(score.baseline),
        verdict(score.above_chance),
    ]


def _group_row(name: str, score: GroupScore) -> list[str]:
    tasks = f"{score.tasks} tasks" if score.tasks > 1 else "1 task"
    baseline = NOTHING if score.baseline is None else percent(score.baseline)
    empty = [NOTHING] * 3
    return [
        f"**{name}**",
        tasks,
        NOTHING,
        NOTHING,
        with_interval(score.interval),
        *empty,
        baseline,
        verdict(score.above_chance),
    ]


def baseline_words(baseline: Baseline | None) -> str:
    """Return the better baseline and which it is, such as `50.9 majority`."""
    if baseline is None:
        return NOTHING
    return f"{percent(baseline.best)} {'majority' if baseline.majority >= baseline.chance else 'chance'}"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _sortable(value: float) -> float:
    return -math.inf if math.isnan(value) else value
