"""Removal: a finished run as an ordinary network, tested again (Weight Compander, Section 3)."""

import pyarrow as pa
import torch
from torch import nn

from onlybn.datasets.images import Images
from onlybn.models.network import Network
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.evaluation import evaluate


@torch.no_grad()
def removal(network: Network, images: Images, *, precision: torch.dtype = torch.float32) -> pa.Table:
    """Return one row: the loss and accuracies of the network on the test images, and what is left over.

    `left_over` counts the convolutions and linear layers that hold anything besides a weight and a bias, such
    as the function through which the weight trained.
    """
    layers = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d | nn.Linear)]
    held = [{*dict(layer.named_parameters()), *dict(layer.named_children())} for layer in layers]
    left_over = sum(bool(names - {"weight", "bias"}) for names in held)
    row = {"left_over": left_over} | evaluate(network, images, precision=precision)
    return pa.Table.from_pylist([row], SCHEMAS["removal"])
