"""The public pool of promptsource templates, the schemas of their datasets, and typed random rows of any schema."""

import functools
import json
import random
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl

from taskmix import hashing
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.importers import promptsource
from taskmix.importers.project import Entry, compile_entry
from taskmix.templates.files import Template
from tests.conftest import SHARED

POOL = SHARED / "promptsource" / "templates"
SCHEMAS = SHARED / "hub-schemas"
DATA = SHARED / "data"

Feature = Any
"""A feature in the shorthand of the schema files: "string", {"class_label": […]}, {"sequence": …}, {name: feature}."""


@dataclass(frozen=True)
class PoolTemplate:
    """One template of the pool: where it is, promptsource's own fields, and its dataset's features if known."""

    file: Path
    dataset: str
    subset: str | None
    name: str
    uuid: str
    schema: Mapping[str, Feature] | None
    original: promptsource.PromptTemplate
    clash: bool

    @property
    def id(self) -> str:
        """Return a name that tells it apart."""
        return f"{self.file.parent.relative_to(POOL).as_posix()}:{self.name}:{self.uuid[:4]}"

    def entry(self) -> Entry:
        """Return the imported template as an entry of a file. Raises PieceError where it is refused."""
        return promptsource.template_entry(self.original, self.clash)

    def template(self) -> Template:
        """Return the imported template, compiled. Raises PieceError or TemplateError where it is refused."""
        return compile_entry(self.entry())

    def frame(self, columns: pl.DataFrame) -> pl.DataFrame:
        """Return rows as the imported template sees them: with numbers and draws, `choices` under its other name."""
        numbers = pl.Series(SOURCE_ROW, range(len(columns)), dtype=pl.UInt64)
        draws = pl.Series(DRAW, [hashing.draw(7, row) for row in numbers], dtype=pl.UInt64)
        found = columns.with_columns(numbers, draws)
        return found.with_columns(raw_choices=pl.col("choices")) if self.clash and "choices" in columns else found

    def random_rows(self, n: int) -> pl.DataFrame | None:
        """Return typed random rows; None where the schema of the dataset is not known."""
        return None if self.schema is None else random_rows(self.schema, n, seed_of(self.id))

    def real_rows(self, n: int) -> pl.DataFrame | None:
        """Return rows of the dataset; None where it is not among the shared ones."""
        return real_rows(self.dataset, self.subset, n)


@functools.cache
def pool_templates() -> tuple[PoolTemplate, ...]:
    """Return all templates of the pool in the order of its files."""
    return tuple(each for file in sorted(POOL.rglob(promptsource.FILE)) for each in _of_file(file))


def _of_file(file: Path) -> Iterator[PoolTemplate]:
    _, spec = promptsource.read_file(file, file.relative_to(POOL).as_posix())
    schema = schema_of(spec.dataset, spec.subset)
    clash = promptsource.clashes(spec)
    for uuid, each in spec.templates.items():
        yield PoolTemplate(file, spec.dataset, spec.subset, each.name, uuid, schema, each, clash)


# Schemas


@functools.cache
def _schema_files() -> Mapping[str, Path]:
    """Return the schema files by the names that promptsource knows the datasets by."""
    return {path.stem: path for folder in (SCHEMAS / "more", SCHEMAS) for path in folder.glob("*.json")}


@functools.cache
def _read_schema(name: str) -> Mapping[str, Any] | None:
    path = _schema_files().get(name)
    if path is None or name == "INDEX":
        return None
    found: Mapping[str, Any] = json.loads(path.read_text("utf-8"))
    return found


def hub_id(dataset: str) -> str | None:
    """Return today's id of a dataset that promptsource names by its old one."""
    found = _read_schema(dataset) or {}
    known = found.get("hub_id")
    return known if isinstance(known, str) else None


def schema_of(dataset: str, subset: str | None) -> Mapping[str, Feature] | None:
    """Return the features of a dataset's configuration, under the names that templates use; None if unknown."""
    found = _read_schema(dataset) or _read_schema(dataset.rpartition("/")[2])
    if found is None:
        return None
    configs = {each["config"]: each for each in found["configs"]}
    chosen = configs.get(subset) if subset else next(iter(configs.values()), None)
    if chosen is not None and "features_same_as" in chosen:
        chosen = configs.get(chosen["features_same_as"])
    features = chosen and chosen.get("features")
    if not isinstance(features, dict):
        return None
    return {name.replace("-", "_"): feature for name, feature in features.items() if dtype(feature) is not None}


_NUMBERS: Mapping[str, Any] = {
    "bool": pl.Boolean, "bool_": pl.Boolean, "float16": pl.Float32, "float32": pl.Float32, "float64": pl.Float64,
    "int8": pl.Int8, "int16": pl.Int16, "int32": pl.Int32, "int64": pl.Int64,
    "uint8": pl.UInt8, "uint16": pl.UInt16, "uint32": pl.UInt32, "uint64": pl.UInt64,
}  # fmt: skip


