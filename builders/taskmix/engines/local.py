"""The engine of one machine: it renders on threads, and shuffles in memory or through the disk."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import pyarrow as pa

from taskmix.engines.recipes import Mixed, Tally, in_parts, recipes
from taskmix.mixing.examples import Progress
from taskmix.mixing.parts import SPLITS
from taskmix.mixing.plan import Plan
from taskmix.output.content import BLOCK_ROWS
from taskmix.output.formats import widen
from taskmix.output.places import WORK, Folder, Place
from taskmix.output.shards import WrittenSplit, write_shards
from taskmix.output.shuffle import Shuffle
from taskmix.templates.rowwise import Workers
from taskmix.threads import in_order

_WAITING = 2


@dataclass(frozen=True)
class Local:
    """Carries out plans on this machine, with so many bytes of rows in memory."""

    workers: Workers
    memory: int

    def carry_out(self, plan: Plan, place: Place, rendered: Progress, written: Progress) -> Mixed:
        """Do what `Engine` says; the place is a folder."""
        assert isinstance(place, Folder), place
        tallies, splits = dict[str, list[Tally]](), dict[str, WrittenSplit]()
        for split in SPLITS:
            if plan.rows(split):
                tallies[split], splits[split] = self._split(plan, split, place, rendered, written)
        return Mixed(in_parts(plan, tallies), splits)

    @property
    def _threads(self) -> int:
        """Return how many threads work at a time: each waits now and then for Python's lock, or for the disk."""
        return self.workers.count + _WAITING

    def _split(
        self, plan: Plan, split: str, folder: Folder, rendered: Progress, written: Progress
    ) -> tuple[list[Tally], WrittenSplit]:
        """Render, shuffle and write one split."""
        parts, total = plan.parts_of(split), plan.rows(split)
        found, table = recipes(plan, split)
        spill = folder.below(WORK)
        spill.path.mkdir()
        shuffle, tallies = Shuffle(spill, total, self.memory), []
        for part, recipe in zip(parts, found, strict=True):
            tally = Tally()
            for rows, counted in in_order(recipe.work(part.turns), self._threads, self.workers.close):
                shuffle.add(rows)
                tally.add(counted)
                rendered(part.task.name, len(rows))
            tallies.append(tally)
        for part in parts:
            part.task.source.check_unchanged()
        shuffled = shuffle.finish()

        def blocks(first: int, end: int) -> Iterator[pa.Table]:
            return (widen(rows, table) for rows in shuffled.blocks(first, end, BLOCK_ROWS))

        shards = write_shards(blocks, total, split, folder.path, self._threads, partial(written, split))
        folder.remove(WORK)
        return tallies, shards
