"""Appendix D: what training the shortcuts' convolutions adds to BatchNorm and the output layer."""

import pandas as pd

from onlybn.papers.only_batchnorm.figures import accuracy
from onlybn.papers.only_batchnorm.figures.accuracy import draw

__all__ = ["caption", "draw", "numbers"]


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers drawn, a row per panel, regime and architecture."""
    return accuracy.numbers(metrics, top_5=True)


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Figure 2 with the convolutions of the shortcuts trained too, beside BatchNorm and the output layer."
    )
