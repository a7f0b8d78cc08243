"""promptsource's `templates.yaml`: Jinja over a dataset's own columns, input and output parted by `|||`.

A template is imported with promptsource's rules as options of its own (`undefined: empty`, `strip`, `empty: drop`),
so that it renders what promptsource renders.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated

from jinja2 import nodes
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from taskmix.catalog import faults, yamlfile
from taskmix.catalog.models import ConfigName, HubId
from taskmix.errors import CatalogError, TaskmixError, TemplateError, UsageError
from taskmix.importers import pieces
from taskmix.importers.cutting import MARK, Parts, cut
from taskmix.importers.naming import readable, unique
from taskmix.importers.pieces import PieceError
from taskmix.importers.project import Entry, Project, Refused, TemplateFile, compile_entry
from taskmix.importers.writing import Value
from taskmix.templates import sandbox
from taskmix.text import quoted

TAGS = ("!Template", "!TemplateMetadata")
FILE = "templates.yaml"
RAW_CHOICES = "raw_choices"
_FILTERS = {"random": "choice"}
_KNOWN_METHODS = frozenset().union(*sandbox.METHODS.values())

HEADER = """\
Imported from promptsource. What its templates name are the datasets' own columns: the kind `table`.
- hub: as promptsource names the dataset. Many of these ids are old: `mix import promptsource --hub-ids FILE` maps them.
- cluster: the dataset's name. promptsource does not say which skill a dataset is of: write it here before you hold
  out whole skills.
- license: of the data, which promptsource does not say. Its templates are under Apache-2.0.
- splits: those of train and validation that the dataset has."""


class Metadata(BaseModel):
    """What promptsource notes on a template."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    original_task: bool | None = None
    choices_in_prompt: bool | None = None
    metrics: list[str] | None = None
    languages: list[str] | None = None


class PromptTemplate(BaseModel):
    """One `!Template`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    id: str
    name: Annotated[str, Field(min_length=1)]
    jinja: str
    reference: str | None = None
    answer_choices: str | None = None
    metadata: Metadata = Field(default_factory=Metadata)
    # a leftover of an older version of promptsource, which gives it no meaning
    task_template: bool | None = None


class PromptFile(BaseModel):
    """A `templates.yaml`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    dataset: HubId
    subset: ConfigName | None = None
    templates: dict[str, PromptTemplate] = Field(default_factory=dict)


@dataclass(frozen=True)
class ImportedTemplate:
    """A template as it stands in the new file, and the one that it was made from."""

    entry: Entry
    original: PromptTemplate


@dataclass(frozen=True)
class ImportedFile:
    """What became of one `templates.yaml`: new names for raw columns, its templates, and what was refused."""

    file: str
    dataset: str
    subset: str | None
    columns: Mapping[str, str] = field(default_factory=dict)
    templates: Sequence[ImportedTemplate] = ()
    refused: Sequence[Refused] = ()


def import_promptsource(path: Path, hub_ids: Path | None = None) -> Project:
    """Import a checkout, its `templates` folder, the folder of a dataset, or one file.

    Args:
        path: the folder or file.
        hub_ids: a JSON or YAML file that maps a dataset's name to its id on the hub today.

    Raises:
        UsageError: there is no `templates.yaml`.
        CatalogError: the map of ids cannot be read.
    """
    root, files = find_files(path)
    ids = _read_ids(hub_ids)
    found: list[ImportedFile] = []
    refused: list[Refused] = []
    for file in files:
        shown = file.relative_to(root).as_posix()
        try:
            found.append(import_file(file, shown))
        except CatalogError as error:
            refused += _refusals(error, shown)
    refused += [each for imported in found for each in imported.refused]
    taken: set[str] = set()
    named = {unique(_task_name(each), taken): each for each in found if each.templates}
    return Project(
        format="promptsource",
        header=HEADER,
        tasks={name: _task(each, ids) for name, each in named.items()},
        mixtures={"promptsource": {"tasks": ["*"], "description": "Every task imported from promptsource."}},
        templates={name: _template_file(each) for name, each in named.items()},
        refused=refused,
    )


