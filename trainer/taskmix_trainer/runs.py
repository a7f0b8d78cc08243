"""What stands in the folder of a training run: `train.json`; and how a file appears whole."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

RUN = "train.json"


def read_run(out: Path) -> dict[str, Any] | None:
    """Return what a folder's run is; None if there is none."""
    try:
        found = json.loads((out / RUN).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def write_run(out: Path, run: Mapping[str, Any]) -> None:
    """Write what a run is, whole or not at all."""
    write_whole(out / RUN, json.dumps(run, indent=1, default=str) + "\n")


def write_whole(path: Path, text: str) -> None:
    """Write a file whole or not at all."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, "utf-8")
    part.replace(path)
