"""A sheet of a study's figures, to look at them all at once."""

from collections.abc import Iterable
from pathlib import Path

from PIL import Image

from onlybn.errors import UserError
from onlybn.files import written_whole

WIDTH, GAP = 2_000, 24  # pixels
REDUCED = 2  # times


def sheet(pictures: Iterable[Path], target: Path) -> None:
    """Place the pictures in rows, all at one scale and in their order; write a PNG.

    Raises UserError if one is damaged.
    """
    shown = [_opened(path).reduce(REDUCED) for path in pictures]
    left, top, height = GAP, GAP, 0
    placed = []
    for picture in shown:
        if placed and left + picture.width > WIDTH:
            left, top, height = GAP, top + height + GAP, 0
        placed.append((left, top))
        left, height = left + picture.width + GAP, max(height, picture.height)
    width = max(x + picture.width for (x, _), picture in zip(placed, shown, strict=True))
    whole = Image.new("RGB", (width + GAP, top + height + GAP), "white")
    for picture, place in zip(shown, placed, strict=True):
        whole.paste(picture, place)
    with written_whole(target) as beside:
        whole.save(beside, "PNG", optimize=True)


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError) as error:  # so Pillow calls a damaged PNG
        raise UserError(f"{path} is missing or damaged ({error}); delete it to draw it again") from None
