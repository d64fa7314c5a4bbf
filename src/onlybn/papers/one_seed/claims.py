"""Claims of our own about one random network with many tasks: nobody has published them."""

import math

import pandas as pd

from onlybn.axes import FEATURES_SEED, RECIPE
from onlybn.drawing.queries import Measured
from onlybn.drawing.summaries import networks
from onlybn.judging import ANY, OWN, Claim, Estimate, Estimates, Published
from onlybn.papers.one_seed.measures import BATCHNORM, OUTPUT, difference, pairs, runs

# What counts as no loss, in points of accuracy on average over tasks; and as few of a network's bytes.
NO_LOSS, FEW = -1.0, 2.0


def sharing_costs_nothing(regime: str):
    """Claim that features that all tasks share serve as well as features of each task's own seed."""

    def estimate(measured: Measured) -> Estimates:
        of_networks: dict[str, list[tuple[pd.DataFrame, pd.DataFrame]]] = {}
        for shared, own in _pairs(measured, regime):
            if len(shared) and len(own):
                of_networks.setdefault(_network(own), []).append((shared, own))
        for network, tasks in of_networks.items():
            values, features = difference(tasks)
            of = f"{network} {regime} shared − own, mean of {len(tasks)} tasks"
            measured.leave_out(pd.concat(some for pair in tasks for some in pair))
            yield Estimate(of, values, (NO_LOSS, math.inf), network, common=features)

    return estimate


def takes_few_bytes(measured: Measured) -> Estimates:
    """Claim that what a task stores is a small share of the network's bytes."""
    shares: dict[str, dict[str, float]] = {}
    for shared, own in _pairs(measured, OUTPUT):
        both = pd.concat([shared, own])
        for row in both.itertuples():
            shares.setdefault(_network(both), {})[row.dataset] = 100 * row.bytes / row.network_bytes
    for network, found in shares.items():
        of = f"{network} share (%)"
        yield Estimate(of, list(found.values()), (-math.inf, FEW), network, exact=True)


def _pairs(measured: Measured, regime: str):
    metrics = measured.tables.get("metrics")
    if metrics is None or metrics.empty:
        return
    rows = runs(metrics)
    yield from pairs(rows[rows["regime"] == regime])


def _network(rows: pd.DataFrame) -> str:
    """Return in words what the tasks of one network share, but for the features: not how they train."""
    return networks(rows.head(1).drop(columns=[RECIPE.name, FEATURES_SEED.name], errors="ignore")).iloc[0]


def _every_run(rows: pd.DataFrame) -> pd.Series:
    return pd.Series(True, index=rows.index)


def _stands_for(dataset: str) -> None:
    """No dataset stands in for another: there is no published one."""


PUBLISHED = Published({}, _stands_for)
CLAIMS = [
    Claim(name, "ours", ANY, statement, "not published", estimate, OWN, chooses=_every_run)
    for name, statement, estimate in (
        (
            "shared-batchnorm",
            "tasks that share random features and train γ and β lose at most a point by sharing",
            sharing_costs_nothing(BATCHNORM),
        ),
        (
            "shared-output",
            "and so do tasks that train an output layer of their own too",
            sharing_costs_nothing(OUTPUT),
        ),
        (
            "few-bytes",
            "a task, with its output layer, takes under 2 % of the network's bytes",
            takes_few_bytes,
        ),
    )
]
