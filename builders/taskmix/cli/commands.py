"""The commands: each parses its arguments, calls one function and prints what it gives."""

import importlib
import json
from pathlib import Path

import click

from taskmix.cli.building import build
from taskmix.cli.importing import import_
from taskmix.cli.params import (
    AnyName,
    TaskName,
    catalog_option,
    commas,
    exits,
    json_option,
    mirror_option,
    remarks_to_stderr,
)
from taskmix.cli.provenance import cache, diff, verify
from taskmix.cli.pushing import push

SHELLS = ("bash", "zsh", "fish")
KINDS = (
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "text-generation",
    "conversation",
)


TRAINER = "taskmix_trainer.cli"
"""The package beside this one: its commands are found by name, since nothing here may need what they need."""
TRAINER_COMMANDS = ("train", "eval", "compare")


class _Group(click.Group):
    """A group whose commands turn understood failures into messages, and that knows the trainer's commands too."""

    def invoke(self, ctx: click.Context) -> object:
        with exits():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.commands, *TRAINER_COMMANDS]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name in TRAINER_COMMANDS:
            commands: dict[str, click.Command] = importlib.import_module(TRAINER).COMMANDS
            return commands[cmd_name]
        return super().get_command(ctx, cmd_name)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="taskmix", prog_name="mix")
def main() -> None:
    """Turn labelled task datasets into instruction-tuning mixtures.

    Whole tasks are held out, so that what a model does on unseen tasks is measured.
    """
    remarks_to_stderr()


main.add_command(build)


@main.command("list", epilog="Example: mix list --kind question-answering")
@catalog_option
@click.option("--kind", help="Only tasks of this kind.")
@click.option("--cluster", help="Only tasks of this cluster.")
@click.option("--language", help="Only tasks in this language.")
@click.option("--license", "licence", help="Only tasks under this licence.")
@json_option
def list_(
    catalog: Path | None,
    kind: str | None,
    cluster: str | None,
    language: str | None,
    licence: str | None,
    as_json: bool,
) -> None:
    """List the tasks of the catalog by cluster, and its mixtures."""
    from taskmix.catalog.loading import load_catalog
    from taskmix.cli import display, queries

    loaded = load_catalog(catalog)
    tasks = queries.find_tasks(loaded, kind, cluster, language, licence)
    if as_json:
        click.echo(json.dumps(queries.listing(loaded, tasks), ensure_ascii=False))
    else:
        click.echo(display.listing(loaded, tasks), nl=False)


@main.command(epilog="Example: mix show review-sentiment/pick-a-letter")
@click.argument("name", type=AnyName())
@catalog_option
@mirror_option
@json_option
def show(name: str, catalog: Path | None, mirror: Path | None, as_json: bool) -> None:
    """Show a task, a mixture, or a template (TASK/TEMPLATE)."""
    from taskmix.catalog.loading import load_catalog
    from taskmix.cli import display, queries

    found = queries.describe(load_catalog(catalog), name, mirror)
    click.echo(json.dumps(found, ensure_ascii=False) if as_json else display.described(found), nl=as_json)


