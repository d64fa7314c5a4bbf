"""Datasets by name. Facts about them are known without torch; preparing and reading imports more."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

    Split = tuple["np.ndarray", "np.ndarray"]

SPLITS = ("train", "test")
FILES = ("dataset.json", "train.safetensors", "test.safetensors")

# The authors' framework normalises CIFAR-10 with ImageNet's constants.
_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class Dataset:
    """What is known of a dataset of small square images before it is read.

    `examples` counts those of the training and the test split; `flips` says whether a mirrored image
    still shows its class; `mean` and `std` normalise each channel of pixels in [0, 1] (None: the
    training split's own are used). `source` is the `module:function` that reads it.
    """

    title: str
    classes: int
    channels: int
    size: int
    examples: tuple[int, int]
    flips: bool
    source: str
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None

    @property
    def chance(self) -> float:
        """Accuracy of guessing, in percent."""
        return 100 / self.classes

    def load(self, data_dir: Path) -> "dict[str, Split]":
        """Read both splits: images, uint8 (examples, size, size, channels), and labels, int64.

        Raises UserError if files are missing, truncated, altered or of another shape.
        """
        module, function = self.source.split(":")
        read: Callable[[Path], dict[str, Split]] = getattr(import_module(module), function)
        return read(data_dir)


DATASETS = {
    "digits": Dataset(
        title="digits",
        classes=10,
        channels=1,
        size=8,
        examples=(1_437, 360),
        flips=False,
        source="onlybn.datasets.digits:load",
    ),
    "cifar10": Dataset(
        title="CIFAR-10",
        classes=10,
        channels=3,
        size=32,
        examples=(50_000, 10_000),
        flips=True,
        source="onlybn.datasets.cifar10:load_batches",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
    "cifar10-jpeg": Dataset(
        title="CIFAR-10 (JPEG)",
        classes=10,
        channels=3,
        size=32,
        examples=(50_000, 10_000),
        flips=True,
        source="onlybn.datasets.cifar10:load_jpeg",
        mean=_IMAGENET_MEAN,
        std=_IMAGENET_STD,
    ),
}
