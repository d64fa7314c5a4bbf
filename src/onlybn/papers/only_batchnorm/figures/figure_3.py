"""Figure 3: accuracy of `batchnorm` against the number of BatchNorm parameters, by depth and by width."""

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from scipy.stats import linregress

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.summaries import finals, over_seeds
from onlybn.papers.only_batchnorm.looks import LOOKS


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per family and architecture, with its family's fitted line.

    `x` counts BatchNorm parameters, `y` is mean top-1 in percent. `slope` is in points per doubling of x
    and `intercept` the line's height at x = 1, by least squares over the means; both are missing where
    fewer than two architectures have one.
    """
    points = LOOKS.by_panel(over_seeds(finals(metrics), values=["top_1"]))
    points = points.rename(columns={"top_1": "y", "top_1_std": "std"})
    points["x"] = points["batchnorm_parameters"]
    points[["slope", "intercept"]] = np.nan
    for panel, family in points.groupby("panel"):
        there = family.dropna(subset="y")
        if there["x"].nunique() >= 2:
            line = linregress(np.log2(there["x"].astype(float)), there["y"])
            points.loc[points["panel"] == panel, ["slope", "intercept"]] = line.slope, line.intercept
    return points


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw all families in one panel, each with its line, whose slope stands in the legend."""
    figure, axes = plt.subplots(figsize=(4.0, 2.6), layout="constrained")
    for panel, look in LOOKS.of_panels(numbers).items():
        family = numbers[numbers["panel"] == panel]
        slope, intercept = family[["slope", "intercept"]].iloc[0]
        label = f"growing {panel}"
        if not np.isnan(slope):
            label += f": {slope:+.1f} points per doubling"
            ends = np.array([family["x"].min(), family["x"].max()])
            axes.plot(ends, intercept + slope * np.log2(ends), color=look.colour, linestyle="--", linewidth=1)
        style.points(axes, family, label=label, colour=look.colour, marker=look.mark, line="none")
    for name, x, y in numbers[["architecture", "x", "y"]].drop_duplicates().itertuples(index=False):
        if not np.isnan(y):
            place = {"textcoords": "offset points", "va": "top", "fontsize": 5.5}
            axes.annotate(
                name, (x, y), (4, -3), path_effects=[withStroke(linewidth=2, foreground="w")], **place
            )
    style.log_axis(axes, numbers["x"], ticks=2 ** np.arange(10, 18))
    axes.set_xlabel("BatchNorm parameters")
    axes.set_ylabel("test accuracy (%)")
    axes.set_title(f"{known(numbers['dataset'].iloc[0]).title}, BatchNorm only")
    axes.legend(loc="upper left")
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see, and the slopes."""
    slopes = numbers.dropna(subset="slope").groupby("panel")["slope"].first()
    fitted = ", ".join(f"{slope:+.2f} points per doubling by {panel}" for panel, slope in slopes.items())
    return (
        "Test accuracy with only γ and β trained, against how many of them there are. "
        + (f"Least-squares lines over the means: {fitted}. " if fitted else "Too few networks for a line. ")
        + "The paper finds a steeper line for depth than for width."
    )
