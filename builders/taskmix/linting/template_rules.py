"""Rules on one template in the light of a task: what its text and Jinja show, and what a sample of rows shows."""

import re
from collections.abc import Iterator, Sequence

import polars as pl

from taskmix.compiler.templates import RowWise
from taskmix.frames import SOURCE_ROW
from taskmix.kinds import KINDS
from taskmix.linting import syntax
from taskmix.linting.file_rules import line_of
from taskmix.linting.findings import Problem
from taskmix.linting.subjects import Failure, Phrasing
from taskmix.tasks.opening import columns_not_plain, unknown_names
from taskmix.templates.parts import Expression, Part, SplitText
from taskmix.text import quoted

EMPTY = "the output is empty"
_MANY = 50
"""From so many rows on it says something that their outputs are all alike, or all stand in the prompt."""
_LONG = 20
"""Characters: shorter outputs stand in a prompt by chance, or because the answer is a word of the text."""

_BRACES = re.compile(r"(?<![\w\\$#%@{])\{\s*(\w+)\s*\}{1,2}(?!\})")
_LINE_END = re.compile(r"[ \t]+(?=\n)")
_LISTS = "options?|choices|labels?|categor(?:y|ies)|class(?:es)?|answers?|values?|tags?|topics?|verdicts?|words?"
_VERBS = "is|are|was|were|best|describes?|fits?|applies|apply|would|could|can|should|does|do"
_PROMISE = re.compile(
    rf"\b(?:one|any|which|best|from|among|between) (?:of )?(?:the following|these)"
    rf"(?=[ \t]*(?:[:.,;?!\n]|$)| (?:{_LISTS}|{_VERBS})\b)"
    rf"|\b(?:following|given|available|allowed|possible) (?:{_LISTS})(?=[ \t]*(?:[:.,;?!\n]|$))"
    r"|\b(?:options|choices|possible answers|labels|categories)[ \t]*:",
    re.IGNORECASE,
)


