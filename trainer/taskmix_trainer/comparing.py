"""One base model, taken three ways: as it is, fine-tuned on one task, and instruction-tuned on a mixture.

Each is asked the same rows of the mixture's evaluation splits: of that task, of the other tasks that the mixture
trains on, and of the tasks that it holds out. What a task that nobody trained on costs each way is stated beside: the
fine-tuned model needs its labelled rows and a run, the others a description.
"""

import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from taskmix.errors import OutputError, UsageError, nearest
from taskmix.text import quoted
from taskmix_trainer.evaluation import scores, tables
from taskmix_trainer.evaluation.metrics import METRICS
from taskmix_trainer.evaluation.running import EVALUATED, Options, evaluate
from taskmix_trainer.evaluation.scores import GroupScore, Results, TaskScore
from taskmix_trainer.models.opening import ModelName, open_model
from taskmix_trainer.runs import read_run, write_whole
from taskmix_trainer.targets import Mixture
from taskmix_trainer.tokens.folder import read_manifest
from taskmix_trainer.tokens.preparing import Wanted, prepare, saved_tokenizer
from taskmix_trainer.training.settings import FROM_SCRATCH, Settings

BASE, SINGLE, MIXED = "base", "fine-tuned", "instruction-tuned"
_TIMES = "seconds.json"


@dataclass(frozen=True)
class Way:
    """The model, taken one way.

    Attributes:
        name: one of `BASE`, `SINGLE` and `MIXED`.
        folder: where it is.
        results: its scores.
        rows: labelled rows that a new task would cost it; none where a description is enough.
        steps: optimiser's steps of a run for it.
        tokens: tokens of those rows, once.
        seconds: how long the run took here.
    """

    name: str
    folder: str
    results: Results
    rows: int = 0
    steps: int = 0
    tokens: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Comparison:
    """Three ways of a model on a mixture; `task` is the one that the second was trained on."""

    model: str
    mixture: str
    task: str
    ways: tuple[Way, ...]


def compare(
    mixture: Mixture,
    single: Mixture,
    task: str,
    settings: Settings,
    wanted: Wanted,
    options: Options,
    say: Callable[[str], None] = lambda text: None,
    counting: Callable[[], AbstractContextManager[Callable[[int], None]]] = lambda: nullcontext(lambda done: None),
) -> Comparison:
    """Train what is not trained yet, and measure all three.

    Args:
        mixture: what the model is instruction-tuned on, and asked.
        single: a mixture of the one task alone, for fine-tuning.
        task: that task's name; the mixture trains on it.
        settings: how to train; `out` is the folder of everything.
        wanted: how examples become tokens.
        options: how to evaluate.
        say: called with what begins.
        counting: called at the beginning of each evaluation; gives what is called with the number of examples so far.

    Raises:
        UsageError: the mixture has no evaluation rows of the task, or holds out nothing.
        TaskmixError: a model cannot be trained or evaluated.
    """
    _check(mixture, task)
    out = settings.out
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(out)) from None
    base = _base(mixture, wanted, settings)
    if wanted.model.size is not None and settings.learning_rate is None:
        settings = replace(settings, learning_rate=FROM_SCRATCH)
    ways = []
    for name, target in ((BASE, None), (SINGLE, single), (MIXED, mixture)):
        way = Way(name, base.name, Results((), (), ()))
        if target is not None:
            say(f"{name}: training on {target.name}")
            way = _trained(name, target, replace(settings, model=base), replace(wanted, model=base))
        say(f"{name}: evaluating")
        with counting() as report:
            found = evaluate(ModelName(way.folder), mixture, options, report)
        ways.append(replace(way, results=found.results))
    return Comparison(settings.model.name, mixture.name, task, tuple(ways))


