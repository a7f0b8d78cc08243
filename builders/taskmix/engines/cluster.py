"""The engine of a Ray cluster: pieces of parts are rendered into runs, then each shard is written from all of these.

A run has a record batch for each band of hashes, and the bands are the same in all. Once the rows of each band are
counted it is known which bands a shard takes, so that shards are written independently, wherever there is a CPU.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from taskmix.engines import nodes
from taskmix.engines.nodes import Piece, Site, Stock
from taskmix.engines.packing import pack, sha256_of, source_files
from taskmix.engines.pieces import cut, step
from taskmix.engines.recipes import Mixed, Recipe, Tally, recipes
from taskmix.engines.session import Session
from taskmix.errors import SourceError
from taskmix.mixing.examples import Progress
from taskmix.mixing.parts import SPLITS, Part
from taskmix.mixing.plan import Plan
from taskmix.output import content
from taskmix.output.folder import LOCK
from taskmix.output.places import WORK, Place
from taskmix.output.shards import Shard, WrittenSplit, shard_spans
from taskmix.text import shown


@dataclass(frozen=True)
class Cluster:
    """Carries out plans on a Ray cluster; each task holds so many bytes of rows in memory."""

    session: Session
    memory: int

    def carry_out(self, plan: Plan, place: Place, rendered: Progress, written: Progress) -> Mixed:
        """Do what `Engine` says; every node reaches the place."""
        site = Site(place, uuid.uuid4().hex)
        site.open()
        try:
            rendering = _Rendering(plan, *_recipes(plan))
            rendering.run(self.session, site, self.memory, rendered)
            # from here on files of an older mixture are replaced, where the place is not a new folder
            place.remove(LOCK)
            return Mixed(rendering.tallies, self._write(plan, site, rendering.stocks(), written))
        finally:
            place.remove(WORK)

    def _write(
        self, plan: Plan, site: Site, stocks: Mapping[str, Stock], written: Progress
    ) -> Mapping[str, WrittenSplit]:
        """Write the shards of all splits."""
        shared = {split: self.session.share(stock) for split, stock in stocks.items()}
        spans = {split: shard_spans(split, plan.rows(split)) for split in stocks}
        wanted = [(split, path, span) for split, own in spans.items() for path, span in own.items()]
        calls = ((site, shared[split], path, *span, content.BLOCK_ROWS) for split, path, span in wanted)
        shards, hashes = defaultdict[str, list[Shard]](list), defaultdict[str, list[bytes]](list)
        done = self.session.each(nodes.write_piece, calls)
        for (split, _, _), (shard, found) in zip(wanted, done, strict=True):
            written(split, shard.rows)
            shards[split].append(shard)
            hashes[split] += found
        return {split: WrittenSplit(tuple(shards[split]), content.content_hash(hashes[split])) for split in stocks}


def _recipes(plan: Plan) -> tuple[list[Recipe], Mapping[str, pl.DataFrame]]:
    """Return the recipe of each part of a plan, in order, and the origins of each split."""
    found, tables = list[Recipe](), dict[str, pl.DataFrame]()
    for split in SPLITS:
        if plan.rows(split):
            own, tables[split] = recipes(plan, split)
            found += own
    return found, tables


@dataclass
class _Rendering:
    """The first half: what comes of each part of a plan."""

    plan: Plan
    recipes: Sequence[Recipe]
    tables: Mapping[str, pl.DataFrame]
    tallies: list[Tally] = field(init=False)
    _pieces: dict[str, list[Piece]] = field(init=False)
    _sent: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tallies = [Tally() for _ in self.plan.parts]
        self._pieces = {split: [] for split in self.tables}

    def run(self, session: Session, site: Site, memory: int, rendered: Progress) -> None:
        """Render all parts. Raises SourceError if a file was changed meanwhile, or is another on some node."""
        for number, piece in enumerate(session.each(nodes.render_piece, self._calls(session, site, memory))):
            index = self._sent[number]
            part = self.plan.parts[index]
            self.tallies[index].add(piece.tally)
            self._pieces[part.split].append(piece)
            rendered(part.task.name, piece.rows)
            _check_copies(part, self.recipes[index], piece)
        for part in self.plan.parts:
            part.task.source.check_unchanged()

    def stocks(self) -> Mapping[str, Stock]:
        """Return all rows of each split."""
        return {
            split: Stock(tuple(run for piece in self._pieces[split] for run in piece.runs), table)
            for split, table in self.tables.items()
        }

    def _calls(self, session: Session, site: Site, memory: int) -> Iterator[tuple[object, ...]]:
        """Yield the arguments of each piece's task, noting the part that it is of."""
        rows = step(self.plan, session.width)
        for index, (part, recipe) in enumerate(zip(self.plan.parts, self.recipes, strict=True)):
            packed = session.share(pack(recipe))
            for turns in cut(part.turns, rows):
                self._sent.append(index)
                yield site, packed, turns, self.plan.rows(part.split), memory


def _check_copies(part: Part, recipe: Recipe, piece: Piece) -> None:
    """Check that the files that a node has of its own are like those of this machine."""
    here = source_files(recipe)
    for name, sha256 in piece.copies.items():
        if sha256_of(here[name]) != sha256:
            raise SourceError(
                f"the node {piece.node} has another file of this name",
                where=f"task {part.task.name}: {shown(here[name])}",
                hint="copy the data to the nodes again, or put it where all of them read the same",
            )
