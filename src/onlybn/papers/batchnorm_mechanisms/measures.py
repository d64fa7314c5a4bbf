"""What is measured on the tables of recordings, without drawing: for figures, tables and claims."""

import math
from collections.abc import Sequence
from functools import reduce

import numpy as np
import pandas as pd
from scipy.interpolate import pchip_interpolate
from scipy.ndimage import gaussian_filter1d

from onlybn.drawing.summaries import by_run, point, run
from onlybn.observers.inputs import PERCENTS

# The parts of training that are judged apart, as shares of its steps.
EARLY, LATE = 0.2, 0.8
TRAINED = 80.0  # percent of training accuracy that [S] 2.1 counts as learned
WINDOW = 5  # recorded points, over which a curve is smoothed


def named(table: pd.DataFrame) -> list[str]:
    """Return the columns that name a run, its training, and its learning `rate` if the table has it."""
    return [*dict.fromkeys([*run(table), "training", *(name for name in ("rate",) if name in table)])]


def progress(rows: pd.DataFrame) -> pd.Series:
    """Return the share of its training that a run had behind it at each row."""
    return rows["step"] / length(rows).clip(lower=1)


def length(rows: pd.DataFrame) -> pd.Series:
    """Return how many steps the training of each row's run has.

    Where it is counted in epochs, the last `step` recorded of any replicate counts as the end.
    """
    longest = rows.groupby(point(rows), dropna=False)["step"].transform("max")
    return rows["steps"].where(rows["steps"] > 0, longest) if "steps" in rows else longest


