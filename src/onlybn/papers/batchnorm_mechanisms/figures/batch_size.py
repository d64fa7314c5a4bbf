"""Normalisation over groups smaller than a batch: training, test, and the gap between them."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import finals, over_seeds, run
from onlybn.papers.batchnorm_mechanisms.arms import counts, described, final, points
from onlybn.papers.batchnorm_mechanisms.figures.panels import Row, arms, panels
from onlybn.papers.batchnorm_mechanisms.looks import BATCHNORM, numbered

LOSS, TEST, GAP = "training loss", "test accuracy (%)", "training − test (points)"
MEASURES = {"loss": LOSS, "top_1": TEST, "gap": GAP}


def numbers(generalisation: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm and measure: mean `y` at the end of training, `std`, n.

    `x` is how many images BatchNorm or ghost-N normalises together, and missing for other normalisations.
    """
    runs = by_group(generalisation)
    summed = over_seeds(runs, values=[*MEASURES]).merge(runs[[*points(runs), "group"]].drop_duplicates())
    counted = counts(described(generalisation), runs)
    kept = [*points(runs), "group"]
    found = pd.concat(
        summed[kept].assign(measure=name, y=summed[column], std=summed[f"{column}_std"])
        for column, name in MEASURES.items()
    )
    return found.rename(columns={"group": "x"}).merge(counted)


def at_end(generalisation: pd.DataFrame) -> pd.DataFrame:
    """Return the table without the `split` of rows from before the end of training."""
    of_steps = generalisation["step"] == generalisation.get("steps", 0)
    of_epochs = generalisation["epoch"] == generalisation["epochs"]
    last = of_epochs.where(generalisation["epochs"] > 0, of_steps)
    return generalisation.assign(split=generalisation["split"].where(last))


def by_group(generalisation: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run: training `loss`, test accuracy `top_1` and `gap` at its end, and its `group`.

    The gap is training accuracy less test accuracy, in points, of one network in evaluation mode. The group
    is the number of images that are normalised together, of ghost-N and BatchNorm.
    """
    names, generalisation = run(generalisation), at_end(generalisation)
    train = finals(generalisation, "train")[[*names, "loss", "top_1"]]
    runs = final(generalisation).drop(columns="loss")
    runs = runs.merge(train, how="left", on=names, suffixes=("", "_train"))
    runs = described(runs.assign(gap=runs["top_1_train"] - runs["top_1"]))
    groups = {name: of[1] for name in runs["normalisation"] if (of := numbered(name)) and of[0] == "ghost"}
    group = runs["normalisation"].map(groups).astype(float)
    group = group.where(runs["batch"] // group > 1, runs["batch"]).where(group.notna())  # too few for two
    return runs.assign(group=group.where(runs["normalisation"] != BATCHNORM, runs["batch"]))


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw the measures against the group's size, a column per setting."""
    return panels(
        numbers, [Row(name, _groups, x_label="images normalised together") for name in (LOSS, TEST, GAP)]
    )


def _groups(axes: Axes, here: pd.DataFrame) -> None:
    """Draw a point per group and a line through them; a dashed line is an arm without groups."""
    grouped = here.dropna(subset="x").sort_values("x")
    axes.plot(grouped["x"], grouped["y"], color="0.6", linewidth=0.9, zorder=1)
    for look, _, arm, rows in arms(here):
        (point,) = rows.itertuples()
        if np.isfinite(point.x):
            axes.errorbar(point.x, point.y, point.std, color=look.colour, marker=look.mark, label=arm)
        else:
            axes.axhline(point.y, color=look.colour, linestyle="--", linewidth=0.9, label=arm)
        if point.diverged:
            place = point.x if np.isfinite(point.x) else 0.98
            by = axes.get_xaxis_transform() if np.isfinite(point.x) else axes.transAxes
            axes.plot(place, 0.04, "x", color=look.colour, markersize=6, transform=by, clip_on=False)
    if len(grouped):
        style.log_axis(axes, grouped["x"])


def caption(numbers: pd.DataFrame) -> str:
    """Say what a group is."""
    return (
        "The batch of a step is the same for all; ghost N normalises it in groups of N images, BatchNorm as a"
        " whole. Values are those of the network at the end of training, tested with running statistics, on"
        " training images without augmentation (10,000 at most) and on the test images."
    )
