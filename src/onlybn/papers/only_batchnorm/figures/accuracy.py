"""Accuracy of regimes against depth and width: Figures 1 and 2, Appendix D."""

from dataclasses import dataclass

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import classes, finals, over_seeds
from onlybn.papers.only_batchnorm.looks import LOOKS


@dataclass(frozen=True)
class Accuracy:
    """A figure of top-1, and with `top_5` also of top-5 on datasets of at least 100 classes (ImageNet).

    `finds` is what the paper finds.
    """

    finds: str
    top_5: bool = True

    def numbers(self, metrics: pd.DataFrame) -> pd.DataFrame:
        """Return a row per measure, panel, regime and architecture: mean accuracy `y` in %, `std` and n."""
        shown = LOOKS.by_panel(over_seeds(finals(metrics)))
        measures = {"top-1": "top_1"}
        if self.top_5 and len(shown) and classes(shown).iloc[0] >= 100:
            measures["top-5"] = "top_5"
        return pd.concat(
            [
                shown.assign(measure=measure, y=shown[column], std=shown[f"{column}_std"])
                for measure, column in measures.items()
            ],
            ignore_index=True,
        ).drop(columns=["top_1", "top_1_std", "top_5", "top_5_std"])

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw a panel for each family, a line per regime."""

        def panel(axes: Axes, here: pd.DataFrame) -> None:
            style.regime_lines(axes, here, LOOKS)
            style.chance_line(axes, here, guesses=5 if here["measure"].eq("top-5").any() else 1)

        rows = "measure" if numbers["measure"].nunique() > 1 else None
        return style.panels(numbers, panel, LOOKS, y_label="test accuracy (%)", rows=rows)

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say what the paper finds."""
        return self.finds


AFFINE = Accuracy(
    "The paper finds that γ and β add more accuracy in deeper and in wider networks.",
    top_5=False,
)
REGIMES = Accuracy(
    "All other parameters stay at their random initialisation. The paper finds that the accuracy of BatchNorm"
    " alone grows with depth and width, and is far above that of as many random weights."
)
SHORTCUTS = Accuracy("All other parameters stay at their random initialisation.")
