"""Figure 7: the share of ReLU channels that are off more than 99 % of the time."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, per_run, ranges
from onlybn.papers.only_batchnorm.looks import LOOKS

OFTEN = 0.99


def dead_percent(rows: pd.DataFrame) -> float:
    """Return the percentage of the channels with Pr[activation = 0] > 0.99."""
    return 100 * (rows["off"] > OFTEN).mean()


def numbers(activations: pd.DataFrame) -> pd.DataFrame:
    """Return a row per panel, regime and architecture: `y`, the percentage of ReLU channels that are off."""
    runs = per_run(activations, lambda rows: {"y": dead_percent(rows)})
    return LOOKS.by_panel(over_seeds(runs, values=["y"])).rename(columns={"y_std": "std"})


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel for each family that there is, a line per regime."""
    return style.percentages(numbers, LOOKS, y_label="ReLU channels off > 99 % (%)")


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Share of ReLU channels, of every ReLU, whose activation is 0 in more than 99 % of all test images"
        " and pixels. The paper finds 28 to 39 % when BatchNorm alone trains, and at most 10 % when"
        f" everything does; here {ranges(numbers)}."
    )
