"""Final test accuracy of every network and regime: mean ± standard deviation over seeds, with n."""

import pandas as pd

from onlybn.drawing.accuracies import WORDS, numbers, shown

__all__ = ["WORDS", "caption", "numbers", "shown"]


def caption(numbers: pd.DataFrame) -> str:
    """Say the measure, and what BatchNorm alone reaches."""
    top_1 = numbers.loc[numbers["regime"] == "batchnorm", "top_1"].dropna()
    ends = " to ".join(dict.fromkeys([f"{top_1.min():.1f}", f"{top_1.max():.1f}"]))
    return "Top-1 in percent." + (f" BatchNorm alone reaches {ends} %." if len(top_1) else "")
