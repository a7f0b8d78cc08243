"""A build, from a catalog to a mixture on disk: plan, render, shuffle, shards, card, lock."""

import logging
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import polars as pl
import pyarrow as pa

from taskmix import hashing
from taskmix.catalog.loading import Catalog
from taskmix.compiler.templates import RowWise
from taskmix.errors import UsageError
from taskmix.mixing.examples import Job, Progress, jobs, lengths, no_progress
from taskmix.mixing.parts import SPLITS, Part
from taskmix.mixing.plan import Plan, make_plan
from taskmix.output import card, lock
from taskmix.output.content import BLOCK_ROWS
from taskmix.output.folder import LOCK, replacing, sync, tidy
from taskmix.output.formats import narrow, origin, origins, widen
from taskmix.output.inputs import Json
from taskmix.output.shards import WrittenSplit, write_shards
from taskmix.output.shuffle import MEMORY, Shuffle
from taskmix.preparing import Prepared, check_made, prepare
from taskmix.templates.remembered import Renders
from taskmix.templates.rowwise import Workers
from taskmix.threads import in_order

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

    out: Path
    lock: Json
    parts: tuple[PartSummary, ...]
    unchanged: bool = False

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
    out: Path | None = None,
    mirror: Path | None = None,
    seed: int | None = None,
    limit: int | None = None,
    workers: int | None = None,
    memory: int = MEMORY,
    reporters: Reporters | None = None,
    force: bool = False,
    locked: bool = False,
    lock_file: Path | None = None,
) -> Built:
    """Build a mixture into a folder, all or nothing; one that is there already, unchanged, is left as it is.

    Args:
        mixture: its name; by default the catalog's default mixture.
        catalog: where it and its tasks are described; by default the one that `load_catalog` finds.
        out: the folder; by default `mixtures/NAME` in the working folder.
        mirror: a folder with copies of hub datasets, `DIR/org/name/[config/]SPLIT*.parquet`.
        seed: replaces the mixture's seed.
        limit: at most so many source rows a task and split.
        workers: processes that render what Jinja has to, by default one a CPU; the result does not depend on it.
        memory: bytes of rows that are shuffled in memory; more go through disk, with the same result.
        reporters: what to call while it works.
        force: build, even if nothing has changed.
        locked: build what the lock in `out` describes, to the byte, or nothing.
        lock_file: the lock to go by instead.

    Raises:
        TaskmixError: of the kind that fits; an earlier mixture in `out` is untouched.
    """
    check_bounds(workers, memory, limit)
    prepared = prepare(mixture, catalog, out, mirror, seed, limit, force=force, locked=locked, lock_file=lock_file)
    return carry_out(prepared, workers, memory, reporters)


def check_bounds(*given: int | None) -> None:
    """Raise UsageError if a bound that is given allows nothing."""
    if any(bound is not None and bound < 1 for bound in given):
        raise UsageError("workers, memory and limit are at least 1")


def carry_out(
    prepared: Prepared, workers: int | None = None, memory: int = MEMORY, reporters: Reporters | None = None
) -> Built:
    """Build what was prepared, unless it is there already. Raises as `build` does."""
    if prepared.unchanged is not None:
        tidy(prepared.out)
        return Built(prepared.out, prepared.unchanged, (), unchanged=True)
    renders = Renders(prepared.cache)
    with Workers(workers, renders=renders) as pool:
        built = _build(prepared, memory, pool, reporters or Reporters())
    if remark := renders.remark():
        _LOG.info("%s", remark)
    return built


def _build(prepared: Prepared, memory: int, workers: Workers, report: Reporters) -> Built:
    plan = make_plan(
        prepared.catalog,
        prepared.mixture,
        workers=workers,
        mirror=prepared.mirror,
        seed=prepared.seed,
        limit=prepared.limit,
        memory=memory // _HELD,
        progress=report.read,
    )
    report.start(sum(len(part) for part in plan.parts))
    with replacing(prepared.out) as folder:
        summaries: list[PartSummary] = []
        written: dict[str, WrittenSplit] = {}
        for split in SPLITS:
            if plan.rows(split):
                found, written[split] = _write_split(plan, split, folder, workers, memory, report)
                summaries += found
        _write(folder / "README.md", card.make_card(plan, written))
        made = lock.make_lock(plan, written, _engines(summaries), folder / "README.md", prepared.fingerprints)
        check_made(prepared, made)
        _write(folder / LOCK, lock.dump(made))
        sync(folder / "data")
    return Built(prepared.out, made, tuple(summaries))


@dataclass
class Tally:
    """What is counted while a part is rendered: characters of prompts and completions, and what Jinja rendered."""

    chars: Counter[str] = field(default_factory=Counter)
    handed_back: Counter[str] = field(default_factory=Counter)
    row_wise: dict[str, RowWise] = field(default_factory=dict)

    def add(self, other: "Tally") -> None:
        """Add what was counted of more rows."""
        self.chars.update(other.chars)
        self.handed_back.update(other.handed_back)
        self.row_wise |= other.row_wise


def _write_split(
    plan: Plan, split: str, folder: Path, workers: Workers, memory: int, report: Reporters
) -> tuple[list[PartSummary], WrittenSplit]:
    """Render, shuffle and write one split."""
    parts, total = plan.parts_of(split), plan.rows(split)
    spill = folder / ".shuffle"
    spill.mkdir()
    shuffle, table = Shuffle(spill, total, memory), pl.concat(map(origins, parts))
    summaries, first = [], 0
    for part in parts:
        tally = Tally()
        finish = partial(_finish, plan, part, table["high"], first)
        first += len(origins(part))
        rendering = (partial(finish, job) for job in jobs(part.posing, part.turns))
        for rows, found in in_order(rendering, max(workers.count, 2), workers.close):
            shuffle.add(rows)
            tally.add(found)
            report.rendered(part.task.name, len(rows))
        summaries.append(_summary(part, total, tally))
    for part in parts:
        part.task.source.check_unchanged()
    shuffled = shuffle.finish()

    def blocks(first: int, end: int) -> Iterator[pa.Table]:
        return (widen(rows, table) for rows in shuffled.blocks(first, end, BLOCK_ROWS))

    written = write_shards(blocks, total, split, folder, workers.count, partial(report.written, split))
    shutil.rmtree(spill)
    return summaries, written


def _finish(plan: Plan, part: Part, keys: pl.Series, first: int, job: Job) -> tuple[pl.DataFrame, Tally]:
    """Run a job; return its rows as the shuffle takes them, and what is counted of them.

    `keys` are those of all origins of the split, `first` is the number of the part's first one.
    """
    found = job()
    numbers = found.rows.select((first + origin(part)).cast(pl.UInt32)).to_series()
    shuffle_key = hashing.key(plan.seed, "shuffle", part.split)
    form, system = plan.spec.format, plan.spec.styles.system
    rows = narrow(found.rows, form, system, numbers, keys, shuffle_key, evaluation=part.is_evaluation)
    name = part.templates[found.template].name if part.templates else ""
    tally = Tally(Counter(lengths(found.rows).sum().row(0, named=True)))
    if found.handed_back:
        tally.handed_back[name] = found.handed_back
    if found.row_wise:
        tally.row_wise[name] = found.row_wise
    return rows, tally


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
