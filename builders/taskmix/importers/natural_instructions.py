"""Natural Instructions: one JSON file a task, with a definition, examples and instances.

An instance becomes a row of a Parquet file, and the definition a template of the task, alone and with two examples.
"""

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taskmix.errors import TaskmixError, UsageError
from taskmix.importers.naming import readable, unique
from taskmix.importers.project import Entry, Project, Refused, TemplateFile, compile_entry
from taskmix.importers.writing import Value
from taskmix.sources.jsonrows import decode
from taskmix.text import visible

MAX_BYTES = 1 << 30
SHARED_ORIGINS = frozenset(("natural-instructions-v1",))
"""Sources that name a collection rather than a dataset: the dataset is then in the task's name."""

EXAMPLES = 2
ROWS_TO_CUT = 100
"""From so many rows on a task that trains gets a validation split."""

_SCHEMA: Mapping[str, pl.DataType] = {"id": pl.String(), "input": pl.String(), "target": pl.List(pl.String)}
_TAGS = re.compile(r"\{[{%#]")
_NUMBERED = re.compile(r"task\d+_")
_CC = re.compile(r"cc[ -]by(?P<terms>(?:-(?:nc|sa|nd))*)[ -](?P<version>\d\.\d)", re.IGNORECASE)
_LICENCES: Mapping[str, str] = {
    "mit": "mit",
    "apache": "apache-2.0",
    "apache 2.0": "apache-2.0",
    "afl 3.0": "afl-3.0",
    "gfdl": "gfdl",
    "unknown": "unknown",
    "cc0: public domain": "cc0-1.0",
    "cc0": "cc0-1.0",
}
_LANGUAGES: Mapping[str, str] = dict(
    pair.split("=")
    for pair in (
        "afrikaans=af akan=ak albanian=sq amharic=am arabic=ar armenian=hy assamese=as azerbaijani=az basque=eu"
        " belarusian=be bengali=bn bosnian=bs bulgarian=bg burmese=my catalan=ca chinese=zh croatian=hr czech=cs"
        " danish=da dutch=nl english=en esperanto=eo estonian=et filipino=fil finnish=fi french=fr galician=gl"
        " georgian=ka german=de greek=el gujarati=gu haitian=ht hausa=ha hebrew=he hindi=hi hungarian=hu icelandic=is"
        " igbo=ig indonesian=id irish=ga italian=it japanese=ja javanese=jv kannada=kn kazakh=kk khmer=km"
        " kinyarwanda=rw korean=ko kurdish=ku kyrgyz=ky lao=lo latin=la latvian=lv lithuanian=lt macedonian=mk"
        " malagasy=mg malay=ms malayalam=ml maltese=mt maori=mi marathi=mr mongolian=mn nepali=ne norwegian=no"
        " oriya=or panjabi=pa pashto=ps persian=fa polish=pl portuguese=pt punjabi=pa romanian=ro russian=ru"
        " sanskrit=sa serbian=sr shona=sn sindhi=sd sinhala=si slovak=sk slovenian=sl somali=so spanish=es sundanese=su"
        " swahili=sw swedish=sv tagalog=tl tajik=tg tamil=ta tatar=tt telugu=te thai=th tigrinya=ti turkish=tr"
        " turkmen=tk uighur=ug ukrainian=uk urdu=ur uzbek=uz vietnamese=vi welsh=cy wolof=wo xhosa=xh yiddish=yi"
        " yoruba=yo zulu=zu"
    ).split()
)

HEADER = """\
Imported from Natural Instructions (https://github.com/allenai/natural-instructions), whose definitions and examples are
under Apache-2.0.
- cluster: the task's category; `v1` where version 1 of the collection gave it none.
- license: of the instances, as the task's file says; its words stand in the note where they are no licence's id.
- derived_from: the datasets that the task was made from, so that tasks of one dataset leave train together."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)


class Example(_Model):
    """A positive example. What explains it is not used."""

    input: str
    output: str | list[str]


class Instance(_Model):
    """One instance: an input and all accepted outputs."""

    id: str = ""
    input: str
    output: str | list[str]


class InstructionTask(_Model):
    """A task's file. Keys that say nothing about its rows or templates are passed over."""

    definition: Annotated[str | list[str], Field(alias="Definition", min_length=1)]
    examples: list[Example] = Field(alias="Positive Examples", default_factory=list)
    instances: list[Instance] = Field(alias="Instances", default_factory=list)
    categories: list[str] = Field(alias="Categories", default_factory=list)
    source: list[str] = Field(alias="Source", default_factory=list)
    url: list[str | None] = Field(alias="URL", default_factory=list)
    input_language: list[str] = Field(alias="Input_language", default_factory=list)
    output_language: list[str] = Field(alias="Output_language", default_factory=list)
    licence: str | list[str] = Field(alias="Instance License", default_factory=list)


@dataclass(frozen=True)
class _Imported:
    """A task with its rows, under the name that it had."""

    original: str
    task: InstructionTask
    rows: pl.DataFrame
    dropped: int


