"""The paper's claims, judged by everything that the study measured."""

from collections.abc import Mapping

import pandas as pd

from onlybn.judging import WORDS, caption, judge, shown
from onlybn.papers.weight_compander.claims import CLAIMS, PUBLISHED

__all__ = ["WORDS", "caption", "numbers", "shown"]


def numbers(
    metrics: pd.DataFrame | None,
    removal: pd.DataFrame | None = None,
    weights: pd.DataFrame | None = None,
    *,
    not_expected: Mapping[str, str] | None = None,
) -> pd.DataFrame:
    """Return a row per claim: published, measured with its 95 % interval, n, coverage, verdict, reason."""
    tables = {"metrics": metrics, "removal": removal, "weights": weights}
    return judge(CLAIMS, tables, PUBLISHED, not_expected)
