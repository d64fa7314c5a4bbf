"""The work of a training step, counted from the shapes of the network."""

import math
from dataclasses import dataclass
from functools import cache, partial
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from onlybn.axes import NORMALISATION, Values
from onlybn.datasets import Dataset
from onlybn.errors import UserError
from onlybn.models.network import Network
from onlybn.networks import regimes
from onlybn.networks.draw import build


@dataclass(frozen=True)
class Work:
    """The work of a step: operations and activations per image; layers and parameters in total.

    Each product of a convolution or linear layer counts as 2 floating-point operations. Activations are the
    outputs of BatchNorm; `largest` counts those of its largest layer. `trained` counts the regime's
    parameters, `trained_weights` the convolutions and linear layers whose weight trains, and `channels`
    BatchNorm's channels.
    """

    forward: float
    input_gradients: float
    weight_gradients: float
    activations: float
    activation_gradients: float
    layers: float
    trained: float
    trained_weights: int
    channels: int
    parameters: int
    largest: float

    @property
    def width(self) -> float:
        """The width of the network, in doublings: log2 of the forward operations per activation."""
        return math.log2(self.forward / self.activations)

    def operations_per_layer(self, batch: int) -> float:
        """Return the mean number of operations of a layer's forward or backward pass on a batch."""
        operations = self.forward + self.input_gradients + self.weight_gradients
        return batch * operations / max(1, self.layers)

    def per_step(self, batch: int) -> np.ndarray:
        """Return the work of a batch as a vector; the last three terms do not depend on the batch size."""
        grows = (
            self.forward,
            self.input_gradients,
            self.weight_gradients,
            self.activations,
            self.activation_gradients,
        )
        return np.array([*(batch * one for one in grows), self.layers, self.trained, 1.0])


@cache
def work(dataset: Dataset, architecture: str, regime: str, values: Values = ()) -> Work:
    """Return the work of one step on a dataset's images, counted from the shapes of the network.

    Gradients flow back to the first layer that has trainable parameters; frozen weights get no gradient.
    """
    # Building a deep network takes most of the time; regimes that do not change the network share one.
    normalisation = dict(values).get(NORMALISATION.name, NORMALISATION.default)
    build = _shared if regime in regimes.REGIMES else built
    calls, network = (made(dataset, architecture, normalisation) for made in (_calls, build))
    try:
        parameters = regimes.apply(network, regime, 0).values()
    except UserError:  # of a custom regime that reads weights, which have no values here
        parameters = regimes.apply(network, "all", 0).values()
    layers = {name: network.get_submodule(name) for name in dict.fromkeys(call.layer for call in calls)}
    trained = {n for n, layer in layers.items() if any(p.requires_grad for p in layer.parameters())}
    first = next((index for index, call in enumerate(calls) if call.layer in trained), len(calls))
    counts = network.parameter_counts()
    return Work(
        forward=sum(call.operations for call in calls),
        input_gradients=sum(call.operations for call in calls[first + 1 :]),
        weight_gradients=sum(call.operations for call in calls if call.layer in trained),
        activations=sum(call.activations for call in calls),
        activation_gradients=sum(call.activations for call in calls[first:]),
        layers=sum(call.activations > 0 for call in (*calls, *calls[first:])),
        trained=sum(parameter.numel() for parameter in parameters),
        trained_weights=sum(call.operations > 0 and call.layer in trained for call in calls),
        channels=counts["batchnorm_parameters"] // 2,
        parameters=counts["parameters"],
        largest=max(call.activations for call in calls),
    )


class Call(NamedTuple):
    """A layer's work for an image: the operations of a convolution or linear layer, or else its outputs."""

    layer: str
    operations: float
    activations: float


@cache
def _calls(dataset: Dataset, architecture: str, normalisation: str) -> list[Call]:
    """Return the calls of an image's forward pass, layer by layer."""
    network = built(dataset, architecture, normalisation).eval()
    places = network.normalisation_places()
    calls = []

    def count(name: str, layer: nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor) -> None:
        if layer in places:
            calls.append(Call(name, 0.0, output.numel()))
        else:
            calls.append(Call(name, 2.0 * output.numel() * layer.weight[0].numel(), 0.0))

    for name, layer in network.named_modules():
        if layer in places or isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(partial(count, name))
    with torch.no_grad():
        network(torch.empty(1, dataset.channels, dataset.size, dataset.size, device="meta"))
    return calls


def built(dataset: Dataset, architecture: str, normalisation: str) -> Network:
    """Build a network for a dataset's images, on the meta device."""
    shape = {"channels": dataset.channels, "classes": dataset.classes, "size": dataset.size}
    return build(architecture, normalisation, **shape)


_shared = cache(built)
