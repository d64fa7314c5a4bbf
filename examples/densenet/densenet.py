"""DenseNets (Huang et al., 2017): every layer sees the feature maps of all layers before it.

An example of custom architectures; nothing here depends on the project.
"""

from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

BLOCKS = 3


class Layer(nn.Module):
    """BatchNorm, ReLU and a 3×3 convolution, whose output is appended to the input."""

    def __init__(self, inputs: int, growth: int):
        super().__init__()
        self.batchnorm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.convolution = nn.Conv2d(inputs, growth, 3, padding=1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, inputs + growth, height, width)."""
        return torch.cat([x, self.convolution(self.relu(self.batchnorm(x)))], dim=1)


class Transition(nn.Module):
    """BatchNorm, ReLU and a 1×1 convolution to half the channels, averaged to half the resolution."""

    def __init__(self, inputs: int):
        super().__init__()
        self.batchnorm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU()
        self.convolution = nn.Conv2d(inputs, inputs // 2, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, inputs // 2, height // 2, width // 2)."""
        return F.avg_pool2d(self.convolution(self.relu(self.batchnorm(x))), 2)


class DenseNet(nn.Module):
    """Three blocks of dense layers with transitions between them; `depth` is 3·layers + 4."""

    family = "densenet"  # the panel in figures; by default the module's name

    def __init__(self, *, layers: int, growth: int, channels: int, classes: int):
        super().__init__()
        width = 2 * growth
        self.stem = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        self.blocks = nn.ModuleList()
        for block in range(BLOCKS):
            if block:
                self.blocks.append(Transition(width))
                width //= 2
            for _ in range(layers):
                self.blocks.append(Layer(width, growth))
                width += growth
        self.batchnorm = nn.BatchNorm2d(width)
        self.relu = nn.ReLU()
        self.output = nn.Linear(width, classes)
        self.depth = BLOCKS * layers + 4  # the place in a panel; by default counted

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""
        x = self.stem(images)
        for block in self.blocks:
            x = block(x)
        return self.output(self.relu(self.batchnorm(x)).mean(dim=(2, 3)))


# A study calls these with `channels` and `classes`.
densenet_10 = partial(DenseNet, layers=2, growth=8)
densenet_16 = partial(DenseNet, layers=4, growth=8)
densenet_22 = partial(DenseNet, layers=6, growth=8)
