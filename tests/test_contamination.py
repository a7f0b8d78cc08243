"""Evaluation rows in training rows: found as a naive implementation of the definition does, and when disguised."""

import sys
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from random import Random

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from taskmix.mixing.contamination import Index, Limits, Origin, index, joined
from taskmix.mixing.leads import _COMMON, _LEAST, _ONE_IN
from taskmix.mixing.words import _CASED, SPACELESS, normalised, words
from tests.edited_leaks import EDITS, corpus, edited, overlap
from tests.planted_leaks import DISGUISES, Row

LIMITS = Limits()
VALIDATION = Origin("task", "validation")
LONG = "The quick brown fox jumps over the lazy dog near the old river bank on a bright and windy morning in May."
FILLER = [
    "Nobody expected rain that week, yet the harvest was lost to it.",
    "She counted eleven boats in the harbour before the fog came in.",
    "A letter without a stamp lay under the door when they returned.",
]


def rows(columns: Mapping[str, Sequence[object] | pl.Series]) -> pl.DataFrame:
    count = len(next(iter(columns.values())))
    return pl.DataFrame({"source_row": pl.Series(range(count), dtype=pl.UInt64), **columns}, strict=False)


def texts(*given: str) -> pl.DataFrame:
    return rows({"text": list(given)})


def reasons(found: Index, frame: pl.DataFrame) -> list[str | None]:
    return found.find(frame)["reason"].to_list()


@pytest.fixture
def held_out() -> Index:
    return index([(VALIDATION, texts(LONG, *FILLER, "Yes, I do."))], LIMITS)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (LONG, "exact"),
        (LONG.upper(), "exact"),
        (LONG.replace(" ", " \n\t"), "exact"),
        (LONG.replace(" ", " - ").rstrip("."), "exact"),
        (LONG.replace("o", "o\u200b\u00ad"), "exact"),
        ("".join(chr(ord(each) + 0xFEE0) if each > " " else each for each in LONG), "exact"),
        (f"{FILLER[0]} {LONG} And so on.", "near"),
        (LONG.replace("brown", "red").replace("windy", "rainy"), "near"),
        (" ".join(reversed(LONG.split())), None),
        ("yes i do", "exact"),
        ("Yes, I do. And you?", None),
        ("The quick brown fox jumps over something that nobody has told us about in all these years.", None),
        ("", None),
    ],
)
def test_what_is_found(held_out: Index, text: str, reason: str | None) -> None:
    assert reasons(held_out, texts(text)) == [reason]


def test_what_is_found_says_where(held_out: Index) -> None:
    near = LONG.replace("brown", "red")
    found = held_out.find(rows({"text": [FILLER[2], near, "Else."]}).with_columns(source_row=pl.Series([7, 8, 9])))
    assert found["source_row"].to_list() == [7, 8, 9]
    assert found["evaluation_row"].to_list() == [3, 0, None]
    assert found["task"].to_list() == ["task", "task", None]
    assert found["split"].to_list() == ["validation", "validation", None]
    assert found["overlap"][0] == 1
    assert 0.9 < found["overlap"][1] < 1
    assert found["overlap"][2] == 0


def test_without_evaluation_rows_nothing_is_found() -> None:
    assert reasons(index([], LIMITS), texts(LONG, "")) == [None, None]
    assert held_nothing().find(texts(LONG).clear()).is_empty()


def held_nothing() -> Index:
    return index([(VALIDATION, texts(LONG).clear())], LIMITS)


def test_a_row_without_words_is_one_of_its_marks() -> None:
    found = index([(VALIDATION, texts("?!", "😀 😀"))], LIMITS)
    assert reasons(found, texts("?!", "?", "!?", "😀  😀", "😀", "")) == ["exact", None, None, "exact", None, None]


def test_the_same_passage_with_another_question_is_no_leak() -> None:
    passage = f"{LONG} {' '.join(FILLER)}"
    asked = rows({"context": [passage], "question": ["How many boats were there in the harbour before the fog?"]})
    found = index([(VALIDATION, asked)], LIMITS)
    for question, reason in (
        ("What lay under the door when they came back from town?", None),
        ("How many boats were there in the harbour before the fog?", "exact"),
        ("How many boats were there in our harbour before the fog?", "near"),
    ):
        assert reasons(found, rows({"context": [passage], "question": [question]})) == [reason], question


