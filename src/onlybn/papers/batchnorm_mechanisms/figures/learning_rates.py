"""Accuracy while networks train at several learning rates (Ioffe and Szegedy, Figures 2 and 3, in small)."""

import pandas as pd
from matplotlib.figure import Figure

from onlybn.papers.batchnorm_mechanisms.arms import counts, described, final, over_time, time, time_unit
from onlybn.papers.batchnorm_mechanisms.figures.panels import PERCENT, Row, panels
from onlybn.papers.batchnorm_mechanisms.measures import smoothed

TRAINING, TEST = "training accuracy (%)", "test accuracy (%)"


def numbers(metrics: pd.DataFrame, curve: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, measure and step: mean accuracy `y` in percent, `std`, n; and diverged runs.

    Each learning rate is an arm of its own.
    """
    return accuracies(metrics, curve, rates=True)


def accuracies(metrics: pd.DataFrame, curve: pd.DataFrame, *, rates: bool = False) -> pd.DataFrame:
    """Return the training accuracy, smoothed, and the test accuracy of every arm over time."""
    tests = described(metrics, rates=rates)
    counted = counts(tests, final(metrics))
    tests = tests[tests["split"] == "test"].assign(time=time)
    curve = described(curve, rates=rates).assign(top_1=smoothed)
    parts = [over_time(curve, {"top_1": TRAINING}, counted)]
    parts.append(over_time(tests, {"top_1": TEST}, counted, x="time"))
    return pd.concat(parts, ignore_index=True)


def draw(numbers: pd.DataFrame) -> Figure:
    """Draw training accuracy above test accuracy, a column per setting, a line per arm."""
    return panels(numbers, accuracy_rows(numbers))


def accuracy_rows(numbers: pd.DataFrame) -> tuple[Row, Row]:
    """Return the rows of panels of the two accuracies."""
    return Row(TRAINING, limits=PERCENT), Row(TEST, limits=PERCENT, x_label=time_unit(numbers))


def caption(numbers: pd.DataFrame) -> str:
    """Say how the lines are drawn."""
    return (
        "Colour: normalisation; line: learning rate. Training accuracy is that of batches, a mean over 5"
        " recorded points. A diverged run is a thin line of its own that ends at an ×, in the panels in which"
        " it has a finite value."
    )
