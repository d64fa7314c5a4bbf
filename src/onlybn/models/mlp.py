"""Fully connected networks with BatchNorm: MLPs (Ioffe and Szegedy, 2015), and deep linear ones."""

from collections.abc import Sequence

from torch import Tensor, nn

from onlybn.models.layer import Layer, Layered
from onlybn.models.network import Place


class Hidden(Layer):
    """A linear layer, BatchNorm and an activation."""

    def __init__(self, inputs: int, units: int, activation: nn.Module, *, bias: bool):
        super().__init__()
        self.linear = nn.Linear(inputs, units, bias=bias)
        self.batchnorm = nn.BatchNorm1d(units)
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs) to (batch, units)."""
        return self.activate(self.linear(x))


class Mlp(Layered):
    """Hidden layers of some widths, and a linear layer, on flattened images.

    Each linear layer has a bias, though a bias before BatchNorm has no effect (Ioffe and Szegedy, 2015).
    """

    activation: type[nn.Module] = nn.ReLU
    bias = True

    def __init__(self, *, widths: Sequence[int], channels: int, classes: int, size: int):
        super().__init__()
        inputs = channels * size**2
        self.hidden = nn.Sequential()
        for units in widths:
            self.hidden.append(Hidden(inputs, units, self.activation(), bias=self.bias))
            inputs = units
        self.output = nn.Linear(inputs, classes, bias=self.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""
        return self.output(self.hidden(images.flatten(1)))

    def _layers(self) -> list[tuple[Hidden, Place]]:
        return [(layer, Place(1, b, "inside")) for b, layer in enumerate(self.hidden, start=1)]


class SigmoidMlp(Mlp):
    """An MLP with sigmoids."""

    activation = nn.Sigmoid


class DeepLinear(Mlp):
    """Linear layers as wide as the flattened images (Santurkar et al., 2018).

    There are no biases and no nonlinearities; BatchNorm follows every layer but the last.
    """

    activation = nn.Identity
    bias = False

    def __init__(self, *, depth: int, channels: int, classes: int, size: int):
        widths = [channels * size**2] * (depth - 1)
        super().__init__(widths=widths, channels=channels, classes=classes, size=size)
