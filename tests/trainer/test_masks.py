"""What an instruction example is to a model: its tokens, and which of them are trained on.

Golden files show it token by token, one a format and tokenizer: look at them after `just golden`.
"""

import json
import os
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from taskmix.output.formats import FORMATS
from taskmix_trainer import reading
from taskmix_trainer.evaluation.choices import prompt_tokens
from taskmix_trainer.heads.base import Encoder, Rows
from taskmix_trainer.heads.language import count_trained, encode_causal
from taskmix_trainer.models import scratch
from taskmix_trainer.targets import Mixture
from taskmix_trainer.tokens import texts

GOLDEN = Path(__file__).parent.parent / "golden" / "masks"
LEARNT = [
    "Is this review glad or cross?\n\nThe soup was cold, the café naïve; we won't come back. 1,234.5 € — 水",
    "Answer: cross\n\nQuestion: who wrote it? Answer: Ada Lovelace, in 1843.",
    "user assistant system <|user|> <|assistant|>",
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
WITH_EOS = (
    "{{ bos_token }}{% for m in messages %}[{{ m['role'] }}] {{ m['content'] | trim }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}[assistant] {% endif %}"
)


@cache
def tokenizer(family: str) -> Any:
    """Return a tokenizer of a family.

    bytes: byte-level BPE, which knows no beginning token and has no chat template. pieces: unigrams of words with their
    space, a space before the text, and a beginning token. words: WordPiece, which loses spaces and case. chatml: bytes
    under a chat template whose turns end with another token than texts do; turns: pieces under one that has both marks.
    """
    if family == "words":
        return scratch.train_tokenizer("tiny", "sequence-classification", LEARNT)
    if family in ("bytes", "chatml"):
        found = scratch.train_tokenizer("tiny", "causal-language-model", LEARNT)
        if family == "chatml":
            found.add_special_tokens({"additional_special_tokens": ["<|im_start|>", "<|im_end|>"]})
            found.chat_template = CHATML
        return found
    special = ["<pad>", "<s>", "</s>", "<unk>"]
    # written down: what is learnt is another in every process
    words = ["▁cross", "▁soup", "▁The", "▁was", "▁cold", "assistant", "user", "Answer", "▁or", "ss", "ro", "▁", "\n"]
    letters = sorted(set("".join(LEARNT)) - {" ", "\n", "水"})
    scores = [(word, 0.0) for word in special] + [(word, -2.0) for word in words] + [(each, -6.0) for each in letters]
    inner = Tokenizer(models.Unigram(scores, unk_id=special.index("<unk>")))
    inner.pre_tokenizer = pre_tokenizers.Metaspace()
    inner.decoder = decoders.Metaspace()
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    names = dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), special, strict=True))
    kind: Any = PreTrainedTokenizerFast
    found = kind(tokenizer_object=inner, **names)
    if family == "turns":
        found.chat_template = WITH_EOS
    return found


FAMILIES = ("bytes", "pieces", "words", "chatml", "turns")
SHOWN: dict[str, tuple[str, ...]] = {"prompt-completion": FAMILIES[:3], "alpaca": FAMILIES[:3], "text": FAMILIES[:3]}
SHOWN |= {"messages": FAMILIES, "sharegpt": ("bytes", "chatml", "turns")}


def rows_of(form: str, folder: Path) -> Rows:
    """Return an example as a mixture of a format has it on disk, read back."""
    asked = {"instruction": "Glad or cross?", "input": "The soup was cold."}
    frame = pl.DataFrame([{**asked, "prompt": "\n\n".join([*asked.values(), ""]), "output": "cross", "ending": "\n\n"}])
    stored = frame.select(*FORMATS[form](frame, None), pl.lit("1").alias("id"))
    (folder / "data").mkdir()
    name = "data/train-00000.parquet"
    pq.write_table(stored.to_arrow(), folder / name)
    lock: dict[str, Any] = {"mixture": "one", "spec": {"format": form}, "outputs": {name: {}}, "splits": {}}
    (rows,) = reading.mixture_rows(Mixture(folder, lock), "train")
    return rows


