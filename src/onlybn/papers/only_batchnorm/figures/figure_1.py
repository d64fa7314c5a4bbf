"""Figure 1: training γ and β along with everything else, against leaving them at 1 and 0."""

import pandas as pd

from onlybn.papers.only_batchnorm.figures import accuracy
from onlybn.papers.only_batchnorm.figures.accuracy import draw

__all__ = ["caption", "draw", "numbers"]


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers drawn, a row per panel, regime and architecture."""
    return accuracy.numbers(metrics)


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Test accuracy with every parameter trained, and with γ fixed at 1 and β at 0."
        " The paper finds that γ and β gain more the deeper and wider the network."
    )
