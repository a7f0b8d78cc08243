"""lm-evaluation-harness: one YAML file a task, with `include` between files and Jinja over a dataset's own columns.

What a task asks and what it should answer become one template. What only scores an answer has no place in a mixture
and is passed over; Python functions that make the text are refused.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from jinja2 import nodes
from pydantic import ValidationError

from taskmix.catalog import yamlfile
from taskmix.catalog.models import SourceSpec
from taskmix.errors import CatalogError, TaskmixError, UsageError
from taskmix.importers import pieces
from taskmix.importers.naming import readable, unique
from taskmix.importers.pieces import PieceError
from taskmix.importers.project import Entry, Project, Refused, TemplateFile, compile_entry
from taskmix.importers.writing import Value
from taskmix.text import quoted, visible

FUNCTION = "!function"
RAW_CHOICES = "raw_choices"
MAX_INCLUDES = 16
_PATTERNS = ("*.yaml", "*.yml", "*_yaml")
_IDENTIFIER = re.compile(r"[A-Za-z_]\w*")

_TEXT = frozenset(
    "task dataset_path dataset_name training_split validation_split test_split output_type description doc_to_text"
    " doc_to_target doc_to_choice target_delimiter include".split()
)
_NO_MATTER = frozenset(
    "aggregate_metric_list doc_to_decontamination_query fewshot_config fewshot_delimiter fewshot_split filter_list"
    " generation_kwargs group group_alias metadata metric_list num_fewshot process_results repeats should_decontaminate"
    " tag task_alias unsafe_code".split()
)
"""Keys about examples in the prompt, decoding and scoring: they do not change a task's own text."""

HEADER = """\
Imported from the lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness), MIT.
- kind: `table` where a template names the dataset's own columns and its choices; `text-generation` where the answer is
  one value, or a list of accepted ones.
- splits: a test split is `validation` here where the task has no other. Tasks without a train split are held out.
- cluster: the folder of the task, which says little of its skill. language and license: what the harness does not say;
  change them before you rely on them."""


@dataclass(frozen=True)
class _Given:
    """A key of a task: its value, where it stands, and whether a Python function is in it."""

    value: object
    file: str
    line: int
    is_function: bool


Config = Mapping[str, _Given]


class _RefusedError(Exception):
    """Why a task cannot be imported, and the key that it is about."""

    def __init__(self, reason: str, given: _Given | None = None) -> None:
        self.given = given
        super().__init__(reason)


@dataclass
class _Reader:
    """Reads files with what they include; nothing outside the root."""

    root: Path
    read: dict[Path, yamlfile.Document] = field(default_factory=dict)

    def shown(self, file: Path) -> str:
        """Return a file's name for messages."""
        return file.relative_to(self.root).as_posix()

    def document(self, file: Path) -> yamlfile.Document:
        """Return a file's document. Raises CatalogError."""
        if file not in self.read:
            self.read[file] = yamlfile.read(file, (FUNCTION,))
        return self.read[file]

    def config(self, file: Path, depth: int = 0) -> dict[str, _Given]:
        """Return the keys of a file, over those of the files that it includes.

        Raises:
            CatalogError: a file cannot be read.
            _RefusedError: an include leads outside, nowhere, or too deep.
        """
        document = self.document(file)
        if not isinstance(document.value, dict):
            raise _RefusedError("is not a mapping")
        functions = {at[0] for at in document.tags if at}
        own = {
            str(key): _Given(value, self.shown(file), document.line((str(key),)), str(key) in functions)
            for key, value in document.value.items()
        }
        merged: dict[str, _Given] = {}
        if (include := own.pop("include", None)) is not None:
            for name in _listed(include.value):
                merged |= self.config(self._included(file, name, include, depth), depth + 1)
        return merged | own

    def _included(self, file: Path, name: object, given: _Given, depth: int) -> Path:
        if not isinstance(name, str) or "\0" in name:
            raise _RefusedError(f"include: {quoted(name)} is no file", given)
        target = (file.parent / name).resolve()
        if not target.is_relative_to(self.root):
            raise _RefusedError(f"include: {quoted(name)} leads out of the folder that is imported", given)
        if not target.is_file():
            raise _RefusedError(f"include: there is no file {quoted(name)}", given)
        if depth >= MAX_INCLUDES:
            raise _RefusedError("include: files include each other, or one another too deeply", given)
        return target


