"""Results by template, task, cluster and split, and the tables of them."""

import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from taskmix_trainer.evaluation.classification import single_label
from taskmix_trainer.evaluation.measures import mean_of
from taskmix_trainer.evaluation.scores import Record, as_json, difference, put_together, read_records, write_records
from taskmix_trainer.evaluation.statistics import Baseline
from taskmix_trainer.evaluation.tables import classes_table, results_table, table, templates_table

GUESS = Baseline(0.5, 0.5, 0)


def record(
    task: str,
    template: str,
    scores: Sequence[float],
    *,
    cluster: str = "nli",
    split: str = "heldout",
    metric: str = "accuracy",
    baseline: Baseline | None = GUESS,
    style: str = "zero-shot",
) -> Record:
    measures = (mean_of(metric, scores), mean_of("accuracy_per_character", [1 - each for each in scores]))
    return Record(task, cluster, template, split, measures, baseline=baseline, style=style)


def shares(right: int, of: int = 100) -> list[float]:
    return [float(at < right) for at in range(of)]


RECORDS = [
    record("rte", "a", shares(80)),
    record("rte", "b", shares(90)),
    record("rte", "c", shares(60)),
    record("cb", "a", shares(52)),
    record("gsm8k", "a", shares(10), cluster="math", metric="final_number", baseline=None),
    record("sst2", "raw|ly", shares(99), cluster="sentiment", split="validation"),
]


def test_a_task_is_the_median_of_its_templates_a_cluster_the_mean_of_its_tasks() -> None:
    found = put_together(RECORDS)
    assert [each.task for each in found.tasks] == ["sst2", "gsm8k", "cb", "rte"]
    rte = found.tasks[-1]
    assert (rte.interval.value, rte.spread.low, rte.spread.high, rte.spread.count) == (0.8, 0.6, 0.9, 3)
    assert rte.examples == 300
    assert rte.others == {"accuracy_per_character": pytest.approx(0.2)}
    assert [(each.split, each.cluster, each.tasks) for each in found.clusters] == [
        ("validation", "sentiment", 1),
        ("heldout", "math", 1),
        ("heldout", "nli", 2),
    ]
    assert found.clusters[-1].interval.value == pytest.approx((0.8 + 0.52) / 2)
    assert [(each.split, each.tasks) for each in found.splits] == [("validation", 1), ("heldout", 3)]
    assert found.splits[-1].interval.value == pytest.approx((0.8 + 0.52 + 0.1) / 3)


def test_what_is_not_above_chance_is_said_so() -> None:
    found = put_together(RECORDS)
    assert {each.task: each.above_chance for each in found.tasks} == {
        "sst2": True,
        "gsm8k": None,
        "cb": False,
        "rte": True,
    }
    nli = found.clusters[-1]
    assert (nli.baseline, nli.above_chance) == (0.5, True)
    assert (found.splits[-1].baseline, found.splits[-1].above_chance) == (None, None)


def test_a_task_that_is_measured_in_two_ways_is_quoted_by_that_of_most_templates() -> None:
    written = [record("cos_e", each, shares(5), metric="exact_match", baseline=None) for each in "ab"]
    chosen = [record("cos_e", name, shares(right)) for name, right in (("c", 40), ("d", 60), ("e", 30))]
    (task,) = put_together([*written, *chosen]).tasks
    assert (task.metric, task.examples, task.spread.count) == ("accuracy", 300, 3)
    assert (task.interval.value, task.baseline) == (0.4, GUESS)
    assert task.others == {"exact_match": 0.05, "accuracy_per_character": pytest.approx(0.7)}
    assert [each.template for each in task.templates] == ["a", "b", "c", "d", "e"]
    lines = [[cell.strip() for cell in line.split("|")[1:3]] for line in templates_table(task).splitlines()[2:]]
    assert lines == [[name, "100"] for name in "dceab"]
    # of as many templates each way, the first one's
    (tied,) = put_together([*written, *chosen[:2]]).tasks
    assert (tied.metric, tied.baseline, tied.above_chance) == ("exact_match", None, None)


