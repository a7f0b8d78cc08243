"""Render rows of the shared datasets by a second, naive reading of the catalog: plain Jinja, PyYAML and pyarrow.

    python oracle.py JOB.json RESULT.json

It stands apart from taskmix, whose output it judges: it imports none of it, and works row by row with what the
contracts say and nothing else. The job names the catalogs (one's own, then the built-in one), the folder of
datasets, the tasks to describe, and rows to render:

    {"catalogs": [FILE, …], "data": DIR, "tasks": [NAME, …], "rows": [[TASK, SOURCE_SPLIT, SOURCE_ROW, TEMPLATE], …]}

The result has `tasks`, by name (see `describe`), and `rows`, in the job's order (see `render`).
"""

import functools
import hashlib
import json
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import pyarrow as pa
import pyarrow.parquet as pq
import yaml
from jinja2 import meta

Row = dict[str, Any]
ASKED = {
    "text-classification": ("text", "text_pair"),
    "token-classification": ("tokens",),
    "question-answering": ("context", "question"),
    "multiple-choice": ("context", "question", "choices"),
    "text-generation": ("input",),
}
ACCEPTED = {"question-answering": ("answer", "answers"), "text-generation": ("target", "targets")}

env = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True)
env.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
env.filters["without"] = lambda text, start, end: re.sub(f"{re.escape(start)}.*?{re.escape(end)}", "", text, flags=re.S)


@dataclass(frozen=True)
class Task:
    """A task's entry in its catalog, the folder of its Parquet files, and where its templates may lie."""

    name: str
    spec: Mapping[str, Any]
    folder: Path
    template_folders: Sequence[Path]

    @property
    def kind(self) -> str:
        return str(self.spec["kind"])

    @property
    def splits(self) -> Mapping[str, Any]:
        present = {name: name for name in ("train", "validation") if (self.folder / f"{name}.parquet").exists()}
        return self.spec.get("splits") or present

    def source_split(self, split: str) -> str:
        theirs = self.splits[split]
        return self.source_split(theirs["from"]) if isinstance(theirs, dict) else str(theirs)


# -- from a source's row to a template's variables


@functools.cache
def table(task_folder: Path, source_split: str) -> pa.Table:
    return pq.read_table(task_folder / f"{source_split}.parquet")


@functools.cache
def expression(text: str) -> Callable[..., Any]:
    return env.compile_expression(text.strip()[2:-2], undefined_to_none=False)


def mapped(mapping: str | Sequence[str], raw: Row) -> Any:
    """Return the value of one entry of `columns`."""
    if not isinstance(mapping, str):
        return [mapped(each, raw) for each in mapping]
    if mapping.strip().startswith("{{"):
        return expression(mapping)(**raw)
    value: Any = raw
    for field in mapping.split("."):
        value = [item[field] for item in value] if isinstance(value, list) else value[field]
    return value


def class_names(task: Task, source_split: str, column: str) -> list[str]:
    """Return the ClassLabel names of a column, or of the items of a list column."""
    found = (table(task.folder, source_split).schema.metadata or {}).get(b"huggingface", b"{}")
    feature = json.loads(found).get("info", {}).get("features", {}).get(column)
    while isinstance(feature, list) or (isinstance(feature, dict) and feature.get("_type") in ("Sequence", "List")):
        feature = feature[0] if isinstance(feature, list) else feature["feature"]
    return list(feature.get("names", [])) if isinstance(feature, dict) else []


def label_words(task: Task, source_split: str) -> tuple[list[str], dict[Any, int]]:
    """Return the words of the labels in order, and the index of every value that the source may hold."""
    canonical = "tags" if task.kind == "token-classification" else "label"
    names = class_names(task, source_split, task.spec.get("columns", {}).get(canonical, canonical))
    given = task.spec.get("labels", names)
    if isinstance(given, dict):
        words = list(dict.fromkeys(given.values()))
        index = {value: words.index(word) for value, word in given.items()}
        return words, index | {number: index[name] for number, name in enumerate(names) if name in index}
    return given, {number: number for number in range(len(given))} | {word: i for i, word in enumerate(given)}


