"""Small models of random weights and examples for them, of every architecture and head that tests go through."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import transformers

from taskmix_trainer.heads import HEADS, Head
from taskmix_trainer.heads.base import Padding

VOCABULARY = 101
PAD = 0
_WIDTH: dict[str, Any] = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": VOCABULARY}
_LLAMA: dict[str, Any] = {**_WIDTH, "num_key_value_heads": 2, "intermediate_size": 64, "max_position_embeddings": 128}
_STARTS: dict[str, Any] = {"decoder_start_token_id": PAD}
_BERT: dict[str, Any] = {**_WIDTH, "intermediate_size": 64, "max_position_embeddings": 130, "pad_token_id": PAD}

CAUSAL: Mapping[str, Any] = {
    "llama": lambda: transformers.LlamaConfig(**_LLAMA),
    "qwen3": lambda: transformers.Qwen3Config(**_LLAMA, head_dim=8, tie_word_embeddings=True),
    "mistral": lambda: transformers.MistralConfig(**_LLAMA, sliding_window=6),
    "gemma": lambda: transformers.GemmaConfig(**_LLAMA, head_dim=8),
    "phi3": lambda: transformers.Phi3Config(**_LLAMA, pad_token_id=PAD),
    "gpt2": lambda: transformers.GPT2Config(
        n_embd=32, n_layer=2, n_head=4, vocab_size=VOCABULARY, n_positions=128, bos_token_id=1, eos_token_id=1
    ),
    "gpt_neox": lambda: transformers.GPTNeoXConfig(**_WIDTH, intermediate_size=64, max_position_embeddings=128),
}
ENCODERS: Mapping[str, Any] = {
    "bert": lambda: transformers.BertConfig(**_BERT),
    "roberta": lambda: transformers.RobertaConfig(**{**_BERT, "pad_token_id": 1}),
    "distilbert": lambda: transformers.DistilBertConfig(
        dim=32, n_layers=2, n_heads=4, hidden_dim=64, vocab_size=VOCABULARY, max_position_embeddings=130
    ),
    "electra": lambda: transformers.ElectraConfig(**_BERT, embedding_size=32),
}
SEQ2SEQ: Mapping[str, Any] = {
    "t5": lambda: transformers.T5Config(
        d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, vocab_size=VOCABULARY, **_STARTS
    ),
    "bart": lambda: transformers.BartConfig(
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        vocab_size=VOCABULARY,
        max_position_embeddings=128,
        pad_token_id=PAD,
        bos_token_id=1,
        eos_token_id=2,
        decoder_start_token_id=2,
    ),
}
FAMILIES: Mapping[str, Mapping[str, Any]] = {
    "causal-language-model": CAUSAL,
    "sequence-to-sequence": SEQ2SEQ,
    "sequence-classification": ENCODERS,
    "token-classification": ENCODERS,
    "question-answering": ENCODERS,
    "multiple-choice": ENCODERS,
}
EVERY = [(head, family) for head, families in FAMILIES.items() for family in families]


def make_model(head: str, family: str, *, labels: int = 3, seed: int = 0) -> Any:
    """Return a model of random weights, without dropout."""
    config = FAMILIES[head][family]()
    config.num_labels = 2 if head == "question-answering" else labels
    for name in ("dropout", "attn_pdrop", "embd_pdrop", "resid_pdrop", "hidden_dropout_prob", "dropout_rate"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    for name in ("attention_dropout", "attention_probs_dropout_prob", "classifier_dropout", "activation_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    for name in ("summary_last_dropout", "seq_classif_dropout", "qa_dropout"):
        if hasattr(config, name):
            setattr(config, name, 0.0)
    torch.manual_seed(seed)
    return getattr(transformers, HEADS[head].model_class).from_config(config)


def make_features(head: str, count: int = 8, *, several: bool = False) -> list[dict[str, Any]]:
    """Return features of different lengths, always the same."""
    numbers = torch.Generator().manual_seed(7)

    def ids(length: int) -> list[int]:
        return torch.randint(3, VOCABULARY, (length,), generator=numbers).tolist()

    found = []
    for at in range(count):
        length = 4 + (at * 5) % 11
        feature: dict[str, Any] = {"input_ids": ids(length), "row": f"train:{at}"}
        if head == "sequence-classification":
            feature["labels"] = [at % 3, 2] if several and at % 3 != 2 else [at % 3]
        elif head == "token-classification":
            feature["labels"] = [-100 if place % 3 == 0 else place % 3 for place in range(length)]
        elif head == "question-answering":
            feature |= {"start": at % 4, "end": min(at % 4 + 2, length - 1)}
        elif head == "multiple-choice":
            lengths = [3 + (at + option) % 5 for option in range(2 + at % 3)]
            feature |= {"input_ids": ids(sum(lengths)), "lengths": lengths, "labels": at % 2}
        elif head == "causal-language-model":
            feature["trained"] = [2, 4] if at % 3 else [1, 2, 3, length]
        else:
            feature["labels"] = ids(2 + at % 4)
        found.append(feature)
    return found


def batch_of(head: str, features: Sequence[Mapping[str, Any]], *, several: bool = False) -> dict[str, torch.Tensor]:
    """Return a padded batch, whose loss is divided by the number of its labels."""
    kind: Head = HEADS[head]
    batch = kind.collate(features, Padding(PAD, labels=3 if several else 0))
    return {**batch, "items": torch.tensor(float(items_of(kind, features)))}


def items_of(head: Head, features: Sequence[Mapping[str, Any]]) -> int:
    """Return how many labels features have."""
    return sum(head.count([feature[head.counted] for feature in features]))


def gradients(model: Any) -> dict[str, torch.Tensor]:
    """Return the gradients of a model's parameters, which are then forgotten."""
    found = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    model.zero_grad()
    return found
