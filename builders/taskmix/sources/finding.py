"""Where a task's files lie, and which belong to which split: a path, the mirror's copy of a hub dataset, or the hub's.

Nothing is read, and nothing here needs Polars.
"""

import glob
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from taskmix.catalog.loading import CatalogTask
from taskmix.errors import SourceError
from taskmix.text import shown

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


def find_splits(path: Path, extensions: Sequence[str] = EXTENSIONS) -> Splits:
    """Return the files of each split of a folder, a file or a glob, sorted by name.

    In a folder a split is `SPLIT.EXT` or `SPLIT-00000-of-00002.EXT`; a file or a glob is one split, `train`. JSON files
    in which `datasets` describes the data are none.
    """
    if path.is_dir():
        found: dict[str, list[Path]] = {}
        for file in sorted(path.iterdir()):
            if file.suffix in extensions and not file.name.startswith(".") and file.name not in _ABOUT_DATA:
                match = _SHARD.fullmatch(file.stem)
                assert match, file
                found.setdefault(match["split"], []).append(file)
        if not found:
            hint = f"it should hold files such as train{extensions[0]} or validation-00000-of-00002{extensions[-1]}"
            raise SourceError("the folder holds no data files", where=shown(path), hint=hint)
        return {split: tuple(files) for split, files in found.items()}
    files = (
        [path] if path.is_file() else [Path(name) for name in sorted(glob.glob(str(path), recursive=True))]  # noqa: PTH207
    )
    if not files:
        raise SourceError("no such file or folder", where=shown(path), hint="paths are relative to the catalog file")
    return {"train": tuple(files)}


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
