"""The claims about what BatchNorm does, each with its published value and how it is measured.

[I] is Ioffe and Szegedy (2015), [S] Santurkar et al. (2018), [H] a blog. Runs are paired by their seed; a
comparison is of runs that are alike in all but what it compares. The early part of a run is its first fifth:
later, the effective β of [S] tends to 2 / learning rate whatever normalises.
"""

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from onlybn.axes import NORMALISATION, OPTIONAL, RECIPE
from onlybn.drawing.queries import Measured
from onlybn.drawing.summaries import finals, stuck
from onlybn.judging import ANY, NEGATIVE, OWN, POSITIVE, UNNAMED, Claim, Estimate, Estimates
from onlybn.observers.inputs import PERCENTS
from onlybn.papers.batchnorm_mechanisms.arms import against_plain, at_places, described, time, whole_time
from onlybn.papers.batchnorm_mechanisms.figures.batch_size import by_group
from onlybn.papers.batchnorm_mechanisms.figures.evaluation import explosions
from onlybn.papers.batchnorm_mechanisms.figures.gradient_shift import PLACES
from onlybn.papers.batchnorm_mechanisms.measures import (
    TRAINED,
    bands,
    early,
    early_and_late,
    first_step,
    length,
    named,
    smoothed,
)
from onlybn.papers.batchnorm_mechanisms.published import PUBLISHED

__all__ = ["CLAIMS", "PUBLISHED"]

Estimator = Callable[[Measured], Estimates]
Chooser = Callable[[pd.DataFrame], pd.Series]
BATCHNORM, NONE, NOISY, NORMS = "batchnorm", "none", "batchnorm-noisy", ("l1", "l2", "linf")

# Accuracy of tests, in percent, that counts as learned in [I] 4.1.
LEARNED = 90.0
# What counts as no worse in points, as similar in cosine and in the logarithm of a ratio (this project's).
NO_WORSE, SIMILAR_COSINE, SIMILAR_SIZE = -0.5, 0.05, math.log(0.9)
# What stands for an infinite value where logarithms are compared.
LARGEST = float(np.finfo(np.float32).max)
# What runs of a comparison have in common; and but for their training.
SETTING = ["dataset", "architecture", "regime", "variant"]
ALIKE = [*SETTING, "training"]
# Axes on which claims are about neutral runs alone.
OTHERS = [axis for axis in OPTIONAL if axis not in (NORMALISATION, RECIPE)]


def of(*families: str) -> Chooser:
    """Choose the runs of families of networks."""
    return lambda rows: rows["family"].isin(families)


SIGMOID_MLPS, DEEP_LINEAR = of("mlp-sigmoid"), of("deep-linear")
VGGS = of("vgg", "vgg-half")
VGGS_AND_SIGMOID = of("vgg", "vgg-half", "vgg-sigmoid", "vgg-half-sigmoid")


def every_run(rows: pd.DataFrame) -> pd.Series:
    """Choose every run."""
    return pd.Series(True, index=rows.index)


# tables with a row per run, and their comparison


def _table(measured: Measured, kind: str) -> pd.DataFrame:
    """Return the rows of a collected table that claims are about, each with its normalisation and rate."""
    table = measured.tables.get(kind)
    for axis in OTHERS:
        if table is not None and axis.name in table:
            table = table[table[axis.name] == axis.default]
    if table is None or table.empty:
        return pd.DataFrame(columns=[*ALIKE, "seed", "status", "normalisation", "rate", "step"])
    return described(table)


def _per_run(
    table: pd.DataFrame, measure: Callable[[pd.DataFrame], float], by: Sequence[str] = ()
) -> pd.DataFrame:
    """Return a row per run, and per value of the columns `by`, with `value`: what `measure` finds."""
    if table.empty:
        return table.assign(value=np.nan, **dict.fromkeys(by))
    groups = table.groupby([*named(table), *by], sort=False, dropna=False, observed=True)
    return groups.apply(measure, include_groups=False).rename("value").reset_index()


def _compared(
    runs: pd.DataFrame, one: str, other: str, by: Sequence[str] = ()
) -> Iterator[tuple[str, str, pd.DataFrame]]:
    """Yield label, network, and the values of two normalisations by seed, for runs that are alike."""
    for names, rows in runs.groupby([*ALIKE, *by], sort=False, observed=True):
        network, extra = names[1], names[len(ALIKE) :]
        found = rows.pivot_table(index="seed", columns="normalisation", values="value", dropna=False)
        if {one, other} <= set(found.columns):
            rates = runs.loc[runs["architecture"] == network, "rate"].nunique()
            words = [network, *([f"rate {rows['rate'].iloc[0]:g}"] if rates > 1 else []), *map(str, extra)]
            yield " ".join(words), network, found[[one, other]].rename(columns={one: "one", other: "other"})


def _differences(
    runs: pd.DataFrame, one: str, other: str, allowed: tuple[float, float], by: Sequence[str] = ()
) -> Estimates:
    for label, network, pair in _compared(runs, one, other, by):
        yield Estimate(
            f"{label} {one} − {other}", (pair["one"] - pair["other"]).dropna().tolist(), allowed, network
        )


def _tests(measured: Measured) -> pd.DataFrame:
    metrics = _table(measured, "metrics")
    return metrics[metrics["split"] == "test"].assign(step=time) if len(metrics) else metrics


