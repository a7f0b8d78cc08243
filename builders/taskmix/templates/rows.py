"""What becomes of one row under one template, in Jinja: the rules that a compiled template follows too.

Nothing here needs Polars: it runs in processes of its own, see `rowwise`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from taskmix.errors import TemplateError
from taskmix.templates.parts import Expression, Part, Row, SplitText, known
from taskmix.text import quoted

if TYPE_CHECKING:
    from taskmix.templates.files import Template

TextChoices = tuple[str, ...] | Expression | SplitText | None
_LABEL_NAMES = frozenset(("label", "choices"))


@dataclass(frozen=True)
class Alternatives:
    """What evaluation rows list beside their completion.

    `by_label`: whether a row has one label, so that the output can be rendered for each. `answer`: the variable
    that holds one accepted answer, and the one that holds all. `by_word`: whether the output is one of the
    template's own choices.
    """

    by_label: bool
    answer: tuple[str, str] | None
    by_word: bool = False


@dataclass(frozen=True)
class RowTemplate:
    """What of a template decides the texts of a row, and nothing that other processes need not know.

    `marked`: with marks around what comes from the row, for a preview; nothing is stripped, dropped or refused then.
    """

    instruction: Part
    input: Part
    output: Part
    choices: TextChoices
    strip: bool
    drops_empty: bool
    where: str
    alternatives: Alternatives | None = None
    marked: bool = False


def row_template(template: "Template", alternatives: Alternatives | None, *, marked: bool = False) -> RowTemplate:
    """Return what of a template decides the texts of a row."""
    return RowTemplate(
        instruction=template.instruction,
        input=template.input,
        output=template.output,
        choices=template.choices,
        strip=template.strip,
        drops_empty=template.drops_empty,
        where=template.where,
        alternatives=alternatives,
        marked=marked,
    )


def sent(template: "Template", alternatives: Alternatives | None) -> frozenset[str]:
    """Return the variables of a row that the texts may depend on."""
    return template.names | ({"label", "choices", *(alternatives.answer or ())} if alternatives else set())


@dataclass
class RowRenderer:
    """Renders one row at a time; keeps the outputs that depend on nothing but the label and its words."""

    template: RowTemplate
    seen: dict[tuple[object, ...], list[str]] = field(default_factory=dict)

    def __call__(self, row: Row, draw: int) -> Sequence[object]:
        """Return the texts of instruction, input and output, and with alternatives choices, answer and references.

        Raises:
            TemplateError: a part fails on the row, or prints nothing where that is no reason to drop the row.
        """
        row = {**row, **_choices(self.template, row, draw)}
        variables = known(row, draw, self.template.output.strict)
        parts = (self.template.instruction, self.template.input, self.template.output)
        texts = tuple(self._text(part, variables) for part in parts)
        if self.template.marked:
            return texts
        width = 3 if self.template.alternatives is None else 6
        if self.template.drops_empty and not (texts[0] + texts[1] and texts[2]):
            return (None,) * width
        self._check(texts)
        return texts if width == 3 else (*texts, *self._alternatives(variables, texts[2]))

    def _text(self, part: Part, variables: Row) -> str:
        text = part.render_known(variables, self.template.marked)
        return text.strip() if self.template.strip and not self.template.marked else text

    def _check(self, texts: Sequence[str]) -> None:
        if not texts[2].strip():
            part, hint = self.template.output, "leave such rows out with `where`, or write a word for them"
            raise TemplateError("the output is empty", where=f"{part.file}:{part.line}", hint=hint)
        if not (texts[0].strip() or texts[1].strip()):
            raise TemplateError("instruction and input are both empty", where=self.template.where)

    def _alternatives(self, row: Row, output: str) -> tuple[list[str] | None, int | None, list[str]]:
        rule, names = self.template.alternatives, self.template.output.names
        assert rule is not None
        if rule.by_label and "label" in names and names <= _LABEL_NAMES:
            label = row["label"]
            assert isinstance(label, int), row
            return self._by_label(row), label, [output]
        if rule.answer and rule.answer[0] in names:
            return None, None, list(self._by_answer(row, output, *rule.answer))
        if rule.by_word and self.template.choices is not None:
            words = row["choices"]
            assert isinstance(words, list), row
            return words, words.index(output) if output in words else None, [output]
        return None, None, [output]

    def _by_label(self, row: Row) -> list[str]:
        """Return the output for each label, whatever words it uses."""
        choices = row["choices"]
        assert isinstance(choices, list), row
        key = (*choices,)
        if key not in self.seen:
            found = [self._text(self.template.output, {**row, "label": label}) for label in range(len(choices))]
            if "choice" not in self.template.output.source:
                self.seen[key] = found
            return found
        return self.seen[key]

    def _by_answer(self, row: Row, output: str, one: str, every: str) -> Iterator[str]:
        accepted = row[every]
        assert isinstance(accepted, list), row
        for answer in accepted:
            yield self._text(self.template.output, {**row, one: answer})
        if not accepted:
            yield output


def _choices(template: RowTemplate, row: Row, draw: int) -> Mapping[str, object]:
    """Return the template's own choices, if it has any."""
    choices = template.choices
    if choices is None:
        return {}
    if isinstance(choices, tuple):
        return {"choices": list(choices)}
    found = choices.value(row, draw) if isinstance(choices, SplitText) else choices.value(row)
    if not isinstance(found, list | tuple) or not all(isinstance(word, str) for word in found):
        part = choices.part
        raise TemplateError(f"choices are {quoted(found)}, not a list of texts", where=f"{part.file}:{part.line}")
    return {"choices": list(found)}
