"""`mix build`."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from taskmix.cli.params import MixtureName, Target, catalog_option, json_option, mirror_option, seed_option

if TYPE_CHECKING:
    from taskmix.building import EngineName
    from taskmix.catalog.loading import Catalog
    from taskmix.preparing import Prepared


@click.command(epilog="Example: mix build starter --out mixtures/starter")
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
@click.option(
    "--dropped",
    type=click.Path(path_type=Path, dir_okay=False),
    help="With --plan: write the rows that leave train for being in an evaluation split to this file (JSON lines).",
)
@click.option("--force", is_flag=True, help="Build even if nothing has changed.")
@click.option("--locked", is_flag=True, help="Build what mix.lock.json in the folder describes, or nothing.")
@click.option(
    "--lock",
    "lock_file",
    metavar="FILE|DIR|URL",
    help="The lock to go by instead, or the mixture that has it, here or on the hub; implies --locked.",
)
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
    engine: "EngineName",
    ray_address: str | None,
    plan_only: bool,
    dropped: Path | None,
    force: bool,
    locked: bool,
    lock_file: str | None,
    as_json: bool,
) -> None:
    """Build MIXTURE, or the catalog's default mixture, into a folder.

    The folder appears whole or not at all, and its bytes depend only on what mix.lock.json names. If it is there and
    nothing has changed, nothing is done.
    """
    from taskmix.catalog.loading import load_catalog
    from taskmix.preparing import prepare

    if dropped is not None and not plan_only:
        raise click.UsageError("--dropped goes with --plan")
    loaded = load_catalog(catalog)
    if plan_only:
        _show_plan(loaded, mixture, dropped, as_json, mirror=mirror, seed=seed, limit=limit, workers=workers)
        return
    going_by = _lock(lock_file) if lock_file is not None else None
    prepared = prepare(mixture, loaded, out, mirror, seed, limit, force=force, locked=locked, lock_file=going_by)
    lock, text = _carried_out(prepared, workers, memory, engine, ray_address)
    click.echo(json.dumps(lock, ensure_ascii=False) if as_json else text, nl=as_json)


def _lock(address: str) -> Path:
    """Return where a lock is: a file, the folder of a mixture, or one that is fetched from the hub or a store."""
    if "://" in address:
        from taskmix.cli.progress import transfer
        from taskmix.sharing.fetching import folder_of

        with transfer("received") as report:
            return folder_of(address, report=report)
    if not Path(address).exists():
        raise click.BadParameter(f"Path {address!r} does not exist.", param_hint="'--lock'")
    return Path(address)


def _carried_out(
    prepared: "Prepared", workers: int | None, memory: int, engine: "EngineName", ray_address: str | None
) -> tuple[object, str]:
    """Build; return the lock, and what is printed. If nothing has changed, nothing heavy is imported."""
    from taskmix.output.folder import tidy

    if (lock := prepared.unchanged) is not None and isinstance(prepared.out, Path):
        tidy(prepared.out)
        rows = sum(split["rows"] for split in lock["splits"].values())
        return lock, f"{prepared.out}: unchanged, {rows:,} rows\n"
    from taskmix.building import carry_out
    from taskmix.cli import display
    from taskmix.cli.progress import progress

    with progress() as reporters:
        built = carry_out(prepared, workers, memory << 20, reporters, engine, ray_address)
    return built.lock, display.built(built)


def _show_plan(catalog: "Catalog", mixture: str | None, dropped: Path | None, as_json: bool, **options: Any) -> None:
    from taskmix.cli import display
    from taskmix.cli.progress import progress
    from taskmix.planning import plan, write_dropped

    with progress() as reporters:
        made = plan(mixture, catalog=catalog, progress=reporters.read, **options)
    if dropped is not None:
        write_dropped(made, dropped)
    click.echo(display.plan_json(made) if as_json else display.planned(made), nl=as_json)
