"""Layers that replace BatchNorm, on maps (batch, channels, height, width) and on units (batch, units).

LayerNorm, GroupNorm and InstanceNorm are `GroupNorm` with one group, some, and one for each channel. On
units, GroupNorm normalises each example's groups of units.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from onlybn.noise import Noise


class Absent(nn.Module):
    """The layer of the normalisation `none`: it does not change the values."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a copy, since the next operation may change it in place."""
        return x.clone()


class AverageNorm(nn.Module):
    """Subtracts the batch's mean, and divides by the average ℓp norm that the values had before.

    The norm is mean |x|, √(mean x²) or max |x|, for a `power` of 1, 2 or ∞ (Santurkar et al., 2018, Section
    3.3). As in BatchNorm, the divisor is √(norm² + eps), then γ and β apply, and evaluation uses running
    estimates, of the mean and of the norm.
    """

    running_mean: Tensor
    running_norm: Tensor

    def __init__(self, power: float, channels: int, *, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__()
        self.power, self.eps, self.momentum = power, eps, momentum
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_norm", torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, …) to the same shape."""
        wide = x.to(self.weight.dtype)
        if self.training:
            others = [dimension for dimension in range(x.ndim) if dimension != 1]
            mean, square = wide.mean(others), self._squared_norm(wide, others)
            with torch.no_grad():
                self.running_mean.lerp_(mean, self.momentum)
                self.running_norm.lerp_(square.sqrt(), self.momentum)
        else:
            mean, square = self.running_mean, self.running_norm.square()
        scale = self.weight * torch.rsqrt(square + self.eps)
        y = (wide - _along_channels(mean, x)) * _along_channels(scale, x) + _along_channels(self.bias, x)
        return y.to(x.dtype)

    def _squared_norm(self, x: Tensor, others: list[int]) -> Tensor:
        # Without a square root, whose slope is infinite at 0.
        if self.power == 1:
            return x.abs().mean(others).square()
        return x.abs().amax(others).square() if math.isinf(self.power) else x.square().mean(others)


class GhostBatchNorm(_BatchNorm):
    """BatchNorm over groups of `examples` of a batch (Hoffer et al., 2017).

    A partial last group joins the one before it. The running statistics follow the mean over the groups;
    evaluation is BatchNorm's.
    """

    def __init__(self, examples: int, channels: int, *, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.examples = examples
        self.num_batches_tracked = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, …) to the same shape."""
        if not self.training:
            return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        normalised, means, variances = zip(*map(self._normalised, self._groups(x)), strict=True)
        with torch.no_grad():
            self.running_mean.lerp_(torch.cat(means).mean(0), self.momentum)
            self.running_var.lerp_(torch.cat(variances).mean(0), self.momentum)
        y = torch.cat(normalised) * _along_channels(self.weight, x) + _along_channels(self.bias, x)
        return y.to(x.dtype)

    def _groups(self, x: Tensor) -> list[Tensor]:
        """Return the groups as (groups, examples, channels, …), those of one size together."""
        size = min(self.examples, len(x))
        whole = len(x) if len(x) % size == 0 else (len(x) // size - 1) * size
        parts = [x[:whole].unflatten(0, (-1, size))] if whole else []
        return [*parts, x[None, whole:]] if whole < len(x) else parts

    def _normalised(self, groups: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return normalised examples (examples, channels, …), and each group's mean and unbiased variance."""
        wide = groups.to(self.weight.dtype)
        others = [dimension for dimension in range(wide.ndim) if dimension not in (0, 2)]
        variance, mean = torch.var_mean(wide, others, correction=0, keepdim=True)
        y = (wide - mean) * torch.rsqrt(variance + self.eps)
        values = wide[0, :, 0].numel()
        _refuse_one(values)
        unbiased = variance.detach() * (values / (values - 1))
        return y.flatten(0, 1), mean.detach().flatten(1), unbiased.flatten(1)


class GroupNorm(nn.GroupNorm):
    """torch's GroupNorm, with a backward pass on every input."""

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, …) to the same shape."""
        _refuse_one(normalised_together(self, x.shape))
        # torch 2.11's backward pass on channels-last memory crashes if the input needs no gradient.
        if not x.requires_grad and any(parameter.requires_grad for parameter in self.parameters()):
            x = x.detach().requires_grad_(torch.is_grad_enabled())
        return super().forward(x)


class NoiseConstants(NamedTuple):
    """The constants of `ActivationNoise`."""

    mean: float
    scale: float
    mean_spread: float
    scale_deviation: float


class ActivationNoise(nn.Module):
    """The noise of Santurkar et al. (2018, Algorithm 1): in a step, x becomes s · x + m.

    For each channel μ and σ are uniform within ± `mean` and from 1 to `scale`. For each example, channel and
    pixel m is uniform within μ ± `mean_spread`, and s is normal around σ, with `scale_deviation`. They depend
    only on the seed, the layer's name, the step and the example's place in its batch. In evaluation, and
    outside of a run, there is no noise.
    """

    name: str
    constants: NoiseConstants

    def __init__(self):
        super().__init__()
        self.source: Noise | None = None

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, …) to the same shape."""
        if not self.training or self.source is None:
            return x
        shape = x.movedim(1, -1).shape  # in channels-last order, as the activations are in memory
        channels, fixed = shape[-1:], self.constants
        mu = fixed.mean * (2 * self.source.shared_uniform(self._of("channel means"), channels) - 1)
        sigma = 1 + (fixed.scale - 1) * self.source.shared_uniform(self._of("channel scales"), channels)
        m = self.source.uniform(self._of("means"), shape).mul_(2 * fixed.mean_spread)
        m.add_(mu - fixed.mean_spread)
        s = self.source.normal(self._of("scales"), shape).mul_(fixed.scale_deviation).add_(sigma)
        return (s.movedim(-1, 1) * x + m.movedim(-1, 1)).to(x.dtype)

    def _of(self, what: str) -> Sequence[str]:
        return "activation noise", self.name, what


