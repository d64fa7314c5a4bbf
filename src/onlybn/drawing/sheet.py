"""A sheet of a study's figures, to see them all at once."""

from collections.abc import Iterable, Sequence
from functools import cache
from itertools import combinations
from math import log
from pathlib import Path

from PIL import Image

from onlybn.drawing.png import write_png
from onlybn.errors import UserError

# In pixels: a README shows the sheet at about half of this width, its text still readable.
WIDTH, GAP = 1_800, 24
SCALE = 0.85  # at which a picture is best read
LONGEST_ROW = 4
OUT_OF_ORDER = 0.1  # costs as much as a picture at 1.4 times that scale


def sheet(pictures: Iterable[Path], target: Path) -> None:
    """Place the pictures in rows that fill the sheet, and write a PNG.

    The pictures of a row are scaled to one height. Rows are chosen such that no picture is scaled much more
    than another, and pictures stay nearly in their order. Raises UserError if one is damaged.
    """
    shown = [_opened(path) for path in pictures]
    width = min(WIDTH, sum(picture.width + GAP for picture in shown) + GAP)
    lines = [_line(row, width) for row in _rows(shown, width)]
    whole = Image.new("RGB", (width, sum(line.height + GAP for line in lines) + GAP), "white")
    top = GAP
    for line in lines:
        whole.paste(line, (0, top))
        top += line.height + GAP
    write_png(whole, target)


def _rows(pictures: Sequence[Image.Image], width: int) -> list[list[Image.Image]]:
    """Return the best rows: each begins with the first picture left, others may be passed over."""

    @cache
    def best(left: tuple[int, ...]) -> tuple[float, tuple[tuple[int, ...], ...]]:
        found = []
        for length in range(min(LONGEST_ROW, len(left))):
            for others in combinations(left[1 : LONGEST_ROW + 1], length):
                row = (left[0], *others)
                passed_over = left.index(row[-1]) - length
                cost, rows = best(tuple(place for place in left if place not in row))
                cost += _unevenness([pictures[place] for place in row], width) + OUT_OF_ORDER * passed_over
                found.append((cost, (row, *rows)))
        return min(found, default=(0.0, ()))

    return [[pictures[place] for place in row] for row in best(tuple(range(len(pictures))))[1]]


def _height(row: Sequence[Image.Image], width: int) -> float:
    """Return the height at which a row fills the width."""
    return (width - GAP * (len(row) + 1)) / sum(picture.width / picture.height for picture in row)


def _unevenness(row: Sequence[Image.Image], width: int) -> float:
    """Return how far the pictures of a row are scaled from the best scale."""
    height = _height(row, width)
    return sum(log(height / picture.height / SCALE) ** 2 for picture in row)


def _line(row: Sequence[Image.Image], width: int) -> Image.Image:
    """Return the pictures of a row side by side."""
    height = _height(row, width)
    line = Image.new("RGB", (width, round(height)), "white")
    left = GAP
    for picture in row:
        size = (round(picture.width * height / picture.height), round(height))
        line.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, 0))
        left += size[0] + GAP
    return line


def _opened(path: Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            return picture.convert("RGB")
    except (OSError, SyntaxError) as error:  # Pillow's errors for a damaged PNG
        raise UserError(f"{path} is missing or damaged ({error}); delete it to draw it again") from None
