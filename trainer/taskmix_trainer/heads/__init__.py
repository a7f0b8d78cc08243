"""What stands on top of a model: the classic heads, and language modelling, one module each."""

from collections.abc import Mapping

from taskmix_trainer.heads import choosing, classification, language, spans, tagging
from taskmix_trainer.heads.base import Encoder, Features, Head, Tally

HEADS: Mapping[str, Head] = {
    head.name: head
    for head in (
        classification.HEAD,
        tagging.HEAD,
        spans.HEAD,
        choosing.HEAD,
        language.CAUSAL,
        language.SEQ2SEQ,
    )
}

HEAD_OF_KIND: Mapping[str, str] = {
    "text-classification": classification.HEAD.name,
    "token-classification": tagging.HEAD.name,
    "question-answering": spans.HEAD.name,
    "multiple-choice": choosing.HEAD.name,
}
"""The classic head of a kind of task; text generation and conversations take what the model is."""

__all__ = ["HEADS", "HEAD_OF_KIND", "Encoder", "Features", "Head", "Tally"]
