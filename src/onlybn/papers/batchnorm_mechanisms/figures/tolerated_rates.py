"""How well a network trains at each of many learning rates (Santurkar et al., Section 3, in words)."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing.summaries import over_seeds, run
from onlybn.papers.batchnorm_mechanisms.arms import described, points
from onlybn.papers.batchnorm_mechanisms.figures.panels import PERCENT, Row, arms, panels
from onlybn.papers.batchnorm_mechanisms.measures import TRAINED, smoothed

BEST = "best training accuracy (%)"


def numbers(curve: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm and learning rate `x`: mean `y` of the runs' best accuracies, `std`, n."""
    arms_of_all_rates = described(curve)["arm"]
    table = described(curve, rates=True).assign(arm=arms_of_all_rates, top_1=smoothed)
    # Of each run the row with its best accuracy; of one without any, some row.
    best = table.sort_values("top_1", kind="stable", na_position="first").drop_duplicates(
        run(table), keep="last"
    )
    found = over_seeds(best, values=["top_1"]).merge(best[points(best)].drop_duplicates())
    found = found.rename(columns={"top_1": "y", "top_1_std": "std"})
    return found.assign(x=found["rate"].astype(float), measure=BEST)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw accuracy against the learning rate, a column per setting, a line per arm."""
    row = Row(BEST, _rates, limits=PERCENT, at=lambda here: TRAINED, x_label="learning rate", height=1.8)
    return panels(numbers, [row])


def _rates(axes: Axes, here: pd.DataFrame) -> None:
    """Draw a point per rate; an × below marks those at which runs diverged, and how many if not all."""
    for look, _, arm, rows in arms(here):
        axes.errorbar(
            rows["x"], rows["y"], rows["std"], color=look.colour, marker=look.mark, linewidth=0.9, label=arm
        )
        by = axes.get_xaxis_transform()
        for point in rows[rows["diverged"] > 0].itertuples():
            axes.plot(point.x, 0.04, "x", color=look.colour, transform=by, clip_on=False)
            if point.n:  # its mean is of the other runs
                told = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 6.5}
                axes.annotate(f"{point.diverged:.0f}", (point.x, 0.04), xycoords=by, **told)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")


def caption(numbers: pd.DataFrame) -> str:
    """Say what accuracy is drawn."""
    return (
        "Training accuracy is that of batches, a mean over 5 recorded points, and its best while training."
        f" The dotted line is at {TRAINED:.0f} %. Means are of the runs that did not diverge; a number"
        " at × is of those that did, where some did not."
    )
