"""Appendix F: accuracy of `random-K` as K grows, against training BatchNorm alone."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.looks import COLOURS
from onlybn.drawing.summaries import finals, networks, over_seeds


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture and regime: mean top-1 `y`, `x` = K (missing for `batchnorm`)."""
    points = over_seeds(finals(metrics), values=["top_1"])
    points["x"] = points["regime"].str.extract(r"random-(\d+)", expand=False).astype(float)
    points = points.rename(columns={"top_1": "y", "top_1_std": "std"})
    return points.sort_values(["family", "depth", "width", "x"], ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a line per network over K, and its BatchNorm-only accuracy as a level line of its colour."""
    figure, axes = plt.subplots(figsize=(4.0, 2.6), layout="constrained")
    numbers = numbers.assign(network=networks(numbers))
    for index, network in enumerate(dict.fromkeys(numbers["network"])):
        here = numbers[numbers["network"] == network]
        colour = COLOURS[index % len(COLOURS)]
        swept = here.dropna(subset="x")
        if len(swept):
            style.points(axes, swept, label=network, colour=colour, marker="v")
        for level in here.loc[here["x"].isna(), "y"].dropna():
            axes.axhline(level, color=colour, linestyle="--", linewidth=1)
    axes.plot([], [], color="0.4", linestyle="--", linewidth=1, label="BatchNorm alone")
    if numbers["x"].notna().any():
        style.log_axis(axes, numbers["x"].dropna())
    style.chance_line(axes, numbers)
    axes.set_xlabel("K, random weights trained per output channel")
    axes.set_ylabel("test accuracy (%)")
    axes.set_ylim(0, 102)
    axes.set_title(f"{known(numbers['dataset'].iloc[0]).title}, random-K")
    style.legend_below(figure, [axes], columns=3)
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Test accuracy with K random weights of every output channel of every convolution trained, as K"
        " grows, against BatchNorm alone (dashed), which trains as many parameters as K = 2."
    )
