"""ReLU channels that are off more than 99 % of the time, by position (Figure 7)."""

import pandas as pd

from onlybn.drawing.summaries import networks, over_seeds, per_run
from onlybn.papers.only_batchnorm.figures.shares import dead_percent

WORDS = ("architecture", "regime")
POSITIONS = ("stem", "inside", "addition")


def numbers(activations: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and variant: percentages of the channels of each position.

    `every` is over all ReLU channels; the others are in the `stem`, `inside` a block, and after an
    `addition`, where the shortcut keeps a channel with γ = 0 alive.
    """

    def measure(rows: pd.DataFrame) -> dict[str, float]:
        parts = {position: dead_percent(rows[rows["position"] == position]) for position in POSITIONS}
        return {"every": dead_percent(rows)} | parts

    return over_seeds(per_run(activations, measure), values=["every", *POSITIONS])


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network and regime, in percent of the channels of each position."""
    return numbers.assign(architecture=networks(numbers))[
        ["architecture", "regime", "every", *POSITIONS, "n"]
    ]


def caption(numbers: pd.DataFrame) -> str:
    """Say what the columns are."""
    return (
        "In percent of the channels of every ReLU, of the stem, of those inside a block and of those after an"
        " addition, where the shortcut keeps a channel with γ = 0 alive."
    )
