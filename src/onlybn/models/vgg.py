"""VGGs with BatchNorm for CIFAR-10, with one linear layer (Appendix C) or with two hidden ones before it."""

from torch import Tensor, nn
from torch.nn import functional as F

from onlybn.models.dropout import Dropout
from onlybn.models.layer import Layer, Layered
from onlybn.models.network import Place

# Convolutions in each of the five stages; between stages there is a 2×2 max-pool.
STAGES = {
    8: (1, 1, 1, 1, 1),
    11: (1, 1, 2, 2, 2),
    13: (2, 2, 2, 2, 2),
    16: (2, 2, 3, 3, 3),
    19: (2, 2, 4, 4, 4),
}
CHANNELS = (64, 128, 256, 512, 512)
DROPOUT = 0.5


class Convolution(Layer):
    """A 3×3 convolution with bias, BatchNorm and ReLU or sigmoid."""

    def __init__(self, inputs: int, outputs: int, *, sigmoid: bool):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.batchnorm = nn.BatchNorm2d(outputs)
        self.activation = nn.Sigmoid() if sigmoid else nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height, width)."""
        return self.activate(self.convolution(x))


class Vgg(Layered):
    """VGG-8, 11, 13, 16 or 19: five stages of 64 to 512 channels, averaged before the linear layer.

    Images are float (batch, channels, height, width). If an image is too small for all four max-pools (below
    16×16), pooling stops at 1×1. `half` halves the channels, and `sigmoid` replaces every ReLU.
    """

    def __init__(self, *, depth: int, channels: int, classes: int, half: bool = False, sigmoid: bool = False):
        super().__init__()
        self.stages = nn.ModuleList()
        inputs = channels
        for count, whole in zip(STAGES[depth], CHANNELS, strict=True):
            outputs = whole // 2 if half else whole
            first = Convolution(inputs, outputs, sigmoid=sigmoid)
            rest = [Convolution(outputs, outputs, sigmoid=sigmoid) for _ in range(count - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.output = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""
        return self.output(self._features(images).mean(dim=(2, 3)))

    def _features(self, images: Tensor) -> Tensor:
        """Map images to the last stage's activations, float (batch, 512, height, width)."""
        x = self.stages[0](images)
        for stage in self.stages[1:]:
            x = stage(_pooled(x))
        return x

    def _layers(self) -> list[tuple[Convolution, Place]]:
        return [
            (layer, Place(s, b, "inside"))
            for s, stage in enumerate(self.stages, start=1)
            for b, layer in enumerate(stage, start=1)
        ]


class Hidden(nn.Module):
    """Dropout, a linear layer and a ReLU."""

    def __init__(self, inputs: int, units: int):
        super().__init__()
        self.dropout = Dropout(DROPOUT)
        self.linear = nn.Linear(inputs, units)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs) to (batch, units)."""
        return self.relu(self.linear(self.dropout(x)))


class VggWithHead(Vgg):
    """A VGG with two hidden linear layers of `units`, each after dropout, before the output layer.

    The last stage has a max-pool behind it too: 32×32 images reach 1×1, and larger ones are averaged.
    """

    def __init__(self, *, depth: int, units: int, channels: int, classes: int):
        super().__init__(depth=depth, channels=channels, classes=classes)
        del self.output  # layers are in the order of the forward pass
        self.hidden = nn.Sequential(Hidden(CHANNELS[-1], units), Hidden(units, units))
        self.output = nn.Linear(units, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""
        return self.output(self.hidden(_pooled(self._features(images)).mean(dim=(2, 3))))

    def activation_places(self) -> dict[nn.Module, list[Place]]:
        """Return the places of each activation's calls, in the order of the forward pass."""
        after = len(self.stages) + 1
        head = {layer.relu: [Place(after, b, "head")] for b, layer in enumerate(self.hidden, start=1)}
        return super().activation_places() | head


def _pooled(x: Tensor) -> Tensor:
    """Halve the resolution, unless it is already 1 pixel."""
    return F.max_pool2d(x, 2) if min(x.shape[2:]) > 1 else x
