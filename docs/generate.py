"""Write the generated parts of the documentation from the code that they describe.

    python docs/generate.py            write them
    python docs/generate.py --check    exit 1 if any is out of date

`help.md` and `catalog.schema.json` are generated as a whole. In the other pages a generated part stands between
`<!-- generated: NAME -->` and `<!-- end -->`; everything around it is written by hand.
"""

import dataclasses
import functools
import json
import re
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import click
import polars as pl
from click.testing import CliRunner

import taskmix
from taskmix.catalog import builtin
from taskmix.catalog.models import MixtureSpec, json_schema
from taskmix.cli import main
from taskmix.kinds import KINDS, Kind
from taskmix.linting.rules import RULES
from taskmix.output.formats import FORMATS
from taskmix.tasks.opening import open_task
from taskmix.tasks.task import Task
from taskmix.templates import parts, sandbox
from taskmix.templates.rowwise import Workers
from taskmix_trainer.evaluation import metrics

DOCS = Path(__file__).parent
HELP_WIDTH = 100
WORKERS = Workers(1)
MEANINGS: Mapping[str, str] = {
    "id": "a hash of task, split, source row, template and style; unique in the mixture",
    "task": "the task's name in the catalog",
    "cluster": "the task's cluster",
    "template": "the template's name in its file",
    "style": "how the example is posed: `zero-shot`, or sorted words joined by `+`, such as `few-shot+options`",
    "source_split": "the split of the source, by the source's own name",
    "source_row": "the row in that split, from 0, before any cut or filter",
    "choices": "the completion for each label, in label order; null in train, and where no single label decides",
    "answer": "the index of the right one of `choices`; null where `choices` is",
    "references": "every completion that counts as right; null in train",
}

SEEN: Mapping[str, str] = {
    "label": "the position of the right label or option, from 0; a list of them if the task is multi-label",
    "choices": "the options",
    "tags": "the tag names, one a token",
    "answers": "all accepted answers; empty if the question has none",
    "target": "the text to write: the first that is accepted",
}
"""Canonical columns that a template sees in another form than the catalog maps them in."""

_PART = re.compile(r"(<!-- generated: ([\w: -]+) -->\n).*?(<!-- end -->)", re.DOTALL)
_FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
_SECTION = re.compile(r"^(?=#{2,} )", re.MULTILINE)
_TEMPLATE_FILE = re.compile(r"# (templates/[\w.-]+\.yaml)\n")


@dataclasses.dataclass(frozen=True)
class Example:
    """The code blocks of one section of a page: rows of a dataset, a catalog, template files by path."""

    rows: str
    catalog: str
    templates: Mapping[str, str]


def sections(page: str) -> list[str]:
    """Return the sections of a page, each from its heading on."""
    return _SECTION.split(page)


def blocks(text: str, language: str) -> list[str]:
    """Return the content of the fenced blocks of a language."""
    return [code for found, code in _FENCED.findall(text) if found == language]


def example(section: str) -> Example:
    """Return the code blocks of a section; a YAML block that starts `# templates/NAME.yaml` is that file."""
    catalog, templates = "", {}
    for code in blocks(_PART.sub("", section), "yaml"):
        if file := _TEMPLATE_FILE.match(code):
            templates[file[1]] = code
        else:
            catalog += code if code.startswith("version:") else f"version: 1\n{code}"
    return Example("".join(blocks(_PART.sub("", section), "json")), catalog, templates)


def open_example(found: Example, folder: Path) -> list[Task]:
    """Write an example below a folder, its rows as every dataset that its tasks name, and open the tasks."""
    for name, text in {**found.templates, "catalog.yaml": found.catalog}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, "utf-8")
    catalog = taskmix.load_catalog(folder / "catalog.yaml")
    own = [task for task in catalog.tasks.values() if task.root == folder]
    rows = pl.DataFrame([json.loads(line) for line in found.rows.splitlines()])
    for task in own:
        source = task.spec.source
        theirs = [each for each in (task.spec.splits or {"train": "train"}).values() if isinstance(each, str)]
        if source.hub is not None:
            files = [folder / "mirror" / source.hub / (source.config or "") / f"{split}.parquet" for split in theirs]
        else:
            path = folder / str(source.path)
            files = [path] if path.suffix else [path / f"{split}.jsonl" for split in theirs]
        for file in files:
            file.parent.mkdir(parents=True, exist_ok=True)
            if file.suffix == ".parquet":
                rows.write_parquet(file)
            else:
                rows.write_ndjson(file)
    return [open_task(task, folder / "mirror", WORKERS) for task in own]


