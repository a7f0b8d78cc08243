"""`torch.compile`, layer by layer: the layers of a model are alike, so that one is compiled and all are fast."""

from typing import Any

from torch import nn


def compile_layers(model: Any) -> None:
    """Compile each of a model's layers in place; a model without a list of them is compiled as a whole."""
    lists = [module for module in model.modules() if isinstance(module, nn.ModuleList) and len(module) > 1]
    alike = [each for each in lists if len({type(layer) for layer in each}) == 1]
    outermost = [each for each in alike if not any(each is not other and _holds(other, each) for other in alike)]
    for layers in outermost:
        for layer in layers:
            layer.compile()
    if not outermost:
        model.compile()


def _holds(outer: nn.ModuleList, inner: nn.ModuleList) -> bool:
    return any(module is inner for module in outer.modules())
