"""A study's runs by setting and arm: a setting's runs share a panel, and an arm's differ by their seed."""

import json
import re
from collections.abc import Collection, Mapping, Sequence

import numpy as np
import pandas as pd

from onlybn.axes import NORMALISATION, RECIPE, Axis
from onlybn.datasets import known
from onlybn.drawing.summaries import differing, finals, over_seeds, point, run
from onlybn.papers.batchnorm_mechanisms.looks import NONE, label
from onlybn.papers.batchnorm_mechanisms.measures import first_step, named

# Columns of a run that are in its setting if they vary among the runs of a network.
_SET = ("regime", "variant", "reparametrisation")
# What `described` adds.
DESCRIBED = ("setting", "arm", "normalisation", "rate", "batch")


def described(table: pd.DataFrame, *, rates: bool = False, but: Collection[str] = ()) -> pd.DataFrame:
    """Return a collected table with each run's `setting` and `arm` in words, normalisation, rate and batch.

    An arm is a normalisation in a setting. A setting is a dataset and network, and what else differs among
    the runs of that network, its training included, `but` some columns; with `rates`, each training is an
    arm of its own instead. The rate is the learning rate, and the batch the number of its images.
    """
    table = table.reset_index(drop=True)
    table = table.assign(normalisation=_column(table, NORMALISATION))
    trainings = {text: json.loads(text) for text in table["training"].unique()}
    numbers = {
        name: table["training"].map({text: training.get(key, np.nan) for text, training in trainings.items()})
        for name, key in (("rate", "learning_rate"), ("batch", "batch_size"))
    }
    table = table.assign(**numbers)
    titles = {name: known(name).title for name in table["dataset"].unique()}
    setting = table["dataset"].map(titles) + ", " + table["architecture"].astype(str)
    arm = table["normalisation"].map({name: label(name) for name in table["normalisation"].unique()})
    networks = table.groupby(["dataset", "architecture"], sort=False)
    several = bool((networks["training"].nunique() > 1).any())  # then every arm tells its own
    for _, rows in networks:
        for name in _SET:
            if name in rows and name not in but and rows[name].nunique() > 1:
                setting[rows.index] += ", " + rows[name].astype(str)
        if rates:
            words = ", rate " + rows["rate"].map("{:g}".format) + _recipes(rows, "rate")
            arm[rows.index] += words if several else ""
        else:
            words = differing(rows["training"]).map(_brief)
            setting[rows.index] += words + _recipes(rows, "training")
    return table.assign(setting=setting, arm=arm)


def _column(table: pd.DataFrame, axis: Axis) -> pd.Series:
    return table[axis.name].astype(str) if axis.name in table else pd.Series(axis.default, table.index)


def _brief(training: str) -> str:
    """Return what differs of a training in fewer words, after a comma."""
    words = training.replace("learning_rate", "rate").replace("_", " ")
    return re.sub(r"examples (\d+)", r"\1 images", f", {words}" if words else "")


def _recipes(rows: pd.DataFrame, by: str) -> pd.Series:
    """Return each row's recipe in words, where others have the same value in the column `by`."""
    recipe = _column(rows, RECIPE)
    several = recipe.groupby(rows[by]).transform("nunique") > 1
    return (", " + recipe).where(several & (recipe != RECIPE.default), "")


def time(metrics: pd.DataFrame) -> pd.Series:
    """Return the step of each row of metrics, or the epoch where training is counted in epochs."""
    return metrics["step"].fillna(metrics["epoch"]) if "step" in metrics else metrics["epoch"]


def whole_time(runs: pd.DataFrame) -> pd.Series:
    """Return the length of each run's training, in what `time` counts."""
    return runs["steps"].where(runs["steps"] > 0, runs["epochs"]) if "steps" in runs else runs["epochs"]


def time_unit(numbers: pd.DataFrame) -> str:
    """Return what `time` counts in numbers drawn: the step or the epoch."""
    return "step" if "steps" in numbers and numbers["steps"].gt(0).any() else "epoch"


def identified(table: pd.DataFrame) -> list[str]:
    """Return the columns that name a run and its arm."""
    return [*dict.fromkeys([*named(table), *(name for name in DESCRIBED if name in table)])]


def points(table: pd.DataFrame) -> list[str]:
    """Return the columns that name an arm: those of a run but for its seed and status."""
    return [name for name in identified(table) if name not in ("seed", "status")]