def variables(task: Task) -> Mapping[str, object]:
    """Return what a template can name for a task's first row: canonical and mapped columns, nulls left out."""
    names = task.kind.names | {each.name for each in task.maps}
    for split in task.splits.values():
        for batch in task.batches(split, names):
            for row in batch.rows(named=True):
                shown = {name: row[name] for name in sorted(row) if name in names}
                return {name: value for name, value in shown.items() if value is not None}
    raise AssertionError(task.name)


def _what_a_template_sees(section: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        first = open_example(example(section), Path(folder))[0]
        lines = [f"{json.dumps(name)}: {_json(value)}" for name, value in variables(first).items()]
    return "```json\n{" + ",\n ".join(lines) + "}\n```"


def _kind_columns(_: str) -> str:
    head = ("kind", "column", "needed", "what it is")
    rows = [
        (f"`{kind.name}`", f"`{name}`", "yes" if column.required else "no", column.meaning)
        for kind in KINDS.values()
        for name, column in kind.columns.items()
    ]
    return _table(head, rows)


def _kind_variables(_: str) -> str:
    return "\n\n".join(_variables_of(kind) for kind in KINDS.values() if kind.name not in ("conversation", "table"))


def _variables_of(kind: Kind) -> str:
    names = {name: SEEN.get(name, column.meaning) for name, column in kind.columns.items()}
    optional = {name for name, column in kind.columns.items() if not column.required}
    names = {name: f"{text}; null if the task has none" if name in optional else text for name, text in names.items()}
    schema = _canonical_schema(kind)
    rows = [(f"`{name}`", _type(schema[name]), meaning) for name, meaning in {**names, **kind.variables}.items()]
    return f"### `{kind.name}`\n\nMetric: {kind.metric}. Classic head: {kind.head}.\n\n" + _table(
        ("variable", "type", "what it is"), rows
    )


def _canonical_schema(kind: Kind) -> pl.Schema:
    """Return the types of a kind's variables, from the first starter task of the kind."""
    catalog = taskmix.load_catalog(builtin.catalog_path())
    entry = next(task for task in catalog.tasks.values() if task.spec.kind == kind.name and task.spec.source.path)
    task = open_task(entry, None, WORKERS)
    return next(task.batches(task.splits["train"], kind.names)).schema


def _type(dtype: pl.DataType) -> str:
    if isinstance(dtype, pl.List):
        return f"list of {_type(dtype.inner)}"  # type: ignore[arg-type]
    if isinstance(dtype, pl.Struct):
        return f"mapping of {', '.join(each.name for each in dtype.fields)}"
    return "text" if dtype == pl.String else "integer" if dtype.is_integer() else str(dtype)


def _filters(_: str) -> str:
    return _listed(parts.environment().filters)


def _methods(_: str) -> str:
    return _table(("type", "methods"), [(f"`{of.__name__}`", _listed(found)) for of, found in sandbox.METHODS.items()])


def _tests(_: str) -> str:
    return _listed(name for name in parts.environment().tests if name.isidentifier())


def _globals(_: str) -> str:
    return _listed(parts.environment().globals)


def _format_row(form: str, _: str) -> str:
    row = _shown_row(form)
    return _fenced({name: value for name, value in row.items() if name not in MEANINGS})


def _rules(_: str) -> str:
    rows = [(f"[`{rule.name}`](#{rule.name})", rule.severity, rule.needs, rule.description) for rule in RULES]
    return _table(("rule", "severity", "needs", "a template, file or task"), rows)


def _metrics(_: str) -> str:
    rows = [(f"`{name}`", metric.label, metric.meaning) for name, metric in metrics.METRICS.items()]
    return _table(("in JSON", "in tables", "what it is"), rows)


def _metrics_of(_: str) -> str:
    rows = [(f"raw, {kind}", _in_order(names)) for kind, names in metrics.RAW.items()]
    rows.append(("choices that all rows share", _in_order(metrics.LABELS)))
    rows.append(("choices of each row's own", _in_order(metrics.CHOICES)))
    rows += [(f"written, {kind}", _in_order(names)) for kind, names in metrics.TEXT.items()]
    clusters: dict[tuple[str, ...], list[str]] = {}
    for word, names in metrics.CLUSTERS.items():
        clusters.setdefault(names, []).append(f"`{word}`")
    rows += [
        (f"written, text-generation, cluster {' or '.join(words)}", _in_order(names))
        for names, words in clusters.items()
    ]
    tested = metrics.text_metrics("text-generation", "code", tests=True)
    rows.append(("written, text-generation with tests, `--run-code`", _in_order(tested)))
    return _table(("answers", "metrics, the first being quoted"), rows)


def _in_order(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _common_columns(_: str) -> str:
    row, schema = _shown_row("prompt-completion"), _built("prompt-completion", "starter", "heldout").schema
    shown = [(f"`{name}`", _type(schema[name]), f"`{_json(row[name])}`", meaning) for name, meaning in MEANINGS.items()]
    return _table(("column", "type", "in this row", "what it is"), shown)


def _conversation(_: str) -> str:
    rows = _built("messages", "starter-chat", "train")
    chats = rows.filter(pl.col("task") == "helpful-chats").sort(pl.col("messages").list.len(), "id")
    return _fenced({"messages": chats["messages"].to_list()[0]})


def _shown_row(form: str) -> Mapping[str, object]:
    """Return one row in a format: the shortest held-out one that has an input and a choice for each label."""
    rows = _built("alpaca", "starter", "heldout")
    usable = rows.filter((pl.col("input") != "") & pl.col("choices").is_not_null())
    length = pl.col("instruction").str.len_chars() + pl.col("input").str.len_chars()
    wanted = usable.sort(length, "id")["id"][0]
    return _built(form, "starter", "heldout").row(by_predicate=pl.col("id") == wanted, named=True)


@functools.cache
def _built(form: str, mixture: str, split: str) -> pl.DataFrame:
    """Return a split of a built-in mixture in a format, a few rows a task: the same rows are in a whole build."""
    catalog = taskmix.load_catalog(builtin.catalog_path())
    spec = catalog.mixtures[mixture].model_copy(update={"format": form})
    changed = dataclasses.replace(catalog, mixtures={mixture: spec})
    with tempfile.TemporaryDirectory() as folder:
        built = taskmix.build(mixture, catalog=changed, out=Path(folder) / "mixture", limit=3)
        return pl.read_parquet(sorted((built.out / "data").glob(f"{split}-*.parquet")))


POSED = {
    "chain_of_thought": 0.4,
    "inverted": 0.2,
    "few_shot": {"share": 0.4, "k": [2, 2]},
    "options": {"share": 0.6, "lettered": 0.5, "shuffled": 0.5},
}
"""Styles in which the page on mixtures shows examples: all of them, often enough."""

SHOWN = ("which-desk", "file-under", "step-by-step", "write-a-headline")
"""The templates that it shows them with: short ones, of two starter tasks."""


@functools.cache
def _posed() -> pl.DataFrame:
    """Return examples of two starter tasks in all styles, the shortest first."""
    catalog = taskmix.load_catalog(builtin.catalog_path())
    spec = MixtureSpec.model_validate(
        {"tasks": ["headline-topics", "worked-arithmetic"], "styles": POSED, "sampling": {"templates": "all"}}
    )
    changed = dataclasses.replace(catalog, mixtures={"posed": spec})
    with tempfile.TemporaryDirectory() as folder:
        built = taskmix.build("posed", catalog=changed, out=Path(folder) / "mixture", limit=60)
        rows = pl.read_parquet(built.out / "data" / "train-*.parquet")
    shown = rows.filter(pl.col("template").cast(pl.String).is_in(SHOWN))
    return shown.sort(pl.col("prompt").str.len_chars(), "id")


def _example_of(style: str, mark: str, _: str) -> str:
    """Return the shortest example of a style with a mark in its prompt: the prompt, an arrow, the completion."""
    found = _posed().filter((pl.col("style") == style) & pl.col("prompt").str.contains(mark, literal=True))
    row = found.row(0, named=True)
    return f"```text\n{row['prompt'].rstrip()}\n\n→ {row['completion']}\n```"


EXAMPLES: Mapping[str, tuple[str, str]] = {
    "zero-shot": ("zero-shot", ""),
    "few-shot": ("few-shot", ""),
    "options with dashes": ("options", "\n- "),
    "options with letters": ("options", "\n(A) "),
    "few-shot and options": ("few-shot+options", ""),
    "chain-of-thought": ("chain-of-thought", ""),
    "inverted": ("inverted", ""),
}


def _recipes(_: str) -> str:
    # not above: it imports PyTorch, which no other part needs
    from taskmix_trainer.heads import HEAD_OF_KIND, HEADS

    kinds = {head: [kind for kind, name in HEAD_OF_KIND.items() if name == head] for head in HEADS}
    rows = []
    for name, head in HEADS.items():
        recipe = head.recipe
        size = f"{recipe.batch_size} examples" if recipe.batch_size else f"{recipe.batch_tokens:,} tokens"
        numbers = (f"{recipe.learning_rate:g}", f"{recipe.epochs:g}", size, f"{recipe.max_length:,}")
        schedule = f"{recipe.schedule}, {recipe.warmup:.0%} warm-up"
        what = ", ".join(kinds[name]) or "mixtures, text-generation, conversation"
        rows.append((f"`{name}`", what, *numbers, schedule, f"{recipe.weight_decay:g}", head.metric or "loss"))
    numbers = ("learning rate", "epochs", "a step", "most tokens")
    return _table(("head", "of", *numbers, "schedule", "weight decay", "better by"), rows)


PARTS: Mapping[str, Callable[[str], str]] = {
    "what a template sees": _what_a_template_sees,
    "columns of the kinds": _kind_columns,
    "variables of the kinds": _kind_variables,
    "filters": _filters,
    "methods": _methods,
    "tests": _tests,
    "globals": _globals,
    "rules of the linter": _rules,
    "recipes of the heads": _recipes,
    "common columns": _common_columns,
    "conversation": _conversation,
    **{f"example: {name}": functools.partial(_example_of, *which) for name, which in EXAMPLES.items()},
    **{f"row of {form}": functools.partial(_format_row, form) for form in FORMATS},
    "metrics": _metrics,
    "metrics of answers": _metrics_of,
}


def fill(page: str) -> str:
    """Return a page with its generated parts written anew. A part is given what its section holds before it."""
    return _PART.sub(lambda found: f"{found[1]}{PARTS[found[2]](_before(page, found.start()))}\n{found[3]}", page)


def _before(page: str, position: int) -> str:
    return sections(page[:position])[-1]


def help_page() -> str:
    """Return the page of all commands."""
    pages = [
        f"## `{' '.join(['mix', *path])}`\n\n```text\n{_help(path).rstrip()}\n```" for path, _ in commands(main, ())
    ]
    return (
        "# Commands\n\n<!-- Written by docs/generate.py from the program's own help. -->\n\n"
        + "\n\n".join(pages)
        + "\n"
    )


def commands(command: click.Command, path: Sequence[str]) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yield a command and all below it, each with its path."""
    yield tuple(path), command
    if isinstance(command, click.Group):
        # asked of the group: those of the trainer are not imported before
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None, name
            yield from commands(inner, (*path, name))


def _help(path: Sequence[str]) -> str:
    return CliRunner().invoke(main, [*path, "--help"], prog_name="mix", terminal_width=HELP_WIDTH).output


def pages() -> Iterator[tuple[Path, str]]:
    """Yield every file that is generated or has generated parts, with what it should hold."""
    yield DOCS / "help.md", help_page()
    yield DOCS / "catalog.schema.json", json.dumps(json_schema(), indent=1, ensure_ascii=False) + "\n"
    for path in sorted(DOCS.glob("*.md")):
        if "<!-- generated: " in (text := path.read_text("utf-8")):
            yield path, fill(text)


def run(check: bool) -> int:
    """Write what is out of date, or only name it; return the exit status."""
    stale = [(path, text) for path, text in pages() if not path.is_file() or path.read_text("utf-8") != text]
    for path, text in stale:
        print(f"{path.name} {'is out of date: run python docs/generate.py' if check else 'written'}")
        if not check:
            path.write_text(text, "utf-8")
    return 1 if check and stale else 0


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)


def _listed(names: Iterable[str]) -> str:
    return ", ".join(f"`{name}`" for name in sorted(names))


def _fenced(value: object) -> str:
    return f"```json\n{json.dumps(value, ensure_ascii=False, indent=2)}\n```"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(run(check="--check" in sys.argv[1:]))
