"""Rules on template files and tasks: what does not read or open, and what nobody can have meant."""

import re
from collections.abc import Iterator

from taskmix.errors import TaskmixError
from taskmix.kinds.labels import NoWordsError
from taskmix.linting.findings import Problem
from taskmix.linting.subjects import FileSubject, TaskSubject
from taskmix.templates.files import Template
from taskmix.text import quoted

_ID = re.compile(r"(label|class)?[ _-]?\d+", re.IGNORECASE)
_MARKS = re.compile(r"\{%[-+]|[-+]%\}|\{\{-|-\}\}|\s+")
_PLACE = re.compile(r":(\d+)(?::|$)")


def broken_template(file: FileSubject) -> Iterator[Problem]:
    """Yield what keeps an entry, or the file, from being a template."""
    for entry in file.entries:
        if isinstance(entry, TaskmixError):
            for error in (entry, *entry.more):
                yield Problem(error.message, line_of(error), error.hint)


def duplicate_template(file: FileSubject) -> Iterator[Problem]:
    """Yield templates that are an earlier one over again but for whitespace."""
    first: dict[tuple[object, ...], Template] = {}
    for template in file.templates:
        spec = template.spec
        sources = [part.source for part in template.parts]
        own = template.choices if isinstance(template.choices, tuple) else ()
        bare = (*(_without_whitespace(text) for text in sources), *own, spec.style)
        earlier = first.setdefault(bare, template)
        if earlier is not template:
            same = sources == [part.source for part in earlier.parts]
            how = "says the same as" if same else "differs in nothing but whitespace from"
            message = f"{how} {quoted(earlier.name)} on line {earlier.line}"
            yield Problem(message, template.line, "remove one of the two, or write it in other words")


def _without_whitespace(text: str) -> str:
    """Return a template's text without whitespace and without the marks that tell Jinja to remove it."""
    return _MARKS.sub(lambda found: found[0].strip().replace("-", "").replace("+", ""), text)


def no_plain_template(file: FileSubject) -> Iterator[Problem]:
    """Yield one problem for a file whose templates all have a style."""
    if file.templates and all(template.spec.style for template in file.templates):
        hint = "styled templates are drawn by share alone: write one without `style`"
        yield Problem("no template of this file is plain", file.templates[0].line, hint)


def unused_template_file(file: FileSubject) -> Iterator[Problem]:
    """Yield one problem for a file that no task of its catalog takes."""
    if file.unused:
        hint = "a file is found by its name: the task's, or the one that the task names under `templates`"
        yield Problem("no task of the catalog takes its templates from this file", 1, hint)


def broken_task(task: TaskSubject) -> Iterator[Problem]:
    """Yield why a task does not open although its data is at hand."""
    if task.fault is not None and not isinstance(task.fault, NoWordsError):
        for error in (task.fault, *task.fault.more):
            yield Problem(error.message, line_of(error), error.hint)


def labels_without_words(task: TaskSubject) -> Iterator[Problem]:
    """Yield what labels have no words, or blank ones."""
    if isinstance(task.fault, NoWordsError):
        yield Problem(task.fault.message, line_of(task.fault), task.fault.hint)
    elif any(not word.strip() for word in task.label_words or ()):
        words = quoted(list(task.label_words or ()))
        yield Problem(f"a label's word is blank: {words}", _labels_line(task), "give every label a word")


def label_is_a_number(task: TaskSubject) -> Iterator[Problem]:
    """Yield labels whose words are nothing but ids. Options are told apart by keys, which are no words."""
    words = task.label_words
    if task.kind.name == "multiple-choice" or not words:
        return
    if all(_ID.fullmatch(word) for word in words) and words != _scale(words):
        hint = "give `labels`: the words in the order of the ids, or {value in the source: word}"
        yield Problem(f"the labels are ids, not words: {quoted(list(words))}", _labels_line(task), hint)


def _scale(words: tuple[str, ...]) -> tuple[str, ...]:
    """Return the numbers from 1 on, as many as there are words: a scale, such as stars, is named by its numbers."""
    return tuple(str(position) for position in range(1, len(words) + 1)) if len(words) > 2 else ()


def unusable_row(task: TaskSubject) -> Iterator[Problem]:
    """Yield what is wrong with the first row of a sample that the kind refuses."""
    for split, error in task.unusable:
        row = re.search(r"\brow (\d+)$", error.where)
        yield Problem(error.message, line_of(error), error.hint, split, int(row[1]) if row else None)


def _labels_line(task: TaskSubject) -> int:
    return task.entry.document.line(("tasks", task.entry.name, "labels"))


def line_of(error: TaskmixError) -> int:
    """Return the line that an error names after its file; 1 if it names none."""
    found = _PLACE.search(error.where)
    return int(found[1]) if found else 1
