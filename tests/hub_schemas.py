"""What is known of hub datasets without reading them: the schema files of the shared folder, and its data."""

import functools
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from tests.conftest import SHARED

SCHEMAS = SHARED / "hub-schemas"
DATA = SHARED / "data"
Feature = Any
"""A feature in the shorthand of the schema files: "string", {"class_label": […]}, {"sequence": …}, {name: feature}."""


@dataclass(frozen=True)
class Config:
    """A configuration: its features, if they are written down, and the rows of its splits, where they are known."""

    features: Mapping[str, Feature] | None
    splits: Mapping[str, int | None]


@dataclass(frozen=True)
class Schema:
    """A dataset as a schema file has it. `known` is false where the file was written from memory."""

    hub: str | None
    legacy: str
    configs: Mapping[str, Config]
    unlisted: bool
    known: bool
    licences: Sequence[str] = ()

    def config(self, name: str | None) -> Config | None:
        """Return a configuration; without a name the only one, or the one that the hub takes."""
        if name is not None:
            return self.configs.get(name) or (self.configs.get("") if self.unlisted else None)
        if len(self.configs) == 1 and not self.unlisted:
            return next(iter(self.configs.values()))
        return self.configs.get("default") or self.configs.get("")


COPIES = {"legacy-datasets/banking77": "PolyAI/banking77"}
"""Copies that are known to be as the original was before its script was refused."""


@functools.cache
def _all() -> Mapping[str, Sequence[Schema]]:
    """Return the schemas by hub id in lower case, and by the old name of the dataset."""
    found: dict[str, list[Schema]] = defaultdict(list)
    for file in (*SCHEMAS.glob("*.json"), *SCHEMAS.glob("_manual/*.json"), *SCHEMAS.glob("more/*.json")):
        if file.stem != "INDEX":
            schema = _read(json.loads(file.read_bytes()), known=file.parent.name != "_manual")
            for key in {(schema.hub or schema.legacy).lower(), schema.legacy.lower()}:
                found[key].append(schema)
    return found


def find(hub: str) -> Schema | None:
    """Return the schema of a hub dataset by its id, or by its old name where nobody wrote down today's id.

    A copy under another id may have other columns: the schema of the original is not its.
    """
    if by_id := _all().get(COPIES.get(hub, hub).lower()):
        return by_id[0]
    name = hub.rpartition("/")[2].lower()
    named = (each for key in (name, name.replace("-", "_")) for each in _all().get(key, ()))
    return next((each for each in named if each.hub is None), None)


def _read(spec: Mapping[str, Any], known: bool) -> Schema:
    licences = spec.get("license_card") or spec.get("license") or ()
    configs, unlisted = _configs(spec)
    named = [licences] if isinstance(licences, str) else list(licences)
    return Schema(spec.get("hub_id"), spec["name"], configs, unlisted, known, named)


def _configs(spec: Mapping[str, Any]) -> tuple[Mapping[str, Config], bool]:
    """Return the configurations by name, and whether there are others of the same shape."""
    listed = spec.get("configs")
    if isinstance(listed, list) and all(isinstance(each, dict) for each in listed):
        raw = {each["config"]: each for each in listed}
        shapes = {name: raw[each.get("features_same_as", name)] for name, each in raw.items()}
        found = {name: _config(shapes[name].get("features"), each.get("splits")) for name, each in raw.items()}
        return found, bool(spec.get("configs_not_listed"))
    if isinstance(listed, dict):
        return {name: _config(each.get("features"), each.get("splits")) for name, each in listed.items()}, False
    names = listed if isinstance(listed, list) else []
    whole = _config(spec.get("features"), spec.get("splits"))
    return {"": whole, **dict.fromkeys(names, whole)}, isinstance(listed, str)


def _config(features: object, splits: object) -> Config:
    counts = splits if isinstance(splits, dict) else {}
    sizes = {name: count if isinstance(count, int) else None for name, count in counts.items()}
    return Config(_plain(features) if isinstance(features, dict) else None, sizes)


def _plain(feature: Feature) -> Feature:
    """Return a feature without the remarks of what was written from memory."""
    if isinstance(feature, str):
        return "int64" if feature.startswith("class_label") else feature.split(" ")[0]
    if isinstance(feature, list):
        return [_plain(each) for each in feature]
    if isinstance(feature, dict):
        return {name: each if name in _LISTS else _plain(each) for name, each in feature.items() if name != "length"}
    return feature


_LISTS = ("class_label", "translation")


def data_folder(hub: str, config: str | None) -> Path | None:
    """Return the folder of a dataset's real rows; None if they are not among the shared ones."""
    folder = DATA / hub / (config or "")
    return folder if any(folder.glob("*.parquet")) else None


def features(hub: str, config: str | None) -> Mapping[str, Feature]:
    """Return the features of a dataset by its schema, else by its real rows; none if neither is known."""
    schema = find(hub)
    found = schema.config(config) if schema else None
    if found and found.features:
        return found.features
    data = data_folder(hub, config)
    metadata = pq.read_schema(next(data.glob("*.parquet"))).metadata if data else None
    described = json.loads((metadata or {}).get(b"huggingface", b"{}")).get("info", {}).get("features", {})
    return {name: _shorthand(each) for name, each in described.items()}


def _shorthand(feature: Any) -> Feature:
    """Return a feature as the schema files write it, from what `datasets` writes beside Parquet columns."""
    if isinstance(feature, list):
        return [_shorthand(feature[0])]
    match feature.get("_type"):
        case "Value":
            return feature["dtype"]
        case "ClassLabel":
            return {"class_label": feature["names"]}
        case "Sequence" | "List" | "LargeList":
            return {"sequence": _shorthand(feature["feature"])}
    return {name: _shorthand(each) for name, each in feature.items()}


def rows_of(folder: Path) -> Mapping[str, int | None]:
    """Return the rows of each split in a folder of real data."""
    return {file.stem: pq.read_metadata(file).num_rows for file in sorted(folder.glob("*.parquet"))}


def known_rows(config: Config | None) -> Mapping[str, int | None]:
    """Return the rows of the splits whose number a schema has."""
    return {split: rows for split, rows in config.splits.items() if rows is not None} if config else {}
