"""The card of a repository that holds several mixtures, each a configuration in a folder of its own."""

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from taskmix.errors import PushError
from taskmix.output.folder import LOCK
from taskmix.sharing import downloading, planning
from taskmix.sharing.remote import Head, Hub, LocalFile
from taskmix.text import visible

CARD = "README.md"
_FRONT = re.compile(r"\A---\n(.*?)^---\n", re.DOTALL | re.MULTILINE)
_UNITED = ("license", "language", "task_categories", "tags", "size_categories")


@dataclass(frozen=True)
class Config:
    """A mixture as a configuration: its name, the front matter of its card, the rows of its splits."""

    name: str
    front: Mapping[str, Any]
    rows: Mapping[str, int]


def root_card(hub: Hub, head: Head | None, folder: Path) -> Sequence[LocalFile]:
    """Return the card at the root of a repository of several mixtures; nothing if it holds but one.

    Raises:
        PushError: the card of another configuration cannot be understood.
    """
    name = hub.place.config
    if name is None:
        return ()
    own = _config(name, (folder / CARD).read_bytes(), (folder / LOCK).read_bytes(), str(hub.place))
    others = [_download(hub, head, each) for each in planning.configs(head.files) if each != name] if head else []
    text = make(hub.id, sorted([own, *others], key=lambda config: config.name)).encode()
    return (LocalFile(CARD, text, hashlib.sha256(text).hexdigest(), len(text)),)


def _download(hub: Hub, head: Head, name: str) -> Config:
    card, lock = (
        downloading.content(hub, head.commit, head.files[path]) if path in head.files else b""
        for path in (f"{name}/{CARD}", f"{name}/{LOCK}")
    )
    return _config(name, card, lock, str(hub.place))


def _config(name: str, card: bytes, lock: bytes, where: str) -> Config:
    """Read a configuration from the text of its card and its lock."""
    found = _FRONT.match(card.decode("utf-8", errors="replace"))
    try:
        front: dict[str, Any] = yaml.safe_load(found[1]) if found else {}
        splits = json.loads(lock)["splits"]
        rows = {str(split): int(about["rows"]) for split, about in splits.items()}
        [(each["split"], each["path"]) for each in front["configs"][0]["data_files"]]
    except (yaml.YAMLError, ValueError, KeyError, TypeError, IndexError, AttributeError):
        hint = "build that mixture again, and push it first"
        raise PushError(
            f"the configuration {name} has a card or lock that is damaged", where=where, hint=hint
        ) from None
    return Config(name, front, rows)


def make(repository: str, configs: Sequence[Config]) -> str:
    """Return the text of the card: what the front matters say, together, and a table of the configurations."""
    front = yaml.safe_dump(_front_matter(configs), sort_keys=False, allow_unicode=True)
    return f"""---
{front}---

# {repository.partition("/")[2]}

Instruction mixtures, built from labelled task datasets by taskmix. Each is a configuration with a card and a lock of
its own.

{_table(configs)}

```python
import datasets

mixture = datasets.load_dataset("{repository}", "{configs[0].name}")
```
"""


def _front_matter(configs: Sequence[Config]) -> dict[str, Any]:
    """Return the front matters in one: each value once, and the configurations with the paths of their files."""
    front: dict[str, Any] = {
        key: sorted({str(each) for config in configs for each in _listed(config.front.get(key, []))}) for key in _UNITED
    }
    front["configs"] = [
        {
            "config_name": config.name,
            "data_files": [
                {"split": each["split"], "path": f"{config.name}/{each['path']}"}
                for each in config.front["configs"][0]["data_files"]
            ],
        }
        for config in configs
    ]
    return front


def _table(configs: Sequence[Config]) -> str:
    lines = ["| configuration | rows | licences |", "| --- | --- | --- |"]
    for config in configs:
        rows = ", ".join(f"{visible(split)}: {rows:,}" for split, rows in config.rows.items())
        licences = ", ".join(visible(str(each)) for each in _listed(config.front.get("license", [])))
        lines.append(f"| [`{config.name}`]({config.name}/README.md) | {rows} | {licences} |")
    return "\n".join(lines)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else [value]
