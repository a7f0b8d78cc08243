"""A small mirror for a task of the catalog: real rows, rows that were written for it, or rows typed from the schema."""

import functools
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq

from taskmix.catalog import yamlfile
from taskmix.catalog.loading import CatalogTask
from taskmix.kinds import KINDS
from taskmix.templates.parts import is_expression
from tests import hub_schemas, pool
from tests.hub_schemas import Feature

WRITTEN = Path(__file__).parent.parent / "docs" / "examples"
ROWS = 60
"""Rows of a split. Of written rows there are `FEW`: many that are the same would look like a constant output."""

FEW = 20
_OUTSIDE = 0.8
"""The share of words that carry the first tag, beyond its turn: some sentences then have nothing else."""

Row = dict[str, Any]
Path_ = tuple[str, ...]

_WORDS = """
able about across after air along answer apple arm away back band bank bell bird boat book bread bridge bright brown
build busy call calm card carry case chair child city clean clear climb clock cloud coast cold cook corn country cover
cross dance dark deep desk door draw dream dress drink drive dry early earth east edge empty engine evening every eye
fall family farm fast field fire fish floor flower follow forest fresh friend front garden gentle glass gold grass
green ground grow guest hair half hand happy hard harvest heavy hill home horse hour house island join jump keep kind
kitchen lake lamp large laugh leaf learn letter light line listen little long low market measure meet middle milk
minute money month moon morning mountain music narrow near needle new night north notice ocean office old open orange
order paint paper park path pencil people picture place plain plant plate poor pound quick quiet rain reach ready
river road rock room round sail salt sand school sea season seed seven shade sheep ship shoe shop short silver sing
sister sky slow small snow soft song south spring square star station steam stone store storm story straw street
strong summer sun table tall teacher tent thick thin time town train tree valley village visit voice walk wall warm
watch water west wheel white wide wind window winter wire wood word work yard year yellow young
""".split()


@functools.cache
def written_rows() -> Mapping[str, Sequence[Row]]:
    """Return the rows that were written for tasks, in the columns of their source."""
    files = sorted(WRITTEN.glob("*.yaml"))
    pages: list[Any] = [yamlfile.read(file).value or {} for file in files]
    return {task: rows for page in pages for task, rows in page.items()}


def real_mirror(task: CatalogTask, folder: Path) -> Path | None:
    """Write a few real rows of each split of a task's dataset; None if there are none."""
    source = task.spec.source
    data = hub_schemas.data_folder(str(source.hub), source.config)
    if data is None:
        return None
    there = {file.stem: file for file in sorted(data.glob("*.parquet"))}
    # splits that the shared folder lacks have the rows of another one: not of an unlabelled test split, if it can be
    other = there.get("validation", next(iter(there.values())))
    assumed = ["train"] if task.spec.splits is None else []
    for split in {*there, *_known_splits(task), *assumed}:
        _sample(there.get(split, other), _place(task, folder) / f"{split}.parquet")
    return folder


def typed_mirror(task: CatalogTask, folder: Path) -> Path | None:
    """Write random rows of the types that a schema has; None if no schema is known."""
    features = hub_schemas.features(str(task.spec.source.hub), task.spec.source.config)
    for split in (_known_splits(task) or _splits(task)) if features else ():
        _write(list(_typed(task, features, split)), features, _place(task, folder) / f"{split}.parquet")
    return folder if features else None


def written_mirror(task: CatalogTask, folder: Path, *, more: bool = False) -> Path | None:
    """Write the rows that were written for a task, with other labels for `more`; None if there are none."""
    features = hub_schemas.features(str(task.spec.source.hub), task.spec.source.config)
    own = written_rows().get(task.name)
    if own is None or task.spec.source.hub is None:
        return None
    rows = _with_labels(task, own, features) if more else own
    for split in _known_splits(task) or _splits(task):
        _write(rows, features, _place(task, folder) / f"{split}.parquet")
    return folder


