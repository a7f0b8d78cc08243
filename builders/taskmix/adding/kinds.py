"""One guess a kind: what of a dataset would be its columns, if it were of that kind."""

from collections.abc import Callable, Mapping, Sequence

import polars as pl

from taskmix.adding import looking, naming
from taskmix.adding.guess import Guess, LabelWords, Mapped
from taskmix.adding.looking import Look
from taskmix.text import quoted

_MOST_LABELS = 200
_LONG_LABEL = 60
_LONG_TOKEN = 25
_SPANS = 0.9
Remarks = tuple[tuple[str, str], ...]


def conversation(look: Look) -> Guess:
    """Guess a list of turns."""
    lists = [name for name, dtype in look.schema.items() if _fields(dtype) and isinstance(dtype, pl.List)]
    turns = [name for name in lists if any({*pair} <= {*_fields(look.schema[name])} for pair in _TURNS)]
    found = naming.first(naming.MESSAGES, turns) or next(iter(turns), None)
    if found is None:
        return Guess("conversation", missing=("messages",))
    remark = ("kind", "it fits into the formats messages and sharegpt only")
    return Guess("conversation", {"messages": found}, remarks=(remark,))


_TURNS = (("role", "content"), ("from", "value"))


def token_classification(look: Look) -> Guess:
    """Guess words, and as many tags."""
    words = [name for name, dtype in look.schema.items() if dtype == pl.List(pl.String) and _are_words(look, name)]
    tokens = naming.first(naming.TOKENS, words) or next(iter(words), None)
    if tokens is None:
        return Guess("token-classification", missing=("tokens", "tags"))
    lists = {name: dtype.inner for name, dtype in look.schema.items() if isinstance(dtype, pl.List)}
    fitting = [
        name
        for name, inner in lists.items()
        if name != tokens and (inner.is_integer() or inner == pl.String) and _same_length(look, tokens, name)
    ]
    tags = naming.first(naming.TAGS, fitting) or naming.first_word(("tags", "ner", "labels"), fitting)
    if tags is None:
        return Guess("token-classification", {"tokens": tokens}, missing=("tags",))
    remarks: Remarks = tuple(("columns", f"other tags are in `{name}`") for name in fitting if name != tags)
    names, more = _words_of(look, tags)
    if not isinstance(names, Mapping) and "O" in names:
        names = ["O", *(word for word in names if word != "O")] if tags not in look.class_names else names
    return Guess("token-classification", {"tokens": tokens, "tags": tags}, names, remarks=(*remarks, *more))


def question_answering(look: Look) -> Guess:
    """Guess a passage, a question, and answers that stand in the passage."""
    texts = look.texts()
    context = naming.first(naming.CONTEXT, texts)
    question = naming.first(naming.QUESTION[:2], texts)
    answers = naming.first(naming.ANSWERS, look.schema)
    given = {"context": context, "question": question, "answers": answers}
    missing = tuple(name for name, column in given.items() if column is None)
    columns = {name: column for name, column in given.items() if column is not None}
    if not missing and context and answers and not _are_answers(look, context, answers):
        return Guess("question-answering", columns, missing=("answers",))
    return Guess("question-answering", columns, missing=missing)


def multiple_choice(look: Look) -> Guess:
    """Guess options, a question, and which option is right."""
    columns: dict[str, Mapped] = {}
    options = _options(look, columns)
    if not options:
        return Guess("multiple-choice", missing=("choices",))
    used = {part.split(".")[0] for each in columns.values() for part in ([each] if isinstance(each, str) else each)}
    rest = [name for name in look.schema if name not in used]
    texts = [name for name in look.texts() if name in rest]
    right, labels, more = _right_option(look, columns, options, rest)
    question = naming.first(naming.QUESTION, [name for name in texts if name != right])
    context = naming.first(naming.CONTEXT, [name for name in texts if name not in (right, question)])
    rationale = naming.first(naming.RATIONALE, [name for name in texts if name != right])
    named = {"question": question, "label": right, "context": context, "rationale": rationale}
    columns |= {name: column for name, column in named.items() if column is not None}
    missing = tuple(name for name in ("question", "label") if named[name] is None)
    return Guess("multiple-choice", columns, labels, _known_labels(look, right), missing, more)


