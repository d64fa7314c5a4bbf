"""Final test accuracy of every network and function: mean ± standard deviation over seeds, with n."""

import pandas as pd

from onlybn.drawing import accuracies
from onlybn.papers.weight_compander.arms import FUNCTION, labels, with_function
from onlybn.papers.weight_compander.functions import parsed

WORDS = ("function",)


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network and function: top-1 and top-5 in percent, n, diverged runs."""
    return with_function(accuracies.numbers(metrics))


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per function and a column per network: mean ± standard deviation (n) of top-1."""
    wide = accuracies.shown(numbers, FUNCTION, labels(numbers)).set_index("network").transpose()
    wide.index = [parsed(name).label for name in wide.index]
    return wide.rename_axis("function", axis=0).rename_axis(None, axis=1).reset_index()


def caption(numbers: pd.DataFrame) -> str:
    """Say the measure."""
    return "Top-1 in percent."
