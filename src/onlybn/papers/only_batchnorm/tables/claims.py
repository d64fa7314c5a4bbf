"""The paper's claims, judged by everything that the study measured."""

from collections.abc import Iterable, Mapping

import pandas as pd

from onlybn.judging import WORDS, Claim, caption, judge, shown
from onlybn.papers.only_batchnorm.claims import CLAIMS, PUBLISHED

__all__ = ["WORDS", "caption", "numbers", "shown"]


def numbers(
    metrics: pd.DataFrame | None,
    affine: pd.DataFrame | None = None,
    clamping: pd.DataFrame | None = None,
    activations: pd.DataFrame | None = None,
    *,
    not_expected: Mapping[str, str] | None = None,
    claims: Iterable[Claim] = CLAIMS,
) -> pd.DataFrame:
    """Return a row per claim: published, measured with its 95 % interval, n, coverage, verdict, reason."""
    tables = {"metrics": metrics, "affine": affine, "clamping": clamping, "activations": activations}
    return judge(claims, tables, PUBLISHED, not_expected)
