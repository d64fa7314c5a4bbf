"""The paper's claims, each with its published value and how it is measured.

Runs are paired by their seed. The compander of a network is its fixed arctan on the whole network; a and b
are whatever the study chose.
"""

import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from onlybn.drawing.queries import Measured
from onlybn.judging import ANY, NEGATIVE, POSITIVE, Claim, Estimate, Estimates, around
from onlybn.papers.weight_compander.arms import Arms, arms, pairs_of_functions
from onlybn.papers.weight_compander.functions import BASELINE, LEARNED, parsed
from onlybn.papers.weight_compander.published import (
    PUBLISHED,
    R18,
    R34,
    R50,
    SEEDS,
    comparisons,
    is_of_a_vgg_on_cifar10,
)

__all__ = ["CLAIMS", "PUBLISHED"]

Estimator = Callable[[Measured], Estimates]
COMPANDER, LINEAR, POWER, WEIGHT_NORM = "arctan", "linear", "powerpropagation", "weight-norm"
FINE, COARSE = LEARNED

# What rounding may change: a drawn weight through Ψ and its inverse in float32, and a test of one network on
# another path of the engine, whose float32 or bfloat16 sums are of another order (points, and nats).
ROUNDED = 1e-6
RETESTED = {"top_1": 0.05, "loss": 1e-3}
# The name of the output layer, in this project's networks and in torchvision's.
OUTPUTS = ("output", "fc")
WIDTHS = {"16–84 %": ("percentile_16", "percentile_84"), "31–69 %": ("percentile_31", "percentile_69")}


def _judged(table: pd.DataFrame | None) -> pd.DataFrame | None:
    """Return the rows that claims are about: of the study's training, and of the published one of VGGs."""
    if table is None or "recipe" not in table:
        return table
    own = table["recipe"] == "none"
    published = [training for training in table["training"].unique() if is_of_a_vgg_on_cifar10(training)]
    return table[own | (table["family"].str.startswith("vgg") & table["training"].isin(published))]


def accuracies(measured: Measured) -> list[Arms]:
    """Return the arms of every network, a row of final test accuracy for each run."""
    return arms(_judged(measured.finals))


def recorded(measured: Measured) -> list[Arms]:
    """Return the arms of every network with the rows of the recording `weights`."""
    return arms(_judged(measured.tables.get("weights")))


def about(dataset: str, estimator: Estimator) -> Estimator:
    """Return an estimator that measures only studies of a dataset of the paper, or of its stand-ins."""

    def estimate(measured: Measured) -> Estimates:
        named = {
            n for table in measured.tables.values() if table is not None for n in table["dataset"].unique()
        }
        if {PUBLISHED.stands_for(name) or "CIFAR-10" for name in named} == {dataset}:
            yield from estimator(measured)

    return estimate


def paired(
    method: str,
    other: str = BASELINE,
    allowed: tuple[float, float] = POSITIVE,
    *,
    without: Collection[str] = (),
    deepest: bool = False,
) -> Estimator:
    """Claim by how many points one method beats another on every network, or on the study's deepest alone."""

    def estimate(measured: Measured) -> Estimates:
        found = list(accuracies(measured))
        if deepest:
            ends = [_ends(family)[1] for family in _families(found)]
            found = [one for one in ends if one.architecture == R50 or one.architecture not in RESNETS]
        for one in found:
            for first, second in pairs_of_functions(one, method, other):
                if one.architecture not in without:
                    yield _difference(one, first, second, f"{first} − {second}", allowed)

    return estimate


def _difference(one: Arms, first: str, second: str, words: str, allowed: tuple[float, float]) -> Estimate:
    """Return the estimate of a paired difference of two functions of a network."""
    values = one.difference(first, second).tolist()
    of = f"{one.label} {words}"
    return Estimate(of, values, allowed, one.label, diverged=one.diverged(first, second))


