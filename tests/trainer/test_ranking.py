"""Choices get the likelihood that a plain loop and lm-evaluation-harness give them."""

import logging
import warnings
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from taskmix_trainer.evaluation import ranking
from taskmix_trainer.evaluation.choices import Question, causal_questions, encoder_questions
from taskmix_trainer.evaluation.ranking import Ranked, decoder_start, model_length, rank
from taskmix_trainer.tokens.texts import start_tokens
from tests.trainer import tiny

PROMPTS = [
    "The cat sat on the mat. Question: is it true?\n\nAnswer:",
    "A",
    "The dogs were running in the park, weren't they? Question: is it true, false, or can't you tell?\nAnswer:",
    "Grüße aus Köln — 水:",
    "",
]
CHOICES = [
    [" true", " false", " can't tell"],
    ["BC", " no", " maybe not at all, the cats were running", " no"],
    [" A", " B", " C"],
    ["が", "好きです", "é"],
    ["yes", "no"],
]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Mamba tells that its kernels are not there."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    yield
    logging.getLogger("transformers").setLevel(logging.WARNING)


@torch.no_grad()
def plainly(model: PreTrainedModel, questions: Sequence[Question]) -> list[list[float]]:
    """One row a choice, no padding, no cache, and a softmax written out."""
    found = []
    for question in questions:
        scores = []
        for choice in question.choices:
            if model.config.is_encoder_decoder:
                decoded = torch.tensor([[decoder_start(model), *choice[:-1]]])
                logits = model(input_ids=torch.tensor([question.prefix]), decoder_input_ids=decoded).logits[0]
            else:
                ids = torch.tensor([[*question.prefix, *choice[:-1]]])
                logits = model(input_ids=ids, use_cache=False).logits[0, len(question.prefix) - 1 :]
            logs = torch.log_softmax(logits.float(), -1)
            scores.append(sum(logs[at, token].item() for at, token in enumerate(choice)))
        found.append(scores)
    return found


