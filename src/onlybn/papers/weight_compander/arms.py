"""A study's runs by network and function: replicates are paired by their seed."""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import special
from statsmodels.stats.multitest import multipletests

from onlybn.axes import REPARAMETRISATION
from onlybn.drawing.summaries import finals, over_seeds, point
from onlybn.judging import student_interval, values_needed
from onlybn.papers.weight_compander.functions import BASELINE, parsed
from onlybn.papers.weight_compander.looks import ordered

FUNCTION = REPARAMETRISATION.name
# Columns of a point that are in a network's label if they vary among its runs.
_LABELLED = ("dataset", "regime", "variant", "normalisation", "recipe")


@dataclass(frozen=True)
class Arms:
    """The runs of one network, alike in all but their function and seed.

    `every` has the rows of a collected table by function, in the order of the figures, and `rows` those of
    finished runs: none of a function of which every run diverged.
    """

    label: str
    architecture: str
    family: str
    depth: int
    dataset: str
    every: Mapping[str, pd.DataFrame]
    rows: Mapping[str, pd.DataFrame]

    def named(self, method: str, part: str = "") -> list[str]:
        """Return the names of the functions of a method, on a part of the network or (empty) the whole."""
        found = {name: parsed(name) for name in self.rows}
        return [name for name, of in found.items() if (of.method, of.part) == (method, part)]

    def by_seed(self, function: str, column: str) -> pd.Series:
        """Return a column of a function's runs by seed; for tables with one row for each run."""
        if function not in self.rows:
            return pd.Series(dtype=float)
        return self.rows[function].set_index("seed")[column].sort_index()

    def diverged(self, *functions: str) -> frozenset[tuple]:
        """Return the diverged runs of functions: label, function and seed of each."""
        found = set()
        for name in set(functions) & set(self.every):
            rows = self.every[name]
            lost = rows.loc[rows["status"] != "finished", "seed"].unique()
            found |= {(self.label, name, int(seed)) for seed in lost}
        return frozenset(found)

    def difference(self, one: str, other: str, column: str = "top_1") -> pd.Series:
        """Return by how much one function's runs are above another's, by seed."""
        return (self.by_seed(one, column) - self.by_seed(other, column)).dropna()


def with_function(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table with the column of functions, which it lacks if no run has one."""
    return table if FUNCTION in table else table.assign(**{FUNCTION: BASELINE})


def labels(table: pd.DataFrame) -> pd.Series:
    """Return the label of each row's network: its name, and what else varies among its runs."""
    words = table["architecture"].astype(str)
    for column in _LABELLED:
        if column in table:
            varies = table.groupby("architecture")[column].transform("nunique") > 1
            words = words + (" " + table[column].astype(str)).where(varies, "")
    return words


def arms(table: pd.DataFrame | None) -> list[Arms]:
    """Return the arms of every network in a collected table, by family and depth."""
    if table is None or table.empty:
        return []
    runs = with_function(table)
    runs = runs.assign(label=labels(runs))
    counts = ("parameters", "batchnorm_parameters")  # a learned function may add some
    names = [name for name in point(runs) if name not in (FUNCTION, *counts)]
    found = []
    for _, rows in runs.groupby(names, sort=False, dropna=False):
        by_function = dict(iter(rows.groupby(FUNCTION, sort=False)))
        every = {name: by_function[name] for name in ordered(by_function)}
        finished = {name: its[its["status"] == "finished"] for name, its in every.items()}
        first = rows.iloc[0]
        found.append(
            Arms(
                **{name: first[name] for name in ("label", "architecture", "family", "depth", "dataset")},
                every=every,
                rows=finished,
            )
        )
    return sorted(found, key=lambda one: (one.family, one.depth, one.label))


def compared(differences: pd.Series) -> dict[str, float]:
    """Return the mean of paired differences, its 95 % interval, p, and how many pairs would resolve it.

    Interval and p are Student's. `needed` is the number of pairs with which a paired t test at 5 % finds a
    mean difference of this size with a power of 80 %, at this standard deviation of the differences.
    """
    count = len(differences)
    mean = float(differences.mean()) if count else math.nan
    deviation = float(differences.std(ddof=1)) if count > 1 else math.nan
    low, high = student_interval(differences.to_numpy()) if count else (math.nan, math.nan)
    p = needed = math.nan
    if count > 1:
        error = deviation / math.sqrt(count)
        p = 2 * float(special.stdtr(count - 1, -abs(mean) / error)) if error else float(mean == 0)
        needed = values_needed(abs(mean), deviation)
    return {
        "pairs": count,
        "difference": mean,
        "deviation": deviation,
        "low": low,
        "high": high,
        "p": p,
        "needed": needed,
    }


def gains(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per network and function: its paired difference to the network's baseline, in points.

    The columns are those of `over_seeds` and `compared`; `lost`, how many runs of both diverged; and
    `p_holm`: the p of a method, adjusted by Holm over the networks of a family. Networks without a baseline
    have no row.
    """
    runs = with_function(finals(metrics))
    rows = [
        rows.iloc[0][point(runs)].to_dict()
        | {"network": one.label, "lost": len(one.diverged(name, BASELINE))}
        | compared(one.difference(name, BASELINE))
        for one in arms(runs)
        for name, rows in one.every.items()
        if name != BASELINE and BASELINE in one.rows
    ]
    if not rows:
        return pd.DataFrame()
    summary = over_seeds(runs, values=["top_1"])
    found = pd.DataFrame(rows).merge(summary, on=point(runs), how="left")
    methods = found[FUNCTION].map(lambda name: (parsed(name).method, parsed(name).part))
    found["p_holm"] = np.nan
    for _, members in found.dropna(subset="p").groupby(["family", methods]):
        found.loc[members.index, "p_holm"] = multipletests(members["p"], method="holm")[1]
    return found


def pairs_of_functions(one: Arms, method: str, other: str) -> Iterator[tuple[str, str]]:
    """Yield the names of functions of two methods that a network has, on the whole network."""
    for first in one.named(method):
        for second in one.named(other):
            yield first, second
