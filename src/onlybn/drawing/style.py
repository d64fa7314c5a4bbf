"""What all figures share: panels, axes, lines or bars with error bars, and the legend."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import offset_copy

from onlybn.datasets import known
from onlybn.drawing.looks import Looks, named, x_column
from onlybn.drawing.summaries import chance, differs, networks

PERCENT = (0, 108)  # with room for the number above a bar
PANEL_WIDTHS = {1: 3.4, 2: 2.4, 3: 2.2}  # in inches, by the number of columns
ABOVE_GRID = 0.9  # of a line of reference: below what was measured
X_LABELS = {"depth": "depth (layers)", "width": "width (factor on channels)"}


@dataclass(frozen=True)
class Series:
    """One line of a panel: rows with `x`, mean `y`, `std` and `diverged`, and their label and look."""

    rows: pd.DataFrame
    label: str
    colour: Any
    mark: str
    line: str = "-"


def panels(
    numbers: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame], None],
    looks: Looks,
    *,
    y_label: str,
    y_limits: tuple[float, float] = PERCENT,
    rows: str | None = None,
    row_title: Callable[[str], str] = str,
) -> Figure:
    """Draw a panel for each family in the numbers, and if `rows` is a column, for each of its values.

    Up to four panels are side by side; of more, each value has a row. `draw` gets the axes and the numbers
    of one panel; axis labels, titles and legend are added here. A panel with a single network has no x-axis,
    and its title names the network.
    """
    numbers = numbers.assign(regime=named(numbers))
    shown = list(looks.of_panels(numbers))
    values = list(dict.fromkeys(numbers[rows])) if rows else [""]
    placed = [(value, panel) for value in values for panel in shown]
    columns = len(placed) if len(placed) <= 4 else len(shown)
    figure, grid = plt.subplots(
        len(placed) // columns,
        columns,
        figsize=(PANEL_WIDTHS.get(columns, 1.9) * columns, 2.2 * (len(placed) // columns)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    titles = {panel: known(its["dataset"].iloc[0]).title for panel, its in numbers.groupby("panel")}
    for axes, (value, panel) in zip(grid.flat, placed, strict=True):
        here = numbers[(numbers["panel"] == panel) & (numbers[rows] == value if rows else True)]
        if here.empty:  # for instance a reparametrisation in a regime that trains no weight
            axes.remove()
            continue
        draw(axes, here)
        if here["x"].nunique() > 1:
            log_axis(axes, here["x"])
            axes.set_xlabel(X_LABELS[x_column(panel)])
        members = (here["architecture"].astype(str) + " " + differs(here)).str.strip().unique()
        title = f"{titles[panel]}, {members[0] if len(members) == 1 else panel}"
        axes.set_title(title + (f"\n{row_title(value)}" if rows else ""))
    for line in grid:
        line[0].set_ylabel(y_label)
    grid[0][0].set_ylim(*y_limits)
    legend_below(figure, [axes for axes in grid.flat if axes.figure])
    return figure


def percentages(numbers: pd.DataFrame, looks: Looks, *, y_label: str) -> Figure:
    """Draw percentages, a line per regime; the y-axis ends a little above the largest."""
    top = max(10.0, 1.15 * (numbers["y"] + numbers["std"].fillna(0)).max())
    lines = partial(regime_lines, looks=looks)
    return panels(numbers, lines, looks, y_label=y_label, y_limits=(0, min(PERCENT[1], top)))


def by_regime(
    numbers: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame], None],
    looks: Looks,
    *,
    y_label: str,
    y_limits: tuple[float, float] = PERCENT,
) -> Figure:
    """Draw the panels of each regime; `draw` is as in `panels`."""
    labels = {regime: look.label for regime, look in looks.of_regimes(numbers).items()}
    titled = {"rows": "regime", "row_title": labels.__getitem__}
    return panels(numbers, draw, looks, y_label=y_label, y_limits=y_limits, **titled)


def network_panels(
    numbers: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame], None],
    *,
    x_label: str,
    y_label: str,
    share_x: bool,
) -> Figure:
    """Draw a panel for each network in the numbers, three or four to a row; `draw` is as in `panels`."""
    numbers = numbers.assign(regime=named(numbers), network=networks(numbers))
    placed = numbers[["network", "family", "depth", "width"]].drop_duplicates()
    names = placed.sort_values(["family", "depth", "width"], kind="stable")["network"]
    columns = 3 if len(names) in (5, 6, 9) else min(4, len(names))
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(max(3.4, 1.9 * columns), 1.7 * rows if len(names) > 1 else 2.2),
        sharex=share_x,
        squeeze=False,
        layout="constrained",
    )
    title = known(numbers["dataset"].iloc[0]).title
    if len(names) > 1:
        figure.suptitle(title, fontsize="medium")
    for axes in grid.flat[len(names) :]:
        axes.remove()
    shown = list(grid.flat[: len(names)])
    for axes, network in zip(shown, names, strict=True):
        draw(axes, numbers[numbers["network"] == network])
        axes.set_title(network if len(names) > 1 else f"{title}, {network}")
        axes.tick_params(labelbottom=True)
    for line in grid:
        line[0].set_ylabel(y_label)
    for axes in shown[-columns:]:
        axes.set_xlabel(x_label)
    legend_below(figure, shown)
    return figure


def series(axes: Axes, drawn: Sequence[Series], *, digits: int = 1, apart: float = 0) -> None:
    """Draw means with one standard deviation: a line over x for each series, or bars at a single x.

    Lines are shifted sideways by `apart` points from one to the next, so that none hides another. Bars stand
    side by side, with their mean above them to that many `digits`; the x-axis has then no ticks. An × marks
    a point with diverged runs; if all of its runs diverged, the × is at the bottom of the axes.
    """
    drawn = [one for one in drawn if len(one.rows)]
    if len({x for one in drawn for x in one.rows["x"]}) == 1:
        _bars(axes, drawn, digits)
        return
    for place, one in enumerate(drawn):
        points(axes, one, shift=apart * (place - (len(drawn) - 1) / 2))


def points(axes: Axes, one: Series, *, shift: float = 0) -> None:
    """Draw one series as a line, moved sideways by `shift` points, with its deviations and ×."""
    rows = one.rows.sort_values("x")
    look = {"label": one.label, "color": one.colour, "marker": one.mark, "linestyle": one.line}
    if shift:  # limits of the axes leave out what has a transform
        look["transform"] = offset_copy(axes.transData, axes.figure, x=shift, units="points")
    axes.errorbar(rows["x"], rows["y"], rows["std"], **look)
    for point in rows[rows["diverged"] > 0].itertuples():
        _cross(axes, point.x, point.y, one.colour, shift)


def _bars(axes: Axes, drawn: Sequence[Series], digits: int) -> None:
    """Draw a bar for each row of each series, in the middle of the axes."""
    rows = [(one, row) for one in drawn for row in one.rows.itertuples()]
    for place, (one, row) in enumerate(rows):
        axes.bar(place, row.y, 0.8, label=one.label, color=one.colour)
        axes.errorbar(place, row.y, row.std, color="0.15", linewidth=0.9)
        if not np.isnan(row.y):
            top = max(0.0, np.nansum([row.y, row.std]))
            axes.annotate(
                signed(row.y, digits),
                (place, top),
                (0, 2),
                textcoords="offset points",
                ha="center",
                fontsize=6.5,
            )
        if row.diverged > 0:
            _cross(axes, place, row.y, one.colour if np.isnan(row.y) else "0.15", 0)
    axes.set_xticks([])
    half = max(len(rows), 4) / 2 + 0.6
    axes.set_xlim((len(rows) - 1) / 2 - half, (len(rows) - 1) / 2 + half)


def signed(value: float, digits: int) -> str:
    """Return a number with a minus sign, if it needs a sign."""
    return f"{value:z.{digits}f}".replace("-", "\N{MINUS SIGN}")


def _cross(axes: Axes, x: float, y: float, colour: Any, shift: float) -> None:
    """Mark a point of which runs diverged."""
    lost = np.isnan(y)
    place = axes.get_xaxis_transform() if lost else axes.transData
    axes.plot(
        x,
        0.03 if lost else y,
        marker="x",
        color=colour,
        markersize=8,
        linestyle="none",
        clip_on=False,
        zorder=4,  # above the word chance
        transform=offset_copy(place, axes.figure, x=shift, units="points"),
    )


def regime_lines(axes: Axes, here: pd.DataFrame, looks: Looks) -> None:
    """Draw a line, or a bar, for each regime in the numbers, in the order of the looks."""
    drawn = looks.of_regimes(here).items()
    series(axes, [Series(here[here["regime"] == r], look.label, look.colour, look.mark) for r, look in drawn])


def log_axis(axes: Axes, values: Sequence[float], *, ticks: Sequence[float] | None = None) -> None:
    """Give the x-axis a base-2 scale that fits the values, with ticks at them or at `ticks`."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(values if ticks is None else ticks))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    low, high = min(values), max(values)
    margin = (high / low) ** 0.1 if high > low else 1.2
    axes.set_xlim(low / margin, high * margin)


