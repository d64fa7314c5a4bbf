"""Normalisation by other norms than ℓ2 (Santurkar et al., Section 3.3, Figures 12 and 13)."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.drawing.summaries import over_seeds
from onlybn.papers.batchnorm_mechanisms.arms import counts, described, final, over_time, points
from onlybn.papers.batchnorm_mechanisms.figures.learning_rates import accuracies, accuracy_rows
from onlybn.papers.batchnorm_mechanisms.figures.panels import LOGARITHMS, Row, bars, panels
from onlybn.papers.batchnorm_mechanisms.measures import early_and_late, smoothed

LOSS, BETA = "training loss", "early effective β"


def numbers(metrics: pd.DataFrame, curve: pd.DataFrame, landscape: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure and step: accuracies and loss over time, and the early effective β."""
    counted = counts(described(metrics), final(metrics))
    losses = described(curve).assign(loss=smoothed(curve, "loss").to_numpy())
    runs = described(early_and_late(landscape))
    betas = over_seeds(runs, values=["early_beta"]).merge(runs[points(runs)].drop_duplicates())
    betas = betas.rename(columns={"early_beta": "y", "early_beta_std": "std"})
    betas = betas[[*points(runs), "y", "std"]].assign(measure=BETA, x=0.0).merge(counted)
    parts = [accuracies(metrics, curve), over_time(losses, {"loss": LOSS}, counted, log=True), betas]
    return pd.concat(parts, ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw accuracies and loss over time, and bars of the early effective β; a column per setting."""
    rows = (*accuracy_rows(numbers), Row(LOSS, log=True), Row(BETA, bars, x_label=""))
    return panels(numbers, rows)


def caption(numbers: pd.DataFrame) -> str:
    """Say what the bars are."""
    return (
        "Training accuracy and loss are those of batches, a mean over 5 recorded points. Bars: the 90th"
        " percentile of the effective β over the first fifth of training. ℓ1, ℓ2 and ℓ∞ divide by the average"
        " norm of a batch, taken before its mean is subtracted." + LOGARITHMS
    )
