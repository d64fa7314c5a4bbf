"""Pruning: channels that are 0 for every image are removed, with the same logits up to rounding."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from onlybn.exporting.dataflow import Linear, surroundings
from onlybn.models.network import Network


@dataclass(frozen=True)
class Pruned:
    """Counts of channels: all that BatchNorm has; with γ = 0; of these, those that were removed.

    `constant` have γ = 0 and β > 0, so that they are constants; the rest with γ = 0 are read by an addition,
    or are the only ones of a layer.
    """

    channels: int
    zero: int
    removed: int
    constant: int


@torch.no_grad()
def clamp(network: Network, threshold: float) -> None:
    """Set every γ with |γ| < threshold to 0, in place, as Figure 6 does."""
    for layer in network.normalisations():
        layer.weight.masked_fill_(layer.weight.abs() < threshold, 0)


@torch.no_grad()
def prune(network: Network, images: Tensor) -> Pruned:
    """Remove, in place, the channels with γ = 0 and β ≤ 0 that only linear maps behind a ReLU read.

    Behind the ReLU such a channel is 0. A layer keeps at least one channel. `images` are float (1, channels,
    height, width).
    """
    layers = network.normalisations()
    channels = sum(len(layer.weight) for layer in layers)
    zero = sum(int((layer.weight == 0).sum()) for layer in layers)
    constant = sum(int(((layer.weight == 0) & (layer.bias > 0)).sum()) for layer in layers)
    removed = 0
    for found in surroundings(network, images):
        if found.before is None or not found.after:
            continue
        layer = found.layer
        kept = (layer.weight != 0) | (layer.bias > 0)
        if not kept.any():
            kept[0] = True
        removed += int((~kept).sum())
        _keep(found.before, kept, outputs=True)
        for name in ("weight", "bias", "running_mean", "running_var"):
            getattr(layer, name).set_(getattr(layer, name)[kept].clone())
        layer.num_features = int(kept.sum())
        for after in found.after:
            _keep(after, kept, outputs=False)
    return Pruned(channels, zero, removed, constant)


def _keep(layer: Linear, kept: Tensor, *, outputs: bool) -> None:
    """Keep some of a layer's outputs, or of its inputs."""
    layer.weight.set_(layer.weight[kept].clone() if outputs else layer.weight[:, kept].clone())
    if outputs and layer.bias is not None:
        layer.bias.set_(layer.bias[kept].clone())
    side = ("out" if outputs else "in") + ("_channels" if isinstance(layer, nn.Conv2d) else "_features")
    setattr(layer, side, int(kept.sum()))
