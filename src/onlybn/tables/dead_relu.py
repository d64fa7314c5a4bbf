"""ReLU channels that are off more than 99 % of the time, by position (Figure 7)."""

import pandas as pd

from onlybn.figures.figure_7 import dead_percent
from onlybn.summaries import over_seeds, per_run

POSITIONS = ("stem", "inside", "addition")


def numbers(activations: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: percentages of the channels of each position.

    `every` is over all ReLU channels; `inside` a block; after an `addition`, where a channel can live with
    γ = 0.
    """

    def measure(rows: pd.DataFrame) -> dict[str, float]:
        parts = {position: dead_percent(rows[rows["position"] == position]) for position in POSITIONS}
        return {"every": dead_percent(rows)} | parts

    return over_seeds(per_run(activations, measure), values=["every", *POSITIONS])


def markdown(numbers: pd.DataFrame) -> str:
    """Return a row per network and regime, in percent of the channels of each position."""
    shown = numbers[["architecture", "regime", "every", *POSITIONS, "n"]]
    return shown.to_markdown(index=False, floatfmt=".1f")
