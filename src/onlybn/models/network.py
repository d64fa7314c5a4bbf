"""The interface of all networks: their layers by type and by place in the structure."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import NamedTuple

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from onlybn.models.normalisations import AverageNorm


class Place(NamedTuple):
    """The place of a normalisation or a ReLU's call: stage and block from 1 (0 for the stem), and position.

    The position of a normalisation is `stem`, `first`, `second`, `third`, `shortcut`, `inside` in VGGs and
    MLPs, or `final` after the last block; that of a ReLU is `stem`, `inside` a block, after an `addition`,
    `final`, or between linear layers in a `head`. `final` and `head` are in a stage after the last one.
    """

    stage: int
    block: int
    position: str


# The types of normalisation layers; other modules call `normalisations` instead of using these types.
NORMALISATIONS = (_BatchNorm, nn.GroupNorm, AverageNorm)


class Network(nn.Module, ABC):
    """A network whose layers can be selected by type and structure, never by name."""

    output: nn.Linear

    @abstractmethod
    def normalisation_places(self) -> dict[nn.Module, Place]:
        """Return the place of each normalisation (or its replacement), in the order of the forward pass."""

    @abstractmethod
    def relu_places(self) -> dict[nn.ReLU, list[Place]]:
        """Return the places of each ReLU module's calls, in order."""

    def activation_places(self) -> dict[nn.Module, list[Place]]:
        """Return the places of the calls of each module that gets the input of a layer's nonlinearity.

        They are in the order of the forward pass. A network without nonlinearities has an nn.Identity there.
        """
        return self.relu_places()

    @abstractmethod
    def shortcut_convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions on the shortcuts."""

    @abstractmethod
    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""

    def named_layers(
        self, kind: type[nn.Module] | tuple[type[nn.Module], ...]
    ) -> Iterator[tuple[str, nn.Module]]:
        """Yield the name and module of every layer of that type."""
        return ((name, layer) for name, layer in self.named_modules() if isinstance(layer, kind))

    def named_normalisations(self) -> Iterator[tuple[str, nn.Module]]:
        """Yield the name and module of every normalisation layer, including those on shortcuts.

        Each has γ as `weight`, β as `bias`, both float (channels,), and running statistics, if any, as
        buffers.
        """
        layers = self.named_layers(NORMALISATIONS)
        return ((name, layer) for name, layer in layers if layer.weight is not None)

    def normalisations(self) -> list[nn.Module]:
        """Return every normalisation layer, including those on shortcuts."""
        return [layer for _, layer in self.named_normalisations()]

    def holders(self, layer: nn.Module) -> list[tuple[nn.Module, str]]:
        """Return every module that holds a layer, with the layer's name there: it may have several names."""
        return [
            (holder, key)
            for holder in self.modules()
            for key, held in holder._modules.items()
            if held is layer
        ]

    def replace(self, before: nn.Module, layer: nn.Module) -> None:
        """Replace a layer by another, under all of its names."""
        for holder, key in self.holders(before):
            holder._modules[key] = layer

    def convolutions(self) -> list[nn.Conv2d]:
        """Return every convolution, including the stem and shortcuts."""
        return [layer for _, layer in self.named_layers(nn.Conv2d)]

    def parameter_counts(self) -> dict[str, int]:
        """Count the parameters as Table 1 does: all, BatchNorm's, the output layer's, the shortcuts'."""
        layers = (nn.Conv2d, nn.Linear, *NORMALISATIONS)
        return {
            "parameters": sum(_size(layer) for _, layer in self.named_layers(layers)),
            "batchnorm_parameters": sum(_size(layer) for layer in self.normalisations()),
            "output_parameters": _size(self.output),
            "shortcut_parameters": sum(_size(layer) for layer in self.shortcut_convolutions()),
        }


def _size(layer: nn.Module) -> int:
    # Not by `parameters()`: if a weight is partly frozen, only a part of it is a parameter.
    return sum(tensor.numel() for tensor in (layer.weight, layer.bias) if tensor is not None)
