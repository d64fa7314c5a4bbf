"""Small PNGs, for a report and for a repository of results."""

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from scipy.spatial import KDTree

from onlybn.files import written_whole

COLOURS, EXACT = 256, 128


def write_png(picture: Image.Image, target: Path) -> None:
    """Write a picture as a PNG of at most 256 colours and without transparency: a third of the bytes.

    The 128 most frequent colours stay as they are, which are those of areas and lines; the many others, of
    smoothed edges, become the nearest of a palette.
    """
    opaque = picture.convert("RGB")
    places, found = pd.factorize(np.asarray(opaque).reshape(-1, 3) @ (1 << 16, 1 << 8, 1))
    colours = np.stack([found >> 16, found >> 8 & 255, found & 255], axis=1)
    spread = opaque.quantize(COLOURS - EXACT, Image.Quantize.MAXCOVERAGE).getpalette()
    frequent = colours[np.argsort(-np.bincount(places), kind="stable")[:EXACT]]
    palette = np.concatenate([frequent, np.reshape(spread, (-1, 3))])
    nearest = KDTree(palette).query(colours)[1]
    reduced = Image.fromarray(nearest[places].reshape(opaque.height, opaque.width).astype(np.uint8), "P")
    reduced.putpalette(palette.astype(np.uint8).tobytes())
    with written_whole(target) as beside:
        reduced.save(beside, "PNG", optimize=True, dpi=picture.info.get("dpi"))
