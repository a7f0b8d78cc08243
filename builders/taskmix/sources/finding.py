"""Where a task's files lie, and which belong to which split: a path, copies of what is in an object store, the mirror's
copy of a hub dataset, or the hub's.

Nothing is read, and nothing here needs Polars.
"""

import glob
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskmix.catalog.loading import CatalogTask
from taskmix.errors import SourceError
from taskmix.text import shown, visible
from taskmix.urls import is_url

EXTENSIONS = (".parquet", ".jsonl", ".ndjson", ".json", ".csv", ".arrow")
_SHARD = re.compile(r"(?P<split>.+?)(?:[-_.]\d+[-_.]of[-_.]\d+|[-_.]\d{5,})?")
_ABOUT_DATA = frozenset("dataset_dict.json dataset_info.json dataset_infos.json features.json state.json".split())
"""Files beside the data in folders that `datasets` wrote: they describe it."""

Splits = Mapping[str, tuple[Path, ...]]
Stamp = tuple[int, int]
"""When a file was last written, in nanoseconds, and its size in bytes."""


@dataclass(frozen=True)
class Found:
    """A dataset as files by split below `root`. `label` names it in messages, `commit` pins a hub dataset."""

    label: str
    root: Path
    splits: Splits
    commit: str | None = None


def find_source(task: CatalogTask, mirror: Path | None) -> Found:
    """Find a task's files.

    Raises:
        SourceError: they are not there; with the task and the catalog's line.
    """
    try:
        return _find(task, mirror)
    except SourceError as error:
        where = f"{task.where('source')}: task {task.name}: {error.where}"
        hint = "a mirror holds DIR/org/name/[config/]SPLIT*.parquet" if mirror and task.spec.source.hub else error.hint
        raise SourceError(error.message, where=where, hint=hint) from None


def _find(task: CatalogTask, mirror: Path | None) -> Found:
    spec = task.spec.source
    if spec.path is not None and is_url(spec.path):
        return _copied(task, spec.path)
    if spec.path is not None:
        path = (task.root / spec.path).absolute()
        return Found(spec.path, root_of(path), find_splits(path))
    assert spec.hub is not None
    label = spec.hub if spec.config is None else f"{spec.hub} ({spec.config})"
    if mirror is not None:
        folder = mirror / spec.hub / (spec.config or "")
        return Found(label, folder, find_splits(folder, (".parquet",)))
    # not above: what asks the hub takes a while to import
    from taskmix.sources import hub

    pinned = hub.fetch(spec.hub, spec.config, task.commit or spec.revision)
    return Found(label, pinned.folder, find_splits(pinned.folder, (".parquet",)), pinned.commit)


def _copied(task: CatalogTask, url: str) -> Found:
    """Return copies of a task's files in an object store. Of splits that the task does not use there are none."""
    # not above: what speaks to stores takes a while to import
    from taskmix.sources import buckets

    listing = buckets.listed(url)
    names = by_split(listing.objects) if listing.is_folder else {"train": sorted(listing.objects)}
    if not names:
        raise _without_data(visible(url), EXTENSIONS)
    wanted = [name for split in used_splits(task, names) for name in names.get(split, ())]
    folder = buckets.fetch(listing.only(wanted)) if wanted else Path(url)
    return Found(url, folder, {split: tuple(folder / name for name in found) for split, found in names.items()})


def used_splits(task: CatalogTask, there: Iterable[str]) -> list[str]:
    """Return the source's splits that a task reads, given those that there are."""
    spec = task.spec.splits
    if spec is None:
        return [name for name in ("train", "validation") if name in there]
    return sorted({theirs for theirs in spec.values() if isinstance(theirs, str)})


def by_split(names: Iterable[str], extensions: Sequence[str] = EXTENSIONS) -> Mapping[str, list[str]]:
    """Return the names of data files in a folder by their split, sorted: see `find_splits`."""
    found: dict[str, list[str]] = {}
    for name in sorted(names):
        path = Path(name)
        if path.suffix in extensions and not name.startswith(".") and name not in _ABOUT_DATA:
            match = _SHARD.fullmatch(path.stem)
            assert match, name
            found.setdefault(match["split"], []).append(name)
    return found


def find_splits(path: Path, extensions: Sequence[str] = EXTENSIONS) -> Splits:
    """Return the files of each split of a folder, a file or a glob, sorted by name.

    In a folder a split is `SPLIT.EXT` or `SPLIT-00000-of-00002.EXT`; a file or a glob is one split, `train`. JSON files
    in which `datasets` describes the data are none.
    """
    if path.is_dir():
        names = by_split((file.name for file in path.iterdir()), extensions)
        if not names:
            raise _without_data(shown(path), extensions)
        return {split: tuple(path / name for name in found) for split, found in names.items()}
    files = (
        [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    )
    if not files:
        raise SourceError("no such file or folder", where=shown(path), hint="paths are relative to the catalog file")
    return {"train": tuple(files)}


def _without_data(where: str, extensions: Sequence[str]) -> SourceError:
    hint = f"it should hold files such as train{extensions[0]} or validation-00000-of-00002{extensions[-1]}"
    return SourceError("the folder holds no data files", where=where, hint=hint)


def root_of(path: Path) -> Path:
    """Return the folder that the files of a folder, a file or a glob are below."""
    if path.is_dir():
        return path
    fixed = [parent for parent in path.parents if not glob.has_magic(str(parent))]
    return fixed[0]


def stamp(file: Path) -> Stamp | None:
    """Return what tells whether a file was written again; None if it is not there."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size
