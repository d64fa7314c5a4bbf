"""What all figures look alike in: the colour and mark of each regime, axes, points with error bars."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

_COLOURS = sns.color_palette("colorblind")
# Regime: what a reader calls it, its colour, its mark.
REGIMES = {
    "all": ("all parameters", _COLOURS[0], "o"),
    "no-affine": ("all but γ and β", _COLOURS[7], "s"),
    "batchnorm+output": ("BatchNorm and output layer", _COLOURS[2], "^"),
    "batchnorm": ("BatchNorm", _COLOURS[3], "D"),
    "random-2": ("2 random weights per channel", _COLOURS[4], "v"),
    "output": ("output layer", _COLOURS[1], "P"),
}
PANELS = {"depth": "depth (layers)", "width": "width (factor on ResNet-14's channels)"}
FAMILIES = {"depth": (_COLOURS[3], "D"), "width": (_COLOURS[9], "s")}


def points(axes: Axes, drawn: pd.DataFrame, *, label: str, colour, marker: str, line: str = "-") -> None:
    """Draw means `y` over `x` with one standard deviation `std`; mark with × where runs diverged.

    A point of which every run diverged has no mean, and its × stands at the bottom of the axes.
    """
    drawn = drawn.sort_values("x")
    axes.errorbar(
        drawn["x"], drawn["y"], drawn["std"], label=label, color=colour, marker=marker, linestyle=line
    )
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
            **place,
        )


def log_axis(axes: Axes, values: Sequence[float], *, ticks: Sequence[float] | None = None) -> None:
    """Give the x-axis a base-2 scale that fits the values, with ticks at them or at `ticks`."""
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_locator(FixedLocator(sorted(set(values if ticks is None else ticks))))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
    low, high = min(values), max(values)
    margin = (high / low) ** 0.06 if high > low else 1.2
    axes.set_xlim(low / margin, high * margin)


def chance_line(axes: Axes, chance: float) -> None:
    """Draw the accuracy of guessing."""
    axes.axhline(chance, color="0.55", linestyle=":", linewidth=0.9, zorder=0)
    axes.annotate(
        "chance",
        (1, chance),
        xycoords=("axes fraction", "data"),
        xytext=(0, 1.5),
        textcoords="offset points",
        ha="right",
        va="bottom",
        fontsize=6,
        color="0.4",
    )


def legend_below(figure: Figure, axes: Sequence[Axes], columns: int) -> None:
    """Put one legend for all axes under the figure, each label once."""
    found = {}
    for panel in axes:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    figure.legend(found.values(), found.keys(), loc="upper center", bbox_to_anchor=(0.5, 0.0), ncols=columns)
