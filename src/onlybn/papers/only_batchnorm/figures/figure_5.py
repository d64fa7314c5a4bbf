"""Figure 5: the share of γ that training brings to within 0.01 of 0."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, per_run, ranges
from onlybn.papers.only_batchnorm.looks import LOOKS

THRESHOLD = 0.01


def near_zero(rows: pd.DataFrame) -> float:
    """Return the percentage of γ with |γ| < 0.01."""
    return 100 * (rows["gamma"].dropna().abs() < THRESHOLD).mean()


def numbers(affine: pd.DataFrame) -> pd.DataFrame:
    """Return a row per panel, regime and architecture: `y`, the percentage of γ with |γ| < 0.01."""
    runs = per_run(affine, lambda rows: {"y": near_zero(rows)})
    return LOOKS.by_panel(over_seeds(runs, values=["y"])).rename(columns={"y_std": "std"})


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel for each family that there is, a line per regime."""
    return style.percentages(numbers, LOOKS, y_label="γ with |γ| < 0.01 (%)")


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Share of γ, over all BatchNorm channels, whose absolute value is below 0.01. The paper finds a"
        " quarter to a half of them when BatchNorm alone trains, and about 5 % when everything does;"
        f" here {ranges(numbers)}."
    )