@dataclass(frozen=True)
class _Imported:
    """A task as an entry of the catalog and a template."""

    name: str
    file: str
    entry: Entry
    template: Entry

    @property
    def trains(self) -> bool:
        """Whether it has a train split."""
        splits = self.entry["splits"]
        return isinstance(splits, Mapping) and "train" in splits


def import_lm_eval(path: Path) -> Project:
    """Import a checkout, a folder of tasks, or one task's file.

    Raises:
        UsageError: there are no task files.
    """
    root, files = _find_files(path)
    reader = _Reader(root)
    refused: list[Refused] = []
    imported: dict[str, _Imported] = {}
    taken: set[str] = set()
    groups = 0
    for file in files:
        found = _import_file(reader, file, refused)
        if found is None:
            groups += 1
        else:
            for each in found:
                imported[unique(readable(each.name, "task"), taken)] = each
    return Project(
        format="lm-eval",
        header=HEADER,
        tasks={name: each.entry for name, each in imported.items()},
        mixtures=_mixtures(imported),
        templates={
            name: TemplateFile(
                f"From the lm-evaluation-harness (https://github.com/EleutherAI/lm-evaluation-harness): {each.file}",
                [each.template],
            )
            for name, each in imported.items()
        },
        refused=refused,
        remarks=[f"no tasks themselves, but groups of tasks or parts of others: {groups:,} files"] if groups else [],
    )


def _find_files(path: Path) -> tuple[Path, list[Path]]:
    """Return the folder that includes may reach, and the files in it that may be tasks."""
    if path.is_file():
        return path.resolve().parent, [path.resolve()]
    root = path / "lm_eval" / "tasks"
    root = (root if root.is_dir() else path).resolve()
    found = {each.resolve() for pattern in _PATTERNS for each in root.rglob(pattern) if each.is_file()}
    # a link may lead anywhere: what it leads to is no part of what was named
    files = sorted(each for each in found if each.is_relative_to(root))
    if not files:
        raise UsageError(f"there are no YAML files in {path}", hint="name a checkout, or its lm_eval/tasks/")
    return root, files


def _import_file(reader: _Reader, file: Path, refused: list[Refused]) -> list[_Imported] | None:
    """Return the task of a file, none if it is refused; None where it is no task but a group or a part."""
    shown = reader.shown(file)
    name = file.stem
    try:
        value = reader.document(file).value
        if not isinstance(value, dict) or not isinstance(value.get("task"), str):
            return None
        name = value["task"]
        folder = file.relative_to(reader.root).parts[0] if file.parent != reader.root else file.parent.name
        return [_task(name, shown, reader.config(file), folder)]
    except _RefusedError as error:
        given = error.given
        refused.append(Refused(given.file if given else shown, given.line if given else 1, name, visible(str(error))))
    except CatalogError as error:
        line = error.where.rpartition(":")[2]
        refused.append(Refused(shown, int(line) if line.isdigit() else 1, name, visible(error.message)))
    return []


def _mixtures(imported: Mapping[str, _Imported]) -> Mapping[str, Entry]:
    """Return a mixture of all tasks; none where no task could train."""
    unseen = [name for name, each in imported.items() if not each.trains]
    if len(unseen) == len(imported):
        return {}
    mixture: dict[str, Value] = {
        "tasks": ["*"],
        "description": "Every task imported from the lm-evaluation-harness.",
    }
    if unseen:
        mixture["holdout"] = {"tasks": unseen}
    return {"lm-eval": mixture}


# One task


