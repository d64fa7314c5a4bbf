"""ResNets for CIFAR-10, and wide ResNets (Appendix B; He et al., 2016)."""

from torch import Tensor, nn

from onlybn.models.batchnorm import normalise
from onlybn.models.network import Network, Place


class BasicBlock(nn.Module):
    """Two 3×3 convolutions, each followed by BatchNorm, added to the shortcut.

    The shortcut is the identity, or a 1×1 convolution and BatchNorm if the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.convolution_1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.batchnorm_1 = nn.BatchNorm2d(outputs)
        self.relu_1 = nn.ReLU(inplace=True)
        self.convolution_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.batchnorm_2 = nn.BatchNorm2d(outputs)
        self.shortcut: Shortcut | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = Shortcut(inputs, outputs, stride)
        self.relu_2 = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        shortcut = x if self.shortcut is None else self.shortcut(x)
        x = normalise(self.convolution_1(x), self.batchnorm_1, self.relu_1)
        return normalise(self.convolution_2(x), self.batchnorm_2, self.relu_2, added=shortcut)


class Shortcut(nn.Module):
    """A 1×1 convolution and BatchNorm."""

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
        self.batchnorm = nn.BatchNorm2d(outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        return normalise(self.convolution(x), self.batchnorm)


class CifarResNet(Network):
    """ResNet-(6·blocks + 2): a stem and three stages of 16, 32 and 64 channels times `width`.

    Stages 2 and 3 halve the resolution in their first block. Images are float (batch, channels, height,
    width) of any size from 8×8; the last feature map is averaged before the linear layer.
    """

    def __init__(self, *, blocks: int, width: int, channels: int, classes: int):
        super().__init__()
        stem = 16 * width
        self.convolution = nn.Conv2d(channels, stem, 3, padding=1, bias=False)
        self.batchnorm = nn.BatchNorm2d(stem)
        self.relu = nn.ReLU(inplace=True)
        self.stages = nn.ModuleList()
        inputs = stem
        for stage in range(3):
            outputs = stem * 2**stage
            first = BasicBlock(inputs, outputs, stride=1 if stage == 0 else 2)
            rest = [BasicBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.output = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""
        x = normalise(self.convolution(images), self.batchnorm, self.relu)
        for stage in self.stages:
            x = stage(x)
        return self.output(x.mean(dim=(2, 3)))

    def normalisation_places(self) -> dict[nn.Module, Place]:
        """Return the place of each normalisation (or its replacement), in the order of the forward pass."""
        places = {self.batchnorm: Place(0, 0, "stem")}
        for s, stage in enumerate(self.stages, start=1):
            for b, block in enumerate(stage, start=1):
                places[block.batchnorm_1] = Place(s, b, "first")
                places[block.batchnorm_2] = Place(s, b, "second")
                if block.shortcut is not None:
                    places[block.shortcut.batchnorm] = Place(s, b, "shortcut")
        return places

    def relu_places(self) -> dict[nn.ReLU, list[Place]]:
        """Return the places of each ReLU's calls, in the order of the forward pass."""
        places = {self.relu: [Place(0, 0, "stem")]}
        for s, stage in enumerate(self.stages, start=1):
            for b, block in enumerate(stage, start=1):
                places[block.relu_1] = [Place(s, b, "inside")]
                places[block.relu_2] = [Place(s, b, "addition")]
        return places

    def shortcut_convolutions(self) -> list[nn.Conv2d]:
        """Return the 1×1 convolutions of the first blocks of stages 2 and 3."""
        return [
            block.shortcut.convolution
            for stage in self.stages
            for block in stage
            if block.shortcut is not None
        ]