def chance_line(axes: Axes, here: pd.DataFrame, guesses: int = 1) -> None:
    """Draw the accuracy of guessing (once, or of that many guesses), its name below it if there is room."""
    if here.empty:
        return
    guessed = guesses * chance(here).iloc[0]
    below = guessed > 5
    axes.axhline(guessed, color="0.55", linestyle=":", linewidth=0.9, zorder=ABOVE_GRID)
    axes.annotate(
        "chance",
        (1, guessed),
        xycoords=("axes fraction", "data"),
        xytext=(0, -1.5 if below else 1.5),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        fontsize=6.5,
        color="0.4",
        path_effects=[withStroke(linewidth=2, foreground="w")],
    )


def legend_below(figure: Figure, axes: Sequence[Axes]) -> None:
    """Put one legend for all axes under the figure, each label once, in as many columns as fit."""
    found = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    for columns in range(min(len(found), 4), 0, -1):
        place = {"loc": "upper center", "bbox_to_anchor": (0.5, 0.0), "ncols": columns}
        legend = figure.legend(found.values(), found.keys(), **place)
        if columns == 1 or legend.get_window_extent().width <= 1.1 * figure.bbox.width:
            break
        legend.remove()


def caption_below(figure: Figure, text: str) -> None:
    """Write a caption under all that the figure shows, wrapped to the width of the picture."""
    figure.canvas.draw()
    box = figure.get_tightbbox()  # in inches
    place = (box.x0 / figure.get_figwidth(), (box.y0 - 0.08) / figure.get_figheight())
    written = figure.text(*place, "", va="top", fontsize=7, parse_math=False)

    def fits(line: str) -> bool:
        written.set_text(line)
        # A PDF's letters are a little wider than those on screen.
        return written.get_window_extent().width <= 0.98 * box.width * figure.dpi

    together = re.sub(r"(?<=\d) (?=%)|(?<=\b[nKεγβ]) (?==)|(?<=\b[nKεγβ] =) ", "\N{NO-BREAK SPACE}", text)
    written.set_text("\n".join(_wrapped(together, fits)))


def _wrapped(text: str, fits: Callable[[str], bool]) -> list[str]:
    """Split text into lines that fit, at spaces; long names also at `_`, `,` and `-`."""
    lines = [""]
    for word in text.split(" "):
        parts = [word] if len(word) < 25 else re.findall(r"[^_,-]*[_,-]|[^_,-]+", word)
        pieces = [piece for part in parts for piece in ([part] if fits(part) else part)]
        for place, piece in enumerate(pieces):
            joined = lines[-1] + (" " if place == 0 and lines[-1] else "") + piece
            if fits(joined):
                lines[-1] = joined
            else:
                lines.append(piece)
    return lines
