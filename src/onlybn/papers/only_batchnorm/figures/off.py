"""Appendix I: how often each ReLU channel is off, all parameters trained against BatchNorm alone."""

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.only_batchnorm.figures import distribution


def numbers(activations: pd.DataFrame) -> pd.DataFrame:
    """Return a row per architecture, regime and bin of Pr[activation = 0]."""
    return distribution.numbers(activations, "off", edges=np.linspace(0, 1, 41))


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw a panel per network."""
    return distribution.draw(numbers, "Pr[activation = 0]", log=True)


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    return (
        "Distribution over ReLU channels of the share of their activations that are 0, over all test images"
        " and pixels; the share of channels is on a logarithmic axis."
    )