def test_what_all_rows_of_a_task_share_drops_nothing() -> None:
    question = (
        "Is the sentiment that the author of this long review expresses positive or negative, and how do you know?"
    )
    words_of = [f"word{at} thing{at}" for at in range(_COMMON + 10)]
    found = index([(VALIDATION, rows({"text": words_of, "text_pair": [question] * len(words_of)}))], LIMITS)
    assert reasons(found, rows({"text": ["another", "word3 thing3"], "text_pair": [question] * 2})) == [None, "exact"]
    joint = [f"{question} {text}" for text in words_of]
    found = index([(VALIDATION, texts(*joint))], LIMITS)
    assert reasons(found, texts(f"{question} Something else.", joint[5])) == [None, "exact"]


def test_columns_are_found_wherever_they_stand() -> None:
    found = index([(VALIDATION, rows({"text": [LONG], "text_pair": [FILLER[0]]}))], LIMITS)
    assert reasons(found, rows({"text": [FILLER[0]], "text_pair": [LONG]})) == ["near"]
    assert reasons(found, texts(f"{LONG}\n{FILLER[0]}")) == ["exact"]
    assert reasons(found, texts(LONG, FILLER[0])) == [None, None]


def test_a_text_in_a_script_without_spaces_is_found_inside_another() -> None:
    chinese = "我昨天在图书馆里看到了一本关于古代建筑的书，觉得非常有意思。"
    found = index([(VALIDATION, texts(chinese, "他们明天要去北京参加一个国际会议。", "今天天气很好。"))], LIMITS)
    changed = chinese.replace("图书馆", "博物馆")
    assert reasons(found, texts(f"他说：{chinese}大家都笑了。", changed, "今天天气很好！", "明天天气很好。")) == [
        "near",
        "near",
        "exact",
        None,
    ]


