"""Tiny models with random weights, and tokenizers trained on a few sentences: everything runs offline."""

from functools import cache
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    BartConfig,
    BloomConfig,
    Gemma2Config,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    MistralConfig,
    OPTConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3Config,
    T5Config,
)
from transformers.models.auto import modeling_auto

TEXTS = [
    "The cat sat on the mat. The dogs were running in the park, weren't they?",
    "Question: is it true, false, or can't you tell?\n\nAnswer: true",
    "Grüße aus Köln! 1,234.5 €; naïve café — 水が好きです。",
    "yes no maybe positive negative neutral A B C D, true:true:true:true:true:true",
]
SPECIAL = ["<pad>", "<s>", "</s>", "<unk>"]


@cache
def tokenizer(style: str) -> PreTrainedTokenizerFast:
    """A tokenizer of one of the styles in use.

    byte: byte-level BPE, as GPT-2 and Qwen have it, without a start token. llama: the same with a start token.
    unigram: with word marks and an end token, as T5 has it.
    """
    if style == "unigram":
        inner = Tokenizer(models.Unigram())
        inner.pre_tokenizer = pre_tokenizers.Metaspace()
        inner.decoder = decoders.Metaspace()
        trainer: Any = trainers.UnigramTrainer(
            vocab_size=120, special_tokens=SPECIAL, unk_token="<unk>", show_progress=False
        )
    else:
        inner = Tokenizer(models.BPE())
        inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        inner.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=360,
            special_tokens=SPECIAL,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
    inner.train_from_iterator(TEXTS, trainer)
    marks = {"llama": "<s> $A", "unigram": "$A </s>"}
    if style in marks:
        inner.post_processor = processors.TemplateProcessing(
            single=marks[style], special_tokens=[("<s>", 1), ("</s>", 2)]
        )
    kind: Any = PreTrainedTokenizerFast
    made: PreTrainedTokenizerFast = kind(
        tokenizer_object=inner, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    return made


SMALL: dict[str, Any] = {
    "vocab_size": 400,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
GROUPED: dict[str, Any] = {**SMALL, "num_key_value_heads": 2, "head_dim": 8}
MARKS: dict[str, Any] = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
LAYERS = {"n_layer": 2, "n_head": 4}
CODERS = {
    f"{side}_{name}": size
    for side in ("encoder", "decoder")
    for name, size in (("layers", 2), ("attention_heads", 4), ("ffn_dim", 48))
}

CONFIGS: dict[str, tuple[Any, dict[str, Any]]] = {
    "gpt2": (GPT2Config, {"vocab_size": 400, "n_embd": 32, "n_positions": 256, **LAYERS, **MARKS}),
    "llama": (LlamaConfig, GROUPED),
    "qwen3": (Qwen3Config, GROUPED),
    "mistral": (MistralConfig, {**GROUPED, "sliding_window": 6}),
    "gemma2": (Gemma2Config, {**GROUPED, "sliding_window": 6, "query_pre_attn_scalar": 8}),
    "opt": (OPTConfig, {**SMALL, "ffn_dim": 48, "word_embed_proj_dim": 32, "max_position_embeddings": 256}),
    "bloom": (BloomConfig, {"vocab_size": 400, "hidden_size": 32, **LAYERS, **MARKS}),
    "neox": (GPTNeoXConfig, SMALL),
    "mamba": (MambaConfig, {"vocab_size": 400, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 4, **MARKS}),
    "t5": (
        T5Config,
        {"vocab_size": 400, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4}
        | {**MARKS, "decoder_start_token_id": 0},
    ),
    "bart": (BartConfig, {"vocab_size": 400, "d_model": 32, **CODERS, **MARKS, "decoder_start_token_id": 2}),
}


def config(family: str) -> PreTrainedConfig:
    kind, options = CONFIGS[family]
    made: PreTrainedConfig = kind(**options)
    return made


CAUSAL = ("gpt2", "llama", "qwen3", "mistral", "gemma2", "opt", "bloom", "neox", "mamba")
ENCODERS = ("t5", "bart")


@cache
def model(family: str, dtype: torch.dtype = torch.float32) -> PreTrainedModel:
    """A model with larger weights than usual, so that its probabilities are far from uniform."""
    torch.manual_seed(5)
    settings = config(family)
    kind: Any = (
        modeling_auto.AutoModelForSeq2SeqLM if settings.is_encoder_decoder else modeling_auto.AutoModelForCausalLM
    )
    made: Any = kind.from_config(settings)
    with torch.no_grad():
        for name, weight in made.named_parameters():
            if weight.ndim > 1 and "A_log" not in name and "conv" not in name:
                weight.normal_(0, 0.3)
    made.train(False)
    converted: PreTrainedModel = made.to(dtype)
    return converted