def find_files(path: Path) -> tuple[Path, list[Path]]:
    """Return the folder that file names are relative to, and the template files in it, in order."""
    if path.is_file():
        return path.parent, [path]
    root = path / "promptsource" / "templates"
    root = root if root.is_dir() else path / "templates" if (path / "templates").is_dir() else path
    if not root.is_dir():
        raise UsageError(f"there is no folder or file {path}")
    inside = os.path.realpath(root)
    # a link may lead anywhere: what it leads to is no part of what was named
    files = [each for each in sorted(root.rglob(FILE)) if os.path.realpath(each).startswith(inside + os.sep)]
    if not files:
        raise UsageError(f"there is no {FILE} in {path}", hint="name a checkout of promptsource, or its templates/")
    return root, files


def import_file(file: Path, shown: str) -> ImportedFile:
    """Import one file. Raises CatalogError if it is not one of promptsource's as a whole."""
    document, spec = read_file(file, shown)
    clash = clashes(spec)
    taken: set[str] = set()
    templates: list[ImportedTemplate] = []
    refused: list[Refused] = []
    for key, each in spec.templates.items():
        try:
            entry = template_entry(each, clash)
            compile_entry(entry)
            name = unique(str(entry["name"]), taken)
            templates.append(ImportedTemplate({**entry, "name": name}, each))
        except (PieceError, TemplateError) as error:
            reason = error.message if isinstance(error, TemplateError) else str(error)
            refused.append(Refused(shown, document.line(("templates", key, "jinja")), each.name, reason))
    columns = {RAW_CHOICES: "choices"} if clash else {}
    return ImportedFile(shown, spec.dataset, spec.subset, columns, templates, refused)


def read_file(file: Path, shown: str) -> tuple[yamlfile.Document, PromptFile]:
    """Read a `templates.yaml`, which messages call `shown`. Raises CatalogError if it is not one of promptsource's."""
    document = replace(yamlfile.read(file, TAGS), path=Path(shown))
    _check_tags(document)
    try:
        return document, PromptFile.model_validate(document.value)
    except ValidationError as error:
        raise faults.explain(document, error, PromptFile) from None


def _check_tags(document: yamlfile.Document) -> None:
    for at, tag in document.tags.items():
        here = {"!Template": 2, "!TemplateMetadata": 3}[tag]
        if len(at) != here or at[0] != "templates" or (here == 3 and at[2] != "metadata"):
            raise CatalogError(f"the tag {quoted(tag)} does not belong here", where=document.where(at))


def clashes(spec: PromptFile) -> bool:
    """Whether a template with choices of its own also reads a column of that name, which it needs under another."""
    return any(each.answer_choices and "choices" in _names(each) for each in spec.templates.values())


def _names(template: PromptTemplate) -> frozenset[str]:
    """Return the columns that a template and its choices read; none where they are not Jinja."""
    try:
        texts = (pieces.renamed(text, {}, _FILTERS) for text in (template.jinja, template.answer_choices or ""))
        return frozenset().union(*(pieces.effects(pieces.read(text)).reads for text in texts))
    except PieceError:
        return frozenset()


def template_entry(template: PromptTemplate, clash: bool) -> Entry:
    """Return a template as an entry of a template file.

    Args:
        template: promptsource's template.
        clash: whether the column `choices` is known to templates as `raw_choices`.

    Raises:
        PieceError: it cannot be one; with the reason.
    """
    own = bool(template.answer_choices and template.answer_choices.strip())
    jinja = pieces.renamed(template.jinja, {}, _FILTERS)
    parts = cut(pieces.renamed(jinja, _variables(jinja, own, clash), {}))
    _check_parts(parts)
    entry: dict[str, Value] = {"name": readable(template.name, "template"), "note": _note(template)}
    if languages := template.metadata.languages:
        entry["language"] = ", ".join(languages)
    entry |= {"undefined": "empty", "strip": True, "empty": "drop"}
    if own:
        entry |= _choices(str(template.answer_choices), {"choices": RAW_CHOICES} if clash else {})
    if parts.setup:
        entry["setup"] = parts.setup
    return {**entry, "instruction": parts.instruction, "output": parts.output}


def _variables(jinja: str, own_choices: bool, clash: bool) -> dict[str, str]:
    """Return the new names of a template's variables."""
    names = pieces.names(jinja)
    # taskmix keeps names that start with `_` to itself
    taken = set(names)
    private = sorted(name for name in names if name.startswith("_") and name.strip("_"))
    renamed = {name: unique(name.strip("_"), taken) for name in private}
    if own_choices and "choices" in pieces.effects(pieces.read(jinja)).stores:
        renamed["choices"] = "own_choices"
    elif clash:
        renamed["choices"] = RAW_CHOICES
    return {**renamed, "answer_choices": "choices"}


