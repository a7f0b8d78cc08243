"""Every hub task of the built-in catalog, by the functions of `catalog_check.py`: a new entry needs no new test."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests import catalog_check
from tests.catalog_check import Finding, catalog, hub_tasks
from tests.conftest import ROOT, SHARED

TASKS = hub_tasks()


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


def test_the_page_of_all_tasks_is_up_to_date(shared: Path) -> None:
    command = [sys.executable, str(ROOT / "docs" / "tasks.py"), "--check"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{done.stdout}{done.stderr}\nrun: python docs/tasks.py"
