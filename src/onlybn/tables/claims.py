"""The paper's claims, each with its published value, judged against what a study measured.

A claim is an estimate (or one per network) with a 95 % interval over seeds, and the range in which it
holds. Inside: `reproduced`; outside: `contradicted`; straddling, from one seed, or from two seeds that
agree to the last digit: `inconclusive`. On another dataset or schedule than the paper's only directions are
judged, `consistent` or `inconsistent`, and a value is `not run`.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from onlybn import own
from onlybn.datasets import known
from onlybn.figures.figure_5 import THRESHOLD
from onlybn.figures.figure_7 import dead_percent
from onlybn.models import architecture
from onlybn.summaries import finals, per_run
from onlybn.variants import DEFAULT

# Schedules as published (Appendix B): what of a run's training must agree for its values to be judged.
CIFAR10_TRAINING = {
    "epochs": 160,
    "batch_size": 128,
    "learning_rate": 0.1,
    "milestones": [80, 120],
    "divide_by": 10,
    "warmup": 0,
    "momentum": 0.9,
    "weight_decay": 1e-4,
    "shift": 0.125,
    "flip": True,
}
IMAGENET_TRAINING = CIFAR10_TRAINING | {
    "shift": 0,
    "epochs": 90,
    "batch_size": 1024,
    "learning_rate": 0.4,
    "milestones": [30, 60, 80],
    "warmup": 5,
}
PUBLISHED = {
    "cifar10": ("CIFAR-10", CIFAR10_TRAINING),
    "cifar10-jpeg": ("CIFAR-10", CIFAR10_TRAINING),
    "imagenet": ("ImageNet", IMAGENET_TRAINING),
}

WORDS = (
    *("id", "section", "dataset", "statement", "published"),
    *("measured", "coverage", "verdict", "reason"),
)
# Figure or table of a study: where the paper says what it shows.
SECTIONS = {f"figure-{number}": f"Figure {number}" for number in range(1, 8)} | {
    "figure-c2": "Appendix C",
    "figure-e2": "Appendix E.2",
    "accuracy": "Figure 2",
    "accuracy-vgg": "Appendix C",
    "near-zero": "Figure 5",
    "dead-relu": "Figure 7",
}

POSITIVE = (0.0, math.inf)
NEGATIVE = (-math.inf, 0.0)


@dataclass(frozen=True)
class Estimate:
    """What was measured of one network, or of one quantity: values by seed, or an interval of its own.

    `range` is where the published claim holds, `direction` where it does on any dataset (None: it says
    nothing there); the ends are outside.
    """

    of: str
    values: Sequence[float]
    range: tuple[float, float]
    direction: tuple[float, float] | None = None
    bounds: tuple[float, float] | None = None

    @property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values))

    @property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over seeds by Student's t; without end for one seed."""
        if self.bounds is not None:
            return self.bounds
        count = len(self.values)
        if count < 2:
            return (-math.inf, math.inf)
        half = stats.t.ppf(0.975, count - 1) * stats.sem(self.values)
        return (self.mean - half, self.mean + half)

    def judged(self, allowed: tuple[float, float]) -> bool | None:
        """Say whether the interval lies in the allowed range, outside it, or (None) straddles its ends."""
        low, high = self.interval
        count = len(self.values)
        if count < 2 or (count == 2 and low == high):  # no spread, or only the last digit's
            return None
        if allowed[0] < low and high < allowed[1]:
            return True
        return False if high < allowed[0] or low > allowed[1] else None

    def __str__(self) -> str:
        low, high = self.interval
        spread = f" [{low:.2f}, {high:.2f}]" if len(self.values) > 1 else ""
        return f"{self.of} {self.mean:z.2f}{spread}"


