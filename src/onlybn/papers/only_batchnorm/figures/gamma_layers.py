"""Appendix G layer by layer: γ over the channels of each BatchNorm layer."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.only_batchnorm.figures import layers


def numbers(affine: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and layer."""
    return layers.numbers(affine, "gamma", "layer")


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per network."""
    return layers.draw(numbers, "γ")


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return layers.caption("γ")
