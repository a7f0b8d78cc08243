"""Attention of examples that lie side by side in one row: each looks at itself alone.

On CUDA it is PyTorch's attention over sequences of different lengths, elsewhere one scaled dot-product attention an
example. Neither makes a mask of all tokens by all tokens, so what lies side by side costs no more than apart.
"""

from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.integrations.sdpa_attention import sdpa_attention_forward

NAME = "taskmix_packed"
_FLASH_TYPES = (torch.bfloat16, torch.float16)


def register() -> None:
    """Make the attention known to transformers under `NAME`; doing so again changes nothing."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, packed_attention)
    AttentionMaskInterface.register(NAME, _no_mask)


def _no_mask(*args: Any, **kwargs: Any) -> None:
    """What keeps examples apart are their ends: there is no mask."""


def packed_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    sliding_window: int | None = None,
    is_causal: bool | None = None,
    **unused: Any,
) -> tuple[Tensor, None]:
    """Return the attention of examples side by side.

    Args:
        module: the layer, which says whether it is causal.
        query: (1, heads, tokens, size); `key` and `value` may have fewer heads, which are then shared.
        key: see `query`.
        value: see `query`.
        attention_mask: none: see `_no_mask`.
        scaling: what scores are multiplied by.
        dropout: the share of weights that are dropped.
        cu_seq_lens_q: the ends of the examples, from 0 (int32); without them each row is an example.
        sliding_window: so many tokens, itself among them, are looked at.
        is_causal: whether tokens look back only; by default what the layer says.
        unused: what other attentions of transformers take.

    Returns:
        (1, tokens, heads, size), and no weights.

    """
    if cu_seq_lens_q is None:
        # examples one a row, as when the model is evaluated
        options: dict[str, Any] = {"dropout": dropout, "scaling": scaling, "is_causal": is_causal}
        options["sliding_window"] = sliding_window
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options, **unused)
    causal = is_causal if is_causal is not None else bool(getattr(module, "is_causal", True))
    if query.is_cuda and query.dtype in _FLASH_TYPES and not dropout:
        return _varlen(query, key, value, scaling, cu_seq_lens_q, sliding_window, causal), None
    each = []
    edges = cu_seq_lens_q.tolist()
    for start, end in pairwise(edges):
        if start == end:
            continue
        mask = _window(end - start, sliding_window, causal, query.device) if sliding_window else None
        each.append(
            functional.scaled_dot_product_attention(
                query[:, :, start:end],
                key[:, :, start:end],
                value[:, :, start:end],
                attn_mask=mask,
                dropout_p=dropout,
                is_causal=causal and mask is None,
                scale=scaling,
                enable_gqa=query.shape[1] != key.shape[1],
            )
        )
    return torch.cat(each, dim=2).transpose(1, 2).contiguous(), None


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, scaling: float | None, ends: Tensor, window: int | None, causal: bool
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn

    tokens = query.shape[2]
    queries, keys, values = (each[0].transpose(0, 1).contiguous() for each in (query, key, value))
    back = -1 if window is None else window - 1
    # the longest example is not known without waiting for the device; the row is an upper bound that never changes
    found = varlen_attn(
        queries,
        keys,
        values,
        ends,
        ends,
        tokens,
        tokens,
        scale=scaling,
        window_size=(back, 0 if causal else back),
        enable_gqa=query.shape[1] != key.shape[1],
    )
    assert isinstance(found, Tensor)
    return found[None]


def _window(length: int, window: int, causal: bool, device: torch.device) -> Tensor | None:
    """Return which token looks at which, (length, length), where a window leaves some out."""
    if length <= window:
        return None
    at = torch.arange(length, device=device)
    behind = at[:, None] - at[None]
    return (behind >= 0) & (behind < window) if causal else behind.abs() < window
