"""What figures and tables share: a run's final accuracy, and replicates summarised over seeds."""

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from onlybn.datasets import DATASETS

RUN = ["study", "dataset", "architecture", "regime", "variant", "seed"]
POINT = [
    "dataset",
    "architecture",
    "family",
    "depth",
    "width",
    "batchnorm_parameters",
    "regime",
    "variant",
]


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """Stack collected tables; a run that several experiments share is kept once."""
    tables = [pd.read_parquet(path) for path in paths]
    for table in tables:
        for name in table.columns[[isinstance(kind, pd.CategoricalDtype) for kind in table.dtypes]]:
            table[name] = table[name].astype(str)
    if "experiment" in tables[0].columns:
        tables = [table.drop(columns="experiment") for table in tables]
    return pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)


def finals(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return each run's test row after its last epoch."""
    test = metrics[metrics["split"] == "test"].reset_index(drop=True)
    return test.loc[test.groupby(RUN)["epoch"].idxmax()].reset_index(drop=True)


def over_seeds(runs: pd.DataFrame) -> pd.DataFrame:
    """Summarise the replicates of each point: mean and standard deviation (n − 1) of top-1 and top-5.

    Runs that diverged enter no mean: they are counted in `diverged`, and the others in `n`. `at_chance`
    counts runs among the n whose top-1 is at most 1.5 times chance (Appendix E.2).
    """

    def summary(runs: pd.DataFrame) -> pd.Series:
        finished = runs[runs["status"] == "finished"]
        chance = DATASETS[runs["dataset"].iloc[0]].chance
        return pd.Series(
            {
                "top_1": finished["top_1"].mean(),
                "top_1_std": finished["top_1"].std(ddof=1),
                "top_5": finished["top_5"].mean(),
                "top_5_std": finished["top_5"].std(ddof=1),
                "n": len(finished),
                "diverged": len(runs) - len(finished),
                "at_chance": int((finished["top_1"] <= 1.5 * chance).sum()),
                "epochs": int(runs["epoch"].max()),
            }
        )

    points = runs.groupby(POINT, sort=False)[runs.columns.tolist()].apply(summary).reset_index()
    return points.astype(dict.fromkeys(("n", "diverged", "at_chance", "epochs"), int))


def by_family(points: pd.DataFrame) -> pd.DataFrame:
    """Place points in the panels `depth` and `width`, `x` being their place in it.

    ResNet-14 is the WRN of width 1, so it stands in both where there are WRNs.
    """
    depth = points[points["family"] == "resnet"].assign(panel="depth", x=lambda p: p["depth"])
    wide = points["family"] == "wrn"
    if wide.any():
        wide |= points["architecture"] == "resnet-14"
    width = points[wide].assign(panel="width", x=lambda p: p["width"])
    return pd.concat([depth, width]).sort_values(["panel", "regime", "x"], ignore_index=True)


def seeds_phrase(points: pd.DataFrame) -> str:
    """Say how many seeds the points were measured with, and what became of runs outside the means."""
    low, high = points["n"].min(), points["n"].max()
    phrase = f"n = {high}" if low == high else f"n = {low} to {high}"
    phrase += " seed" if (low, high) == (1, 1) else " seeds"
    if diverged := int(points["diverged"].sum()):
        phrase += f"; {diverged} diverged run{'s' * (diverged > 1)} (×) left out of the means"
    if stuck := int(points["at_chance"].sum()):
        phrase += f"; {stuck} run{'s' * (stuck > 1)} at most 1.5 times chance"
    return phrase