def entities(tokens: Sequence[str], tags: Sequence[str]) -> list[Row]:
    """Return the spans that BIO tags mark."""
    found: list[Row] = []
    for position, tag in enumerate(tags):
        goes_on = tag[0] == "I" and position > 0 and tags[position - 1][1:] == tag[1:]
        if goes_on:
            found[-1]["end"] = position + 1
        elif tag != "O":
            found.append({"type": tag[2:], "start": position, "end": position + 1})
    return [{"text": " ".join(tokens[span["start"] : span["end"]]), **span} for span in found]


def named(task: Task, raw: Row) -> Row:
    """Return a row with the columns that the catalog names beside the source's own."""
    return raw | {name: mapped(mapping, raw) for name, mapping in task.spec.get("columns", {}).items()}


def variables(task: Task, source_split: str, raw: Row) -> Row:
    """Return what a template of the task may name."""
    row = named(task, raw)
    return row | CANONICAL[task.kind](task, source_split, row)


def text_classification(task: Task, source_split: str, row: Row) -> Row:
    words, index = label_words(task, source_split)
    label = row["label"]
    found = [index[each] for each in label] if isinstance(label, list) else index[label]
    return {"label": found, "choices": words, "text_pair": row.get("text_pair")}


def token_classification(task: Task, source_split: str, row: Row) -> Row:
    words, index = label_words(task, source_split)
    tags = [words[index[tag]] for tag in row["tags"]]
    types = list(dict.fromkeys(word[2:] for word in words if word != "O"))
    text, spans = " ".join(row["tokens"]), entities(row["tokens"], tags)
    return {"tags": tags, "text": text, "types": types, "choices": types, "entities": spans}


def question_answering(task: Task, source_split: str, row: Row) -> Row:
    texts = mapped("text", row["answers"]) if isinstance(row["answers"], dict) else mapped("answers.text", row)
    return {"answers": texts, "answer": texts[0] if texts else ""}


def multiple_choice(task: Task, source_split: str, row: Row) -> Row:
    if "keys" in row:
        label = row["keys"].index(row["label"])
    elif "labels" in task.spec:
        label = label_words(task, source_split)[1][row["label"]]
    else:
        label = row["label"]
    return {"label": label, "context": row.get("context"), "rationale": row.get("rationale")}


def text_generation(task: Task, source_split: str, row: Row) -> Row:
    targets = row["target"] if isinstance(row["target"], list) else [row["target"]]
    optional = {"input": row.get("input"), "rationale": row.get("rationale")}
    return {"targets": targets, "target": targets[0], **optional}


CANONICAL: Mapping[str, Callable[[Task, str, Row], Row]] = {
    "text-classification": text_classification,
    "token-classification": token_classification,
    "question-answering": question_answering,
    "multiple-choice": multiple_choice,
    "text-generation": text_generation,
}


# -- templates


def template_file(task: Task, row: Row) -> Path:
    """Return the file that the task names, or its own, or that of its kind and shape."""
    shape = ""
    if task.kind == "text-classification":
        shape = "-multi-label" if isinstance(row["label"], list) else "-pair" if row["text_pair"] is not None else ""
    for name in (task.spec.get("templates", task.name), task.kind + shape):
        for folder in task.template_folders:
            if (folder / f"{name}.yaml").exists():
                return folder / f"{name}.yaml"
    raise FileNotFoundError(task.name)


@functools.cache
def templates(file: Path) -> dict[str, Row]:
    return {each["name"]: each for each in yaml.safe_load(file.read_text("utf-8"))}


@functools.cache
def compiled(text: str) -> jinja2.Template:
    return env.from_string(text)


@functools.cache
def names_of(text: str) -> frozenset[str]:
    return frozenset(meta.find_undeclared_variables(env.parse(text)))


