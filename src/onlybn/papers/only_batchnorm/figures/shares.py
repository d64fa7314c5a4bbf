"""The share of a network's channels that have a property: Figures 5 and 7."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, per_run, ranges
from onlybn.papers.only_batchnorm.looks import LOOKS

THRESHOLD = 0.01
OFTEN = 0.99


def near_zero(rows: pd.DataFrame) -> float:
    """Return the percentage of γ with |γ| < 0.01."""
    return 100 * (rows["gamma"].dropna().abs() < THRESHOLD).mean()


def dead_percent(rows: pd.DataFrame) -> float:
    """Return the percentage of the channels with Pr[activation = 0] > 0.99."""
    return 100 * (rows["off"] > OFTEN).mean()


@dataclass(frozen=True)
class Share:
    """A figure of what `measure` finds in a run's channels, in percent."""

    measure: Callable[[pd.DataFrame], float]
    label: str
    says: str

    def numbers(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a row per panel, regime and architecture: the mean percentage `y`, `std` and n."""
        runs = per_run(table, lambda rows: {"y": self.measure(rows)})
        return LOOKS.by_panel(over_seeds(runs, values=["y"])).rename(columns={"y_std": "std"})

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw a panel for each family that there is, a line per regime."""
        return style.percentages(numbers, LOOKS, y_label=self.label)

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say what to see, and what was measured."""
        return f"{self.says}; here {ranges(numbers)}."


NEAR_ZERO = Share(
    near_zero,
    "γ with |γ| < 0.01 (%)",
    "Share of γ, over all BatchNorm channels, whose absolute value is below 0.01. The paper finds a quarter"
    " to a half of them when BatchNorm alone trains, and about 5 % when everything does",
)
OFF = Share(
    dead_percent,
    "ReLU channels off > 99 % (%)",
    "Share of ReLU channels, of every ReLU, whose activation is 0 in more than 99 % of all test images and"
    " pixels. The paper finds 28 to 39 % when BatchNorm alone trains, and at most 10 % when everything does",
)