def printed_size(dataset: str) -> Estimator:
    """Claim that the interval of every printed network's gain overlaps that of the printed one."""

    def estimate(measured: Measured) -> Estimates:
        intervals = {n: (w.low, w.high) for of, n, w in comparisons(COMPANDER, BASELINE) if of == dataset}
        for one in accuracies(measured):
            for name in one.named(COMPANDER) if one.architecture in intervals else ():
                gain = _difference(one, name, BASELINE, name, intervals[one.architecture])
                yield replace(gain, overlaps=True)

    return estimate


def _families(found: list[Arms]) -> Iterator[list[Arms]]:
    for family in dict.fromkeys(one.family for one in found):
        yield [one for one in found if one.family == family]


def _ends(family: list[Arms]) -> tuple[Arms, Arms]:
    """Return the shallowest and the deepest network of a family."""
    return family[0], family[-1]


def gain_by_depth(measured: Measured) -> Estimates:
    """Claim that the deepest network of a family of ResNets gains more than the shallowest."""
    for family in _families([one for one in accuracies(measured) if one.named(COMPANDER)]):
        small, large = _ends(family)
        if small.depth < large.depth and "resnet" in small.family:
            pairs = [(one, one.named(COMPANDER)[0]) for one in (small, large)]
            gains = [one.difference(name, BASELINE) for one, name in pairs]
            values = (gains[1] - gains[0]).dropna().tolist()
            lost = frozenset().union(*(one.diverged(name, BASELINE) for one, name in pairs))
            of = f"gain of {large.label} − gain of {small.label}"
            yield Estimate(of, values, POSITIVE, diverged=lost)


def smaller_is_better(measured: Measured) -> Estimates:
    """Claim that the baseline of the shallowest ResNet beats that of the deepest."""
    for family in _families([one for one in accuracies(measured) if BASELINE in one.rows]):
        small, large = _ends(family)
        if small.depth < large.depth and "resnet" in small.family:
            values = (small.by_seed(BASELINE, "top_1") - large.by_seed(BASELINE, "top_1")).dropna().tolist()
            lost = small.diverged(BASELINE) | large.diverged(BASELINE)
            yield Estimate(f"{small.label} − {large.label}", values, POSITIVE, diverged=lost)


def whole_over_part(measured: Measured) -> Estimates:
    """Claim that the compander on every layer beats the same on a part of them."""
    for one in accuracies(measured):
        for name in one.named(COMPANDER):
            for part in ("first", "but-last"):
                if (other := f"{name}-{part}") in one.rows:
                    yield _difference(one, name, other, f"{name} − {part}", POSITIVE)


def over_learning_rate(measured: Measured) -> Estimates:
    """Claim that the compander beats Ψ(v) = (a / b) · v, which is SGD at (a / b)² times the learning rate."""
    for one in accuracies(measured):
        for name, linear in pairs_of_functions(one, COMPANDER, LINEAR):
            (a, b), (scale,) = parsed(name).numbers, parsed(linear).numbers
            if math.isclose(a / b, scale, rel_tol=1e-3):
                yield _difference(one, name, linear, f"{name} − {linear}", POSITIVE)


def same_start(measured: Measured) -> Estimates:
    """Claim that before training every percentile of every layer is the baseline's of the same seed."""
    for one in recorded(measured):
        starts = {
            name: rows[rows["step"] == 0].set_index(["seed", "layer"]) for name, rows in one.rows.items()
        }
        baseline, values = starts.pop(BASELINE, None), []
        for rows in starts.values() if baseline is not None else ():
            columns = [name for name in rows if name.startswith("percentile_")]
            apart = (rows[columns] - baseline[columns]).dropna().abs().max(axis=1)
            values += apart.groupby("seed").max().tolist()
        of, lost = f"{one.label} largest difference", one.diverged(*one.rows)
        yield Estimate(of, values, (-math.inf, ROUNDED), one.label, exact=True, diverged=lost)


