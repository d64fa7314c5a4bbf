"""Normalisation by other norms than ℓ2 (Santurkar et al., Section 3.3, Figures 12 and 13)."""

import math

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import counts, described, final, over_time
from onlybn.papers.batchnorm_mechanisms.figures.learning_rates import accuracies, accuracy_rows
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, Row, levels, panels
from onlybn.papers.batchnorm_mechanisms.measures import early_and_late, smoothed

LOSS, BETA = "training loss", "early effective β"


def numbers(metrics: pd.DataFrame, curve: pd.DataFrame, landscape: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure and step: accuracies and loss over time, and the early effective β."""
    counted = counts(described(metrics), final(metrics))
    losses = described(curve).assign(loss=smoothed(curve, "loss").to_numpy())
    runs = described(early_and_late(landscape)).assign(step=0)
    parts = [
        accuracies(metrics, curve),
        over_time(losses, {"loss": LOSS}, counted, log=True),
        over_time(runs, {"early_beta": BETA}, counted, log=True),
    ]
    return pd.concat(parts, ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw accuracies and loss over time, and the early effective β; a column per setting."""
    rows = (*accuracy_rows(numbers), Row(LOSS, log=True), Row(BETA, levels, log=True, x_label=""))
    return panels(numbers, rows)


def caption(numbers: pd.DataFrame) -> str:
    """Say what is drawn."""
    beyond = numbers.loc[numbers["measure"] == BETA, "y"].eq(math.inf).any()
    return (
        "Training accuracy and loss are those of batches, a mean over 5 recorded points. Effective β: its"
        " 90th percentile over the first fifth of training. ℓ1, ℓ2 and ℓ∞ divide by the average norm of a"
        " batch, taken before its mean is subtracted."
        + LOGARITHMS
        + (" A β that is not finite is not drawn." if beyond else "")
    )
