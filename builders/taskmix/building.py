"""A build, from a catalog to a mixture on disk: plan, render, shuffle, shards, card, lock."""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taskmix.catalog.loading import Catalog
from taskmix.compiler.templates import RowWise
from taskmix.engines.local import Local
from taskmix.engines.recipes import Engine, Tally
from taskmix.errors import UsageError
from taskmix.mixing.examples import Progress, no_progress
from taskmix.mixing.parts import Part
from taskmix.mixing.plan import make_plan
from taskmix.output import card, lock
from taskmix.output.folder import LOCK, sync, tidy
from taskmix.output.inputs import Json
from taskmix.output.publishing import CARD, Target, drafted
from taskmix.output.shuffle import MEMORY
from taskmix.preparing import Prepared, check_made, prepare
from taskmix.templates.remembered import Renders
from taskmix.templates.rowwise import Workers

EngineName = Literal["local", "ray"]

_LOG = logging.getLogger(__name__)
_HELD = 4
"""The part of the memory, one of so many, in which rows of the sources are kept until they are rendered."""


@dataclass(frozen=True)
class PartSummary:
    """What one task gave to one split.

    `share` is that of the split's rows; lengths are mean characters. `handed_back` counts the rows that compiled
    templates left to Jinja, by template; `row_wise` says why Jinja rendered all rows of others.
    """

    task: str
    cluster: str
    split: str
    rows: int
    templates: int
    share: float
    prompt_chars: float
    completion_chars: float
    handed_back: Mapping[str, int]
    row_wise: Mapping[str, RowWise]


@dataclass(frozen=True)
class Built:
    """A finished build: where it lies, its lock, and what each task gave.

    `unchanged`: nothing was to be done, and so nothing is known of `parts`.
    """

    place: Target
    lock: Json
    parts: tuple[PartSummary, ...]
    unchanged: bool = False

    @property
    def out(self) -> Path:
        """Return the folder. Raises UsageError where it was built into a URL."""
        if not isinstance(self.place, Path):
            raise UsageError(f"{self.place} is no folder", hint="its address is `place`")
        return self.place

    @property
    def rows(self) -> int:
        """Return the number of examples in all splits."""
        return sum(split["rows"] for split in self.lock["splits"].values())


@dataclass(frozen=True)
class Reporters:
    """What is called while a build works: with rows just read in planning, just rendered, just written.

    `start` is called when the plan is made, with the number of examples to come.
    """

    read: Progress = no_progress
    start: Callable[[int], None] = lambda rows: None
    rendered: Progress = no_progress
    written: Progress = no_progress


def build(
    mixture: str | None = None,
    *,
    catalog: Catalog | None = None,
    out: Target | None = None,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    workers: int | None = None,
    memory: int = MEMORY,
    reporters: Reporters | None = None,
    force: bool = False,
    locked: bool = False,
    lock_file: Path | None = None,
    engine: EngineName = "local",
    ray_address: str | None = None,
) -> Built:
    """Build a mixture into a folder, all or nothing; one that is there already, unchanged, is left as it is.

    Args:
        mixture: its name; by default the catalog's default mixture.
        catalog: where it and its tasks are described; by default the one that `load_catalog` finds.
        out: the folder, or with Ray a URL that fsspec opens; by default `mixtures/NAME` in the working folder.
        mirror: a folder with copies of hub datasets, `DIR/org/name/[config/]SPLIT*.parquet`.
        seed: replaces the mixture's seed.
        limit: at most so many source rows a task and split.
        workers: processes that render what Jinja has to, by default one a CPU; the result does not depend on it. With
            Ray also how many tasks run at a time.
        memory: bytes of rows that are shuffled in memory; more go through disk, with the same result. With Ray each
            task may hold as many.
        reporters: what to call while it works.
        force: build, even if nothing has changed.
        locked: build what the lock in `out` describes, to the byte, or nothing.
        lock_file: the lock to go by instead.
        engine: what renders and writes: this machine, or a Ray cluster, with the same bytes.
        ray_address: the cluster's; by default $RAY_ADDRESS, and without it one that is started on this machine.

    Raises:
        TaskmixError: of the kind that fits; an earlier mixture in `out` is untouched.
    """
    check_bounds(workers, memory, limit)
    prepared = prepare(mixture, catalog, out, mirror, seed, limit, force=force, locked=locked, lock_file=lock_file)
    return carry_out(prepared, workers, memory, reporters, engine, ray_address)


