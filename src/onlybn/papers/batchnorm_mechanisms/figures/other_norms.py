"""Final accuracy by what trains and what normalises: Only BatchNorm's question, asked of others."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds
from onlybn.papers.batchnorm_mechanisms.arms import described, final, points
from onlybn.papers.batchnorm_mechanisms.figures.panels import PERCENT, Row, arms, panels

TEST = "test accuracy (%)"
REGIMES = {
    "all": "all",
    "no-affine": "all but γ, β",
    "batchnorm+output": "γ, β, output",
    "batchnorm": "γ, β",
    "gamma": "γ",
    "beta": "β",
    "output": "output",
}


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm and regime: mean final test accuracy `y` in percent, `std`, n."""
    runs = described(final(metrics), but=["regime"])
    summed = over_seeds(runs, values=["top_1"]).rename(columns={"top_1": "y", "top_1_std": "std"})
    found = summed.merge(runs[points(runs)].drop_duplicates())
    order = [*REGIMES, *(name for name in dict.fromkeys(found["regime"]) if name not in REGIMES)]
    present = [name for name in order if name in set(found["regime"])]
    return found.assign(measure=TEST, x=found["regime"].map(present.index).astype(float))


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a point per regime and normalisation, a panel per setting."""
    return panels(numbers, [Row(TEST, _points, limits=PERCENT, x_label="what trains", height=2.2)])


def _points(axes: Axes, here: pd.DataFrame) -> None:
    drawn = list(arms(here))
    for place, (look, _, arm, rows) in enumerate(drawn):
        x = rows["x"] + 0.6 * ((place + 0.5) / len(drawn) - 0.5)
        axes.errorbar(x, rows["y"], rows["std"], fmt=look.mark, color=look.colour, label=arm)
        for at, row in zip(x, rows.itertuples(), strict=True):
            if row.diverged:
                by = axes.get_xaxis_transform() if np.isnan(row.y) else axes.transData
                end = 0.03 if np.isnan(row.y) else row.y
                axes.plot(at, end, "x", color=look.colour, markersize=7, transform=by, clip_on=False)
    names = here.drop_duplicates("x").set_index("x")["regime"].sort_index()
    axes.set_xticks(names.index, [REGIMES.get(name, name) for name in names], rotation=30, ha="right")
    axes.set_xlim(names.index[0] - 0.5, names.index[-1] + 0.5)
    style.chance_line(axes, here)


def caption(numbers: pd.DataFrame) -> str:
    """Say what γ and β are."""
    return (
        "The last test of each run, with what trains on the horizontal axis; γ and β are those of the layer"
        " that normalises. All other parameters keep their random values. All share one training, which"
        " was chosen for BatchNorm."
    )