class Measured:
    """A study's collected tables, as claims ask about them."""

    def __init__(self, tables: Mapping[str, pd.DataFrame | None]):
        self.tables = tables
        metrics = tables.get("metrics")
        self.finals = None if metrics is None else finals(metrics)

    def values(self, network: str, regime: str, value: str = "top_1", variant: str = DEFAULT) -> pd.Series:
        """Return each finished run's final test accuracy, in percent, by seed."""
        if self.finals is None:
            return pd.Series(dtype=float)
        return self._select(self.finals, network, regime, variant)[value]

    def per_seed(
        self, table: str, network: str, regime: str, measure: Callable[[pd.DataFrame], float]
    ) -> pd.Series:
        """Return what `measure` makes of each finished run's rows of a table, by seed."""
        rows = self.tables.get(table)
        if rows is None or rows.empty:
            return pd.Series(dtype=float)
        rows = rows[(rows["architecture"] == network) & (rows["regime"] == regime)]
        runs = per_run(rows, lambda run: {"value": measure(run)}) if len(rows) else rows.assign(value=[])
        return self._select(runs, network, regime, DEFAULT)["value"]

    def networks(self, *families: str) -> list[str]:
        """Return every network of those families in any table, by family and size."""
        there = {
            name
            for table in self.tables.values()
            if table is not None and len(table)
            for name in table["architecture"].unique()
        }
        described = [architecture(name) for name in there if not own.is_own(name)]
        chosen = [a for a in described if a.family in families]
        return [a.name for a in sorted(chosen, key=lambda a: (a.family, a.depth, a.width))]

    @staticmethod
    def _select(runs: pd.DataFrame, network: str, regime: str, variant: str) -> pd.DataFrame:
        chosen = (
            (runs["architecture"] == network)
            & (runs["regime"] == regime)
            & (runs["variant"] == variant)
            & (runs["status"] == "finished")
        )
        return runs[chosen].set_index("seed").sort_index()


def difference(one: pd.Series, other: pd.Series) -> list[float]:
    """Return the differences of replicates paired by seed."""
    return (one - other).dropna().tolist()


CIFAR = ("resnet", "wrn")
IMAGENET = ("imagenet-resnet",)
Estimates = Iterable[Estimate]


def _around(centre: float, tolerance: float) -> tuple[float, float]:
    return (centre - tolerance, centre + tolerance)


def accuracy(
    network: str,
    regime: str,
    published: float,
    tolerance: float,
    value: str = "top_1",
    at_most: bool = False,
) -> Callable[[Measured], Estimates]:
    """Claim that a network's accuracy is what was published, within a tolerance in points."""
    low = -math.inf if at_most else published - tolerance

    def estimate(measured: Measured) -> Estimates:
        values = measured.values(network, regime, value).tolist()
        yield Estimate(f"{network} {regime} {value}", values, (low, published + tolerance))

    return estimate


def paired(
    one: str,
    other: str,
    families: Sequence[str],
    published: tuple[float, float],
    direction: tuple[float, float] | None,
    value: str = "top_1",
) -> Callable[[Measured], Estimates]:
    """Claim that on every network one regime beats another by points in the published range."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            values = difference(measured.values(network, one, value), measured.values(network, other, value))
            yield Estimate(network, values, published, direction)

    return estimate


def depth_over_width(measured: Measured) -> Estimates:
    """Claim that ResNet-434 beats WRN-14-32, of about as many BatchNorm parameters."""
    values = difference(measured.values("resnet-434", "batchnorm"), measured.values("wrn-14-32", "batchnorm"))
    yield Estimate("resnet-434 − wrn-14-32", values, (5, 9))


def _slopes(measured: Measured, family: str) -> pd.Series:
    """Return each seed's slope of Figure 3 over a family, in points per doubling."""
    networks = measured.networks(family)
    if family == "wrn" and "resnet-14" in measured.networks("resnet"):
        networks = ["resnet-14", *networks]
    accuracies = {name: measured.values(name, "batchnorm") for name in networks}
    accuracies = {name: values for name, values in accuracies.items() if len(values)}
    if len(accuracies) < 2:
        return pd.Series(dtype=float)
    runs = measured.finals.drop_duplicates("architecture").set_index("architecture")
    doublings = [math.log2(runs.loc[name, "batchnorm_parameters"]) for name in accuracies]
    table = pd.DataFrame(accuracies).dropna()  # seeds for which every network finished
    return table.apply(lambda row: stats.linregress(doublings, row).slope, axis=1)


def deeper_better(measured: Measured) -> Estimates:
    """Claim that accuracy of BatchNorm alone grows with depth and with width, per doubling."""
    for family, name in (("resnet", "slope by depth"), ("wrn", "slope by width")):
        yield Estimate(name, _slopes(measured, family).tolist(), POSITIVE, POSITIVE)


