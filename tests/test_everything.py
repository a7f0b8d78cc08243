"""One mixture over every real dataset, judged by `oracle.py`, which reads the same catalog with plain tools."""

import json
import os
import random
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from taskmix.building import build
from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.catalog.models import HoldoutSpec
from taskmix.catalog.selection import select
from taskmix.mixing.holdout import assign_roles
from taskmix.mixing.plan import make_plan
from tests.workers import WORKERS

TESTS = Path(__file__).parent
CATALOGS = [TESTS / "catalogs" / "everything.yaml", TESTS.parent / "catalog.yaml"]
CAP, EVALUATION_ROWS = 3000, 50
UNUSED = {"local/comve", "shunk031/JGLUE/JSTS"}
HELDOUT = {"rte", "mnli", "jnli-test"}
COLUMNS = {
    "prompt": pl.String(),
    "completion": pl.String(),
    "id": pl.String(),
    "task": pl.String(),
    "cluster": pl.String(),
    "template": pl.String(),
    "style": pl.String(),
    "source_split": pl.String(),
    "source_row": pl.UInt64(),
    "choices": pl.List(pl.String()),
    "answer": pl.Int64(),
    "references": pl.List(pl.String()),
}
ORIGIN = ("task", "source_split", "source_row")
Json = dict[str, Any]


@dataclass(frozen=True)
class Everything:
    """The built mixture: its folder, its lock, and the rows of all splits with the `split` that each is of."""

    out: Path
    lock: Mapping[str, Any]
    rows: pl.DataFrame

    def split(self, name: str) -> pl.DataFrame:
        return self.rows.filter(pl.col("split") == name)

    @property
    def evaluation(self) -> pl.DataFrame:
        return self.rows.filter(pl.col("split") != "train")

    @property
    def tasks(self) -> list[str]:
        return sorted(self.rows["task"].unique())


@dataclass(frozen=True)
class Judged:
    """What the oracle says of every task, and of rows of the mixture, in their order."""

    tasks: Mapping[str, Json]
    rows: pl.DataFrame
    rendered: Sequence[Json]