def counts(table: pd.DataFrame, ends: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return a row per arm: `n` finished runs, how many diverged, and how many of n are at chance.

    `ends` has the accuracy `top_1` with which each run ends; without it, none is known to be at chance.
    """
    runs = table[identified(table)].drop_duplicates(ignore_index=True)
    if ends is None:
        summed = over_seeds(runs, values=[])
    else:
        # Without other normalisations than BatchNorm, a collected table has no column of them.
        names = [name for name in run(runs) if name in ends]
        summed = over_seeds(runs.merge(ends[[*names, "top_1"]], how="left"), values=["top_1"])
    arms = runs[points(runs)].drop_duplicates(ignore_index=True)
    return arms.merge(summed[[*point(runs), "n", "diverged", "at_chance"]])


def first_seeds(table: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of one run of each arm: its lowest seed, of a finished run if there is one."""
    runs = table[identified(table)].drop_duplicates(ignore_index=True)
    runs = runs.assign(lost=runs["status"] != "finished").sort_values(["lost", "seed"], kind="stable")
    return table.merge(runs.drop_duplicates(points(table))[identified(table)])


def over_time(
    table: pd.DataFrame,
    values: Mapping[str, str],
    counted: pd.DataFrame,
    *,
    x: str = "step",
    by: Sequence[str] = (),
    log: bool = False,
) -> pd.DataFrame:
    """Return a row per arm, measure and x: `y` and `std` over the finished runs, and rows of diverged runs.

    `table` is described, and `values` are the names of measures by its columns. The band from `low` to `high`
    is one standard deviation to either side; with `log`, both it and y are those of the logarithms of values
    above 0, and `std` is missing. The rows of a diverged run have its `seed`, and end where its y, and its
    loss, are finite for the last time. `counted` comes from `counts`.
    """
    kept = points(table)
    long = pd.concat(
        [
            table.assign(measure=name, x=table[x], y=table[column].astype(float))
            for column, name in values.items()
        ],
        ignore_index=True,
    ).dropna(subset=["x", "y"])
    if log:
        long = long[long["y"] > 0]
    finished = long["status"] == "finished"
    names = [*kept, "measure", *by, "x"]
    runs = long[finished]
    runs = runs.assign(y=np.log(runs["y"])) if log else runs
    means = runs.groupby(names, sort=False, dropna=False)["y"].agg(["mean", "std"]).reset_index()
    bands = {"y": means["mean"], "low": means["mean"] - means["std"], "high": means["mean"] + means["std"]}
    if log:
        bands = {name: np.exp(edge) for name, edge in bands.items()} | {"std": np.nan}
    means = means.drop(columns="mean").assign(**bands, seed=np.nan)
    lost = long[~finished & np.isfinite(long["y"])]
    lost = lost[np.isfinite(lost["loss"])] if "loss" in lost else lost
    found = pd.concat([means, lost[[*names, "y", "seed"]]])
    return found.merge(counted, how="left", on=kept)


def final(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run, diverged ones without any test included: its final test row, if there is one."""
    runs = metrics[named(metrics)].drop_duplicates(ignore_index=True)
    return runs.merge(finals(metrics), on=named(metrics), how="left")


def against_plain(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run: when it reaches the plain network's best test accuracy, beside that network.

    The plain network has no normalisation; of its learning rates with the most finished runs, that with the
    best mean counts. Runs are paired by their seed. `best` is a run's best test accuracy in percent, and
    `top_1` its last; `target` is the plain run's best, which a run has `reached` at a step, and the plain one
    after `plain`, as `first_step` tells. `ratio` is plain / reached. What does not exist is missing. Settings
    and arms are `described` with rates.
    """
    names = run(metrics)
    tests = metrics[metrics["split"] == "test"].assign(step=time)
    runs = described(final(metrics), rates=True)
    runs = runs.merge(tests.groupby(names, dropna=False)["top_1"].max().rename("best").reset_index(), "left")
    plain = runs[(runs["normalisation"] == NONE) & (runs["status"] == "finished")]
    chosen = plain.groupby(["setting", "training"])["best"].agg(["count", "mean"]).reset_index()
    chosen = chosen.sort_values(["count", "mean"]).drop_duplicates("setting", keep="last")
    plain = plain.merge(chosen[["setting", "training"]])
    pair = ["setting", "seed"]
    runs = runs.merge(plain[[*pair, "best"]].rename(columns={"best": "target"}).drop_duplicates(pair), "left")
    tests = tests.merge(runs[[*names, "target"]])
    if tests.empty:
        runs = runs.assign(reached=np.nan)
    else:
        reached = tests.groupby(names, dropna=False)[["step", "top_1", "target"]].apply(
            lambda its: first_step(its, its["target"].iloc[0])
        )
        runs = runs.merge(reached.rename("reached").reset_index(), "left")
    plain = runs.merge(plain[names])[[*pair, "reached"]].rename(columns={"reached": "plain"})
    runs = runs.merge(plain.drop_duplicates(pair), "left")
    return runs.assign(ratio=runs["plain"] / runs["reached"])


def at_places(table: pd.DataFrame, places: Mapping[str, float]) -> pd.DataFrame:
    """Return a described table's rows of some layers, with the `place` of each and the `layer` in words.

    A place is a share of the way from the first recorded layer of a setting to its last.
    """
    found = []
    for _, rows in table.dropna(subset="number").groupby("setting", sort=False):
        layers = sorted(rows["number"].unique())
        for place, share in places.items():
            number = layers[round(share * (len(layers) - 1))]
            words = f"layer {number + 1:.0f}"
            found.append(rows[rows["number"] == number].assign(place=place, layer=words))
    return pd.concat(found, ignore_index=True) if found else table.head(0).assign(place="", layer="")