def _check_parts(parts: Parts) -> None:
    """Refuse what templates may not do and would fail on at every row."""
    for text, where in ((parts.instruction, "before"), (parts.output, "after")):
        if not text:
            raise PieceError(f"has nothing {where} `|||`: promptsource drops every row", 1)
    tree = pieces.parse("\n".join((parts.setup, parts.instruction, parts.output)))
    for call in tree.find_all(nodes.Call):
        if isinstance(call.node, nodes.Getattr) and call.node.attr not in _KNOWN_METHODS | {"cycle", "changed"}:
            raise PieceError(f"calls the method `{call.node.attr}`, which templates may not call", call.lineno)
    for rest in tree.find_all(nodes.Mod):
        if isinstance(rest.left, nodes.Const) and isinstance(rest.left.value, str):
            raise PieceError("`%` formats text here, which is not allowed: use `~`", rest.lineno)


def _choices(text: str, variables: dict[str, str]) -> dict[str, Value]:
    """Return `choices` as a list of words, or as the text that renders to one."""
    plain = all(kind == "data" for _, kind, _ in pieces.lex(text))
    if plain:
        return {"choices": [word.strip() for word in text.split(MARK)]}
    return {"choices": pieces.renamed(text, variables, _FILTERS).strip(), "choices_separator": MARK}


def _note(template: PromptTemplate) -> str:
    """Return promptsource's name, reference and metadata of a template."""
    data = template.metadata
    facts = [
        f"metrics: {', '.join(data.metrics)}" if data.metrics else "",
        {True: "the dataset's own task", False: "not the dataset's own task"}.get(data.original_task, ""),  # type: ignore[arg-type]
        "choices in the prompt" if data.choices_in_prompt else "",
    ]
    lines = [
        f"{template.name} ({template.id})",
        " ".join((template.reference or "").split()),
        "; ".join(fact for fact in facts if fact),
    ]
    return "\n".join(line for line in lines if line)


def _task_name(imported: ImportedFile) -> str:
    return readable("-".join(filter(None, (imported.dataset.replace("/", "-"), imported.subset))), "task")


def _task(imported: ImportedFile, ids: Mapping[str, str]) -> Entry:
    source: dict[str, Value] = {"hub": ids.get(imported.dataset, imported.dataset)}
    if imported.subset:
        source["config"] = imported.subset
    languages = dict.fromkeys(code for each in imported.templates for code in each.original.metadata.languages or ())
    task: dict[str, Value] = {"kind": "table", "cluster": readable(imported.dataset, "task"), "source": source}
    if imported.columns:
        task["columns"] = imported.columns
    if languages:
        task["language"] = next(iter(languages)) if len(languages) == 1 else list(languages)
    return task


def _template_file(imported: ImportedFile) -> TemplateFile:
    header = (
        f"From promptsource (https://github.com/bigscience-workshop/promptsource), Apache-2.0: {imported.file}\n"
        "Each template has its own words; promptsource's rules for undefined names, whitespace and empty rows are\n"
        "written out as options."
    )
    return TemplateFile(header, [each.entry for each in imported.templates])


def _read_ids(path: Path | None) -> Mapping[str, str]:
    """Read a map of a dataset's names. JSON is YAML as well, but for its escapes."""
    if path is None:
        return {}
    if path.suffix == ".json":
        try:
            value = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise CatalogError(f"cannot be read as JSON: {error}", where=str(path)) from None
    else:
        value = yamlfile.read(path).value
    if not isinstance(value, dict):
        raise CatalogError("is not a map of names to hub ids", where=str(path), hint="glue: nyu-mll/glue")
    try:
        return TypeAdapter(dict[str, HubId]).validate_python(value)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        raise CatalogError(f"{quoted(wrong['input'])} is no id of a dataset on the hub", where=str(path)) from None


def _refusals(error: TaskmixError, shown: str) -> Iterator[Refused]:
    """Yield a refusal for each fault of a file that is refused as a whole."""
    for each in (error, *error.more):
        line = each.where.rpartition(":")[2]
        yield Refused(shown, int(line) if line.isdigit() else 1, "the whole file", each.message)
