"""`mix add`: look at a dataset, guess what it is, and write its entry into the user's catalog."""

import os
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from taskmix.adding import catalogfile, entry, kinds
from taskmix.adding.entry import Card
from taskmix.adding.guess import Guess
from taskmix.adding.looking import Look, look_at, share
from taskmix.catalog import builtin, yamlfile
from taskmix.catalog.loading import CatalogTask, load_catalog
from taskmix.catalog.models import SourceSpec, TaskSpec
from taskmix.errors import SourceError, TaskmixError, UsageError
from taskmix.kinds import KINDS
from taskmix.kinds.base import describe
from taskmix.sources import hub
from taskmix.sources.finding import EXTENSIONS
from taskmix.sources.opening import open_source
from taskmix.tasks.opening import open_task
from taskmix.templates.rowwise import Workers
from taskmix.text import quoted, visible
from taskmix.urls import is_url

_HUB = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]+)?")
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*\r?$", re.DOTALL | re.MULTILINE)
_MOST_LANGUAGES = 20


@dataclass(frozen=True)
class Added:
    """A new entry: its text, the catalog it is in (None if it was only shown), and what there is to say of it."""

    name: str
    kind: str
    text: str
    catalog: Path | None
    remarks: tuple[str, ...]


@dataclass(frozen=True)
class Request:
    """What a user asks for; see `add`."""

    source: str
    config: str | None = None
    revision: str | None = None
    name: str | None = None
    kind: str | None = None
    mirror: Path | None = None


def add(request: Request, catalog: Path | None = None, *, only_show: bool = False) -> Added:
    """Write an entry for a dataset into a catalog.

    Args:
        request: the dataset (org/name on the hub, or a file, folder or glob), and what is known of it.
        catalog: the file to write to; by default $TASKMIX_CATALOG or ./catalog.yaml. It is made if it is not there.
        only_show: leave the file as it is.

    Raises:
        UsageError: the name is taken or no name, or the catalog is the built-in one.
        SourceError: the dataset cannot be read, or its kind not be guessed; shows its columns.
        CatalogError, OutputError: the entry cannot be put into the file, which is as it was.
    """
    path = catalog or Path(os.environ.get("TASKMIX_CATALOG") or "catalog.yaml")
    if not only_show:
        catalogfile.check_own(path)
    old = catalogfile.read(path)
    taken = load_catalog(path if old is not None else builtin.catalog_path()).tasks
    spec, there = _source(request, path)
    name = _name(request, spec, taken)
    look = _look(_entry(name, path, TaskSpec(kind="text-generation", cluster="a", source=there)), request)
    look, guess = _without_blind_split(look, _guess(look, request.kind))
    guess = replace(guess, where=(*guess.where, *_blank(guess, look)))
    with Workers(1) as workers:
        look, faults = _checked(guess, look, name, path, spec, there, workers)
    lines = entry.write(name, spec, _splits(look), guess, _card(look, request))
    text = entry.listed(f"  {line}" for line in lines)
    remarks = (*(f"{key}: {remark}" for key, remark in guess.remarks), *faults)
    if not only_show:
        new = catalogfile.inserted(old if old is not None else catalogfile.NEW, lines, path)
        catalogfile.replace(path, old, new, name)
    return Added(name, guess.kind, text, None if only_show else path, tuple(map(visible, remarks)))


def _source(request: Request, catalog: Path) -> tuple[SourceSpec, SourceSpec]:
    """Return the source as the catalog is to name it, and as it can be opened before the catalog's folder is there.

    It is a path, from the catalog's folder if it was relative, or a dataset of the hub.
    """
    given = request.source
    if is_url(given):
        hint = "write its entry by hand, `source: {path: URL}`: see docs/catalog.md"
        raise UsageError(f"an object store is not looked into: {quoted(given)}", hint=hint)
    there = Path(given).exists() or any(mark in given for mark in "*?[") or Path(given).suffix in EXTENSIONS
    mirrored = request.mirror is not None and _HUB.fullmatch(given) and (request.mirror / given).is_dir()
    on_hub = request.config is not None or request.revision is not None or mirrored
    if there and not on_hub:
        path = given if Path(given).is_absolute() else os.path.relpath(given, catalog.absolute().parent)
        return SourceSpec(path=Path(path).as_posix()), SourceSpec(path=str(Path(given).absolute()))
    if not _HUB.fullmatch(given):
        hint = "name a dataset of the hub (org/name), or a file, folder or glob that is there"
        raise UsageError(f"there is no {quoted(given)}", hint=hint)
    known = {"hub": given, "config": request.config, "revision": request.revision}
    try:
        spec = SourceSpec(**{key: value for key, value in known.items() if value is not None})
    except ValueError:
        raise UsageError(f"not a configuration or revision: {quoted(request.config or request.revision)}") from None
    return spec, spec


