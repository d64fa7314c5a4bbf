"""The paired gain of every function over the baseline, a panel per network (beyond the paper)."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.papers.weight_compander.arms import FUNCTION, gains
from onlybn.papers.weight_compander.looks import looks

numbers = gains


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per network: a row per function with its mean gain and 95 % interval."""
    shown = list(dict.fromkeys(numbers["network"]))
    of = looks(numbers[FUNCTION])
    rows = {name: len(of) - place for place, name in enumerate(of)}
    figure, grid = plt.subplots(
        1,
        len(shown),
        figsize=(2.0 + 1.9 * len(shown), 0.7 + 0.22 * len(of)),
        squeeze=False,
        sharey=True,
        sharex=True,
        layout="constrained",
    )
    title = known(numbers["dataset"].iloc[0]).title
    for axes, network in zip(grid[0], shown, strict=True):
        axes.axvline(0, color="0.4", linewidth=0.8, zorder=style.ABOVE_GRID)
        for point in numbers[numbers["network"] == network].itertuples():
            name = getattr(point, FUNCTION)
            half = (point.high - point.low) / 2 if point.pairs > 1 else 0
            look = {"color": of[name].colour, "marker": of[name].mark}
            axes.errorbar(point.difference, rows[name], xerr=half, **look)
            if point.lost:
                side = axes.get_yaxis_transform()
                axes.plot(0.97, rows[name], "x", color=of[name].colour, transform=side, clip_on=False)
        axes.set_title(f"{title}, {network}")
        axes.set_xlabel("gain (points)")
        axes.grid(axis="x")
        axes.grid(visible=False, axis="y")
    grid[0][0].set_yticks(list(rows.values()), [look.label for look in of.values()])
    grid[0][0].set_ylim(0.4, len(of) + 0.6)
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what is drawn, and how many intervals exclude 0."""
    told = numbers.dropna(subset="p")
    off = int(((told["low"] > 0) | (told["high"] < 0)).sum())
    lost = " At the right, × marks pairs of which runs diverged." if numbers["lost"].any() else ""
    return (
        "Mean difference of test accuracy between runs of the same seed, with Student's 95 % interval."
        f" Intervals without 0: {off} of {len(told)}; with a p below 0.05 after Holm, for each function over"
        f" the networks of a family: {int((told['p_holm'] < 0.05).sum())}.{lost} A row without a mark was not"
        " run. Not in the paper."
    )
