"""How columns are named in the wild, and which of a dataset's columns a name fits."""

import re
from collections.abc import Iterable, Mapping, Sequence

TOKENS = ("tokens", "words", "token", "sentence_tokens")
TAGS = ("ner_tags", "tags", "ner", "labels", "pos_tags", "chunk_tags", "tag", "pos")
CONTEXT = ("context", "passage", "paragraph", "article", "story", "document", "support", "evidence")
QUESTION = ("question", "query", "goal", "stem", "problem", "sentence", "premise", "ctx", "prompt", "text")
ANSWERS = ("answers", "answer", "answer_text")
OPTIONS = ("choices", "options", "endings", "candidates", "answer_choices", "alternatives")
RIGHT = ("answerkey", "answer_key", "label", "answer", "correct", "correct_answer", "answer_idx", "gold", "target")
RATIONALE = ("rationale", "reasoning", "explanation", "abstractive_explanation", "cot", "chain_of_thought")
TEXT = (
    "text sentence content review utterance message tweet comment post headline question query document body abstract"
    " passage description title prompt input"
).split()
LABEL = (
    "label labels class category categories gold_label coarse_label sentiment emotion intent topic genre stance"
    " rating stars y gold relation language answer topics tags genres emotions intents classes"
).split()
TARGET = (
    "target output response completion answers answer summary highlights translation code sql bash query_sql cmd"
    " solution simple corrected reference paraphrase"
).split()
INPUT = (
    "input source instruction prompt question query document article dialogue dialog text problem nl utterance"
    " sentence content passage complex original request title"
).split()
MESSAGES = ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "turns")
PAIRS = (
    ("premise", "hypothesis"),
    ("sentence1", "sentence2"),
    ("question1", "question2"),
    ("text1", "text2"),
    ("question", "answer"),
    ("passage", "question"),
    ("context", "question"),
    ("question", "sentence"),
    ("query", "passage"),
    ("query", "document"),
    ("claim", "evidence"),
)
_RESERVED = frozenset("and else false False if in is none None not or recursive true True".split())
_NUMBERED = re.compile(r"(?P<stem>.*?[^\W\d_]|)_?(?P<number>\d|[a-eA-E])")
_OPTION_STEMS = ("", "option", "opt", "op", "choice", "sol", "solution", "ending", "answer", "alternative", "candidate")


def first(names: Iterable[str], columns: Iterable[str]) -> str | None:
    """Return the column that the first of the names fits: exactly, or without regard to case."""
    by_lower = {column.lower(): column for column in reversed(list(columns))}
    return next((by_lower[name] for name in names if name in by_lower), None)


def first_word(names: Iterable[str], columns: Sequence[str]) -> str | None:
    """Return what `first` does, or else the column of whose words, as in `source_sentence`, the first name is one."""
    listed = list(names)
    if found := first(listed, columns):
        return found
    words = {column: re.split(r"[_\W]+|(?<=\D)(?=\d)", column.lower()) for column in columns}
    return next((column for name in listed for column in columns if name in words[column]), None)


def pair(columns: Sequence[str]) -> tuple[str, str] | None:
    """Return two columns of texts that belong together: by their names, or by 1 and 2, a and b at their end."""
    for names in PAIRS:
        found = [first([name], columns) for name in names]
        if found[0] and found[1]:
            return found[0], found[1]
    groups = numbered(columns)
    return next(((found[0], found[1]) for found in groups.values() if len(found) == 2), None)


def option_columns(columns: Sequence[str]) -> list[str]:
    """Return columns that hold one option each, such as option1 and option2, or A, B, C and D."""
    groups = numbered(columns)
    return next((found for stem, found in groups.items() if stem.lower() in _OPTION_STEMS), [])


def numbered(columns: Sequence[str]) -> Mapping[str, list[str]]:
    """Return groups of columns that differ in the number or letter at their end alone, counted without a gap."""
    groups: dict[str, list[tuple[str, str]]] = {}
    for column in columns:
        if match := _NUMBERED.fullmatch(column):
            groups.setdefault(match["stem"], []).append((match["number"].lower(), column))
    found = {stem: sorted(members) for stem, members in groups.items() if len(members) > 1}
    return {stem: [column for _, column in members] for stem, members in found.items() if _consecutive(members)}


def _consecutive(members: Sequence[tuple[str, str]]) -> bool:
    codes = [ord(number) for number, _ in members]
    return codes == list(range(codes[0], codes[0] + len(codes))) and chr(codes[0]) in "01a"


def fits_jinja(*names: str) -> bool:
    """Whether all names can be used in an expression."""
    return all(name.isidentifier() and name[0] != "_" and name not in _RESERVED for name in names)
