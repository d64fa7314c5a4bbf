"""Final test accuracy of every arm: mean ± standard deviation over seeds, with n."""

import pandas as pd

from onlybn.drawing.accuracies import cell
from onlybn.drawing.summaries import over_seeds
from onlybn.papers.batchnorm_mechanisms.arms import described, final, points

WORDS = ("setting", "normalisation")


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm: final top-1 and top-5 in percent and loss, their deviations, n, diverged runs."""
    runs = described(final(metrics), but=["regime"])
    summed = over_seeds(runs, values=["top_1", "top_5", "loss"])
    return summed.merge(runs[points(runs)].drop_duplicates())


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per setting and normalisation, and a column per regime: mean ± deviation (n) of top-1."""
    rows = []
    for (setting, arm), own in numbers.groupby(["setting", "arm"], sort=False):
        cells = dict(zip(own["regime"], map(_cell, own.itertuples()), strict=True))
        rows.append({"setting": setting, "normalisation": arm} | cells)
    return pd.DataFrame(rows, columns=[*WORDS, *dict.fromkeys(numbers["regime"])]).fillna("")


def _cell(point) -> str:
    if point.n and pd.isna(point.top_1):  # a squared error has no accuracy
        return (
            f"loss {point.loss:.3g}"
            + (f" ± {point.loss_std:.2g}" if point.n > 1 else "")
            + f" (n = {point.n})"
        )
    at_chance = f" {point.at_chance} at chance" if point.at_chance else ""
    return cell(point) + at_chance


def caption(numbers: pd.DataFrame) -> str:
    """Say the measure."""
    return "Top-1 in percent, a column for each choice of what trains."
