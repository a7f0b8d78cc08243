"""An evaluation as text for people, and as JSON for programs."""

import json

from taskmix_trainer.evaluation import scores, tables
from taskmix_trainer.evaluation.running import Evaluation


def as_text(evaluation: Evaluation, *, templates: bool = False) -> str:
    """Return tables of an evaluation in Markdown: tasks, and if wanted their templates; classes of a classic head."""
    lines = [f"{evaluation.model} on {evaluation.target}\n", tables.results_table(evaluation.results)]
    if templates:
        lines += [
            f"#### {task.task} ({task.split})\n\n{tables.templates_table(task)}" for task in evaluation.results.tasks
        ]
    if evaluation.classes:
        lines.append(tables.classes_table(evaluation.classes))
    return "\n".join(lines)


def as_json(evaluation: Evaluation) -> str:
    """Return the figures of an evaluation, and in `records` what any resample of its examples can be scored from."""
    records = [json.loads(line) for line in scores.write_records(evaluation.records).splitlines()]
    whole = {
        "model": evaluation.model,
        "target": evaluation.target,
        "form": evaluation.form,
        "loss": evaluation.loss,
        "notes": list(evaluation.notes),
        **scores.as_json(evaluation.results),
        "records": records,
    }
    return json.dumps(whole, ensure_ascii=False, allow_nan=False) + "\n"
