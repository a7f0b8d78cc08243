"""A plan without a build: what a mixture would be made of."""

from pathlib import Path

from taskmix.caching.entries import open_cache
from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.errors import OutputError, UsageError
from taskmix.mixing.examples import Progress, no_progress
from taskmix.mixing.plan import Plan, make_plan
from taskmix.templates.rowwise import Workers


def plan(
    mixture: str | None = None,
    *,
    catalog: Catalog | None = None,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    workers: int | None = None,
    progress: Progress = no_progress,
) -> Plan:
    """Resolve a mixture against its sources, as `build` does before it renders anything; the arguments are its.

    Raises:
        TaskmixError: of the kind that fits.
    """
    if any(given is not None and given < 1 for given in (workers, limit)):
        raise UsageError("workers and limit are at least 1")
    with Workers(workers) as pool:
        return make_plan(
            catalog or load_catalog(),
            mixture,
            workers=pool,
            mirror=mirror,
            seed=seed,
            limit=limit,
            cache=open_cache(),
            progress=progress,
        )


def write_dropped(plan: Plan, path: Path) -> None:
    """Write the rows that leave train for being in an evaluation split as JSON lines: which, why, and as which row.

    Raises:
        OutputError: the file cannot be written.
    """
    try:
        path.write_text(plan.dropped.write_ndjson(), "utf-8")
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(path)) from None