def depth_beats_width(measured: Measured) -> Estimates:
    """Claim that the line of Figure 3 is steeper by depth than by width: at all, and by how many percent."""
    depth, width = _slopes(measured, "resnet").align(_slopes(measured, "wrn"), join="inner")
    yield Estimate("slope by depth − by width", difference(depth, width), POSITIVE, POSITIVE)
    if len(depth):
        # The slope of the means is the mean of the seeds' slopes.
        steeper = [100 * (depth.mean() / width.mean() - 1)] * len(depth)
        low, high = _ratio_interval(depth.to_numpy(), width.to_numpy())
        yield Estimate("steeper by (%)", steeper, (8, 28), bounds=(100 * (low - 1), 100 * (high - 1)))


def _ratio_interval(above: np.ndarray, below: np.ndarray) -> tuple[float, float]:
    """Return Fieller's 95 % interval of a ratio of means of pairs; without ends if `below` may be 0 or less.

    It holds the ratios r for which Student's t does not reject that the mean of above − r · below is 0. A
    bootstrap of two seeds covers half of the cases, and of five 83 %, where this covers 95 %.
    """
    count = len(above)
    unknown = (-math.inf, math.inf)
    if count < 2:
        return unknown
    squares = np.cov(above, below) * stats.t.ppf(0.975, count - 1) ** 2 / count
    first = below.mean() ** 2 - squares[1, 1]
    if first <= 0 or below.mean() <= 0:
        return unknown
    second = above.mean() * below.mean() - squares[0, 1]
    root = math.sqrt(max(0.0, second**2 - first * (above.mean() ** 2 - squares[0, 0])))
    return ((second - root) / first, (second + root) / first)


def gamma_moments(
    network: str, published: Mapping[str, tuple[float, float, float | None]]
) -> Callable[[Measured], Estimates]:
    """Claim γ's mean, standard deviation and negative percentage over a network's channels, by regime."""

    def estimate(measured: Measured) -> Estimates:
        for regime, (mean, deviation, negative) in published.items():

            def value(measure: Callable[[pd.Series], float], regime: str = regime) -> list[float]:
                found = measured.per_seed("affine", network, regime, lambda run: measure(run["gamma"]))
                return found.tolist()

            yield Estimate(f"{regime} mean", value(lambda g: g.mean()), _around(mean, 0.05))
            yield Estimate(f"{regime} std", value(lambda g: g.std(ddof=1)), _around(deviation, 0.05))
            if negative is not None:
                share = value(lambda g: 100 * (g < 0).mean())
                yield Estimate(f"{regime} negative (%)", share, _around(negative, 5))

    return estimate


def _near_zero(run: pd.DataFrame) -> float:
    return 100 * (run["gamma"].abs() < THRESHOLD).mean()


def gamma_zero(
    *families: str, named: Mapping[str, tuple[float, float]] | None = None
) -> Callable[[Measured], Estimates]:
    """Claim that a quarter to a half of γ end near 0 under `batchnorm`, and far fewer under `all`.

    `named` holds the percentages published of one network, under `batchnorm` and `all`.
    """

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            shares = {r: measured.per_seed("affine", network, r, _near_zero) for r in ("all", "batchnorm")}
            yield Estimate(f"{network} batchnorm", shares["batchnorm"].tolist(), (24.5, 50.5))
            more = difference(shares["batchnorm"], shares["all"])
            yield Estimate(f"{network} batchnorm − all", more, POSITIVE, POSITIVE)
            if named and network in named:
                trained, everything = named[network]
                yield Estimate(f"{network} batchnorm", shares["batchnorm"].tolist(), _around(trained, 3))
                yield Estimate(f"{network} all", shares["all"].tolist(), _around(everything, 2))

    return estimate


def _clamped(
    measured: Measured, network: str, regime: str, threshold: float, measure: Callable[[pd.Series], float]
) -> pd.Series:
    """Return what `measure` makes, by seed, of the row of a threshold; a run that diverged has none."""

    def value(run: pd.DataFrame) -> float:
        if run["threshold"].isna().all():
            return math.nan
        return measure(run[(run["threshold"] == threshold) & run["beta_too"].eq(False)].iloc[0])

    return measured.per_seed("clamping", network, regime, value).dropna()


def _drop(row: pd.Series) -> float:
    return row["top_1_unclamped"] - row["top_1"]


def _share(row: pd.Series) -> float:
    return row["clamped_percent"]