def same_network(measured: Measured) -> Estimates:
    """Claim that the ordinary network that is left gives the last test row, and holds nothing more."""
    finals = {one.label: one for one in accuracies(measured)}
    for one in arms(_judged(measured.tables.get("removal"))):
        names = [name for name in one.rows if name != BASELINE and name in finals[one.label].rows]
        if not names:
            continue
        left = [value for name in names for value in one.by_seed(name, "left_over")]
        yield Estimate(f"{one.label} left over", left, around(0, 0.5), one.label, exact=True)
        for column, allowed in RETESTED.items():
            tests = [(one.by_seed(n, column), finals[one.label].by_seed(n, column)) for n in names]
            moved = [value for again, test in tests for value in (again - test).dropna().abs()]
            of = f"{one.label} {column} differs by"
            yield Estimate(of, moved, (-math.inf, allowed), one.label, exact=True)


def within_bound(measured: Measured) -> Estimates:
    """Claim that no weight leaves the range of Ψ, in any layer and at any test."""
    for one in recorded(measured):
        for name, rows in one.rows.items():
            if one.every[name]["limit"].notna().any():
                values = rows.groupby("seed")["beyond"].max().tolist()
                of = f"{one.label} {name} (%{_baseline_reaches(one, rows)})"
                lost = one.diverged(name)
                yield Estimate(of, values, (-math.inf, 1e-9), one.label, exact=True, diverged=lost)


def _baseline_reaches(one: Arms, rows: pd.DataFrame) -> str:
    """Say how far the largest weight of the baseline goes, as a share of a function's fixed bound."""
    if BASELINE not in one.rows or one.rows[BASELINE].empty or rows["limit"].nunique() != 1:
        return ""
    largest = one.rows[BASELINE][["percentile_0", "percentile_100"]].abs().max(axis=None)
    return f"; the baseline reaches {largest / rows['limit'].max():.2f} of the bound"


def ends(one: Arms, name: str) -> pd.DataFrame:
    """Return the rows after training of a function's runs, by seed and number of the layer."""
    rows = one.rows[name]
    last = rows[rows["step"] == rows.groupby("seed")["step"].transform("max")]
    return last.set_index(["seed", "number"]).sort_index()


def width(rows: pd.DataFrame, low: str, high: str) -> pd.Series:
    """Return the distance between two percentiles of each row."""
    return rows[high] - rows[low]


def _compander_and_baseline(measured: Measured) -> Iterator[tuple[Arms, str, pd.DataFrame, pd.DataFrame]]:
    """Yield each network's compander with its rows after training, and the baseline's."""
    for one in recorded(measured):
        for name in one.named(COMPANDER) if BASELINE in one.rows else ():
            yield one, name, ends(one, name), ends(one, BASELINE)


def wider_middle(measured: Measured) -> Estimates:
    """Claim that the first convolution ends with a wider middle, and fewer weights near 0."""
    for one, name, with_it, without in _compander_and_baseline(measured):
        lost = one.diverged(name, BASELINE)
        own, other = (rows[rows.index.get_level_values("number") == 0] for rows in (with_it, without))
        for words, percentiles in WIDTHS.items():
            values = (width(own, *percentiles) - width(other, *percentiles)).dropna().tolist()
            yield Estimate(f"{one.label} width {words}", values, POSITIVE, one.label, diverged=lost)
        fewer = (other["near_zero"] - own["near_zero"]).dropna().tolist()
        yield Estimate(f"{one.label} fewer near 0 (points)", fewer, POSITIVE, one.label, diverged=lost)


def fades_with_depth(measured: Measured) -> Estimates:
    """Claim that the middle's widening falls with depth: Spearman's correlation over layers, by seed."""
    for one, name, with_it, without in _compander_and_baseline(measured):
        lost = one.diverged(name, BASELINE)
        ratio = width(with_it, *WIDTHS["16–84 %"]) / width(without, *WIDTHS["16–84 %"])
        values = _by_depth(np.log(ratio))
        yield Estimate(f"{one.label} correlation", values, NEGATIVE, one.label, diverged=lost)