def import_natural_instructions(path: Path, test_tasks: Path | None = None) -> Project:
    """Import a checkout, its `tasks` folder, one task's file, or `definitions.json` with `instances.parquet` beside.

    Args:
        path: the folder or file.
        test_tasks: a file with one task's name a line; these are held out by the mixture.

    Raises:
        UsageError: there are no tasks, or none of the test tasks is among them.
    """
    refused: list[Refused] = []
    taken: set[str] = set()
    held = _read_names(test_tasks)
    named: dict[str, _Imported] = {}
    for each in _read(path, refused):
        named[unique(readable(each.original, "task"), taken)] = each
    held_names = [name for name, each in named.items() if each.original in held]
    if test_tasks is not None and not held_names:
        raise UsageError(f"none of the {len(held)} tasks that {test_tasks} names is in {path}")
    tests = set(held_names)
    mixture: dict[str, Value] = {"tasks": ["*"], "description": "Every task imported from Natural Instructions."}
    if held_names:
        mixture |= {"holdout": {"tasks": held_names}, "evaluation": {"rows": 100}}
    return Project(
        format="natural-instructions",
        header=HEADER,
        tasks={name: _entry(name, each, name in tests) for name, each in named.items()},
        mixtures={"natural-instructions": mixture},
        templates={name: _template_file(each) for name, each in named.items()},
        refused=refused,
        data={f"data/{name}.parquet": functools.partial(_write_rows, each.rows) for name, each in named.items()},
        remarks=_remarks(named.values(), held, test_tasks),
    )


def _remarks(imported: Iterable[_Imported], held: frozenset[str], test_tasks: Path | None) -> list[str]:
    found = list(imported)
    dropped = sum(each.dropped for each in found)
    missing = len(held - {each.original for each in found})
    remarks = [f"instances left out for want of an output: {dropped:,}"] if dropped else []
    if missing:
        remarks.append(f"tasks in {test_tasks} that are not here: {missing} of {len(held)}")
    return remarks


def _read_names(path: Path | None) -> frozenset[str]:
    if path is None:
        return frozenset()
    try:
        lines = path.read_text("utf-8").split()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} cannot be read: {error}") from None
    return frozenset(line.removesuffix(".json") for line in lines)


# Reading


def _read(path: Path, refused: list[Refused]) -> Iterator[_Imported]:
    """Yield the tasks of a folder or file in the order of their names; note what is no task."""
    if path.is_file():
        files, root = [path], path.parent
    else:
        root = path / "tasks" if (path / "tasks").is_dir() else path
        inside = root.resolve()
        # a link may lead anywhere: what it leads to is no part of what was named
        files = [each for each in sorted(root.glob("*.json")) if each.resolve().parent == inside]
    if not files:
        raise UsageError(f"there are no tasks in {path}", hint="name a checkout of natural-instructions, or its tasks/")
    for file in files:
        shown = file.relative_to(root).as_posix()
        try:
            value = _decoded(file)
            if isinstance(value, list):
                yield from _compact(value, file.parent / "instances.parquet", shown, refused)
            else:
                yield _task(file.stem, value)
        except (ValueError, TaskmixError) as error:
            message = error.message if isinstance(error, TaskmixError) else str(error)
            refused.append(Refused(shown, 1, file.stem, visible(message)))


def _decoded(file: Path) -> object:
    """Return the value of a JSON file. Raises ValueError."""
    try:
        if file.stat().st_size > MAX_BYTES:
            raise ValueError(f"the file is larger than {MAX_BYTES >> 20} MiB")
        # some files have NaN for an unknown address
        return decode(file.read_text("utf-8"), nan_as_null=True)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def _task(name: str, value: object, rows: pl.DataFrame | None = None) -> _Imported:
    """Check one task. Raises ValueError with the reason if it is none."""
    try:
        task = InstructionTask.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise ValueError(f"{place}: {first['msg'].lower()}" if place else "is no task") from None
    if rows is None:
        rows = pl.DataFrame([_row(each) for each in task.instances], schema=_SCHEMA, orient="row")
    kept = rows.filter(pl.col("target").list.len() > 0)
    if not len(kept):
        raise ValueError("has no instances with an output")
    for entry in _templates(task):
        compile_entry(entry)
    return _Imported(name, task, kept, len(rows) - len(kept))


def _row(instance: Instance) -> tuple[str, str, list[str]]:
    return instance.id, instance.input, _outputs(_listed(instance.output))


def _outputs(outputs: Iterable[str]) -> list[str]:
    """Return the outputs that are not empty, each once."""
    return list(dict.fromkeys(each for each in outputs if each.strip()))


