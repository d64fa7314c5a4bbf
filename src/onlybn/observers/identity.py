"""What BatchNorm subtracts of a gradient: the identity behind Theorem 4.1 of Santurkar et al.

For y, the input of a channel over m values, ŷ = (y − mean) / σ and z = γ ŷ + β, with g = ∂L/∂z, exactly
‖∂L/∂y‖² = γ² / σ² · (‖g‖² − (Σ g)² / m − (Σ g ŷ)² / m).
"""

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from onlybn.observers import probes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run

COLUMNS = ("error", "mean_share", "normalised_share", "ratio")
SCHEMA = pa.schema([*probes.WHEN, *probes.LAYER, *((column, pa.float64()) for column in COLUMNS)])
# A channel is left out if its standard deviation is below this share of its root mean square: it is constant
# but for rounding.
CONSTANT = 1e-6
# torch demands an eps above 0; this one adds nothing to a variance.
EPS = sys.float_info.min
Options = probes.Options


class Recorder(probes.Regular):
    """Records the identity at each BatchNorm layer, in float64, with the y and g of the step.

    `error` is the sum over channels of the difference of both sides, over the sum of ‖∂L/∂y‖², which autograd
    gives through a BatchNorm in float64 without eps. `mean_share` and `normalised_share` are the sums over
    channels of the two subtracted terms, over the sum of ‖g‖²; `ratio` is ‖∂L/∂y‖ / ‖g‖ of the layer.
    `number` counts the network's BatchNorm layers, from 0. There are no rows of other normalisations, nor of
    a layer without a gradient.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        super().__init__(steps_per_epoch, options["every"])

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for each BatchNorm layer."""
        import torch

        layers = _batchnorms(moment.network)
        seen: dict[nn.Module, tuple[Tensor, Tensor]] = {}

        def called(layer: "nn.Module", given: "tuple[Tensor]", output: "Tensor") -> "Tensor":
            seen[layer] = given[0].detach().clone(), output
            return output.clone()  # what follows may overwrite it

        hooks = [layer.register_forward_hook(called) for layer in layers.values()]
        try:
            loss, _ = moment.evaluate()
        finally:
            for hook in hooks:
                hook.remove()
        named = {n: (layer, *seen[layer]) for n, layer in layers.items() if layer in seen}
        named = {n: found for n, found in named.items() if found[2].requires_grad}
        outputs = [output for _, _, output in named.values()]
        gradients = torch.autograd.grad(loss, outputs, allow_unused=True) if outputs else ()
        numbers = {name: number for number, name in enumerate(layers)}
        return [
            self.when(moment) | {"layer": name, "number": numbers[name]} | _compared(y, gradient, layer)
            for (name, (layer, y, _)), gradient in zip(named.items(), gradients, strict=True)
            if gradient is not None
        ]


def _batchnorms(network: "Network") -> "dict[str, nn.Module]":
    """Return by name the layers that are torch's own BatchNorm."""
    from torch import nn

    kinds = (nn.BatchNorm1d, nn.BatchNorm2d)
    return {name: layer for name, layer in network.named_modules() if type(layer) in kinds}


def _compared(y: "Tensor", gradient: "Tensor", layer: "nn.Module") -> dict[str, float | None]:
    """Return both sides of the identity, compared, for y and g (batch, channels, …)."""
    import torch
    from torch.nn import functional as F

    y, g, gamma = y.double().requires_grad_(), gradient.double(), layer.weight.detach().double()
    with torch.enable_grad():
        z = F.batch_norm(y, None, None, gamma, training=True, eps=EPS)
        (of_y,) = torch.autograd.grad(z, y, g)
    y, g, of_y = (tensor.detach().movedim(1, -1).flatten(0, -2) for tensor in (y, g, of_y))
    centred = y - y.mean(dim=0)
    variance, count = centred.square().mean(dim=0), len(y)
    varies = variance > CONSTANT**2 * y.square().mean(dim=0)
    normalised = centred / variance.sqrt()
    squares = g.square().sum(dim=0)
    mean_part = g.sum(dim=0).square() / count
    normalised_part = (g * normalised).sum(dim=0).square() / count
    left = of_y.square().sum(dim=0)
    right = gamma.square() / variance * (squares - mean_part - normalised_part)
    difference = (left - right).abs()
    parts = (difference, left, mean_part, normalised_part, squares)
    error, found, of_mean, of_normalised, whole = (float(part[varies].sum()) for part in parts)
    squared = probes.ratio(found, whole)
    return {
        "error": probes.ratio(error, found),
        "mean_share": probes.ratio(of_mean, whole),
        "normalised_share": probes.ratio(of_normalised, whole),
        "ratio": None if squared is None else squared**0.5,
    }
