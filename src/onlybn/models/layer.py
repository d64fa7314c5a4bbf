"""A layer as in MLPs and VGGs, a linear map, a normalisation and an activation; and networks of these."""

from abc import abstractmethod

from torch import Tensor, nn

from onlybn.models.batchnorm import normalise
from onlybn.models.network import Network, Place


class Layer(nn.Module):
    """What follows the linear map: a normalisation and then an activation; or the activation first.

    Subclasses have the linear map, `batchnorm` and `activation` as modules, in this order.
    """

    batchnorm: nn.Module
    activation: nn.Module
    activates_first = False

    def activate(self, x: Tensor) -> Tensor:
        """Map the output of the linear map, float (batch, channels, …), to activations of the same shape."""
        if self.activates_first:
            return normalise(self.activation(x), self.batchnorm)
        if isinstance(self.activation, nn.ReLU):
            return normalise(x, self.batchnorm, self.activation)
        return self.activation(normalise(x, self.batchnorm))


class Layered(Network):
    """A network of such layers, one after the other, without shortcuts."""

    @abstractmethod
    def _layers(self) -> list[tuple[Layer, Place]]:
        """Return each layer and its place, in the order of the forward pass."""

    def normalisation_places(self) -> dict[nn.Module, Place]:
        """Return the place of each normalisation (or its replacement), in the order of the forward pass."""
        return {layer.batchnorm: place for layer, place in self._layers()}

    def activation_places(self) -> dict[nn.Module, list[Place]]:
        """Return the places of each activation's calls, in the order of the forward pass."""
        return {layer.activation: [place] for layer, place in self._layers()}

    def relu_places(self) -> dict[nn.ReLU, list[Place]]:
        """Return the places of each ReLU's calls, in the order of the forward pass."""
        return {a: places for a, places in self.activation_places().items() if isinstance(a, nn.ReLU)}

    def shortcut_convolutions(self) -> list[nn.Conv2d]:
        """Return none: there are no shortcuts."""
        return []