def undefined_name(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield names that neither the kind nor the source gives, each where it first stands."""
    seen: set[str] = set()
    for part, name, hint in unknown_names(phrasing.template, phrasing.known) if phrasing.known is not None else ():
        if name not in seen and (part.strict or name not in syntax.asked_whether_defined(part)):
            seen.add(name)
            message = f"there is no {quoted(name)}" + ("" if part.strict else ": it counts as empty")
            yield Problem(message, _line(part, name), hint)


def column_type(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield columns that hold what templates cannot take."""
    task = phrasing.of.task if phrasing.of is not None else None
    if task is not None:
        for part, name, hint in columns_not_plain(task, phrasing.template):
            yield Problem(f"the column {quoted(name)} is {task.schema()[name]}", _line(part, name), hint)


def single_braces(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield `{x}` in a template's own words where x is the name of a variable."""
    known = phrasing.known or frozenset().union(phrasing.template.names, *(kind.names for kind in KINDS.values()))
    for part in phrasing.template.texts:
        for literal in syntax.literals(part):
            for found in _BRACES.finditer(literal.text):
                if found[1] in known:
                    hint = f"write {{{{ {found[1]} }}}} to print the variable"
                    message = f"{quoted(found[0])} is text, and prints as it stands"
                    yield Problem(message, literal.line_of(found.start()), hint)


def unused_choices(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for a template that has choices of its own and uses none."""
    template = phrasing.template
    if (
        phrasing.kind is not None
        and not phrasing.kind.by_word
        and template.choices is not None
        and not any("choices" in syntax.names_read(part) for part in template.texts)
    ):
        hint = "print `choices[label]` in the output, or remove `choices`"
        yield Problem("has `choices` of its own, and uses none of them", _choices_line(phrasing), hint)


def choices_per_label(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for choices that are more or fewer than the task's labels."""
    own = phrasing.template.choices
    labels = phrasing.of.label_words if phrasing.of is not None else None
    classified = phrasing.kind is not None and phrasing.kind.name == "text-classification"
    if isinstance(own, tuple) and labels and classified and len(own) != len(labels):
        hint = f"one for each label, in this order: {', '.join(labels[:12])}{', …' if len(labels) > 12 else ''}"
        yield Problem(f"{len(own)} choices for {len(labels)} labels", _choices_line(phrasing), hint)


def empty_output(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for an output that is blank, always or on rows of the sample."""
    output = phrasing.template.output
    if not syntax.printed(output) and not syntax.words(output).strip():
        yield Problem("the output is always empty", output.line, "write what a model should answer")
        return
    dropped = phrasing.rendered.dropped
    if dropped and phrasing.rendered.rows.is_empty():
        yield Problem(f"all {dropped} rows of the sample are dropped as empty", output.line)
    failed = [failure for failure in phrasing.rendered.failures if failure[2].message == EMPTY]
    yield from _failures(phrasing, failed, EMPTY)


def fails_on_row(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for each line on which rows of the sample make the template fail."""
    places: dict[int, list[Failure]] = {}
    for failure in phrasing.rendered.failures:
        if failure[2].message != EMPTY:
            places.setdefault(line_of(failure[2]), []).append(failure)
    for failed in places.values():
        yield from _failures(phrasing, failed, failed[0][2].message)


def _failures(phrasing: Phrasing, failed: Sequence[Failure], message: str) -> Iterator[Problem]:
    if failed:
        split, row, error = failed[0]
        total = len(phrasing.rendered.rows) + len(phrasing.rendered.failures) + phrasing.rendered.dropped
        count = f"{len(failed)} of {total} rows"
        yield Problem(f"{message} ({count})", line_of(error), error.hint, split, row)


def constant_output(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for an output that does not depend on the row."""
    output = phrasing.template.output
    fixed = frozenset(("choices", "types")) if phrasing.choices is not None else frozenset[str]()
    blank = not (syntax.words(output).strip() or syntax.printed(output))
    if syntax.names_read(output) <= fixed and not syntax.is_drawn(output) and not blank:
        hint = "use the row's label, answer or target in it"
        yield Problem("the output is the same for every row", output.line, hint)


def same_output(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for an output that could differ, and does not on a large enough sample."""
    rows = phrasing.rendered.rows
    if len(rows) >= _MANY and syntax.names_read(phrasing.template.output) and rows["output"].n_unique() == 1:
        message = f"the output is {quoted(rows['output'][0])} in all {len(rows)} rows of the sample"
        yield Problem(message, phrasing.template.output.line, "is it meant to depend on the row?")


def target_in_prompt(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield what the prompt prints of that which the output is to tell."""
    template = phrasing.template
    asked = syntax.decisive(template.output)
    given = syntax.printed(template.instruction) | syntax.printed(template.input)
    if asked and asked <= given and not any(syntax.alternatives(form, given) for form in asked):
        hint = "take it out of instruction and input, or ask for something else"
        yield Problem("the prompt prints all that the output prints", template.output.line, hint)
        return
    answers = _answers(phrasing)
    if template.spec.style == "inverted" or not answers & syntax.names_read(template.output):
        return
    for part in (template.instruction, template.input):
        for name, line in syntax.names_printed(part, given).items():
            if name in answers:
                hint = "take it out, or write `style: inverted` if this template asks for something else"
                yield Problem(f"the prompt prints `{name}`, which the output is to tell", line, hint)


def _answers(phrasing: Phrasing) -> frozenset[str]:
    """Return the variables that hold a row's answer: the kind's, and the source's columns that they come from."""
    kind = phrasing.kind
    if kind is None:
        return frozenset()
    labelled = {kind.labelled} if kind.labelled else set[str]()
    answers = labelled | set(kind.answer or ()) | ({"entities"} & kind.names)
    task = phrasing.of.task if phrasing.of is not None else None
    maps = task.maps if task is not None else ()
    asked = frozenset[str]().union(*(each.uses for each in maps if each.name not in answers))
    theirs = frozenset[str]().union(*(each.uses for each in maps if each.name in answers))
    return frozenset(answers | theirs - asked - kind.names)


def output_in_prompt(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for text to write that nearly always stands in the prompt, word for word."""
    if phrasing.kind is None or phrasing.kind.name != "text-generation" or next(target_in_prompt(phrasing), None):
        return
    rows = phrasing.rendered.rows
    output = pl.col("output").str.strip_chars()
    long = rows.filter(output.str.len_chars() >= _LONG)
    found = long.filter(pl.col("prompt").str.contains(output, literal=True))
    if len(long) >= _MANY and len(found) >= 0.95 * len(long):
        message = f"the output stands in the prompt word for word ({len(found)} of {len(rows)} rows)"
        row = found.row(0, named=True)
        hint = "do `columns` map the right ones to input and target?"
        yield Problem(message, phrasing.template.output.line, hint, row["split"], row[SOURCE_ROW])


def missing_choices(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield one problem for a prompt that promises a list of choices and does not give all of them."""
    template = phrasing.template
    prompt = (template.instruction, template.input)
    lists = {"choices", "types", "keys"}
    inputs = {*phrasing.kind.inputs, "text"} - lists if phrasing.kind is not None else frozenset[str]()
    if phrasing.choices is None or not frozenset().union(*map(syntax.names_read, prompt)) <= inputs:
        # the choices are printed, or another column may hold them
        return
    own = " ".join(map(syntax.words, prompt)).casefold()
    missing = [word for word in phrasing.choices if word.casefold().strip() not in own]
    for part in prompt:
        for literal in syntax.literals(part):
            if missing and (found := _PROMISE.search(literal.text)):
                message = f"{quoted(found[0])} promises choices, but {quoted(missing[0])} is not in the prompt"
                hint = 'list them: {{ choices | join(", ") }}'
                yield Problem(message, literal.line_of(found.start()), hint)
                return


def trailing_whitespace(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield whitespace at the end of a part, or of one of its lines, that the template itself puts there."""
    for name, part in zip(("instruction", "input", "output"), phrasing.template.texts, strict=True):
        last = syntax.last_words(part)
        if phrasing.template.strip:
            pass
        elif last is not None and last.text != last.text.rstrip():
            breaks = last.text.endswith("\n")
            how, hint = ("a line break", "write `|-` for `|`") if breaks else ("a blank", "remove it")
            yield Problem(f"the {name} ends in {how}", last.line_of(len(last.text.rstrip())), hint)
        else:
            yield from _whitespace_on_rows(phrasing, name, part)
        for literal in syntax.literals(part):
            if found := _LINE_END.search(literal.text):
                line = literal.line_of(found.start())
                yield Problem(f"a line of the {name} ends in a blank", line, "remove it")


def _whitespace_on_rows(phrasing: Phrasing, name: str, part: Part) -> Iterator[Problem]:
    """Yield one problem if a part ends in whitespace on rows none of whose texts does."""
    of, rows = phrasing.of, phrasing.rendered.rows
    ending = rows.filter(pl.col(name) != pl.col(name).str.strip_chars_end())
    if of is None or ending.is_empty():
        return
    for split, sample in of.samples.items():
        mine = ending.filter(pl.col("split") == split).select(SOURCE_ROW)
        names = sorted(phrasing.template.names & set(sample.columns))
        for row in sample.join(mine, on=SOURCE_ROW, how="semi").rows(named=True):
            if not any(_ends_blank(row[each]) for each in names):
                message = f"the {name} ends in whitespace on some rows"
                hint = "end loops and conditions with `{%-`, or leave out what stands after the last item"
                yield Problem(message, part.line, hint, split, row[SOURCE_ROW])
                return


def _ends_blank(value: object) -> bool:
    """Whether a value is or holds text that is empty or has whitespace at an end or a line break inside."""
    if isinstance(value, dict):
        return any(map(_ends_blank, value.values()))
    if isinstance(value, list | tuple):
        return not value or any(map(_ends_blank, value))
    return isinstance(value, str) and (value.strip() != value or not value or "\n" in value)


def row_by_row(phrasing: Phrasing) -> Iterator[Problem]:
    """Yield why a template is not compiled for the columns of the task's rows."""
    found = phrasing.engine
    if isinstance(found, RowWise):
        hint = "its text is the same either way"
        yield Problem(f"runs row by row: {found.reason}", found.line, hint)


def _line(part: Part, name: str) -> int:
    return int(part.where(name).rpartition(":")[2])


def _choices_line(phrasing: Phrasing) -> int:
    choices = phrasing.template.choices
    return choices.part.line if isinstance(choices, Expression | SplitText) else phrasing.template.line
