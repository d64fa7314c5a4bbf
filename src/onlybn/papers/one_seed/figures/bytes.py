"""Accuracy against what is stored for a task, a panel per task."""

import pandas as pd
from matplotlib import pyplot as plt
from matplotlib.figure import Figure

from onlybn.axes import FEATURES_SEED
from onlybn.datasets import known
from onlybn.drawing import style
from onlybn.drawing.looks import OTHER_MARKS
from onlybn.drawing.summaries import over_seeds
from onlybn.papers.one_seed.measures import ALL, OWN, runs
from onlybn.papers.only_batchnorm.looks import LOOKS

COUNTS = "run"  # of seeds of the order, each with seeds of the shared features


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per task, network and regime: `x` in bytes, mean accuracy `y` in percent, `std`, n.

    Tasks are on shared features if the study has some, and everything trains from each task's own.
    """
    rows = runs(metrics)
    is_own = rows["features"] == OWN
    if not is_own.all():
        rows = rows[is_own == (rows["regime"] == ALL)]
    rows = rows.drop(columns=FEATURES_SEED.name, errors="ignore")
    found = over_seeds(rows, values=["top_1"], by=["bytes"])
    return found.rename(columns={"top_1": "y", "top_1_std": "std", "bytes": "x"})


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per task: a point per regime, and a mark at the bottom where every run diverged."""
    tasks = list(dict.fromkeys(numbers["dataset"]))
    looks = LOOKS.of_regimes(numbers)
    shown = list(dict.fromkeys(numbers["architecture"]))
    figure, grid = plt.subplots(
        1,
        len(tasks),
        figsize=(max(3.4, 1.9 * len(tasks)), 2.2),
        sharey=True,
        sharex=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, task in zip(grid[0], tasks, strict=True):
        here = numbers[numbers["dataset"] == task]
        for (network, regime), rows in here.groupby(["architecture", "regime"], sort=False):
            look = looks[regime]
            place = shown.index(network)
            mark = OTHER_MARKS[place - 1] if place else look.mark
            label = f"{network}, {look.label}" if len(shown) > 1 else look.label
            style.points(axes, style.Series(rows, label, look.colour, mark, line="none"))
        style.chance_line(axes, here)
        axes.set_xscale("log")
        axes.set_title(known(task).title)
        axes.set_xlabel("bytes for the task")
    grid[0][0].set_ylabel("test accuracy (%)")
    grid[0][0].set_ylim(*style.PERCENT)
    style.legend_below(figure, list(grid[0]))
    return figure


def caption(numbers: pd.DataFrame) -> str:
    """Say what is stored, and what a deviation is over."""
    return (
        "γ, β and running statistics, with BatchNorm and output layer also that layer, on random features"
        " that all tasks share if the study has such; or a whole network for the task. Deviations are over"
        " seeds of features and of order."
    )
