"""Accuracy of regimes against depth and width: what Figures 1 and 2 share."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from onlybn.datasets import DATASETS
from onlybn.figures import style
from onlybn.summaries import by_family, finals, over_seeds


def numbers(metrics: pd.DataFrame, regimes: list[str]) -> pd.DataFrame:
    """Return a row per panel, regime and architecture: mean top-1 `y` in percent, `std` and n."""
    points = by_family(over_seeds(finals(metrics)))
    points = points[points["regime"].isin(regimes)]
    return points.rename(columns={"top_1": "y", "top_1_std": "std"}).reset_index(drop=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel for depth and one for width, whichever there are, a line per regime."""
    panels = [panel for panel in style.PANELS if (numbers["panel"] == panel).any()]
    figure, grid = plt.subplots(
        1,
        len(panels),
        figsize=(2.75 * len(panels), 2.2),
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    dataset = DATASETS[numbers["dataset"].iloc[0]]
    for axes, panel in zip(grid[0], panels, strict=True):
        shown = numbers[numbers["panel"] == panel]
        for regime, (label, colour, marker) in style.REGIMES.items():
            line = shown[shown["regime"] == regime]
            if len(line):
                style.points(axes, line, label=label, colour=colour, marker=marker)
        style.log_axis(axes, shown["x"])
        style.chance_line(axes, dataset.chance)
        axes.set_xlabel(style.PANELS[panel])
        axes.set_title(f"{dataset.title}, {panel}")
    grid[0][0].set(ylabel="test accuracy (%)", ylim=(0, 102))
    style.legend_below(figure, grid[0], columns=3 if len(panels) > 1 else 2)
    return figure
