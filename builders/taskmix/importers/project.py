"""What an import makes: a project folder with a catalog, template files and perhaps data, whole or not at all."""

import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from taskmix.catalog import yamlfile
from taskmix.catalog.models import CatalogSpec, json_schema
from taskmix.errors import OutputError, TaskmixError
from taskmix.importers import writing
from taskmix.importers.writing import Value
from taskmix.output.folder import exchange, previous
from taskmix.templates.files import Template, templates_in
from taskmix.text import visible

SUMMARY = "import.json"
Entry = Mapping[str, Value]


@dataclass(frozen=True)
class Refused:
    """What could not be imported: where it stands, what it is, and why."""

    file: str
    line: int
    name: str
    reason: str


@dataclass(frozen=True)
class TemplateFile:
    """A template file to write: comment lines at its top, and its templates."""

    header: str
    templates: Sequence[Entry]


@dataclass(frozen=True)
class Project:
    """A catalog with its template files, the writers of its data files by path, and what was refused.

    `remarks` are about what was left out for a reason of its own.
    """

    format: str
    header: str
    tasks: Mapping[str, Entry]
    mixtures: Mapping[str, Entry]
    templates: Mapping[str, TemplateFile]
    refused: Sequence[Refused] = ()
    data: Mapping[str, Callable[[Path], None]] = field(default_factory=dict)
    remarks: Sequence[str] = ()

    @property
    def summary(self) -> dict[str, Any]:
        """Return what was imported and refused, as plain values."""
        return {
            "format": self.format,
            "tasks": len(self.tasks),
            "templates": sum(len(file.templates) for file in self.templates.values()),
            "remarks": list(self.remarks),
            "refused": [{name: getattr(each, name) for name in each.__annotations__} for each in self.refused],
        }


def catalog_text(project: Project) -> str:
    """Return the text of the catalog, checked to say what it should."""
    values: dict[str, Value] = {"version": 1, "tasks": project.tasks, "mixtures": project.mixtures}
    if project.mixtures:
        values["default_mixture"] = next(iter(project.mixtures))
    text = writing.comment(project.header)
    for key, value in values.items():
        if key in ("tasks", "mixtures"):
            assert isinstance(value, Mapping)
            entries = "\n".join(writing.mapping({name: each}, 2) for name, each in value.items())
            text += f"\n{key}:\n{entries}"
        else:
            text += ("\n" if key != "version" else "") + writing.mapping({key: value})
    writing.check(text, values, "catalog.yaml")
    CatalogSpec.model_validate(yamlfile.parse(text, Path("catalog.yaml")).value, by_alias=True)
    return text


def template_text(file: TemplateFile, name: str) -> str:
    """Return the text of a template file, checked to say what it should."""
    text = writing.comment(file.header) + "\n".join(writing.items([each]) for each in file.templates)
    writing.check(text, list(file.templates), name)
    return text


def compile_entry(entry: Entry) -> Template:
    """Compile a template as it will be when its file is read. Raises TemplateError with the line in the entry."""
    return templates_in(yamlfile.parse(writing.items([entry]), Path("template")))[0]


def write(project: Project, out: Path, *, force: bool = False) -> list[Path]:
    """Write a project folder and return its files.

    It is made beside its final name and renamed, so that it is there whole or not at all. With `force` it takes the
    place of an earlier import, whose edits are lost; never that of any other folder.

    Raises:
        OutputError: the folder exists, is no import to replace, or cannot be written.
        TaskmixError: nothing was imported.
    """
    if not project.tasks:
        raise TaskmixError("nothing was imported", hint=_reasons(project.refused))
    final = Path(os.path.realpath(out))
    _check_target(final, out, force)
    files = {
        "catalog.yaml": catalog_text(project),
        **{f"templates/{name}.yaml": template_text(each, f"{name}.yaml") for name, each in project.templates.items()},
        "catalog.schema.json": json.dumps(json_schema(), indent=1) + "\n",
        SUMMARY: json.dumps(project.summary, indent=1, ensure_ascii=False) + "\n",
        ".gitignore": "mixtures/\n",
    }
    building = final.parent / f".{final.name}.importing-{os.getpid()}"
    try:
        shutil.rmtree(building, ignore_errors=True)
        for name, text in files.items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            (building / name).write_bytes(text.encode("utf-8"))
        for name, write_data in project.data.items():
            (building / name).parent.mkdir(parents=True, exist_ok=True)
            write_data(building / name)
        exchange(building, final)
        # an earlier import, where the system cannot exchange two folders
        shutil.rmtree(previous(final), ignore_errors=True)
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror}", where=str(out)) from None
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return [out / name for name in (*files, *project.data)]


def _check_target(final: Path, out: Path, force: bool) -> None:
    if not final.exists() or (final.is_dir() and not any(final.iterdir())):
        return
    if not (final / SUMMARY).is_file():
        raise OutputError("the folder is not empty, and no import made it", where=str(out), hint="name a new one")
    if not force:
        raise OutputError(
            "an import is there already", where=str(out), hint="name another with --out, or replace it with --force"
        )


def _reasons(refused: Sequence[Refused]) -> str:
    lines = [f"{each.file}:{each.line}: {each.name}: {each.reason}" for each in refused[:20]]
    more = [f"… and {len(refused) - 20} more"] if len(refused) > 20 else []
    return visible("\n".join(lines + more))
