"""The calls of tensor functions that a network's forward pass makes."""

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode


class Call(NamedTuple):
    """A call of a tensor function and the tensors that it returns."""

    function: Any
    arguments: tuple
    keywords: dict[str, Any]
    results: tuple[Tensor, ...]


class _Recorder(TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.calls: list[Call] = []

    def __torch_function__(self, function, kinds, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        several = result if isinstance(result, tuple | list) else (result,)
        if results := tuple(one for one in several if isinstance(one, Tensor)):
            self.calls.append(Call(function, arguments, keywords or {}, results))
        return result


@torch.no_grad()
def calls_of(network: nn.Module, images: Tensor) -> list[Call]:
    """Return the calls, in order, that map images to logits in evaluation mode, which does not show dropout.

    `onlybn.models.batchnorm.normalise` is one call. Functions without tensors among their arguments are left
    out.
    """
    was_training = network.training
    with _Recorder() as recorder:
        network.eval()(images)
    network.train(was_training)
    return recorder.calls