def clamp_free(*families: str) -> Callable[[Measured], Estimates]:
    """Claim that clamping at 0.01 costs nothing in either regime, and how many features that disables."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            for regime in ("all", "batchnorm"):
                drop = _clamped(measured, network, regime, 0.01, _drop).tolist()
                yield Estimate(f"{network} {regime} drop", drop, (-0.5, 0.5), (-0.5, 0.5))
            disabled = _clamped(measured, network, "batchnorm", 0.01, _share).tolist()
            yield Estimate(f"{network} batchnorm disabled (%)", disabled, (23.5, 38.5))

    return estimate


# The deepest and the widest network of the paper, and the next smaller one.
LARGEST = {"resnet-866": "resnet-434", "wrn-14-32": "wrn-14-16"}


def clamp_mixed(measured: Measured) -> Estimates:
    """Claim that clamping at 0.05 leaves `all` unharmed, but in the deepest and widest takes more γ."""
    for network in measured.networks(*CIFAR):
        if network in LARGEST:
            shares = (_clamped(measured, n, "all", 0.05, _share) for n in (network, LARGEST[network]))
            yield Estimate(f"{network} − {LARGEST[network]} below 0.05 (%)", difference(*shares), POSITIVE)
        else:
            drop = _clamped(measured, network, "all", 0.05, _drop).tolist()
            yield Estimate(f"{network} drop", drop, (-0.5, 0.5), (-0.5, 0.5))


def dead_relu(
    families: Sequence[str], published: tuple[float, float], all_at_most: float
) -> Callable[[Measured], Estimates]:
    """Claim how many ReLU channels are off under `batchnorm`, and at most how many under `all`."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            off = {
                regime: measured.per_seed("activations", network, regime, dead_percent)
                for regime in ("all", "batchnorm")
            }
            yield Estimate(f"{network} batchnorm", off["batchnorm"].tolist(), published)
            yield Estimate(f"{network} all", off["all"].tolist(), (-math.inf, all_at_most))
            more = difference(off["batchnorm"], off["all"])
            yield Estimate(f"{network} batchnorm − all", more, POSITIVE, POSITIVE)

    return estimate


def bn_init(measured: Measured) -> Estimates:
    """Claim that γ = 1, β = 1 beats the default under `batchnorm`, and is worse under `all`."""
    variant = "kaiming-normal_gamma-one-beta-one"
    for network in measured.networks(*CIFAR):
        for regime, direction in (("batchnorm", POSITIVE), ("all", NEGATIVE)):
            values = difference(
                measured.values(network, regime, variant=variant), measured.values(network, regime)
            )
            yield Estimate(f"{network} {regime}", values, direction, direction)