def _check(mixture: Mixture, task: str) -> None:
    trained = [part["task"] for part in mixture.lock["plan"] if part["split"] == "train"]
    judged = [part["task"] for part in mixture.lock["plan"] if part["split"] == "validation"]
    if task not in trained or task not in judged:
        known = sorted(set(trained) & set(judged))
        raise UsageError(
            f"the mixture {mixture.name} has no task {quoted(task)} that it trains", hint=nearest(task, known)
        )
    if not mixture.lock["splits"].get("heldout", {}).get("rows"):
        raise UsageError(f"the mixture {mixture.name} holds out no task", hint="give it `holdout: {clusters: […]}`")


def _base(mixture: Mixture, wanted: Wanted, settings: Settings) -> ModelName:
    """Return the model to start from; random weights are drawn once, and saved."""
    if wanted.model.size is None:
        return wanted.model
    folder = settings.out / BASE
    if not (folder / "config.json").is_file():
        from transformers import set_seed

        from taskmix_trainer.heads import HEADS

        tokens = prepare(mixture, wanted)
        tokenizer = saved_tokenizer(tokens)
        set_seed(settings.seed)
        model = open_model(wanted.model, HEADS[read_manifest(tokens).head], tokenizer)
        tokenizer.save_pretrained(folder)
        model.save_pretrained(folder)
    return ModelName(str(folder))


def _trained(name: str, target: Mixture, settings: Settings, wanted: Wanted) -> Way:
    """Train, unless that was done before."""
    from taskmix_trainer.training.running import train

    out = settings.out / name
    tokens = prepare(target, wanted)
    split = read_manifest(tokens).splits["train"]
    if not (read_run(out) or {}).get("done"):
        begun = time.monotonic()
        done = train(tokens, replace(settings, out=out))
        if done.ended_early:
            raise KeyboardInterrupt
        (out / _TIMES).write_text(json.dumps({"seconds": time.monotonic() - begun}), "utf-8")
    run = read_run(out) or {}
    seconds = json.loads((out / _TIMES).read_text("utf-8"))["seconds"] if (out / _TIMES).is_file() else 0.0
    if name == MIXED:
        return Way(name, str(out), Results((), (), ()))
    return Way(name, str(out), Results((), (), ()), split.rows, int(run["steps"]), split.tokens, seconds)


# What it comes to


@dataclass(frozen=True)
class Column:
    """Tasks whose mean is one column of the table: `ranked` where all of them have choices."""

    title: str
    split: str
    tasks: tuple[str, ...]
    ranked: bool


def columns(comparison: Comparison) -> list[Column]:
    """Return the columns of a comparison: the task, other seen tasks, unseen phrasings and held-out tasks.

    Tasks with choices stand apart from those whose answers are written: only of the first is it known what chance
    gives, and their figures are accuracies.
    """
    found = comparison.ways[0].results.tasks
    own = tuple(each for each in found if each.task == comparison.task)
    others = tuple(each for each in found if each.task != comparison.task)
    made = [
        Column(comparison.task, each.split, (each.task,), each.baseline is not None)
        for each in own
        if each.split == "validation"
    ]
    words = {"validation": "other seen tasks", "heldout_templates": "unseen phrasings", "heldout": "held-out tasks"}
    for split in EVALUATED:
        for ranked in (True, False):
            pool = others if split == "validation" else found
            names = tuple(each.task for each in pool if each.split == split and (each.baseline is not None) == ranked)
            if names:
                kind = "choices" if ranked else "written"
                made.append(Column(f"{words[split]}, {kind}", split, names, ranked))
    return made


def scored(way: Way, column: Column) -> GroupScore:
    """Return what a way reaches in a column."""
    return scores.group(column.split, "", _tasks(way.results, column))


def _tasks(results: Results, column: Column) -> list[TaskScore]:
    return [each for each in results.tasks if each.split == column.split and each.task in column.tasks]