def text_of(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    text = tokenizer.decode(list(tokens))
    assert isinstance(text, str)
    return text


def sums(ranked: Sequence[Ranked]) -> list[list[float]]:
    return [list(each.sums) for each in ranked]


def close(found: list[list[float]], expected: list[list[float]], tolerance: float = 1e-4) -> None:
    assert [len(each) for each in found] == [len(each) for each in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=tolerance)


def ask(family: str, style: str = "byte", **options: Any) -> list[Question]:
    make = encoder_questions if family in tiny.ENCODERS else causal_questions
    return make(tiny.tokenizer(style), PROMPTS, CHOICES, **options)


@pytest.mark.parametrize("tokens", [1, 200, 10**6])
@pytest.mark.parametrize("family", [*tiny.CAUSAL, *tiny.ENCODERS])
def test_likelihoods_are_those_of_a_plain_loop(family: str, tokens: int) -> None:
    model, questions = tiny.model(family), ask(family)
    expected = plainly(model, questions)
    for cached in (None, False):
        found = rank(model, questions, tokens_per_batch=tokens, cached=cached)
        close(sums(found.ranked), expected)
        assert found.cached == (cached is None and family in tiny.CAUSAL and family != "mamba")


@pytest.mark.parametrize("family", ["gpt2", "qwen3", "mistral", "t5"])
@given(
    rows=st.lists(
        st.tuples(
            st.lists(st.integers(3, 399), min_size=1, max_size=20),
            st.lists(st.lists(st.integers(3, 399), min_size=1, max_size=4), min_size=1, max_size=5),
        ),
        min_size=1,
        max_size=6,
    ),
    tokens=st.sampled_from([1, 64, 4096]),
)
@settings(max_examples=20, deadline=None)
def test_any_tokens_in_any_batches(family: str, rows: list[tuple[list[int], list[list[int]]]], tokens: int) -> None:
    questions = [
        Question(tuple(prefix), tuple(map(tuple, choices)), tuple(len(each) for each in choices))
        for prefix, choices in rows
    ]
    model = tiny.model(family)
    close(sums(rank(model, questions, tokens_per_batch=tokens).ranked), plainly(model, questions))


@pytest.mark.parametrize(
    ("family", "style"), [("gpt2", "byte"), ("qwen3", "byte"), ("llama", "llama"), ("t5", "unigram")]
)
@pytest.mark.parametrize("separator", ["", " ", "\n\n"])
def test_likelihoods_are_those_of_lm_evaluation_harness(family: str, style: str, separator: str) -> None:
    pytest.importorskip("lm_eval")
    model, tokenizer = tiny.model(family), tiny.tokenizer(style)
    prompts = [prompt + separator for prompt in PROMPTS[:-1]]
    choices = [[choice.removeprefix(" " if separator else "") for choice in few] for few in CHOICES[:-1]]
    if family == "t5":
        # the harness moves white space at the end of a prompt to the decoder of this kind of model as well
        prompts = [prompt.rstrip() for prompt in prompts]
        questions = encoder_questions(tokenizer, prompts, choices)
    else:
        questions = causal_questions(tokenizer, prompts, choices, separator_scored=True)
    found = rank(model, questions)
    close(sums(found.ranked), harness(model, tokenizer, prompts, choices))
    assert [each.per_character for each in found.ranked] == [
        tuple(score / len(choice) for score, choice in zip(each.sums, few, strict=True))
        for each, few in zip(found.ranked, choices, strict=True)
    ]


def harness(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompts: list[str], choices: list[list[str]]
) -> list[list[float]]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lm_eval.api.instance import Instance
        from lm_eval.models.huggingface import HFLM

        kind = "seq2seq" if model.config.is_encoder_decoder else "causal"
        judge = HFLM(pretrained=model, tokenizer=tokenizer, backend=kind, batch_size=3)
        asked = [
            Instance("loglikelihood", {}, (prompt, choice), at)
            for at, (prompt, few) in enumerate(zip(prompts, choices, strict=True))
            for choice in few
        ]
        scores = iter(judge.loglikelihood(asked, disable_tqdm=True))
    return [[next(scores)[0] for _ in few] for few in choices]


def test_a_prompt_is_a_true_prefix_of_its_choices() -> None:
    tokenizer = tiny.tokenizer("byte")
    for prompt, few, question in zip(PROMPTS, CHOICES, causal_questions(tokenizer, PROMPTS, CHOICES), strict=True):
        for text, choice in zip(few, question.choices, strict=True):
            if prompt:
                assert text_of(tokenizer, [*question.prefix, *choice]) == prompt + text
                assert prompt.startswith(text_of(tokenizer, question.prefix).rstrip("\ufffd"))
            else:
                assert question.prefix == (tokenizer.bos_token_id,)


def test_where_a_token_runs_across_the_boundary_all_choices_start_before_it() -> None:
    tokenizer = tiny.tokenizer("byte")
    merged = tokenizer("true", add_special_tokens=False)["input_ids"]
    alone = tokenizer("tr", add_special_tokens=False)["input_ids"]
    assert len(merged) == 1
    assert alone != merged
    question = causal_questions(tokenizer, ["is it tr"], [["ue", "x"]])[0]
    assert text_of(tokenizer, question.prefix).strip() == "is it"
    assert [text_of(tokenizer, each).strip() for each in question.choices] == ["true", "trx"]
    assert question.characters == (2, 1)


def test_the_start_token_comes_first_and_once() -> None:
    tokenizer = tiny.tokenizer("llama")
    assert start_tokens(tokenizer) == (1,)
    assert start_tokens(tiny.tokenizer("byte")) == start_tokens(tiny.tokenizer("unigram")) == ()
    plain, marked = causal_questions(tokenizer, ["The cat", "<s>The cat"], [["A"], ["A"]])
    assert plain == marked
    assert plain.prefix.count(1) == 1
    assert plain.prefix[0] == 1
    (complete,) = causal_questions(tokenizer, ["The cat"], [["A"]], complete=True)
    assert complete.prefix == plain.prefix[1:]


def test_long_prompts_lose_their_start_and_are_counted() -> None:
    tokenizer, model = tiny.tokenizer("llama"), tiny.model("llama")
    prompts, choices = [PROMPTS[2], "A"], [[" A", " maybe not"], [" B", " C"]]
    whole, short = causal_questions(tokenizer, prompts, choices)
    cut, same = causal_questions(tokenizer, prompts, choices, max_length=12)
    longest = max(map(len, whole.choices))
    assert len(cut.prefix) + longest - 1 == 12
    assert cut.prefix == (1, *whole.prefix[-(12 - longest) :])
    assert cut.choices == whole.choices
    assert cut.cut == len(whole.prefix) - len(cut.prefix)
    assert same == short
    found = rank(model, [cut, same])
    assert (found.truncated, found.choices_cut) == (1, 0)
    close(sums(found.ranked), plainly(model, [cut, same]))


def test_choices_longer_than_the_model_are_cut_and_counted() -> None:
    tokenizer = tiny.tokenizer("byte")
    found = causal_questions(tokenizer, ["The cat sat"], [[" " + "x" * 50, " no"]], max_length=10)[0]
    assert (len(found.prefix), len(found.choices[0]), found.choices_cut) == (1, 10, 1)
    found = encoder_questions(tokenizer, ["The cat " + "y" * 50], [["x" * 50, "no"]], max_length=10)[0]
    assert (len(found.prefix), len(found.choices[0]), found.choices_cut) == (10, 10, 1)
    assert found.cut > 0
    assert rank(tiny.model("t5"), [found]).choices_cut == 1


def test_equal_choices_are_equal_and_the_first_is_taken() -> None:
    found = rank(tiny.model("gpt2"), causal_questions(tiny.tokenizer("byte"), ["A:"], [[" no", " no", " no"]])).ranked[
        0
    ]
    assert len(set(found.sums)) == 1
    assert found.best == found.best_per_character == 0


def test_the_best_choice_for_its_length_may_be_another() -> None:
    found = Ranked((-4.0, -6.0), (2, 12))
    assert (found.best, found.best_per_character) == (0, 1)


def test_letters_need_one_pass_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny.model("gpt2")
    question = causal_questions(tiny.tokenizer("byte"), ["The cat sat:"], [[" A", " B", " C"]])[0]
    assert all(len(each) == 1 for each in question.choices)
    found = rank(model, [question])
    assert found.tokens == len(question.prefix)
    assert not found.cached


def test_a_prompt_is_read_once() -> None:
    question = Question(tuple(range(3, 53)), ((5, 6), (7, 8), (9, 10)), (1, 1, 1))
    assert rank(tiny.model("gpt2"), [question], cached=True).tokens == 49 + 3 * 2
    assert rank(tiny.model("gpt2"), [question], cached=False).tokens == 3 * 51


def test_a_model_whose_cache_is_not_exact_reads_all_together(monkeypatch: pytest.MonkeyPatch) -> None:
    model, questions = tiny.model("gpt2"), ask("gpt2")
    real = ranking._with_cache
    monkeypatch.setattr(ranking, "_with_cache", lambda *parts: [each + 0.1 for each in real(*parts)])
    found = rank(model, questions)
    assert not found.cached
    close(sums(found.ranked), plainly(model, questions))


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2", "t5"])
def test_bf16_differs_by_its_precision_alone(family: str) -> None:
    questions = ask(family)
    found = rank(tiny.model(family, torch.bfloat16), questions)
    assert found.cached == (family != "t5")
    close(sums(found.ranked), plainly(tiny.model(family), questions), tolerance=3.0)


def test_a_model_keeps_its_mode_and_gets_no_gradients() -> None:
    model = tiny.model("llama")
    first, *_ = model.children()
    model.train(True)
    first.train(False)
    try:
        rank(model, ask("llama"))
        assert model.training
        assert not first.training
        assert all(weight.grad is None for weight in model.parameters())
    finally:
        model.train(False)


def test_progress_is_told() -> None:
    done: list[int] = []
    rank(tiny.model("gpt2"), ask("gpt2"), tokens_per_batch=1, progress=done.append)
    assert done == [1, 2, 3, 4, 5]
    assert rank(tiny.model("gpt2"), []).ranked == ()


def test_the_length_of_a_model() -> None:
    assert model_length(tiny.model("gpt2")) == 256
    assert model_length(tiny.model("t5")) is None


@pytest.mark.parametrize(
    ("prompts", "choices", "message"),
    [
        (["a"], [], "1 prompts but 0"),
        (["a"], [[]], "prompt 0 has no choices"),
        (["a", "b"], [["x"], ["x", ""]], "prompt 1 has no choices or an empty one"),
    ],
)
def test_what_cannot_be_asked_is_refused(prompts: list[str], choices: list[list[str]], message: str) -> None:
    for make in (causal_questions, encoder_questions):
        with pytest.raises(ValueError, match=message):
            make(tiny.tokenizer("byte"), prompts, choices)
