"""ROUGE-L is rouge-score's, BLEU and chrF are sacrebleu's, with one reference or several."""

import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from taskmix_trainer.evaluation.texts import (
    best,
    bleu_scores,
    bleu_tokenizer,
    chrf_scores,
    common_subsequence,
    identical,
    plain,
    rouge_l,
    rouge_scores,
    same,
)

WORDS = st.sampled_from(
    "The cats cat's running runs ran generously 1,000 … naïve ИИ 水 x - . DIED İstanbul ies a_b".split()
)
TEXTS = st.one_of(st.lists(WORDS, max_size=12).map(" ".join), st.text(max_size=10))
EXAMPLES = st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3)), min_size=1, max_size=5)
STEMMED, UNSTEMMED = (RougeScorer(["rougeL"], use_stemmer=stem) for stem in (True, False))


@given(one=TEXTS, other=TEXTS)
@example(one="", other="")
@example(one="水水", other="水水")
def test_rouge_l_is_that_of_rouge_score(one: str, other: str) -> None:
    for stem, scorer in ((True, STEMMED), (False, UNSTEMMED)):
        assert rouge_l(one, other, stem) == pytest.approx(scorer.score(other, one)["rougeL"].fmeasure)


@given(examples=EXAMPLES)
def test_the_best_reference_counts(examples: list[tuple[str, list[str]]]) -> None:
    expected = [STEMMED.score_multi(each, text)["rougeL"].fmeasure for text, each in examples]
    found = rouge_scores([text for text, _ in examples], [each for _, each in examples])
    assert found.terms[:, 0].tolist() == pytest.approx(expected)


@given(one=st.text("abc", max_size=200), other=st.text("abcd", max_size=200))
@settings(max_examples=50)
def test_the_longest_common_subsequence_is_that_of_the_table(one: str, other: str) -> None:
    row = [0] * (len(other) + 1)
    for letter in one:
        above = row
        row = [0]
        for at, another in enumerate(other, 1):
            row.append(above[at - 1] + 1 if letter == another else max(above[at], row[-1]))
    assert common_subsequence(list(one), list(other)) == row[-1]


def columns(references: list[list[str]]) -> list[list[str | None]]:
    most = max(map(len, references))
    return [[each[at] if at < len(each) else None for each in references] for at in range(most)]


@given(examples=EXAMPLES)
@settings(deadline=None)
def test_bleu_and_chrf_are_those_of_sacrebleu(examples: list[tuple[str, list[str]]]) -> None:
    predictions, references = [text for text, _ in examples], [each for _, each in examples]
    streams = columns(references)
    bleu = sacrebleu.corpus_bleu(predictions, streams, force=True)  # type: ignore[arg-type]
    assert 100 * bleu_scores(predictions, references).value == pytest.approx(bleu.score)
    chrf = sacrebleu.corpus_chrf(predictions, streams)  # type: ignore[arg-type]
    assert 100 * chrf_scores(predictions, references).value == pytest.approx(chrf.score)


def test_nothing_said_is_an_empty_text() -> None:
    references = [["a cat"], ["a dog", "a cow"]]
    assert best(same, [None, "A dog."], references) == [0, 1]
    assert rouge_scores([None, "a dog"], references).value == 0.5
    assert bleu_scores([None, "a"], references).value == 0
    assert chrf_scores([None, ""], references).value == 0


def test_no_examples_have_no_figure() -> None:
    for score in (rouge_scores, bleu_scores, chrf_scores):
        found = score([], [])
        assert len(found) == 0
        assert found.value != found.value


def test_an_example_needs_a_reference() -> None:
    for score in (rouge_scores, bleu_scores, chrf_scores):
        with pytest.raises(ValueError, match="example 1 has no reference"):
            score(["a", "b"], [["a"], []])
        with pytest.raises(ValueError, match="1 predictions but 2"):
            score(["a"], [["a"], ["b"]])


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ("Yes.", "yes", 1),
        ("  new\n york ", "New York", 1),
        ('"Yes"', "yes", 1),
        ("“yes.”", "Yes", 1),
        ("ｙｅｓ", "yes", 1),
        ("STRASSE", "straße", 1),
        ("-3", "3", 0),
        ("the cat", "cat", 0),
        ("...", "", 0),
        (".", ".", 1),
        ("", "", 1),
    ],
)
def test_plain_texts_are_the_same(one: str, other: str, expected: float) -> None:
    assert same(one, other) == expected


@given(text=st.text())
def test_a_text_is_the_same_as_itself(text: str) -> None:
    assert same(text, text) == identical(text, text) == 1
    assert plain(text) or not text.strip()


def test_code_keeps_its_case_and_indentation() -> None:
    assert identical("\ndef f():  \n    return X\n", "def f():\n    return X") == 1
    assert identical("def f():\n  return X", "def f():\n    return X") == 0
    assert identical("x = A", "x = a") == 0


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["The cat, sat."], "13a"),
        (["Кошка"], "13a"),
        (["我们在北京。"], "zh"),
        (["猫が好きです"], "char"),
        (["แมวนั่งอยู่"], "char"),
        (["the word 猫 is Japanese"], "13a"),
        ([""], "13a"),
        ([], "13a"),
    ],
)
def test_bleu_takes_words_or_characters_by_the_script(texts: list[str], expected: str) -> None:
    assert bleu_tokenizer([[text] for text in texts]) == expected
