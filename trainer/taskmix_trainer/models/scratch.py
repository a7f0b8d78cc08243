"""Models of random weights and tokenizers trained on the task's own text, so that everything runs offline.

The architectures are the standard ones: BERT where a head reads, Qwen3 where a model writes on, T5 where it answers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

READS = ("sequence-classification", "token-classification", "question-answering", "multiple-choice")
END, PAD, UNKNOWN = "<|end|>", "<|pad|>", "[UNK]"


@dataclass(frozen=True)
class Size:
    """The size of a model: width, layers, attention heads (half of them for keys), and tokens it tells apart."""

    width: int
    layers: int
    heads: int
    vocabulary: int
    positions: int = 2048


SIZES: Mapping[str, Size] = {
    "tiny": Size(width=64, layers=2, heads=4, vocabulary=2_000),
    "small": Size(width=256, layers=4, heads=4, vocabulary=8_000),
    "base": Size(width=768, layers=12, heads=12, vocabulary=32_000),
}


def train_tokenizer(size: str, head: str, texts: Iterable[str]) -> Any:
    """Return a fast tokenizer trained on texts: WordPiece for heads that read, byte-level BPE for models that write."""
    from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
    from transformers import PreTrainedTokenizerFast

    limit = SIZES[size].vocabulary
    if head in READS:
        special = ["[PAD]", UNKNOWN, "[CLS]", "[SEP]", "[MASK]"]
        tokenizer = Tokenizer(models.WordPiece(_pieces(texts, limit, special), unk_token=UNKNOWN))
        tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
        tokenizer.decoder = decoders.WordPiece()
        tokenizer.add_special_tokens(special)
        ids = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ids
        )
        names = {"pad_token": "[PAD]", "unk_token": UNKNOWN, "cls_token": "[CLS]", "sep_token": "[SEP]"}
        return PreTrainedTokenizerFast(
            tokenizer_object=tokenizer, mask_token="[MASK]", model_max_length=SIZES[size].positions, **names
        )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=limit,
        special_tokens=[PAD, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=PAD, eos_token=END, model_max_length=SIZES[size].positions
    )


def _pieces(texts: Iterable[str], limit: int, special: list[str]) -> dict[str, int]:
    """Return a vocabulary of WordPiece, always the same for the same texts."""
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

    normalizer = normalizers.BertNormalizer(lowercase=True)
    clean = [normalizer.normalize_str(text) for text in texts]
    # letters within words are numbered as they are met in a hash table, and ties go by numbers: so they come first
    within = [f"##{letter}" for letter in sorted(set("".join(clean))) if not letter.isspace()]
    learner = Tokenizer(models.WordPiece(unk_token=UNKNOWN))
    learner.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    first = [*special, *within]
    learner.train_from_iterator(
        clean, trainers.WordPieceTrainer(vocab_size=max(limit, len(first)), special_tokens=first, show_progress=False)
    )
    vocabulary: dict[str, int] = learner.get_vocab()
    return vocabulary


def make_config(size: str, head: str, tokenizer: Any, **options: Any) -> Any:
    """Return the configuration of a model of a size; `options` are those of the head, such as `num_labels`."""
    from transformers import BertConfig, Qwen3Config, T5Config

    of = SIZES[size]
    common: dict[str, Any] = {"vocab_size": len(tokenizer), "pad_token_id": tokenizer.pad_token_id}
    if head in READS:
        return BertConfig(
            hidden_size=of.width,
            num_hidden_layers=of.layers,
            num_attention_heads=of.heads,
            intermediate_size=4 * of.width,
            max_position_embeddings=of.positions,
            **common,
            **options,
        )
    common["eos_token_id"] = tokenizer.eos_token_id
    if head == "causal-language-model":
        return Qwen3Config(
            hidden_size=of.width,
            num_hidden_layers=of.layers,
            num_attention_heads=of.heads,
            num_key_value_heads=max(1, of.heads // 2),
            head_dim=of.width // of.heads,
            intermediate_size=3 * of.width,
            max_position_embeddings=of.positions,
            tie_word_embeddings=True,
            bos_token_id=None,
            **common,
        )
    common |= {"decoder_start_token_id": tokenizer.pad_token_id, "tie_word_embeddings": True}
    return T5Config(
        d_model=of.width,
        num_layers=of.layers,
        num_heads=of.heads,
        d_kv=of.width // of.heads,
        d_ff=4 * of.width,
        feed_forward_proj="gated-gelu",
        **common,
    )
