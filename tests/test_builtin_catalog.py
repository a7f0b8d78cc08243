"""Every hub task of the built-in catalog, by the functions of `catalog_check.py`: a new entry needs no new test."""

import re
import subprocess
import sys
from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest

from taskmix.catalog.loading import CatalogTask
from taskmix.catalog.models import HoldoutSpec, MixtureSpec
from taskmix.catalog.selection import select
from taskmix.mixing.holdout import assign_roles, relatives
from taskmix.planning import plan
from taskmix.templates.files import read_templates
from tests import catalog_check, phrasing
from tests.catalog_check import Finding, catalog, hub_tasks
from tests.conftest import ROOT, SHARED
from tests.typed_rows import real_mirror, written_rows

TASKS = hub_tasks()
TEMPLATES = ROOT / "templates"
CLUSTERS = sorted({task.spec.cluster for task in catalog().tasks.values()})


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of schemas, real data and public templates."""
    if not (SHARED / "hub-schemas").is_dir():
        pytest.skip(f"no schemas of hub datasets in {SHARED}: set TASKMIX_TEST_SHARED")
    return SHARED


def to_mend(*findings: Finding) -> list[str]:
    return [str(each) for each in findings if not each.note]


@pytest.mark.parametrize("name", TASKS)
def test_an_entry_says_what_its_schema_says(name: str, shared: Path) -> None:
    assert to_mend(*catalog_check.check_entry(catalog().tasks[name])) == []


@pytest.mark.parametrize("name", TASKS)
def test_templates_render_without_a_remark_of_the_linter(name: str, shared: Path, tmp_path: Path) -> None:
    assert to_mend(*catalog_check.check_rows(catalog().tasks[name], tmp_path)) == []


@pytest.mark.parametrize("name", TASKS)
def test_templates_are_many_and_each_has_words_of_its_own(name: str) -> None:
    task = catalog().tasks[name]
    templates = catalog_check.templates_of(task)
    counted, alike = catalog_check.check_count(task, templates), catalog_check.check_phrasing(task, templates)
    assert to_mend(*counted, *alike) == []


@pytest.mark.parametrize("name", TASKS)
def test_templates_take_no_sentence_of_a_public_collection(name: str, shared: Path) -> None:
    task = catalog().tasks[name]
    assert to_mend(*catalog_check.check_borrowed(task, catalog_check.templates_of(task))) == []


def test_no_sentence_stands_in_the_templates_of_two_tasks() -> None:
    templates = [each for file in sorted(TEMPLATES.glob("*.yaml")) for each in read_templates(file)]
    assert phrasing.repeated(templates) == []


def test_what_is_asked_in_the_language_of_each_task_has_words_in_all_of_them() -> None:
    spoken = defaultdict[str, set[str]](set)
    for task in catalog().tasks.values():
        if lang := (task.spec.columns or {}).get("lang"):
            spoken[task.spec.templates or task.name] |= {*re.findall(r"'(\w+)'", str(lang))}
    worded = {
        f"{file} [{each.name}]": (words, languages)
        for file, languages in spoken.items()
        for each in read_templates(TEMPLATES / f"{file}.yaml")
        if (words := {*re.findall(r'lang == "(\w+)"', each.spec.instruction)})
    }
    assert worded
    assert {name for name, (words, languages) in worded.items() if words != languages} == set()


def test_what_is_asked_in_the_language_of_each_row_has_words_in_all_of_them() -> None:
    spoken = {row["id"].split("-")[0] for row in written_rows()["tydiqa"]}
    assert len(spoken) == len(catalog().tasks["tydiqa"].spec.language)
    worded = [
        words
        for each in read_templates(TEMPLATES / "tydiqa.yaml")
        if (words := {*re.findall(r'language == "(\w+)"', each.spec.instruction)})
    ]
    assert worded
    # English is what is left
    assert [words for words in worded if words != spoken - {"english"}] == []


def test_every_task_has_rows_that_were_written_for_it() -> None:
    assert {*written_rows()} == {*TASKS}


def test_the_page_of_all_tasks_is_up_to_date(shared: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "tasks.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/tasks.py"


# Mixtures and what they hold out

RELATIVES = (
    ("sst2", "sst5", "rotten_tomatoes"),
    ("yelp_polarity", "yelp_review_full"),
    ("squad", "squad_v2", "qnli", "qa2d", "xquad-en", "xquad-de", "squad_it", "adversarial_qa-dbert"),
    ("mnli", "xnli-en", "xnli-de", "wanli"),
    ("snli", "esnli", "stsb"),
    ("rte", "anli-r3"),
    ("anli-r1", "anli-r2", "anli-r3"),
    ("hotpot_qa", "hotpot_qa-closed_book"),
    ("wnli", "wsc", "winograd_wsc"),
    ("stsb", "stsb-de", "mrpc"),
    ("paws", "paws-x-de"),
    ("commonsense_qa", "cos_e"),
    ("copa", "xcopa-it"),
    ("multirc", "mc_taco"),
    ("arc-easy", "arc-challenge", "scitail"),
    ("sciq", "scitail"),
    ("nq_open", "natural_questions_short", "boolq", "ambig_qa"),
    ("cnn_dailymail", "record"),
    ("race-high", "race-middle", "qa2d"),
    ("newsqa", "qa2d"),
    ("dream", "dialogsum", "daily_dialog"),
    ("dolly", "dolly_hhrlhf"),
    ("e2e_nlg", "dart"),
    ("spider", "sql_create_context"),
    ("gsm8k", "gsm8k_socratic", "gsm_hard", "metamath_qa", "mgsm-de"),
    ("aqua_rat", "math_qa"),
    ("asdiv", "svamp", "mawps", "multiarith"),
    ("swag", "hellaswag"),
    ("snli", "sick"),
)
"""Tasks whose rows were made from the same ones."""

APART = (
    ("common_gen", "snli"),
    ("multi30k-de", "snli"),
    ("coqa", "race-high"),
    ("coqa", "cnn_dailymail"),
    ("newsqa", "cnn_dailymail"),
    ("anli-r1", "hotpot_qa"),
    ("hellaswag", "wiki_lingua-en"),
    ("social_i_qa", "soda"),
    ("opus100-en-es", "wmt14-fr-en"),
)
"""Tasks that share no more than the texts they were written about: decontamination sees to these."""


@pytest.mark.parametrize("names", RELATIVES, ids="-".join)
def test_where_one_of_these_is_held_out_the_others_do_not_train(names: tuple[str, ...]) -> None:
    for held in names:
        assert {*names} - {held} <= {*relatives(catalog().tasks.values(), [held])}


@pytest.mark.parametrize(("one", "other"), APART, ids="-".join)
def test_tasks_about_the_same_texts_are_no_relatives(one: str, other: str) -> None:
    assert other not in relatives(catalog().tasks.values(), [one])


@pytest.mark.parametrize("cluster", CLUSTERS)
def test_holding_out_a_cluster_leaves_nothing_in_train_that_names_what_is_held_out(cluster: str) -> None:
    spec = MixtureSpec(tasks=["*"], holdout=HoldoutSpec(clusters=[cluster]))
    whole = replace(catalog(), mixtures={"all": spec})
    roles = assign_roles(whole, "all", list(whole.tasks))
    held = frozenset[str]().union(*(names_of(whole.tasks[name]) for name in roles.heldout))
    assert {name for name in roles.train if names_of(whole.tasks[name]) & held} == set()
    assert {name for name, task in whole.tasks.items() if task.spec.cluster == cluster} == {*roles.heldout}
    assert len(roles.excluded) < len(roles.train) / 4


def names_of(task: CatalogTask) -> set[str]:
    """Return all names of what a task is made from; a dataset is named by its configuration, and by itself if whole."""
    source = task.spec.source
    named = {task.name, *task.spec.derived_from}
    if source.hub is not None:
        named |= {f"{source.hub}:{source.config}"} if source.config else {source.hub}
    return {name.casefold() for name in named}


@pytest.mark.parametrize("name", catalog().mixtures)
def test_a_mixture_says_what_it_is_and_what_it_holds_out(name: str) -> None:
    spec = catalog().mixtures[name]
    assert spec.description
    roles = assign_roles(catalog(), name, select(catalog(), name).tasks)
    assert roles.heldout
    assert len(roles.train) > 2 * len(roles.excluded)
    specs = {each: catalog().tasks[each].spec for each in roles.train}
    assert [each for each, spec in specs.items() if spec.splits is not None and "train" not in spec.splits] == []


@pytest.mark.parametrize("name", catalog().mixtures)
def test_a_mixture_plans_with_the_data_that_is_at_hand(name: str, shared: Path, tmp_path: Path) -> None:
    spec, tasks = catalog().mixtures[name], select(catalog(), name).tasks
    there = {each: task for each, task in tasks.items() if not task.spec.source.hub or real_mirror(task, tmp_path)}
    clusters = {task.spec.cluster for task in there.values()}
    kept = {"clusters": {*spec.holdout.clusters} & clusters, "tasks": {*spec.holdout.tasks} & {*there}}
    holdout = spec.holdout.model_copy(update={name: sorted(named) for name, named in kept.items()})
    part = spec.model_copy(update={"tasks": list(there), "holdout": holdout})
    found = plan(name, catalog=replace(catalog(), mixtures={name: part}), mirror=tmp_path, limit=20)
    assert len(there) > 2
    assert {each.task.name for each in found.parts} == {*there} - {*found.excluded}
    assert found.rows("train") > 0


def test_every_real_dataset_has_a_task(shared_data: Path) -> None:
    there = {file.parent.relative_to(shared_data).parts[:2] for file in shared_data.rglob("*.parquet")}
    hubs = {task.spec.source.hub for task in catalog().tasks.values()}
    without = {"/".join(parts) for parts in there if parts[0] != "local"} - hubs
    # its copy that needs no script has one
    assert without == {"PolyAI/banking77"}
