"""A wheel holds what a checkout holds: the catalog, the templates and the starter data."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def run(*arguments: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project's wheel."""
    folder = tmp_path_factory.mktemp("wheel")
    run("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(folder), ".", cwd=ROOT)
    (found,) = folder.glob("taskmix-*.whl")
    return found


def test_the_wheel_holds_both_packages_and_the_built_in_catalog(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    templates = {f"taskmix/data/templates/{path.name}" for path in (ROOT / "templates").glob("*.yaml")}
    assert templates
    assert names >= templates | {
        "taskmix/__init__.py",
        "taskmix/py.typed",
        "taskmix_trainer/__init__.py",
        "taskmix/data/catalog.yaml",
        "taskmix/data/examples/starter/review-sentiment/train.jsonl",
    }


def test_an_installed_wheel_builds_the_same_starter_mixture_as_a_checkout(wheel: Path, tmp_path: Path) -> None:
    site, work = tmp_path / "site", tmp_path / "work"
    work.mkdir()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    script = "import sys; from taskmix.cli import main; main(sys.argv[1:])"
    run("-c", script, "build", "--out", "installed", cwd=work, PYTHONPATH=str(site))
    run(
        "-c",
        "import taskmix; taskmix.build(out=__import__('pathlib').Path('source'))",
        cwd=work,
    )
    assert "site" in run("-c", "import taskmix; print(taskmix.__file__)", cwd=work, PYTHONPATH=str(site))
    for file in sorted((work / "installed").rglob("*")):
        if file.is_file():
            assert file.read_bytes() == (work / "source" / file.relative_to(work / "installed")).read_bytes(), file
