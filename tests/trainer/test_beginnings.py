"""A beginning has the tokens that it has by itself, under every kind of tokenizer, and most of them are made once."""

import unicodedata
from functools import cache
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

from taskmix_trainer.tokens.beginnings import _Rules, _stands_alone, beginnings
from tests.trainer import tiny

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
LLAMA = QWEN.replace(r"\p{N}|", r"\p{N}{1,3}|")
LEARNT = [
    *tiny.TEXTS,
    "A\n\n\nB  \n  C \t it'll it's I'd Answer:  \n\n 12345 <|turn|>user\n",
    "  \n\n\n   ",
    "...\n\n!!\n",
]
ADDED = [
    AddedToken("<|turn|>", special=True),
    AddedToken("<m>", special=True, lstrip=True, rstrip=True),
    AddedToken("<m>b", normalized=False),
    AddedToken("é!", normalized=True),
]


@cache
def tokenizer(kind: str) -> Any:
    """Return a tokenizer: one that parts texts as GPT-2, Qwen or Llama 3 do, or whose words depend on more."""
    if kind in ("unigram", "llama"):
        return tiny.tokenizer(kind)
    patterns = {"qwen": QWEN, "llama3": LLAMA, "behind": rf"(?<=a)b|{LLAMA}"}
    byte = pre_tokenizers.ByteLevel(add_prefix_space=kind == "prefix", use_regex=kind not in patterns)
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = byte
    if kind in patterns:
        split = pre_tokenizers.Split(Regex(patterns[kind]), "isolated")
        inner.pre_tokenizer = pre_tokenizers.Sequence([split, byte])
    if kind == "qwen":
        inner.normalizer = normalizers.NFC()
    inner.decoder = decoders.ByteLevel()
    inner.post_processor = processors.ByteLevel(trim_offsets=kind == "trimmed")
    trainer = trainers.BpeTrainer(
        vocab_size=600, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    inner.train_from_iterator(LEARNT * 3, trainer)
    made: Any = PreTrainedTokenizerFast
    found = made(tokenizer_object=inner, eos_token="<|end|>")
    found.add_tokens([*ADDED, *([AddedToken("lone", single_word=True)] if kind == "single" else [])])
    return found


LOCAL = ("gpt2", "qwen", "llama3", "llama")
OTHERS = ("trimmed", "prefix", "single", "behind", "unigram")
WORDS = (
    "a b cat 's 'll ' Answer: 1 234 12345 . ... ! < > | <|turn|> <|tu rn|> <m> <m>b lone é e 水 ᄀ ᅡ ᆨ 가 👩\u200d🚀 👩"
)
SPACES = ("", " ", "  ", "\n", "\n\n", "\t", "\r\n", "\x85", "\x1c", "\u3000", "\u200b", "\xa0", "\x00")
MARKS = ("\u0301", "\u0323", "\u0307")
PIECES = st.sampled_from([*WORDS.split(), *SPACES, *MARKS])
TEXTS = st.one_of(st.lists(PIECES, max_size=12).map("".join), st.text(max_size=10))


@pytest.mark.parametrize("kind", [*LOCAL, *OTHERS])
@given(before=TEXTS, after=TEXTS)
@example(before="a cat\n\n", after="cat")
@example(before="a  ", after="<|turn|>")
@example(before="a cat  <|tu", after="rn|>")
@example(before="cat cat  <m>", after="b")
@example(before="cat cat e", after="\u0301")
@example(before="cat it'l", after="l")
@example(before="a cat é", after="!")
@settings(max_examples=80, deadline=None)
def test_a_beginning_has_the_tokens_that_it_has_alone(kind: str, before: str, after: str) -> None:
    known = tokenizer(kind)
    ((found,),) = beginnings(known, [before + after], [[len(before)]])
    alone = known(before, add_special_tokens=False, return_offsets_mapping=True)
    assert found.ids == alone["input_ids"]
    assert found.offsets == alone["offset_mapping"]
    assert found.whole.ids == known(before + after, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("kind", [*LOCAL, *OTHERS])
def test_little_is_tokenised_again_where_words_stand_for_themselves(kind: str) -> None:
    text = "Is the cat on the mat, or in the park? It can't be both.\n\nAnswer: the park, I'd say"
    cuts = [text.rindex(" the park"), len(text)]
    ((short, whole),) = beginnings(tokenizer(kind), [text], [cuts])
    assert (_Rules.of(tokenizer(kind)) is None) == (kind in OTHERS) == (not short.kept)
    assert whole.ids == whole.whole.ids
    if kind in LOCAL:
        assert text[short.start : cuts[0]] == "Answer:"


def test_only_marks_and_jamo_are_composed_with_what_is_before() -> None:
    for letter in map(chr, range(0x10000)):
        parts = unicodedata.decomposition(letter).split(" ")
        if len(parts) == 2 and not parts[0].startswith("<"):
            assert not _stands_alone(chr(int(parts[1], 16))), letter
    assert _stands_alone("a")
    assert _stands_alone("水")
    assert not _stands_alone("\u11a8")
