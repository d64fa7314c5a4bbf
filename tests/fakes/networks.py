"""Custom networks that studies of the tests name."""

from torch import Tensor, nn


class Aliased(nn.Module):
    """A network whose BatchNorm has two names."""

    def __init__(self, channels: int, classes: int):
        super().__init__()
        self.batchnorm, self.output = nn.BatchNorm2d(4), nn.Linear(4, classes)
        self.body = nn.Sequential(nn.Conv2d(channels, 4, 3), self.batchnorm, nn.ReLU())

    def forward(self, images: Tensor) -> Tensor:
        """Map (batch, channels, height, width) to (batch, classes)."""
        return self.output(self.body(images).mean(dim=(2, 3)))
