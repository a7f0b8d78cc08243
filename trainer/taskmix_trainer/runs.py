"""What stands in the folder of a training run: `train.json`."""

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
    part = out / f".{RUN}"
    part.write_text(json.dumps(run, indent=1, default=str) + "\n", "utf-8")
    part.replace(out / RUN)
