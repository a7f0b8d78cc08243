"""Batches write what one prompt at a time does, and stop where they should."""

import logging
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from taskmix_trainer.evaluation.choices import prompt_tokens
from taskmix_trainer.evaluation.generating import generate
from taskmix_trainer.evaluation.ranking import decoder_start
from tests.trainer import tiny

PROMPTS = [
    "The cat sat on the mat. Question: is it true?\n\nAnswer:",
    "A",
    "The dogs were running in the park, weren't they? Question: is it true, false, or can't you tell?\nAnswer:",
    "Grüße aus Köln — 水:",
    "",
    "yes no maybe",
    "The dogs",
]


@pytest.fixture(autouse=True, scope="module")
def quiet() -> Iterator[None]:
    """Mamba tells that its kernels are not there."""
    logging.getLogger("transformers").setLevel(logging.ERROR)
    yield
    logging.getLogger("transformers").setLevel(logging.WARNING)


@torch.no_grad()
def plainly(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, prompt: str, count: int) -> list[int]:
    """The most likely tokens one by one, all read anew for each; no cache, no batch."""
    encoder = bool(model.config.is_encoder_decoder)
    given = list(prompt_tokens(tokenizer, [prompt], encoder)[0].tokens)
    written: list[int] = []
    while len(written) < count and 2 not in written:
        if encoder:
            decoded = torch.tensor([[decoder_start(model), *written]])
            logits = model(input_ids=torch.tensor([given]), decoder_input_ids=decoded).logits
        else:
            logits = model(input_ids=torch.tensor([given + written]), use_cache=False).logits
        written.append(int(logits[0, -1].argmax()))
    return written


