"""CIFAR-100: torchvision's original files, with the hundred fine labels."""

from pathlib import Path

import numpy as np

from onlybn.datasets.cifar10 import read_original


def load(data_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Read `cifar-100-python` below `data_dir`, as `read_original` does."""
    from torchvision.datasets import CIFAR100

    return read_original("cifar100", CIFAR100, data_dir)
