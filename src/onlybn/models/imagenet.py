"""ResNets for ImageNet, from torchvision's blocks (Appendix B), and the same with a stem for small images."""

from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck, ResNet

from onlybn.models.network import Network, Place

BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (Bottleneck, (3, 4, 6, 3)),
    101: (Bottleneck, (3, 4, 23, 3)),
    200: (Bottleneck, (3, 24, 36, 3)),
}
POSITIONS = ("first", "second", "third")


class ImageNetResNet(ResNet, Network):
    """torchvision's ResNet, without the option that starts γ at 0; every γ is drawn later.

    `for_small_images` (from 8×8), the stem is a 3×3 convolution of stride 1 without a max-pool.
    """

    def __init__(self, *, depth: int, channels: int, classes: int, for_small_images: bool = False):
        block, layers = BLOCKS[depth]
        super().__init__(block, list(layers), num_classes=classes)
        if for_small_images:
            self.conv1 = nn.Conv2d(channels, 64, 3, padding=1, bias=False)
            self.maxpool = nn.Identity()
        elif channels != 3:
            self.conv1 = nn.Conv2d(channels, 64, 7, stride=2, padding=3, bias=False)

    @property
    def output(self) -> nn.Linear:
        """The last linear layer."""
        return self.fc

    def normalisation_places(self) -> dict[nn.Module, Place]:
        """Return the place of each normalisation (or its replacement), in the order of the forward pass."""
        places = {self.bn1: Place(0, 0, "stem")}
        for s, b, block in self._blocks():
            inside = [block.bn1, block.bn2, *([block.bn3] if isinstance(block, Bottleneck) else [])]
            places |= {layer: Place(s, b, p) for layer, p in zip(inside, POSITIONS, strict=False)}
            if block.downsample is not None:
                places[block.downsample[1]] = Place(s, b, "shortcut")
        return places

    def relu_places(self) -> dict[nn.ReLU, list[Place]]:
        """Return the places of each ReLU's calls: a block calls its one ReLU two or three times."""
        places = {self.relu: [Place(0, 0, "stem")]}
        for s, b, block in self._blocks():
            inside = 2 if isinstance(block, Bottleneck) else 1
            places[block.relu] = [Place(s, b, "inside")] * inside + [Place(s, b, "addition")]
        return places

    def shortcut_convolutions(self) -> list[nn.Conv2d]:
        """Return the 1×1 convolutions of the shortcuts."""
        return [block.downsample[0] for _, _, block in self._blocks() if block.downsample is not None]

    def _blocks(self) -> list[tuple[int, int, BasicBlock | Bottleneck]]:
        stages = (self.layer1, self.layer2, self.layer3, self.layer4)
        return [
            (s, b, block) for s, stage in enumerate(stages, start=1) for b, block in enumerate(stage, start=1)
        ]
