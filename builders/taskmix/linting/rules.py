"""The table of rules, and which of them a user asks for."""

from collections.abc import Iterable, Sequence

from taskmix.errors import UsageError, nearest
from taskmix.linting import file_rules, template_rules
from taskmix.linting.findings import Rule
from taskmix.linting.subjects import FileSubject, Phrasing, TaskSubject
from taskmix.text import quoted

AnyRule = Rule[FileSubject] | Rule[TaskSubject] | Rule[Phrasing]

FILE_RULES: Sequence[Rule[FileSubject]] = (
    Rule("broken-template", "error", "files", "Not a template: its YAML or Jinja does not read, or is refused.",
         file_rules.broken_template),
    Rule("duplicate-template", "warning", "files", "The same as another of its file, but for whitespace.",
         file_rules.duplicate_template),
    Rule("no-plain-template", "error", "files", "Every template of the file has a style.",
         file_rules.no_plain_template),
    Rule("unused-template-file", "warning", "files", "No task takes its templates from the file.",
         file_rules.unused_template_file),
)  # fmt: skip
TASK_RULES: Sequence[Rule[TaskSubject]] = (
    Rule("broken-task", "error", "source", "The catalog names what the source or the kind does not have.",
         file_rules.broken_task),
    Rule("labels-without-words", "error", "source", "Labels have no words, or blank ones.",
         file_rules.labels_without_words),
    Rule("label-is-a-number", "warning", "source", "The words of the labels are nothing but ids.",
         file_rules.label_is_a_number),
    Rule("unusable-row", "error", "rows", "A row holds what its kind cannot take, such as a null text.",
         file_rules.unusable_row),
)  # fmt: skip
TEMPLATE_RULES: Sequence[Rule[Phrasing]] = (
    Rule("undefined-name", "error", "source", "Uses a name that the task does not have.",
         template_rules.undefined_name),
    Rule("column-type", "error", "source", "Uses a column that holds what templates cannot take, such as dates.",
         template_rules.column_type),
    Rule("single-braces", "error", "files", "Has `{x}` where `{{ x }}` was meant.",
         template_rules.single_braces),
    Rule("unused-choices", "warning", "files", "Has choices of its own and uses none.",
         template_rules.unused_choices),
    Rule("choices-per-label", "error", "files", "Has more or fewer choices than the task has labels.",
         template_rules.choices_per_label),
    Rule("missing-choices", "warning", "files", "Promises a list of choices and does not give all of them.",
         template_rules.missing_choices),
    Rule("target-in-prompt", "error", "files", "The prompt prints what the output is to tell.",
         template_rules.target_in_prompt),
    Rule("output-in-prompt", "warning", "rows", "The text to write stands in the prompt, word for word.",
         template_rules.output_in_prompt),
    Rule("constant-output", "error", "files", "The output does not depend on the row.",
         template_rules.constant_output),
    Rule("same-output", "warning", "rows", "The output is the same in every row of the sample.",
         template_rules.same_output),
    Rule("empty-output", "error", "rows", "The output is blank, always or on rows of the sample.",
         template_rules.empty_output),
    Rule("fails-on-row", "error", "rows", "Cannot be rendered on rows of the sample.",
         template_rules.fails_on_row),
    Rule("trailing-whitespace", "warning", "files", "Puts whitespace at the end of a line or a part.",
         template_rules.trailing_whitespace),
    Rule("row-by-row", "note", "rows", "Jinja renders it row by row, which takes longer than what is compiled.",
         template_rules.row_by_row),
)  # fmt: skip
RULES: Sequence[AnyRule] = (*FILE_RULES, *TASK_RULES, *TEMPLATE_RULES)


def chosen(select: Iterable[str], ignore: Iterable[str]) -> frozenset[str]:
    """Return the names of the rules that are selected (all, if `select` is empty) and not ignored.

    Raises:
        UsageError: an entry is neither the name of a rule nor the start of one; with the nearest name.
    """
    selected, ignored = _named(select, "--select"), _named(ignore, "--ignore")
    return (selected or frozenset(rule.name for rule in RULES)) - ignored


def _named(entries: Iterable[str], option: str) -> frozenset[str]:
    names = [rule.name for rule in RULES]
    found: set[str] = set()
    for entry in entries:
        matching = [entry] if entry in names else [name for name in names if entry and name.startswith(entry)]
        if not matching:
            raise UsageError(f"{option}: no rule is named {quoted(entry)}", hint=nearest(entry, names))
        found.update(matching)
    return frozenset(found)
