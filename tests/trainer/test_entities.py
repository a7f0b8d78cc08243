"""Entity scores are seqeval's, by its strict and by its default mode, however malformed the tags."""

import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from seqeval import metrics, scheme

from taskmix.kinds.token_classification import decode
from taskmix_trainer.evaluation.entities import (
    EntityScores,
    bioes_spans,
    conll_spans,
    entity_scores,
    iob2_spans,
    scheme_of,
)

TYPES = ("PER", "LOC", "geo-loc")
IOB = ["O", *(f"{prefix}-{kind}" for prefix in "BI" for kind in TYPES)]
BIOES = ["O", *(f"{prefix}-{kind}" for prefix in "BIES" for kind in TYPES)]


def corpora(tags: list[str]) -> st.SearchStrategy[list[tuple[list[str], list[str]]]]:
    """Sentences of any tags in any order: most are malformed."""
    pair = st.lists(st.tuples(st.sampled_from(tags), st.sampled_from(tags)), max_size=12)
    return st.lists(
        pair.map(lambda row: ([one for one, _ in row], [other for _, other in row])), min_size=1, max_size=8
    )


def sides(corpus: list[tuple[list[str], list[str]]]) -> tuple[list[list[str]], list[list[str]]]:
    return [gold for gold, _ in corpus], [predicted for _, predicted in corpus]


def reference(gold: list[list[str]], predicted: list[list[str]], **options: Any) -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found: dict[str, Any] = metrics.classification_report(
            gold, predicted, output_dict=True, zero_division=0, **options
        )
    return found


def check(found: EntityScores, at: int, report: dict[str, Any]) -> None:
    assert found.measures[at].value == pytest.approx(report["micro avg"]["f1-score"])


@given(corpus=corpora(IOB))
@example(corpus=[(["I-PER", "I-PER"], ["B-PER", "I-PER"])])
@example(corpus=[(["B-PER", "I-LOC", "I-PER"], ["B-PER", "B-LOC", "I-PER"])])
@settings(max_examples=300, deadline=None)
def test_iob2_is_scored_as_by_seqeval_in_both_modes(corpus: list[tuple[list[str], list[str]]]) -> None:
    gold, predicted = sides(corpus)
    found = entity_scores(gold, predicted, "IOB2")
    strict = entities_or_none(gold, predicted, mode="strict", scheme=scheme.IOB2)
    if strict is None:
        assert found.types == ()
        assert found.measures[0].value == 0
    else:
        check(found, 0, strict)
        assert {each.name: (each.precision, each.recall, each.f1, each.support) for each in found.types} == {
            name: pytest.approx((row["precision"], row["recall"], row["f1-score"], row["support"]))
            for name, row in strict.items()
            if not name.endswith(" avg")
        }
        assert found.precision == pytest.approx(strict["micro avg"]["precision"])
        assert found.recall == pytest.approx(strict["micro avg"]["recall"])
    lenient = entities_or_none(gold, predicted)
    assert found.measures[1].value == pytest.approx(lenient["micro avg"]["f1-score"] if lenient else 0)


def entities_or_none(gold: list[list[str]], predicted: list[list[str]], **options: Any) -> dict[str, Any] | None:
    """What seqeval says, or None where it fails since there are no entities at all."""
    try:
        return reference(gold, predicted, **options)
    except ValueError:
        return None


@given(corpus=corpora(BIOES))
@settings(max_examples=200, deadline=None)
def test_bioes_by_the_conll_rule_is_seqevals_default(corpus: list[tuple[list[str], list[str]]]) -> None:
    gold, predicted = sides(corpus)
    found = entity_scores(gold, predicted, "BIOES")
    lenient = entities_or_none(gold, predicted)
    assert found.measures[1].value == pytest.approx(lenient["micro avg"]["f1-score"] if lenient else 0)