def vgg_similar(measured: Measured) -> Estimates:
    """Claim that VGGs show the same order of regimes, and the same near-zero γ."""
    for one, other in (("all", "batchnorm"), ("batchnorm", "random-2"), ("batchnorm", "output")):
        for estimate in paired(one, other, ["vgg"], POSITIVE, POSITIVE)(measured):
            yield Estimate(f"{estimate.of} {one} − {other}", estimate.values, POSITIVE, POSITIVE)
    for estimate in gamma_zero("vgg")(measured):
        if estimate.direction:
            yield Estimate(f"{estimate.of} near 0", estimate.values, POSITIVE, POSITIVE)


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, where it stands, on which dataset, and how it is measured."""

    id: str
    section: str
    dataset: str
    statement: str
    published: str
    estimate: Callable[[Measured], Estimates]


CLAIMS = [
    Claim(
        "acc-r110-all",
        "Section 3, Figure 2",
        "CIFAR-10",
        "ResNet-110, all parameters",
        "93.3 % (± 1.5)",
        accuracy("resnet-110", "all", 93.3, 1.5),
    ),
    Claim(
        "acc-r110-bn",
        "Section 3, Figure 2",
        "CIFAR-10",
        "ResNet-110, BatchNorm",
        "69.5 % (± 2)",
        accuracy("resnet-110", "batchnorm", 69.5, 2),
    ),
    Claim(
        "acc-r14-bn",
        "Section 3, Figure 2",
        "CIFAR-10",
        "ResNet-14, BatchNorm",
        "48 % (± 2)",
        accuracy("resnet-14", "batchnorm", 48, 2),
    ),
    Claim(
        "acc-r866-bn",
        "Section 3, Figure 2",
        "CIFAR-10",
        "ResNet-866, BatchNorm",
        "82 % (± 2)",
        accuracy("resnet-866", "batchnorm", 82, 2),
    ),
    Claim(
        "acc-w32-bn",
        "Section 3, Figure 2",
        "CIFAR-10",
        "WRN-14-32, BatchNorm",
        "73 % (± 2)",
        accuracy("wrn-14-32", "batchnorm", 73, 2),
    ),
    Claim(
        "depth-over-width",
        "Section 3, Figure 3",
        "CIFAR-10",
        "ResNet-434 beats WRN-14-32 under BatchNorm",
        "about 7 points (5 to 9)",
        depth_over_width,
    ),
    Claim(
        "affine-helps",
        "Section 3, Figure 1",
        "CIFAR-10",
        "all beats all but γ and β, on every network",
        "0.5 to 2 points",
        paired("all", "no-affine", CIFAR, (0.5, 2.5), POSITIVE),
    ),
    Claim(
        "affine-helps",
        "Section 3, Figure 1",
        "ImageNet",
        "all beats all but γ and β, on every network",
        "2 points",
        paired("all", "no-affine", IMAGENET, (1.5, 2.5), POSITIVE),
    ),
    Claim(
        "deeper-better",
        "Section 3, Figure 3",
        "CIFAR-10",
        "BatchNorm's accuracy grows per doubling, by depth and by width",
        "slopes above 0",
        deeper_better,
    ),
    Claim(
        "depth-beats-width",
        "Section 3, Figure 3",
        "CIFAR-10",
        "the slope by depth is steeper than by width",
        "about 18 % (8 to 28)",
        depth_beats_width,
    ),
    Claim(
        "random-worse",
        "Section 3, Figure 2",
        "CIFAR-10",
        "BatchNorm beats as many random weights, on every network",
        "17 to 21 points",
        paired("batchnorm", "random-2", CIFAR, (16.5, 21.5), POSITIVE),
    ),
    Claim(
        "random-worse",
        "Section 3, Figure 2",
        "ImageNet",
        "2 random weights per channel, top-5",
        "at most 4 %",
        lambda measured: (
            estimate
            for network in measured.networks(*IMAGENET)
            for estimate in accuracy(network, "random-2", 4, 0.5, "top_5", at_most=True)(measured)
        ),
    ),
    Claim(
        "output-small",
        "Section 3, Figure 2",
        "CIFAR-10",
        "training the output layer too changes little, on every network",
        "within ± 3 points",
        paired("batchnorm+output", "batchnorm", CIFAR, (-3, 3), (-3, 3)),
    ),
    Claim(
        "inet-r50-bn",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-50, BatchNorm, top-5",
        "17 % (± 2)",
        accuracy("imagenet-resnet-50", "batchnorm", 17, 2, "top_5"),
    ),
    Claim(
        "inet-r200-bn",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, BatchNorm, top-5",
        "32 % (± 2)",
        accuracy("imagenet-resnet-200", "batchnorm", 32, 2, "top_5"),
    ),
    Claim(
        "inet-bn-out",
        "Section 3, Figure 2",
        "ImageNet",
        "the output layer adds to BatchNorm, top-1",
        "12 to 19 points",
        paired("batchnorm+output", "batchnorm", IMAGENET, (11.5, 19.5), POSITIVE),
    ),
    Claim(
        "inet-bn-out",
        "Section 3, Figure 2",
        "ImageNet",
        "the output layer adds to BatchNorm, top-5",
        "about 25 points (20 to 30)",
        paired("batchnorm+output", "batchnorm", IMAGENET, (20, 30), POSITIVE, "top_5"),
    ),
    Claim(
        "inet-bn-out",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, BatchNorm and output layer, top-1",
        "32 % (± 2)",
        accuracy("imagenet-resnet-200", "batchnorm+output", 32, 2),
    ),
    Claim(
        "inet-bn-out",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, BatchNorm and output layer, top-5",
        "57 % (± 2)",
        accuracy("imagenet-resnet-200", "batchnorm+output", 57, 2, "top_5"),
    ),
    Claim(
        "inet-out",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, output layer alone, top-1",
        "0.8 % (± 0.5)",
        accuracy("imagenet-resnet-200", "output", 0.8, 0.5),
    ),
    Claim(
        "inet-out",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, output layer alone, top-5",
        "2.7 % (± 0.5)",
        accuracy("imagenet-resnet-200", "output", 2.7, 0.5, "top_5"),
    ),
    Claim(
        "gamma-r110",
        "Section 4, Figure 4",
        "CIFAR-10",
        "γ of ResNet-110: mean, deviation, negative share",
        "all: 0.27, 0.21, 5 %; batchnorm: 0.20, 0.48, 25 % (± 0.05, ± 5 %)",
        gamma_moments("resnet-110", {"all": (0.27, 0.21, 5), "batchnorm": (0.20, 0.48, 25)}),
    ),
    Claim(
        "gamma-r101",
        "Section 4, Figure 4",
        "ImageNet",
        "γ of ResNet-101: mean, deviation",
        "all: 0.14, 0.14; batchnorm: 0.05, 0.26 (± 0.05)",
        gamma_moments("imagenet-resnet-101", {"all": (0.14, 0.14, None), "batchnorm": (0.05, 0.26, None)}),
    ),
    Claim(
        "gamma-zero",
        "Section 4, Figure 5",
        "CIFAR-10",
        "share of |γ| < 0.01 under BatchNorm, and more than under all",
        "a quarter to a half; ResNet-110 27 % (± 3), all 4 % (± 2)",
        gamma_zero(*CIFAR, named={"resnet-110": (27, 4)}),
    ),
    Claim(
        "gamma-zero",
        "Section 4, Figure 5",
        "ImageNet",
        "share of |γ| < 0.01 under BatchNorm, and more than under all",
        "a quarter to a half; ResNet-101 33 % (± 3), all 5 % (± 2)",
        gamma_zero(*IMAGENET, named={"imagenet-resnet-101": (33, 5)}),
    ),
    Claim(
        "clamp-free",
        "Section 4, Figure 6",
        "CIFAR-10",
        "clamping at 0.01 costs no accuracy, and disables many features",
        "drop within ± 0.5 points; 24 to 38 % of features",
        clamp_free(*CIFAR),
    ),
    Claim(
        "clamp-free",
        "Section 4, Figure 6",
        "ImageNet",
        "clamping at 0.01 costs no accuracy, and disables many features",
        "drop within ± 0.5 points; 24 to 38 % of features",
        clamp_free(*IMAGENET),
    ),
    Claim(
        "clamp-mixed",
        "Section 4, Figure 6",
        "CIFAR-10",
        "clamping at 0.05 leaves all unharmed but in the deepest and widest, where more γ lie below",
        "drop within ± 0.5 points; the share jumps",
        clamp_mixed,
    ),
    Claim(
        "dead-relu",
        "Section 4, Figure 7",
        "CIFAR-10",
        "ReLU channels off more than 99 % of the time",
        "batchnorm 28 to 39 %; all at most 10 %",
        dead_relu(CIFAR, (27.5, 39.5), 10.5),
    ),
    Claim(
        "dead-relu",
        "Section 4, Figure 7",
        "ImageNet",
        "ReLU channels off more than 99 % of the time",
        "batchnorm 28 to 39 %; all at most 2 %",
        dead_relu(IMAGENET, (27.5, 39.5), 2.5),
    ),
    Claim(
        "bn-init",
        "Appendix E.2",
        "CIFAR-10",
        "γ = 1, β = 1 is better for BatchNorm, worse for all",
        "the order",
        bn_init,
    ),
    Claim(
        "vgg-similar",
        "Appendix C",
        "CIFAR-10",
        "VGG shows the same picture",
        "the order of regimes; more γ near 0",
        vgg_similar,
    ),
]


def numbers(
    metrics: pd.DataFrame | None,
    affine: pd.DataFrame | None = None,
    clamping: pd.DataFrame | None = None,
    activations: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return a row per claim: published, measured with its 95 % interval, n, coverage, verdict, reason."""
    tables = {"metrics": metrics, "affine": affine, "clamping": clamping, "activations": activations}
    return _judged(CLAIMS, tables)