@main.command(epilog="Example: mix preview review-sentiment --rows 2")
@click.argument("task", type=TaskName())
@catalog_option
@mirror_option
@click.option("--template", help="Only this template.")
@click.option("--rows", type=click.IntRange(1), default=1, show_default=True, help="Rows a template.")
@click.option("--split", type=click.Choice(["train", "validation"]), help="Split to draw from.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Other seeds, other rows.")
@json_option
def preview(
    task: str,
    catalog: Path | None,
    mirror: Path | None,
    template: str | None,
    rows: int,
    split: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Render real rows of TASK under its templates, with what comes from the data highlighted."""
    from taskmix.catalog.loading import load_catalog
    from taskmix.cli import display
    from taskmix.previewing import preview as run

    options = {"template": template, "rows": rows, "split": split, "seed": seed, "mirror": mirror}
    for each in run(task, catalog=load_catalog(catalog), **options):  # type: ignore[arg-type]
        click.echo(display.preview_json(each) if as_json else display.preview(each))


@main.command(epilog="Example: mix lint review-sentiment --ignore trailing-whitespace")
@click.argument("targets", nargs=-1, metavar="[TASK|CLUSTER|FILE]...", type=TaskName())
@catalog_option
@mirror_option
@click.option("--select", multiple=True, metavar="RULES", help="Only these rules: names or their starts, with commas.")
@click.option("--ignore", multiple=True, metavar="RULES", help="All rules but these.")
@click.option("--rows", type=click.IntRange(0), default=200, show_default=True, help="At most so many rows a task.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json", "github"]),
    default="text",
    show_default=True,
    help="For people, for programs, or as annotations of a GitHub workflow.",
)
@click.option("--strict", is_flag=True, help="Exit 1 on warnings too.")
def lint(
    targets: tuple[str, ...],
    catalog: Path | None,
    mirror: Path | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    rows: int,
    form: str,
    strict: bool,
) -> None:
    """Find mistakes in templates and tasks, in their text and on a sample of rows.

    Without arguments the whole catalog is looked at. Nothing is downloaded. Exit 1 if there are errors.
    """
    from taskmix.catalog.loading import load_catalog
    from taskmix.linting.formats import FORMATS
    from taskmix.linting.running import lint as run

    options = {"select": commas(select), "ignore": commas(ignore), "rows": rows, "mirror": mirror}
    report = run(targets, catalog=load_catalog(catalog), **options)  # type: ignore[arg-type]
    if printed := FORMATS[form](report):
        click.echo(printed)
    if report.count("error") or (strict and report.count("warning")):
        click.get_current_context().exit(1)


@main.command(epilog="Example: mix add my-project/data/shop-messages.jsonl --name messages --print")
@click.argument("source")
@click.option("--config", help="The configuration of a hub dataset that has several.")
@click.option("--revision", help="A branch, tag or commit of a hub dataset.")
@click.option("--name", help="The task's name.  [default: from the source's]")
@click.option("--kind", type=click.Choice(KINDS), help="What kind of task it is, instead of a guess.")
@click.option("--catalog", type=click.Path(path_type=Path), help="Catalog file to write to, made if it is not there.")
@mirror_option
@click.option("--print", "--dry-run", "only_show", is_flag=True, help="Print the entry and write nothing.")
def add(
    source: str,
    config: str | None,
    revision: str | None,
    name: str | None,
    kind: str | None,
    catalog: Path | None,
    mirror: Path | None,
    only_show: bool,
) -> None:
    """Write a catalog entry for SOURCE: org/name on the hub, or a file, folder or glob.

    Kind, columns, labels and splits are guessed from its columns and values, for you to look over. The entry goes to
    $TASKMIX_CATALOG or ./catalog.yaml, and the kind's own templates make it usable at once.
    """
    from taskmix.adding.running import Request
    from taskmix.adding.running import add as run

    request = Request(source, config, revision, name, kind, mirror)
    added = run(request, catalog, only_show=only_show)
    for remark in added.remarks:
        click.echo(f"{added.name}: {remark}", err=True)
    click.echo(added.text, nl=False)
    if added.catalog is not None:
        where = f" --catalog {added.catalog}" if catalog is not None else ""
        click.echo(f"\nadded to {added.catalog}. Now: mix preview {added.name}{where}", err=True)


for command in (verify, diff):
    main.add_command(command)
main.add_command(push)


@main.command(epilog="Example: mix explain mixtures/starter ad59c0313e4498c3b5375e25")
@click.argument("folder", metavar="DIR|URL")
@click.argument("row_id", metavar="ID")
@catalog_option
@mirror_option
@json_option
def explain(folder: str, row_id: str, catalog: Path | None, mirror: Path | None, as_json: bool) -> None:
    """Trace the row ID of the mixture in DIR to its source, and render it again.

    Exit 1 if it has not the same bytes any more.
    """
    from taskmix.catalog.loading import load_catalog
    from taskmix.cli import display
    from taskmix.cli.progress import transfer
    from taskmix.explaining import explain as run
    from taskmix.sharing.fetching import folder_of

    with transfer("received") as report:
        here = folder_of(folder, report=report)
    found = run(here, row_id, catalog=load_catalog(catalog), mirror=mirror)
    click.echo(display.explained_json(found) if as_json else display.explained(found), nl=as_json)
    if not found.same:
        raise click.exceptions.Exit(1)


@main.command(epilog="Example: mix init my-project && cd my-project && mix build")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
def init(folder: Path) -> None:
    """Make a new project in DIR: a catalog, a task with its data and templates. It builds at once."""
    from taskmix.project import create

    for path in create(folder):
        click.echo(f"created {path}")
    click.echo(f"\nNow: cd {folder} && mix build")


for group in (import_, cache):
    main.add_command(group)


@main.command(epilog='Example: eval "$(mix completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in SHELL."""
    from click.shell_completion import get_completion_class

    for name in ("mix", "taskmix"):
        found = get_completion_class(shell)
        assert found is not None, shell
        click.echo(found(main, {}, name, f"_{name.upper()}_COMPLETE").source())