def as_markdown(comparison: Comparison) -> str:
    """Return the tables of a comparison, and in words what is not above chance."""
    made = columns(comparison)
    heads = ["", *(f"{each.title} ({len(each.tasks)})" if len(each.tasks) > 1 else each.title for each in made)]
    rows = [[_words(way, comparison), *(_cell(way, each) for each in made)] for way in comparison.ways]
    for title, pick in (("always the most frequent answer", "majority"), ("a random choice", "chance")):
        rows.append([title, *(_baseline(comparison.ways[0], each, pick) for each in made)])
    parts = [
        f"# {comparison.model} on {comparison.mixture}\n",
        _ABOUT,
        tables.table(heads, rows, range(1, len(heads))),
        "## What a new task costs\n",
        tables.table(_COSTS, [_cost(each) for each in comparison.ways], range(1, 5)),
        "## Each held-out task\n",
        _heldout(comparison),
        *_differences(comparison, made),
    ]
    return "\n".join(parts)


_COSTS = ["", "labelled rows", "tokens of them", "steps", "seconds here"]
_ABOUT = """Accuracy of ranked choices, or the metric of the task where answers are written, times 100: the mean over
tasks of the median over templates, with a 95% bootstrap interval. ° is not above chance: the interval reaches the
better of both baselines.
"""


def _words(way: Way, comparison: Comparison) -> str:
    return {
        BASE: "as it is",
        SINGLE: f"fine-tuned on {comparison.task}",
        MIXED: f"instruction-tuned on {comparison.mixture}",
    }[way.name]


def _cell(way: Way, column: Column) -> str:
    found = scored(way, column)
    return tables.with_interval(found.interval) + (" °" if found.above_chance is False else "")


def _baseline(way: Way, column: Column, which: str) -> str:
    if not column.ranked:
        return tables.NOTHING
    values = [getattr(each.baseline, which) for each in _tasks(way.results, column)]
    return tables.percent(sum(values) / len(values))


def _cost(way: Way) -> list[str]:
    if not way.rows:
        return [way.name, "none: a description", tables.NOTHING, tables.NOTHING, tables.NOTHING]
    return [way.name, f"{way.rows:,}", f"{way.tokens:,}", f"{way.steps:,}", f"{way.seconds:,.0f}"]


def _heldout(comparison: Comparison) -> str:
    heads = ["task", "cluster", "metric", *(way.name for way in comparison.ways), "baseline"]
    rows = []
    for first in (each for each in comparison.ways[0].results.tasks if each.split == "heldout"):
        each = [_same(way.results, first) for way in comparison.ways]
        cells = [tables.with_interval(one.interval) + (" °" if one.above_chance is False else "") for one in each]
        metric = METRICS[first.metric].label if first.metric in METRICS else first.metric
        rows.append([first.task, first.cluster, metric, *cells, tables.baseline_words(first.baseline)])
    return tables.table(heads, rows, range(3, len(heads)))


def _same(results: Results, score: TaskScore) -> TaskScore:
    return next(each for each in results.tasks if (each.split, each.task) == (score.split, score.task))


def _differences(comparison: Comparison, made: Sequence[Column]) -> Iterable[str]:
    """Yield in words whether instruction tuning beats the base model on held-out tasks, by a paired bootstrap."""
    first, last = comparison.ways[0], comparison.ways[-1]
    for column in made:
        if column.split != "heldout":
            continue
        before = scored(first, column)
        gap = scores.difference(scored(last, column), before)
        value, low, high = (f"{100 * each:+.1f}" for each in (gap.interval.value, gap.interval.low, gap.interval.high))
        sure = "more than chance would give" if gap.certain else "within what chance gives"
        yield (
            f"On {column.title}, instruction tuning changes the base model's {tables.percent(before.interval.value)} "
            f"by {value} [{low}, {high}]: {sure}.\n"
        )


def as_json(comparison: Comparison) -> str:
    """Return the figures of a comparison."""
    made = columns(comparison)
    ways = [
        {
            "name": way.name,
            "model": way.folder,
            "new_task": {"rows": way.rows, "tokens": way.tokens, "steps": way.steps, "seconds": way.seconds},
            "columns": {each.title: _figures(scored(way, each)) for each in made},
            **scores.as_json(way.results),
        }
        for way in comparison.ways
    ]
    whole = {"model": comparison.model, "mixture": comparison.mixture, "task": comparison.task, "ways": ways}
    return json.dumps(whole, ensure_ascii=False, indent=1) + "\n"