def check_bounds(*given: int | None) -> None:
    """Raise UsageError if a bound that is given allows nothing."""
    if any(bound is not None and bound < 1 for bound in given):
        raise UsageError("workers, memory and limit are at least 1")


def carry_out(
    prepared: Prepared,
    workers: int | None = None,
    memory: int = MEMORY,
    reporters: Reporters | None = None,
    engine: EngineName = "local",
    ray_address: str | None = None,
) -> Built:
    """Build what was prepared, unless it is there already. Raises as `build` does."""
    if prepared.unchanged is not None:
        if isinstance(prepared.out, Path):
            tidy(prepared.out)
        return Built(prepared.out, prepared.unchanged, (), unchanged=True)
    renders = Renders(prepared.cache)
    with (
        Workers(workers, renders=renders) as pool,
        _engine(engine, prepared.out, pool, workers, memory, ray_address) as chosen,
    ):
        held = memory // _HELD if engine == "local" else 0
        built = _build(prepared, held, pool, chosen, reporters or Reporters())
    if remark := renders.remark():
        _LOG.info("%s", remark)
    return built


def _build(prepared: Prepared, held: int, workers: Workers, engine: Engine, report: Reporters) -> Built:
    plan = make_plan(
        prepared.catalog,
        prepared.mixture,
        workers=workers,
        mirror=prepared.mirror,
        seed=prepared.seed,
        limit=prepared.limit,
        memory=held,
        cache=prepared.cache,
        progress=report.read,
    )
    report.start(sum(len(part) for part in plan.parts))
    with drafted(prepared.out) as draft:
        mixed = engine.carry_out(plan, draft.place, report.rendered, report.written)
        totals = {split: shards.rows for split, shards in mixed.written.items()}
        pairs = zip(plan.parts, mixed.tallies, strict=True)
        summaries = [_summary(part, totals[part.split], tally) for part, tally in pairs]
        _write(draft.folder / CARD, card.make_card(plan, mixed.written))
        engines = _engines(summaries)
        made = lock.make_lock(plan, mixed.written, engines, draft.folder / CARD, prepared.fingerprints)
        check_made(prepared, made)
        _write(draft.folder / LOCK, lock.dump(made))
        if (draft.folder / "data").is_dir():
            sync(draft.folder / "data")
    return Built(prepared.out, made, tuple(summaries))


@contextmanager
def _engine(
    name: EngineName, out: Target, pool: Workers, width: int | None, memory: int, address: str | None
) -> Iterator[Engine]:
    """Yield an engine; a Ray cluster has an `address`, and runs so many tasks (`width`) at a time."""
    if name == "ray":
        # Ray alone takes a second to import
        from taskmix.engines.cluster import Cluster
        from taskmix.engines.session import session

        with session(address, width) as joined:
            yield Cluster(joined, memory)
        return
    if address is not None:
        raise UsageError("a Ray cluster's address is for the engine ray", hint="add --engine ray")
    if not isinstance(out, Path):
        raise UsageError("the local engine writes folders, not URLs", where=out, hint="add --engine ray")
    yield Local(pool, memory)


def _summary(part: Part, total: int, tally: Tally) -> PartSummary:
    """Return what a part gave to a split of `total` rows."""
    rows = len(part)
    return PartSummary(
        task=part.task.name,
        cluster=part.task.entry.spec.cluster,
        split=part.split,
        rows=rows,
        templates=len(part.templates),
        share=rows / total,
        prompt_chars=tally.chars["prompt"] / rows,
        completion_chars=tally.chars["completion"] / rows,
        handed_back=dict(sorted(tally.handed_back.items())),
        row_wise=dict(sorted(tally.row_wise.items())),
    )


def _engines(parts: Iterable[PartSummary]) -> lock.Engines:
    """Return, by split and task, which templates Jinja rendered and why, and how many rows were handed back to it."""
    return {
        (part.split, part.task): {
            "row_wise": {name: f"{found.reason} (line {found.line})" for name, found in part.row_wise.items()},
            "handed_back": dict(part.handed_back),
        }
        for part in parts
    }


def _write(path: Path, text: str) -> None:
    path.write_bytes(text.encode("utf-8"))
    sync(path)
