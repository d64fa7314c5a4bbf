"""Figure 6: accuracy after setting every small γ to 0, against the network left as it is."""

import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, point
from onlybn.papers.only_batchnorm.looks import LOOKS

SHOWN = (0.01, 0.05, 0.1)
_MARKERS = ("o", "D", "v", "s")


def numbers(clamping: pd.DataFrame) -> pd.DataFrame:
    """Return a row per panel, regime, architecture and threshold: mean top-1 `y`, 0 meaning unclamped.

    `clamped_percent` is the share of γ set to 0.
    """
    # A run that diverged has one row without a threshold: it counts at every one.
    diverged = clamping[clamping["threshold"].isna()]
    clamping = clamping[clamping["beta_too"].eq(False)]
    unclamped = clamping[clamping["threshold"] == SHOWN[0]]
    unclamped = unclamped.assign(threshold=0.0, top_1=unclamped["top_1_unclamped"], clamped_percent=0.0)
    runs = pd.concat(
        [
            unclamped,
            clamping[clamping["threshold"].isin(SHOWN)],
            *(diverged.assign(threshold=threshold) for threshold in (0.0, *SHOWN)),
        ]
    )
    points = over_seeds(runs, values=["top_1", "clamped_percent"], by=["threshold"])
    return LOOKS.by_panel(points.rename(columns={"top_1": "y", "top_1_std": "std"}))


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a row of panels per regime, a line per threshold."""
    colours = sns.color_palette("rocket", len(SHOWN) + 1)

    def panel(axes: Axes, here: pd.DataFrame) -> None:
        for threshold, colour, marker in zip((0.0, *SHOWN), colours, _MARKERS, strict=True):
            line = here[here["threshold"] == threshold]
            if len(line):
                label = f"|γ| < {threshold:g} set to 0" if threshold else "as trained"
                style.points(axes, line, label=label, colour=colour, marker=marker)
        style.chance_line(axes, here)

    return style.accuracies_by_regime(numbers, panel, LOOKS)


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see: how many γ the smallest threshold sets to 0 and what that changes, on average."""
    named = [*point(numbers), "threshold"]
    points = numbers.drop_duplicates(named).set_index(named)
    small = points.xs(SHOWN[0], level="threshold")
    small = small.assign(change=small["y"] - points.xs(0.0, level="threshold")["y"])
    means = small.groupby("regime")[["clamped_percent", "change"]].mean().dropna()
    shares = ", ".join(
        f"{row.clamped_percent:.0f} % of γ and changes accuracy by {row.change:+z.2f} points ({regime})"
        for regime, row in means.iterrows()
    )
    return (
        "Test accuracy after setting every γ with |γ| below a threshold to 0, β and running statistics kept."
        f" At {SHOWN[0]} that takes {shares}, averaged over the networks. The paper so takes 24 to 38 %"
        " (batchnorm) at no cost."
    )
