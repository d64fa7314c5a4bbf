"""Augmentation on a CPU in one compiled pass; `onlybn.datasets.small` does the same with torch operators."""

import numpy as np

from onlybn.compiling import compiled


@compiled
def augment(images, chosen, moves, flips, table, batch):
    """Write the chosen images, shifted, mirrored and normalised by `table`, into `batch`; borders are black.

    Images are uint8 (examples, height, width, channels), `chosen` int64 (batch,), `flips` bool (batch,),
    `moves` int64 (batch, 2), down and right, `table` float32 (256, channels), and `batch` float32 (batch,
    height, width, channels).
    """
    _, height, width, channels = images.shape
    for n in range(chosen.size):
        image, down, right = images[chosen[n]], moves[n, 0], moves[n, 1]
        for i in range(height):
            row = i - down
            for j in range(width):
                column = (width - 1 - j if flips[n] else j) - right
                inside = 0 <= row < height and 0 <= column < width
                for c in range(channels):
                    value = image[row, column, c] if inside else np.uint8(0)
                    batch[n, i, j, c] = table[value, c]
