"""Test accuracy with running and re-estimated statistics while networks train."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import counts, described, over_time
from onlybn.papers.batchnorm_mechanisms.figures.panels import DASHES, PERCENT, Row, arms, panels

TEST = "test accuracy (%)"


def numbers(reestimated: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, statistics and epoch: mean test accuracy `y` in percent, `std`, n."""
    table = described(reestimated)
    return over_time(table, {"top_1": TEST}, counts(table), x="epoch", by=["statistics"])


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a line per arm and statistics, a panel per setting."""
    return panels(numbers, [Row(TEST, _lines, limits=PERCENT, x_label="epoch", height=2.0)])


def _lines(axes: Axes, here: pd.DataFrame) -> None:
    for look, _, arm, rows in arms(here[here["seed"].isna()]):
        by_name = sorted(rows.groupby("statistics"), reverse=True)
        for dash, (name, its) in zip(DASHES, by_name, strict=False):
            label = f"{arm}, {name}" if len(by_name) > 1 else arm  # else it has no statistics
            drawn = {"color": look.colour, "linestyle": dash, "marker": look.mark, "label": label}
            inside = look.colour if dash == "-" else "white"
            axes.errorbar(its["x"], its["y"], its["std"], markerfacecolor=inside, **drawn)


def caption(numbers: pd.DataFrame) -> str:
    """Say what the statistics are."""
    return (
        "Running: the averages that training keeps. Pooled: exact moments over the training images, computed"
        " again for the network of that epoch."
    )
