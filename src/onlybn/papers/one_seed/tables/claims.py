"""The claims, judged by what the study measured."""

from collections.abc import Mapping

import pandas as pd

from onlybn.judging import WORDS, counts, judge, shown
from onlybn.papers.one_seed.claims import CLAIMS, PUBLISHED

__all__ = ["WORDS", "caption", "numbers", "shown"]


def caption(numbers: pd.DataFrame) -> str:
    """Say how many claims have which verdict, and what the verdicts mean."""
    return (
        f"{counts(numbers)}. Measured values have their 95 % interval. The claims are this project's own:"
        " reproduced means that they hold, and contradicted that they do not."
    )


def numbers(metrics: pd.DataFrame | None, *, not_expected: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return a row per claim: measured with its 95 % interval, n, coverage, verdict, reason."""
    return judge(CLAIMS, {"metrics": metrics}, PUBLISHED, not_expected)