def need_a_form(task: CatalogTask) -> bool:
    """Whether typed rows may not do: expressions take their columns apart, or the number of options is always one."""
    columns = task.spec.columns.values()
    expressions = any(isinstance(each, str) and is_expression(each) for each in columns)
    return expressions or task.spec.where is not None or task.spec.kind in ("multiple-choice", "question-answering")


def _place(task: CatalogTask, folder: Path) -> Path:
    found = folder / str(task.spec.source.hub) / (task.spec.source.config or "")
    found.mkdir(parents=True, exist_ok=True)
    return found


def _known_splits(task: CatalogTask) -> list[str]:
    schema = hub_schemas.find(str(task.spec.source.hub))
    config = schema.config(task.spec.source.config) if schema else None
    return list(config.splits) if config else []


def _splits(task: CatalogTask) -> list[str]:
    named = [theirs for theirs in (task.spec.splits or {}).values() if isinstance(theirs, str)]
    return named or ["train", "validation"]


def _sample(file: Path, target: Path) -> None:
    """Write a few rows of a file, evenly spaced: the first ones may all have the same label."""
    table = pq.read_table(file)
    step = max(1, len(table) // (5 * ROWS))
    taken = table.take(list(range(0, len(table), step))[: 5 * ROWS])
    pq.write_table(taken.replace_schema_metadata(table.schema.metadata), target)


def _write(rows: Sequence[Row], features: Mapping[str, Feature], target: Path) -> None:
    if features:
        types = {name: found for name, each in features.items() if (found := pool.dtype(each)) is not None}
        extra = {name for row in rows for name in row} - set(types)
        if extra:
            raise ValueError(f"the schema has no {sorted(extra)}")
        columns = {name: [_ids(row.get(name), features[name]) for row in rows] for name in types}
        frame = pl.DataFrame({name: pl.Series(name, values, types[name]) for name, values in columns.items()})
    else:
        frame = pl.DataFrame(rows, infer_schema_length=None)
    described = {"info": {"features": {name: _described(each) for name, each in features.items()}}}
    table = frame.to_arrow()
    pq.write_table(table.replace_schema_metadata({"huggingface": json.dumps(described)}), target)


def _ids(value: Any, feature: Feature) -> Any:
    """Return a value in which the names of labels are ids: written rows have names."""
    if isinstance(feature, list) and isinstance(value, list):
        return [_ids(each, feature[0]) for each in value]
    if isinstance(feature, dict) and "class_label" in feature:
        return list(map(str, feature["class_label"])).index(value) if isinstance(value, str) else value
    if isinstance(feature, dict) and set(feature) == {"sequence"}:
        inside = feature["sequence"]
        if isinstance(value, dict):
            return {name: _ids(each, [inside[name]]) for name, each in value.items() if name in inside}
        return [_ids(each, inside) for each in value] if isinstance(value, list) else value
    if isinstance(feature, dict) and isinstance(value, dict):
        return {name: _ids(each, feature.get(name)) for name, each in value.items()}
    return value


def _described(feature: Feature) -> object:
    """Return a feature as `datasets` writes it beside Parquet columns, as far as its label names go."""
    if isinstance(feature, list):
        return [_described(feature[0])] if feature else []
    if isinstance(feature, dict):
        if "class_label" in feature:
            return {"_type": "ClassLabel", "names": feature["class_label"]}
        if "sequence" in feature:
            return {"_type": "Sequence", "feature": _described(feature["sequence"])}
        return {name: _described(each) for name, each in feature.items()}
    return {"_type": "Value", "dtype": feature}


def _with_labels(task: CatalogTask, own: Sequence[Row], features: Mapping[str, Feature]) -> list[Row]:
    """Return written rows over and over again, with all labels where the label is a column of its own."""
    found = [dict(own[number % len(own)]) for number in range(max(FEW, len(own)))]
    label = task.spec.columns.get("label", "label")
    if isinstance(label, str) and all(label in row for row in own):
        for number, row in enumerate(found[len(own) :]):
            if labels := _labels_of(task, row, label, features.get(label)):
                row[label] = labels[number % len(labels)]
    return found


def _labels_of(task: CatalogTask, row: Row, label: str, feature: Feature) -> Sequence[Any]:
    """Return the values that the label of a row may have; none if it is not a single one, or that is not known."""
    if isinstance(row[label], list):
        return ()
    if isinstance(feature, dict) and "class_label" in feature:
        return range(len(feature["class_label"]))
    if keys := task.spec.columns.get("keys"):
        found: list[Any] = [] if is_expression(str(keys)) else _at(row, tuple(str(keys).split(".")))
        return found
    labels = list(task.spec.labels or ())
    return range(len(labels)) if isinstance(row[label], int) and isinstance(task.spec.labels, list) else labels


# Typed rows


@dataclass(frozen=True)
class _Shape:
    """A task as the generator of rows sees it: what each path of the source is for, and how many labels there are."""

    roles: Mapping[Path_, str]
    labels: Sequence[Any]
    options: int | None
    unlabelled: bool
    kind: str


def _typed(task: CatalogTask, features: Mapping[str, Feature], split: str) -> Iterator[Row]:
    """Yield plausible rows: random texts, labels in turn, lists of one length in each row, answers in their context."""
    shape = _shape(task, features)
    ids = [
        len(found["class_label"]) for found in features.values() if isinstance(found, dict) and "class_label" in found
    ]
    for number in range(max([ROWS, *ids])):
        rng = random.Random(f"{task.name} {split} {number}")
        length = shape.options or rng.choice((3, 4, 5))
        if shape.kind == "token-classification":
            length = rng.randint(5, 12)
        row = {name: _value(each, (name,), number, length, rng, shape) for name, each in features.items()}
        yield _mended(row, shape, number)


def _shape(task: CatalogTask, features: Mapping[str, Feature]) -> _Shape:
    spec = task.spec
    roles: dict[Path_, str] = {}
    options = None
    for name, mapped in {**{each: each for each in _CANONICAL}, **spec.columns}.items():
        for path in [mapped] if isinstance(mapped, str) else mapped:
            if not is_expression(path):
                roles[tuple(path.split("."))] = name
        if name == "choices" and not isinstance(mapped, str):
            options = len(mapped)
    labels = list(spec.labels) if spec.labels else []
    label = next((path for path, role in roles.items() if role == "label" and path[0] in features), None)
    feature = features.get(label[0]) if label else None
    if spec.kind == "multiple-choice":
        ids = len(feature["class_label"]) if isinstance(feature, dict) and "class_label" in feature else 0
        options = options or ids or len(labels) or None
    return _Shape(roles, labels, options, "label" in (spec.where or ""), spec.kind)


_CANONICAL = frozenset[str]().union(*(kind.columns for kind in KINDS.values()))


def _value(feature: Feature, path: Path_, number: int, length: int, rng: random.Random, shape: _Shape) -> Any:
    role = shape.roles.get(path, "")
    if isinstance(feature, list):
        if role == "messages" or path[-1:] in (("conversations",), ("messages",)):
            length = 2 * rng.randint(1, 2)
        return [_value(feature[0], path, at, length, rng, shape) for at in range(length)]
    if isinstance(feature, dict):
        return _compound(feature, path, number, length, rng, shape)
    return _scalar(feature, path, role, number, rng, shape)


def _compound(
    feature: Mapping[str, Feature], path: Path_, number: int, length: int, rng: random.Random, shape: _Shape
) -> Any:
    if "class_label" in feature:
        names = feature["class_label"]
        if shape.roles.get(path) == "tags" and rng.random() < _OUTSIDE:
            return 0
        lowest = -1 if shape.unlabelled and shape.roles.get(path) == "label" else 0
        return lowest + number % (len(names) - lowest)
    if "translation" in feature:
        return {language: _sentence(rng) for language in feature["translation"]}
    if set(feature) == {"sequence"}:
        inside = feature["sequence"]
        if isinstance(inside, dict) and not pool.is_one(inside):
            return {
                name: [_value(each, (*path, name), at, length, rng, shape) for at in range(length)]
                for name, each in inside.items()
            }
        start = rng.randrange(50)
        return [_value(inside, path, start + at, length, rng, shape) for at in range(length)]
    return {name: _value(each, (*path, name), number, length, rng, shape) for name, each in feature.items()}


def _scalar(feature: str, path: Path_, role: str, number: int, rng: random.Random, shape: _Shape) -> Any:
    if role in ("label", "tags") and shape.labels:
        if role == "tags" and rng.random() < _OUTSIDE:
            number = 0
        value = shape.labels[number % len(shape.labels)]
        if feature == "string":
            return str(value)
        if isinstance(value, str) and not feature.startswith("bool"):
            return number % len(shape.labels)
        return value if isinstance(value, int) else bool(number % 2)
    if feature.startswith("bool"):
        return bool(number % 2)
    if feature.startswith("float"):
        return round(rng.random() * 5, 2)
    if feature != "string":
        return number % (shape.options or 4) if role == "label" else rng.randrange(5)
    return _text(path, role, number, rng)


def _text(path: Path_, role: str, number: int, rng: random.Random) -> str:
    name = path[-1].lower()
    if role == "keys":
        return "ABCDEFGHIJ"[number % 10]
    if name in ("role", "from"):
        return (("user", "assistant"), ("human", "gpt"))[name == "from"][number % 2]
    if role in ("tokens", "choices") or name in ("id", "idx", "uid", "pairid"):
        return " ".join(rng.sample(_WORDS, 1 if role == "tokens" else 2))
    if role in ("context", "input", "text"):
        return " ".join(_sentence(rng) for _ in range(rng.randint(2, 4)))
    return _sentence(rng)


def _sentence(rng: random.Random) -> str:
    return " ".join(rng.sample(_WORDS, rng.randint(5, 12))).capitalize() + "."


def _mended(row: Row, shape: _Shape, number: int) -> Row:
    """Return a row whose parts fit: the label is one of the keys, keys are in order, answers stand in the context."""
    at = {role: path for path, role in shape.roles.items() if path[0] in row}
    if shape.kind == "multiple-choice" and "keys" in at and "label" in at:
        keys = _at(row, at["keys"])
        if at["keys"] != at.get("choices", at["keys"]):
            keys[:] = "ABCDEFGHIJ"[: len(keys)]
        _put(row, at["label"], keys[number % len(keys)])
    if shape.kind == "question-answering" and "answers" in at and "context" in at:
        context = _at(row, at["context"])
        answers = _at(row, at["answers"])
        if isinstance(context, str):
            _answer(answers, context, number)
    return row


def _answer(answers: Any, context: str, number: int) -> None:
    """Put words of the context where answers are, with where they start."""
    spread = context.split()
    texts: Any = answers.get("text") if isinstance(answers, dict) else answers
    for place in range(len(texts) if isinstance(texts, list) else 0):
        word = spread[(number + place) % len(spread)]
        found = {"text": word, "answer_start": context.index(word)}
        if isinstance(answers, dict):
            for name in found.keys() & answers.keys():
                answers[name][place] = found[name]
        elif isinstance(texts[place], dict):
            texts[place].update({name: found[name] for name in found.keys() & texts[place].keys()})
        else:
            texts[place] = word


def _at(row: Any, path: Path_) -> Any:
    for name in path:
        row = row[name] if isinstance(row, dict) else [each[name] for each in row]
    return row


def _put(row: Row, path: Path_, value: Any) -> None:
    for name in path[:-1]:
        row = row[name]
    row[path[-1]] = value
