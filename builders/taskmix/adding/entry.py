"""A catalog entry as YAML text, with what was guessed said in comments beside the keys."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from taskmix.adding.guess import Guess, LabelWords
from taskmix.catalog.models import SourceSpec
from taskmix.kinds import KINDS
from taskmix.text import visible

_PLAIN = re.compile(r"[A-Za-z][\w./-]*( [\w./-]+)*")
_TAKEN = re.compile(r"(?i)(true|false|null|yes|no|on|off|y|n|nan|inf)")
_UNPRINTABLE = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_LANGUAGE_PAIR = re.compile(r"^[a-z]{2,3}[-_](to[-_])?[a-z]{2,3}$")
_WIDE = 118

_CLUSTERS: Sequence[tuple[str, frozenset[str]]] = (
    ("sentiment", frozenset("negative positive neg pos neutral".split())),
    ("nli", frozenset("entailment contradiction neutral not_entailment".split())),
    ("emotion", frozenset("joy anger sadness fear surprise love disgust neutral optimism".split())),
    ("paraphrase", frozenset("paraphrase not_paraphrase equivalent not_equivalent duplicate not_duplicate".split())),
    ("spam", frozenset("ham spam".split())),
    ("topic", frozenset("world sports business sci/tech politics science technology entertainment health".split())),
)
_KIND_CLUSTERS = {
    "text-classification": "classification",
    "token-classification": "ner",
    "question-answering": "reading-comprehension",
    "multiple-choice": "multiple-choice",
    "text-generation": "generation",
    "conversation": "dialogue",
}
_SKILLS: Sequence[tuple[str, str]] = (
    ("translat", "translation"),
    ("summar", "summarization"),
    ("highlights", "summarization"),
    ("code", "code"),
    ("sql", "text-to-sql"),
    ("bash", "code"),
    ("math", "math"),
    ("gsm8k", "math"),
    ("instruct", "instructions"),
    ("prompt", "instructions"),
    ("question", "closed-book-qa"),
)


@dataclass(frozen=True)
class Card:
    """What a dataset's card says of it."""

    licences: tuple[str, ...] = ()
    languages: tuple[str, ...] = ()


def write(name: str, source: SourceSpec, splits: Mapping[str, str] | None, guess: Guess, card: Card) -> list[str]:
    """Return the lines of an entry below `tasks:`, indented by two blanks a level."""
    remarks: dict[str, list[str]] = {}
    for key, remark in guess.remarks:
        remarks.setdefault(key, []).append(remark)
    labels = guess.labels
    lines = [f"{scalar(name)}:"]
    lines += _key("kind", guess.kind, remarks.get("kind", []))
    lines += _key("cluster", cluster(guess, source), ["a guess: the skill, by which tasks are held out together"])
    lines += _key("source", _flow(source.model_dump(exclude_defaults=True)), [])
    if splits is not None:
        flow = ", ".join(f"{ours}: {theirs}" for ours, theirs in splits.items())
        lines += _key("splits", f"{{{flow}}}", remarks.get("splits", []))
    order = list(KINDS[guess.kind].columns)
    columns = {ours: guess.columns[ours] for ours in order if guess.columns.get(ours, ours) != ours}
    if columns:
        lines += _columns(columns, remarks.get("columns", []))
    elif remarks.get("columns"):
        lines += [f"  # columns: {_comment(remark)}" for remark in remarks["columns"]]
    if labels is not None:
        lines += _labels(labels, remarks.get("labels", []))
    if guess.where:
        condition = scalar(f"{{{{ {' and '.join(guess.where)} }}}}")
        lines += _key("where", condition, ["rows that cannot be used are left out"])
    languages = scalar(card.languages[0]) if len(card.languages) == 1 else _flow(list(card.languages))
    lines += _key("language", languages, []) if card.languages else ["  # language: en, unless you say another"]
    licences = scalar(card.licences[0]) if len(card.licences) == 1 else _flow(list(card.licences))
    unknown = ["no card names one: look it up"]
    lines += _key("license", licences, []) if card.licences else _key("license", "unknown", unknown)
    return lines


def cluster(guess: Guess, source: SourceSpec) -> str:
    """Guess the skill: from the words of the labels, what is written and of what, and how the dataset is called."""
    words = guess.labels.values() if isinstance(guess.labels, Mapping) else guess.labels or ()
    lowered = {word.lower() for word in words}
    if guess.kind == "text-classification":
        for name, known in _CLUSTERS:
            if len(lowered) > 1 and lowered <= known:
                return name
    if guess.kind == "text-generation":
        called = " ".join(str(each or "") for each in (source.hub, source.config, source.path))
        if _LANGUAGE_PAIR.search(source.config or ""):
            return "translation"
        for text in (guess.columns.get("target"), called, guess.columns.get("input")):
            for part, name in _SKILLS:
                if part in str(text or "").lower():
                    return name
    return _KIND_CLUSTERS[guess.kind]


def _columns(columns: Mapping[str, object], remarks: Sequence[str]) -> list[str]:
    """Return the columns on one line, or each on one of its own where that is too long."""
    flow = _flow(columns)
    if len(flow) < _WIDE - 20 and not any("{{" in str(theirs) for theirs in columns.values()):
        return _key("columns", flow, remarks)
    above = [f"  # {_comment(remark)}" for remark in remarks]
    return [*above, "  columns:", *(f"    {ours}: {_flow(theirs)}" for ours, theirs in columns.items())]


def _key(key: str, value: str, remarks: Sequence[str]) -> list[str]:
    """Return a key's line, with a remark behind it, or with several or long ones above it."""
    comments = [f"# {_comment(remark)}" for remark in remarks]
    line = f"  {key}: {value}"
    if len(comments) == 1 and len(line) + len(comments[0]) + 2 <= _WIDE:
        return [f"{line}  {comments[0]}"]
    return [*(f"  {comment}" for comment in comments), line]


def _labels(labels: LabelWords, remarks: Sequence[str]) -> list[str]:
    """Return the labels on one line, or broken between words."""
    flow = _flow(labels)
    if len(flow) < _WIDE - 20:
        return _key("labels", flow, remarks)
    pairs = [f"{_label_key(key)}: {_flow(each)}" for key, each in labels.items()] if isinstance(labels, Mapping) else []
    lines = [f"  # {_comment(remark)}" for remark in remarks] + [f"  labels: {flow[0]}"]
    for item in pairs or map(_flow, labels):
        if len(lines[-1]) + len(item) + 2 > _WIDE:
            lines.append("    ")
        lines[-1] += f"{item}, "
    lines[-1] = lines[-1].removesuffix(", ") + flow[-1]
    return [line.rstrip() for line in lines]


def _comment(text: str) -> str:
    return visible(" ".join(text.split()))


def _flow(value: object) -> str:
    """Return a value in YAML's flow style."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_label_key(key)}: {_flow(each)}' for key, each in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    return scalar(value)


def _label_key(key: object) -> str:
    return str(key).lower() if isinstance(key, bool) else scalar(key)


def scalar(value: object) -> str:
    r"""Return a text or number in YAML, quoted if it could be read as anything else.

    >>> scalar("not entailment"), scalar("no"), scalar("a: b"), scalar(3)
    ('not entailment', '"no"', '"a: b"', '3')
    """
    if not isinstance(value, str):
        return str(value)
    if _PLAIN.fullmatch(value) and not _TAKEN.fullmatch(value):
        return value
    return _UNPRINTABLE.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))


def listed(lines: Iterable[str]) -> str:
    """Return lines as text, each with its end."""
    return "".join(f"{line}\n" for line in lines)