def _name(request: Request, source: SourceSpec, taken: Collection[str]) -> str:
    """Return the task's name: the given one, or the first that is free of those that the source suggests."""
    if request.name is not None:
        if request.name in taken:
            raise UsageError(f"there is a task {quoted(request.name)} already", hint="give another --name")
        if request.name != _slug(request.name):
            raise UsageError(f"{quoted(request.name)} is no name of a task", hint=f"such as {_slug(request.name)!r}")
        return request.name
    if source.hub is not None:
        org, _, short = source.hub.rpartition("/")
        config = f"-{source.config}" if source.config else ""
        wanted = [f"{short}{config}", f"{org}-{short}{config}"]
    else:
        path = Path(str(source.path))
        fixed = [part for part in path.parts if not any(mark in part for mark in "*?[")]
        wanted = [Path(fixed[-1]).stem if fixed and fixed[-1] not in ("..", "/") else "data"]
    numbered = [*wanted, *(f"{wanted[-1]}-{number}" for number in range(2, 1000))]
    return next(slug for each in numbered if (slug := _slug(each)) not in taken)


def _slug(text: str) -> str:
    """Return text as a name: lower-case letters, digits, `.`, `_` and `-`."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:100] or "data"


def _entry(name: str, catalog: Path, spec: TaskSpec) -> CatalogTask:
    """Return a task that is in no file yet, whose paths start from the catalog's folder."""
    return CatalogTask(name, spec, yamlfile.Document(catalog.absolute(), {}, {}, {}))


def _look(probe: CatalogTask, request: Request) -> Look:
    """Open the source. Raises SourceError that names the configurations, if it is they that are missing."""
    spec = probe.spec.source
    mirrored = request.mirror / str(spec.hub) if request.mirror is not None and spec.hub is not None else None
    folder = mirrored or (probe.root / str(spec.path) if spec.path else None)
    if folder is not None and spec.config is None and folder.is_dir() and (inside := _data_folders(folder)):
        hint = f"give one with --config: {', '.join(inside)}" if mirrored else f"name one of: {', '.join(inside)}"
        raise SourceError("its data is in folders", where=visible(request.source), hint=hint)
    try:
        source = open_source(probe, request.mirror)
        look = look_at(replace(source, label=visible(request.source)) if spec.path else source)
        if not source.count(look.train):
            raise SourceError(f"its split {quoted(look.train)} is empty", where=source.label)
    except SourceError as error:
        # the entry is in no file yet: its place says nothing
        where = error.where.partition(f"task {probe.name}: ")[2] or error.where
        raise SourceError(error.message, where=where, hint=error.hint) from None
    return look


def _data_folders(folder: Path) -> list[str]:
    """Return the folders with data in a folder that has no data itself."""
    if any(file.suffix in EXTENSIONS for file in folder.iterdir() if file.is_file()):
        return []
    inside = [each for each in sorted(folder.iterdir()) if each.is_dir() and not each.name.startswith(".")]
    return [visible(each.name) for each in inside if any(file.suffix in EXTENSIONS for file in each.iterdir())]


def _guess(look: Look, kind: str | None) -> Guess:
    """Return the guess for a kind, or the first that has all of its columns. Raises SourceError if none has."""
    if kind is not None:
        guess = kinds.GUESSES[kind](look)
        if guess.missing:
            needed = KINDS[kind].columns
            listed = ", ".join(f"`{name}` ({needed[name].meaning})" for name in guess.missing)
            raise SourceError(
                f"nothing fits {listed} of a {kind} task",
                where=look.source.label,
                hint=f"its columns: {_columns(look)}; write the entry by hand, docs/catalog.md has examples",
            )
        return guess
    found = next((guess for each in kinds.GUESSES.values() if not (guess := each(look)).missing), None)
    if found is None:
        raise SourceError(
            "its kind cannot be guessed",
            where=look.source.label,
            hint=f"its columns: {_columns(look)}; say with --kind what it is: {', '.join(KINDS)}",
        )
    return found


def _columns(look: Look) -> str:
    return visible(", ".join(f"{name} ({describe(dtype)})" for name, dtype in look.schema.items()))


def _splits(look: Look) -> Mapping[str, str] | None:
    """Return the splits as the catalog is to name them; None where they have our names already."""
    if (look.train, look.validation) == ("train", "validation"):
        return None
    splits = {"train": entry.scalar(look.train)}
    if look.validation is not None:
        splits["validation"] = entry.scalar(look.validation)
    elif look.cut:
        splits["validation"] = f"{{from: train, fraction: {look.cut}}}"
    return splits