def early(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the first fifth of training."""
    return rows[progress(rows) < EARLY]


def late(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of the last fifth of training."""
    return rows[progress(rows) >= LATE]


def smoothed(table: pd.DataFrame, column: str = "top_1", window: int = WINDOW) -> pd.Series:
    """Return each run's centred mean over `window` recorded points, of 3 and of 1 at the ends.

    Points after a run diverged keep their value, and are in the mean of no other.
    """
    values = table[column].astype(float)
    finite = np.isfinite(table["loss"].astype(float)) if "loss" in table else values.notna()
    in_order = table.assign(**{column: values.where(finite)}).sort_values("step", kind="stable")
    means = in_order.groupby(run(table), sort=False, dropna=False)[column].transform(
        lambda its: _centred(its, window)
    )
    return means.reindex(table.index).where(finite, values)


def _centred(values: pd.Series, window: int) -> pd.Series:
    """Return centred means over a window that shrinks towards the ends, which keep their values."""
    means = (values.rolling(width, center=True).mean() for width in range(window, 1, -2))
    return reduce(pd.Series.fillna, [*means, values])


def first_step(rows: pd.DataFrame, accuracy: float) -> float:
    """Return the step at which the `top_1` of a run's rows first reaches `accuracy`, or NaN.

    Between recorded steps, and from 0 at step 0 to the first of them, accuracy is a straight line.
    """
    rows = rows.sort_values("step", kind="stable")
    steps, values = ([0.0, *rows[name].astype(float)] for name in ("step", "top_1"))
    place = next((place for place, value in enumerate(values) if place and value >= accuracy), None)
    if place is None:
        return math.nan
    return float(np.interp(accuracy, values[place - 1 : place + 1], steps[place - 1 : place + 1]))


def bands(landscape: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run, step and direction (`gradient`, or `random` for all of them) of the landscape.

    Over the probed factors, 0 left out: `loss_low` and `loss_high`; the same with the decay term as
    `decayed_low` and `decayed_high`; `change_low` and `change_high` of ‖∇L(W − ηd) − g‖; and the effective
    `beta`, the largest. `spread` is log(decayed_high / decayed_low), `relative_change` is change_high / ‖g‖,
    `rate_beta` is β times the learning rate. A value that is not finite counts as infinite.
    """
    table = landscape.dropna(subset=["step", "factor"])
    found = table[table["factor"] > 0]
    probed = ["loss", "gradient_change", "beta"]
    found = found.assign(
        direction=found["direction"].str.replace(r"-\d+$", "", regex=True),
        **found[probed].astype(float).fillna(np.inf),
    )
    found["decayed"] = found["loss"] + found["decay"].fillna(0.0)
    names = [*named(table), "step", "direction"]
    found = (
        found.groupby(names, sort=False, dropna=False)
        .agg(
            **{
                f"{name}_{edge}": (column, function)
                for name, column in (("loss", "loss"), ("decayed", "decayed"), ("change", "gradient_change"))
                for edge, function in (("low", "min"), ("high", "max"))
            },
            gradient_norm=("gradient_norm", "first"),
            learning_rate=("learning_rate", "first"),
            beta=("beta", "max"),
        )
        .reset_index()
    )
    with np.errstate(divide="ignore", invalid="ignore"):
        return found.assign(
            spread=np.log(found["decayed_high"] / found["decayed_low"]),
            relative_change=found["change_high"] / found["gradient_norm"],
            rate_beta=found["learning_rate"] * found["beta"],
        )


# What is summarised of a part of training: the column of `bands`, and the quantile over its steps.
QUANTILES = {"spread": 0.5, "relative_change": 0.5, "beta": 0.9, "rate_beta": 0.5}


def early_and_late(landscape: pd.DataFrame, direction: str = "gradient") -> pd.DataFrame:
    """Return a row per run: quantiles over the first and the last fifth of training, along a direction.

    The columns are `early_` and `late_` with the names of QUANTILES. Runs without rows have missing values.
    """
    table = bands(landscape)
    table = table[table["direction"] == direction]
    names = named(landscape)
    runs = landscape[names].drop_duplicates()
    for name, rows in (("early", early(table)), ("late", late(table))):
        quantiles = rows.groupby(names, dropna=False)[[*QUANTILES]].agg(
            lambda values: _quantile(values, QUANTILES[values.name])
        )
        runs = runs.merge(quantiles.add_prefix(f"{name}_").reset_index(), on=names, how="left")
    return runs


def _quantile(values: pd.Series, share: float) -> float:
    with np.errstate(invalid="ignore"):  # between two infinite values
        found = values.fillna(np.inf).quantile(share)
    return math.inf if math.isnan(found) else float(found)


def percentiles(inputs: pd.DataFrame, column: str, percents: Sequence[float]) -> pd.DataFrame:
    """Return a row for each of the recording `inputs` and percent, with `percent` and its `value`.

    `column` is `unit_percentiles` or `all_percentiles`; between recorded percentiles, lines are straight.
    """
    table = inputs.dropna(subset=column)
    values = [np.interp(percents, PERCENTS, found) for found in table[column]]
    columns = np.array(values).reshape(-1, len(percents)).T
    return pd.concat([table.assign(percent=p, value=v) for p, v in zip(percents, columns, strict=True)])


def drift(inputs: pd.DataFrame) -> pd.DataFrame:
    """Return the recording `inputs` with `mean_drift` and `variance_drift`.

    They are the mean over the recorded units of the absolute change since the first recorded step.
    """
    found = []
    for _, rows in by_run(inputs.dropna(subset="step"), [*run(inputs), "number"]):
        rows = rows.sort_values("step", kind="stable")
        for name in ("mean", "variance"):
            values = np.vstack(rows[f"{name}s"].to_numpy()).astype(float)
            rows[f"{name}_drift"] = np.abs(values - values[0]).mean(axis=1)
        found.append(rows)
    return pd.concat(found) if found else inputs.assign(mean_drift=math.nan, variance_drift=math.nan)


def density(percents: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Return the density of a distribution in the cells between `edges`, from some of its percentiles.

    The share below a value is a monotone curve through the percentiles; outside of them is nothing. It is
    smoothed over about a cell to either side and integrates to 1 if the edges reach beyond the percentiles.
    """
    shares = (np.asarray(percents, float) - percents[0]) / (percents[-1] - percents[0])
    apart = 1e-6 * np.arange(len(shares)) * (edges[1] - edges[0])  # equal percentiles would have no curve
    inner = np.asarray(values, float) + apart
    below = pchip_interpolate(inner, shares, np.clip(edges, inner[0], inner[-1]))
    return gaussian_filter1d(np.diff(below) / np.diff(edges), 1.0, mode="constant")