def _task(name: str, shown: str, config: Config, folder: str) -> _Imported:
    """Turn a task's keys into a catalog entry and a template. Raises _RefusedError."""
    _check_keys(config)
    kind = _text(config, "output_type") or "generate_until"
    if kind not in ("generate_until", "multiple_choice", "loglikelihood"):
        raise _RefusedError(f"output_type: {kind} asks for no answer", config["output_type"])
    asked = (_text(config, "description") or "") + _asked(config)
    if not asked:
        raise _RefusedError("doc_to_text is empty: it asks nothing", config.get("doc_to_text"))
    choices = _choices(config) if kind == "multiple_choice" else None
    columns: dict[str, Value] = {}
    if choices is not None:
        output = _chosen(config)
        if any("choices" in _reads(each, config) for each in (asked, output)):
            columns = {RAW_CHOICES: "choices"}
            asked = pieces.renamed(asked, {"choices": RAW_CHOICES}, {})
            output = pieces.renamed(output, {"choices": RAW_CHOICES}, {})
        output = output.replace(_CHOSEN, "choices")
    else:
        target, output = _target(config)
        columns = {"target": target} if target else {}
    template: dict[str, Value] = {"name": "prompt"}
    if choices is not None:
        template["choices"] = choices
    template |= {"instruction": asked, "ending": _delimiter(config), "output": output}
    try:
        compile_entry(template)
    except TaskmixError as error:
        raise _RefusedError(error.message, config.get("doc_to_text")) from None
    entry = _entry("text-generation" if "target" in columns else "table", config, columns, folder)
    return _Imported(name, shown, entry, template)


def _check_keys(config: Config) -> None:
    for key, given in config.items():
        if key in _NO_MATTER:
            continue
        if given.is_function:
            raise _RefusedError(f"{key} is a Python function", given)
        if given.value not in (None, {}, []) and key == "dataset_kwargs":
            _check_kwargs(given)
        elif key not in _TEXT and given.value not in (None, "", False, {}, []):
            raise _RefusedError(f"{key} is not supported", given)


def _check_kwargs(given: _Given) -> None:
    known = {"trust_remote_code", "metadata"}
    if not isinstance(given.value, dict) or set(given.value) - known:
        raise _RefusedError("dataset_kwargs choose the data in a way that a catalog cannot", given)


def _text(config: Config, key: str) -> str | None:
    """Return a text, None if it is not given. Raises _RefusedError if it is something else."""
    given = config.get(key)
    if given is None or given.value is None:
        return None
    if not isinstance(given.value, str):
        raise _RefusedError(f"{key} is {quoted(given.value)}, not a text", given)
    return given.value


def _asked(config: Config) -> str:
    """Return the Jinja of what a task asks."""
    text = _text(config, "doc_to_text")
    if text is None:
        raise _RefusedError("has no doc_to_text")
    return f"{{{{ {text} }}}}" if _IDENTIFIER.fullmatch(text) else text


def _delimiter(config: Config) -> str:
    given = config.get("target_delimiter")
    return " " if given is None or given.value is None else _text(config, "target_delimiter") or ""


def _choices(config: Config) -> Value:
    """Return the choices of a template: words, or an expression."""
    given = config.get("doc_to_choice")
    value = given.value if given else None
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list) and value and all(isinstance(each, str | int | float) for each in value):
        return [str(each) for each in value]
    if not isinstance(value, str) or not value.strip():
        raise _RefusedError("doc_to_choice is missing, or no list of words", given)
    if _IDENTIFIER.fullmatch(value):
        return f"{{{{ {value} }}}}"
    if _expression(value, given) is None:
        raise _RefusedError("doc_to_choice is text that Python would read as a list, not one expression", given)
    return value.strip()


_CHOSEN = "taskmix_choices"
"""Stands for the template's own choices while the column of that name gets another."""


