"""The loss landscape early and late in training, in numbers (Santurkar et al., Figure 4)."""

import pandas as pd

from onlybn.drawing.summaries import over_seeds
from onlybn.papers.batchnorm_mechanisms.arms import described, points
from onlybn.papers.batchnorm_mechanisms.measures import QUANTILES, early_and_late

WORDS = ("setting", "normalisation")
COLUMNS = {
    "spread": "log(max / min)",
    "relative_change": "max ‖Δg‖ / ‖g‖",
    "beta": "β, 90 %",
    "rate_beta": "rate · β",
}


def numbers(landscape: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm: means of what `early_and_late` returns, their deviations, n, diverged runs."""
    runs = described(early_and_late(landscape))
    values = [f"{part}_{name}" for part in ("early", "late") for name in QUANTILES]
    return over_seeds(runs, values=values).merge(runs[points(runs)].drop_duplicates())


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, and two columns for each quantity: early and late."""
    rows = []
    for row in numbers.itertuples():
        told = {"setting": row.setting, "normalisation": row.arm}
        for name, label in COLUMNS.items():
            for part in ("early", "late"):
                mean, deviation = (getattr(row, f"{part}_{name}{end}") for end in ("", "_std"))
                spread = "" if pd.isna(deviation) else f" ± {deviation:.2g}"
                told[f"{label}, {part}"] = "" if pd.isna(mean) else f"{mean:.3g}{spread}"
        told["n"] = f"{row.n}" + (f", {row.diverged} diverged" if row.diverged else "")
        rows.append(told)
    return pd.DataFrame(rows)


def caption(numbers: pd.DataFrame) -> str:
    """Say what is summarised, over which part of training."""
    return (
        "Along the gradient, over the probed step sizes: the logarithm of the largest loss over the smallest,"
        " both with the weight decay's term, the largest change of the gradient relative to its length, the"
        " effective β and its product with the learning rate. Medians, of β the 90th percentile, over the"
        " first fifth of the steps (early) and the last (late): mean ± standard deviation over seeds."
    )
