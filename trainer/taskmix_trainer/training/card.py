"""The card of a model: what it was trained on, how, and what it reached."""

import json
from collections.abc import Mapping
from importlib import metadata
from typing import Any

from taskmix_trainer.tokens.folder import Manifest

_PIPELINES = {
    "sequence-classification": "text-classification",
    "token-classification": "token-classification",
    "question-answering": "question-answering",
    "multiple-choice": "multiple-choice",
    "causal-language-model": "text-generation",
    "sequence-to-sequence": "text-generation",
}


def make_card(manifest: Manifest, run: Mapping[str, Any], metrics: Mapping[str, float]) -> str:
    """Return the card of a finished run, with YAML front matter as the hub reads it."""
    settings = run["settings"]
    base = manifest.model
    front = ["---", "library_name: transformers", "tags: [taskmix]", f"pipeline_tag: {_PIPELINES[manifest.head]}"]
    if "/" in base and not base.startswith((".", "/")):
        front.append(f"base_model: {json.dumps(base)}")
    train = manifest.splits["train"]
    what = f"the mixture `{manifest.target}`" if manifest.form == "instruct" else f"the task `{manifest.target}`"
    lines = [
        *front,
        "---",
        "",
        f"# {base.rstrip('/').rsplit('/', 1)[-1]} on {manifest.target}",
        "",
        f"`{base}` with the head *{manifest.head}*, trained on {what} by taskmix {metadata.version('taskmix')}.",
        "",
        "| | |",
        "| --- | --- |",
        f"| rows | {train.rows:,} |",
        f"| examples and tokens | {train.features:,} and {train.tokens:,} |",
        *(f"| {name} | {count:,} |" for name, count in train.tally.items()),
        f"| steps | {run['steps']:,} |",
        f"| seed | {settings['seed']} |",
        *([f"| hash of the mixture's lock | `{manifest.lock_sha256}` |"] if manifest.lock_sha256 else []),
        f"| hash of the data | `{manifest.source}` |",
        f"| hash of the plan of batches | `{run['plan_sha256']}` |",
        "",
    ]
    if metrics:
        lines += ["## Validation", "", "| metric | value |", "| --- | --- |"]
        lines += [f"| {name} | {value:.4f} |" for name, value in metrics.items()]
        lines.append("")
    lines += [
        "`train.json` has all settings, `history.jsonl` every figure that was logged, `report.html` the curves.",
        "",
    ]
    return "\n".join(lines)
