"""Figure 5: the share of γ that training brings to within 0.01 of 0."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import by_panel, over_seeds, per_run, ranges

THRESHOLD = 0.01


def numbers(affine: pd.DataFrame) -> pd.DataFrame:
    """Return a row per panel, regime and architecture: `y`, the percentage of γ with |γ| < 0.01."""
    runs = per_run(affine, lambda rows: {"y": 100 * (rows["gamma"].abs() < THRESHOLD).mean()})
    return by_panel(over_seeds(runs, values=["y"])).rename(columns={"y_std": "std"})


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel for each family that there is, a line per regime."""
    top = max(10.0, 1.15 * (numbers["y"] + numbers["std"].fillna(0)).max())
    return style.panels(
        numbers, style.regime_lines, y_label="γ with |γ| < 0.01 (%)", y_limits=(0, min(102, top))
    )


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Share of γ, over all BatchNorm channels, whose absolute value is below 0.01. The paper finds a"
        " quarter to a half of them when BatchNorm alone trains, and about 5 % when everything does;"
        f" here {ranges(numbers)}."
    )
