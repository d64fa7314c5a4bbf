"""Which training images a run trains on, drawn by its seed: all but a validation part, or some of these.

Both are stratified: each class has its share.
"""

import numpy as np

from onlybn.errors import UserError
from onlybn.randomness import generator


def hold_out(labels: np.ndarray, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the places of the images that train, and of the `count` held out, both in increasing order.

    The classes share the number held out in proportion to their images, by largest remainders; of equal ones
    the first class comes first. Which images these are depends on the seed alone. Raises UserError if a class
    has no image on one of the sides.
    """
    classes, images, taken = _shares(labels, count)
    for name, of, out in zip(classes, images, taken, strict=True):
        if out in (0, of):
            raise UserError(
                f"config: validation: {out:,} of the {of:,} training images of class {name} would be held"
                f" out, and a class needs one on either side; choose a {'smaller' if out else 'larger'} share"
            )
    trains = ~_drawn(labels, images, taken, generator(seed, "validation"))
    return np.flatnonzero(trains), np.flatnonzero(~trains)


def choose(labels: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Return the places of the `count` images that train, in increasing order.

    The classes share the number, and the seed draws the images, as in `hold_out`. Raises UserError if a class
    has no image.
    """
    classes, images, taken = _shares(labels, count)
    for name, of, chosen in zip(classes, images, taken, strict=True):
        if not chosen:
            raise UserError(
                f"config: examples: none of the {of:,} training images of class {name} would train, and a"
                " class needs one; choose more"
            )
    return np.flatnonzero(_drawn(labels, images, taken, generator(seed, "examples")))


def _shares(labels: np.ndarray, count: int) -> tuple[list[int], list[int], list[int]]:
    """Return the classes, how many images each has, and how many of `count` are its share."""
    classes, images = np.unique(labels, return_counts=True)
    taken, remainders = np.divmod(count * images, len(labels))
    taken[np.argsort(-remainders, kind="stable")[: count - taken.sum()]] += 1
    return classes.tolist(), images.tolist(), taken.tolist()


def _drawn(
    labels: np.ndarray, images: list[int], taken: list[int], random: np.random.Generator
) -> np.ndarray:
    """Return whether each image is one of those taken of its class, bool (images,)."""
    order = random.permutation(len(labels))
    by_class = np.split(order[np.argsort(labels[order], kind="stable")], np.cumsum(images)[:-1])
    drawn = np.zeros(len(labels), bool)
    drawn[np.concatenate([some[:out] for some, out in zip(by_class, taken, strict=True)])] = True
    return drawn