def text_classification(look: Look) -> Guess:
    """Guess a text, or two, and a label of few values, or a list of such labels."""
    label, remarks = _label(look)
    texts = [name for name in look.texts() if name != label]
    columns: dict[str, Mapped] = {}
    if found := naming.pair(texts):
        columns |= {"text": found[0], "text_pair": found[1]}
        other = naming.first(("sentence", *naming.CONTEXT), [name for name in texts if name not in found])
        if found == ("question", "answer") and other is not None and naming.fits_jinja(*found, other):
            columns["text"] = f"{{{{ {other} ~ '\\n\\n' ~ {found[0]} }}}}"
    elif text := naming.first(naming.TEXT, texts) or _longest(look, texts):
        columns["text"] = text
        others = [name for name in texts if name != text]
        remarks += tuple(("columns", f"`{name}` is text too") for name in others[:3])
    if label is not None:
        columns["label"] = label
    missing = tuple(name for name in ("text", "label") if name not in columns)
    if missing or label is None:
        return Guess("text-classification", columns, missing=missing)
    labels, more = _words_of(look, label)
    return Guess("text-classification", columns, labels, _known_labels(look, label), (), (*remarks, *more))


def text_generation(look: Look) -> Guess:
    """Guess a text to write, and what to work on."""
    if nested := _instances(look):
        return nested
    if translated := _translation(look):
        return translated
    listed = [name for name, dtype in look.schema.items() if dtype == pl.List(pl.String)]
    texts = look.texts()
    target = naming.first_word(naming.TARGET, [*texts, *listed])
    rest = [name for name in texts if name != target]
    rationale = naming.first(naming.RATIONALE, rest)
    rest = [name for name in rest if name != rationale]
    given = naming.first_word(naming.INPUT, rest)
    remarks: Remarks = ()
    if target is None and len(texts) == 2 and naming.pair(texts) is None and not _scores(look):
        given, target = texts
        remarks = (("columns", f"guessed from their order alone: `{given}`, then `{target}`"),)
    if target is None:
        return Guess("text-generation", missing=("target",))
    columns: dict[str, Mapped] = {"target": target}
    source = naming.first(naming.INPUT[:2], listed)
    if given is None and source is not None and source != target and naming.fits_jinja(source):
        columns["input"] = f"{{{{ {source} | join(' ') }}}}"
    elif given is not None:
        columns["input"] = _with_context(look, given, rest)
    if rationale is not None:
        columns["rationale"] = rationale
    if "input" not in columns:
        remarks += (("columns", "no column was found for `input`, what to work on"),)
    others = [name for name in rest if name not in str(columns.get("input", ""))]
    remarks += tuple(("columns", f"`{name}` is text too") for name in others[:3])
    return Guess("text-generation", columns, remarks=remarks)


GUESSES: Mapping[str, Callable[[Look], Guess]] = {
    "conversation": conversation,
    "token-classification": token_classification,
    "question-answering": question_answering,
    "multiple-choice": multiple_choice,
    "text-classification": text_classification,
    "text-generation": text_generation,
}
"""In the order in which they are tried: what asks for more comes first."""


def _fields(dtype: pl.DataType) -> Mapping[str, pl.DataType]:
    """Return the fields of a mapping, or of a list of them."""
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    return {each.name: each.dtype for each in inner.fields} if isinstance(inner, pl.Struct) else {}  # type: ignore[misc]


def _are_words(look: Look, name: str) -> bool:
    """Whether the items of lists are words rather than sentences."""
    items = look.sample[name].explode().drop_nulls()
    return len(items) > 0 and looking.mean(look.chars(name)) < _LONG_TOKEN and _spaceless(items)


def _spaceless(items: pl.Series) -> bool:
    return int(items.str.contains(" ", literal=True).sum()) < 0.1 * len(items)


def _same_length(look: Look, left: str, right: str) -> bool:
    lengths = look.sample.select(pl.col(left).list.len(), pl.col(right).list.len().alias("right")).drop_nulls()
    return len(lengths) > 0 and bool((lengths[left] == lengths["right"]).all()) and bool((lengths[left] > 1).any())