def dtype(feature: Feature) -> Any:
    """Return the Polars type of a feature; None for images, times and what else templates cannot take."""
    if isinstance(feature, str):
        return pl.String if feature in ("string", "large_string") else _NUMBERS.get(feature)
    if isinstance(feature, list):
        inner = dtype(feature[0]) if feature else None
        return inner and pl.List(inner)
    if not isinstance(feature, dict):
        return None
    if set(feature) == {"class_label"}:
        return pl.Int64
    if set(feature) == {"translation"}:
        return pl.Struct(dict.fromkeys(feature["translation"], pl.String))
    if set(feature) == {"sequence"}:
        inside = feature["sequence"]
        # on the hub a list of mappings is a mapping of lists
        inner = inside if not isinstance(inside, dict) or len(inside) == 0 or is_one(inside) else None
        if inner is None:
            return dtype({name: {"sequence": each} for name, each in inside.items()})
        found = dtype(inner)
        return found and pl.List(found)
    fields = {name: dtype(each) for name, each in feature.items()}
    return None if not fields or None in fields.values() else pl.Struct(fields)


def is_one(feature: Mapping[str, Feature]) -> bool:
    return set(feature) in ({"class_label"}, {"translation"}, {"sequence"})


# Random rows

TEXTS = (
    "", " ", "yes", "No", "A", "B", "0", "12", "-1", "a.b.c", "one two  three", "Is it?\nYes, it is!\n",
    "x = {{ y }} {% z %}", "naïve Straße ﬁn ŉ", "日本語のテキスト", "سؤال", "😀 ok", "tab\there", "a|b||c",
    "'quoted' \"text\"", "<b>&amp;</b>", "\u2028\x1c",
    "The quick brown fox jumps over the lazy dog, twice; then it sleeps.", "Dr. No (1962) – a film", "e\u0301",
)  # fmt: skip
SPLITTING = ("left ||| right", "|||", "a|||b|||c")


def random_rows(schema: Mapping[str, Feature], n: int, seed: int) -> pl.DataFrame:
    """Return typed random rows: nulls at every depth, empty lists, labels out of range, `|||` in texts of the top."""
    columns = {}
    for name, feature in schema.items():
        rng = random.Random(f"{seed} {name}")
        values = [_value(feature, rng, top=True) for _ in range(n)]
        columns[name] = pl.Series(name, values, dtype=dtype(feature), strict=False)
    return pl.DataFrame(columns)


def _value(feature: Feature, rng: random.Random, *, top: bool = False) -> Any:
    if rng.random() < 0.06:
        return None
    if isinstance(feature, str):
        return _scalar(feature, rng, top=top)
    if isinstance(feature, list):
        return [_value(feature[0], rng) for _ in range(rng.choice((0, 1, 1, 2, 3, 5)))]
    if set(feature) == {"class_label"}:
        count = len(feature["class_label"])
        return rng.choice((-1, count, *range(min(count, 20))))
    if set(feature) == {"translation"}:
        return {language: _value("string", rng) for language in feature["translation"]}
    if set(feature) == {"sequence"}:
        return _sequence(feature["sequence"], rng)
    return {name: _value(each, rng) for name, each in feature.items()}


def _sequence(inside: Feature, rng: random.Random) -> Any:
    length = rng.choice((0, 1, 1, 2, 3, 5))
    if isinstance(inside, dict) and not is_one(inside):
        # lists of one length, but for a few
        return {
            name: [_value(each, rng) for _ in range(length if rng.random() < 0.9 else rng.randrange(3))]
            for name, each in inside.items()
        }
    return [_value(inside, rng) for _ in range(length)]


def _scalar(feature: str, rng: random.Random, *, top: bool) -> Any:
    if feature in ("string", "large_string"):
        return rng.choice(SPLITTING) if top and rng.random() < 0.04 else rng.choice(TEXTS)
    if feature.startswith("bool"):
        return rng.random() < 0.5
    if feature.startswith("float"):
        return rng.choice((0.0, -0.0, 0.25, 0.5, 1.0, 3.0, 1e-5, 1e16, float("nan"), 2.675, -7.125))
    small = (0, 1, 2, 3, 4, 5, 7, 100)
    return rng.choice(small if feature.startswith("uint") else (*small, -1, -3))


def real_rows(dataset: str, subset: str | None, n: int, seed: int = 0) -> pl.DataFrame | None:
    """Return rows of a dataset under the names that templates use; None where it is not among the shared ones."""
    hub, wanted = hub_id(dataset) or dataset, (schema_of(dataset, subset) or {}).keys()
    # a part of a collection may be there as a dataset of its own
    folders = (DATA / hub / subset, DATA / hub, *sorted(DATA.glob(f"*/{subset}"))) if subset else (DATA / hub,)
    for path in (folder / f"{split}.parquet" for folder in folders for split in ("train", "validation", "test")):
        if not path.is_file():
            continue
        frame = pl.read_parquet(path, glob=False).rename(lambda name: name.replace("-", "_"))
        if wanted <= set(frame.columns):
            return frame[random.Random(seed).sample(range(len(frame)), min(n, len(frame)))]
    return None


def seed_of(*parts: Sequence[object]) -> int:
    """Return a seed that follows from some texts."""
    return zlib.crc32(repr(parts).encode())
