"""What the processes of a cluster do: render a piece of a part, or write a shard.

Either may be broken off and done again, here or elsewhere, even twice at a time. What one try writes has a name of its
own; who asked for it reads only what a try that came to its end says it wrote, and a shard gets its name at the end.
"""

import functools
import socket
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import ParamSpec, TypeVar

import polars as pl

from taskmix.engines.packing import Packed, other_copies, unpack
from taskmix.engines.recipes import Tally
from taskmix.errors import OutputError, TaskmixError
from taskmix.mixing.examples import Turn
from taskmix.output.formats import widen
from taskmix.output.places import WORK, Place
from taskmix.output.shards import Shard, write_shard
from taskmix.output.shuffle import Run, Shuffle, merged

P = ParamSpec("P")
T = TypeVar("T")

TOKEN = f"{WORK}/token"
_LIBRARIES = ("taskmix", "polars", "pyarrow", "jinja2")


@functools.cache
def versions() -> Mapping[str, str]:
    """Return the versions of what decides on the bytes of a mixture."""
    return {name: metadata.version(name) for name in _LIBRARIES}


@dataclass(frozen=True)
class Site:
    """Where a build is under way: the mixture's place, what its token says, and the versions that began it."""

    place: Place
    token: str
    versions: Mapping[str, str] = field(default_factory=versions)

    def open(self) -> None:
        """Write the token, by which nodes know that they see the place."""
        with self.place.create(TOKEN) as file:
            file.write(self.token.encode())

    def check(self) -> None:
        """Raise OutputError if this machine has other versions, or does not see the place as the build left it."""
        node = socket.gethostname()
        for name, version in self.versions.items():
            if versions()[name] != version:
                message = f"the node {node} has {name} {versions()[name]}, the build {version}"
                raise OutputError(message, hint="install the same versions on every node")
        if self.place.read(TOKEN) != self.token.encode():
            raise OutputError(
                f"the node {node} does not see this folder as the build left it",
                where=str(self.place),
                hint="write to a folder that all nodes share under one path, or to a URL; and one build at a time",
            )

    def attempt(self) -> str:
        """Return the name of a folder for one try, of which there is no other."""
        return f"{WORK}/{uuid.uuid4().hex}"


@dataclass(frozen=True)
class Piece:
    """A rendered piece of a part, in runs.

    `copies` has the hashes of source files that this node alone may have like that.
    """

    runs: tuple[Run, ...]
    rows: int
    tally: Tally
    node: str
    copies: Mapping[str, str]


@dataclass(frozen=True)
class Stock:
    """All rows of a split, in runs, and what they have in common (see `formats.origins`)."""

    runs: Sequence[Run]
    table: pl.DataFrame


def as_value(work: Callable[P, T]) -> Callable[P, T | TaskmixError]:
    """Return a function that gives an understood failure as a value: to try again would not mend it."""

    @functools.wraps(work)
    def attempt(*args: P.args, **kwargs: P.kwargs) -> T | TaskmixError:
        try:
            return work(*args, **kwargs)
        except TaskmixError as error:
            return error

    return attempt


@as_value
def render_piece(site: Site, packed: Packed, turns: Sequence[Turn], total: int, memory: int) -> Piece:
    """Render planned rows of a part and leave them in runs.

    Args:
        site: where.
        packed: the part's recipe.
        turns: the rows.
        total: the number of rows in the whole split, from which the bands of the runs follow.
        memory: bytes of rows to hold; what is more makes more runs.
    """
    site.check()
    recipe = unpack(packed.content)
    copies = other_copies(recipe, packed.stamps)
    shuffle, tally, rows = Shuffle(site.place.below(site.attempt()), total, memory), Tally(), 0
    for work in recipe.work(turns):
        found, counted = work()
        shuffle.add(found)
        tally.add(counted)
        rows += len(found)
    runs = shuffle.runs()
    recipe.posing.task.source.check_unchanged()
    return Piece(runs, rows, tally, socket.gethostname(), copies)


@as_value
def write_piece(site: Site, stock: Stock, path: str, first: int, end: int, block: int) -> tuple[Shard, list[bytes]]:
    """Write the rows of a split from one number up to another as a shard, in blocks of so many.

    Return its record and the hashes of the blocks.
    """
    site.check()
    part = f"{site.attempt()}.parquet"
    blocks = (widen(rows, stock.table) for rows in merged(stock.runs).blocks(first, end, block))
    with site.place.create(part) as opened:
        found = write_shard(blocks, opened, path)
    site.place.move(part, path)
    return found
