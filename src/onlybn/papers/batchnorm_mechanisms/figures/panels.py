"""What the figures share: a panel for each setting and measure, and what is drawn in one."""

import re
import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator, NullFormatter

from onlybn.drawing import style
from onlybn.papers.batchnorm_mechanisms.looks import looks

ACROSS = 4  # panels side by side
WIDTHS = {1: 3.4, 2: 2.7, 3: 2.3, 4: 1.75}  # of a panel, in inches, by the number of columns
HEIGHT, TITLE, LABEL = 1.2, 0.13, 0.35  # of a panel, a line of a title, and labels below, in inches
FEW_DECADES = 100
TIMES = ("step", "epoch")
# What captions of figures with logarithmic axes say.
LOGARITHMS = " On a logarithmic axis, mean and deviation are those of logarithms."
PERCENT = (0, 102)
DASHES = ("-", "--", ":", "-.", (0, (5, 1)), (0, (1, 4)))


def lines(axes: Axes, here: pd.DataFrame) -> None:
    """Draw a line per arm with its standard deviation, and each diverged run as far as it came, with an ×."""
    for look, dash, arm, rows in arms(here):
        means = rows[rows["seed"].isna()]
        mark = look.mark if 0 < len(means) < 3 else ""
        axes.plot(means["x"], means["y"], color=look.colour, linestyle=dash, marker=mark, label=arm)
        axes.fill_between(means["x"], means["low"], means["high"], color=look.colour, alpha=0.18, linewidth=0)
        for _, lost in rows.dropna(subset="seed").groupby("seed"):
            axes.plot(lost["x"], lost["y"], color=look.colour, linestyle=dash, linewidth=0.7)
            end = lost.iloc[-1]
            axes.plot(end["x"], end["y"], "x", color=look.colour, markersize=6, clip_on=False, zorder=3)


def edges(axes: Axes, here: pd.DataFrame) -> None:
    """Draw a band per arm between the means of its `edge` low and high, and dashed edges if there are any."""
    for look, _, arm, rows in arms(here[here["seed"].isna()]):
        drawn = {name: its.set_index("x")["y"] for name, its in rows.groupby("edge")}
        band = pd.DataFrame({name: drawn.get(name) for name in ("low", "high")}, dtype=float)
        axes.fill_between(
            band.index, band["low"], band["high"], color=look.colour, alpha=0.3, label=arm, lw=0
        )
        axes.plot(band.index, band, color=look.colour, linewidth=0.7)
        for name in ("decayed low", "decayed high"):
            if name in drawn:
                axes.plot(drawn[name].index, drawn[name], color=look.colour, linewidth=0.7, linestyle="--")


def levels(axes: Axes, here: pd.DataFrame) -> None:
    """Draw a mark per arm with its deviation, and its value above; × marks one of which runs diverged."""
    places = list(arms(here))
    for place, (look, _, arm, rows) in enumerate(places):
        means, lost = rows[rows["seed"].isna()], bool(rows["diverged"].max() > 0)
        for point in means.itertuples():
            axes.plot(place, point.y, look.mark, color=look.colour, markersize=6, label=arm)
            axes.vlines(place, point.low, point.high, color=look.colour)
            text = _brief(float(f"{point.y:.2g}")) + " ×" * lost
            told = {"textcoords": "offset points", "ha": "center", "fontsize": 6.5}
            axes.annotate(text, (place, np.nanmax([point.y, point.high])), (0, 4), **told)
        if means.empty and lost:
            across = axes.get_xaxis_transform()
            axes.plot(place, 0.04, "x", color=look.colour, transform=across, clip_on=False, label=arm)
    axes.set_xticks([])
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.margins(y=0.3)


def arms(here: pd.DataFrame) -> Iterator[tuple[Any, Any, str, pd.DataFrame]]:
    """Yield each arm's look (by normalisation), dashes (by learning rate), label and rows."""
    of = looks(here["normalisation"])
    for name, look in of.items():
        own = here[here["normalisation"] == name]
        for place, (arm, rows) in enumerate(
            own.sort_values("rate", kind="stable").groupby("arm", sort=False)
        ):
            yield look, DASHES[place % len(DASHES)], arm, rows.sort_values("x", kind="stable")


@dataclass(frozen=True)
class Row:
    """A row of panels: the measure that it draws, which is also its label, and how.

    `at` returns where a horizontal line is drawn, for a panel's rows; `height` is in inches.
    Panels of one column with the same `x_label` have one x-axis if they are `shared`. Panels of a row that
    are side by side for comparison have one y-axis if they are `equal`.
    """

    measure: str
    draw: Callable[[Axes, pd.DataFrame], None] = lines
    log: bool = False
    limits: tuple[float, float] | None = None
    at: Callable[[pd.DataFrame], float] | None = None
    x_label: str = "step"
    height: float = HEIGHT
    shared: bool = True
    equal: bool = False


