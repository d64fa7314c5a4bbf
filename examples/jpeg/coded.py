"""CIFAR-10 (JPEG) as it is, coded once, and coded a second time: what does the loss of coding change?

The originals, which nobody coded, are not in that copy. A second loss stands in for the first: coded with the
same quality, its blocks lying across those of the first time, it is about two thirds as large.
"""

import io

import numpy as np
from PIL import Image

from onlybn.datasets.cifar10 import load_jpeg

QUALITY = 75  # the copy's own, with colours at half the resolution as Pillow does by default
SHIFT = 4  # half a block of 8 pixels


def once(data_dir):
    """Return the copy as it is, normalised by its own constants as `twice` is."""
    return load_jpeg(data_dir)


def twice(data_dir):
    """Return the copy with every image, for training and for testing, coded once more."""
    return {split: (code_all(images), labels) for split, (images, labels) in load_jpeg(data_dir).items()}


def code_all(images, quality=QUALITY, shift=SHIFT):
    """Code images, uint8 (examples, height, width, 3), and return them decoded."""
    return np.stack([code(image, quality, shift) for image in images])


def code(image, quality=QUALITY, shift=SHIFT):
    """Code an image, uint8 (height, width, 3), on blocks that lie `shift` pixels off, and decode it."""
    file = io.BytesIO()
    padded = np.pad(image, ((shift, 0), (shift, 0), (0, 0)), mode="edge")
    Image.fromarray(padded).save(file, "JPEG", quality=quality)
    return np.asarray(Image.open(file))[shift:, shift:]
