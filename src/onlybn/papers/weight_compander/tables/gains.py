"""The paired gain of every function over the baseline of its network."""

import math

import pandas as pd

from onlybn.papers.weight_compander.arms import FUNCTION, gains
from onlybn.papers.weight_compander.functions import parsed

WORDS = ("network", "function")
numbers = gains


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network and function: pairs, mean difference, interval, p, pairs needed."""
    if numbers.empty:
        return pd.DataFrame(columns=WORDS)
    interval = [f"{row.low:+.2f} to {row.high:+.2f}" if row.pairs > 1 else "" for row in numbers.itertuples()]
    return pd.DataFrame(
        {
            "network": numbers["network"],
            "function": [parsed(name).label for name in numbers[FUNCTION]],
            "pairs": [
                f"{row.pairs}{f' ({row.lost} diverged)' if row.lost else ''}" for row in numbers.itertuples()
            ],
            "gain (points)": numbers["difference"].map("{:+.2f}".format, na_action="ignore"),
            "95 %": interval,
            "p": numbers["p"].map("{:.3f}".format, na_action="ignore"),
            "p, Holm": numbers["p_holm"].map("{:.3f}".format, na_action="ignore"),
            "pairs needed": numbers["needed"].map(_count, na_action="ignore"),
        }
    )


def _count(pairs: float) -> str:
    return "more than 10,000" if math.isinf(pairs) else f"{pairs:,.0f}"


def caption(numbers: pd.DataFrame) -> str:
    """Say how differences are paired and judged, and by what rule the needed pairs are counted."""
    return (
        "Differences of test accuracy in points between runs of the same seed, with Student's 95 % interval"
        " and p; Holm's p is adjusted over the networks of a family. Pairs needed: how many find a difference"
        " of this size at 5 % with a power of 80 %, at this spread of the differences."
    )
