"""Options that several commands share, completion of names, and how errors leave the program."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from taskmix.errors import TaskmixError
from taskmix.text import visible

if TYPE_CHECKING:
    from collections.abc import Callable

F = TypeVar("F", bound="Callable[..., Any]")

catalog_option = click.option(
    "--catalog",
    type=click.Path(path_type=Path),
    help="Catalog file. [default: $TASKMIX_CATALOG, ./catalog.yaml, or the built-in one]",
)
mirror_option = click.option(
    "--mirror",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    envvar="TASKMIX_MIRROR",
    help="Read hub datasets from DIR/org/name/[config/]SPLIT*.parquet.  [env var: TASKMIX_MIRROR]",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
seed_option = click.option("--seed", type=click.IntRange(0, 2**63 - 1), help="Replace the mixture's seed.")


def commas(values: tuple[str, ...]) -> list[str]:
    """Return the parts of an option that may be given several times, each with several parts between commas."""
    return [part.strip() for value in values for part in value.split(",") if part.strip()]


class Target(click.Path):
    """A folder to write, as a path, or a URL as it is; completed like a path."""

    def __init__(self) -> None:
        super().__init__(path_type=Path)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Return what was given as a path, or as the text of a URL."""
        return value if isinstance(value, str) and "://" in value else super().convert(value, param, ctx)


class TaskName(click.ParamType[str]):
    """A task's name, completed from the catalog."""

    name = "task"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
        """Return the names of the catalog that start as typed; none if it cannot be read."""
        return [CompletionItem(name) for name in self._names(ctx) if name.startswith(incomplete)]

    def _names(self, ctx: click.Context) -> list[str]:
        from taskmix.catalog.loading import load_catalog

        try:
            catalog = load_catalog(ctx.params.get("catalog"))
        except TaskmixError:
            return []
        return self._of(catalog)

    def _of(self, catalog: Any) -> list[str]:
        return sorted(catalog.tasks)


class MixtureName(TaskName):
    """A mixture's name, completed from the catalog."""

    name = "mixture"

    def _of(self, catalog: Any) -> list[str]:
        return sorted(catalog.mixtures)


class AnyName(TaskName):
    """What `mix show` takes: the name of a task, a mixture or a template. The first two are completed."""

    name = "name"

    def _of(self, catalog: Any) -> list[str]:
        return sorted([*catalog.tasks, *catalog.mixtures])


class _Remarks(logging.Handler):
    """Prints what taskmix logs, such as a download that begins, on what is stderr at that moment."""

    def emit(self, record: logging.LogRecord) -> None:
        click.echo(visible(self.format(record)), err=True)


def remarks_to_stderr() -> None:
    """Show the log of taskmix, and of nothing else, on stderr."""
    log = logging.getLogger("taskmix")
    log.setLevel(logging.INFO)
    log.propagate = False
    log.handlers = [_Remarks()]


@contextmanager
def exits() -> Iterator[None]:
    """Turn an understood failure into its message on stderr and its exit code."""
    try:
        yield
    except TaskmixError as error:
        click.echo(f"{click.style('error:', fg='red', bold=True)} {visible(str(error))}", err=True)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except BrokenPipeError:
        # the reader of our output went away, as in `mix list | head`
        sys.stderr.close()
        sys.exit(1)
