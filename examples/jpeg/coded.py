"""CIFAR-10 (JPEG) as it is (coded once) and coded a second time: what does the loss of coding change?

The uncoded originals are not available. A second coding of the same quality, with its blocks shifted, stands
in for the first one; its loss is about two thirds as large.
"""

import io

import numpy as np
from PIL import Image

from onlybn.datasets.cifar10 import load_jpeg

QUALITY = 75  # that of the copy, with colours at half the resolution, as Pillow does by default
SHIFT = 4  # half a block of 8 pixels


def once(data_dir):
    """Return the copy as it is. As a custom dataset it is normalised by its own mean, as `twice` is."""
    return load_jpeg(data_dir)


def twice(data_dir):
    """Return the copy with every training and test image coded a second time."""
    return {split: (code_all(images), labels) for split, (images, labels) in load_jpeg(data_dir).items()}


def code_all(images, quality=QUALITY, shift=SHIFT):
    """Code images, uint8 (examples, height, width, 3), and return them decoded."""
    return np.stack([code(image, quality, shift) for image in images])


def code(image, quality=QUALITY, shift=SHIFT):
    """Code an image, uint8 (height, width, 3), on blocks shifted by `shift` pixels, and decode it."""
    file = io.BytesIO()
    padded = np.pad(image, ((shift, 0), (shift, 0), (0, 0)), mode="edge")
    Image.fromarray(padded).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[shift:, shift:]