def _are_answers(look: Look, context: str, answers: str) -> bool:
    """Whether a column holds {text, …}, or texts that stand in the passage."""
    dtype = look.schema[answers]
    if "text" in _fields(dtype):
        return True
    rows = look.sample.select(context, answers).drop_nulls()
    if dtype == pl.List(pl.String):
        rows = rows.explode(answers).drop_nulls()
    elif dtype != pl.String:
        return False
    held = rows.select(pl.col(context).str.contains(pl.col(answers), literal=True)).to_series()
    return len(held) > 0 and int(held.sum()) >= _SPANS * len(held)


def _options(look: Look, columns: dict[str, Mapped]) -> list[list[str]]:
    """Note the columns of the options (and of their keys), and return the options, or their keys, of the sample."""
    fields = {name: _fields(dtype) for name, dtype in look.schema.items() if isinstance(dtype, pl.Struct)}
    both = [name for name, inside in fields.items() if inside.get("text") == pl.List(pl.String) == inside.get("label")]
    if found := naming.first(naming.OPTIONS, both):
        columns |= {"choices": f"{found}.text", "keys": f"{found}.label"}
        return look.sample[found].struct.field("label").drop_nulls().to_list()
    lists = [name for name, dtype in look.schema.items() if dtype == pl.List(pl.String)]
    if found := naming.first(naming.OPTIONS, lists):
        columns["choices"] = found
        return look.sample[found].to_list()
    if several := naming.option_columns(look.texts()):
        columns["choices"] = several
        return [list(row) for row in look.sample.select(several).rows()]
    return []


def _right_option(
    look: Look, columns: dict[str, Mapped], options: Sequence[Sequence[str]], rest: Sequence[str]
) -> tuple[str | None, LabelWords | None, Remarks]:
    """Return the column of the right option, and the labels that tell options apart, if they need any."""
    fewest = min((len(each) for each in options if each is not None), default=0)
    candidates = [name for each in naming.RIGHT if (name := naming.first([each], rest))]
    for name in candidates:
        dtype = look.schema[name]
        values = [value for value in look.values(name).to_list() if value not in (None, "", -1)]
        if dtype.is_integer() and values and min(values) == 1 and max(values) == fewest:
            return name, {value: str(value) for value in values}, (("labels", "options are counted from 1"),)
        if dtype.is_integer() and values and min(values) >= 0:
            return name, None, ()
        if dtype == pl.String and "keys" in columns:
            return name, None, ()
        if dtype == pl.String and _are_options(look, name, options):
            columns["keys"] = columns["choices"]
            return name, None, ()
        known = [chr(ord(start) + at) for start in "0Aa1" for at in range(fewest)]
        if dtype == pl.String and values and set(values) <= set(known):
            start = "1" if "1" in values and "0" not in values else min(values)
            start = start if start in "01" else "A" if start.isupper() else "a"
            return name, [chr(ord(start) + at) for at in range(fewest)], ()
    return None, None, ()


def _are_options(look: Look, name: str, options: Sequence[Sequence[str]]) -> bool:
    given = look.sample[name].to_list()
    return all(value in row for value, row in zip(given, options, strict=True) if value)


def _known_labels(look: Look, label: str | None) -> tuple[str, ...]:
    """Return the conditions that leave out rows whose label is -1 or blank, if there are any."""
    if label is None or isinstance(look.schema[label], pl.List):
        return ()
    values = look.values(label)
    if values.dtype.is_integer() and (values.drop_nulls() < 0).any():
        return ("label >= 0",)
    return ("label != ''",) if values.dtype == pl.String and "" in values.to_list() else ()


def _label(look: Look) -> tuple[str | None, Remarks]:
    """Return the column of a label or labels, and a remark on others that could be it."""
    named = [name for name in look.class_names if name in look.schema and _is_label(look, name)]
    others = [name for name in look.schema if name not in named and _is_label(look, name)]
    label = naming.first(naming.LABEL, named) or (min(named, key=lambda n: len(look.class_names[n])) if named else None)
    label = label or naming.first(naming.LABEL, others)
    if label == naming.first(["answer"], look.schema) and naming.first(naming.RATIONALE, look.schema):
        # an answer with its reasons is text to write
        return None, ()
    more = [name for name in [*named, *others] if name != label and (name in named or name in naming.LABEL)]
    return label, tuple(("columns", f"`{name}` could be a label too") for name in more[:3])