def text(tokenizer: PreTrainedTokenizerBase, tokens: list[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


@pytest.mark.parametrize("tokens", [1, 150, 10**6])
@pytest.mark.parametrize("family", [*tiny.CAUSAL, *tiny.ENCODERS])
def test_texts_are_those_of_a_plain_loop(family: str, tokens: int) -> None:
    model, tokenizer = tiny.model(family), tiny.tokenizer("llama" if family == "llama" else "byte")
    expected = [plainly(model, tokenizer, prompt, 12) for prompt in PROMPTS]
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=12, tokens_per_batch=tokens)
    assert [each.text for each in found.generated] == [text(tokenizer, each) for each in expected]
    assert [each.tokens for each in found.generated] == [len(each) for each in expected]
    assert [each.ended for each in found.generated] == ["end" if each[-1] == 2 else "length" for each in expected]
    assert found.endless == sum(each[-1] != 2 for each in expected)
    assert found.truncated == 0


@pytest.mark.parametrize("family", [*tiny.CAUSAL, *tiny.ENCODERS])
def test_rows_that_have_ended_leave_the_batch(family: str) -> None:
    """The others go on as before, and what is computed is less."""
    model, tokenizer = tiny.model(family), tiny.tokenizer("byte")
    prompts = [PROMPTS[at % 4] + PROMPTS[5][: at // 4] for at in range(12)]
    whole = [plainly(model, tokenizer, prompt, 16) for prompt in prompts]

    def ended(ends: set[int]) -> list[list[int]]:
        return [row[: next((at for at, each in enumerate(row, 1) if each in ends), 16)] for row in whole]

    # tokens that end some early and others late or never
    ends = {2}
    for token in (token for row in whole for token in row[1::4]):
        lengths = [len(row) for row in ended(ends | {token})]
        if lengths.count(16) > 2:
            ends.add(token)
    expected = ended(ends)
    assert len({len(row) for row in expected}) > 1
    assert sum(len(row) < 16 for row in expected) >= 6
    own, rows = model.generation_config, 0

    def count(module: Any, arguments: Any, options: Any, output: Any) -> None:
        nonlocal rows
        rows += len(output.logits)

    hook = model.register_forward_hook(count, with_kwargs=True)
    changed: Any = type(own)
    try:
        model.generation_config = changed(eos_token_id=sorted(ends))
        found = generate(model, tokenizer, prompts, max_new_tokens=16)
    finally:
        hook.remove()
        model.generation_config = own
    assert [each.tokens for each in found.generated] == [len(each) for each in expected]
    assert [each.text for each in found.generated] == [
        text(tokenizer, each[:-1] if each[-1] in ends else each) for each in expected
    ]
    if family != "mamba":
        assert rows < len(prompts) * max(map(len, expected))


class Scripted:
    """Makes a model write given tokens: what its prompt's last token says comes next."""

    def __init__(self, model: PreTrainedModel, script: dict[int, int]) -> None:
        self.model, self.script = model, script

    def __enter__(self) -> PreTrainedModel:
        def follow(module: Any, arguments: Any, options: Any, output: Any) -> Any:
            ids = options["input_ids"] if "input_ids" in options else arguments[0]
            for row in range(len(ids)):
                last = int(ids[row, -1])
                output.logits[row, -1, self.script.get(last, 3)] = 1e4
            return output

        self.hook = self.model.register_forward_hook(follow, with_kwargs=True)
        return self.model

    def __exit__(self, *error: object) -> None:
        self.hook.remove()


def chain(tokenizer: PreTrainedTokenizerBase, *words: str) -> list[int]:
    return [token for word in words for token in tokenizer(word, add_special_tokens=False)["input_ids"]]


def test_a_stop_string_ends_a_text_wherever_tokens_part_it() -> None:
    tokenizer = tiny.tokenizer("byte")
    letters = chain(tokenizer, *"xyzXYZ")
    assert len(letters) == 6
    script = dict(zip(letters, [*letters[1:], letters[0]], strict=True))
    with Scripted(tiny.model("gpt2"), script) as model:
        found = generate(model, tokenizer, ["x", "Y", "zX"], max_new_tokens=9, stops=["ZX", "Zx"])
    assert [(each.text, each.ended, each.tokens) for each in found.generated] == [
        ("yzXY", "stop", 6),
        ("", "stop", 2),
        ("Y", "stop", 3),
    ]


def test_a_stop_string_that_starts_in_the_prompt_does_not_count() -> None:
    tokenizer = tiny.tokenizer("byte")
    x, y = chain(tokenizer, "x", "y")
    with Scripted(tiny.model("gpt2"), {x: y, y: x}) as model:
        found = generate(model, tokenizer, ["x"], max_new_tokens=4, stops=["xy"]).generated[0]
    assert (found.text, found.ended) == ("y", "stop")


def test_the_end_token_ends_before_a_stop_string_would() -> None:
    tokenizer = tiny.tokenizer("byte")
    x, y = chain(tokenizer, "x", "y")
    with Scripted(tiny.model("gpt2"), {x: y, y: 2, 2: x}) as model:
        found = generate(model, tokenizer, ["x", "y"], max_new_tokens=5, stops=["x"]).generated
    assert [(each.text, each.ended, each.tokens) for each in found] == [("y", "end", 2), ("", "end", 1)]


def test_a_checkpoints_own_generation_settings_are_left_aside() -> None:
    tokenizer, model = tiny.tokenizer("byte"), tiny.model("qwen3")
    expected = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
    own = model.generation_config
    changed: Any = type(own)
    try:
        model.generation_config = changed(
            do_sample=True, temperature=3.0, repetition_penalty=5.0, num_beams=3, min_new_tokens=8, eos_token_id=[2, 5]
        )
        mine = model.generation_config
        found = generate(model, tokenizer, PROMPTS, max_new_tokens=8)
        assert model.generation_config is mine
    finally:
        model.generation_config = own
    assert [each.text for each in found.generated] == [each.text for each in expected.generated]


def test_any_of_a_models_end_tokens_ends() -> None:
    tokenizer, model = tiny.tokenizer("byte"), tiny.model("gpt2")
    x, y = chain(tokenizer, "x", "y")
    own = model.generation_config
    changed: Any = type(own)
    try:
        model.generation_config = changed(eos_token_id=[2, y])
        with Scripted(model, {x: y}):
            found = generate(model, tokenizer, ["x"], max_new_tokens=4).generated[0]
    finally:
        model.generation_config = own
    assert (found.text, found.tokens, found.ended) == ("", 1, "end")


def test_long_prompts_lose_their_start_so_that_the_answer_fits() -> None:
    tokenizer, model = tiny.tokenizer("llama"), tiny.model("llama")
    found = generate(model, tokenizer, PROMPTS, max_new_tokens=4, max_length=14)
    assert found.truncated == sum(len(each.tokens) > 10 for each in prompt_tokens(tokenizer, PROMPTS, False))
    assert found.truncated > 0
    assert all(each.tokens <= 4 for each in found.generated)
    whole = prompt_tokens(tokenizer, [PROMPTS[0]], False)[0]
    assert whole.last(10) == (1, *whole.tokens[-9:])


def test_a_model_with_less_room_than_asked_for_writes_less() -> None:
    found = generate(tiny.model("gpt2"), tiny.tokenizer("byte"), ["The cat sat"], max_new_tokens=99, max_length=5)
    assert found.generated[0].tokens <= 4


def test_no_prompts_and_wrong_arguments() -> None:
    model, tokenizer = tiny.model("gpt2"), tiny.tokenizer("byte")
    assert generate(model, tokenizer, []).generated == ()
    for options in ({"stops": [""]}, {"max_new_tokens": 0}):
        with pytest.raises(ValueError, match="positive, and no stop string is empty"):
            generate(model, tokenizer, ["a"], **options)


def test_progress_is_told() -> None:
    done: list[int] = []
    generate(
        tiny.model("gpt2"), tiny.tokenizer("byte"), PROMPTS, max_new_tokens=2, tokens_per_batch=1, progress=done.append
    )
    assert done == list(range(1, len(PROMPTS) + 1))
