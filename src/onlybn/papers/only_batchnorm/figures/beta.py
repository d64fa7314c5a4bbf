"""Appendix H: the distribution of β, all parameters trained against BatchNorm alone."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.only_batchnorm.figures import distribution


def numbers(affine: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and bin of β."""
    return distribution.numbers(affine, "beta")


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per network."""
    return distribution.draw(numbers, "β")


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see, and the moments."""
    return (
        f"Distribution of β over BatchNorm channels, shortcuts included. {distribution.moments(numbers, 'β')}"
        " The paper finds many β near 0 when BatchNorm alone trains."
    )
