"""Gratings of eight kinds, drawn from a seed: an example of a custom dataset that needs no file."""

from pathlib import Path

import numpy as np

SIZE = 16  # pixels
ANGLES = 4
WAVELENGTHS = (3.0, 5.0)  # pixels


def textures(data_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return 2,000 training and 500 test images, uint8 (examples, size, size, 3), and their labels.

    A class is an angle and a wavelength; colours, phase, contrast and noise differ from image to image.
    """
    return {"train": _draw(0, 2_000), "test": _draw(1, 500)}


def _draw(seed: int, examples: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    labels = np.arange(examples) % (ANGLES * len(WAVELENGTHS))
    # Angles and wavelengths vary within a class, by less than they differ between classes.
    angle = np.pi * (labels % ANGLES + rng.uniform(-0.35, 0.35, examples)) / ANGLES
    wavelength = np.array(WAVELENGTHS)[labels // ANGLES] * rng.uniform(0.85, 1.15, examples)
    x, y = np.meshgrid(np.arange(SIZE), np.arange(SIZE))
    along = np.multiply.outer(np.cos(angle), x) + np.multiply.outer(np.sin(angle), y)
    phase = rng.uniform(0, 2 * np.pi, (examples, 1, 1))
    waves = np.cos(2 * np.pi * along / wavelength[:, None, None] + phase)
    low, high = rng.uniform(0, 1, (2, examples, 1, 1, 3))
    images = low + (high - low) * (waves[..., None] + 1) / 2
    images += rng.normal(0, 0.15, images.shape)
    return (255 * images.clip(0, 1)).round().astype(np.uint8), labels
