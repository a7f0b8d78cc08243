"""The rendering engine: rows and a template in, a frame of rendered text out.

This is the one place that runs templates over data, here row by row. It is what a compiled engine replaces.
"""

import polars as pl

from taskmix.templates.files import Template
from taskmix.templates.rows import Alternatives as Alternatives
from taskmix.templates.rowwise import ALTERNATIVES as ALTERNATIVES
from taskmix.templates.rowwise import RENDERED as RENDERED
from taskmix.templates.rowwise import Workers


def render(
    rows: pl.DataFrame, template: Template, task: str, alternatives: Alternatives | None, workers: Workers
) -> pl.DataFrame:
    """Render a template on every row, in order.

    Args:
        rows: the template's variables, with `source_row` and `draw` (UInt64, from which `choice` follows).
        template: what to render.
        task: the task's name, for messages.
        alternatives: also render the output for each label or accepted answer.
        workers: the processes that run what Jinja has to.

    Returns:
        `instruction`, `input` and `output` (String), all null in a row that is dropped; with alternatives also
        `choices` (the output for each label, or null), `answer` (the label, or null) and `references` (the output
        for each accepted answer).

    Raises:
        TemplateError: the template fails on a row, takes more than the limits allow, or makes an empty output that
            it does not drop; with file, line, task and row.
    """
    return workers.render(rows, template, task, alternatives)