@pytest.mark.parametrize(
    ("column", "text"),
    [
        (pl.Series([["New", "York", "."]]), "New York ."),
        (
            pl.Series([[{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]]),
            "user Hi assistant Ho",
        ),
        (pl.Series([None], dtype=pl.List(pl.String)), ""),
        (pl.Series([["a", None, "b"]]), "a b"),
        (pl.Series([42]), "42"),
    ],
)
def test_columns_are_joined(column: pl.Series, text: str) -> None:
    assert joined(pl.DataFrame({"a": column, "b": ["end"]})).to_list() == [f"{text} end"]


# the definition, with sets and loops


def plain_words(text: str) -> list[str]:
    """Return a text's words; for text of letters, marks that the tests use, and Chinese characters."""
    shown = "".join(each for each in unicodedata.normalize("NFKC", text) if unicodedata.category(each) != "Cf")
    folded = unicodedata.normalize("NFKC", shown.casefold())
    apart = "".join(f" {each} " if "\u4e00" <= each <= "\u9fff" else each for each in folded)
    found = "".join(each if unicodedata.category(each)[0] in "LMN" else " " for each in apart).split()
    return found or folded.split()


def runs(of: Sequence[str], n: int) -> list[tuple[str, ...]]:
    return [tuple(of[at : at + n]) for at in range(len(of) - n + 1)]


def naive(training: Sequence[Row], evaluation: Sequence[Row], limits: Limits) -> list[tuple[str | None, float]]:
    """Return reason and overlap of each training row."""
    columns = {text for row in evaluation for text in row}
    having = Counter(word for text in columns for word in set(plain_words(text)))
    common = Counter(run for text in columns for run in set(runs(plain_words(text), limits.ngram)))
    sharing = Counter(text for row in evaluation for text in row)

    def weight(word: str) -> int:
        return ((len(columns) + 1) // having[word]).bit_length() - 1

    def overlap(text: str, row: Sequence[str], others: Sequence[str]) -> float:
        own = plain_words(text)
        total = sum(map(weight, own))
        if len(own) < limits.ngram or not total:
            return float(not own or tuple(own) in runs(row, len(own)))
        there, here = Counter(runs(row, 2)), Counter(runs(others, 2))
        best = 0
        for begin in range(-len(own), len(row), len(own)):
            stretch = range(max(begin, 0), begin + 2 * len(own))
            pairs = {pair for at, pair in enumerate(runs(row, 2)) if at in stretch and there[pair] > here[pair]}
            covered = {at + step for at, pair in enumerate(runs(own, 2)) if pair in pairs for step in (0, 1)}
            best = max(best, sum(weight(own[at]) for at in covered))
        return best / total

    def near(row: Sequence[str], match: Row) -> float:
        able = [text for text in match if sum(weight(word) > 0 for word in plain_words(text)) >= _LEAST]
        if not able or min(sharing[text] for text in able) > _COMMON:
            return 0
        leading = min(able, key=lambda text: sharing[text])
        leads = {run for run in runs(plain_words(leading), limits.ngram) if common[run] <= _COMMON}
        if len(leads & set(runs(row, limits.ngram))) < max(len(leads) // _ONE_IN, 1):
            return 0
        shares = []
        for at, text in enumerate(match):
            others = plain_words(" ".join((*match[:at], *match[at + 1 :])))
            inside = overlap(text, others, ()) >= limits.overlap
            shares.append(overlap(text, row, others if inside else ()))
        return min(shares)

    found: list[tuple[str | None, float]] = []
    for inputs in training:
        row = plain_words(" ".join(inputs))
        best = max((near(row, match) for match in evaluation), default=0)
        if row and row in [plain_words(" ".join(match)) for match in evaluation]:
            found.append(("exact", 1))
        else:
            found.append(("near", best) if best >= limits.overlap else (None, 0))
    return found


WORD = st.sampled_from([*"abcdefghij", "É", "ß", "SS", "Σ", "ﬁ", "fi", "a\u200bb", "我", "们好"])
TEXT = st.lists(WORD, max_size=24).map(" ".join)
SPELLED = st.builds(lambda text, mark: text.replace(" ", mark), TEXT, st.sampled_from([" ", ", ", "\u3000", "-"]))


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[list[str]], list[list[str]]]:
    width = draw(st.integers(1, 3))
    row = st.lists(SPELLED, min_size=width, max_size=width)
    evaluation = draw(st.lists(row, min_size=1, max_size=6))
    training = draw(st.lists(row, max_size=4))
    for copied in draw(st.lists(st.sampled_from(evaluation), max_size=4)):
        changed = [draw(st.sampled_from([text, text.upper(), f"{text} {draw(TEXT)}", text[3:]])) for text in copied]
        training.append(changed)
    return training, evaluation


@given(cases(), st.sampled_from([Limits(), Limits(3, 0.5), Limits(2, 0.9)]))
def test_the_index_finds_what_sets_and_loops_find(
    case: tuple[list[list[str]], list[list[str]]], limits: Limits
) -> None:
    training, evaluation = case
    unique = [list(row) for row in dict.fromkeys(map(tuple, evaluation))]
    frame = rows({f"c{at}": [row[at] for row in training] for at in range(len(evaluation[0]))})
    held = rows({f"c{at}": [row[at] for row in unique] for at in range(len(evaluation[0]))})
    found = index([(VALIDATION, held)], limits).find(frame)
    expected = naive(training, unique, limits)
    assert found["reason"].to_list() == [reason for reason, _ in expected]
    assert found["overlap"].to_list() == pytest.approx([overlap for _, overlap in expected])


@given(st.lists(SPELLED, min_size=1, max_size=30), st.integers(1, 7))
def test_how_rows_come_in_batches_does_not_matter(given_texts: list[str], size: int) -> None:
    found = index([(VALIDATION, texts(*given_texts[::2]))], Limits(2, 0.5))
    frame = texts(*(f"{text} a" for text in given_texts))
    assert pl.concat(found.find(piece) for piece in frame.iter_slices(size)).equals(found.find(frame))


@given(st.lists(st.text(st.characters(codec="utf-8"), max_size=12), min_size=1, max_size=8))
def test_words_are_those_of_the_normalised_text(given_texts: list[str]) -> None:
    found = pl.DataFrame({"text": given_texts}).select(normalised(pl.col("text")).alias("text"))["text"]
    hashes = words(pl.Series(given_texts, dtype=pl.String)).whole().tolist()
    again = words(found).whole().tolist()
    for (first, text), (second, other) in pairwise(zip(hashes, found, strict=True)):
        assert (first == second) == (text == other)
    assert hashes == again


@pytest.mark.parametrize("character", ["é", "Σ", "ς", "ß", "ẞ", "İ", "ŉ", "ᾳ", "Ǆ", "ﬃ", "Ａ", "①", "K", "ʼn"])
def test_folding_is_that_of_unicode(character: str) -> None:
    text = f"x{character}y"
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    assert pl.select(normalised(pl.lit(text))).item() == folded


def test_no_letter_with_case_is_left_unfolded() -> None:
    later = map(chr, range(_CASED, sys.maxunicode + 1))
    assert [each for each in later if not each == each.lower() == each.casefold()] == []


def test_scripts_without_spaces_have_a_word_a_character() -> None:
    assert set(SPACELESS) >= {"Han", "Hiragana", "Katakana", "Thai"}
    counts = words(pl.Series(["日本語です", "กำลัง", "コーヒー 2 杯", "한국어 단어"])).counts.tolist()
    assert counts[0] == 5
    assert counts[2] == 6
    assert counts[3] == 2


# disguised copies of real rows


REAL = [
    ("stanfordnlp/sst2/validation.parquet", ("sentence",)),
    ("openai/gsm8k/main/test.parquet", ("question",)),
    ("aps/super_glue/rte/validation.parquet", ("premise", "hypothesis")),
    ("rajpurkar/squad/validation.parquet", ("context", "question")),
    ("shunk031/JGLUE/JNLI/validation.parquet", ("sentence1", "sentence2")),
]
FLOORS = {"inside longer text": 0.9, "one word in ten changed": 0.85}
"""The least share to be found of rows whose longest column has fifteen words; of the other disguises all."""


@pytest.mark.parametrize(("file", "columns"), REAL, ids=lambda value: value if isinstance(value, str) else "")
def test_disguised_copies_of_real_rows_are_found(shared_data: Path, file: str, columns: tuple[str, ...]) -> None:
    held = pl.read_parquet(shared_data / file, columns=list(columns)).unique(maintain_order=True).head(300)
    lengths = pl.max_horizontal(held.select(pl.all().str.count_matches(r"[ぁ-んァ-ン一-龯]|[A-Za-z0-9]+")))
    long_enough = held.select(lengths.alias("words"))["words"] >= 15
    found = index([(VALIDATION, rows({name: held[name] for name in columns}))], LIMITS)
    chosen = held.filter(long_enough).rows()
    others = [text for row in held.rows() for text in row]
    for name, disguise in DISGUISES.items():
        random = Random(name)
        copies = [disguise(row, random, others) for row in chosen]
        kept = found.find(rows({name: [copy[at] for copy in copies] for at, name in enumerate(columns)}))
        share = 1 - kept["reason"].null_count() / len(kept)
        assert share >= FLOORS.get(name, 0.99), (name, share)


def test_real_training_rows_that_are_no_copies_are_kept(shared_data: Path) -> None:
    held = pl.read_parquet(shared_data / "openai/gsm8k/main/test.parquet", columns=["question"]).head(500)
    found = index([(VALIDATION, rows({"question": held["question"]}))], LIMITS)
    for file, column in (
        ("openai/gsm8k/main/train.parquet", "question"),
        ("stanfordnlp/sst2/train.parquet", "sentence"),
    ):
        train = pl.read_parquet(shared_data / file, columns=[column]).head(7000)
        kept = found.find(rows({"question": train[column]}))
        assert len(kept) - kept["reason"].null_count() <= 0.001 * len(kept)


# edited copies


@pytest.mark.parametrize(
    ("edit", "words", "least"),
    [
        ("exchanged", 0, 0.5),
        ("swapped with the next", 0, 0.5),
        ("left out", -1, 0.5),
        ("put in", 1, 1.0),
    ],
)
def test_an_edit_does_what_it_says(edit: str, words: int, least: float) -> None:
    text = "the cat sat on the mat and the dog lay on the rug by the fire all day long"
    known = corpus([text, "the bird sat on the roof"])
    copies = [edited(text, EDITS[edit], 0.1, Random(seed), known) for seed in range(50)]
    changed = [copy for copy in copies if copy != text]
    assert len(changed) > 20
    more = [len(copy.split()) - len(text.split()) for copy in changed]
    assert min(more) * words >= 0 if words else set(more) == {0}
    assert all((each != 0) == bool(words) for each in more)
    assert min(overlap(text, copy) for copy in copies) >= least
    assert overlap(text, text) == 1
    assert edited(text, EDITS[edit], 0.0, Random(0), known) == text


def test_a_word_is_exchanged_for_one_with_the_same_neighbours() -> None:
    known = corpus(["a red house", "a blue house", "some words"])
    assert {known.like(["a", "red", "house"], 1, Random(seed)) for seed in range(9)} == {"blue"}
    assert known.like(["no", "such", "neighbours"], 1, Random(0)) in known.words


def test_edited_copies_of_real_rows_are_found(shared_data: Path) -> None:
    file = shared_data.parent / "natural-instructions" / "instances.parquet"
    texts = pl.scan_parquet(file).select("inputs").head(20_000).collect()["inputs"].unique(maintain_order=True)
    held = texts.filter(texts.str.count_matches(" ").is_between(20, 60)).head(300)
    found, known = index([(VALIDATION, rows({"text": held}))], LIMITS), corpus(texts)
    pairs = [(text, edited(text, EDITS["any of these"], 0.05, Random(text), known)) for text in held]
    kept = found.find(rows({"text": [copy for _, copy in pairs]}))
    near = [overlap(*pair) >= 0.9 for pair in pairs]
    close = kept.filter(pl.Series(near))
    assert len(close) > 200
    assert close["reason"].null_count() <= 0.1 * len(close)