def test_two_models_are_compared_on_the_same_draws() -> None:
    before, after = put_together(RECORDS), put_together([*RECORDS[:3], record("cb", "a", shares(70)), *RECORDS[4:]])
    gaps = {one.task: difference(two, one) for one, two in zip(before.tasks, after.tasks, strict=True)}
    assert gaps["rte"].interval.value == gaps["rte"].interval.low == 0
    assert gaps["cb"].interval.value == pytest.approx(0.18)
    assert gaps["cb"].certain
    whole = difference(after.splits[-1], before.splits[-1])
    assert whole.interval.value == pytest.approx(0.06)
    assert 0.03 < whole.interval.low < whole.interval.high < 0.09
    with pytest.raises(ValueError, match="different task: cb and rte"):
        difference(before.tasks[2], before.tasks[3])
    with pytest.raises(ValueError, match="different numbers of resamples"):
        difference(before.tasks[2], put_together(RECORDS, resamples=10).tasks[2])


def test_results_are_json() -> None:
    found = as_json(put_together([*RECORDS, record("empty", "a", [])]))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert set(found) == {"tasks", "clusters", "splits"}
    rte = next(each for each in found["tasks"] if each["task"] == "rte")
    assert rte["interval"]["value"] == 0.8
    assert [each["values"]["accuracy"] for each in rte["templates"]] == [0.8, 0.9, 0.6]
    assert rte["baseline"] == {"majority": 0.5, "chance": 0.5, "answer": 0}
    assert "draws" not in rte
    empty = next(each for each in found["tasks"] if each["task"] == "empty")
    assert empty["interval"]["value"] is None


def test_records_can_be_kept_and_read_again() -> None:
    several = [
        *RECORDS,
        record("empty", "ü\n", []),
        Record("t", "c", "x", "validation", single_label([0, 1], [1, 1], "ab").measures, rows=(7, 3)),
    ]
    text = write_records(several)
    assert len(text.splitlines()) == len(several)
    again = read_records(text)
    assert as_json(put_together(again)) == as_json(put_together(several))
    for one, other in zip(again, several, strict=True):
        assert (one.task, one.template, one.rows, one.baseline) == (
            other.task,
            other.template,
            other.rows,
            other.baseline,
        )
        for mine, theirs in zip(one.measures, other.measures, strict=True):
            assert np.array_equal(mine.terms, theirs.terms)
    with pytest.raises(ValueError, match="line 1 is no record of scores"):
        read_records('{"task": "x"}')


def test_records_that_contradict_each_other_are_refused() -> None:
    with pytest.raises(ValueError, match="in two clusters, nli and other"):
        put_together([record("t", "a", [1]), record("t", "b", [1], cluster="other")])
    with pytest.raises(ValueError, match=r"template a \(zero-shot\) of task t comes twice in heldout"):
        put_together([record("t", "a", [1]), record("t", "a", [1])])
    with pytest.raises(ValueError, match="nothing was measured"):
        Record("t", "c", "a", "heldout", ())
    with pytest.raises(ValueError, match="1 examples of t but 2 source rows"):
        Record("t", "c", "a", "heldout", (mean_of("accuracy", [1]),), rows=(1, 2))


def test_the_table_says_it_all_and_is_aligned() -> None:
    text = results_table(put_together(RECORDS))
    assert "### validation: seen tasks" in text
    assert "### heldout: held-out tasks" in text
    rows = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")[2:-1]]
        for line in text.splitlines()
        if "|" in line
    }
    assert rows["rte"][0:3] == ["nli", "accuracy", "300"]
    assert rows["rte"][3].startswith("80.0 [7")
    assert rows["rte"][4:] == ["60.0–90.0", "15.0", "3", "50.0 majority", "yes"]
    assert rows["cb"][4:] == ["–", "–", "1", "50.0 majority", "no"]
    assert rows["gsm8k"][-2:] == ["–", "–"]
    assert rows["**mean of nli**"][0] == "2 tasks"
    assert "**mean of math**" not in rows
    for part in text.split("\n\n"):
        assert len({len(line) for line in part.splitlines() if line.startswith("|")}) <= 1


def test_templates_and_classes_have_tables() -> None:
    found = put_together([*RECORDS[:3], record("rte", "a", shares(95), style="few-shot")])
    lines = templates_table(found.tasks[0]).splitlines()
    assert lines[0].split("|")[1:-1] == pytest.approx(lines[0].split("|")[1:-1])
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["a", "b", "a", "c"]
    assert "few-shot" in lines[2]
    text = classes_table(single_label([0, 1, 1], [0, 0, 1], ("no", "a|b")).classes)
    assert "| no    |      50.0 |  100.0 | 66.7 |" in text
    assert "a\\|b" in text


def test_cells_keep_to_their_line() -> None:
    assert table(["a"], [["x\ny | z"]]) == "| a        |\n| -------- |\n| x y \\| z |\n"
    assert math.isnan(put_together([record("t", "a", [])]).tasks[0].interval.value)
