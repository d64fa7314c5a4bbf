"""What figures and tables share: values of each run, and replicates summarised over seeds."""

import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pandas as pd
import pyarrow as pa

from onlybn.datasets import known
from onlybn.errors import UserError
from onlybn.schemas import SCHEMAS, missing

# What names a point of a study, and what tells its replicates apart. Besides, a point has the number of
# `classes` of the user's own dataset, and where a table has runs of several, its `training`.
POINT = [
    "study",
    "dataset",
    "architecture",
    "family",
    "depth",
    "width",
    "parameters",
    "batchnorm_parameters",
    "regime",
    "variant",
    "epochs",
]
RUN = [*POINT, "seed", "status"]


def point(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that name a point; runs of different points never share a mean."""
    varies = "training" in table and table["training"].nunique() > 1
    return [*POINT, *(["classes"] if "classes" in table else []), *(["training"] if varies else [])]


def run(table: pd.DataFrame) -> list[str]:
    """Return the columns of a table that name a run."""
    return [*point(table), "seed", "status"]


def read(paths: Iterable[Path]) -> pd.DataFrame:
    """Stack collected tables; a run that several experiments share is kept once.

    Raises UserError if one is damaged, or lacks columns of its kind, which its name tells.
    """
    tables = [_read(Path(path)) for path in paths]
    for table in tables:
        for name in table.columns[[isinstance(kind, pd.CategoricalDtype) for kind in table.dtypes]]:
            table[name] = table[name].astype(str)
    if "experiment" in tables[0].columns:
        tables = [table.drop(columns="experiment") for table in tables]
    return pd.concat(tables, ignore_index=True).drop_duplicates(ignore_index=True)


def _read(path: Path) -> pd.DataFrame:
    again = "delete it to collect it again"
    try:
        table = pd.read_parquet(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is missing or damaged ({error}); {again}") from None
    lacking = [name for name in RUN if name not in table] if path.stem in SCHEMAS else []
    lacking += missing(path.stem, table.columns) if path.stem in SCHEMAS else []
    if lacking:
        raise UserError(f"{path} lacks the columns {', '.join(lacking)}; {again}")
    return table


def finals(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return each run's test row after its last epoch."""
    test = metrics[metrics["split"] == "test"].reset_index(drop=True)
    return test.loc[test.groupby(run(test))["epoch"].idxmax()].sort_index().reset_index(drop=True)


def per_run(table: pd.DataFrame, measure: Callable[[pd.DataFrame], dict[str, float]]) -> pd.DataFrame:
    """Return a row per run with what `measure` makes of its rows."""
    names = run(table)
    rows = [
        dict(zip(names, named, strict=True)) | measure(rows)
        for named, rows in table.groupby(names, sort=False)
    ]
    return pd.DataFrame(rows, columns=None if rows else names)


def over_seeds(
    runs: pd.DataFrame, values: Sequence[str] = ("top_1", "top_5"), by: Sequence[str] = ()
) -> pd.DataFrame:
    """Summarise replicates, a row per run, by point (and `by`): mean and standard deviation (n − 1).

    Runs that diverged enter no mean: they are counted in `diverged`, and the others in `n`. Of
    accuracies, `at_chance` counts runs among the n whose top-1 is at most 1.5 times chance (Appendix E.2).
    """
    rows, names = [], [*point(runs), *by]
    for values_of_names, replicates in runs.groupby(names, sort=False):
        finished = replicates[replicates["status"] == "finished"]
        row = dict(zip(names, values_of_names, strict=True))
        for value in values:
            row |= {value: finished[value].mean(), f"{value}_std": finished[value].std(ddof=1)}
        row |= {"n": len(finished), "diverged": len(replicates) - len(finished), "at_chance": 0}
        if "top_1" in values:
            row["at_chance"] = int(stuck(finished).sum())
        rows.append(row)
    summarised = [name for value in values for name in (value, f"{value}_std")]
    return pd.DataFrame(rows, columns=[*names, *summarised, "n", "diverged", "at_chance"])


def differing(trainings: pd.Series) -> pd.Series:
    """Return of each training, as JSON, the keys in which some differ, with their values."""
    told = {text: json.loads(text) for text in trainings.unique()}
    keys = sorted({key for training in told.values() for key in training})
    varied = [key for key in keys if len({str(training.get(key)) for training in told.values()}) > 1]
    return trainings.map(
        {text: ", ".join(f"{key} {one[key]}" for key in varied if key in one) for text, one in told.items()}
    )


def stuck(runs: pd.DataFrame) -> pd.Series:
    """Say of each run whether its top-1 is at most 1.5 times chance."""
    return runs["top_1"] <= 1.5 * chance(runs)


def classes(rows: pd.DataFrame) -> pd.Series:
    """Return the number of classes of each row's dataset."""
    if "classes" in rows:
        return rows["classes"]
    named = {name: known(name).classes for name in rows["dataset"].unique()}
    return rows["dataset"].map(named).astype(float)


def chance(rows: pd.DataFrame) -> pd.Series:
    """Return the accuracy of guessing on each row's dataset, in percent."""
    return 100 / classes(rows)


# Panel, which ends in the name of the column along its x-axis: the family that it shows. A family of the
# user's own has a panel by depth, or by width where it has networks of one depth only.
PANELS = {
    "depth": "resnet",
    "width": "wrn",
    "VGG depth": "vgg",
    "ImageNet depth": "imagenet-resnet",
}


def by_panel(points: pd.DataFrame) -> pd.DataFrame:
    """Place points in the panels of their families, `x` being their place along the axis.

    ResNet-14 is the WRN of width 1, so it stands in both `depth` and `width` where there are WRNs.
    """
    placed, panels = [], dict(PANELS)
    for family, members in points.groupby("family", sort=False):
        if family not in PANELS.values():
            by = "width" if members["depth"].nunique() == 1 < members["width"].nunique() else "depth"
            panels[f"{family} {by}"] = family
    for panel, family in panels.items():
        members = points["family"] == family
        if panel == "width" and members.any():
            members |= points["architecture"] == "resnet-14"
        placed.append(points[members].assign(panel=panel, x=points.loc[members, axis(panel)]))
    return pd.concat(placed).reset_index(drop=True).sort_values(["panel", "regime", "x"], ignore_index=True)


def axis(panel: str) -> str:
    """Return the column along a panel's x-axis."""
    return panel.split()[-1]


def ranges(points: pd.DataFrame) -> str:
    """Say between which values the means `y`, in percent, of each regime lie."""
    means = points.dropna(subset="y").groupby("regime")["y"].agg(["min", "max"])
    phrases = [
        f"{low:.1f} % ({regime})" if low == high else f"{low:.1f} to {high:.1f} % ({regime})"
        for regime, low, high in means.itertuples()
    ]
    return " and ".join(phrases) or "no run finished"


def seeds_phrase(points: pd.DataFrame) -> str:
    """Say how many seeds the points were measured with, and what became of runs outside the means."""
    counted = points.drop_duplicates(point(points))
    low, high = points["n"].min(), points["n"].max()
    phrase = f"n = {high}" if low == high else f"n = {low} to {high}"
    phrase += " seed" if (low, high) == (1, 1) else " seeds"
    if diverged := int(counted["diverged"].sum()):
        phrase += f"; {diverged} diverged run{'s' * (diverged > 1)} (×) left out of the means"
    if at_chance := int(counted["at_chance"].sum()):
        phrase += f"; {at_chance} run{'s' * (at_chance > 1)} at most 1.5 times chance"
    return phrase