def panels(numbers: pd.DataFrame, rows: Sequence[Row], *, column: str = "setting") -> Figure:
    """Draw a row of panels per measure and a column per setting, or per value of another column.

    Of more than four columns, others are below; a column `block` in the numbers also begins new rows, whose
    columns fill the width. A panel without numbers is left out, and so is a row without panels.
    """
    parts = [numbers] if "block" not in numbers else [its for _, its in numbers.groupby("block", sort=False)]
    blocks = [block for part in parts for block in _blocks(part, rows, column)]
    across = max(number for _, number, _ in blocks)
    width = WIDTHS[across] * across
    tall = [_tall(here[column].unique(), width / number, drawn) for here, number, drawn in blocks]
    figure = plt.figure(figsize=(width, sum(tall)), layout="constrained")
    parts = figure.subfigures(len(blocks), 1, height_ratios=tall, squeeze=False)[:, 0]
    used = [
        axes
        for part, (here, number, drawn) in zip(parts, blocks, strict=True)
        for axes in _block(part, here, number, drawn, column)
    ]
    style.legend_below(figure, used)
    return figure


def _tall(titles: Iterable[str], width: float, rows: Sequence[Row]) -> float:
    """Return the height of panels with these titles, in inches."""
    lines = max(len(_title(title, width).splitlines()) for title in titles)
    return sum(row.height for row in rows) + LABEL + TITLE * lines


def _block(
    part: SubFigure, numbers: pd.DataFrame, number: int, rows: Sequence[Row], column: str
) -> Iterator[Axes]:
    """Draw panels side by side and below each other, and yield each."""
    grid = part.add_gridspec(len(rows), number, height_ratios=[row.height for row in rows])
    leftmost: dict[str, Axes] = {}
    for place, (title, its) in enumerate(numbers.groupby(column, sort=False)):
        drawn = [(at, row) for at, row in enumerate(rows) if row.measure in set(its["measure"])]
        above: tuple[Row | None, Axes | None] = (None, None)
        for at, row in drawn:
            shared = above[1] if above[0] and row.shared and above[0].x_label == row.x_label else None
            beside = leftmost.get(row.measure) if row.equal else None
            axes = part.add_subplot(grid[at, place], sharex=shared, sharey=beside)
            panel(axes, its[its["measure"] == row.measure], row)
            leftmost.setdefault(row.measure, axes).set_ylabel(wrapped(row.measure, row.height))
            axes.set_xlabel(row.x_label)
            if shared:
                shared.tick_params(labelbottom=False)
                shared.set_xlabel("")
            if above[1] is None:
                axes.set_title(_title(title, part.bbox.width / part.dpi / number))
            above = (row, axes)
            yield axes


def _blocks(
    numbers: pd.DataFrame, rows: Sequence[Row], column: str
) -> Iterator[tuple[pd.DataFrame, int, list[Row]]]:
    """Yield the numbers of panels side by side, how many columns they have, and the rows that they draw."""
    shown = list(dict.fromkeys(numbers[column]))
    across = 3 if len(shown) in (5, 6, 9) else min(ACROSS, len(shown))
    for start in range(0, len(shown), across):
        here = numbers[numbers[column].isin(shown[start : start + across])]
        measures = set(here["measure"])
        yield here, across, [row for row in rows if row.measure in measures]


def panel(axes: Axes, here: pd.DataFrame, row: Row) -> None:
    """Draw one panel."""
    row.draw(axes, here)
    if row.x_label in TIMES:
        steps(axes)
    if row.x_label == "layer":
        axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    if row.at:
        axes.axhline(row.at(here), color="0.4", linestyle=":", linewidth=0.9, zorder=style.ABOVE_GRID)
    if row.log and here["y"].gt(0).any():
        logarithmic(axes)
    if row.limits:
        axes.set_ylim(*row.limits)


def steps(axes: Axes) -> None:
    """Give the x-axis a few ticks, with thousands as k."""
    axes.xaxis.set_major_locator(MaxNLocator(4, integer=True))
    axes.xaxis.set_major_formatter(EngFormatter(sep=""))


def logarithmic(axes: Axes) -> None:
    """Give the y-axis a logarithmic scale, with ticks at 1, 2 and 5 within few decades."""
    axes.set_yscale("log", nonpositive="mask")
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(NullFormatter())
    if high / low < FEW_DECADES:
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.yaxis.set_major_formatter(lambda value, _: _brief(value))


def _brief(value: float) -> str:
    """Return a tick's value in few characters."""
    return f"{value:g}" if 1e-3 <= value < 1e4 else f"{value:.2g}".replace("e+0", "e").replace("e-0", "e-")


def wrapped(text: str, width: float) -> str:
    """Break a label into lines that fit a panel of this width or height in inches."""
    return textwrap.fill(text, int(width * 14), break_on_hyphens=False, break_long_words=False)


def _title(title: str, width: float) -> str:
    """Break a title into lines that fit a panel of this width, after commas only."""
    return wrapped(re.sub("(?<!,) ", "\N{NO-BREAK SPACE}", title), width)
