"""The same mixture as many make it: `datasets.map` with Jinja compiled once, shuffled, written to Parquet.

A module of its own, so that the processes of `datasets` find its functions by name.
"""

import functools
import multiprocessing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import datasets
import jinja2
import yaml

from measuring import peak_bytes, timed

PROCESSES = 2


@dataclass(frozen=True)
class Peer:
    """One mixture by `datasets`, with its seconds by phase."""

    rows: int
    phases: Mapping[str, float]
    peak_bytes: int

    @property
    def seconds(self) -> float:
        """Return the seconds of all phases."""
        return sum(self.phases.values())


@functools.cache
def compiled(file: Path) -> Sequence[tuple[str, jinja2.Template, jinja2.Template]]:
    """Compile a template file once a process: each template's name, prompt and completion."""
    environment = jinja2.Environment(keep_trailing_newline=True)
    found = []
    for template in yaml.safe_load(file.read_text("utf-8")):
        parts = [template["instruction"], template["input"]] if "input" in template else [template["instruction"]]
        prompt = "\n\n".join(parts) + "\n\n"
        found.append((template["name"], environment.from_string(prompt), environment.from_string(template["output"])))
    return found


def render(row: dict[str, object], index: int, task: str, words: Sequence[str], file: Path) -> dict[str, object]:
    """Render one row; its template is drawn in turn, which costs next to nothing."""
    templates = compiled(file)
    name, prompt, completion = templates[index % len(templates)]
    variables = {**row, "choices": words}
    return {
        "prompt": prompt.render(variables),
        "completion": completion.render(variables),
        "task": task,
        "template": name,
        "source_row": index,
    }


def write(mixture: datasets.Dataset, part: int, out: Path) -> None:
    """Write one of as many parts as there are processes."""
    file = out / f"train-{part:05}-of-{PROCESSES:05}.parquet"
    mixture.shard(PROCESSES, part, contiguous=True).to_parquet(file)


def make(project: Path, tasks: Mapping[str, Sequence[str]], out: Path) -> Peer:
    """Make the mixture of tasks, with the words of their labels, in two processes."""
    datasets.disable_progress_bars()
    cache, phases = out / "cache", {}

    def load(task: str) -> datasets.Dataset:
        files = sorted(str(file) for file in (project / "data" / task).glob("train-*.parquet"))
        return datasets.Dataset.from_parquet(files, cache_dir=str(cache))

    def mapped(task: str, rows: datasets.Dataset) -> datasets.Dataset:
        settings = {"task": task, "words": tasks[task], "file": project / "templates" / f"{task}.yaml"}
        columns = rows.column_names
        return rows.map(render, with_indices=True, fn_kwargs=settings, remove_columns=columns, num_proc=PROCESSES)

    loaded, phases["load"] = timed(lambda: {task: load(task) for task in tasks})
    examples, phases["map"] = timed(lambda: [mapped(task, rows) for task, rows in loaded.items()])
    mixture, phases["shuffle"] = timed(lambda: datasets.concatenate_datasets(examples).shuffle(seed=0))

    def write_all() -> None:
        with multiprocessing.get_context("fork").Pool(PROCESSES) as pool:
            pool.starmap(write, [(mixture, part, out) for part in range(PROCESSES)])

    _, phases["write"] = timed(write_all)
    return Peer(len(mixture), phases, peak_bytes())
