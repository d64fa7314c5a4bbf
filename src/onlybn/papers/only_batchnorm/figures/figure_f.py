"""Appendix F: accuracy of `random-K` as K grows, against training BatchNorm alone."""

from itertools import cycle

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.looks import COLOURS
from onlybn.drawing.summaries import finals, networks, over_seeds
from onlybn.papers.only_batchnorm.looks import LOOKS


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture and regime: mean top-1 `y`, `x` = K (missing for `batchnorm`)."""
    points = over_seeds(finals(metrics), values=["top_1"])
    points["x"] = points["regime"].str.extract(r"random-(\d+)", expand=False).astype(float)
    points = points.rename(columns={"top_1": "y", "top_1_std": "std"})
    return points.sort_values(["family", "depth", "width", "x"], ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a line per network over K, and its accuracy with BatchNorm alone as a level line of its colour.

    With a single K there is a bar per network.
    """
    figure, axes = plt.subplots(figsize=(4.0, 2.6), layout="constrained")
    numbers = numbers.assign(network=networks(numbers))
    drawn = []
    several = numbers["network"].nunique() > 1
    level_look = LOOKS.regimes["batchnorm"].colour  # of a single network, as in other figures
    looks = cycle(COLOURS if several else [LOOKS.regimes["random-2"].colour])
    for network, colour in zip(dict.fromkeys(numbers["network"]), looks, strict=False):
        here = numbers[numbers["network"] == network]
        label = network if several else f"{network}, random weights"
        drawn.append(style.Series(here.dropna(subset="x"), label, colour, "v"))
        for level in here.loc[here["x"].isna(), "y"].dropna():
            axes.axhline(level, color=colour if several else level_look, linestyle="--", linewidth=1)
    style.series(axes, drawn)
    if _has_level(numbers):
        axes.plot(
            [],
            [],
            color="0.4" if several else level_look,
            linestyle="--",
            linewidth=1,
            label="BatchNorm alone",
        )
    tried = numbers["x"].dropna()
    if tried.nunique() > 1:
        style.log_axis(axes, tried)
        axes.set_xlabel("K, random weights trained per output channel")
    style.chance_line(axes, numbers)
    axes.set_ylabel("test accuracy (%)")
    axes.set_ylim(*style.PERCENT)
    name = f"K = {tried.iloc[0]:.0f} random weights per channel" if tried.nunique() == 1 else "random weights"
    axes.set_title(f"{known(numbers['dataset'].iloc[0]).title}: {name}")
    style.legend_below(figure, [axes])
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what the dashed line is, and what a layer with few weights trains."""
    few = " A layer with fewer than K weights per channel trains all of them."
    if _has_level(numbers):
        return "Dashed: BatchNorm alone, which trains as many parameters as K = 2." + few
    return "BatchNorm alone has no finished run." + few


def _has_level(numbers: pd.DataFrame) -> bool:
    return bool(numbers.loc[numbers["x"].isna(), "y"].notna().any())
