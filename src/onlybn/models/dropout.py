"""Dropout whose masks a seed reproduces."""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlybn.noise import Noise


class Dropout(nn.Module):
    """In training, sets each activation to 0 with probability `rate`, and divides the others by 1 − rate.

    In a run, the masks depend only on the seed, the layer's name, the step and the example's place in its
    batch; a network outside of a run draws them from torch's generator.
    """

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate
        self.uniform: Callable[[Sequence[int]], Tensor] | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map activations, float (batch, channels, …), to activations of the same shape."""
        if not self.training:
            return x
        if self.uniform is None:
            return F.dropout(x, self.rate)
        # In channels-last order, as the activations are in memory.
        numbers = self.uniform(x.movedim(1, -1).shape).movedim(-1, 1)
        return torch.where(numbers >= self.rate, x * (1 / (1 - self.rate)), 0)


def draw_from(noise: Noise, network: nn.Module) -> None:
    """Let every dropout of a network draw its masks from a run's noise."""
    for name, layer in network.named_modules():
        if isinstance(layer, Dropout):
            layer.uniform = partial(noise.uniform, ("dropout", name))