def _judged(claims: Iterable[Claim], tables: Mapping[str, pd.DataFrame | None]) -> pd.DataFrame:
    there = [table for table in tables.values() if table is not None and len(table)]
    dataset = there[0]["dataset"].iloc[0]
    trainings = {text for table in there for text in table["training"].unique()}
    setting, schedule = PUBLISHED.get(dataset, (None, {}))
    as_published = setting is not None and all(_agrees(json.loads(t), schedule) for t in trainings)
    measured = Measured(tables)
    return pd.DataFrame([_row(claim, measured, dataset, setting, as_published) for claim in claims])


def _agrees(training: Mapping[str, object], schedule: Mapping[str, object]) -> bool:
    return all(training[key] == value for key, value in schedule.items())


def _row(
    claim: Claim, measured: Measured, dataset: str, setting: str | None, as_published: bool
) -> dict[str, object]:
    row = {
        "id": claim.id,
        "section": claim.section,
        "dataset": claim.dataset,
        "statement": claim.statement,
        "published": claim.published,
    }
    published = as_published and setting == claim.dataset
    # Another dataset, or another schedule, stands in for CIFAR-10's claims, ImageNet's for its own.
    there = [
        estimate
        for estimate in claim.estimate(measured)
        if len(estimate.values) and (published or estimate.direction is not None)
    ]
    if not there:
        networks = "no run of this study measures it"
        value = "published values are judged under the paper's dataset and schedule alone"
        asked = any(len(estimate.values) for estimate in claim.estimate(measured))
        reason = value if asked and not published else networks
        return row | {"measured": "", "n": 0, "coverage": "", "verdict": "not run", "reason": reason}
    verdicts = [e.judged(e.range if published else e.direction) for e in there]
    words = ("reproduced", "contradicted") if published else ("consistent", "inconsistent")
    outside = [str(e) for e, verdict in zip(there, verdicts, strict=True) if verdict is False]
    undecided = [e for e, verdict in zip(there, verdicts, strict=True) if verdict is None]
    count = min(len(estimate.values) for estimate in there)
    if outside:
        verdict, reason = words[1], f"outside: {', '.join(outside)}"
    elif undecided:
        verdict = "inconclusive"
        one_seed = all(len(estimate.values) < 2 for estimate in undecided)
        straddling = f"the interval straddles the bound: {', '.join(map(str, undecided))}"
        reason = "one seed" if one_seed else straddling
    else:
        verdict, reason = words[0], "every interval lies in the range"
    if not published:
        reason += "; direction only, on another dataset or schedule"
    elif dataset == "cifar10-jpeg":
        reason += "; on JPEG-coded images"
    held = sum(verdict is True for verdict in verdicts)
    return row | {
        "measured": ", ".join(map(str, there)),
        "n": count,
        "coverage": f"{held} of {len(there)} estimates hold",
        "verdict": verdict,
        "reason": reason,
    }


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return the claims with long measurements shortened; they are whole in the Parquet and CSV."""
    return numbers[[*WORDS, "n"]].assign(
        measured=numbers["measured"].map(_shortened), reason=numbers["reason"].map(_shortened)
    )


def caption(numbers: pd.DataFrame) -> str:
    """Say how many claims have which verdict, and what the verdicts mean."""
    counted = ", ".join(f"{count} {verdict}" for verdict, count in numbers["verdict"].value_counts().items())
    return (
        f"What the paper says, and what was measured with its 95 % interval over seeds: {counted}. Under the"
        " paper's dataset and schedule a claim is reproduced if every interval lies in the range in brackets,"
        " which is this project's tolerance where the paper gives one number, and contradicted if one lies"
        " outside. Elsewhere only directions are judged: consistent or inconsistent."
    )


def beside(name: str, kind: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return what the paper claims of a figure or table: statement, published, measured and verdict.

    Judged by `table`, the collected one that it is made from; claims about other data than the study's, or
    what stands in for it, are left out. Empty where the paper claims nothing that this table could show.
    """
    dataset = table["dataset"].iloc[0]
    setting = "ImageNet" if known(dataset).photographs else "CIFAR-10"
    there = [claim for claim in CLAIMS if claim.dataset == setting and name in SECTIONS]
    there = [] if own.is_own(dataset) else there
    claims = [claim for claim in there if claim.section.endswith(SECTIONS[name])]
    columns = ["statement", "published", "measured", "verdict"]
    if not claims:
        return pd.DataFrame(columns=columns)
    judged = _judged(claims, {kind: table})
    return judged.assign(measured=judged["measured"].map(_shortened))[columns]


def _shortened(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: text.rfind(", ", 0, length)] + ", …"
