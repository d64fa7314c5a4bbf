"""What comes before and after each BatchNorm of a network."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from onlybn.models.batchnorm import normalise
from onlybn.models.calls import Call, calls_of
from onlybn.models.network import Network

Linear = nn.Conv2d | nn.Linear
# Functions that map a channel of zeros to zeros, and no channel to another one.
BY_CHANNEL = {
    F.relu,
    F.dropout,
    F.max_pool2d,
    F.avg_pool2d,
    F.adaptive_avg_pool2d,
    Tensor.mean,
    torch.flatten,
}


@dataclass(frozen=True)
class Surroundings:
    """A BatchNorm between linear maps.

    `before` is the linear map whose outputs only this layer reads, if there is one. `after` are the linear
    maps that read this layer's channels behind a ReLU; it is empty if something else reads them too.
    """

    layer: _BatchNorm
    before: Linear | None
    after: tuple[Linear, ...]


def surroundings(network: Network, images: Tensor) -> list[Surroundings]:
    """Return what surrounds each BatchNorm; `images`, float (1, channels, height, width), are passed once.

    A layer that is called more than once has no surroundings.
    """
    flow = _Flow(network, calls_of(network, images))
    return [
        Surroundings(layer, flow.before(*places), flow.after(*places))
        for layer in network.normalisations()
        if isinstance(layer, _BatchNorm) and len(places := flow.places(layer)) == 1
    ]


class _Flow:
    """Recorded calls, and which of them read which results; a result that is overwritten is another one."""

    def __init__(self, network: Network, calls: list[Call]):
        kinds = (nn.Conv2d, nn.Linear)
        layers = [*network.normalisations(), *(layer for _, layer in network.named_layers(kinds))]
        self.weights = [layer.weight for layer in layers]  # so that no identity is used twice
        of_weight = {id(weight): layer for weight, layer in zip(self.weights, layers, strict=True)}
        self.calls = calls
        self.layers = [_layer(call, of_weight, layers) for call in calls]
        self.uses = Counter(map(id, filter(None, self.layers)))
        made: dict[int, int] = {}  # the call that made a tensor, by the tensor's identity
        self.reads = []
        for place, call in enumerate(calls):
            self.reads.append([made[id(t)] for t in _tensors(call) if id(t) in made])
            made |= {id(result): place for result in call.results}
        self.readers: dict[int, list[int]] = {place: [] for place in range(len(calls))}
        for place, sources in enumerate(self.reads):
            for source in sources:
                self.readers[source].append(place)

    def places(self, layer: nn.Module) -> list[int]:
        return [place for place, other in enumerate(self.layers) if other is layer]

    def _linear(self, place: int) -> Linear | None:
        layer = self.layers[place]
        once = layer is not None and self.uses[id(layer)] == 1
        plain = isinstance(layer, nn.Linear) or (isinstance(layer, nn.Conv2d) and layer.groups == 1)
        return layer if once and plain else None

    def before(self, place: int) -> Linear | None:
        sources = self.reads[place]
        if self.calls[place].function is normalise:
            sources = sources[:1]
        if len(sources) != 1 or self.readers[sources[0]] != [place]:
            return None
        return self._linear(sources[0])

    def after(self, place: int) -> tuple[Linear, ...]:
        call = self.calls[place]
        if call.function is normalise:
            _, _, relu, added = (*call.arguments, *(None,) * (4 - len(call.arguments)))
            starts = relu is not None and added is None
        else:
            readers = self.readers[place]
            starts = len(readers) == 1 and self.calls[readers[0]].function is F.relu
        found = list(self._linear_readers(place)) if starts else [None]
        width = self.layers[place].num_features
        whole = all(layer is not None and _inputs(layer) == width for layer in found)
        return tuple(found) if whole else ()

    def _linear_readers(self, place: int) -> Iterator[Linear | None]:
        """Yield the linear maps that read a result channel by channel, and None for any other reader."""
        if not self.readers[place]:
            yield None  # the logits
        for reader in self.readers[place]:
            if self.calls[reader].function in BY_CHANNEL:
                yield from self._linear_readers(reader)
            else:
                yield self._linear(reader)


def _tensors(call: Call) -> Iterator[Tensor]:
    for argument in (*call.arguments, *call.keywords.values()):
        for value in argument if isinstance(argument, list | tuple) else [argument]:
            if isinstance(value, Tensor):
                yield value


def _layer(call: Call, of_weight: dict[int, nn.Module], layers: list[nn.Module]) -> nn.Module | None:
    """Return the layer that makes a call, by its weight, or for `normalise` as it is given."""
    given: list[Any] = [*call.arguments, *call.keywords.values()]
    if call.function is normalise:
        return next((layer for layer in layers if layer is given[1]), None)
    return next((of_weight[id(value)] for value in given if id(value) in of_weight), None)


def _inputs(layer: Linear) -> int:
    return layer.in_channels if isinstance(layer, nn.Conv2d) else layer.in_features