def _by_depth(values: pd.Series) -> list[float]:
    """Return Spearman's correlation of values with the layers' numbers, for each seed."""
    layers = values.dropna().rename("value").reset_index()
    return [rows["number"].corr(rows["value"], method="spearman") for _, rows in layers.groupby("seed")]


def learned(
    column: str,
    measure: Callable[[pd.DataFrame], float],
    allowed: tuple[float, float],
    words: str = "",
    *,
    every: bool = False,
) -> Estimator:
    """Claim what `measure` finds of a learned a or b after training, on average or in `every` seed.

    `measure` gets a row for each layer: the size of its `value`, since −a with −v is the same function;
    `start`, `number`, and whether it is the `output` layer. What it cannot find is NaN: it is not measured.
    """

    def estimate(measured: Measured) -> Estimates:
        for one in recorded(measured):
            for name in one.named(FINE):
                start = dict(zip("ab", parsed(name).numbers, strict=True))[column]
                layers = ends(one, name).dropna(subset=column).reset_index()
                layers = layers.assign(
                    value=layers[column].abs(), start=start, output=layers["layer"].isin(OUTPUTS)
                )
                by_seed = layers.sort_values("number").groupby("seed")
                found = pd.Series([measure(rows) for _, rows in by_seed], dtype=float)
                of = f"{one.label} {name}{words}"
                lost = one.diverged(name)
                values = found.dropna().tolist()
                yield Estimate(of, values, allowed, one.label, every=every, diverged=lost)

    return estimate


def _hidden(rows: pd.DataFrame) -> pd.DataFrame:
    return rows[~rows["output"]]


def _moved(rows: pd.DataFrame) -> float:
    """Return how far the value of any layer but the output layer is from its start."""
    return (_hidden(rows)["value"] - rows["start"].iloc[0]).abs().max()


def _largest(rows: pd.DataFrame) -> float:
    return _hidden(rows)["value"].max()


def _smallest(rows: pd.DataFrame) -> float:
    return _hidden(rows)["value"].min()


def _last(rows: pd.DataFrame) -> float:
    """Return the value of the output layer."""
    return rows.loc[rows["output"], "value"].max()


def _last_above(rows: pd.DataFrame) -> float:
    """Return by how much the output layer is above all others."""
    return _last(rows) - _largest(rows)


def _correlation(rows: pd.DataFrame) -> float:
    hidden = _hidden(rows)
    return hidden["number"].corr(hidden["value"], method="spearman")


def both(*estimators: Estimator) -> Estimator:
    """Claim several things of each network."""
    return lambda measured: (estimate for one in estimators for estimate in one(measured))


def not_flat(measured: Measured) -> Estimates:
    """Claim that in every layer and at every test few weights have a slope near 0."""
    for one in recorded(measured):
        for method in (COMPANDER, FINE, COARSE):
            for name in one.named(method):
                rows, of = one.rows[name], f"{one.label} {name} (%)"
                whole = rows["flat"].notna().all()  # else it was not recorded of every layer and test
                found = rows.groupby("seed")["flat"].max().tolist() if whole else []
                lost = one.diverged(name)
                yield Estimate(of, found, (-math.inf, 1.0), one.label, every=True, diverged=lost)


def unmeasured(measured: Measured) -> Estimates:
    """Measure nothing: no table of a study has it."""
    return ()


def _claims(section: str, dataset: str, *rows: tuple, **fields: object) -> list[Claim]:
    """Return the claims that a section makes on a dataset, of rows of a claim's other fields.

    A row: id, statement, published, estimate, and the direction if there is one.
    """
    return [
        Claim(
            name,
            section,
            dataset,
            *told,
            estimate if dataset == ANY else about(dataset, estimate),
            *direction,
            **fields,
        )
        for name, *told, estimate, direction in (_row(*row) for row in rows)
    ]


