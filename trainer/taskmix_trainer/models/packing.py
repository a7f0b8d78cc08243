"""Whether a model can read examples side by side, found out by letting it."""

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch

from taskmix_trainer.models import attention

_LOG = logging.getLogger("taskmix.trainer")
_LENGTHS = (7, 5, 9)
_MOST_APART = 0.02
"""The most that outputs may differ, as a share of the largest: rounding in bfloat16 is well below, a leak above."""


def enable_packing(model: Any, autocast: AbstractContextManager[Any]) -> bool:
    """Give a causal model the attention for examples side by side, if it then reads each as it does alone.

    Args:
        model: on the device that it trains on.
        autocast: the precision that it trains in; a context that can be entered once.

    Returns:
        Whether it has. If not, it is as before, and the reason is logged.
    """
    before = model.config._attn_implementation
    if getattr(model.config.get_text_config(), "attn_logit_softcapping", None):
        return _refused("its attention caps scores")
    if not getattr(model, "_supports_attention_backend", False):
        return _refused("its attention cannot be exchanged")
    attention.register()
    model.eval()
    try:
        model.set_attn_implementation("sdpa")
        with torch.no_grad(), autocast:
            examples = _examples(model)
            alone = torch.cat([model(input_ids=each).logits[0] for each in examples])
            model.set_attn_implementation(attention.NAME)
            together = model(**_side_by_side(examples), use_cache=False).logits[0]
    except (ValueError, RuntimeError, TypeError, KeyError) as error:
        model.set_attn_implementation(before)
        return _refused(str(error).splitlines()[0] if str(error) else type(error).__name__)
    apart = float((alone - together).abs().max() / alone.abs().max().clamp(min=1e-6))
    if not apart < _MOST_APART:
        model.set_attn_implementation(before)
        return _refused(f"examples side by side change each other (by {apart:.2g})")
    return True


def _refused(why: str) -> bool:
    _LOG.info("examples are filled up to like lengths rather than packed: %s", why)
    return False


def _examples(model: Any) -> list[torch.Tensor]:
    device = next(model.parameters()).device
    size = int(model.get_input_embeddings().num_embeddings)
    # spread over the vocabulary, and always the same
    return [(torch.arange(1, length + 1, device=device) * (7919 + length) % size)[None] for length in _LENGTHS]


def _side_by_side(examples: list[torch.Tensor]) -> dict[str, torch.Tensor]:
    lengths = torch.tensor([0, *(each.shape[1] for each in examples)], device=examples[0].device)
    return {
        "input_ids": torch.cat(examples, dim=1),
        "position_ids": torch.cat([torch.arange(each.shape[1], device=each.device) for each in examples])[None],
        "cu_seq_lens_q": lengths.cumsum(0).to(torch.int32),
    }
