"""Figure 4 and Appendix G: the distribution of γ, all parameters trained against BatchNorm alone."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.only_batchnorm.figures import distribution


def numbers(affine: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and bin of γ."""
    return distribution.numbers(affine, "gamma")


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per network."""
    return distribution.draw(numbers, "γ")


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see, and the moments."""
    return (
        f"Distribution of γ over BatchNorm channels, shortcuts included. {distribution.moments(numbers, 'γ')}"
        " The paper finds that BatchNorm alone spreads γ wider, with a spike at 0."
    )
