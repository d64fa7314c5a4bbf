"""The claims, judged by what the study measured."""

from collections.abc import Mapping

import pandas as pd

from onlybn.judging import WORDS, caption, judge, shown
from onlybn.papers.one_seed.claims import CLAIMS, PUBLISHED

__all__ = ["WORDS", "caption", "numbers", "shown"]


def numbers(metrics: pd.DataFrame | None, *, not_expected: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a row per claim: measured with its 95 % interval, n, coverage, verdict, reason."""
    return judge(CLAIMS, {"metrics": metrics}, PUBLISHED, not_expected)
