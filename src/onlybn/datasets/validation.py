"""Validation: a stratified part of the training images, which a run's seed draws and training leaves out."""

import numpy as np

from onlybn.errors import UserError
from onlybn.randomness import generator


def hold_out(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the images that train, and of the `count` held out, both in increasing order.

    The classes share the number held out in proportion to their images, by largest remainders; of equal ones
    the first class comes first. Which images these are depends on the seed alone. Raises UserError if a class
    has no image on one of the sides.
    """
    classes, images = np.unique(labels, return_counts=True)
    taken, remainders = np.divmod(count * images, len(labels))
    taken[np.argsort(-remainders, kind="stable")[: count - taken.sum()]] += 1
    for name, of, out in zip(classes.tolist(), images.tolist(), taken.tolist(), strict=True):
        if out in (0, of):
            raise UserError(
                f"config: validation: {out:,} of the {of:,} training images of class {name} would be held"
                f" out, and a class needs one on either side; choose a {'smaller' if out else 'larger'} share"
            )
    order = generator(seed, "validation").permutation(len(labels))
    by_class = np.split(order[np.argsort(labels[order], kind="stable")], np.cumsum(images)[:-1])
    held_out = np.concatenate([some[:out] for some, out in zip(by_class, taken, strict=True)])
    trains = np.ones(len(labels), bool)
    trains[held_out] = False
    return np.flatnonzero(trains), np.flatnonzero(~trains)
