"""What is measured of tasks: accuracies on shared and on own features, and bytes."""

from collections.abc import Iterator, Sequence

import pandas as pd

from onlybn.axes import FEATURES_SEED
from onlybn.drawing.summaries import finals, point

OWN = FEATURES_SEED.default
# What a task stores: γ, β and as many running statistics, and the output layer if it trains; or everything.
BATCHNORM, OUTPUT, ALL = "batchnorm", "batchnorm+output", "all"
REGIMES = (BATCHNORM, OUTPUT)


def runs(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the final test row of each run, its `features`, and the `bytes` of its task and network."""
    last = finals(metrics)
    last = last.assign(features=last.get(FEATURES_SEED.name, OWN))
    affine_and_statistics = 2 * last["batchnorm_parameters"]
    trains_output = last["regime"].map({BATCHNORM: 0, OUTPUT: 1})
    stored = trains_output * last["output_parameters"] + affine_and_statistics
    whole = last["parameters"] + last["batchnorm_parameters"]
    stored = stored.where(last["regime"] != ALL, whole)
    return last.assign(bytes=4 * stored, network_bytes=4 * whole).dropna(subset="bytes")


def pairs(rows: pd.DataFrame) -> Iterator[tuple[pd.DataFrame, pd.DataFrame]]:
    """Yield the runs of each task and regime: those on shared features, and on its own."""
    names = [name for name in point(rows) if name != FEATURES_SEED.name]
    for _, here in rows[rows["regime"].isin(REGIMES)].groupby(names, sort=False, observed=True):
        is_own = here["features"] == OWN
        yield here[~is_own], here[is_own]


def finished(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that finished."""
    return rows[rows["status"] == "finished"]


def difference(tasks: Sequence[tuple[pd.DataFrame, pd.DataFrame]]) -> tuple[list[float], list[float]]:
    """Return accuracy on shared features less that on own ones by seed, and the former by features.

    Both are means over the tasks, in points. A seed orders the images of both, and draws the own features;
    the shared ones are few draws that every seed has in common.
    """
    by_seed, by_features = [], []
    for shared, own in tasks:
        shared, own = finished(shared), finished(own)
        by_seed.append(shared.groupby("seed")["top_1"].mean() - own.set_index("seed")["top_1"])
        by_features.append(shared.groupby("features")["top_1"].mean())
    found = pd.concat(by_seed, axis=1).dropna().mean(axis=1)
    features = pd.concat(by_features, axis=1).dropna().mean(axis=1)
    return found.tolist(), features.tolist()
