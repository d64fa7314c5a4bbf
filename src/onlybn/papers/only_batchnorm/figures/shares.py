"""The share of a network's channels that have a property: Figures 5 and 7."""

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
from matplotlib.figure import Figure

from onlybn.drawing import style
from onlybn.drawing.summaries import over_seeds, per_run, ranges
from onlybn.papers.only_batchnorm.looks import LOOKS
from onlybn.papers.only_batchnorm.reach import decay_reach

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
    """A figure of the percentage that `measure` returns of a run's channels.

    `finds` is what the paper finds.
    """

    measure: Callable[[pd.DataFrame], float]
    label: str
    finds: str
    remark = staticmethod(decay_reach)

    def numbers(self, table: pd.DataFrame) -> pd.DataFrame:
        """Return a row per panel, regime and architecture: the mean percentage `y`, `std` and n."""
        runs = per_run(table, lambda rows: {"y": self.measure(rows)})
        return LOOKS.by_panel(over_seeds(runs, values=["y"])).rename(columns={"y_std": "std"})

    def draw(self, numbers: pd.DataFrame) -> Figure:
        """Draw a panel for each family, a line per regime."""
        return style.percentages(numbers, LOOKS, y_label=self.label)

    def caption(self, numbers: pd.DataFrame) -> str:
        """Say what was measured, and what the paper finds."""
        return f"Measured: {ranges(numbers)}. {self.finds}"


NEAR_ZERO = Share(
    near_zero,
    "γ with |γ| < 0.01 (%)",
    "The paper finds a quarter to a half if only BatchNorm trains, and about 5 % if all parameters train.",
)
OFF = Share(
    dead_percent,
    "ReLU channels that are off (%)",
    "The paper finds 28 to 39 % if only BatchNorm trains; if all parameters train, at most 10 % on CIFAR-10"
    " and 2 % on ImageNet.",
)
