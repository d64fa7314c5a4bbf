"""scikit-learn's handwritten digits: 1,797 real 8×8 images that are part of the package."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

Splits = dict[str, tuple[np.ndarray, np.ndarray]]


def load(data_dir: Path) -> Splits:
    """Return a fixed stratified split into 1,437 training and 360 test images, with labels.

    `data_dir` is not used. Pixels from 0 to 16 become bytes from 0 to 240, exactly.
    """
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}


def load_even(data_dir: Path) -> Splits:
    """Return the digits 0, 2, 4, 6 and 8 of both splits of `load`, as classes 0 to 4."""
    return _every_second(load(data_dir), 0)


def load_odd(data_dir: Path) -> Splits:
    """Return the digits 1, 3, 5, 7 and 9 of both splits of `load`, as classes 0 to 4."""
    return _every_second(load(data_dir), 1)


def load_turned(data_dir: Path) -> Splits:
    """Return the images of `load`, turned counterclockwise by a quarter."""
    splits = load(data_dir).items()
    return {name: (np.ascontiguousarray(np.rot90(i, axes=(1, 2))), labels) for name, (i, labels) in splits}


def _every_second(splits: Splits, first: int) -> Splits:
    return {
        name: (images[labels % 2 == first], labels[labels % 2 == first] // 2)
        for name, (images, labels) in splits.items()
    }
