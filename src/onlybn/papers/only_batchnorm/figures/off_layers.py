"""Appendix I layer by layer: how often the channels of each ReLU are off."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.only_batchnorm.figures import layers


def numbers(activations: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and layer."""
    return layers.numbers(activations, "off", "relu")


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per network."""
    return layers.draw(numbers, "Pr[activation = 0]")


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return layers.caption("Pr[activation = 0]")
