"""What all figures look alike in: panels, axes, points with error bars, a legend."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator
from matplotlib.transforms import offset_copy

from onlybn.datasets import known
from onlybn.drawing.looks import Looks, named, x_column
from onlybn.drawing.summaries import chance, networks

X_LABELS = {"depth": "depth (layers)", "width": "width (factor on channels)"}


def panels(
    numbers: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame], None],
    looks: Looks,
    *,
    y_label: str,
    y_limits: tuple[float, float] | None = (0, 102),
    rows: str | None = None,
    row_title: Callable[[str], str] = str,
) -> Figure:
    """Draw a panel for each family that there is, side by side, and a row of them for each value of `rows`.

    `draw` is given the axes and the panel's numbers; axes and legend are added here.
    """
    numbers = numbers.assign(regime=named(numbers))
    shown = list(looks.of_panels(numbers))
    values = list(dict.fromkeys(numbers[rows])) if rows else [""]
    figure, grid = plt.subplots(
        len(values),
        len(shown),
        figsize=(2.75 * len(shown) if len(shown) > 1 else 3.4, 2.2 * len(values)),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    titles = {panel: known(here["dataset"].iloc[0]).title for panel, here in numbers.groupby("panel")}
    for line, value in zip(grid, values, strict=True):
        for axes, panel in zip(line, shown, strict=True):
            here = numbers[(numbers["panel"] == panel) & (numbers[rows] == value if rows else True)]
            draw(axes, here)
            if len(here):
                log_axis(axes, here["x"])
            if here["x"].nunique() == 1:
                _move_apart(axes)
            axes.set_xlabel(X_LABELS[x_column(panel)])
            axes.set_title(f"{titles[panel]}, {panel}" + (f": {row_title(value)}" if rows else ""))
        line[0].set_ylabel(y_label)
    if y_limits:
        grid[0][0].set_ylim(*y_limits)
    legend_below(figure, list(grid.flat), columns=3 if len(shown) > 1 else 2)
    return figure


def percentages(numbers: pd.DataFrame, looks: Looks, *, y_label: str) -> Figure:
    """Draw percentages, a line per regime, on an axis that ends not far above the largest."""
    top = max(10.0, 1.15 * (numbers["y"] + numbers["std"].fillna(0)).max())
    lines = partial(regime_lines, looks=looks)
    return panels(numbers, lines, looks, y_label=y_label, y_limits=(0, min(102, top)))


def accuracies_by_regime(
    numbers: pd.DataFrame, draw: Callable[[Axes, pd.DataFrame], None], looks: Looks
) -> Figure:
    """Draw test accuracies in a row of panels for each regime."""
    labels = {regime: look.label for regime, look in looks.of_regimes(numbers).items()}
    return panels(
        numbers, draw, looks, y_label="test accuracy (%)", rows="regime", row_title=labels.__getitem__
    )


def network_panels(
    numbers: pd.DataFrame,
    draw: Callable[[Axes, pd.DataFrame], None],
    *,
    x_label: str,
    y_label: str,
    share_x: bool,
) -> Figure:
    """Draw a panel for each network that there is, three or four to a row; `draw` is as in `panels`."""
    numbers = numbers.assign(regime=named(numbers), network=networks(numbers))
    placed = numbers[["network", "family", "depth", "width"]].drop_duplicates()
    names = placed.sort_values(["family", "depth", "width"], kind="stable")["network"]
    columns = 3 if len(names) in (5, 6, 9) else min(4, len(names))
    rows = -(-len(names) // columns)
    figure, grid = plt.subplots(
        rows,
        columns,
        figsize=(max(2.75, 1.9 * columns), 1.7 * rows),
        sharex=share_x,
        squeeze=False,
        layout="constrained",
    )
    title = known(numbers["dataset"].iloc[0]).title
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
    legend_below(figure, shown, columns=2)
    return figure


def points(axes: Axes, drawn: pd.DataFrame, *, label: str, colour, marker: str, line: str = "-") -> None:
    """Draw means `y` over `x` with one standard deviation `std`; mark with × where runs diverged.

    A point of which every run diverged has no mean, and its × stands at the bottom of the axes.
    """
    drawn = drawn.sort_values("x")
    marks = axes.errorbar(
        drawn["x"], drawn["y"], drawn["std"], label=label, color=colour, marker=marker, linestyle=line
    )
    for part in marks.get_children():
        part.set_gid(label)
    lost = drawn[drawn["diverged"] > 0]
    for x, y in zip(lost["x"], lost["y"], strict=True):
        place = {"transform": axes.get_xaxis_transform()} if np.isnan(y) else {}
        axes.plot(
            x,
            0.03 if np.isnan(y) else y,
            marker="x",
            color=colour,
            markersize=8,
            linestyle="none",
            clip_on=False,
            gid=label,
            **place,
        )


def _move_apart(axes: Axes) -> None:
    """Move what `points` drew a little to the side, each label by its own, so that none hides another."""
    _, labels = axes.get_legend_handles_labels()
    for artist in axes.get_children():
        if artist.get_gid() in labels:
            points = 12 * (labels.index(artist.get_gid()) - (len(labels) - 1) / 2)
            moved = offset_copy(artist.get_transform(), axes.figure, x=points, units="points")
            artist.set_transform(moved)


def regime_lines(axes: Axes, here: pd.DataFrame, looks: Looks) -> None:
    """Draw a line for each regime that there is, in the order of its looks."""
    for regime, look in looks.of_regimes(here).items():
        points(axes, here[here["regime"] == regime], label=look.label, colour=look.colour, marker=look.mark)


def log_axis(axes: Axes, values: Sequence[float], *, ticks: Sequence[float] | None = None) -> None:
    """Give the x-axis a base-2 scale that fits the values, with ticks at them or at `ticks`."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(values if ticks is None else ticks))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    low, high = min(values), max(values)
    margin = (high / low) ** 0.06 if high > low else 1.2
    axes.set_xlim(low / margin, high * margin)


def chance_line(axes: Axes, here: pd.DataFrame) -> None:
    """Draw the accuracy of guessing, its name below it where there is room."""
    if here.empty:
        return
    guessed = chance(here).iloc[0]
    below = guessed > 5
    axes.axhline(guessed, color="0.55", linestyle=":", linewidth=0.9, zorder=0)
    axes.annotate(
        "chance",
        (1, guessed),
        xycoords=("axes fraction", "data"),
        xytext=(0, -1.5 if below else 1.5),
        textcoords="offset points",
        ha="right",
        va="top" if below else "bottom",
        fontsize=6,
        color="0.4",
    )


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """Put one legend for all axes under the figure, each label once."""
    found = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        figure.legend(
            found.values(), found.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns
        )
