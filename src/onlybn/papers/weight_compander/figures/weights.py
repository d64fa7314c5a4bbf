"""Figures 3 and 4: the weights of the first convolution while they train, by their percentiles."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, point
from onlybn.papers.weight_compander.arms import FUNCTION, labels, with_function
from onlybn.papers.weight_compander.functions import parsed
from onlybn.papers.weight_compander.looks import ordered

# The lines, from the largest weight to the smallest.
LINES = {100: "max", **{percent: f"{percent} %" for percent in (93, 84, 69, 50, 31, 16, 7)}, 0: "min"}
# Half of the vertical axis of the enlarged figure: the first of these that shows 7 to 93 % of the weights.
HALVES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


@dataclass(frozen=True)
class Weights:
    """A figure with a panel per function and network; enlarged, all panels show the middle of the weights."""

    enlarged: bool
    CROSSES: ClassVar = False

    def numbers(self, weights: pd.DataFrame) -> pd.DataFrame:
        """Return a row per network, function, epoch and percentile: mean `weight` of the first convolution.

        The mean is over seeds; the row of epoch 0 is from before training. `x` is the epoch, also between two
        epochs, or the step where the length of training is in steps.
        """
        table = with_function(weights)
        table = table[table["number"] == 0]
        last = table.groupby(point(table), dropna=False)["step"].transform("max")
        table = table.assign(
            x=(table["step"] / last * table["epochs"]).where(table["epochs"] > 0, table["step"])
        )
        columns = {f"percentile_{percent}": percent for percent in LINES}
        points = over_seeds(table, values=list(columns), by=["x"])
        kept = [*point(table), "x", "n", "diverged", "at_chance"]
        long = points.melt(kept, list(columns), "percentile", "weight")
        long["percentile"] = long["percentile"].map(columns)
        return long.assign(network=labels(long)).sort_values(
            ["family", "depth", "network", FUNCTION, "percentile", "x"], ignore_index=True
        )

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw a row of panels for each network, a panel for each function, a line for each percentile."""
        functions, shown = ordered(numbers[FUNCTION]), list(dict.fromkeys(numbers["network"]))
        figure, grid = plt.subplots(
            len(shown),
            len(functions),
            figsize=(max(3.4, 2.6 * len(functions)), 0.3 + 1.9 * len(shown)),
            squeeze=False,
            sharex=True,
            layout="constrained",
        )
        colours = sns.color_palette("viridis", len(LINES))
        half = half_range(numbers)
        title = known(numbers["dataset"].iloc[0]).title
        for place, axes, network, function in _placed(grid, shown, functions):
            here = numbers[(numbers["network"] == network) & (numbers[FUNCTION] == function)]
            for (percent, label), colour in zip(LINES.items(), colours, strict=True):
                line = here[here["percentile"] == percent]
                axes.plot(line["x"], line["weight"], color=colour, label=label, linewidth=1)
            axes.set_title(f"({place}) {title}, {network}\n{parsed(function).label}")
            if self.enlarged:
                axes.set_ylim(-half, half)
        for line in grid:
            line[0].set_ylabel("weight")
        for axes in grid[-1]:
            axes.set_xlabel("epoch" if numbers["epochs"].max() else "step")
            axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        style.legend_below(figure, list(grid.flat))
        return figure

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say the range, and what the paper finds."""
        if self.enlarged:
            axis = f"The vertical axis ends at ±{half_range(numbers):g}; what lies beyond is cut off."
            finds = (
                "The paper finds that with the compander fewer weights are near 0 and the middle is wider, by"
                " lines of ResNet-34 on CIFAR-10 within ±1."
            )
        else:
            axis = "Each panel shows its whole range."
            finds = (
                "The paper finds that the baseline's weights grow very large early in training, to ±10, and"
                " those of the compander stay within its bound."
            )
        return (
            "Lines: the largest and smallest weight of the first convolution, and values below which 93 to"
            f" 7 % of its weights lie, averaged over seeds. {axis} {finds}"
        )


def half_range(numbers: pd.DataFrame) -> float:
    """Return half of the vertical axis that shows 7 to 93 % of the weights in every panel."""
    middle = numbers.loc[numbers["percentile"].isin([7, 93]), "weight"].abs().max()
    return next((half for half in HALVES if half >= middle), HALVES[-1])


def _placed(grid: np.ndarray, networks: list[str], functions: list[str]) -> Iterator[tuple]:
    """Yield the letter, axes, network and function of each panel."""
    letters = iter("abcdefghijklmnopqrstuvwxyz" * len(networks))
    for line, network in zip(grid, networks, strict=True):
        for axes, function in zip(line, functions, strict=True):
            yield next(letters), axes, network, function


WHOLE = Weights(enlarged=False)
ENLARGED = Weights(enlarged=True)
