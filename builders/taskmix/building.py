"""A build, from a catalog to a mixture on disk: plan, render, shuffle, shards, card, lock."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from taskmix.catalog.loading import Catalog, load_catalog
from taskmix.compiler.templates import RowWise
from taskmix.engines.local import Local
from taskmix.engines.recipes import Engine, Tally
from taskmix.errors import UsageError
from taskmix.mixing.examples import Progress, no_progress
from taskmix.mixing.parts import Part
from taskmix.mixing.plan import make_plan
from taskmix.output import card, lock
from taskmix.output.folder import LOCK
from taskmix.output.places import is_url
from taskmix.output.publishing import CARD, Target, check, drafted
from taskmix.output.shards import sync
from taskmix.output.shuffle import MEMORY
from taskmix.templates.rowwise import Workers

EngineName = Literal["local", "ray"]

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
    """A finished build: where it lies, its lock, and what each task gave."""

    out: Target
    lock: lock.Json
    parts: tuple[PartSummary, ...]

    @property
    def rows(self) -> int:
        """Return the number of examples in all splits."""
        return sum(part.rows for part in self.parts)


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
    engine: EngineName = "local",
    ray_address: str | None = None,
) -> Built:
    """Build a mixture into a folder, all or nothing.

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
        engine: what renders and writes: this machine, or a Ray cluster, with the same bytes.
        ray_address: the cluster's; by default $RAY_ADDRESS, and without it one that is started on this machine.

    Raises:
        TaskmixError: of the kind that fits; an earlier mixture in `out` is untouched.
    """
    if any(given is not None and given < 1 for given in (workers, memory, limit)):
        raise UsageError("workers, memory and limit are at least 1")
    report = reporters or Reporters()
    catalog = catalog or load_catalog()
    if out is None:
        out = Path("mixtures") / catalog.mixture(mixture)[0]
    elif not is_url(out):
        out = Path(out)
    check(out)
    held = memory // _HELD if engine == "local" else 0
    with Workers(workers) as pool, _engine(engine, out, pool, workers, memory, ray_address) as chosen:
        return _build(catalog, mixture, out, mirror, seed, limit, held, pool, chosen, report)


def _build(
    catalog: Catalog,
    mixture: str | None,
    out: Target,
    mirror: Path | None,
    seed: int | None,
    limit: int | None,
    held: int,
    workers: Workers,
    engine: Engine,
    report: Reporters,
) -> Built:
    plan = make_plan(
        catalog,
        mixture,
        workers=workers,
        mirror=mirror,
        seed=seed,
        limit=limit,
        memory=held,
        progress=report.read,
    )
    report.start(sum(len(part) for part in plan.parts))
    with drafted(out) as draft:
        mixed = engine.carry_out(plan, draft.place, report.rendered, report.written)
        totals = {split: shards.rows for split, shards in mixed.written.items()}
        pairs = zip(plan.parts, mixed.tallies, strict=True)
        summaries = [_summary(part, totals[part.split], tally) for part, tally in pairs]
        _write(draft.folder / CARD, card.make_card(plan, mixed.written))
        made = lock.make_lock(plan, mixed.written, _engines(summaries), draft.folder / CARD)
        _write(draft.folder / LOCK, lock.dump(made))
        if (draft.folder / "data").is_dir():
            sync(draft.folder / "data")
    return Built(out, made, tuple(summaries))


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