@pytest.fixture(scope="session")
def everything(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Everything:
    out = tmp_path_factory.mktemp("everything") / "mixture"
    built = build("everything", catalog=load_catalog(CATALOGS[0]), mirror=shared_data, out=out)
    splits = [
        pl.read_parquet(out / "data" / f"{name}-*.parquet").with_columns(split=pl.lit(name))
        for name in built.lock["splits"]
    ]
    return Everything(out, built.lock, pl.concat(splits))


@pytest.fixture(scope="session")
def judged(everything: Everything, shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Judged:
    """Let the oracle render 1,000 random rows, and one more for every template of every task and split."""
    numbered = everything.rows.with_row_index("number")
    chosen = random.Random(0).sample(range(len(numbered)), 1000)
    one_each = numbered.sort("id").group_by("split", "task", "template", maintain_order=True).first()["number"]
    rows = everything.rows[sorted({*chosen, *one_each})]
    return judge(rows, everything.tasks, shared_data, tmp_path_factory.mktemp("oracle"))


def judge(rows: pl.DataFrame, tasks: Sequence[str], data: Path, folder: Path) -> Judged:
    """Run the oracle in a process of its own, where nothing of taskmix is imported."""
    job = {
        "catalogs": [str(each) for each in CATALOGS],
        "data": str(data),
        "tasks": tasks,
        "rows": list(rows.select(*ORIGIN, "template").iter_rows()),
    }
    (folder / "job.json").write_text(json.dumps(job), "utf-8")
    files = [TESTS / "oracle.py", folder / "job.json", folder / "result.json"]
    subprocess.run([sys.executable, *map(str, files)], check=True, timeout=300)
    result = json.loads((folder / "result.json").read_text("utf-8"))
    return Judged(result["tasks"], rows, result["rows"])


def unlike(judged: Judged, names: Sequence[str]) -> list[tuple[object, ...]]:
    """Return where the named columns of a row are not what the oracle makes of its source row."""
    pairs = zip(judged.rows.iter_rows(named=True), judged.rendered, strict=True)
    return [
        (*(row[key] for key in (*ORIGIN, "template")), name, row[name], expected[name])
        for row, expected in pairs
        for name in names
        if row[name] != expected[name]
    ]


def seen_tasks(judged: Judged) -> dict[str, Json]:
    return {name: task for name, task in judged.tasks.items() if name not in HELDOUT}


def plain_templates(task: Json) -> set[str]:
    """Return the templates that a mixture without `styles` uses."""
    return {name for name, style in task["templates"].items() if style == "zero-shot"}


def counts(rows: pl.DataFrame) -> dict[str, int]:
    """Return the number of distinct source rows that each task gives to some rows of the mixture."""
    return dict(rows.group_by("task").agg(pl.col("source_row").n_unique()).iter_rows())


def test_every_dataset_of_the_test_data_is_used(judged: Judged, shared_data: Path) -> None:
    there = {file.parent.relative_to(shared_data).as_posix() for file in shared_data.rglob("*.parquet")}
    assert {task["folder"] for task in judged.tasks.values()} == there - UNUSED


def test_a_task_gives_its_rows_once_up_to_the_cap(everything: Everything, judged: Judged) -> None:
    train = everything.split("train")
    assert not train.select(ORIGIN).is_duplicated().any()
    given = counts(train)
    uncut = {name: task for name, task in seen_tasks(judged).items() if task["asked"] is None}
    expected = {name: min(task["splits"]["train"]["kept"], CAP) for name, task in uncut.items()}
    assert {name: given[name] for name in uncut} == expected
    assert len(uncut) > 25
    assert set(given) == set(seen_tasks(judged))
    assert max(given.values()) == CAP


def test_a_cut_split_and_what_it_leaves_share_out_their_source(everything: Everything, judged: Judged) -> None:
    train, usable = counts(everything.split("train")), usable_by_lock(everything)
    cut = {name: task["splits"] for name, task in seen_tasks(judged).items() if task["asked"] is not None}
    assert len(cut) > 25
    for name, splits in cut.items():
        kept, share = splits["train"]["kept"], splits["validation"]["share"]
        rest = usable[name, "train"]
        assert usable[name, "validation"] + rest == kept, name
        assert train[name] == min(rest, CAP), name
        # five standard deviations of a binomial draw
        assert abs(kept - rest - share * kept) < 5 * (kept * share * (1 - share)) ** 0.5, name


def test_the_lock_counts_the_rows_of_every_source(everything: Everything, judged: Judged) -> None:
    for part in everything.lock["plan"]:
        splits = judged.tasks[part["task"]]["splits"].values()
        source = next(split for split in splits if split["source_split"] == part["source_split"])
        found = (part["source_rows"], part["dropped"]["where"], part["dropped"]["length"])
        assert found == (source["rows"], source["rows"] - source["kept"], 0), part
        assert part["usable"] == source["kept"] - part["cut"], part


def usable_by_lock(everything: Everything) -> dict[tuple[str, str], int]:
    return {(part["task"], part["split"]): part["usable"] for part in everything.lock["plan"]}


@pytest.mark.parametrize("split", ["validation", "heldout"])
def test_evaluation_rows_appear_under_every_template(everything: Everything, judged: Judged, split: str) -> None:
    rows = everything.split(split)
    tasks = {name: judged.tasks[name] for name in judged.tasks if (name in HELDOUT) == (split == "heldout")}
    train = counts(everything.split("train"))
    available = {
        name: task["splits"]["validation"]["kept"] - (train[name] if task["asked"] is not None else 0)
        for name, task in tasks.items()
    }
    assert counts(rows) == {name: min(count, EVALUATION_ROWS) for name, count in available.items()}
    pairs = rows.group_by("task").agg(pl.len(), pl.struct("source_row", "template").n_unique().alias("pairs"))
    expected = {name: min(available[name], EVALUATION_ROWS) * len(plain_templates(tasks[name])) for name in tasks}
    assert {task: (rows, distinct) for task, rows, distinct in pairs.iter_rows()} == {
        name: (count, count) for name, count in expected.items()
    }


def test_a_mixture_without_styles_has_plain_templates_alone(everything: Everything, judged: Judged) -> None:
    used = everything.rows.group_by("split", "task").agg(pl.col("template").unique(), pl.col("style").unique())
    for split, task, templates, styles in used.iter_rows():
        assert styles == ["zero-shot"], (split, task)
        assert set(templates) == plain_templates(judged.tasks[task]), (split, task)


def test_heldout_is_the_cluster_that_training_never_sees(everything: Everything) -> None:
    assert set(everything.split("heldout")["cluster"]) == {"nli"}
    assert set(everything.split("heldout")["task"]) == HELDOUT
    for split in ("train", "validation"):
        seen = everything.split(split)
        assert not set(seen["task"]) & HELDOUT
        assert "nli" not in set(seen["cluster"])


def test_no_source_row_is_in_train_and_in_an_evaluation_split(everything: Everything, judged: Judged) -> None:
    folders = {name: task["folder"] for name, task in judged.tasks.items()}
    rows = everything.rows.with_columns(folder=pl.col("task").replace_strict(folders))
    train, evaluation = rows.filter(pl.col("split") == "train"), rows.filter(pl.col("split") != "train")
    assert evaluation.join(train, on=["folder", "source_split", "source_row"], how="semi").is_empty()


def test_a_cut_leaves_no_twin_of_an_evaluation_row_in_train(everything: Everything, judged: Judged) -> None:
    twins = 0
    for name, task in seen_tasks(judged).items():
        if task["asked"] is None:
            continue
        train, validation = (
            {task["asked"][row] for row in everything.split(split).filter(pl.col("task") == name)["source_row"]}
            for split in ("train", "validation")
        )
        assert not train & validation, name
        twins += len(task["asked"]) - len(set(task["asked"]))
    # the data do have rows that ask the same
    assert twins > 0


@pytest.mark.parametrize(
    ("task", "file", "columns"),
    [
        ("rte", "aps/super_glue/rte/validation.parquet", ("premise", "hypothesis")),
        ("mnli", "nyu-mll/glue/mnli/validation_matched.parquet", ("premise", "hypothesis")),
        ("jnli-test", "shunk031/JGLUE/JNLI/validation.parquet", ("sentence1", "sentence2")),
    ],
)
def test_no_heldout_text_stands_in_a_training_prompt(
    everything: Everything, shared_data: Path, task: str, file: str, columns: tuple[str, str]
) -> None:
    rows = everything.split("heldout").filter(pl.col("task") == task)["source_row"].unique()
    texts = pl.read_parquet(shared_data / file)[rows.to_list()].select(pl.concat_list(columns)).to_series().explode()
    # shorter ones are phrases such as "That is true."
    long = texts.filter(texts.str.len_bytes() >= 40)
    assert len(long) > EVALUATION_ROWS
    assert not everything.split("train")["prompt"].str.contains_any(long.to_list()).any()


def test_train_has_nothing_to_score_by(everything: Everything) -> None:
    train = everything.split("train")
    assert [train[name].null_count() for name in ("choices", "answer", "references")] == [len(train)] * 3


def test_the_completion_is_the_right_one_of_the_choices(everything: Everything) -> None:
    rows = everything.evaluation
    assert rows.filter(pl.col("choices").is_null() != pl.col("answer").is_null()).is_empty()
    closed = rows.filter(pl.col("choices").is_not_null())
    assert closed.filter(pl.col("completion") != pl.col("choices").list.get(pl.col("answer"))).is_empty()
    assert len(closed) > 5000


def test_only_tasks_with_one_label_have_choices(everything: Everything, judged: Judged) -> None:
    labelled = {"text-classification", "multiple-choice"}
    single = {name for name, task in judged.tasks.items() if task["kind"] in labelled and name != "go_emotions"}
    with_choices = everything.evaluation.filter(pl.col("choices").is_not_null())
    assert set(with_choices["task"]) == single
    assert len(single) > 15


def test_the_completion_is_the_first_reference(everything: Everything) -> None:
    rows = everything.evaluation
    assert rows["references"].null_count() == 0
    assert rows.filter(pl.col("references").list.first() != pl.col("completion")).is_empty()
    several = set(rows.filter(pl.col("references").list.len() > 1)["task"])
    assert {"squad", "nq_open-validation", "web_questions"} <= several


def test_choices_and_references_follow_from_what_the_output_names(project: Callable[..., Path], tmp_path: Path) -> None:
    """The real templates do not have every case, so here is one template for each."""
    templates = """\
    - {name: word, instruction: "Topic of {{ text }}?", output: "{{ choices[label] }}"}
    - {name: own-words, instruction: "Topic of {{ text }}?", output: "About {{ choices[label] }}.", choices: [B, C]}
    - {name: number, instruction: "Topic of {{ text }}?", output: "{{ label + 1 }}"}
    - {name: first-or-not, instruction: "Topic of {{ text }}?", output: "{{ 'yes' if label == 0 else 'no' }}"}
    - {name: with-text, instruction: "Topic of {{ text }}?", output: "{{ text }}: {{ choices[label] }}"}
    - {name: words-alone, instruction: "Topics for {{ text }}?", output: "{{ choices | join(', ') }}"}
    """
    catalog = """\
    version: 1
    tasks:
      topics:
        kind: text-classification
        cluster: topic
        source: {path: data}
        labels: [birds, cars]
      asks:
        kind: text-generation
        cluster: qa
        source: {path: asks}
        columns: {input: q, target: a}
    mixtures: {all: {tasks: [topics, asks], decontamination: "off"}}
    """
    rows = '{"text": "A wren sings.", "label": 0}\n{"text": "Brakes need care.", "label": 1}\n'
    asks = '{"q": "How much is one and one?", "a": ["2", "two"]}\n'
    files = {f"data/{split}.jsonl": rows for split in ("train", "validation")}
    files |= {f"asks/{split}.jsonl": asks for split in ("train", "validation")}
    files |= {"templates/topics.yaml": dedent(templates)}
    files |= {"templates/asks.yaml": '- {name: ask, instruction: "{{ input }}", output: "It is {{ target }}."}\n'}
    built = build("all", catalog=load_catalog(project(dedent(catalog), files)), out=tmp_path / "out")
    found = pl.read_parquet(built.out / "data/validation-*.parquet").filter(pl.col("source_row") == 0)
    listed = found.select("template", "completion", "choices", "answer", "references").sort("template").rows()
    assert listed == [
        ("ask", "It is 2.", None, None, ["It is 2.", "It is two."]),
        ("first-or-not", "yes", ["yes", "no"], 0, ["yes"]),
        ("number", "1", ["1", "2"], 0, ["1"]),
        ("own-words", "About B.", ["About B.", "About C."], 0, ["About B."]),
        ("with-text", "A wren sings.: birds", None, None, ["A wren sings.: birds"]),
        ("word", "birds", ["birds", "cars"], 0, ["birds"]),
        ("words-alone", "birds, cars", None, None, ["birds, cars"]),
    ]


def dedent(text: str) -> str:
    return "".join(line.removeprefix("    ") for line in text.splitlines(keepends=True))


def test_rows_are_what_plain_jinja_makes_of_their_source_row(judged: Judged) -> None:
    assert len(judged.rows) >= 1000
    assert set(judged.rows["task"]) == set(judged.tasks)
    assert not unlike(judged, ("prompt", "completion"))


def test_choices_and_references_are_what_plain_jinja_makes_of_them(judged: Judged) -> None:
    of_evaluation = (judged.rows["split"] != "train").to_list()
    rendered = [each for each, chosen in zip(judged.rendered, of_evaluation, strict=True) if chosen]
    scored = Judged(judged.tasks, judged.rows.filter(of_evaluation), rendered)
    assert len(rendered) > 300
    assert not unlike(scored, ("choices", "answer", "references"))


def test_styled_templates_are_what_plain_jinja_makes_of_them_too(shared_data: Path, tmp_path: Path) -> None:
    """The mixture of everything is plain; this one has reasoning and inverted tasks."""
    catalog = load_catalog(CATALOGS[1])
    built = build("eight-hub-tasks", catalog=catalog, mirror=shared_data, out=tmp_path / "out", limit=100)
    rows = pl.read_parquet(built.out / "data" / "train-*.parquet").filter(pl.col("style") != "zero-shot")
    assert set(rows["style"]) == {"chain-of-thought", "inverted"}
    assert len(rows) > 80
    assert not unlike(judge(rows, [], shared_data, tmp_path), ("prompt", "completion"))


def test_ids_are_unique_over_all_splits(everything: Everything) -> None:
    assert everything.rows["id"].n_unique() == len(everything.rows)


def test_every_source_row_is_one_of_its_source_split(everything: Everything, judged: Judged) -> None:
    last = everything.rows.group_by("split", "task", "source_split").agg(pl.col("source_row").max())
    for split, task, source_split, row in last.iter_rows():
        splits = judged.tasks[task]["splits"]
        ours = splits["train" if split == "train" else "validation"]
        assert ours["source_split"] == source_split
        assert row < ours["rows"], task


def test_polars_scans_the_shards(everything: Everything) -> None:
    scanned = pl.scan_parquet(everything.out / "data" / "train-*.parquet")
    assert dict(scanned.collect_schema()) == COLUMNS
    assert scanned.select(pl.len()).collect().item() == everything.lock["splits"]["train"]["rows"]


def test_datasets_loads_the_folder_as_it_is(everything: Everything, tmp_path: Path) -> None:
    script = """\
import datasets, json, sys
mixture = datasets.load_dataset(sys.argv[1])
found = {name: {"rows": split.num_rows, "columns": split.column_names, "first": split[0]["id"]}
         for name, split in mixture.items()}
print(json.dumps(found))
"""
    offline = {"HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "1", "HF_DATASETS_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script, everything.out],
        env=os.environ | offline,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert json.loads(done.stdout) == {
        name: {"rows": len(rows), "columns": list(COLUMNS), "first": rows["id"][0]}
        for name in ("train", "validation", "heldout")
        if len(rows := everything.split(name))
    }


def holding_out(catalog: Catalog, holdout: HoldoutSpec, tasks: Sequence[str] | None = None) -> Catalog:
    """Return the catalog with another holdout, and other tasks, in the mixture `everything`."""
    changes: dict[str, object] = {"holdout": holdout} | ({"tasks": list(tasks)} if tasks else {})
    return replace(catalog, mixtures={"everything": catalog.mixtures["everything"].model_copy(update=changes)})


@pytest.mark.parametrize(
    ("held", "heldout", "excluded"),
    [
        ("gsm8k", {"gsm8k"}, {"flan_cot-gsm8k"}),
        ("flan_cot-gsm8k", {"flan_cot-gsm8k"}, {"gsm8k"}),
        ("cluster:math", {"gsm8k", "flan_cot-gsm8k"}, set()),
        ("commonsense_qa", {"commonsense_qa"}, {"cos_e", "flan_cot-ecqa"}),
        ("flan_cot-ecqa", {"flan_cot-ecqa"}, {"cos_e", "commonsense_qa"}),
        (
            "cluster:commonsense",
            {"commonsense_qa", "cos_e", "flan_cot-ecqa", "flan_cot-sensemaking", "mc_taco", "piqa-validation"},
            set(),
        ),
        ("strategy_qa-local", {"strategy_qa-local"}, {"flan_cot-strategyqa"}),
        ("xquad-de", {"xquad-de"}, {"squad", "xquad-en", "xquad-es", "xquad-zh"}),
    ],
)
def test_relatives_of_a_heldout_task_appear_nowhere(held: str, heldout: set[str], excluded: set[str]) -> None:
    cluster = held.removeprefix("cluster:")
    holdout = HoldoutSpec(tasks=[held]) if cluster == held else HoldoutSpec(clusters=[cluster])
    catalog = holding_out(load_catalog(CATALOGS[0]), holdout)
    selected = set(select(catalog, "everything").tasks)
    roles = assign_roles(catalog, "everything", selected)
    assert set(roles.heldout) == heldout
    assert set(roles.excluded) == excluded
    assert set(roles.train) == selected - heldout - excluded


def test_a_plan_has_no_part_of_a_relative(shared_data: Path) -> None:
    tasks = ["gsm8k", "flan_cot-*", "commonsense_qa", "cos_e", "piqa-validation"]
    holdout = HoldoutSpec(clusters=["math"], tasks=["commonsense_qa"])
    catalog = holding_out(load_catalog(CATALOGS[0]), holdout, tasks)
    plan = make_plan(catalog, "everything", mirror=shared_data, limit=20, workers=WORKERS)
    assert plan.excluded == {"cos_e": "commonsense_qa", "flan_cot-ecqa": "commonsense_qa"}
    found = {(part.split, part.task.name) for part in plan.parts}
    seen = ("flan_cot-creak", "flan_cot-qasc", "flan_cot-sensemaking", "flan_cot-strategyqa", "piqa-validation")
    assert found == {("heldout", name) for name in ("commonsense_qa", "flan_cot-gsm8k", "gsm8k")} | {
        (split, name) for split in ("train", "validation") for name in seen
    }
