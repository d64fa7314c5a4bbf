"""The papers' claims, judged by the experiments that the study gives the table."""

from collections.abc import Iterable, Mapping

import pandas as pd

from onlybn.judging import WORDS, Claim, caption, judge, shown
from onlybn.papers.batchnorm_mechanisms.claims import CLAIMS, PUBLISHED
from onlybn.papers.batchnorm_mechanisms.paper import IF_DRAWN

__all__ = ["WORDS", "caption", "numbers", "shown"]
KINDS = ("metrics", *IF_DRAWN)


def numbers(
    *tables: pd.DataFrame | None,
    not_expected: Mapping[str, str] | None = None,
    claims: Iterable[Claim] = CLAIMS,
) -> pd.DataFrame:
    """Return a row per claim: published, measured with its 95 % interval, n, coverage, verdict, reason."""
    return judge(claims, dict(zip(KINDS, tables, strict=False)), PUBLISHED, not_expected)