def _is_label(look: Look, name: str) -> bool:
    """Whether a column has few values: names, ids or truth values, or lists of them."""
    dtype = look.schema[name]
    inner = dtype.inner if isinstance(dtype, pl.List) else dtype
    if inner == pl.Boolean:
        return not isinstance(dtype, pl.List)
    if not (inner == pl.String or inner.is_integer()):
        return False
    if name in look.class_names:
        return True
    items = look.sample[name].explode().drop_nulls() if isinstance(dtype, pl.List) else look.sample[name].drop_nulls()
    distinct = items.n_unique()
    if inner == pl.String and (look.chars(name) > _LONG_LABEL).any():
        return False
    return 1 < distinct <= min(_MOST_LABELS, len(items) // 2)


def _words_of(look: Look, label: str) -> tuple[LabelWords, Remarks]:
    """Return the words of a label: the source's own names, its values, or its ids for want of words."""
    if label in look.class_names:
        return list(look.class_names[label]), (("labels", "the source's own names"),)
    values = [value for value in look.values(label).to_list() if value not in (None, "")]
    if all(isinstance(value, bool) for value in values):
        return {False: "no", True: "yes"}, (("labels", "the data has true and false: are these the words?"),)
    if all(isinstance(value, str) for value in values):
        return values, ()
    ids = [value for value in values if isinstance(value, int) and value >= 0]
    remark = (("labels", "the data has ids and no words: write the words"),)
    return ([str(id) for id in ids] if ids == list(range(len(ids))) else {id: str(id) for id in ids}), remark


def _longest(look: Look, texts: Sequence[str]) -> str | None:
    lengths = {name: looking.mean(look.chars(name)) for name in texts}
    return max(lengths, key=lambda name: lengths[name]) if lengths else None


def _scores(look: Look) -> bool:
    """Whether the data has a column of scores, which no kind takes."""
    return any(dtype.is_float() for dtype in look.schema.values())


def _with_context(look: Look, given: str, rest: Sequence[str]) -> str:
    """Return an instruction with the input or context that it is about, or a question with its passage."""
    if given == naming.first(["instruction", "prompt"], rest):
        more = naming.first(["input", "context"], [name for name in rest if name != given])
    elif naming.first(["instruction"], rest) and given == naming.first(["input"], rest):
        given, more = str(naming.first(["instruction"], rest)), given
    elif given == naming.first(["question"], rest):
        more = naming.first(naming.CONTEXT[:5], rest)
    else:
        more = None
    if more is None or not naming.fits_jinja(given, more):
        return given
    return f"{{{{ {given} ~ ('\\n\\n' ~ {more} if {more} else '') }}}}"


def _instances(look: Look) -> Guess | None:
    """Return a guess for an instruction with a list of its instances, each an input and an output."""
    task = naming.first(["instruction", "definition"], look.texts())
    for name, dtype in look.schema.items():
        fields = _fields(dtype)
        if task is None or not {"input", "output"} <= {*fields} or not naming.fits_jinja(task, name):
            continue
        each = f"{name}[0].%s" if isinstance(dtype, pl.List) else f"{name}.%s[0]"
        if not isinstance(dtype, pl.List) and fields["output"] != pl.List(pl.String):
            each = f"{name}.%s"
        given = each % "input"
        columns = {
            "input": f"{{{{ {task} ~ ('\\n\\n' ~ {given} if {given} else '') }}}}",
            "target": f"{{{{ {each % 'output'} }}}}",
        }
        return Guess("text-generation", columns, remarks=(("columns", "the first instance of each row"),))
    return None


def _translation(look: Look) -> Guess | None:
    """Return a guess for a mapping of one text a language."""
    dtype = look.schema.get("translation")
    fields = _fields(dtype) if isinstance(dtype, pl.Struct) else {}
    if len(fields) != 2 or any(inner != pl.String for inner in fields.values()):
        return None
    source, target = fields
    columns = {"input": f"translation.{source}", "target": f"translation.{target}"}
    remark = f"from {quoted(source)} into {quoted(target)}: the other way round is as good"
    return Guess("text-generation", columns, remarks=(("columns", remark),))
