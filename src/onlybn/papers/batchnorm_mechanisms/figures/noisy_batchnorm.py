"""Noise after BatchNorm, which moves the inputs of layers (Santurkar et al., Figures 1, 2 and 8)."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter

from onlybn.observers.inputs import PERCENTS
from onlybn.papers.batchnorm_mechanisms.arms import (
    at_places,
    counts,
    described,
    final,
    first_seeds,
    over_time,
    points,
)
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, PERCENT, Row, arms, panels
from onlybn.papers.batchnorm_mechanisms.measures import density, drift, percentiles, smoothed

ACCURACY = "training accuracy (%)"
CHANGES = {
    "mean_step": "change of mean in a step",
    "variance_step": "change of variance in a step",
    "mean_drift": "change of mean since step 0",
    "variance_drift": "change of variance since step 0",
}
# The layers drawn, from first to last: 2, 9 and 13 of VGG-16's convolutions.
PLACES = {"early": 0.1, "middle": 0.65, "late": 1.0}
RIDGES, CELLS = 9, 80
SHOWN = (1, 99)  # the percentiles between which a panel lies


def numbers(metrics: pd.DataFrame, curve: pd.DataFrame, inputs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure, layer and x: mean `y` over seeds, `std`, n; and diverged runs.

    For the distributions of one unit of a single seed, x is its input, `ridge` the step, and `y` the density.
    """
    counted = counts(described(metrics), final(metrics))
    curves = described(curve).assign(top_1=smoothed(curve).to_numpy())
    accuracy = over_time(curves, {"top_1": ACCURACY}, counted)
    layers = at_places(described(inputs), PLACES)
    moves = over_time(drift(layers), CHANGES, counted, by=["layer"], log=True)
    ridges = _ridges(first_seeds(layers)).merge(counted)
    several = accuracy["setting"].nunique() > 1
    within = (lambda part: part["setting"] + ", ") if several else (lambda part: "")
    return pd.concat(
        [
            accuracy.assign(panel=accuracy["setting"], block="accuracy"),
            ridges.assign(panel=within(ridges) + ridges["arm"], block=ridges["setting"] + " distributions"),
            moves.assign(panel=within(moves) + moves["layer"], block=moves["setting"] + " changes"),
        ],
        ignore_index=True,
    )


def _ridges(table: pd.DataFrame) -> pd.DataFrame:
    """Return the densities of a unit's inputs at some steps of every arm and layer, between percentiles."""
    found = []
    table = table[[row is not None and np.isfinite(row).all() for row in table["unit_percentiles"]]]
    for _, rows in table.groupby([*points(table), "layer"], sort=False, dropna=False):
        rows = rows.sort_values("step", kind="stable")
        rows = rows.iloc[np.unique(np.linspace(0, len(rows) - 1, RIDGES).round().astype(int))]
        between = percentiles(rows, "unit_percentiles", SHOWN)["value"]
        edges = np.linspace(between.min(), max(between.max(), between.min() + 1e-9), CELLS + 1)
        for row in rows.itertuples():
            values = {"x": (edges[1:] + edges[:-1]) / 2, "y": density(PERCENTS, row.unit_percentiles, edges)}
            named = {name: getattr(row, name) for name in [*points(table), "layer"]}
            found.append(pd.DataFrame(values).assign(**named, ridge=row.step, measure=f"{row.layer}, step"))
    if not found:
        return table[points(table)].assign(layer="", ridge=0, measure="", x=0.0, y=0.0)
    return pd.concat(found, ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw training accuracy; distributions, a column per arm; and changes, a column per layer."""
    ridged = numbers.dropna(subset="ridge")["measure"].unique()
    rows = [
        Row(ACCURACY, limits=PERCENT),
        *(Row(name, _draw_ridges, x_label="input of one unit", shared=False) for name in ridged),
        *(Row(name, log=True) for name in CHANGES.values()),
    ]
    return panels(numbers, rows, column="panel")


def _draw_ridges(axes: Axes, here: pd.DataFrame) -> None:
    """Draw a density per step, later ones above, each to the height of two steps at most."""
    for look, _, _, rows in arms(here):
        drawn = dict(iter(rows.groupby("ridge")))
        for place, its in reversed(list(enumerate(drawn.values()))):
            top = place + 1.8 * its["y"] / its["y"].max()
            axes.fill_between(its["x"], place, top, facecolor=look.colour, alpha=0.5, linewidth=0)
            axes.plot(its["x"], top, color="white", linewidth=0.6)
        labels = [EngFormatter(sep="")(step) for step in drawn]
        axes.set_yticks(range(0, len(drawn), 2), labels[::2])
        axes.set_ylim(0, len(drawn) + 1)


def caption(numbers: pd.DataFrame) -> str:
    """Say what the distributions and the changes are."""
    return (
        "Training accuracy is that of batches, a mean over 5 recorded points. Distributions: the inputs of"
        " one unit or channel to its nonlinearity, on a batch, of one seed; the unit is drawn by the seed,"
        " 1 % to either side is cut off, and each is drawn to the same height. Changes: of the mean"
        " and the variance of such inputs, a mean over units, by one step on the same batch, and since the"
        " first step." + LOGARITHMS
    )