def _curves(measured: Measured) -> pd.DataFrame:
    """Return the training accuracy of batches, smoothed."""
    table = _table(measured, "curve")
    if table.empty:
        return table
    return measured.once("curves", lambda: table.assign(top_1=smoothed(table)))


def _finals(measured: Measured, named: Sequence[str] | None = None) -> pd.DataFrame:
    """Return the final test accuracy of finished runs, as `value`: of all normalisations, or of these."""
    table = _table(measured, "metrics")
    last = finals(table) if len(table) else table.assign(status="", top_1=np.nan)
    if named is not None:
        last = last[last["normalisation"].isin(named)]
        measured.leave_out(last)
    return last[last["status"] == "finished"].assign(value=last["top_1"])


def _whether(of: str, values: list[float], network: str) -> Estimate:
    """Claim of every run that it does what `of` says: values of 1 do, those of 0 do not."""
    return Estimate(of, values, (0.5, 1.5), network, every=True, whether=True)


def _fails(measured: Measured) -> pd.DataFrame:
    """Return a row per run with `value` 1 where it diverged or ends at chance, or else 0."""
    table = _table(measured, "metrics")
    last = finals(table) if len(table) else table.assign(status="", top_1=np.nan)
    lost = (last["status"] != "finished") | (stuck(last) if len(last) else False)
    return last.assign(value=lost.astype(float))


# accuracy and speed


def sooner(table: Callable[[Measured], pd.DataFrame], level: float, name: str = BATCHNORM) -> Estimator:
    """Claim that networks reach an accuracy in fewer steps with a normalisation: the ratio is above 1.

    A run that never reaches it, or diverges, counts with the whole length of its training, if the other one
    does reach it, and is told: the ratio is a bound then. A pair of which neither does says nothing.
    """

    def estimate(measured: Measured) -> Estimates:
        rows = table(measured)
        rows = rows[rows["normalisation"].isin((NONE, name))]
        if rows.empty:
            return
        runs = _per_run(rows, lambda run: first_step(run, level))
        whole = _per_run(rows.assign(whole=length(rows)), lambda run: run["whole"].iloc[0])["value"]
        first = runs["value"].where(runs["status"] == "finished")
        runs = runs.assign(reaches=first.notna(), value=first.fillna(whole))
        runs = runs[runs.groupby([*ALIKE, "seed"], observed=True)["reaches"].transform("any")]
        never = runs.assign(value=1.0 - runs["reaches"])
        both = zip(_compared(runs, NONE, name), _compared(never, NONE, name), strict=True)
        for (label, network, pair), (*_, lost) in both:
            steps = pair.dropna().clip(lower=1)
            ratios = (steps["one"] / steps["other"]).tolist()
            lost = lost.loc[steps.index]
            of = f"{label} {NONE} / {name}{_never({NONE: lost['one'], name: lost['other']})}"
            yield Estimate(of, ratios, (1, math.inf), network, every=True)

    return estimate


def _never(lost: Mapping[str, pd.Series]) -> str:
    """Say how many of each normalisation's runs never reach the accuracy, in brackets, if any."""
    told = [f"{its.sum():.0f} of {len(its)} {name} never do" for name, its in lost.items() if its.sum()]
    return f" ({', '.join(told)})" if told else ""


def ends_higher(measured: Measured) -> Estimates:
    """Claim that BatchNorm's final accuracy is higher, at equal rates and at each arm's best rate."""
    runs = _finals(measured, (BATCHNORM, NONE))
    yield from _differences(runs, BATCHNORM, NONE, POSITIVE)
    yield from at_best(runs, BATCHNORM, NONE, POSITIVE)


def at_best(runs: pd.DataFrame, one: str, other: str, allowed: tuple[float, float]) -> Estimates:
    """Compare two normalisations, each at the training of its highest mean, where there are several."""
    for (_, network, *_), rows in runs.groupby(SETTING, sort=False, observed=True):
        found = {}
        for name in (one, other):
            means = rows[rows["normalisation"] == name].groupby("training")["value"].agg(["mean", "count"])
            means = means.loc[means["count"] == means["count"].max(), "mean"]
            if rows.loc[rows["normalisation"] == name, "training"].nunique() > 1:
                found[name] = rows[(rows["normalisation"] == name) & (rows["training"] == means.idxmax())]
        if len(found) == 2:
            first, second = (found[name].set_index("seed") for name in (one, other))
            rates = [f"rate {runs['rate'].iloc[0]:g}" for runs in (first, second)]
            of = f"{network} best {one} ({rates[0]}) − best {other} ({rates[1]})"
            yield Estimate(of, (first["value"] - second["value"]).dropna().tolist(), allowed, network)


def paired(
    one: str, other: str, allowed: tuple[float, float] = POSITIVE, *, multiple: float | None = None
) -> Estimator:
    """Claim that final test accuracies of two normalisations differ by points in a range.

    It is claimed at every rate, or at a multiple of the study's own. A pair of which the other ends at
    chance says nothing of how well networks test, as if it had diverged.
    """

    def estimate(measured: Measured) -> Estimates:
        runs = _finals(measured, (one, other))
        if len(runs):
            runs = runs[~((runs["normalisation"] == other) & stuck(runs))]
        if multiple is not None:
            runs = _by_rate(runs)
            runs = runs[runs["multiple"] == multiple]
        return _differences(runs, one, other, allowed)

    return estimate


