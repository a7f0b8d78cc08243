"""Template files: a list of named instructions, with their inputs and outputs."""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from taskmix.catalog import faults, yamlfile
from taskmix.catalog.models import Name
from taskmix.errors import CatalogError, TaskmixError, UsageError, nearest
from taskmix.templates import sandbox
from taskmix.templates.parts import Expression, Part, SplitText, is_expression
from taskmix.text import quoted

BLANK_LINE = "\n\n"
# some ten seconds of compiling; the largest file of the public pool costs 2,136
_MAX_COST = 50_000
# a large text may be read to its end before it is found faulty
_COST_OF_A_FAULT = 500


class TemplateSpec(BaseModel):
    """One entry of a template file."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    name: Name
    setup: str = ""
    instruction: Annotated[str, Field(min_length=1)]
    input: str = ""
    output: Annotated[str, Field(min_length=1)]
    choices: str | Annotated[list[str], Field(min_length=1)] | None = None
    choices_separator: Annotated[str, Field(min_length=1, max_length=32)] | None = None
    undefined: Literal["error", "empty"] = "error"
    strip: bool = False
    empty: Literal["error", "drop"] = "error"
    style: Literal["chain-of-thought", "inverted"] | None = None
    options: bool = True
    few_shot: bool = True
    separator: str = BLANK_LINE
    ending: str = BLANK_LINE
    language: str | None = None
    note: str | None = None


@dataclass(frozen=True)
class Template:
    """A compiled template.

    `choices` replace the task's: a tuple of words, an expression that yields a list, or text that holds them between
    separators. `separator` stands between instruction and input, `ending` between prompt and completion. `style` is
    one of ``zero-shot``, ``chain-of-thought`` and ``inverted``. `strip`: whitespace around the parts goes.
    `drops_empty`: a row with an empty instruction and input, or an empty output, is dropped rather than an error.
    """

    name: str
    style: str
    instruction: Part
    input: Part
    output: Part
    choices: tuple[str, ...] | Expression | SplitText | None
    strip: bool
    drops_empty: bool
    separator: str
    ending: str
    spec: TemplateSpec
    file: Path
    line: int

    @property
    def where(self) -> str:
        """Return ``file:line`` of the template."""
        return f"{self.file}:{self.line}"

    @property
    def texts(self) -> tuple[Part, Part, Part]:
        """Return the three parts that become text."""
        return self.instruction, self.input, self.output

    @property
    def parts(self) -> tuple[Part, ...]:
        """Return all that is Jinja in the template: its texts, and what yields its choices."""
        return (*self.texts, self.choices.part) if isinstance(self.choices, Expression | SplitText) else self.texts

    @property
    def names(self) -> frozenset[str]:
        """Return the variables that the template uses."""
        own = frozenset[str]() if self.choices is None or isinstance(self.choices, tuple) else self.choices.names
        used = self.instruction.names | self.input.names | self.output.names
        return (used - {"choices"} | own) if self.choices is not None else used


def template_file(name: str, folders: Iterable[Path]) -> Path | None:
    """Return the first `NAME.yaml` in the folders, if there is one."""
    return next((path for folder in folders if (path := folder / f"{name}.yaml").is_file()), None)


def read_templates(path: Path) -> tuple[Template, ...]:
    """Read a template file.

    Raises:
        CatalogError: the file is not a list of templates with distinct names; with the line.
        TemplateError: a template is not valid Jinja, or uses what the sandbox refuses; with the line.
    """
    stat = path.stat() if path.is_file() else None
    return _read(path, stat.st_mtime_ns if stat else 0, stat.st_size if stat else 0)


@functools.lru_cache(maxsize=1024)
def _read(path: Path, modified: int, size: int) -> tuple[Template, ...]:
    """Read and compile a template file once for each state that it is in: many tasks may share it."""
    return templates_in(yamlfile.read(path))


def templates_in(document: yamlfile.Document) -> tuple[Template, ...]:
    """Return the templates of a document. Raises as `read_templates` does."""
    templates: list[Template] = []
    for entry in entries_in(document):
        if isinstance(entry, TaskmixError):
            raise entry
        templates.append(entry)
    return tuple(templates)


def entries_in(document: yamlfile.Document) -> list[Template | TaskmixError]:
    """Return the entries of a document, each a template or what is wrong with it.

    Raises:
        CatalogError: the document is no list.
    """
    if not isinstance(document.value, list) or not document.value:
        raise CatalogError("not a list of templates", where=str(document.path), hint="start each with `- name: …`")
    seen: dict[str, Template] = {}
    found: list[Template | TaskmixError] = []
    cost = 0
    for index, entry in enumerate(document.value):
        found.append(template := _entry(document, index, entry, seen))
        cost += _cost(template) if isinstance(template, Template) else _COST_OF_A_FAULT
        if cost > _MAX_COST:
            where = f"{document.path}:{document.line((index,))}"
            hint = "write them into several files"
            return [*found[:-1], CatalogError("more templates than one file may hold", where=where, hint=hint)]
    return found


def _cost(template: Template) -> int:
    """Return what compiling a template costs: aliases in a file repeat a large one cheaply."""
    parts = (template.instruction, template.input, template.output)
    # what an empty one, 20 characters of text and a node of Jinja cost is much the same
    return 20 + sum(sandbox.size(part.tree) + len(part.source) // 20 for part in parts)


def _entry(
    document: yamlfile.Document, index: int, entry: object, seen: dict[str, Template]
) -> Template | TaskmixError:
    try:
        template = _template(document, index, entry)
    except TaskmixError as error:
        return error
    if first := seen.get(template.name):
        hint = f"the first is on line {first.line}"
        return CatalogError(f"two templates are named {quoted(template.name)}", where=template.where, hint=hint)
    seen[template.name] = template
    return template


def find_template(templates: Iterable[Template], name: str, task: str) -> Template:
    """Return a template by name. Raises UsageError with the nearest name."""
    by_name: Mapping[str, Template] = {template.name: template for template in templates}
    if name not in by_name:
        raise UsageError(f"the task {quoted(task)} has no template {quoted(name)}", hint=nearest(name, by_name))
    return by_name[name]


def _template(document: yamlfile.Document, index: int, entry: object) -> Template:
    try:
        spec = TemplateSpec.model_validate(entry)
    except ValidationError as error:
        raise faults.explain(document, error, TemplateSpec, (index,)) from None
    strict = spec.undefined == "error"

    def part(field: str, source: str, setup: Part | None = None) -> Part:
        line = document.texts.get((index, field), 1)
        return Part(source, str(document.path), line, f"{spec.name}/{field}", setup, strict)

    setup = part("setup", spec.setup) if spec.setup else None
    parts = {
        "instruction": part("instruction", spec.instruction, setup),
        "input": part("input", spec.input, setup if spec.input else None),
        "output": part("output", spec.output, setup),
    }
    return Template(
        name=spec.name,
        style=spec.style or "zero-shot",
        choices=_choices(document, index, spec),
        strip=spec.strip,
        drops_empty=spec.empty == "drop",
        separator=spec.separator,
        ending=spec.ending,
        spec=spec,
        file=document.path,
        line=document.line((index,)),
        **parts,
    )


def _choices(
    document: yamlfile.Document, index: int, spec: TemplateSpec
) -> tuple[str, ...] | Expression | SplitText | None:
    choices, strict = spec.choices, spec.undefined == "error"
    line = document.texts.get((index, "choices"), 1)
    if spec.choices_separator is not None:
        if not isinstance(choices, str):
            raise CatalogError("choices_separator cuts `choices` that are one text", where=f"{document.path}:{line}")
        part = Part(choices, str(document.path), line, f"{spec.name}/choices", None, strict)
        return SplitText(part, spec.choices_separator)
    if not isinstance(choices, str):
        return None if choices is None else tuple(choices)
    if not is_expression(choices):
        raise CatalogError(
            f"choices: {quoted(choices)} is neither a list nor an expression",
            where=f"{document.path}:{line}",
            hint='write a list, or Jinja that yields one: "{{ … }}"',
        )
    return Expression.parse(choices, str(document.path), line, strict)