def _figures(score: GroupScore) -> Mapping[str, Any]:
    return {
        "value": score.interval.value,
        "low": score.interval.low,
        "high": score.interval.high,
        "baseline": score.baseline,
        "above_chance": score.above_chance,
        "tasks": score.tasks,
    }


_COLOURS = {BASE: "#9ca3af", SINGLE: "#d97706", MIXED: "#2563eb"}
_BAR, _GAP, _HEIGHT, _TOP, _LEFT = 26, 34, 220, 34, 44


def as_svg(comparison: Comparison) -> str:
    """Return a plot: in each column a bar a way with its interval, and a line at the better baseline."""
    made = columns(comparison)
    group = _BAR * len(comparison.ways)
    width = _LEFT + (group + _GAP) * len(made) + 10
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {_HEIGHT + _TOP + 56}" '
        'font-family="system-ui, sans-serif" font-size="10">',
        f'<rect width="{width}" height="{_HEIGHT + _TOP + 56}" fill="white"/>',
    ]
    for value in (0, 25, 50, 75, 100):
        y = _TOP + _HEIGHT * (1 - value / 100)
        parts.append(f'<line x1="{_LEFT}" x2="{width - 8}" y1="{y}" y2="{y}" stroke="#e5e7eb"/>')
        parts.append(f'<text x="{_LEFT - 6}" y="{y + 3}" text-anchor="end" fill="#6b7280">{value}</text>')
    for number, column in enumerate(made):
        x = _LEFT + 12 + (group + _GAP) * number
        for at, way in enumerate(comparison.ways):
            parts.append(_bar(x + at * _BAR, scored(way, column), _COLOURS[way.name]))
        baseline = scored(comparison.ways[0], column).baseline
        if baseline is not None:
            y = _TOP + _HEIGHT * (1 - baseline)
            parts.append(
                f'<line x1="{x - 5}" x2="{x + group}" y1="{y}" y2="{y}" stroke="#111827" stroke-dasharray="3 2"/>'
            )
        for line, text in enumerate(_lines(f"{column.title} ({len(column.tasks)})")):
            middle, y = x + group / 2 - 3, _TOP + _HEIGHT + 14 + 12 * line
            parts.append(f'<text x="{middle}" y="{y}" text-anchor="middle" fill="#374151">{_escaped(text)}</text>')
    for at, way in enumerate(comparison.ways):
        x = _LEFT + 12 + 130 * at
        parts.append(f'<rect x="{x}" y="10" width="10" height="10" fill="{_COLOURS[way.name]}"/>')
        parts.append(f'<text x="{x + 14}" y="19" fill="#374151">{way.name}</text>')
    return "".join([*parts, "</svg>\n"])


def _bar(x: float, score: GroupScore, colour: str) -> str:
    value, low, high = (max(0.0, each) for each in (score.interval.value, score.interval.low, score.interval.high))
    y = _TOP + _HEIGHT * (1 - value)
    middle = x + _BAR / 2 - 3
    return (
        f'<rect x="{x}" y="{y:.1f}" width="{_BAR - 6}" height="{_HEIGHT * value:.1f}" fill="{colour}"/>'
        f'<line x1="{middle}" x2="{middle}" y1="{_TOP + _HEIGHT * (1 - high):.1f}" '
        f'y2="{_TOP + _HEIGHT * (1 - low):.1f}" stroke="#111827"/>'
    )


def _lines(text: str) -> list[str]:
    """Return words in lines of about fourteen characters."""
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) > 14 and lines[-1]:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def write(comparison: Comparison, out: Path) -> None:
    """Write `compare.md`, `compare.json` and `compare.svg`. Raises OutputError if that cannot be."""
    made = {"compare.json": as_json, "compare.svg": as_svg, "compare.md": as_markdown}
    try:
        for name, make in made.items():
            write_whole(out / name, make(comparison))
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(out)) from None
