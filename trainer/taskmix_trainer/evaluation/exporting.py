"""A mixture's evaluation splits as tasks of lm-evaluation-harness: one for each task and template, in groups.

Rows with choices are ranked (`acc` and `acc_norm`), others are written and compared (`exact_match`, with any of the
references). The prompt is the mixture's own, to the byte, with nothing put between it and the completion. Groups have
the mean over their rows. The folder can be moved: its rows are read by a function beside the tasks.

lm-evaluation-harness scores white space that ends a prompt with each choice. `mix eval --separator-scored` does so too.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from taskmix.errors import OutputError
from taskmix_trainer.evaluation.mixtures import most_new_tokens, stops_of
from taskmix_trainer.evaluation.posing import CHATS, Example, Group, read_groups
from taskmix_trainer.targets import Mixture

PREFIX = "taskmix"
_MARK = ".taskmix-lm-eval"
_READER = '''\
"""Reads the rows of a task from beside this file: a path in a task would count from where lm_eval is started."""

import json
from pathlib import Path

from datasets import Dataset


def read(rows, **others):
    with (Path(__file__).parent / "data" / rows).open(encoding="utf-8") as lines:
        return {"test": Dataset.from_list([json.loads(line) for line in lines])}
'''


def export_lm_eval(mixture: Mixture, splits: tuple[str, ...], folder: Path, limit: int | None = None) -> int:
    """Write tasks of lm-evaluation-harness; return how many.

    Args:
        mixture: prompts and completions; chats depend on a tokenizer, and are refused.
        splits: the evaluation splits to write.
        folder: where to; what an earlier export wrote there is replaced.
        limit: at most so many source rows a task.

    Raises:
        OutputError: the mixture holds chats, or the folder has other files or cannot be written.
    """
    if mixture.format in CHATS:
        raise OutputError(
            f"the mixture is in the format {mixture.format}",
            hint="build it as prompt-completion: lm-eval adds the chat",
        )
    if folder.exists() and any(folder.iterdir()) and not (folder / _MARK).is_file():
        raise OutputError("the folder has other files", where=str(folder), hint="choose another with --out")
    groups = read_groups(mixture, splits, None, limit=limit)
    try:
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "data").mkdir(parents=True)
        (folder / _MARK).touch()
        (folder / "reading.py").write_text(_READER, "utf-8")
        tasks: dict[str, list[Group]] = {}
        for group in groups:
            name = _name(mixture, group)
            tasks.setdefault(f"{PREFIX}-{mixture.name}-{group.task}", []).append(group)
            data = folder / "data" / f"{name}.jsonl"
            data.write_text("".join(_row(example) for example in group.examples), "utf-8")
            _write(folder / f"{name}.yaml", _task(name, data.name, group))
        for task, members in tasks.items():
            _write(folder / f"{task}.yaml", _group(task, [_name(mixture, each) for each in members], members))
        _write(folder / "all.yaml", _group(f"{PREFIX}-{mixture.name}", sorted(tasks), groups))
    except OSError as error:
        raise OutputError(f"cannot be written: {error.strerror or error}", where=str(folder)) from None
    return len(groups)


_RANKED, _WRITTEN = ("acc", "acc_norm"), ("exact_match",)


def _group(name: str, members: list[str], groups: list[Group]) -> dict[str, Any]:
    """Return a group of tasks, with the means over all rows of the metrics that all of them have."""
    metrics = set.intersection(*(set(_RANKED if group.ranks else _WRITTEN) for group in groups))
    means = [{"metric": metric, "aggregation": "mean", "weight_by_size": True} for metric in sorted(metrics)]
    return {"group": name, "task": members, **({"aggregate_metric_list": means} if means else {})}


def _name(mixture: Mixture, group: Group) -> str:
    style = "" if group.style == "zero-shot" else f"-{group.style.replace('+', '-')}"
    return f"{PREFIX}-{mixture.name}-{group.split}-{group.task}-{group.template}{style}"


def _row(example: Example) -> str:
    row = {
        "prompt": example.prompt,
        "completion": example.completion,
        "references": list(example.references),
        "choices": list(example.choices or ()),
        "answer": example.answer if example.answer is not None else -1,
        "id": example.id,
    }
    return json.dumps(row, ensure_ascii=False) + "\n"


def _task(name: str, rows: str, group: Group) -> dict[str, Any]:
    # names of columns, not templates: lm-eval would take a text such as "[1, 2]" that a template gives for a list
    common = {
        "task": name,
        "custom_dataset": _Function("reading.read"),
        "dataset_kwargs": {"rows": rows},
        "test_split": "test",
        "doc_to_text": "prompt",
        "target_delimiter": "",
        "num_fewshot": 0,
        "metadata": {"version": 1, "taskmix_template": group.template, "taskmix_cluster": group.cluster},
    }
    if group.ranks:
        return common | {
            "output_type": "multiple_choice",
            "doc_to_choice": "choices",
            "doc_to_target": "answer",
            "metric_list": [_metric(metric) for metric in _RANKED],
        }
    limits = {"until": list(stops_of(group)), "max_gen_toks": most_new_tokens(group), "do_sample": False}
    return common | {
        "output_type": "generate_until",
        "doc_to_target": "references",
        "generation_kwargs": limits,
        "filter_list": [{"name": "strip", "filter": [{"function": "remove_whitespace"}, {"function": "take_first"}]}],
        "metric_list": [_metric(metric) | {"ignore_case": True} for metric in _WRITTEN],
    }


def _metric(name: str) -> dict[str, Any]:
    return {"metric": name, "aggregation": "mean", "higher_is_better": True}


class _Function(str):
    """The name of a function in a module beside the task, as lm-evaluation-harness marks it in YAML."""


class _Dumper(yaml.SafeDumper):
    """Writes such names too."""


_Dumper.add_representer(_Function, lambda dumper, name: dumper.represent_scalar("!function", name))


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000), "utf-8")
