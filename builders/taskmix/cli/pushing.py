"""`mix push`: a mixture to the hub, to a store or to a folder."""

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from taskmix.cli.params import MixtureName, catalog_option, json_option, mirror_option, seed_option
from taskmix.errors import UsageError

if TYPE_CHECKING:
    from taskmix.sharing.places import Place
    from taskmix.sharing.pushed import Pushed


@click.command(epilog="Example: mix push mixtures/starter ./copies/starter")
@click.argument("folder", type=click.Path(path_type=Path), metavar="DIR")
@click.argument("destination", metavar="ORG/NAME|URL")
@click.option("--private", is_flag=True, help="Make the repository private, if it has to be made.")
@click.option("--revision", help="The branch to push to, made if it is not there.  [default: main]")
@click.option("--tag", help="Tag the commit. A tag that is there is never moved.")
@click.option("--create-pr", is_flag=True, help="Open a pull request instead of changing main.")
@click.option("--message", help="The message of the commit.")
@click.option("--config", help="Push as one of several mixtures in a repository, under this name.")
@click.option("--dry-run", is_flag=True, help="Only say what would be sent and deleted.")
@click.option("--build", "mixture", metavar="MIXTURE", type=MixtureName(), help="Build MIXTURE into DIR first.")
@catalog_option
@mirror_option
@seed_option
@json_option
def push(
    folder: Path,
    destination: str,
    private: bool,
    revision: str | None,
    tag: str | None,
    create_pr: bool,
    message: str | None,
    config: str | None,
    dry_run: bool,
    mixture: str | None,
    catalog: Path | None,
    mirror: Path | None,
    seed: int | None,
    as_json: bool,
) -> None:
    """Push the mixture in DIR to a dataset repository on the hub, to a URL that fsspec knows, or to a folder.

    On the hub, `mix push mixtures/starter ORG/NAME`, all of it lands in one commit, or nothing does. What is there
    already is not sent again. The token is that of HF_TOKEN or of `hf auth login`.
    """
    from taskmix.cli.progress import transfer
    from taskmix.sharing.pushed import Options
    from taskmix.sharing.pushing import push as run

    place = _place(destination, revision, config)
    options = Options(private=private, tag=tag, create_pr=create_pr, message=message, dry_run=dry_run)
    if mixture is not None:
        _build(mixture, folder, catalog, mirror, seed)
    elif catalog is not None or mirror is not None or seed is not None:
        raise UsageError("--catalog, --mirror and --seed go with --build")
    with transfer("sent") as report:
        pushed = run(folder, place, options, report=report)
    click.echo(_as_json(pushed) if as_json else _shown(pushed))


def _place(destination: str, revision: str | None, config: str | None) -> "Place":
    from dataclasses import replace

    from taskmix.sharing.places import HubPlace, check_config, destination_of

    place = destination_of(destination)
    if not isinstance(place, HubPlace):
        for name, given in (("--revision", revision), ("--config", config)):
            if given is not None:
                raise UsageError(f"{name} is for the hub alone", where=destination)
        return place
    place = replace(place, revision=revision) if revision is not None else place
    return replace(place, config=check_config(config)) if config is not None else place


def _build(mixture: str, out: Path, catalog: Path | None, mirror: Path | None, seed: int | None) -> None:
    from taskmix.building import build
    from taskmix.catalog.loading import load_catalog
    from taskmix.cli.progress import progress

    with progress() as reporters:
        build(mixture, catalog=load_catalog(catalog), out=out, mirror=mirror, seed=seed, reporters=reporters)


def _as_json(pushed: "Pushed") -> str:
    from dataclasses import asdict

    return json.dumps({**asdict(pushed), "bytes": pushed.bytes}, ensure_ascii=False)


def _shown(pushed: "Pushed") -> str:
    """Return what a push did, in lines."""
    would = "would be " if pushed.dry_run else ""
    lines = [f"{each}: {would}made" for each in pushed.made]
    lines += [f"{path}: {would}sent, {size:,} bytes" for path, size in pushed.sent.items()]
    lines += [f"{path}: {would}deleted" for path in pushed.deleted]
    if not pushed.is_change:
        there = f"in pull request {pushed.pull}" if pushed.pull else "there"
        lines.append(f"{pushed.place}: all of it is {there} already; nothing was sent")
    else:
        count = f"{len(pushed.sent)} files, {pushed.bytes / 1e6:,.1f} MB {would}sent; {pushed.kept} were there"
        lines.append(f"{pushed.place}: {count}")
    if pushed.pull and pushed.is_change:
        lines.append(f"pull request {pushed.pull}")
    if pushed.commit:
        lines.append(f"commit {pushed.commit}" + (", checked by the hub's hashes" if pushed.is_change else ""))
    if pushed.behind:
        lines.append(f"somebody else pushed after it: the branch is now at {pushed.behind}")
    if pushed.tag:
        lines.append(f"tag {pushed.tag}" + (" would be made" if pushed.dry_run else ""))
    return "\n".join(lines)