@given(tags=st.lists(st.sampled_from([*BIOES, "U-PER", "L-PER", "L-LOC"]), max_size=15))
def test_the_conll_rule_is_how_the_kind_reads_tags(tags: list[str]) -> None:
    expected = [(each["type"], each["start"], each["end"]) for each in decode(tags, tags, prefixed=True)]
    assert list(conll_spans(tags)) == expected


def write(spans: Sequence[tuple[str, int]], single: str, last: str) -> list[str]:
    """Well-formed tags of spans of a type and a length."""
    tags: list[str] = []
    for kind, length in spans:
        if kind == "O":
            tags += ["O"] * length
        elif length == 1:
            tags.append(f"{single}-{kind}")
        else:
            tags += [f"B-{kind}", *[f"I-{kind}"] * (length - 2), f"{last}-{kind}"]
    return tags


SPANS = st.lists(st.tuples(st.sampled_from(["O", *TYPES]), st.integers(1, 4)), max_size=8)


@given(spans=SPANS)
@pytest.mark.parametrize(
    ("read", "single", "last"), [(iob2_spans, "B", "I"), (bioes_spans, "S", "E"), (bioes_spans, "U", "L")]
)
def test_well_formed_tags_are_read_alike_by_both_rules(
    read: Callable[[Sequence[str]], Iterator[tuple[str, int, int]]],
    single: str,
    last: str,
    spans: list[tuple[str, int]],
) -> None:
    tags = write(spans, single, last)
    starts = [sum(length for _, length in spans[:at]) for at in range(len(spans))]
    expected = [(kind, at, at + length) for (kind, length), at in zip(spans, starts, strict=True) if kind != "O"]
    assert list(read(tags)) == list(conll_spans(tags)) == expected


@pytest.mark.parametrize(
    ("tags", "strict"),
    [
        ("B-A I-A", []),
        ("B-A E-B", []),
        ("E-A", []),
        ("B-A O E-A", []),
        ("B-A B-A E-A", [("A", 1, 3)]),
        ("S-A E-A", [("A", 0, 1)]),
        ("B-A S-B E-A", [("B", 1, 2)]),
    ],
)
def test_malformed_bioes_is_no_entity(tags: str, strict: list[tuple[str, int, int]]) -> None:
    assert list(bioes_spans(tags.split())) == strict


@pytest.mark.parametrize(
    ("tags", "expected"),
    [
        ("O B-A I-A", "IOB2"),
        ("O O", "IOB2"),
        ("O I-A B-A", "IOB1"),
        ("B-A I-B", "IOB1"),
        ("B-A E-A", "BIOES"),
        ("S-A", "BIOES"),
        ("B-A L-A", "BILOU"),
        ("O PER PER", "IO"),
        ("B I O", "IOB2"),
    ],
)
def test_the_scheme_is_told_by_gold_tags(tags: str, expected: str) -> None:
    assert scheme_of([tags.split()]) == expected


def test_in_iob1_and_io_the_strict_rule_is_that_of_conll() -> None:
    found = entity_scores([["I-A", "B-A", "O"]], [["I-A", "I-A", "O"]])
    assert [each.terms.tolist() for each in found.measures] == [[[0, 1, 2]]] * 2
    found = entity_scores([["A", "A", "O"]], [["A", "A", "O"]])
    assert [each.value for each in found.measures] == [1, 1]


def test_an_entity_that_only_predictions_have_counts_against_its_type() -> None:
    found = entity_scores([["O", "O"]], [["B-A", "O"]])
    assert found.measures[0].value == 0
    assert [(each.name, each.support, each.predicted) for each in found.types] == [("A", 0, 1)]


def test_sequences_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="1 gold sequences but 2"):
        entity_scores([["O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="sequence 1 has 2 gold tags but 1"):
        entity_scores([["O"], ["O", "O"]], [["O"], ["O"]])
    with pytest.raises(ValueError, match="no scheme"):
        entity_scores([["O"]], [["O"]], "IOE")
