"""The commands: each parses its arguments, calls one function and prints what it gives."""

import json
from pathlib import Path
from typing import Literal

import click

from taskmix.cli.importing import import_
from taskmix.cli.params import (
    AnyName,
    MixtureName,
    Target,
    TaskName,
    catalog_option,
    commas,
    exits,
    json_option,
    mirror_option,
    remarks_to_stderr,
    seed_option,
)

SHELLS = ("bash", "zsh", "fish")
KINDS = (
    "text-classification",
    "token-classification",
    "question-answering",
    "multiple-choice",
    "text-generation",
    "conversation",
)


class _Group(click.Group):
    """A group whose commands turn understood failures into messages, and whose unknown names into suggestions."""

    def invoke(self, ctx: click.Context) -> object:
        with exits():
            return super().invoke(ctx)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="taskmix", prog_name="mix")
def main() -> None:
    """Turn labelled task datasets into instruction-tuning mixtures.

    Whole tasks are held out, so that what a model does on unseen tasks is measured.
    """
    remarks_to_stderr()


@main.command(epilog="Example: mix build starter --out mixtures/starter")
@click.argument("mixture", type=MixtureName(), required=False)
@catalog_option
@mirror_option
@click.option("--out", type=Target(), help="Folder to write, or a URL with --engine ray.  [default: mixtures/MIXTURE]")
@seed_option
@click.option("--limit", type=click.IntRange(1), help="At most so many source rows a task and split.")
@click.option(
    "--workers", type=click.IntRange(1), help="Processes for what only Jinja can render.  [default: one a CPU]"
)
@click.option(
    "--memory",
    type=click.IntRange(1),
    default=1024,
    show_default=True,
    help="MiB of examples to shuffle in memory; more go through disk.",
)
@click.option(
    "--engine",
    type=click.Choice(("local", "ray")),
    default="local",
    show_default=True,
    help="Where to render and write: here, or on a Ray cluster.",
)
@click.option("--ray-address", help="Head of the cluster.  [default: $RAY_ADDRESS, or one that is started here]")
@click.option("--plan", "plan_only", is_flag=True, help="Show what would be built; write nothing.")
@json_option
def build(
    mixture: str | None,
    catalog: Path | None,
    mirror: Path | None,
    out: Path | str | None,
    seed: int | None,
    limit: int | None,
    workers: int | None,
    memory: int,
    engine: Literal["local", "ray"],
    ray_address: str | None,
    plan_only: bool,
    as_json: bool,
) -> None:
    """Build MIXTURE, or the catalog's default mixture, into a folder.

    The folder appears whole or not at all, and its bytes depend only on what mix.lock.json names.
    """
    from taskmix.building import build as run
    from taskmix.catalog.loading import load_catalog
    from taskmix.cli import display
    from taskmix.cli.progress import progress
    from taskmix.planning import plan

    with progress() as reporters:
        if plan_only:
            options = {"mirror": mirror, "seed": seed, "limit": limit, "workers": workers, "progress": reporters.read}
            made = plan(mixture, catalog=load_catalog(catalog), **options)  # type: ignore[arg-type]
            click.echo(display.plan_json(made) if as_json else display.planned(made), nl=as_json)
            return
        built = run(
            mixture,
            catalog=load_catalog(catalog),
            out=out,
            mirror=mirror,
            seed=seed,
            limit=limit,
            workers=workers,
            memory=memory << 20,
            engine=engine,
            ray_address=ray_address,
            reporters=reporters,
        )
    click.echo(json.dumps(built.lock, ensure_ascii=False) if as_json else display.built(built), nl=as_json)


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
    """List the tasks and mixtures of the catalog."""
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


@main.command(epilog="Example: mix verify mixtures/starter")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@json_option
def verify(folder: Path, as_json: bool) -> None:
    """Hash every file of the mixture in DIR again, and compare with its lock."""
    from taskmix.output.lock import verify as run

    lock = run(folder)
    files, rows = len(lock["outputs"]), sum(split["rows"] for split in lock["splits"].values())
    if as_json:
        click.echo(json.dumps({"ok": True, "files": files, "rows": rows}))
    else:
        click.echo(f"{folder}: {files} files and {rows:,} rows are what the lock says")


@main.command(epilog="Example: mix explain mixtures/starter 5f0c2a9be14d7c3380f1a6b2")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("row_id", metavar="ID")
@catalog_option
@mirror_option
@json_option
def explain(folder: Path, row_id: str, catalog: Path | None, mirror: Path | None, as_json: bool) -> None:
    """Trace the row ID of the mixture in DIR to its source, and render it again.

    Exit 1 if it has not the same bytes any more.
    """
    from taskmix.catalog.loading import load_catalog
    from taskmix.cli import display
    from taskmix.explaining import explain as run

    found = run(folder, row_id, catalog=load_catalog(catalog), mirror=mirror)
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


main.add_command(import_)


@main.command(epilog='Example: eval "$(mix completion bash)"')
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print the script that completes commands, options and names in SHELL."""
    from click.shell_completion import get_completion_class

    for name in ("mix", "taskmix"):
        found = get_completion_class(shell)
        assert found is not None, shell
        click.echo(found(main, {}, name, f"_{name.upper()}_COMPLETE").source())
