"""Wide pre-activation ResNets with dropout (Zagoruyko and Komodakis, 2016)."""

from torch import Tensor, nn

from onlybn.models.batchnorm import normalise
from onlybn.models.dropout import Dropout
from onlybn.models.network import Network, Place

DROPOUT = 0.3


class PreactivationBlock(nn.Module):
    """Two 3×3 convolutions, each preceded by BatchNorm and ReLU, added to the shortcut.

    Dropout precedes the second convolution. The shortcut is the identity, or a 1×1 convolution of what the
    first convolution reads if the shape changes.
    """

    def __init__(self, inputs: int, outputs: int, stride: int):
        super().__init__()
        self.batchnorm_1 = nn.BatchNorm2d(inputs)
        self.relu_1 = nn.ReLU(inplace=True)
        self.convolution_1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.batchnorm_2 = nn.BatchNorm2d(outputs)
        self.relu_2 = nn.ReLU(inplace=True)
        self.dropout = Dropout(DROPOUT)
        self.convolution_2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.shortcut: nn.Conv2d | None = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Conv2d(inputs, outputs, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map (batch, inputs, height, width) to (batch, outputs, height / stride, width / stride)."""
        active = normalise(x, self.batchnorm_1, self.relu_1)
        shortcut = x if self.shortcut is None else self.shortcut(active)
        inner = normalise(self.convolution_1(active), self.batchnorm_2, self.relu_2)
        return self.convolution_2(self.dropout(inner)) + shortcut


class PreactivationResNet(Network):
    """WRN-(6·blocks + 4)-width: a stem of 16 channels and three stages of 16, 32 and 64 times `width`.

    Stages 2 and 3 halve the resolution in their first block; BatchNorm and ReLU follow the last stage. Images
    are float (batch, channels, height, width) of any size from 8×8; the last feature map is averaged before
    the linear layer.
    """

    def __init__(self, *, blocks: int, width: int, channels: int, classes: int):
        super().__init__()
        inputs = 16
        self.convolution = nn.Conv2d(channels, inputs, 3, padding=1, bias=False)
        self.stages = nn.ModuleList()
        for stage in range(3):
            outputs = 16 * width * 2**stage
            first = PreactivationBlock(inputs, outputs, stride=1 if stage == 0 else 2)
            rest = [PreactivationBlock(outputs, outputs, stride=1) for _ in range(blocks - 1)]
            self.stages.append(nn.Sequential(first, *rest))
            inputs = outputs
        self.batchnorm = nn.BatchNorm2d(inputs)
        self.relu = nn.ReLU(inplace=True)
        self.output = nn.Linear(inputs, classes)

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""
        x = self.convolution(images)
        for stage in self.stages:
            x = stage(x)
        return self.output(normalise(x, self.batchnorm, self.relu).mean(dim=(2, 3)))

    def normalisation_places(self) -> dict[nn.Module, Place]:
        """Return the place of each normalisation (or its replacement), in the order of the forward pass."""
        places = {}
        for s, b, block in self._blocks():
            places[block.batchnorm_1] = Place(s, b, "first")
            places[block.batchnorm_2] = Place(s, b, "second")
        return places | {self.batchnorm: Place(len(self.stages) + 1, 1, "final")}

    def relu_places(self) -> dict[nn.ReLU, list[Place]]:
        """Return the places of each ReLU's calls, in the order of the forward pass."""
        places = {}
        for s, b, block in self._blocks():
            places |= {relu: [Place(s, b, "inside")] for relu in (block.relu_1, block.relu_2)}
        return places | {self.relu: [Place(len(self.stages) + 1, 1, "final")]}

    def shortcut_convolutions(self) -> list[nn.Conv2d]:
        """Return the 1×1 convolutions of the first blocks."""
        return [block.shortcut for _, _, block in self._blocks() if block.shortcut is not None]

    def _blocks(self) -> list[tuple[int, int, PreactivationBlock]]:
        return [
            (s, b, block)
            for s, stage in enumerate(self.stages, start=1)
            for b, block in enumerate(stage, start=1)
        ]
