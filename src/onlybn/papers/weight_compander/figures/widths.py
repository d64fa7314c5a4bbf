"""How much wider the middle of a layer's weights ends with a function than without (beyond the paper)."""

import math

import numpy as np
import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from scipy import special

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.looks import COLOURS
from onlybn.drawing.summaries import over_seeds, run
from onlybn.papers.weight_compander.arms import FUNCTION, arms, with_function
from onlybn.papers.weight_compander.claims import WIDTHS, ends, width
from onlybn.papers.weight_compander.functions import BASELINE, parsed

CROSSES = False


def numbers(weights: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network, function, layer and width: the mean `ratio` to the baseline's, and n.

    Functions are companders and linear controls. The ratio is the geometric mean over seeds, paired, and
    `low` to `high` Student's 95 % interval of the logarithm. `x` counts the layers from 1, the output layer
    last.
    """
    table, found = with_function(weights), []
    for one in arms(table):
        shown = [*one.named("arctan"), *one.named("linear")]
        lost = {name: len(one.diverged(name, BASELINE)) for name in shown}
        for name in lost if BASELINE in one.rows else ():
            own, other = ends(one, name), ends(one, BASELINE)
            for words, percentiles in WIDTHS.items():
                logs = np.log(width(own, *percentiles) / width(other, *percentiles)).dropna().rename("log")
                if logs.empty:  # every run of one of both diverged
                    continue
                rows = own.loc[logs.index, [c for c in run(table) if c != "seed"]]
                rows = rows.assign(log=logs).reset_index().rename(columns={"number": "x"})
                summed = over_seeds(rows, values=["log"], by=["x"])
                summed = summed.assign(network=one.label, width=words, x=summed["x"] + 1)
                found.append(summed.assign(diverged=lost[name]))
    if not found:
        return pd.DataFrame()
    whole = pd.concat(found, ignore_index=True)
    half = whole["log_std"] / np.sqrt(whole["n"]) * whole["n"].map(_quantile)
    return whole.assign(
        ratio=np.exp(whole["log"]), low=np.exp(whole["log"] - half), high=np.exp(whole["log"] + half)
    ).drop(columns=["log", "log_std"])


def _quantile(count: int) -> float:
    return float(special.stdtrit(count - 1, 0.975)) if count > 1 else math.nan


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per network and function, a line with its interval per width."""
    panels = list(dict.fromkeys(zip(numbers["network"], numbers[FUNCTION], strict=True)))
    figure, grid = plt.subplots(
        1,
        len(panels),
        figsize=(max(3.4, 2.2 * len(panels)), 2.2),
        squeeze=False,
        sharey=True,
        layout="constrained",
    )
    title = known(numbers["dataset"].iloc[0]).title
    for axes, (network, name) in zip(grid[0], panels, strict=True):
        here = numbers[(numbers["network"] == network) & (numbers[FUNCTION] == name)]
        axes.axhline(1, color="0.4", linewidth=0.8, zorder=style.ABOVE_GRID)
        for words, colour, mark in zip(WIDTHS, COLOURS, "oD", strict=False):
            rows = here[here["width"] == words].sort_values("x")
            axes.plot(rows["x"], rows["ratio"], color=colour, marker=mark, label=f"width {words}")
            axes.fill_between(rows["x"], rows["low"], rows["high"], color=colour, alpha=0.18, linewidth=0)
        axes.set_title(f"{title}, {network}\n{parsed(name).told}")
        axes.set_xlabel("layer")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True, min_n_ticks=1))
        axes.set_xlim(0.5, here["x"].max() + 0.5)
    grid[0][0].set_yscale("log", base=2)
    grid[0][0].yaxis.set_major_formatter(lambda ratio, _: f"{ratio:g}")
    grid[0][0].set_ylabel("width with / without")
    style.legend_below(figure, list(grid[0]))
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what the widths are, and what the paper tells."""
    linear = any(parsed(name).method == "linear" for name in numbers[FUNCTION].unique())
    control = " The linear function is the control, a larger learning rate." if linear else ""
    return (
        "Ratio of the distance between two percentiles of a layer's weights after training, with the"
        f" function and without, paired by seed: geometric mean and 95 % interval.{control} The paper tells"
        " of a wider middle in the first convolution with the compander, which fades towards the end of the"
        " network."
    )
