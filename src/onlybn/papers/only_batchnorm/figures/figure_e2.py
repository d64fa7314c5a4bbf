"""Appendix E.2: accuracy by how γ and β are initialised, with and without the runs that failed."""

import pandas as pd

from onlybn.papers.only_batchnorm.figures import initialisation
from onlybn.papers.only_batchnorm.figures.initialisation import draw

__all__ = ["caption", "draw", "numbers"]


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the numbers drawn, a row per panel, regime, architecture, initialisation and choice of runs."""
    return initialisation.numbers(metrics, part=1, without_failed=True)


def caption(numbers: pd.DataFrame) -> str:
    """Say what to see."""
    without = "; dotted, means without the runs that ended at chance" if len(set(numbers["runs"])) > 1 else ""
    return (
        f"Test accuracy by the initialisation of γ and β{without}. The paper finds γ = 1, β = 1 best when"
        " BatchNorm alone trains, and worse when everything does."
    )
