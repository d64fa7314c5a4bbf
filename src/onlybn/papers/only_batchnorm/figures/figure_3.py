"""Figure 3: accuracy of `batchnorm` against the number of BatchNorm parameters, by depth and by width."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.stats import linregress

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.looks import x_column
from onlybn.drawing.summaries import finals, over_seeds
from onlybn.papers.only_batchnorm.looks import LOOKS


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per family and architecture, with its family's fitted line.

    `x` counts BatchNorm parameters, `y` is mean top-1 in percent. `slope` is in points per doubling of x
    and `intercept` the line's height at x = 1, by least squares over the means; both are missing where
    fewer than two architectures have a mean.
    """
    points = LOOKS.by_panel(over_seeds(finals(metrics), values=["top_1"]))
    points = points.rename(columns={"top_1": "y", "top_1_std": "std"})
    points["x"] = points["batchnorm_parameters"]
    points[["slope", "intercept"]] = np.nan
    for panel, family in points.groupby("panel"):
        known_means = family.dropna(subset="y")
        if known_means["x"].nunique() >= 2:
            line = linregress(np.log2(known_means["x"].astype(float)), known_means["y"])
            points.loc[points["panel"] == panel, ["slope", "intercept"]] = line.slope, line.intercept
    return points


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw all families in one panel, each with its line and its slope in the legend.

    A single network is a bar.
    """
    figure, axes = plt.subplots(figsize=(4.0, 2.6), layout="constrained")
    drawn = []
    for panel, look in LOOKS.of_panels(numbers).items():
        family = numbers[numbers["panel"] == panel]
        slope, intercept = family[["slope", "intercept"]].iloc[0]
        label = f"growing {panel}"
        if not np.isnan(slope):
            label += f": {slope:+.1f} points per doubling"
            drawn_at = family.dropna(subset="y")["x"]
            ends = np.array([drawn_at.min(), drawn_at.max()])
            axes.plot(ends, intercept + slope * np.log2(ends), color=look.colour, linestyle="--", linewidth=1)
        drawn.append(style.Series(family, label, look.colour, look.mark, line="none"))
    style.series(axes, drawn)
    title = known(numbers["dataset"].iloc[0]).title
    if numbers["x"].nunique() == 1:
        axes.set_ylim(*style.PERCENT)
        title += f", {numbers['architecture'].iloc[0]}"
    else:
        _name_networks(axes, numbers)
        style.log_axis(axes, numbers["x"], ticks=2 ** np.arange(8, 18))
        axes.set_xlim(numbers["x"].min() / 1.3, numbers["x"].max() * 1.3)  # room for names and a tick
        axes.margins(y=0.15)
        axes.set_xlabel("BatchNorm parameters")
        style.legend_below(figure, [axes])
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(f"{title}: BatchNorm alone")
    return figure


def _name_networks(axes: Axes, numbers: pd.DataFrame) -> None:
    """Write each network's name at the end of its error bar: above by depth, below by width."""
    named = numbers.dropna(subset="y").drop_duplicates("architecture")
    for point in named.itertuples():
        above = x_column(point.panel) == "depth"
        end = np.nansum([point.y, point.std if above else -point.std])
        axes.annotate(
            point.architecture,
            (point.x, end),
            (0, 3 if above else -3),
            textcoords="offset points",
            ha="center",
            va="bottom" if above else "top",
            fontsize=6.5,
            path_effects=[withStroke(linewidth=2, foreground="w")],
        )


def caption(numbers: pd.DataFrame) -> str:
    """Say the slopes, and what the paper finds."""
    drawn = numbers.dropna(subset=["slope", "y"]).groupby("panel")
    lines = drawn.agg(slope=("slope", "first"), networks=("architecture", "nunique"))
    fitted = ", ".join(
        f"{line.slope:+.1f} points per doubling by {panel} ({line.networks:.0f} networks)"
        for panel, line in lines.iterrows()
    )
    return (
        f"Least-squares lines over the means: {fitted}. " if fitted else "Too few networks for a line. "
    ) + "The paper finds a steeper line for depth than for width."
