"""Low-rank adapters (Hu et al. 2021, "LoRA"): small matrices beside frozen weights are all that is trained."""

from pathlib import Path
from typing import Any

from taskmix_trainer.errors import ModelError
from taskmix_trainer.heads.base import Head
from taskmix_trainer.models.opening import ModelName
from taskmix_trainer.quiet import without_future_warnings

NEW_LAYERS = ("classifier", "score", "qa_outputs", "pre_classifier", "pooler")
"""What a classic head is called in transformers. It is new, so it is trained whole."""


def add_lora(model: Any, rank: int, head: Head, name: ModelName) -> Any:
    """Return a model with adapters on all its linear layers but the head.

    The scale is twice the rank, the dropout 0.05. What is saved names the model by `name`, a folder by its whole path.

    Raises:
        ModelError: the model has no layer that could bear one.
    """
    from peft import LoraConfig, get_peft_model

    names = {name.split(".")[-1] for name, _ in model.named_modules()}
    whole = [name for name in NEW_LAYERS if name in names] if head.metric else []
    # without a task type the adapter passes every argument on, to the forward pass that has the loss in it
    config = LoraConfig(
        r=rank,
        lora_alpha=2 * rank,
        lora_dropout=0.05,
        target_modules="all-linear",
        exclude_modules=whole or None,
        modules_to_save=whole or None,
        revision=name.revision,
    )
    try:
        with without_future_warnings():
            made = get_peft_model(model, config)
    except ValueError as error:
        raise ModelError(f"no adapters can be put on this model: {error}") from None
    base = Path(name.name)
    config.base_model_name_or_path = str(base.resolve()) if base.is_dir() else name.name
    return made
