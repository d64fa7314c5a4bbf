"""Test accuracy of finished networks by shift and by the statistics that normalise."""

import pandas as pd

from onlybn.papers.batchnorm_mechanisms.arms import counts, described, points
from onlybn.papers.batchnorm_mechanisms.figures.evaluation import (
    CLEAN,
    SHIFTS,
    STATISTICS,
    by_network,
    in_order,
    tests,
)

WORDS = ("network", "normalisation", "shift")


def numbers(statistics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm, shift and statistics: mean test accuracy `y` in percent, `std`, n."""
    clean = tests(statistics)
    clean = clean[(clean["shift"] == CLEAN) & (clean["statistics"] == "running")]
    table = described(statistics)
    found = by_network(statistics).drop(columns=["n", "diverged", "at_chance"])
    return found.merge(table[points(table)].drop_duplicates()).merge(counts(table, clean))


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per arm and shift, and a column per statistics: mean ± standard deviation."""
    columns = in_order(STATISTICS, numbers["statistics"])
    rows = []
    for (setting, arm), own in numbers.groupby(["setting", "arm"], sort=False):
        for shift in in_order(SHIFTS, own["shift"]):
            here = own[own["shift"] == shift].set_index("statistics")
            cells = {name: _cell(here.loc[name]) for name in columns if name in here.index}
            rows.append({"network": setting, "normalisation": arm, "shift": shift} | cells)
    return pd.DataFrame(rows, columns=[*WORDS, *columns]).fillna("")


def _cell(point: pd.Series) -> str:
    if pd.isna(point["y"]):
        return ""
    return f"{point['y']:.1f}" + ("" if pd.isna(point["std"]) else f" ± {point['std']:.1f}")


def caption(numbers: pd.DataFrame) -> str:
    """Say what the columns are."""
    return (
        "Test accuracy in percent. Running: the averages that training keeps; batch-N: those of a batch of N"
        " test images; cumulative and pooled: re-estimated on training images, and pooled-shifted on shifted"
        " ones."
    )
