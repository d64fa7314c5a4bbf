"""scikit-learn's handwritten digits: 1,797 real 8×8 images that are part of the package."""

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


def load(data_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return a fixed stratified split into 1,437 training and 360 test images, with labels.

    `data_dir` is not used. Pixels from 0 to 16 become bytes from 0 to 240, exactly.
    """
    digits = load_digits()
    images = (digits.images * 15).astype(np.uint8)[..., np.newaxis]
    labels = digits.target.astype(np.int64)
    train, test = train_test_split(np.arange(len(labels)), test_size=360, stratify=labels, random_state=0)
    return {"train": (images[train], labels[train]), "test": (images[test], labels[test])}