def render(task: Task, source_split: str, source_row: int, template: str) -> Row:
    """Render one row: prompt and completion, and what an evaluation split lists beside them."""
    raw = table(task.folder, source_split).slice(source_row, 1).to_pylist()[0]
    row = variables(task, source_split, raw)
    spec = templates(template_file(task, row))[template]
    if "choices" in spec:
        own = spec["choices"]
        row["choices"] = expression(own)(**row) if isinstance(own, str) else own
    instruction, given = (compiled(spec.get(part, "")).render(row) for part in ("instruction", "input"))
    between = spec.get("separator", "\n\n") if instruction and given else ""
    return {
        "prompt": instruction + between + given + spec.get("ending", "\n\n"),
        "completion": compiled(spec["output"]).render(row),
        **alternatives(task, spec["output"], row),
    }


def alternatives(task: Task, output: str, row: Row) -> Row:
    """Return the output for every label and for every accepted answer."""
    names, template = names_of(output), compiled(output)
    one, every = ACCEPTED.get(task.kind, ("", ""))
    accepted = row[every] if one in names else []
    references = [template.render(row | {one: each}) for each in accepted] or [template.render(row)]
    has_one_label = task.kind in ("text-classification", "multiple-choice") and isinstance(row["label"], int)
    if not (has_one_label and "label" in names and names <= {"label", "choices"}):
        return {"choices": None, "answer": None, "references": references}
    choices = [template.render(row | {"label": label}) for label in range(len(row["choices"]))]
    return {"choices": choices, "answer": row["label"], "references": references}


# -- what the catalog makes of a dataset


def describe(task: Task, data: Path) -> Row:
    """Say what a task's splits should hold, from the Parquet files alone.

    `splits` gives for each of ours the source's split, its rows, those that `where` keeps, and the share that it
    is of them (null: all, or what a cut leaves over). `asked` has a digest of what each row asks, where one split
    is cut from another; null otherwise.
    """
    splits: dict[str, Row] = {}
    for name in task.splits:
        source_split = task.source_split(name)
        rows = table(task.folder, source_split).num_rows
        kept = len(kept_rows(task, source_split)) if "where" in task.spec else rows
        share = task.splits[name]["fraction"] if isinstance(task.splits[name], dict) else None
        splits[name] = {"source_split": source_split, "rows": rows, "kept": kept, "share": share}
    cut = any(split["share"] for split in splits.values())
    first = task.source_split("train")
    file = template_file(task, variables(task, first, table(task.folder, first).slice(0, 1).to_pylist()[0]))
    return {
        "kind": task.kind,
        "cluster": task.spec["cluster"],
        "folder": task.folder.relative_to(data).as_posix(),
        "splits": splits,
        "templates": {name: spec.get("style", "zero-shot") for name, spec in templates(file).items()},
        "asked": [digest(task, first, raw) for raw in table(task.folder, first).to_pylist()] if cut else None,
    }


def kept_rows(task: Task, source_split: str) -> list[int]:
    keep = expression(task.spec["where"])
    return [i for i, raw in enumerate(table(task.folder, source_split).to_pylist()) if keep(**named(task, raw))]


def digest(task: Task, source_split: str, raw: Row) -> str:
    row = named(task, raw)
    asked = [row.get(name) for name in ASKED[task.kind]]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def read_tasks(catalogs: Sequence[Path], data: Path) -> dict[str, Task]:
    found = {}
    for file in reversed(catalogs):
        folders = list(dict.fromkeys((file.parent / "templates", catalogs[-1].parent / "templates")))
        for name, spec in yaml.safe_load(file.read_text("utf-8"))["tasks"].items():
            if "hub" in spec["source"]:
                folder = data / spec["source"]["hub"] / spec["source"].get("config", "")
                found[name] = Task(name, spec, folder, folders)
    return found


def main(job_file: str, result_file: str) -> None:
    assert "taskmix" not in sys.modules
    job = json.loads(Path(job_file).read_text("utf-8"))
    data = Path(job["data"])
    tasks = read_tasks([Path(each) for each in job["catalogs"]], data)
    result = {
        "tasks": {name: describe(tasks[name], data) for name in job["tasks"]},
        "rows": [render(tasks[task], *where) for task, *where in job["rows"]],
    }
    Path(result_file).write_text(json.dumps(result), "utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