def shown(ids: Sequence[int], trained: Sequence[int], known: Any) -> str:
    """Return a line a token: whether it is trained on, its number, and its text."""
    inside = {at for start, end in zip(trained[::2], trained[1::2], strict=True) for at in range(start, end)}
    words = known.convert_ids_to_tokens(ids)
    lines = [
        f"{'train' if at in inside else '  .  '} {token:>5} {json.dumps(word, ensure_ascii=False)}"
        for at, (token, word) in enumerate(zip(ids, words, strict=True))
    ]
    return "\n".join(lines) + "\n"


@pytest.mark.parametrize(
    ("form", "family"), [(form, family) for form, families in SHOWN.items() for family in families]
)
def test_which_tokens_are_trained_on(form: str, family: str, tmp_path: Path) -> None:
    known = tokenizer(family)
    features, tally = encode_causal(rows_of(form, tmp_path), Encoder(known, 2048))
    assert not +tally
    found = shown(features["input_ids"][0], features["trained"][0], known)
    path = GOLDEN / f"{form}-{family}.txt"
    if os.environ.get("TASKMIX_GOLDEN") == "write":
        path.parent.mkdir(exist_ok=True)
        path.write_text(found, "utf-8")
    assert found == path.read_text("utf-8"), f"{path} differs; if that is meant: just golden"


PLAIN = """\
<|system|>
Be brief.
<|user|>
Hi.
<|assistant|>
Hello.<|end|>
<|user|>
Who are you?

<|assistant|>
A model.<|end|>
"""


def test_the_plain_chat_as_text() -> None:
    known = tokenizer("bytes")
    texts.ensure_chat_template(known)
    said = [("system", "Be brief."), ("user", "Hi."), ("assistant", "Hello."), ("user", "Who are you?\n")]
    messages = [{"role": role, "content": text} for role, text in said]
    asked = known.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert asked == PLAIN.removesuffix("A model.<|end|>\n")
    told = known.apply_chat_template([*messages, {"role": "assistant", "content": "A model."}], tokenize=False)
    assert told == PLAIN


# letters, what ends lines and words, marks that tokenizers know, and whatever else there is
PIECES = st.sampled_from(
    ["a", "cross", " ", "\n", "\n\n", "\t", "Answer:", "é", "水", "👩‍🚀", "'", "<", "|", "▁", "##s", "\u200b", "\r"]
)
TEXTS = st.one_of(st.lists(PIECES, max_size=8).map("".join), st.text(max_size=8))
SAID = TEXTS.filter(lambda text: bool(text.strip()))


@pytest.mark.parametrize("family", FAMILIES)
@given(prompt=TEXTS, completion=TEXTS)
@example(prompt="", completion="a")
@example(prompt="Answer:", completion=" cross")
@example(prompt="Answer: ", completion="cross")
@example(prompt="a\n", completion="\nb")
@example(prompt="\x00", completion="\x00")
@example(prompt="<s>a", completion="b")
@example(prompt="[CLS]", completion="[CLS]")
@settings(max_examples=60)
def test_what_is_asked_is_how_the_example_begins(family: str, prompt: str, completion: str) -> None:
    known = tokenizer(family)
    (tokens,) = texts.join(known, [prompt], [completion])
    (asked,) = prompt_tokens(known, [prompt], encoder=False)
    # nothing at all cannot be asked, so that a token stands for it
    alone = list(asked.tokens) if prompt or asked.tokens == texts.start_tokens(known) else []
    assert tokens.ids[: len(alone)] == alone
    start, end = tokens.trained
    # with nothing before it, a first token cannot be predicted
    assert start == max(len(alone), 1)
    assert end == len(tokens.ids)
    assert tokens.ids[-1] == texts.end_token(known), "the end is learnt"
    first = known.bos_token_id if family in ("pieces", "turns") else known.cls_token_id
    assert tokens.ids[:start].count(first) == (family not in ("bytes", "chatml")) or prompt.count("<s>") > 1
    if known.decode(tokens.ids[start:end], skip_special_tokens=True) and family in ("bytes", "chatml") and alone:
        assert known.decode(tokens.ids[start : end - 1]) == completion


