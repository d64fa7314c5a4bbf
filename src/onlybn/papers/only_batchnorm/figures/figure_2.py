"""Figure 2: how far training only BatchNorm goes, between all parameters and none but the output's."""

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
        "Test accuracy against depth and width by what trains; all else stays at its random draw."
        " The paper finds that BatchNorm alone climbs with both, far above as many random weights."
    )