def _row(name: str, statement: str, published: str, estimate: Estimator, *direction: tuple) -> tuple:
    return name, statement, published, estimate, direction


def _paired(section: str, dataset: str, *rows: tuple) -> list[Claim]:
    """Return claims about pairs of runs, as many as the paper has seeds; their direction holds elsewhere."""
    whole = ((*row, POSITIVE) if len(row) == 4 else row for row in rows)
    return _claims(section, dataset, *whole, least=SEEDS[dataset])


def _points(method: str, other: str, dataset: str, networks: Mapping[str, str]) -> str:
    """Return the printed differences of two methods, in points, by network."""
    found = {
        network: f"{w.difference:+.2f}" for of, network, w in comparisons(method, other) if of == dataset
    }
    return ", ".join(f"{found[n]} ({short})" for n, short in networks.items() if n in found) + " points"


RESNETS = {R18: "R18", R34: "R34", R50: "R50"}
EVERY = RESNETS | {
    "preactivation-wrn-28-10": "WRN",
    "vgg-16-head-512": "V16",
    "vgg-19-head-512": "V19",
    "imagenet-resnet-50": "R50",
}
_on = partial(_points, networks=EVERY)
# fmt: off
CLAIMS = [
    *_claims("Figure 3", ANY,
        ("w1-start", "before training, the percentiles of every layer's weights are the baseline's",
         "exact (1e-6)", same_start),
        ("w2-removal", "once trained, the ordinary network gives the same results, and nothing is left over",
         "exact (but for rounding)", same_network),
        ("w3-bound", "no weight leaves the range of Ψ, such as |w| < aπ/2", "never, from the first epoch on",
         within_bound),
    ),
    *_paired("Figure 4", "CIFAR-10",
        ("w4-middle", "the first convolution ends with a wider middle, fewer weights near 0", "in a figure",
         wider_middle),
        ("w5-fades", "the middle's widening falls towards the end of the network (rank correlation with"
         " depth)", "in words", fades_with_depth, NEGATIVE),
    ),
    *(claim for number, dataset, ending in (
        (2, "CIFAR-10", ""), (3, "CIFAR-100", "-cifar100"),
        (4, "Tiny ImageNet", "-tinyimagenet"), (5, "ImageNet", "-imagenet"),
    ) for claim in (
        *_paired(f"Table {number}", dataset,
            (f"w6-gain{ending}", f"the compander beats the baseline on {dataset}, on every network",
             _on(COMPANDER, BASELINE, dataset), paired(COMPANDER))),
        *_claims(f"Table {number}", dataset,
            (f"w6-size{ending}", f"the size of the gain on {dataset}: our and the printed interval overlap",
             "95 % interval of the printed gain", printed_size(dataset)), least=SEEDS[dataset]),
    )),
    *_paired("Table 2", "CIFAR-10",
        ("w7-depth", "the gain grows with depth",
         "+0.40, +0.74, +0.75 points (R18, R34, R50)", gain_by_depth),
        ("w8-baseline", "without the compander the deeper ResNet is worse", "94.04 > 93.69 > 93.31 %",
         smaller_is_better),
        ("w9-weight-norm", "the compander beats weight normalisation, on every network",
         _on(COMPANDER, WEIGHT_NORM, "CIFAR-10"), paired(COMPANDER, WEIGHT_NORM)),
        ("w10-powerpropagation", "Powerpropagation is worse than the baseline, but for ResNet-50",
         _on(POWER, BASELINE, "CIFAR-10"), paired(POWER, allowed=NEGATIVE, without=[R50]), NEGATIVE),
    ),
    *_paired("Table 3", "CIFAR-100",
        ("w7-depth-cifar100", "the gain grows with depth on CIFAR-100",
         "+0.26, +0.47, +1.56 points (R18, R34, R50)", gain_by_depth),
        ("w9-weight-norm-cifar100",
         "the compander beats weight normalisation on CIFAR-100, but for ResNet-18",
         _on(COMPANDER, WEIGHT_NORM, "CIFAR-100"), paired(COMPANDER, WEIGHT_NORM, without=[R18])),
        ("w10-powerpropagation-cifar100", "Powerpropagation is worse than the baseline on CIFAR-100",
         _on(POWER, BASELINE, "CIFAR-100"), paired(POWER, allowed=NEGATIVE), NEGATIVE),
    ),
    *_paired("Table 6", "CIFAR-10",
        ("w11-learned", "learned a and b by layer beat the baseline, on every network",
         _on(FINE, BASELINE, "CIFAR-10"), paired(FINE)),
        ("w11-over-fixed", "learned a and b by layer beat fixed ones on the deepest network",
         _points(FINE, COMPANDER, "CIFAR-10", {R50: "R50"}), paired(FINE, COMPANDER, deepest=True)),
        ("w12-fine", "a and b learned by layer beat one pair for the network", "in words",
         paired(FINE, COARSE)),
    ),
    *(claim for dataset, ending, exceptions, words in (
        ("CIFAR-10", "", [R34], ", but for ResNet-34"), ("CIFAR-100", "-cifar100", [], ""),
    ) for claim in _paired("Table 7", dataset,
        (f"w13-arsinh{ending}", f"arsinh beats the baseline on {dataset}", _on("arsinh", BASELINE, dataset),
         paired("arsinh")),
        (f"w13-erf{ending}", f"erf beats the baseline on {dataset}", _on("erf", BASELINE, dataset),
         paired("erf")),
        (f"w13-arctan{ending}", f"arctan beats arsinh on {dataset}{words}",
         _on(COMPANDER, "arsinh", dataset), paired(COMPANDER, "arsinh", without=exceptions)),
    )),
    *_claims("Table 6", "CIFAR-10",
        ("w14-a", "the learned a of a convolution stays near its start", "within ± 0.35",
         learned("a", _moved, (-math.inf, 0.35), every=True)),
        ("w14-a-last", "the learned a of the last layer", "8.5 and more",
         learned("a", _last, (8.5, math.inf), every=True)),
        ("w14-a-order", "the last layer learns the largest |a|", "in words",
         learned("a", _last_above, POSITIVE), POSITIVE),
        ("w15-b", "the learned b of a convolution", "0.5 to 2.5",
         both(learned("b", _smallest, (0.5, 2.5), ", smallest |b|", every=True),
              learned("b", _largest, (0.5, 2.5), ", largest |b|", every=True))),
        ("w15-b-last", "the learned b of the last layer", "0.5 to 11.15",
         learned("b", _last, (0.5, 11.15), every=True)),
        ("w15-b-depth", "the learned b is larger in early convolutions (rank correlation with depth)",
         "in words", learned("b", _correlation, NEGATIVE), NEGATIVE),
        least=SEEDS["CIFAR-10"],
    ),
    *_claims("Figure 2", ANY,
        ("w16-slopes", "gradients do not vanish: few weights of any layer have a slope below 1 % of Ψ′(0)",
         "under 1 % of the weights (this project's number)", not_flat),
    ),
    *_claims("Section 4", ANY,
        ("w17-cost", "training takes longer", "7 to 14 %", unmeasured),
        measured_by="python benchmarks/reparametrise.py",
    ),
    *_paired("Section 4", "CIFAR-10",
        ("w18-every-layer", "every layer must be transformed: not the first convolution alone, nor all but"
         " the last layer", "in words", whole_over_part),
        ("w19-learning-rate", "the compander beats a larger learning rate, (a/b)² times as large",
         "not in the paper", over_learning_rate),
    ),
]
# fmt: on