class NoisyBatchNorm(_BatchNorm):
    """BatchNorm with γ and β, and noise behind it."""

    def __init__(self, channels: int, *, eps: float = 1e-5, momentum: float = 0.1):
        super().__init__(channels, eps=eps, momentum=momentum)
        self.num_batches_tracked = None
        self.noise = ActivationNoise()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, …) to the same shape."""
        return self.noise(super().forward(x))

    def _check_input_dim(self, x: Tensor) -> None:
        """Accept maps and units."""


class NoisyAbsent(Absent):
    """No normalisation, but the noise."""

    def __init__(self):
        super().__init__()
        self.noise = ActivationNoise()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, channels, …) to the same shape."""
        return self.noise(super().forward(x))


def give_noise(network: nn.Module, noise: Noise, constants: NoiseConstants) -> None:
    """Let every `ActivationNoise` of a network, with these constants, draw from a run's noise."""
    for name, layer in network.named_modules():
        if isinstance(layer, ActivationNoise):
            layer.source, layer.name, layer.constants = noise, name, constants


def normalised_together(layer: nn.Module, shape: Sequence[int]) -> int:
    """Return of how many values a normalisation takes a mean, or the smallest number if groups differ.

    `shape` is that of its input, (batch, channels, …).
    """
    examples, channels, *sides = shape
    if isinstance(layer, nn.GroupNorm):
        return channels // layer.num_groups * math.prod(sides)
    if isinstance(layer, GhostBatchNorm):
        examples = min(examples, layer.examples)
    return examples * math.prod(sides)


def _refuse_one(values: int) -> None:
    if values < 2:
        raise ValueError("a group of a single value has no variance")


def _along_channels(values: Tensor, x: Tensor) -> Tensor:
    """Return values (channels,) in a shape that broadcasts with x, (batch, channels, …)."""
    return values.view(-1, *[1] * (x.ndim - 2))
