"""A layer as in MLPs and VGGs: a linear map, a normalisation and an activation."""

from torch import Tensor, nn

from onlybn.models.batchnorm import normalise


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