def _without_blind_split(look: Look, guess: Guess) -> tuple[Look, Guess]:
    """Return the look without a validation split none of whose rows has a label, and the guess that follows."""
    kind = KINDS[guess.kind]
    label = guess.columns.get(kind.labelled or "")
    if look.validation is None or not isinstance(label, str) or label not in look.schema:
        return look, guess
    known = replace(look, train=look.validation, validation=None).values(label).drop_nulls()
    known = known.filter(known >= 0) if known.dtype.is_integer() else known.filter(known.cast(pl.String) != "")
    if len(known):
        return look, guess
    blind = (("splits", f"{quoted(look.validation)} has no labels"),)
    seeing = replace(look, validation=None, cut=share(look.source.count(look.train)))
    again = kinds.GUESSES[guess.kind](seeing)
    return seeing, replace(again, remarks=(*blind, *again.remarks))


def _checked(
    guess: Guess, look: Look, name: str, catalog: Path, source: SourceSpec, there: SourceSpec, workers: Workers
) -> tuple[Look, tuple[str, ...]]:
    """Read every row as the entry says; return the look, its cut one that leaves rows on both sides, and faults."""
    for cut in (look.cut, 0.5, 0.0):
        tried = replace(look, cut=cut)
        text = entry.listed(f"  {line}" for line in entry.write(name, source, _splits(tried), guess, Card()))
        document = yamlfile.parse(f"version: 1\ntasks:\n{text}", catalog.absolute())
        assert isinstance(document.value, dict)
        spec = TaskSpec.model_validate(document.value["tasks"][name], by_alias=True)
        opened = CatalogTask(name, spec.model_copy(update={"source": there}), document)
        try:
            task = open_task(opened, _mirror_of(look, source), workers)
            left = [sum(map(len, task.batches(split, ()))) for split in task.splits.values()]
        except TaskmixError as error:
            return look, (f"cannot be used as it is: {error.message}{f' ({error.hint})' if error.hint else ''}",)
        if all(left):
            return tried, () if cut or look.validation else ("splits: too few rows to cut validation off",)
    return look, ("cannot be used as it is: no row is left",)


def _blank(guess: Guess, look: Look) -> list[str]:
    """Return conditions that leave out rows in which a needed column is null, or the text to write is blank."""
    needed = [name for name, column in KINDS[guess.kind].columns.items() if column.required or name == "input"]
    conditions = []
    for name in needed:
        theirs = guess.columns.get(name)
        if not isinstance(theirs, str) or theirs not in look.schema:
            continue
        blank = pl.col(theirs).str.strip_chars() == "" if look.schema[theirs] == pl.String else pl.lit(False)
        nulls = blanks = 0
        for split in look.splits():
            if theirs in look.source.schema(split):
                for batch in look.source.batches(split, [theirs]):
                    nulls += batch[theirs].null_count()
                    blanks += int(batch.select(blank.sum()).item() or 0) if name == "target" else 0
        conditions += [f"{name} is not none"] if nulls else []
        conditions += [f"{name}.strip() != ''"] if blanks else []
    return conditions


def _mirror_of(look: Look, source: SourceSpec) -> Path | None:
    """Return the folder from which a hub source that was opened is opened again."""
    if source.hub is None or look.source.commit is not None:
        return None
    levels = len(Path(source.hub).parts) + (1 if source.config else 0)
    return look.source.root.parents[levels - 1]


def _card(look: Look, request: Request) -> Card:
    """Return what the dataset's card says: README.md on the hub, or beside the data."""
    if look.source.commit is not None:
        text = hub.readme(request.source, look.source.commit)
    else:
        folders = [look.source.root, look.source.root.parent] if request.config else [look.source.root]
        found = next((folder / "README.md" for folder in folders if (folder / "README.md").is_file()), None)
        text = found.read_text("utf-8", errors="replace") if found is not None else None
    front = _FRONT_MATTER.match(text or "")
    try:
        document = yamlfile.parse(front[1], Path("README.md")) if front else None
    except TaskmixError:
        return Card()
    value = document.value if document is not None else None
    if not isinstance(value, dict):
        return Card()
    languages = [each for each in _texts(value.get("language")) if _LANGUAGE.fullmatch(each)]
    return Card(tuple(_texts(value.get("license"))), tuple(languages[:_MOST_LANGUAGES]))


def _texts(value: object) -> Sequence[str]:
    items = value if isinstance(value, list) else [value]
    return [each for each in items if isinstance(each, str) and each]
