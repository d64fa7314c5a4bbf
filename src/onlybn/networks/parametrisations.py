"""Weights in which only chosen entries train, as parametrisations of their layers."""

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class Chosen(nn.Module):
    """A weight in which only the chosen entries of each output channel train.

    The frozen weight is float (channels, fan-in) and `index` int64 (channels, K); the trained values are
    float (channels, K). Weight decay and momentum cannot reach an entry that was not chosen.
    """

    def __init__(self, weight: Tensor, index: Tensor):
        super().__init__()
        self.shape = weight.shape
        self.register_buffer("frozen", weight.detach().flatten(1).clone())
        self.register_buffer("index", index)
        inputs, *kernel = self.shape[1:]
        place = index // math.prod(kernel) + index % math.prod(kernel) * inputs
        self.register_buffer("place", place, persistent=False)  # the index in channels-last memory

    def forward(self, values: Tensor) -> Tensor:
        """Return the whole weight with `values` as the chosen entries; channels-last on a GPU."""
        if values.is_cuda:
            return ChannelsLast.apply(values, self.frozen.view(self.shape), self.place)
        return self.frozen.scatter(1, self.index, values).view(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the chosen entries of a whole weight."""
        return weight.flatten(1).gather(1, self.index)


class ChannelsLast(torch.autograd.Function):
    """Writes values into a frozen weight, float (channels, inputs, height, width), in channels-last memory.

    The values are float (channels, K); `place` is int64 (channels, K), their indices in each channel's
    memory, which are all different.
    """

    @staticmethod
    def forward(ctx, values, frozen, place):
        """Return the weight, by a copy and a scatter."""
        ctx.save_for_backward(place)
        weight = frozen.clone(memory_format=torch.channels_last)
        with _in_any_order():
            weight.permute(0, 2, 3, 1).view(len(weight), -1).scatter_(1, place, values)
        return weight

    @staticmethod
    def backward(ctx, d_weight):
        """Return the gradient of the values, gathered from their places."""
        (place,) = ctx.saved_tensors
        return d_weight.permute(0, 2, 3, 1).flatten(1).gather(1, place), None, None


@contextmanager
def _in_any_order() -> Iterator[None]:
    """Let a scatter write in any order, which changes nothing if all places differ.

    With deterministic algorithms torch sorts the places first, which takes many times longer.
    """
    if not torch.are_deterministic_algorithms_enabled():
        yield
        return
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(True, warn_only=warns)


def settle(network: nn.Module) -> None:
    """Make the weights in which only chosen entries trained ordinary weights, with the same values."""
    for layer in list(network.modules()):
        if parametrize.is_parametrized(layer, "weight") and isinstance(
            layer.parametrizations["weight"][0], Chosen
        ):
            parametrize.remove_parametrizations(layer, "weight", leave_parametrized=True)


def train_chosen(layer: nn.Conv2d, index: Tensor) -> nn.Parameter:
    """Make only the entries `index`, int64 (channels, K), of each channel's weight trainable; return them."""
    parametrize.register_parametrization(layer, "weight", Chosen(layer.weight, index))
    return layer.parametrizations["weight"].original