def _compact(values: list[object], instances: Path, shown: str, refused: list[Refused]) -> Iterator[_Imported]:
    """Yield the tasks of a list of definitions, whose instances are in one Parquet file."""
    try:
        rows = pl.read_parquet(instances, columns=["task_name", "id", "inputs", "targets"], glob=False)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise UsageError(f"{shown} is a list: {instances.name} beside it cannot be read: {error}") from None
    by_task = {str(name): frame for (name,), frame in rows.group_by("task_name", maintain_order=True)}
    for index, value in enumerate(values):
        name = str(value.get("task_name", "")) if isinstance(value, dict) else ""
        try:
            if name not in by_task:
                raise ValueError("has no instances")
            targets = [_outputs(each) for each in by_task[name]["targets"].to_list()]
            frame = by_task[name].select("id", pl.col("inputs").alias("input"))
            yield _task(name, value, frame.with_columns(target=pl.Series(targets, dtype=pl.List(pl.String))))
        except (ValueError, TaskmixError) as error:
            refused.append(Refused(shown, 1, name or f"entry {index}", visible(str(error))))


def _write_rows(rows: pl.DataFrame, path: Path) -> None:
    rows.write_parquet(path)


# The catalog's entries and the templates


def _entry(name: str, imported: _Imported, held: bool) -> Entry:
    task = imported.task
    licences, words = _licences(_listed(task.licence))
    entry: dict[str, Value] = {
        "kind": "text-generation",
        "cluster": readable(task.categories[0], "task") if task.categories else "task",
        "source": {"path": f"data/{name}.parquet"},
        "splits": {"train": "train"},
    }
    if not held and len(imported.rows) >= ROWS_TO_CUT:
        entry["splits"] = {"train": "train", "validation": {"from": "train", "fraction": 0.1}}
    entry["language"] = _one_or_all(_languages([*task.input_language, *task.output_language]))
    entry["license"] = _one_or_all(licences)
    entry["derived_from"] = _origins(imported.original, task.source)
    notes = [*(f"Licence: {each}." for each in words), *(f"From {each}." for each in task.url[:1] if each)]
    if notes:
        entry["note"] = " ".join(" ".join(notes).split())
    return entry


def _languages(names: Iterable[str]) -> list[str]:
    found = (_LANGUAGES.get(name.strip().lower(), name.strip().lower()) for name in names)
    return list(dict.fromkeys(found)) or ["en"]


def _licences(texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """Return the ids of licences, and the words of those that have none."""
    ids, words = [], []
    for text in texts:
        creative = _CC.fullmatch(text.strip())
        known = f"cc-by{creative['terms'].lower()}-{creative['version']}" if creative else ""
        found = known or _LICENCES.get(text.strip().lower())
        ids.append(found or "other")
        if found is None:
            words.append(text.strip())
    return list(dict.fromkeys(ids)) or ["unknown"], words


def _origins(name: str, sources: Iterable[str]) -> list[str]:
    """Return the datasets that a task was made from, without the addresses behind their names."""
    found = []
    for source in sources:
        plain = source.partition("(")[0].strip().lower()
        if plain in SHARED_ORIGINS:
            plain = _NUMBERED.sub("", name).partition("_")[0]
        found.append(plain)
    return list(dict.fromkeys(each for each in found if each))


def _template_file(imported: _Imported) -> TemplateFile:
    return TemplateFile(
        f"From Natural Instructions (https://github.com/allenai/natural-instructions), Apache-2.0: {imported.original}",
        _templates(imported.task),
    )


def _templates(task: InstructionTask) -> list[Entry]:
    """Return the definition as a template, and the definition with the first positive examples as another."""
    found: list[Entry] = []
    definitions = [text for each in _listed(task.definition) if (text := _plain(each))]
    if not definitions:
        raise ValueError("its definition is empty")
    for number, definition in enumerate(definitions, 1):
        suffix = f"-{number}" if number > 1 else ""
        found.append(
            {
                "name": f"definition{suffix}",
                "instruction": _escaped(definition),
                "input": "{{ input }}",
                "output": "{{ target }}",
            }
        )
        if shown := task.examples[:EXAMPLES]:
            count = "an-example" if len(shown) == 1 else f"{len(shown)}-examples"
            found.append(
                {
                    "name": f"definition-and-{count}{suffix}",
                    "instruction": _escaped("\n\n".join([definition, *map(_shown, shown)])),
                    "input": "Input: {{ input }}",
                    "ending": "\nOutput: ",
                    "output": "{{ target }}",
                    "few_shot": False,
                }
            )
    return found


def _shown(example: Example) -> str:
    return f"Input: {_plain(example.input)}\nOutput: {_plain((_listed(example.output) or [''])[0])}"


def _plain(text: str) -> str:
    """Return text with the line breaks that Jinja keeps, and none at its ends."""
    return re.sub(r"\r\n?", "\n", text).strip()


def _escaped(text: str) -> str:
    """Return Jinja that renders as the text.

    >>> _escaped("Fill in {{name}} or {%s}.")
    'Fill in {{ "{{" }}name}} or {{ "{%" }}s}.'
    """
    return _TAGS.sub(lambda found: f'{{{{ "{found[0]}" }}}}', text)


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def _one_or_all(values: Sequence[str]) -> Value:
    return values[0] if len(values) == 1 else list(values)
