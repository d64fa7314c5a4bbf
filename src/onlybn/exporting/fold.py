"""Folding: BatchNorm as a part of the convolution before it."""

import torch
from torch import Tensor, nn

from onlybn.exporting.dataflow import surroundings
from onlybn.models.network import Network


@torch.no_grad()
def fold(network: Network, images: Tensor) -> tuple[int, int]:
    """Fold every BatchNorm into the convolution or linear layer right before it, in place.

    Return how many were folded, and how many others there are: BatchNorm behind an addition, an activation or
    the images stays, since zero padding would make a shift before a convolution inexact at borders.
    `images` are float (1, channels, height, width).
    """
    folded = 0
    for found in surroundings(network, images):
        layer, before = found.layer, found.before
        if before is None:
            continue
        scale = layer.weight / torch.sqrt(layer.running_var + layer.eps)
        shift = layer.bias - layer.running_mean * scale
        along = (-1, *[1] * (before.weight.ndim - 1))
        before.weight.copy_(before.weight * scale.view(along))
        bias = shift if before.bias is None else shift + before.bias * scale
        before.bias = nn.Parameter(bias, requires_grad=False)
        network.replace(layer, nn.Identity())
        folded += 1
    return folded, len(network.normalisations())
