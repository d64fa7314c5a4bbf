"""What every network of the study offers: its layers by type and by their place in the structure."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn


class Place(NamedTuple):
    """Where a BatchNorm layer or a ReLU's call sits: stage and block from 1 (0 for the stem), and which.

    A BatchNorm's position is `stem`, `first`, `second`, `third`, `shortcut`, or `inside` in a VGG; a
    ReLU's is `stem`, `inside` a block, or after an `addition`.
    """

    stage: int
    block: int
    position: str


class Network(nn.Module, ABC):
    """A convolutional network whose layers can be selected by type and structure, never by name."""

    output: nn.Linear

    @abstractmethod
    def batchnorm_places(self) -> dict[nn.BatchNorm2d, Place]:
        """Return each BatchNorm layer's place, in the order of the forward pass."""

    @abstractmethod
    def relu_places(self) -> dict[nn.ReLU, list[Place]]:
        """Return the places of each ReLU module's calls, in the order in which it is called."""

    @abstractmethod
    def shortcut_convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions on the shortcuts."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""

    def named_layers(self, kind: type[nn.Module]) -> Iterator[tuple[str, nn.Module]]:
        """Yield the name and module of every layer of that type."""
        return ((name, layer) for name, layer in self.named_modules() if isinstance(layer, kind))

    def batchnorms(self) -> list[nn.BatchNorm2d]:
        """Return every BatchNorm layer, the shortcuts' included."""
        return [layer for _, layer in self.named_layers(nn.BatchNorm2d)]

    def convolutions(self) -> list[nn.Conv2d]:
        """Return every convolution, stem and shortcuts included."""
        return [layer for _, layer in self.named_layers(nn.Conv2d)]

    def parameter_counts(self) -> dict[str, int]:
        """Count the parameters as Table 1 does: all, BatchNorm's, the output layer's, the shortcuts'."""
        layers = [*self.convolutions(), *self.batchnorms(), self.output]
        return {
            "parameters": sum(_size(layer) for layer in layers),
            "batchnorm_parameters": sum(_size(layer) for layer in self.batchnorms()),
            "output_parameters": _size(self.output),
            "shortcut_parameters": sum(_size(layer) for layer in self.shortcut_convolutions()),
        }


def _size(layer: nn.Module) -> int:
    # By name, since of a weight that is partly frozen only a part is a parameter.
    return sum(tensor.numel() for tensor in (layer.weight, layer.bias) if tensor is not None)