@pytest.mark.parametrize("family", FAMILIES)
@given(turns=st.lists(st.tuples(SAID, SAID), min_size=1, max_size=3), system=st.none() | SAID)
@example(turns=[("a", "\nb"), ("\nc", "d")], system=None)
@settings(max_examples=40)
def test_what_is_asked_is_how_the_conversation_begins(
    family: str, turns: list[tuple[str, str]], system: str | None
) -> None:
    known = tokenizer(family)
    said = [
        {"role": role, "content": text}
        for pair in turns
        for role, text in zip(("user", "assistant"), pair, strict=True)
    ]
    messages = [*([{"role": "system", "content": system}] if system else []), *said]
    (tokens,) = texts.chats(known, [messages])
    asked = texts.chat_prompt(known, messages[:-1])
    assert tokens.ids[: len(asked)] == asked
    assert tokens.ids[-1] == texts.end_token(known)
    assert tokens.trained[-1] == len(tokens.ids), "the end is learnt"
    # of a lone control character, WordPiece leaves nothing
    assert len(tokens.trained) == 2 * len(turns) or family == "words"
    assert all(1 <= start < end for start, end in zip(tokens.trained[::2], tokens.trained[1::2], strict=True))
    assert tokens.ids[:2].count(known.bos_token_id) <= 1


@pytest.mark.parametrize("family", FAMILIES[:3])
@pytest.mark.parametrize("too_long", ["drop", "cut"])
@given(pairs=st.lists(st.tuples(TEXTS, SAID), min_size=1, max_size=6), limit=st.integers(3, 20))
@settings(max_examples=40)
def test_no_example_is_too_long_or_without_a_label(
    family: str, too_long: Any, pairs: list[tuple[str, str]], limit: int
) -> None:
    known = tokenizer(family)
    prompts, completions = map(list, zip(*pairs, strict=True))
    rows = {"prompt": prompts, "completion": completions, "row": [str(at) for at in range(len(pairs))]}
    features, tally = encode_causal(rows, Encoder(known, limit, too_long=too_long))
    whole = texts.join(known, prompts, completions)
    kept = [int(row) for row in features["row"]]
    assert len(kept) + tally["too long"] + tally["nothing to train on"] == len(pairs)
    assert all(count > 0 for count in count_trained(features["trained"]))
    for ids, trained, at in zip(features["input_ids"], features["trained"], kept, strict=True):
        assert len(ids) <= limit
        before, over = whole[at].before, len(whole[at].ids) - len(ids)
        assert ids == whole[at].ids[:before] + whole[at].ids[before + over :], "what is cut is the prompt's beginning"
        assert ids[trained[0] :] == whole[at].ids[whole[at].trained[0] :], "and the completion is whole"
    if too_long == "drop":
        assert kept == [at for at, each in enumerate(whole) if len(each.ids) <= limit]
        assert not tally["cut"]
    else:
        assert tally["cut"] == sum(len(whole[at].ids) > limit for at in kept)
        lost = [at for at in range(len(pairs)) if at not in kept]
        assert all(len(whole[at].ids) - whole[at].trained[0] + max(whole[at].before, 1) > limit for at in lost)


def test_a_template_that_rewrites_earlier_turns_is_refused() -> None:
    known = tokenizer("turns")
    before = known.chat_template
    known.chat_template = "{{ messages | length }}" + CHATML
    try:
        with pytest.raises(Exception, match="changes earlier turns"):
            texts.chats(known, [[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]])
    finally:
        known.chat_template = before


def test_without_an_end_token_nothing_is_trained() -> None:
    known = json.loads(tokenizer("bytes").backend_tokenizer.to_str())
    kind: Any = PreTrainedTokenizerFast
    with pytest.raises(Exception, match="no end token"):
        texts.join(kind(tokenizer_object=Tokenizer.from_str(json.dumps(known))), ["a"], ["b"])
