"""Commands that ask where a mixture came from and what is kept between builds: `mix verify`, `diff` and `cache`."""

import json

import click

from taskmix.cli.params import json_option


@click.command(epilog="Example: mix verify mixtures/starter")
@click.argument("folder", metavar="DIR|URL")
@json_option
def verify(folder: str, as_json: bool) -> None:
    """Hash every file of the mixture in DIR again, and compare with its lock.

    A mixture on the hub (hf://datasets/ORG/NAME, with @REVISION) or in a store (s3://…) is downloaded for it.
    """
    from taskmix.cli.progress import transfer
    from taskmix.sharing.fetching import fetch

    with transfer("received") as report:
        lock = fetch(folder, report=report).lock
    files, rows = len(lock["outputs"]), sum(split["rows"] for split in lock["splits"].values())
    if as_json:
        click.echo(json.dumps({"ok": True, "files": files, "rows": rows}))
    else:
        click.echo(f"{folder}: {files} files and {rows:,} rows are what the lock says")


@click.command(epilog="Example: mix diff mixtures/starter mixtures/starter")
@click.argument("a", metavar="A")
@click.argument("b", metavar="B")
@click.option("--examples", type=click.IntRange(0), default=5, show_default=True, help="Changed prompts to show.")
@click.option("--exit-code", is_flag=True, help="Exit 1 if the mixtures differ.")
@json_option
def diff(a: str, b: str, examples: int, exit_code: bool, as_json: bool) -> None:
    """Say what changed from the mixture in folder A to the one in B; either may be an address, as for `mix verify`.

    Tasks, templates, options, rows, shares and what is held out, by their locks; and how many prompts and completions
    of the same row under the same template changed, with examples.
    """
    from taskmix.cli import differences
    from taskmix.cli.progress import transfer
    from taskmix.comparing.running import compare
    from taskmix.sharing.fetching import folder_of

    with transfer("received") as report:
        one, other = (folder_of(address, report=report) for address in (a, b))
    found = compare(one, other, examples)
    if as_json:
        click.echo(json.dumps(differences.as_json(found), ensure_ascii=False))
    else:
        click.echo(differences.text(found), nl=False)
    if exit_code and found.any:
        click.get_current_context().exit(1)


@click.group("cache", invoke_without_command=True, epilog="Example: mix cache")
@json_option
@click.pass_context
def cache(ctx: click.Context, as_json: bool) -> None:
    """Show what is kept between builds: how many entries of which kind, and how old they are.

    The cache lies in $TASKMIX_CACHE, else in the platform's cache folder. All of it can be made anew.
    """
    if ctx.invoked_subcommand is None:
        from taskmix.caching.place import cache_folder
        from taskmix.caching.stock import take_stock
        from taskmix.cli import stock

        found = take_stock(cache_folder())
        click.echo(json.dumps(stock.as_json(found)) if as_json else stock.text(found), nl=as_json)


@cache.command(epilog="Example: mix cache prune --older-than 30")
@click.option(
    "--older-than",
    "days",
    type=click.IntRange(0),
    default=30,
    show_default=True,
    help="Only what no build has used for so many days.",
)
@click.option("--all", "everything", is_flag=True, help="However old it is.")
@click.option("--hub", is_flag=True, help="Downloads too, hub datasets and copies of object stores, by the same rule.")
@json_option
def prune(days: int, everything: bool, hub: bool, as_json: bool) -> None:
    """Remove entries from the cache. Builds make them anew when they need them.

    Hub datasets, and copies of what is in object stores, stay unless --hub is given, since they would have to be
    downloaded again.
    """
    from taskmix.caching.place import cache_folder
    from taskmix.caching.stock import prune as run
    from taskmix.cli import stock

    removed = run(cache_folder(), 0 if everything else days, downloads=hub)
    click.echo(json.dumps(stock.as_json(removed)) if as_json else stock.pruned(removed), nl=as_json)