def all_of(parts: Mapping[str, Estimator]) -> Estimator:
    """Claim several things of each network, by what they are; what was not measured of one is lacking."""

    def estimate(measured: Measured) -> Estimates:
        found = {part: list(estimator(measured)) for part, estimator in parts.items()}
        networks = dict.fromkeys(one.network for some in found.values() for one in some if one.values)
        for part, estimates in found.items():
            yield from estimates
            there = {one.network for one in estimates}
            yield from (Estimate(f"{name} {part}", [], OWN, name) for name in networks if name not in there)

    return estimate


def _by_rate(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs that differ from the study's own training in their learning rate at most.

    `multiple` is their rate by the study's own, which is the plain network's best.
    """
    if runs.empty:
        return runs.assign(multiple=np.nan)
    rest = {
        text: json.dumps(json.loads(text) | {"learning_rate": None}) for text in runs["training"].unique()
    }
    runs = runs.assign(rest=runs["training"].map(rest))
    own = runs[runs[RECIPE.name] == RECIPE.default] if RECIPE.name in runs else runs
    alike = ["dataset", "architecture", "rest"]
    runs = runs.merge(own.groupby(alike, observed=True)["rate"].min().rename("own").reset_index(), on=alike)
    return runs.assign(multiple=(runs["rate"] / runs["own"]).astype(float).round(2)).drop(
        columns=["rest", "own"]
    )


def _without_sigmoids(runs: pd.DataFrame) -> pd.DataFrame:
    return runs[~runs["architecture"].astype(str).str.endswith("sigmoid")]


def at_multiple(part: str, name: str, multiple: float, trains: bool) -> Estimator:
    """Claim that a normalisation trains, or fails, at a multiple of the study's rate; `part` says so."""

    def estimate(measured: Measured) -> Estimates:
        runs = _by_rate(_without_sigmoids(_fails(measured)))
        runs = runs[(runs["normalisation"] == name) & (runs["multiple"] == multiple)]
        for (_, network, *_), rows in runs.groupby(SETTING, observed=True):
            does = (1 - rows["value"] if trains else rows["value"]).tolist()
            yield _whether(f"{network} {part}", does, network)

    return estimate


def rates(*arms: tuple[str, float, bool]) -> dict[str, Estimator]:
    """Return a part of a claim for each normalisation, multiple of the rate, and whether it trains."""
    parts = {f"{arm[0]} ×{arm[1]:g} {'trains' if arm[2] else 'fails'}": arm for arm in arms}
    return {part: at_multiple(part, *arm) for part, arm in parts.items()}


def reaches_plains_best(measured: Measured) -> Estimates:
    """Claim that BatchNorm reaches the plain network's best accuracy in fewer steps, ×5 in fewer than ×1.

    A run that never reaches it, or diverges, counts with the whole length of its training, and is told.
    """
    runs = _by_rate(_without_sigmoids(_table(measured, "metrics")))
    if runs.empty:
        return
    runs = _by_rate(against_plain(runs))
    runs = runs[runs["normalisation"] == BATCHNORM].dropna(subset="target")
    reached = runs["reached"].where(runs["status"] == "finished")
    ratio = runs["plain"].clip(lower=1) / reached.fillna(whole_time(runs)).clip(lower=1)
    runs = runs.assign(ratio=ratio, never=reached.isna())
    for (_, network, *_), rows in runs.groupby(SETTING, observed=True):
        ratios = rows.pivot_table(index="seed", columns="multiple", values="ratio")
        ratios = ratios.reindex(columns=[1, 5, 30])
        for multiple, values in ratios.items():
            never = rows.loc[rows["multiple"] == multiple, "never"]
            of = f"{network} steps of {NONE} / {BATCHNORM} ×{multiple:g}{_never({BATCHNORM: never})}"
            yield Estimate(of, values.dropna().tolist(), (1, math.inf), network, every=True)
        values = np.log(ratios[5] / ratios[1]).dropna().tolist()
        yield Estimate(f"{network} log of ×5's ratio / ×1's", values, POSITIVE, network)


def best_is_no_worse(measured: Measured) -> Estimates:
    """Claim that BatchNorm's best accuracy, over rates and tests, is no worse than the plain network's."""
    tests = _by_rate(_without_sigmoids(_tests(measured)))
    tests = tests[tests["status"] == "finished"]
    runs = _per_run(tests, lambda rows: rows["top_1"].max())
    for (_, network, *_), rows in runs.groupby(SETTING, observed=True):
        best = rows.groupby(["normalisation", "seed"])["value"].max().unstack(0)
        if {BATCHNORM, NONE} <= set(best):
            values = (best[BATCHNORM] - best[NONE]).dropna().tolist()
            yield Estimate(f"{network} {BATCHNORM} − {NONE}", values, (NO_WORSE, math.inf), network)


def plain_sigmoid_fails(measured: Measured) -> Estimates:
    """Claim that a sigmoid network without normalisation ends at chance."""
    fails = _fails(measured)
    fails = fails[
        fails["architecture"].astype(str).str.endswith("-sigmoid") & (fails["normalisation"] == NONE)
    ]
    for (_, network, *_, rate), rows in fails.groupby([*SETTING, "rate"], observed=True):
        of = f"{network} {NONE} rate {rate:g} at chance"
        yield _whether(of, rows["value"].tolist(), network)


def sigmoid_nears_relu(measured: Measured) -> Estimates:
    """Claim that with BatchNorm a sigmoid network ends above half of a ReLU network's accuracy."""
    ends = _finals(measured)
    ends = ends[ends["normalisation"] == BATCHNORM]
    names = ends["architecture"].astype(str)
    sigmoid = names.str.endswith("-sigmoid")
    own = ends[sigmoid].assign(relu=names[sigmoid].str.removesuffix("-sigmoid"))
    others = ends[~sigmoid].rename(columns={"architecture": "relu"})
    alike = ["relu", "dataset", "regime", "variant", "training", "seed"]
    pair = own.merge(others[[*alike, "value"]], on=alike)
    for (_, network, *_, rate), rows in pair.groupby([*ALIKE, "rate"], observed=True):
        of = f"{network} / ReLU, both {BATCHNORM}, rate {rate:g}"
        shares = (rows["value_x"] / rows["value_y"]).tolist()
        yield Estimate(of, shares, (0.5, math.inf), network, every=True)


def at_chance(name: str) -> Estimator:
    """Claim that every run of a normalisation ends at chance, or diverges."""

    def estimate(measured: Measured) -> Estimates:
        runs = _fails(measured)
        runs = runs[runs["normalisation"] == name]
        for (_, network, *_, rate), rows in runs.groupby([*SETTING, "rate"], observed=True):
            of = f"{network} {name} rate {rate:g} at chance"
            yield _whether(of, rows["value"].tolist(), network)

    return estimate


def noise_hardly_matters(measured: Measured) -> Estimates:
    """Claim that BatchNorm gains early training accuracy, of which noise loses under a quarter."""
    table = _curves(measured)
    runs = _per_run(early(table) if len(table) else table, lambda rows: rows["top_1"].mean())
    gains = {label: pair["one"] - pair["other"] for label, _, pair in _compared(runs, BATCHNORM, NONE)}
    for label, network, pair in _compared(runs, BATCHNORM, NOISY):
        if label in gains:
            yield Estimate(f"{label} early gain (points)", gains[label].dropna().tolist(), POSITIVE, network)
            share = ((pair["one"] - pair["other"]) / gains[label]).dropna().tolist()
            yield Estimate(f"{label} share lost", share, (-math.inf, 0.25), network)


def tolerated_rates(measured: Measured) -> Estimates:
    """Claim that more rates 0.01 · 2ᵏ reach 80 % training accuracy with BatchNorm.

    Of the rates that were run with BatchNorm and without; they are three at least.
    """
    table = _curves(measured)
    doublings = np.log2(table["rate"].astype(float) / 0.01)
    table = table[np.isclose(doublings, doublings.round())]
    runs = _per_run(table, lambda rows: float((rows["top_1"] >= TRAINED).any()))
    for (_, network, *_), rows in runs.groupby(SETTING, observed=True):
        pairs = [pair for *_, pair in _compared(rows, BATCHNORM, NONE)]
        more = [pair["one"] - pair["other"] for pair in pairs]
        if len(more) > 2:
            values = pd.concat(more, axis=1).dropna().sum(axis=1).tolist()
            yield Estimate(f"{network} rates, of {len(more)}", values, (0.5, math.inf), network, every=True)


# distributions of the inputs


def steadier(measured: Measured) -> Estimates:
    """Claim that the percentiles of the last hidden layer's inputs are steadier over time with BatchNorm.

    After 2 % of the steps: the standard deviation of the median, over the mean distance from the 15 % to the
    85 % percentile.
    """
    table = _table(measured, "inputs")
    if table.empty:
        return
    last = table["number"] == table.groupby("architecture")["number"].transform("max")
    measured.leave_out(table[last].drop_duplicates(named(table)))
    table = table[last & (table["status"] == "finished") & (table["step"] >= 0.02 * length(table))]
    for column in ("unit_percentiles", "all_percentiles"):
        runs = _per_run(table, partial(_unsteadiness, column=column))
        words = column.split("_")[0]
        for estimate in _differences(runs, BATCHNORM, NONE, NEGATIVE):
            yield Estimate(f"{estimate.of} ({words})", estimate.values, estimate.range, estimate.network)


def _unsteadiness(rows: pd.DataFrame, column: str) -> float:
    found = np.array([np.interp((15, 50, 85), PERCENTS, values) for values in rows[column]])
    return float(found[:, 1].std() / (found[:, 2] - found[:, 0]).mean())


def less_stable(first: str, second: str) -> Estimator:
    """Claim that a step moves the means and variances of every layer's inputs more with one normalisation."""

    def estimate(measured: Measured) -> Estimates:
        for column in ("mean_step", "variance_step"):
            runs = _per_run(_table(measured, "inputs"), lambda rows, of=column: rows[of].mean(), ["number"])
            found: dict[tuple[str, str], list[pd.Series]] = {}
            for label, network, pair in _compared(runs, first, second, ["number"]):
                ratio = np.log(pair["one"] / pair["other"])
                found.setdefault((label.rsplit(" ", 1)[0], network), []).append(ratio)
            for (label, network), layers in found.items():
                least = pd.concat(layers, axis=1).min(axis=1).dropna().tolist()
                of = f"{label} {column.replace('_', ' ')}, least log of {first} / {second} over layers"
                yield Estimate(of, least, POSITIVE, network)

    return estimate


def drift(measured: Measured) -> Estimates:
    """Claim that plain units' means and standard deviations drift less than twice as much as BatchNorm's.

    Drift: the standard deviation over time of a unit's mean, over the unit's own standard deviation; the
    median over units, by layer.
    """
    table = _table(measured, "inputs")
    if table.empty:
        return
    for word, measure in (("mean", _drift_of_mean), ("deviation", _drift_of_deviation)):
        runs = _per_run(table, measure, ["number"])
        runs = runs.assign(layer=[f"layer {number + 1:.0f}" for number in runs["number"]])
        for label, network, pair in _compared(runs, NONE, BATCHNORM, ["layer"]):
            ratio = (pair["one"] / pair["other"]).dropna().tolist()
            yield Estimate(f"{label} {word}", ratio, (0, 2), network)


def _units(rows: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return means and standard deviations, (steps, units)."""
    means, variances = (np.array(rows[column].tolist(), float) for column in ("means", "variances"))
    return means, np.sqrt(np.maximum(variances, 0))


def _drift_of_mean(rows: pd.DataFrame) -> float:
    means, deviations = _units(rows)
    return float(np.median(means.std(axis=0) / deviations.mean(axis=0)))


def _drift_of_deviation(rows: pd.DataFrame) -> float:
    _, deviations = _units(rows)
    return float(np.median(deviations.std(axis=0) / deviations.mean(axis=0)))


# internal covariate shift as change of gradient


def _shifts(measured: Measured, column: str) -> pd.DataFrame:
    """Return early medians of a column of `gradient-shift`, as `value`, for a middle and a late layer."""
    table = _table(measured, "gradient-shift")
    if table.empty:
        return table.assign(value=np.nan, place="")
    layers = at_places(table, PLACES)
    return _per_run(early(layers), lambda rows: rows[column].median(), ["place"])


def shift_is_no_smaller(measured: Measured) -> Estimates:
    """Claim that BatchNorm's gradient shift is similar or larger: cosine no higher, relative size no less."""
    yield from _differences(
        _shifts(measured, "cosine"), BATCHNORM, NONE, (-math.inf, SIMILAR_COSINE), ["place"]
    )
    sizes = _shifts(measured, "relative")
    logs = sizes.assign(value=np.log(sizes["value"].astype(float)))
    for estimate in _differences(logs, BATCHNORM, NONE, (SIMILAR_SIZE, math.inf), ["place"]):
        yield Estimate(f"{estimate.of}, log of size", estimate.values, estimate.range, estimate.network)


def _slowly(runs: pd.DataFrame) -> pd.DataFrame:
    """Return the runs at the lower rate of the deep linear network, 1e-7."""
    return runs[np.isclose(runs["rate"].astype(float), 1e-7)]


def shifts_only_with_it(measured: Measured) -> Estimates:
    """Claim of the deep linear network at 1e-7: a shift of the gradient only with BatchNorm."""
    cosines = _slowly(_shifts(measured, "cosine"))
    plain = cosines[cosines["normalisation"] == NONE]
    for (_, network, *_, place), rows in plain.groupby([*SETTING, "place"], observed=True):
        yield Estimate(f"{network} {NONE} cosine, {place}", rows["value"].tolist(), (0.95, 1.01), network)
    yield from _differences(cosines, BATCHNORM, NONE, NEGATIVE, ["place"])


def fits_better(measured: Measured) -> Estimates:
    """Claim that the deep linear network's loss ends lower with BatchNorm at 1e-7."""
    return _log_ratios(_slowly(_ends(measured)), BATCHNORM, NONE, NEGATIVE, "loss")


def _ends(measured: Measured) -> pd.DataFrame:
    """Return the last loss of each run's curve, as `value`; of a run that diverged it is infinite."""
    runs = _per_run(_table(measured, "curve"), lambda rows: rows.sort_values("step")["loss"].iloc[-1])
    return runs.assign(value=runs["value"].where(runs["status"] == "finished", math.inf))


def _log_ratios(
    runs: pd.DataFrame, one: str, other: str, allowed: tuple[float, float], what: str
) -> Estimates:
    """Claim the logarithm of a ratio, of which an infinite value counts as the largest number of float32."""
    finite = runs.assign(value=runs["value"].astype(float).clip(upper=LARGEST))
    for label, network, pair in _compared(finite, one, other):
        values = np.log(pair["one"] / pair["other"]).dropna().tolist()
        yield Estimate(f"{label} log of {what}, {one} / {other}", values, allowed, network)


# the loss landscape


GRADIENT, RANDOM = "gradient", "random"


def _probed(measured: Measured, column: str, direction: str = GRADIENT) -> pd.DataFrame:
    """Return a column of `early_and_late` for each run, as `value`."""
    table = _table(measured, "landscape")
    if table.empty:
        return table.assign(value=np.nan)
    runs = measured.once(f"early and late, {direction}", lambda: early_and_late(table, direction))
    return runs.assign(value=runs[column])


def smoother(
    column: str,
    name: str = BATCHNORM,
    *,
    factor: float = 1,
    rate: float | None = None,
    direction: str = GRADIENT,
) -> Estimator:
    """Claim that an early measure of the landscape is smaller than without normalisation, by a factor.

    It is claimed at every rate, or at one.
    """

    def estimate(measured: Measured) -> Estimates:
        runs = _probed(measured, f"early_{column}", direction)
        if rate is not None:
            runs = runs[np.isclose(runs["rate"].astype(float), rate)]
        return _log_ratios(runs, name, NONE, (-math.inf, -math.log(factor)), column.replace("_", " "))

    return estimate


def changes_less(name: str = BATCHNORM) -> Estimator:
    """Claim that the early change of the gradient along a step is smaller than without normalisation."""

    def estimate(measured: Measured) -> Estimates:
        table = _table(measured, "landscape")
        if table.empty:
            return
        runs = measured.once("early change", lambda: _changes(table))
        yield from _log_ratios(runs, name, NONE, NEGATIVE, "‖Δg‖")

    return estimate


def _changes(landscape: pd.DataFrame) -> pd.DataFrame:
    """Return each run's early change of the gradient along a step, as `value`."""
    found = bands(landscape)
    found = found[found["direction"] == "gradient"]
    return _per_run(early(found), lambda rows: rows["change_high"].median())


def edge_of_stability(measured: Measured) -> Estimates:
    """Claim that the late β is about 2 / learning rate, with BatchNorm or without.

    A deep linear network without BatchNorm may be on a plateau, where β is far below.
    """
    runs = _probed(measured, "late_rate_beta")
    on_plateaus = set(runs["architecture"][DEEP_LINEAR(runs)]) if len(runs) else set()
    for (_, network, *_, name, rate), rows in runs.groupby(
        [*SETTING, "normalisation", "rate"], observed=True
    ):
        if name in (BATCHNORM, NONE):
            values = rows["value"].clip(upper=LARGEST).dropna().tolist()
            lowest = -math.inf if name == NONE and network in on_plateaus else 1.8
            yield Estimate(f"{network} {name} rate {rate:g}", values, (lowest, 2.5), network)


# ℓp norms, and the identity


def trains_alike(name: str) -> dict[str, Estimator]:
    """Return the parts of a claim: a normalisation trains faster than none, in a smoother landscape."""
    parts = {f"{name} steps to 80 %": sooner(_curves, TRAINED, name)}
    parts |= {f"{name} ‖Δg‖": changes_less(name)}
    parts |= {f"{name} {column}": smoother(column, name) for column in ("spread", "relative_change", "beta")}
    return parts


def ends_lower(one: str, other: str) -> Estimator:
    """Claim that the loss ends lower with one normalisation than with another."""
    return lambda measured: _log_ratios(_ends(measured), one, other, NEGATIVE, "loss")


def identity_holds(measured: Measured) -> Estimates:
    """Claim that the identity holds in every layer at every recorded step."""
    table = _table(measured, "identity")
    runs = _per_run(table.dropna(subset="step"), lambda rows: rows["error"].max())
    for network, rows in runs.groupby("architecture"):
        yield Estimate(
            f"{network} largest error", rows["value"].tolist(), (-math.inf, 1e-10), network, exact=True
        )


# groups, and statistics of evaluation


def gap_grows_with_group(measured: Measured) -> Estimates:
    """Claim that the gap of training and test accuracy grows with the size of the normalised group.

    Both are those of one network in evaluation mode. (In training, smaller groups make the accuracy itself
    smaller, and with it the gap.)
    """
    recorded = _table(measured, "generalisation")
    if recorded.empty:
        return
    table = by_group(recorded).dropna(subset="group")
    measured.leave_out(table)
    table = table[table["status"] == "finished"].dropna(subset="gap")
    groups = table.groupby([*ALIKE, "seed"], observed=True)["group"].transform("nunique")
    for names, rows in table[groups > 2].groupby(ALIKE, sort=False, observed=True):
        seeds = rows.groupby("seed")[["group", "gap"]]
        values = seeds.apply(lambda its: its["group"].corr(its["gap"], method="spearman")).dropna()
        yield Estimate(f"{names[1]} rank correlation", values.tolist(), POSITIVE, names[1], every=True)


def statistics_agree(measured: Measured) -> Estimates:
    """Claim that running and re-estimated statistics agree at the end, and differ more in the first epoch."""
    table = _table(measured, "reestimated")
    if table.empty:
        return
    table = table[table["normalisation"] == BATCHNORM]
    if table.empty:
        return
    names = [*named(table), "epoch"]
    wide = table.pivot_table(index=names, columns="statistics", values="top_1", observed=True).reset_index()
    wide = wide.assign(apart=(wide["running"] - wide["pooled"]).abs())
    for (_, network, *_), rows in wide.groupby(ALIKE, sort=False, observed=True):
        by_epoch = rows.pivot(index="seed", columns="epoch", values="apart")
        first, last = by_epoch[by_epoch.columns.min()], by_epoch[by_epoch.columns.max()]
        yield Estimate(
            f"{network} apart at the end (points)", last.dropna().tolist(), (-math.inf, 0.2), network
        )
        values = (first - last).dropna().tolist() if len(by_epoch.columns) > 1 else []
        yield Estimate(f"{network} first − last", values, POSITIVE, network)


def _statistics(measured: Measured) -> pd.DataFrame:
    """Return the rows of the analysis `statistics`."""
    table = _table(measured, "statistics")
    return table.dropna(subset=["shift"]) if "shift" in table else table


def _ratios(measured: Measured) -> pd.DataFrame:
    """Return `explosions` with BatchNorm."""
    ratios = explosions(_statistics(measured))
    return ratios[ratios["normalisation"] == BATCHNORM]


def recovers(measured: Measured) -> Estimates:
    """Claim that under a shift running statistics lose accuracy, of which re-estimating recovers some."""
    table = _statistics(measured)
    if table.empty:
        return
    shifts = _ratios(measured).groupby("dataset")["shift"].unique()
    table = table[table["normalisation"] == BATCHNORM].drop_duplicates([*named(table), "shift", "statistics"])
    for (dataset, network, *_), rows in table.groupby(ALIKE, sort=False, observed=True):
        top = rows.pivot_table(index="seed", columns=["shift", "statistics"], values="top_1", observed=True)
        for shift in shifts.get(dataset, ()):
            if (shift, "pooled-shifted") in top:
                lost = (top["clean", "running"] - top[shift, "running"]).dropna()
                recovered = (top[shift, "pooled-shifted"] - top[shift, "running"]).dropna()
                yield Estimate(f"{network} {shift} points lost", lost.tolist(), POSITIVE, network)
                if lost.mean() > 0:
                    of = f"{network} {shift} points recovered"
                    yield Estimate(of, recovered.tolist(), POSITIVE, network)


def explodes(measured: Measured) -> Estimates:
    """Claim that a layer's largest normalised activation grows under a shift, with running statistics.

    One that is not finite counts as the largest number of float32, and is told.
    """
    table = _statistics(measured)
    if table.empty:
        return
    ratios = _ratios(measured)
    logs = np.log(ratios["ratio"].fillna(LARGEST).clip(upper=LARGEST))
    for names, rows in ratios.assign(log=logs).groupby([*ALIKE, "shift", "layer"], sort=False, observed=True):
        network, shift, layer = names[1], *names[-2:]
        endless = int((~np.isfinite(rows["ratio"].astype(float))).sum())
        of = f"{network} {shift} log of layer {layer + 1:.0f}" + f" ({endless} not finite)" * bool(endless)
        yield Estimate(of, rows["log"].tolist(), POSITIVE, network)


def one_class(measured: Measured) -> Estimates:
    """Claim that statistics of a single example let an MLP put every image into one class."""
    table = _statistics(measured)
    if table.empty:
        return
    table = table[(table["statistics"] == "batch-1") & (table["shift"] == "clean")]
    table = table[table["family"].str.startswith("mlp") & (table["normalisation"] == BATCHNORM)]
    for names, rows in table.groupby(ALIKE, sort=False):
        values = rows.drop_duplicates("seed")["predicted"].astype(float).tolist()
        yield Estimate(f"{names[1]} classes", values, (0.5, 1.5), names[1], exact=True)


def independent_of_the_batch(measured: Measured) -> Estimates:
    """Claim that LayerNorm's outputs are the same for batches of 1 and of 128."""
    table = _statistics(measured)
    if table.empty:
        return
    table = table[(table["normalisation"] == "layernorm") & (table["shift"] == "clean")]
    table = table[table["statistics"].isin(["batch-1", "batch-128"])]
    for names, rows in table.groupby(ALIKE, sort=False):
        values = rows.groupby("seed")["apart"].max().tolist()
        yield Estimate(f"{names[1]} largest difference", values, (-math.inf, 1e-5), names[1], exact=True)


def _claims(section: str, dataset: str, chooses: Chooser, *rows: tuple) -> list[Claim]:
    """Return the claims of a section; a row: id, statement, published, estimate."""
    return [
        Claim(name, section, dataset, statement, published, estimate, OWN, chooses=chooses)
        for name, statement, published, estimate in rows
    ]


# fmt: off
CLAIMS = [
    *_claims("[I] Figure 1", "MNIST", SIGMOID_MLPS,
        ("m1-sooner", "a sigmoid network reaches 90 % test accuracy in fewer steps with BatchNorm",
         "95 against 71 % after 4,000 steps", sooner(_tests, LEARNED)),
        ("m2-higher", "and ends at a higher test accuracy, at equal rates and each at its best",
         "98.2 against 97.2 %", ends_higher),
        ("m3-steadier", "and the percentiles of its last hidden layer's inputs are steadier", "in a figure",
         steadier),
    ),
    *_claims("[I] Section 4.2", "ImageNet", VGGS_AND_SIGMOID,
        ("i1-rates", "a rate of ×5 fails without BatchNorm; with it, ×5 and ×30 train",
         "overflow; 73.0 and 74.8 %",
         all_of(rates((NONE, 5, False), (BATCHNORM, 5, True), (BATCHNORM, 30, True)))),
        ("i2-sooner", "BatchNorm reaches the plain network's best accuracy sooner, ×5 sooner than ×1",
         "2.3, 14.8, 11.5 times fewer steps (×1, ×5, ×30)", reaches_plains_best),
        ("i3-no-worse", "BatchNorm's best accuracy is no worse, by at most 0.5 points",
         "+0.5, +0.8, +2.6 points", best_is_no_worse),
        ("i4-sigmoid", "sigmoids train only with BatchNorm, to over half of a ReLU network's accuracy",
         "69.8 against 0.1 %",
         all_of({f"{NONE} at chance": plain_sigmoid_fails, "/ ReLU": sigmoid_nears_relu})),
    ),
    *_claims("[S] Figure 1", "CIFAR-10", VGGS,
        ("s1-faster", "BatchNorm reaches 80 % training accuracy in fewer steps; at ×5 (0.5) only it trains",
         "in a figure", all_of({"steps to 80 %": sooner(_curves, TRAINED),
                                 **rates((NONE, 5, False), (BATCHNORM, 5, True))})),
        ("s2-tests", "BatchNorm ends at a higher test accuracy",
         "83 against 80 % (with augmentation 92 against 88)", paired(BATCHNORM, NONE, multiple=1)),
    ),
    *_claims("[S] Figure 2", "CIFAR-10", VGGS,
        ("s3-noisy", "noise after BatchNorm hardly matters: it loses under a quarter of the early gain",
         "in a figure", noise_hardly_matters),
        ("s4-unstable", "with that noise the inputs of every layer are the least stable, then come the plain"
         " network's, then BatchNorm's", "in a figure (Figure 8)",
         all_of({f"{one} / {other}": less_stable(one, other)
                 for one, other in ((NOISY, NONE), (NONE, BATCHNORM))})),
        ("s5-plain-noisy", "a plain network with that noise does not train", "in words",
         at_chance("none-noisy")),
        ("s6-drift", "a plain network's inputs drift hardly more than BatchNorm's: less than twice as much",
         "in a figure (Figure 1)", drift),
    ),
    *_claims("[S] Figure 3", "CIFAR-10", VGGS,
        ("g1-shift", "BatchNorm's gradient shift is similar or larger: its cosine at most 0.05 higher, its"
         " relative size at least 0.9 times the plain network's", "in a figure", shift_is_no_smaller),
    ),
    *_claims("[S] Figure 3", "synthetic", DEEP_LINEAR,
        ("g2-deep-linear", "at a rate of 1e-7 a deep linear network has a gradient shift only with BatchNorm,"
         " which fits better", "cosine 1 against −1 to 1; 4e3 against 7e2",
         all_of({"gradient shift": shifts_only_with_it, "loss": fits_better})),
    ),
    *_claims("[S] Figure 4", "CIFAR-10", VGGS,
        ("l1-loss", "early, the loss varies less along the gradient with BatchNorm", "in a figure",
         smoother("spread")),
        ("l2-predictive", "and the gradient changes less, also relative to its size",
         "under 40 against 50 to 250",
         all_of({"‖Δg‖": changes_less(), "relative change": smoother("relative_change")})),
        ("l3-beta", "and the effective β (its 90 % percentile) is smaller", "15 to 25 against 45",
         smoother("beta")),
        ("l4-edge", "late, β is about 2 / learning rate (1.8 to 2.5), with BatchNorm and without",
         "20 in both (0.1)", edge_of_stability),
    ),
    *_claims("[S] Figure 4", "synthetic", DEEP_LINEAR,
        ("l3-deep-linear", "at 1e-6 the early β of a deep linear network is smaller by orders (ten times)",
         "in a figure (Figure 10)", smoother("beta", factor=10, rate=1e-6)),
        ("l4-deep-linear", "late, its β is about 2 / learning rate (1.8 to 2.5) with BatchNorm, and no larger"
         " without", "2e6 (1e-6)", edge_of_stability),
    ),
    *_claims("[S] Section 3", "CIFAR-10", VGGS,
        ("l5-rates", "BatchNorm trains at more learning rates 0.01 · 2ᵏ", "in words", tolerated_rates),
        ("l6-random", "early, loss and gradient change less with BatchNorm along random directions too",
         "in words", all_of({"loss": smoother("spread", direction=RANDOM),
                             "gradient": smoother("relative_change", direction=RANDOM)})),
    ),
    *_claims("[S] Figure 5", "CIFAR-10", VGGS,
        ("p1-norms", "ℓ1, ℓ2 and ℓ∞ too train faster than without normalisation, in a smoother landscape",
         "in a figure", all_of({part: one for name in NORMS for part, one in trains_alike(name).items()})),
    ),
    *_claims("[S] Figure 5", "synthetic", DEEP_LINEAR,
        ("p1-deep-linear", "ℓ1 fits a deep linear network best", "1e2 against 5e2, 1e3, 1.7e3",
         all_of({f"l1 / {name}": ends_lower("l1", name) for name in (BATCHNORM, "l2", "linf", NONE)})),
    ),
    *_claims("[S] Theorem 4.1", ANY, every_run,
        ("t1-identity", "the gradient that BatchNorm passes on has the size that Theorem 4.1 gives",
         "exact (1e-10)", identity_holds),
    ),
    *_claims("[H] batch size", UNNAMED, every_run,
        ("r1-gap", "the smaller the normalised group, the smaller the gap of training and test accuracy",
         "in words", gap_grows_with_group),
    ),
    *_claims("[H] statistics over time", UNNAMED, every_run,
        ("e1-agree", "running and re-estimated statistics agree at the end (within 0.2 points), less so after"
         " the first epoch", "in words", statistics_agree),
    ),
    *_claims("[H] statistics", UNNAMED, every_run,
        ("e2-recovers", "under a shift of the images running statistics lose accuracy, and re-estimated ones"
         " recover some", "in words", recovers),
        ("e3-explodes", "under a shift the largest normalised activation of every layer grows", "in words",
         explodes),
    ),
    *_claims("[H] statistics", ANY, every_run,
        ("e4-one-example", "statistics of one example make an MLP put every image into one class", "exact",
         one_class),
        ("n1-layernorm", "LayerNorm's outputs do not depend on the batch", "exact (1e-5)",
         independent_of_the_batch),
    ),
    *_claims("[H] placement", "ImageNet", SIGMOID_MLPS,
        ("b1-after", "BatchNorm behind the nonlinearity is better than before it",
         "by ducha-aiki: 49.9 against 47.4 % (CaffeNet), 58.4 to 59.6 against 60.3 to 60.7 % (GoogLeNet)",
         paired("batchnorm-after", BATCHNORM)),
    ),
]
# fmt: on
