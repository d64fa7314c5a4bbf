"""Each task's accuracy on shared features and on its own, and what is stored for it."""

import math

import pandas as pd

from onlybn.axes import FEATURES_SEED
from onlybn.datasets import known
from onlybn.drawing.summaries import point
from onlybn.judging import student_interval
from onlybn.papers.one_seed.measures import difference, finished, pairs, runs

WORDS = ("task", "network", "what trains")


def numbers(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per task, network and regime.

    `shared` and `own` are mean accuracies in percent, with deviations and counts of runs, of finished and of
    diverged ones; `difference` is their mean paired by seed, in points, with its 95 % interval; `bytes` is
    what a task stores.
    """
    rows = []
    for shared, own in pairs(runs(metrics)):
        one = (shared if len(shared) else own).iloc[0]
        row = {name: one[name] for name in point(own) if name in one and name != FEATURES_SEED.name}
        for name, some in (("shared", shared), ("own", own)):
            kept = finished(some)["top_1"]
            row |= {name: kept.mean(), f"{name}_std": kept.std(), f"{name}_n": len(kept)}
            row[f"{name}_diverged"] = len(some) - len(kept)
        found, features = difference([(shared, own)])
        low, high = student_interval(found, features)
        row |= {"difference": sum(found) / len(found) if found else None, "low": low, "high": high}
        rows.append(row | {"pairs": len(found), "bytes": one["bytes"], "network_bytes": one["network_bytes"]})
    return pd.DataFrame(rows)


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the same for readers: mean ± deviation (runs), the difference with its interval, kB, share."""
    rows = [
        {
            "task": known(row.dataset).title,
            "network": row.architecture,
            "what trains": row.regime,
            "shared features (%)": _accuracy(row.shared, row.shared_std, row.shared_n, row.shared_diverged),
            "own features (%)": _accuracy(row.own, row.own_std, row.own_n, row.own_diverged),
            "shared − own": _difference(row),
            "a task (kB)": f"{row.bytes / 1e3:.1f}",
            "a network (kB)": f"{row.network_bytes / 1e3:,.0f}",
            "share (%)": f"{100 * row.bytes / row.network_bytes:.2f}",
        }
        for row in numbers.itertuples()
    ]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=WORDS)


def _accuracy(mean: float, deviation: float, count: int, diverged: int) -> str:
    spread = f" ± {deviation:.1f}" if count > 1 else ""
    lost = f"{diverged} diverged" if diverged else ""
    return f"{mean:.1f}{spread} (n = {count}{lost and f', {lost}'})" if count else lost


def _difference(row) -> str:
    return f"{row.difference:+.1f} [{row.low:+.1f}, {row.high:+.1f}]" if math.isfinite(row.low) else ""


def caption(numbers: pd.DataFrame) -> str:
    """Say how differences are paired, and what is counted."""
    return (
        "Differences in points are paired by the seed of the order of images. Their 95 % interval is over"
        " these seeds and those of the shared features. A task stores γ, β and running statistics, and the"
        " output layer if it trains, in float32; a network all of its parameters and statistics."
    )