def _chosen(config: Config) -> str:
    """Return the Jinja of the right choice: of its index, or the choice itself."""
    given = config.get("doc_to_target")
    value = given.value if given else None
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{{{{ {_CHOSEN}[{value}] }}}}"
    if not isinstance(value, str) or not value.strip():
        raise _RefusedError("doc_to_target is missing, or neither an index nor a text", given)
    if value.strip().isdigit():
        return f"{{{{ {_CHOSEN}[{value.strip()}] }}}}"
    if _IDENTIFIER.fullmatch(value):
        return f"{{{{ {_CHOSEN}[{value}] if {value} is integer else {value} }}}}"
    expression = _expression(value, given)
    if expression is not None and _is_index(expression):
        return f"{{{{ {_CHOSEN}[{_inner(value)}] }}}}"
    # digits are an index, as the harness has it; anything else is the choice itself
    return (
        f"{{%- set target %}}{value}{{% endset -%}}\n{{{{ {_CHOSEN}[target | int] if target.isdigit() else target }}}}"
    )


def _target(config: Config) -> tuple[str, str]:
    """Return the column or expression of a target, empty where it is a text of its own, and the output's Jinja."""
    given = config.get("doc_to_target")
    value = given.value if given else None
    if not isinstance(value, str) or not value.strip():
        raise _RefusedError("doc_to_target is missing, or no text", given)
    if _IDENTIFIER.fullmatch(value):
        return value, "{{ target }}"
    expression = _expression(value, given)
    if expression is not None:
        return expression.name if isinstance(expression, nodes.Name) else value.strip(), "{{ target }}"
    return "", value


def _expression(text: str, given: _Given | None) -> nodes.Expr | None:
    """Return the one expression that a text is, None if it is more or other than that."""
    try:
        body = pieces.parse(text.strip()).body
    except PieceError as error:
        raise _RefusedError(str(error), given) from None
    printed = body[0].nodes if len(body) == 1 and isinstance(body[0], nodes.Output) else []
    single = len(printed) == 1 and not isinstance(printed[0], nodes.TemplateData)
    return printed[0] if single and text.strip().startswith("{{") and text.strip().endswith("}}") else None


def _inner(text: str) -> str:
    return text.strip()[2:-2].strip("-").strip()


def _is_index(expression: nodes.Expr) -> bool:
    """Whether an expression is surely a whole number."""
    if isinstance(expression, nodes.Const):
        return isinstance(expression.value, int) and not isinstance(expression.value, bool)
    if isinstance(expression, nodes.Filter):
        return expression.name in ("int", "length", "count")
    if isinstance(expression, nodes.Call):
        return isinstance(expression.node, nodes.Getattr) and expression.node.attr in ("index", "find", "count")
    if isinstance(expression, nodes.Add | nodes.Sub):
        return _is_index(expression.left) and _is_index(expression.right)
    return False


def _reads(text: str, config: Config) -> frozenset[str]:
    try:
        return pieces.effects(pieces.read(text)).reads
    except PieceError as error:
        raise _RefusedError(str(error), config.get("doc_to_text")) from None


def _entry(kind: str, config: Config, columns: Mapping[str, Value], folder: str) -> Entry:
    path, subset = _text(config, "dataset_path"), _text(config, "dataset_name")
    if not path:
        raise _RefusedError("has no dataset_path")
    try:
        SourceSpec(hub=path, config=subset)
    except ValidationError:
        raise _RefusedError(
            f"the dataset {quoted(path)} {quoted(subset)} is none of the hub", config["dataset_path"]
        ) from None
    if path in ("json", "csv", "parquet", "text", "arrow"):
        raise _RefusedError(f"dataset_path: {path} is a reader of local files", config["dataset_path"])
    source: dict[str, Value] = {"hub": path, **({"config": subset} if subset else {})}
    splits = _splits(config)
    entry: dict[str, Value] = {"kind": kind, "cluster": readable(folder, "task"), "source": source, "splits": splits}
    return {**entry, **({"columns": columns} if columns else {})}


def _splits(config: Config) -> dict[str, Value]:
    train, *others = (_text(config, f"{name}_split") for name in ("training", "validation", "test"))
    unseen = next((each for each in others if each and each != train), None)
    splits: dict[str, Value] = {**({"train": train} if train else {}), **({"validation": unseen} if unseen else {})}
    if not splits:
        raise _RefusedError("names no split")
    return splits


def _listed(value: object) -> Iterable[object]:
    return value if isinstance(value, list) else [value]
