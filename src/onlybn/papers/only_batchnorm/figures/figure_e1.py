"""Appendix E.1: accuracy by how the random features are drawn."""

import pandas as pd

from onlybn.papers.only_batchnorm.figures import initialisation
from onlybn.papers.only_batchnorm.figures.initialisation import draw

__all__ = ["caption", "draw", "numbers"]


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers drawn, a row per panel, regime, architecture and feature initialisation."""
    return initialisation.numbers(metrics, part=0)


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Test accuracy by the initialisation of convolutions and linear layer, γ drawn from U[0, 1], β = 0."
    )
