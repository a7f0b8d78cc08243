"""`mix import FORMAT PATH`: task and template files of other projects become a project folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskmix.cli.params import json_option

if TYPE_CHECKING:
    from taskmix.importers.project import Project

_path = click.argument("path", type=click.Path(path_type=Path, exists=True), metavar="PATH")
_out = click.option("--out", type=click.Path(path_type=Path), help="Folder to write.  [default: imported/FORMAT]")
_force = click.option("--force", is_flag=True, help="Replace an earlier import, and what was edited in it.")


def _shared(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what the three commands share."""
    return _path(_out(_force(json_option(command))))


@click.group("import", epilog="Example: mix import promptsource promptsource")
def import_() -> None:
    """Turn task and template files of another project into tasks and templates of this one.

    The folder that is written is a project: a catalog, templates to read and edit, and import.json, which lists what
    was refused and why.
    """


@import_.command(epilog="Example: mix import promptsource promptsource/templates --out my-prompts")
@_shared
@click.option(
    "--hub-ids",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="JSON or YAML that maps old dataset names to ids on the hub, such as glue: nyu-mll/glue.",
)
def promptsource(path: Path, out: Path | None, force: bool, as_json: bool, hub_ids: Path | None) -> None:
    """Import prompts of promptsource: a checkout, its templates folder, a dataset's folder, or one templates.yaml."""
    from taskmix.importers.promptsource import import_promptsource

    _write(import_promptsource(path, hub_ids), out, force, as_json)


@import_.command("lm-eval", epilog="Example: mix import lm-eval lm-eval/tasks --out my-questions")
@_shared
def lm_eval(path: Path, out: Path | None, force: bool, as_json: bool) -> None:
    """Import tasks of the lm-evaluation-harness: a checkout, a folder of tasks, or one YAML file."""
    from taskmix.importers.lm_eval import import_lm_eval

    _write(import_lm_eval(path), out, force, as_json)


@import_.command(
    "natural-instructions",
    epilog="Example: mix import natural-instructions natural-instructions --out my-instructions",
)
@_shared
@click.option(
    "--test-tasks",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="A file with a task's name a line: the mixture holds these out.",
)
def natural_instructions(path: Path, out: Path | None, force: bool, as_json: bool, test_tasks: Path | None) -> None:
    """Import tasks of Natural Instructions with their instances: a checkout, its tasks folder, or one JSON file."""
    from taskmix.importers.natural_instructions import import_natural_instructions

    _write(import_natural_instructions(path, test_tasks), out, force, as_json)


def _write(project: "Project", out: Path | None, force: bool, as_json: bool) -> None:
    from taskmix.cli import display
    from taskmix.importers.project import write

    folder = out or Path("imported") / project.format
    write(project, folder, force=force)
    if as_json:
        click.echo(json.dumps({"out": str(folder), **project.summary}, ensure_ascii=False))
    else:
        click.echo(display.imported(project.summary, folder), nl=False)
