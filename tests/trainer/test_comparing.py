"""`mix compare`: what its tables say of figures that are known, and one run from end to end."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from xml.etree import ElementTree

import pytest

from taskmix_trainer.comparing import (
    BASE,
    MIXED,
    SINGLE,
    Comparison,
    Way,
    as_json,
    as_markdown,
    as_svg,
    columns,
    scored,
)
from taskmix_trainer.evaluation.measures import mean_of
from taskmix_trainer.evaluation.scores import Record, put_together
from taskmix_trainer.evaluation.statistics import baseline
from tests.forks import Forks, forking


def record(task: str, split: str, right: Sequence[bool], *, chance: bool = True, template: str = "one") -> Record:
    answers = [at % 2 for at in range(len(right))]
    metric = "accuracy" if chance else "rouge_l"
    found = baseline(answers, 2) if chance else None
    return Record(task, "cluster", template, split, (mean_of(metric, right),), baseline=found)


def way(name: str, own: int, other: int, heldout: int) -> Way:
    """Return a way that gets so many of twenty right."""

    def hits(count: int) -> list[bool]:
        return [at < count for at in range(20)]

    records = [
        record("own", "validation", hits(own)),
        record("own", "validation", hits(own), template="two"),
        record("seen", "validation", hits(other)),
        record("told", "validation", hits(other), chance=False),
        record("unseen", "heldout", hits(heldout)),
        record("unknown", "heldout", hits(heldout)),
    ]
    rows = 100 if name == SINGLE else 0
    return Way(name, f"runs/{name}", put_together(records), rows, 8 * bool(rows), 900 * bool(rows), 12.0)


@pytest.fixture
def comparison() -> Comparison:
    ways = (way(BASE, 10, 10, 10), way(SINGLE, 20, 9, 10), way(MIXED, 19, 18, 19))
    return Comparison("some/model", "mixed", "own", ways)


def test_columns_part_the_task_from_others_and_choices_from_texts(comparison: Comparison) -> None:
    found = [(each.title, each.tasks) for each in columns(comparison)]
    assert found == [
        ("own", ("own",)),
        ("other seen tasks, choices", ("seen",)),
        ("other seen tasks, written", ("told",)),
        ("held-out tasks, choices", ("unknown", "unseen")),
    ]


def test_figures_are_means_over_tasks(comparison: Comparison) -> None:
    heldout = columns(comparison)[-1]
    assert [round(scored(each, heldout).interval.value, 6) for each in comparison.ways] == [0.5, 0.5, 0.95]
    assert [scored(each, heldout).above_chance for each in comparison.ways] == [False, False, True]


def test_the_table_marks_what_is_not_above_chance(comparison: Comparison) -> None:
    text = as_markdown(comparison)
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert lines["as it is"].count("°") == 3
    assert "°" not in lines["instruction-tuned on mixed"]
    cells = [each.strip() for each in lines["always the most frequent answer"].split("|")[2:6]]
    assert cells == ["50.0", "50.0", "–", "50.0"]
    assert lines["fine-tuned"].split("|")[2].strip() == "100"
    assert "none: a description" in lines["instruction-tuned"]
    assert "changes the base model's 50.0 by +45.0" in text
    assert "more than chance would give" in text


def test_the_plot_is_an_image_with_a_bar_a_figure(comparison: Comparison) -> None:
    root = ElementTree.fromstring(as_svg(comparison))
    bars = [each for each in root.iter("{http://www.w3.org/2000/svg}rect") if each.get("fill") != "white"]
    assert len(bars) == 4 * 3 + 3
    assert all(float(each.get("height", "0")) >= 0 for each in bars)


def test_the_figures_can_be_read_by_programs(comparison: Comparison) -> None:
    found = json.loads(as_json(comparison))
    assert [each["name"] for each in found["ways"]] == [BASE, SINGLE, MIXED]
    assert found["ways"][2]["columns"]["held-out tasks, choices"]["above_chance"] is True


@pytest.fixture(scope="module")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    modules = (
        "taskmix.cli,polars,taskmix_trainer.training.loop,taskmix_trainer.comparing,"
        "transformers.models.qwen3.modeling_qwen3,torch._dynamo"
    )
    settled = {**os.environ, "OMP_NUM_THREADS": "1"}
    with forking(tmp_path_factory.mktemp("comparing"), settled, modules) as found:
        yield found


def test_a_mixture_from_end_to_end(forks: Forks) -> None:
    command = ["compare", "starter", "--task", "headline-topics", "--model", "scratch:tiny", "--steps", "2"]
    command += ["--batch-tokens", "2048", "--limit", "2", "--max-new-tokens", "2", "--out", "out"]
    ended = forks.mix(*command)
    assert ended.code == 0, ended.output
    out: Path = forks.root / "out"
    assert {"compare.md", "compare.json", "compare.svg", "base", "fine-tuned", "instruction-tuned"} <= {
        path.name for path in out.iterdir()
    }
    assert ended.stdout == (out / "compare.md").read_text("utf-8")
    again = forks.mix(*command)
    assert again.code == 0
    assert "step 1" not in again.stderr, "runs that are done are not done again"


def test_a_task_that_the_mixture_does_not_train(forks: Forks) -> None:
    ended = forks.mix("compare", "starter", "--task", "everyday-entailment", "--model", "scratch:tiny")
    assert ended.code == 2
    assert "has no task 'everyday-entailment' that it trains" in ended.stderr
    assert "Traceback" not in ended.stderr
