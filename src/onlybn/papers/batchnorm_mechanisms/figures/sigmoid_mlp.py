"""The sigmoid network on MNIST (Ioffe and Szegedy, Figure 1)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import (
    at_places,
    counts,
    described,
    final,
    first_seeds,
    over_time,
    time,
    time_unit,
)
from onlybn.papers.batchnorm_mechanisms.figures.panels import ACROSS, LOGARITHMS, PERCENT, Row, arms, panels
from onlybn.papers.batchnorm_mechanisms.measures import percentiles

TEST, LOSS = "test accuracy (%)", "training loss"
UNIT, ALL = "input, one unit", "input, all units"
PERCENTS = (15, 50, 85)


def numbers(metrics: pd.DataFrame, inputs: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure, percent and step: mean `y` over seeds, `std`, n; and diverged runs.

    Percentiles are of the inputs to the last nonlinearity; those of one unit are of a single seed.
    """
    table = described(metrics).assign(time=time)
    counted = counts(table, final(metrics))
    parts = [
        over_time(table[table["split"] == split], {column: name}, counted, x="time", log=log)
        for split, column, name, log in (("test", "top_1", TEST, False), ("train", "loss", LOSS, True))
    ]
    over = [part.assign(panel=part["setting"], block="over time") for part in parts]
    last = at_places(described(inputs), {"last": 1.0})
    together = max(1, ACROSS // max(1, last["arm"].nunique()))  # settings side by side
    blocks = {name: f"inputs {place // together}" for place, name in enumerate(last["setting"].unique())}
    for rows, column, name in ((first_seeds(last), "unit_percentiles", UNIT), (last, "all_percentiles", ALL)):
        table = percentiles(rows, column, PERCENTS)
        part = over_time(table, {"value": name}, counted, by=["percent", "layer"])
        over.append(
            part.assign(panel=part["setting"] + ", " + part["arm"], block=part["setting"].map(blocks))
        )
    return pd.concat(over, ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw accuracy and loss, a column per setting; below, percentiles, a column per arm."""
    unit = time_unit(numbers)
    rows = (
        Row(TEST, limits=PERCENT, x_label=unit),
        Row(LOSS, log=True, x_label=unit),
        Row(UNIT, _percentiles, equal=True),
        Row(ALL, _percentiles, equal=True),
    )
    return panels(numbers, rows, column="panel")


def _percentiles(axes: Axes, here: pd.DataFrame) -> None:
    """Draw the median as a thick line, the two others as thin ones."""
    for look, _, _, rows in arms(here):
        for (percent, _), its in rows.groupby(["percent", "seed"], dropna=False):
            axes.plot(its["x"], its["y"], color=look.colour, linewidth=1.6 if percent == 50 else 0.8)


def caption(numbers: pd.DataFrame) -> str:
    """Say what the percentiles are of."""
    return (
        "Below: values that 15, 50 (thick) and 85 % of the inputs to the last hidden nonlinearity are under,"
        " of a batch: of one unit of one seed, drawn by the seed, and of all units, a mean over seeds. Where"
        " a normalisation stands before the nonlinearity, its output is the input." + LOGARITHMS
    )
