"""Training through a function of a layer's weight (the seam for weights that are computed)."""

from torch import Tensor, nn
from torch.nn.utils import parametrize


class Psi(nn.Module):
    """A function of v, element by element, that a weight is: `forward` is Ψ, `right_inverse` is Ψ⁻¹."""


class Linear(Psi):
    """Ψ(v) = S · v: SGD then moves the weight by S² times the rate (the control for every other Ψ)."""

    def __init__(self, scale: float):
        super().__init__()
        self.scale = scale

    def forward(self, v: Tensor) -> Tensor:
        """Return the weight."""
        return self.scale * v

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the v of a weight."""
        return weight / self.scale


class Chosen(nn.Module):
    """A weight of which only the chosen entries of each output channel train.

    The frozen weight is float (channels, fan-in) and `index` int64 (channels, K); the trained values are
    float (channels, K). Neither decay nor momentum can reach a weight that was not chosen.
    """

    def __init__(self, weight: Tensor, index: Tensor):
        super().__init__()
        self.shape = weight.shape
        self.register_buffer("frozen", weight.detach().flatten(1).clone())
        self.register_buffer("index", index)

    def forward(self, values: Tensor) -> Tensor:
        """Return the whole weight, the chosen entries replaced by `values`."""
        return self.frozen.scatter(1, self.index, values).view(self.shape)

    def right_inverse(self, weight: Tensor) -> Tensor:
        """Return the chosen entries of a whole weight."""
        return weight.flatten(1).gather(1, self.index)


def train_chosen(layer: nn.Conv2d, index: Tensor) -> nn.Parameter:
    """Let only the entries `index`, int64 (channels, K), of each channel's weights train; return them."""
    parametrize.register_parametrization(layer, "weight", Chosen(layer.weight, index))
    return layer.parametrizations["weight"].original
