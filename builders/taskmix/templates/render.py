"""The rendering engine: rows and a template in, a frame of rendered text out.

This is the one place that runs templates over data, here row by row. It is what a compiled engine replaces.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import polars as pl

from taskmix.errors import TemplateError
from taskmix.frames import DRAW, SOURCE_ROW
from taskmix.templates.files import Template
from taskmix.templates.parts import Part, Row
from taskmix.text import quoted

RENDERED: Mapping[str, pl.DataType] = {"instruction": pl.String(), "input": pl.String(), "output": pl.String()}
ALTERNATIVES: Mapping[str, pl.DataType] = {
    "choices": pl.List(pl.String),
    "answer": pl.Int64(),
    "references": pl.List(pl.String),
}
_LABEL_NAMES = frozenset(("label", "choices"))


@dataclass(frozen=True)
class Alternatives:
    """What evaluation rows list beside their completion.

    `by_label`: whether a row has one label, so that the output can be rendered for each. `answer`: the variable
    that holds one accepted answer, and the one that holds all.
    """

    by_label: bool
    answer: tuple[str, str] | None


def render(rows: pl.DataFrame, template: Template, task: str, alternatives: Alternatives | None = None) -> pl.DataFrame:
    """Render a template on every row, in order.

    Args:
        rows: the template's variables, with `source_row` and `draw` (UInt64, from which `choice` follows).
        template: what to render.
        task: the task's name, for messages.
        alternatives: also render the output for each label or accepted answer.

    Returns:
        `instruction`, `input` and `output` (String), all null in a row that is dropped; with alternatives also
        `choices` (the output for each label, or null), `answer` (the label, or null) and `references` (the output
        for each accepted answer).

    Raises:
        TemplateError: the template fails on a row, or makes an empty output that it does not drop; with file, line,
            task and row.
    """
    wanted = template.names | ({"label", "choices", *(alternatives.answer or ())} if alternatives else set())
    names = [name for name in rows.columns if name in wanted]
    values = rows.select(names).rows(named=True) if names else [{}] * len(rows)
    row_of = _RowRenderer(template, alternatives)
    rendered: list[Sequence[object]] = []
    for row, source_row, draw in zip(values, rows[SOURCE_ROW], rows[DRAW], strict=True):
        try:
            rendered.append(row_of(row, draw))
        except TemplateError as error:
            where = f"{error.where}: task {task}, template {template.name}, row {source_row}"
            raise TemplateError(error.message, where=where, hint=error.hint) from None
    return pl.DataFrame(rendered, schema={**RENDERED, **(ALTERNATIVES if alternatives else {})}, orient="row")


@dataclass
class _RowRenderer:
    """Renders one row; keeps the outputs that depend on nothing but the label and its words."""

    template: Template
    alternatives: Alternatives | None
    seen: dict[tuple[object, ...], list[str]] = field(default_factory=dict)

    def __call__(self, row: Row, draw: int) -> Sequence[object]:
        variables = {**row, **_choices(self.template, row)}
        parts = (self.template.instruction, self.template.input, self.template.output)
        texts = tuple(self._text(part, variables, draw) for part in parts)
        if self.template.drops_empty and not (texts[0] + texts[1] and texts[2]):
            return (None, None, None) if self.alternatives is None else (None,) * 6
        self._check(texts)
        return texts if self.alternatives is None else (*texts, *self._alternatives(variables, texts[2], draw))

    def _text(self, part: Part, row: Row, draw: int) -> str:
        text = part.render(row, draw)
        return text.strip() if self.template.strip else text

    def _check(self, texts: Sequence[str]) -> None:
        if not texts[2].strip():
            part, hint = self.template.output, "leave such rows out with `where`, or write a word for them"
            raise TemplateError("the output is empty", where=f"{part.file}:{part.line}", hint=hint)
        if not (texts[0].strip() or texts[1].strip()):
            raise TemplateError("instruction and input are both empty", where=self.template.where)

    def _alternatives(self, row: Row, output: str, draw: int) -> tuple[list[str] | None, int | None, list[str]]:
        assert self.alternatives is not None
        names = self.template.output.names
        if self.alternatives.by_label and "label" in names and names <= _LABEL_NAMES:
            label = row["label"]
            assert isinstance(label, int), row
            return self._by_label(row, draw), label, [output]
        if self.alternatives.answer and self.alternatives.answer[0] in names:
            return None, None, list(self._by_answer(row, output, draw, *self.alternatives.answer))
        return None, None, [output]

    def _by_label(self, row: Row, draw: int) -> list[str]:
        """Return the output for each label, whatever words it uses."""
        choices = row["choices"]
        assert isinstance(choices, list), row
        key = (*choices,)
        if key not in self.seen:
            labels = range(len(choices))
            found = [self._text(self.template.output, {**row, "label": label}, draw) for label in labels]
            if not _draws(self.template):
                self.seen[key] = found
            return found
        return self.seen[key]

    def _by_answer(self, row: Row, output: str, draw: int, one: str, every: str) -> Iterator[str]:
        accepted = row[every]
        assert isinstance(accepted, list), row
        for answer in accepted:
            yield self._text(self.template.output, {**row, one: answer}, draw)
        if not accepted:
            yield output


def _draws(template: Template) -> bool:
    return "choice" in template.output.source


def _choices(template: Template, row: Row) -> Mapping[str, object]:
    """Return the template's own choices, if it has any."""
    if template.choices is None:
        return {}
    if isinstance(template.choices, tuple):
        return {"choices": list(template.choices)}
    found = template.choices.value(row)
    if not isinstance(found, list | tuple) or not all(isinstance(word, str) for word in found):
        part = template.choices.part
        raise TemplateError(f"choices are {quoted(found)}, not a list of texts", where=f"{part.file}:{part.line}")
    return {"choices": list(found)}
