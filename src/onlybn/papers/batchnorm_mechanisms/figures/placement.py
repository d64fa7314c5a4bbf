"""BatchNorm before or after the activation, beside none and LayerNorm."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import counts, described, final
from onlybn.papers.batchnorm_mechanisms.figures.learning_rates import accuracies, accuracy_rows
from onlybn.papers.batchnorm_mechanisms.figures.panels import Row, arms, panels

FINAL = "final test accuracy (%)"


def numbers(metrics: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure and step: accuracies over time; and a row per run with its last test."""
    runs = described(final(metrics))
    counted = counts(described(metrics), final(metrics))
    ends = runs.assign(measure=FINAL, x=0.0, y=runs["top_1"])
    ends = ends[[*counted.columns.drop(["n", "diverged", "at_chance"]), "seed", "measure", "x", "y"]]
    ends.loc[(runs["status"] != "finished").to_numpy(), "y"] = float("nan")
    return pd.concat([accuracies(metrics, curve), ends.merge(counted)], ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw the accuracies over time, and a dot per run for the last test; a column per setting."""
    return panels(numbers, (*accuracy_rows(numbers), Row(FINAL, _dots, x_label="", equal=True)))


def _dots(axes: Axes, here: pd.DataFrame) -> None:
    """Draw a dot per run, and their mean as a line; an × below marks an arm of which runs diverged."""
    drawn = list(arms(here))
    for place, (look, _, arm, rows) in enumerate(drawn):
        values = rows["y"].dropna()
        axes.plot([place] * len(values), values, look.mark, color=look.colour, alpha=0.7, label=arm)
        axes.hlines(values.mean(), place - 0.3, place + 0.3, color=look.colour, linewidth=1)
        if rows["diverged"].iloc[0]:
            at = axes.get_xaxis_transform()
            axes.plot(place, 0.04, "x", color=look.colour, markersize=6, transform=at, clip_on=False)
    axes.set_xticks([])
    axes.set_xlim(-0.7, len(drawn) - 0.3)
    axes.margins(y=0.2)


def caption(numbers: pd.DataFrame) -> str:
    """Say what before and after mean, and what the dots are."""
    return (
        "BatchNorm stands before the activation, BatchNorm after behind it. A dot is the last test of a run,"
        " and a bar the mean of an arm. Training accuracy is that of batches, a mean over 5 recorded points."
    )
