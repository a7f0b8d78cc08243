"""Generated text against one or several references: exact match, ROUGE-L, BLEU and chrF.

With several references the best one counts; BLEU and chrF have rules of their own for that, which are sacrebleu's.
"""

import re
import unicodedata
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from taskmix_trainer.evaluation.measures import Measure, mean_of

_NOT_ALPHANUMERIC = re.compile(r"[^a-z0-9]+")
_QUOTES = "\"'`“”‘’«»"


def plain(text: str) -> str:
    """Return the text in NFKC, without case, surplus white space, enclosing quotes and one full stop at the end.

    What is nothing but these stays as it is. So does punctuation inside, unlike in SQuAD's rule: -3 is not 3, nor is
    "a-b" the same as "ab".
    """
    folded = " ".join(unicodedata.normalize("NFKC", text).casefold().split())
    inner = folded.strip(_QUOTES).strip().removesuffix(".").strip(_QUOTES).strip()
    return inner or folded


def same(prediction: str, reference: str) -> float:
    """Return 1 if both texts are the same after `plain`, else 0."""
    return float(plain(prediction) == plain(reference))


def identical(prediction: str, reference: str) -> float:
    """Return 1 if both texts are the same but for white space around them and at the ends of lines: for code."""
    return float(_lines(prediction) == _lines(reference))


def _lines(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.strip().splitlines())


def rouge_l(prediction: str, reference: str, stem: bool = True) -> float:
    """Return the F-measure of ROUGE-L (Lin 2004) over the whole texts, 0 to 1; 0 where one has no words.

    Exactly `rougeL` of Google's rouge-score 0.1.2 with its own tokenizer: lower case, runs of a-z and 0-9; with `stem`,
    as Tk-Instruct has it, words of more than three letters by NLTK's Porter stemmer. Text in another script than Latin
    has no words under this rule, and scores 0: use chrF there.
    """
    guess, right = rouge_words(prediction, stem), rouge_words(reference, stem)
    if not guess or not right:
        return 0.0
    common = common_subsequence(guess, right)
    precision, recall = common / len(guess), common / len(right)
    return 2 * precision * recall / (precision + recall) if common else 0.0


def rouge_words(text: str, stem: bool) -> list[str]:
    """Return the words that rouge-score's default tokenizer makes of a text."""
    words = _NOT_ALPHANUMERIC.sub(" ", text.lower()).split()
    # a stem may be empty or keep nothing valid; rouge-score drops such words
    return [word for word in map(_stem, words) if word] if stem else words


@lru_cache(maxsize=100_000)
def _stem(word: str) -> str:
    return str(_stemmer()(word)) if len(word) > 3 else word


@lru_cache(maxsize=1)
def _stemmer() -> Callable[[str], str]:
    from nltk.stem.porter import PorterStemmer  # it takes half a second

    stem: Callable[[str], str] = PorterStemmer().stem
    return stem


def common_subsequence(one: Sequence[str], other: Sequence[str]) -> int:
    """Return the length of the longest common subsequence.

    Bit-parallel (Hyyrö 2004): a whole number holds a row of the table, a bit a word: a row costs a few operations.
    """
    positions: dict[str, int] = {}
    for index, word in enumerate(one):
        positions[word] = positions.get(word, 0) | 1 << index
    full = (1 << len(one)) - 1
    row = full
    for word in other:
        match = row & positions.get(word, 0)
        row = ((row + match) | (row - match)) & full
    return len(one) - row.bit_count()


def best(
    score: Callable[[str, str], float], predictions: Sequence[str | None], references: Sequence[Sequence[str]]
) -> list[float]:
    """Return the best score over the references of each example; None is taken for an empty text.

    Raises:
        ValueError: lengths differ, or an example has no reference.
    """
    if len(predictions) != len(references):
        raise ValueError(f"{len(predictions)} predictions but {len(references)} lists of references")
    for row, each in enumerate(references):
        if not each:
            raise ValueError(f"example {row} has no reference")
    pairs = zip(predictions, references, strict=True)
    return [max(score(prediction or "", one) for one in each) for prediction, each in pairs]


def rouge_scores(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> Measure:
    """Return the mean ROUGE-L with stemming."""
    return mean_of("rouge_l", best(rouge_l, predictions, references))


def bleu_scores(
    predictions: Sequence[str | None], references: Sequence[Sequence[str]], tokenizer: str = "13a"
) -> Measure:
    """Return corpus BLEU by sacrebleu (exponential smoothing), with the counts of each example.

    Args:
        predictions: a text an example.
        references: several count together: n-grams of any, and the closest length.
        tokenizer: one of sacrebleu's, see `bleu_tokenizer`.

    Raises:
        ValueError: lengths differ, or an example has no reference.
    """
    from sacrebleu.metrics.bleu import BLEU

    return Measure("bleu", "bleu", _statistics(BLEU(tokenize=tokenizer, force=True), predictions, references, 10))


def chrf_scores(predictions: Sequence[str | None], references: Sequence[Sequence[str]]) -> Measure:
    """Return corpus chrF2 by sacrebleu; the best reference of each example counts. Raises as `bleu_scores` does."""
    from sacrebleu.metrics.chrf import CHRF

    return Measure("chrf", "chrf", _statistics(CHRF(), predictions, references, 18))


def bleu_tokenizer(references: Sequence[Sequence[str]]) -> str:
    """Return the tokenizer of sacrebleu that suits the language: `13a`, or, for scripts without spaces, `zh` or `char`.

    The script of most letters decides: Han alone is Chinese; with Kana, or Thai, Lao, Khmer or Burmese, characters are
    the words. (WMT uses MeCab for Japanese, which is a package of its own.)
    """
    text = "".join(each[0] for each in references if each)[:100_000]
    han = sum("\u4e00" <= letter <= "\u9fff" or "\u3400" <= letter <= "\u4dbf" for letter in text)
    kana = sum("\u3040" <= letter <= "\u30ff" for letter in text)
    other = sum(
        "\u0e00" <= letter <= "\u0eff" or "\u1000" <= letter <= "\u109f" or "\u1780" <= letter <= "\u17ff"
        for letter in text
    )
    letters = sum(letter.isalnum() for letter in text)
    if 2 * (han + kana + other) <= letters:
        return "13a"
    return "char" if other > han or 10 * kana > han + kana else "zh"


def _statistics(
    metric: Any, predictions: Sequence[str | None], references: Sequence[Sequence[str]], terms: int
) -> "np.ndarray[tuple[int, int], np.dtype[np.float64]]":
    """Return what sacrebleu sums over the examples, of shape (examples, terms).

    It gives them by the method that its own significance tests use; tests compare the outcome with the public scores.
    """
    best(lambda *_: 0.0, predictions, references)  # for its checks
    if not predictions:
        return np.zeros((0, terms))
    most = max(map(len, references))
    columns = [[each[at] if at < len(each) else None for each in references] for at in range(most)]
    rows = metric._extract_corpus_statistics([prediction or "" for prediction in predictions], columns)
    return np.asarray(rows, dtype=np.float64).reshape(len(predictions), terms)
