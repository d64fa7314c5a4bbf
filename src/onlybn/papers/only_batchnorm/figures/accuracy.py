"""Accuracy of regimes against depth and width: what Figures 1 and 2 and Appendix D share."""

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import classes, finals, over_seeds
from onlybn.papers.only_batchnorm.looks import LOOKS


def numbers(metrics: pd.DataFrame, *, top_5: bool = False) -> pd.DataFrame:
    """Return a row per panel, regime and architecture: mean accuracy `y` in percent, `std` and n.

    `measure` is top-1, and with `top_5` also top-5 where chance does not come near it (ImageNet).
    """
    shown = LOOKS.by_panel(over_seeds(finals(metrics)))
    measures = {"top-1": "top_1"}
    if top_5 and len(shown) and classes(shown).iloc[0] >= 100:
        measures["top-5"] = "top_5"
    return pd.concat(
        [
            shown.assign(measure=measure, y=shown[column], std=shown[f"{column}_std"])
            for measure, column in measures.items()
        ],
        ignore_index=True,
    ).drop(columns=["top_1", "top_1_std", "top_5", "top_5_std"])


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel for each family that there is, a line per regime."""

    def panel(axes: Axes, here: pd.DataFrame) -> None:
        style.regime_lines(axes, here, LOOKS)
        style.chance_line(axes, here)

    several = numbers["measure"].nunique() > 1
    rows = "measure" if several else None
    return style.panels(numbers, panel, LOOKS, y_label="test accuracy (%)", rows=rows)
