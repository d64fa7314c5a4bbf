"""The paper's claims, each with its published value, judged against what a study measured.

A claim is one statement: an estimate, or some per network, each with a 95 % interval over seeds and the
range in which it holds. `reproduced`: every interval lies inside, and no estimate was not measured.
`contradicted`: one lies outside, of several estimates with a Holm-adjusted p below 0.05. Otherwise
`inconclusive`: straddling, not measured in part, from one seed, or from two seeds that agree. On another
dataset or schedule than the paper's only directions are judged, `consistent` or `inconsistent`, and a value
is `not run`.
"""

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from scipy import special, stats
from statsmodels.stats.multitest import multipletests

from onlybn import custom
from onlybn.datasets import known
from onlybn.drawing.summaries import finals, per_run, stuck
from onlybn.models import architecture
from onlybn.networks.variants import DEFAULT
from onlybn.papers.only_batchnorm.figures.figure_5 import THRESHOLD
from onlybn.papers.only_batchnorm.figures.figure_7 import dead_percent

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

# How many networks of each family the paper has.
PAPERS = {"resnet": 7, "wrn": 5, "vgg": 4, "imagenet-resnet": 5}

POSITIVE = (0.0, math.inf)
NEGATIVE = (-math.inf, 0.0)
# The share of γ near 0, and so of the features that clamping there disables: "a quarter to a half", printed
# as 24 to 38 % too.
NEAR_ZERO = (23.5, 50.5)
# Shares of images and channels move in steps of at least 0.002 % (one of ImageNet's 50,000 test images): of
# two seeds that are closer than this, one count was found twice, and the spread says nothing.
STEP = 0.001


@dataclass(frozen=True)
class Estimate:
    """What was measured of one network, or of one quantity: values by seed, or an interval of its own.

    `range` is where the published claim holds; the ends are outside. Without values it was not measured.
    """

    of: str
    values: Sequence[float]
    range: tuple[float, float]
    network: str = ""
    bounds: tuple[float, float] | None = None

    @cached_property
    def mean(self) -> float:
        """The mean over seeds."""
        return float(np.mean(self.values))

    @cached_property
    def error(self) -> float:
        """The mean's standard error, of two seeds or more."""
        return float(np.std(self.values, ddof=1) / math.sqrt(len(self.values)))

    @cached_property
    def interval(self) -> tuple[float, float]:
        """The 95 % interval over seeds by Student's t; without end for one seed."""
        if self.bounds is not None:
            return self.bounds
        count = len(self.values)
        if count < 2:
            return (-math.inf, math.inf)
        half = float(special.stdtrit(count - 1, 0.975)) * self.error
        return (self.mean - half, self.mean + half)

    @property
    def decides(self) -> bool:
        """Whether there are seeds enough for the interval to mean something."""
        count, (low, high) = len(self.values), self.bounds or (min(self.values), max(self.values))
        return count > 2 or (count == 2 and high - low >= STEP)

    def judged(self, allowed: tuple[float, float]) -> bool | None:
        """Say whether the interval lies in the allowed range, outside it, or (None) decides nothing."""
        low, high = self.interval
        if not self.decides:
            return None
        if allowed[0] < low and high < allowed[1]:
            return True
        return False if high < allowed[0] or low > allowed[1] else None

    def p_outside(self, allowed: tuple[float, float]) -> float:
        """Return Student's two-sided p of a mean outside the allowed range against its nearer end; else 1.

        An interval of its own tells only on which side of 0.05 it is.
        """
        if self.bounds is not None:
            return 0.05 if self.judged(allowed) is False else 1.0
        beyond = max(allowed[0] - self.mean, self.mean - allowed[1])
        if beyond <= 0:
            return 1.0
        # The function of Student's distribution itself: scipy.stats takes a hundred times as long around it.
        tail = float(special.stdtr(len(self.values) - 1, -beyond / self.error)) if self.error else 0.0
        return 2 * tail

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
        self._finished: dict[tuple[str, ...], pd.DataFrame] = {}
        if self.finals is not None:
            finished = self.finals[self.finals["status"] == "finished"].set_index("seed").sort_index()
            self._finished = dict(
                iter(finished.groupby(["architecture", "regime", "variant"], observed=True))
            )

    def values(self, network: str, regime: str, value: str = "top_1", variant: str = DEFAULT) -> pd.Series:
        """Return each finished run's final test accuracy, in percent, by seed."""
        found = self._finished.get((network, regime, variant))
        return pd.Series(dtype=float) if found is None else found[value]

    def per_seed(
        self, table: str, network: str, regime: str, measure: Callable[[pd.DataFrame], float]
    ) -> pd.Series:
        """Return what `measure` makes of each finished run's rows of a table, by seed."""
        rows = self.tables.get(table)
        if rows is None or rows.empty:
            return pd.Series(dtype=float)
        wanted = {"architecture": network, "regime": regime, "variant": DEFAULT, "status": "finished"}
        for column, name in wanted.items():
            rows = rows[rows[column] == name]
        if rows.empty:
            return pd.Series(dtype=float)
        runs = per_run(rows, lambda run: {"value": measure(run)})
        return runs.set_index("seed").sort_index()["value"]

    def networks(self, *families: str) -> list[str]:
        """Return every network of those families in any table, by family and size."""
        there = {
            name
            for table in self.tables.values()
            if table is not None and len(table)
            for name in table["architecture"].unique()
        }
        described = [architecture(name) for name in there if not custom.is_own(name)]
        chosen = [a for a in described if a.family in families]
        return [a.name for a in sorted(chosen, key=lambda a: (a.family, a.depth, a.width))]


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
        yield Estimate(f"{network} {regime} {value}", values, (low, published + tolerance), network)

    return estimate


def paired(
    one: str,
    other: str,
    families: Sequence[str],
    published: tuple[float, float],
    value: str = "top_1",
) -> Callable[[Measured], Estimates]:
    """Claim that on every network one regime beats another by points in the published range."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            values = difference(measured.values(network, one, value), measured.values(network, other, value))
            yield Estimate(network, values, published, network)

    return estimate


def depth_over_width(measured: Measured) -> Estimates:
    """Claim that ResNet-434 beats WRN-14-32, of about as many BatchNorm parameters."""
    values = difference(measured.values("resnet-434", "batchnorm"), measured.values("wrn-14-32", "batchnorm"))
    yield Estimate("resnet-434 − wrn-14-32", values, (5, 9))


def _slopes(measured: Measured, family: str) -> tuple[pd.Series, str]:
    """Return each seed's slope of Figure 3 over a family, in points per doubling, and over which networks."""
    networks = measured.networks(family)
    if family == "wrn" and "resnet-14" in measured.networks("resnet"):
        networks = ["resnet-14", *networks]
    accuracies = {name: measured.values(name, "batchnorm") for name in networks}
    accuracies = {name: values for name, values in accuracies.items() if len(values)}
    if len(accuracies) < 2:
        return pd.Series(dtype=float), ""
    runs = measured.finals.drop_duplicates("architecture").set_index("architecture")
    doublings = [math.log2(runs.loc[name, "batchnorm_parameters"]) for name in accuracies]
    table = pd.DataFrame(accuracies).dropna()  # seeds for which every network finished
    slopes = table.apply(lambda row: stats.linregress(doublings, row).slope, axis=1)
    return slopes, f" ({', '.join(accuracies)})"


def deeper_better(measured: Measured) -> Estimates:
    """Claim that accuracy of BatchNorm alone grows with depth and with width, per doubling."""
    for family, name in (("resnet", "slope by depth"), ("wrn", "slope by width")):
        slopes, over = _slopes(measured, family)
        yield Estimate(name + over, slopes.tolist(), POSITIVE)


def _both_slopes(measured: Measured) -> tuple[pd.Series, pd.Series, str]:
    (depth, deep), (width, wide) = _slopes(measured, "resnet"), _slopes(measured, "wrn")
    return *depth.align(width, join="inner"), f"by depth{deep}, by width{wide}"


def depth_beats_width(measured: Measured) -> Estimates:
    """Claim that the line of Figure 3 is steeper by depth than by width."""
    depth, width, over = _both_slopes(measured)
    yield Estimate(f"slope by depth − by width, {over}", difference(depth, width), POSITIVE)


def depth_beats_width_by(measured: Measured) -> Estimates:
    """Claim by how many percent the line of Figure 3 is steeper by depth than by width."""
    depth, width, over = _both_slopes(measured)
    if len(depth):
        # The slope of the means is the mean of the seeds' slopes.
        ratio = depth.mean() / width.mean() if width.mean() else math.inf
        steeper = [100 * (ratio - 1)] * len(depth)
        low, high = _ratio_interval(depth.to_numpy(), width.to_numpy())
        bounds = (100 * (low - 1), 100 * (high - 1))
        yield Estimate(f"steeper by (%), {over}", steeper, (8, 28), bounds=bounds)


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

            def of(
                what: str,
                measure: Callable[[pd.Series], float],
                allowed: tuple[float, float],
                regime: str = regime,
            ) -> Estimate:
                found = measured.per_seed("affine", network, regime, lambda run: measure(run["gamma"]))
                return Estimate(f"{regime} {what}", found.tolist(), allowed, network)

            yield of("mean", lambda g: g.mean(), _around(mean, 0.05))
            yield of("std", lambda g: g.std(ddof=1), _around(deviation, 0.05))
            if negative is not None:
                yield of("negative (%)", lambda g: 100 * (g < 0).mean(), _around(negative, 5))

    return estimate


def _near_zero(run: pd.DataFrame) -> float:
    return 100 * (run["gamma"].abs() < THRESHOLD).mean()


def shares(
    table: str,
    measure: Callable[[pd.DataFrame], float],
    families: Sequence[str],
    published: Mapping[str, tuple[float, float]],
    network: str | None = None,
) -> Callable[[Measured], Estimates]:
    """Claim what share of a network's channels `measure` finds under each regime, on every network or one."""

    def estimate(measured: Measured) -> Estimates:
        for name in [network] if network else measured.networks(*families):
            for regime, allowed in published.items():
                found = measured.per_seed(table, name, regime, measure).tolist()
                yield Estimate(f"{name} {regime}", found, allowed, name)

    return estimate


def more(
    table: str, measure: Callable[[pd.DataFrame], float], families: Sequence[str]
) -> Callable[[Measured], Estimates]:
    """Claim that on every network that share is larger under `batchnorm` than under `all`."""

    def estimate(measured: Measured) -> Estimates:
        for name in measured.networks(*families):
            found = (measured.per_seed(table, name, regime, measure) for regime in ("batchnorm", "all"))
            yield Estimate(f"{name} batchnorm − all", difference(*found), POSITIVE, name)

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
    """Claim that clamping at 0.01 costs nothing in either regime."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            for regime in ("all", "batchnorm"):
                drop = _clamped(measured, network, regime, 0.01, _drop).tolist()
                yield Estimate(f"{network} {regime} drop", drop, (-0.5, 0.5), network)

    return estimate


def clamp_share(*families: str) -> Callable[[Measured], Estimates]:
    """Claim how many features clamping at 0.01 disables under `batchnorm`."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            disabled = _clamped(measured, network, "batchnorm", 0.01, _share).tolist()
            yield Estimate(f"{network} batchnorm disabled (%)", disabled, NEAR_ZERO, network)

    return estimate


# The deepest and the widest network of the paper, and the next smaller one.
LARGEST = {"resnet-866": "resnet-434", "wrn-14-32": "wrn-14-16"}


def clamp_mixed(measured: Measured) -> Estimates:
    """Claim that clamping at 0.05 leaves `all` unharmed in all but the deepest and the widest network."""
    for network in measured.networks(*CIFAR):
        if network not in LARGEST:
            drop = _clamped(measured, network, "all", 0.05, _drop).tolist()
            yield Estimate(f"{network} drop", drop, (-0.5, 0.5), network)


def clamp_jump(measured: Measured) -> Estimates:
    """Claim that more γ of `all` lie below 0.05 in the deepest and the widest network than in the next."""
    for network, next_one in LARGEST.items():
        found = (_clamped(measured, name, "all", 0.05, _share) for name in (network, next_one))
        yield Estimate(f"{network} − {next_one} below 0.05 (%)", difference(*found), POSITIVE)


ONES = "kaiming-normal_gamma-one-beta-one"
OTHERS = tuple(f"kaiming-normal_{affine}" for affine in ("gamma-uniform", "gamma-one", "gamma-symmetric"))


def bn_init(
    regime: str, others: Sequence[str], allowed: tuple[float, float]
) -> Callable[[Measured], Estimates]:
    """Claim how far γ = 1, β = 1 ends above other initialisations of γ and β, in points, on every network."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*CIFAR):
            ones = measured.values(network, regime, variant=ONES)
            for other in others if len(ones) else ():
                values = difference(ones, measured.values(network, regime, variant=other))
                named = other.removeprefix("kaiming-normal_")
                yield Estimate(f"{network} over {named}", values, allowed, network)

    return estimate


def bn_init_fails(measured: Measured) -> Estimates:
    """Claim that some runs of Appendix E.2 fail to train: they diverge, or end at chance.

    The interval is the exact one of a share, so that it is off 0 once a run has failed.
    """
    if measured.finals is None:
        return
    runs = measured.finals[measured.finals["architecture"].isin(measured.networks(*CIFAR))]
    runs = runs[runs["variant"].isin([ONES, *OTHERS]) & runs["regime"].isin(["all", "batchnorm"])]
    runs = runs[runs.groupby("architecture")["variant"].transform("nunique") > 1]
    failed = 100.0 * (stuck(runs) | (runs["status"] == "diverged"))
    if len(runs):
        share = stats.binomtest(int((failed > 0).sum()), len(runs)).proportion_ci()
        bounds = (100 * share.low, 100 * share.high)
        yield Estimate(f"failed (%) of {len(runs)} runs", failed.tolist(), POSITIVE, bounds=bounds)


def vgg_order(measured: Measured) -> Estimates:
    """Claim that VGGs show the same order of regimes."""
    for one, other in (("all", "batchnorm"), ("batchnorm", "random-2"), ("batchnorm", "output")):
        for estimate in paired(one, other, ["vgg"], POSITIVE)(measured):
            yield replace(estimate, of=f"{estimate.of} {one} − {other}")


@dataclass(frozen=True)
class Claim:
    """A statement of the paper, where it stands, on which dataset, and how it is measured.

    `direction` is the range in which it holds on any dataset and schedule; None where it says nothing there.
    `families` are those of which the paper says it of every network.
    """

    id: str
    section: str
    dataset: str
    statement: str
    published: str
    estimate: Callable[[Measured], Estimates]
    direction: tuple[float, float] | None = None
    families: Sequence[str] = ()


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
        paired("all", "no-affine", CIFAR, (0.5, 2.5)),
        direction=POSITIVE,
        families=CIFAR,
    ),
    Claim(
        "inet-affine-helps",
        "Section 3, Figure 1",
        "ImageNet",
        "all beats all but γ and β, on every network",
        "2 points",
        paired("all", "no-affine", IMAGENET, (1.5, 2.5)),
        direction=POSITIVE,
        families=IMAGENET,
    ),
    Claim(
        "deeper-better",
        "Section 3, Figure 3",
        "CIFAR-10",
        "BatchNorm's accuracy grows per doubling, by depth and by width",
        "slopes above 0",
        deeper_better,
        direction=POSITIVE,
    ),
    Claim(
        "depth-beats-width",
        "Section 3, Figure 3",
        "CIFAR-10",
        "the slope by depth is steeper than by width",
        "steeper",
        depth_beats_width,
        direction=POSITIVE,
    ),
    Claim(
        "depth-beats-width-by",
        "Section 3, Figure 3",
        "CIFAR-10",
        "by how much the slope by depth is steeper",
        "about 18 % (8 to 28)",
        depth_beats_width_by,
    ),
    Claim(
        "random-worse",
        "Section 3, Figure 2",
        "CIFAR-10",
        "BatchNorm beats as many random weights, on every network",
        "17 to 21 points",
        paired("batchnorm", "random-2", CIFAR, (16.5, 21.5)),
        direction=POSITIVE,
        families=CIFAR,
    ),
    Claim(
        "inet-random-worse",
        "Section 3, Figure 2",
        "ImageNet",
        "2 random weights per channel, top-5",
        "at most 4 %",
        lambda measured: (
            estimate
            for network in measured.networks(*IMAGENET)
            for estimate in accuracy(network, "random-2", 4, 0.5, "top_5", at_most=True)(measured)
        ),
        families=IMAGENET,
    ),
    Claim(
        "output-small",
        "Section 3, Figure 2",
        "CIFAR-10",
        "training the output layer too changes little, on every network",
        "within ± 3 points",
        paired("batchnorm+output", "batchnorm", CIFAR, (-3, 3)),
        direction=(-3, 3),
        families=CIFAR,
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
        "inet-bn-out-top-1",
        "Section 3, Figure 2",
        "ImageNet",
        "the output layer adds to BatchNorm, top-1, on every network",
        "12 to 19 points",
        paired("batchnorm+output", "batchnorm", IMAGENET, (11.5, 19.5)),
        direction=POSITIVE,
        families=IMAGENET,
    ),
    Claim(
        "inet-bn-out-top-5",
        "Section 3, Figure 2",
        "ImageNet",
        "the output layer adds to BatchNorm, top-5, on every network",
        "about 25 points (20 to 30)",
        paired("batchnorm+output", "batchnorm", IMAGENET, (20, 30), "top_5"),
        direction=POSITIVE,
        families=IMAGENET,
    ),
    Claim(
        "inet-r200-bn-out-top-1",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, BatchNorm and output layer, top-1",
        "32 % (± 2)",
        accuracy("imagenet-resnet-200", "batchnorm+output", 32, 2),
    ),
    Claim(
        "inet-r200-bn-out-top-5",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, BatchNorm and output layer, top-5",
        "57 % (± 2)",
        accuracy("imagenet-resnet-200", "batchnorm+output", 57, 2, "top_5"),
    ),
    Claim(
        "inet-out-top-1",
        "Section 3, Figure 2",
        "ImageNet",
        "ResNet-200, output layer alone, top-1",
        "0.8 % (± 0.5)",
        accuracy("imagenet-resnet-200", "output", 0.8, 0.5),
    ),
    Claim(
        "inet-out-top-5",
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
        "share of |γ| < 0.01 under BatchNorm, on every network",
        "a quarter to a half (23.5 to 50.5 %)",
        shares("affine", _near_zero, CIFAR, {"batchnorm": NEAR_ZERO}),
        families=CIFAR,
    ),
    Claim(
        "gamma-zero-r110",
        "Section 4, Figure 5",
        "CIFAR-10",
        "share of |γ| < 0.01 in ResNet-110, under BatchNorm and all",
        "27 % (± 3), all 4 % (± 2)",
        shares(
            "affine", _near_zero, CIFAR, {"batchnorm": _around(27, 3), "all": _around(4, 2)}, "resnet-110"
        ),
    ),
    Claim(
        "gamma-zero-more",
        "Section 4, Figure 5",
        "CIFAR-10",
        "more |γ| < 0.01 under BatchNorm than under all, on every network",
        "more",
        more("affine", _near_zero, CIFAR),
        direction=POSITIVE,
        families=CIFAR,
    ),
    Claim(
        "inet-gamma-zero",
        "Section 4, Figure 5",
        "ImageNet",
        "share of |γ| < 0.01 under BatchNorm, on every network",
        "a quarter to a half (23.5 to 50.5 %)",
        shares("affine", _near_zero, IMAGENET, {"batchnorm": NEAR_ZERO}),
        families=IMAGENET,
    ),
    Claim(
        "inet-gamma-zero-r101",
        "Section 4, Figure 5",
        "ImageNet",
        "share of |γ| < 0.01 in ResNet-101, under BatchNorm and all",
        "33 % (± 3), all 5 % (± 2)",
        shares(
            "affine",
            _near_zero,
            IMAGENET,
            {"batchnorm": _around(33, 3), "all": _around(5, 2)},
            "imagenet-resnet-101",
        ),
    ),
    Claim(
        "inet-gamma-zero-more",
        "Section 4, Figure 5",
        "ImageNet",
        "more |γ| < 0.01 under BatchNorm than under all, on every network",
        "more",
        more("affine", _near_zero, IMAGENET),
        direction=POSITIVE,
        families=IMAGENET,
    ),
    Claim(
        "clamp-free",
        "Section 4, Figure 6",
        "CIFAR-10",
        "clamping at 0.01 costs no accuracy, under all and BatchNorm, on every network",
        "drop within ± 0.5 points",
        clamp_free(*CIFAR),
        direction=(-0.5, 0.5),
        families=CIFAR,
    ),
    Claim(
        "clamp-share",
        "Section 4, Figure 6",
        "CIFAR-10",
        "share of features that clamping at 0.01 disables under BatchNorm, on every network",
        "24 to 38 %, elsewhere a quarter to a half (23.5 to 50.5 %)",
        clamp_share(*CIFAR),
        families=CIFAR,
    ),
    Claim(
        "inet-clamp-free",
        "Section 4, Figure 6",
        "ImageNet",
        "clamping at 0.01 costs no accuracy, under all and BatchNorm, on every network",
        "drop within ± 0.5 points",
        clamp_free(*IMAGENET),
        direction=(-0.5, 0.5),
        families=IMAGENET,
    ),
    Claim(
        "inet-clamp-share",
        "Section 4, Figure 6",
        "ImageNet",
        "share of features that clamping at 0.01 disables under BatchNorm, on every network",
        "24 to 38 %, elsewhere a quarter to a half (23.5 to 50.5 %)",
        clamp_share(*IMAGENET),
        families=IMAGENET,
    ),
    Claim(
        "clamp-mixed",
        "Section 4, Figure 6",
        "CIFAR-10",
        "clamping at 0.05 leaves all unharmed, in all but the deepest and widest network",
        "drop within ± 0.5 points",
        clamp_mixed,
        direction=(-0.5, 0.5),
        families=CIFAR,
    ),
    Claim(
        "clamp-jump",
        "Section 4, Figure 6",
        "CIFAR-10",
        "more γ of all lie below 0.05 in the deepest and widest network than in the next",
        "the share jumps",
        clamp_jump,
    ),
    Claim(
        "dead-relu",
        "Section 4, Figure 7",
        "CIFAR-10",
        "ReLU channels off more than 99 % of the time, under BatchNorm and all, on every network",
        "batchnorm 28 to 39 %; all at most 10 %",
        shares("activations", dead_percent, CIFAR, {"batchnorm": (27.5, 39.5), "all": (-math.inf, 10.5)}),
        families=CIFAR,
    ),
    Claim(
        "dead-relu-more",
        "Section 4, Figure 7",
        "CIFAR-10",
        "more such ReLU channels under BatchNorm than under all, on every network",
        "more",
        more("activations", dead_percent, CIFAR),
        direction=POSITIVE,
        families=CIFAR,
    ),
    Claim(
        "inet-dead-relu",
        "Section 4, Figure 7",
        "ImageNet",
        "ReLU channels off more than 99 % of the time, under BatchNorm and all, on every network",
        "batchnorm 28 to 39 %; all at most 2 %",
        shares("activations", dead_percent, IMAGENET, {"batchnorm": (27.5, 39.5), "all": (-math.inf, 2.5)}),
        families=IMAGENET,
    ),
    Claim(
        "inet-dead-relu-more",
        "Section 4, Figure 7",
        "ImageNet",
        "more such ReLU channels under BatchNorm than under all, on every network",
        "more",
        more("activations", dead_percent, IMAGENET),
        direction=POSITIVE,
        families=IMAGENET,
    ),
    Claim(
        "bn-init-best",
        "Appendix E.2",
        "CIFAR-10",
        "γ = 1, β = 1 is the best of four initialisations for BatchNorm, on every network",
        "the order",
        bn_init("batchnorm", OTHERS, POSITIVE),
        direction=POSITIVE,
        families=CIFAR,
    ),
    Claim(
        "bn-init-worse",
        "Appendix E.2",
        "CIFAR-10",
        "γ = 1, β = 1 is worse than the default for all, on every network",
        "the order",
        bn_init("all", OTHERS[:1], NEGATIVE),
        direction=NEGATIVE,
        families=CIFAR,
    ),
    Claim(
        "bn-init-fails",
        "Appendix E.2",
        "CIFAR-10",
        "some runs fail to train, by the initialisation of γ and β",
        "some",
        bn_init_fails,
        direction=POSITIVE,
    ),
    Claim(
        "vgg-similar-order",
        "Appendix C",
        "CIFAR-10",
        "VGG shows the same order: all, BatchNorm, then output and random weights",
        "the order of regimes",
        vgg_order,
        direction=POSITIVE,
        families=("vgg",),
    ),
    Claim(
        "vgg-similar-zero",
        "Appendix C",
        "CIFAR-10",
        "VGG has more |γ| < 0.01 under BatchNorm than under all",
        "more",
        more("affine", _near_zero, ["vgg"]),
        direction=POSITIVE,
        families=("vgg",),
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
    if len(trainings) > 1:  # whose runs must not share a mean
        return pd.DataFrame([_not_run(claim, "runs of several trainings are not judged") for claim in claims])
    setting, schedule = PUBLISHED.get(dataset, (None, {}))
    as_published = setting is not None and all(_agrees(json.loads(t), schedule) for t in trainings)
    measured = Measured(tables)
    return pd.DataFrame([_row(claim, measured, dataset, setting, as_published) for claim in claims])


def _agrees(training: Mapping[str, object], schedule: Mapping[str, object]) -> bool:
    """Say whether a training is the published one; a key beyond the schedule's is a change of it."""
    return {key: value for key, value in training.items() if key != "precision"} == schedule


def _not_run(claim: Claim, reason: str) -> dict[str, object]:
    """Return the row of a claim of which nothing is judged."""
    told = {name: getattr(claim, name) for name in ("id", "section", "dataset", "statement", "published")}
    return told | {"measured": "", "n": 0, "coverage": "", "verdict": "not run", "reason": reason}


def _row(
    claim: Claim, measured: Measured, dataset: str, setting: str | None, as_published: bool
) -> dict[str, object]:
    published = as_published and setting == claim.dataset
    estimates = list(claim.estimate(measured))
    there = [estimate for estimate in estimates if estimate.values]
    if not there:
        return _not_run(claim, "no run of this study measures it")
    # Another dataset, or another schedule, stands in for CIFAR-10's claims, ImageNet's for its own.
    if not published and claim.direction is None:
        return _not_run(claim, "published values are judged under the paper's dataset and schedule alone")
    networks = {estimate.network for estimate in there}
    lacking = [e.of for e in estimates if not e.values and e.network in networks]
    ranges = [estimate.range if published else claim.direction for estimate in there]
    judged = [(e, allowed, e.judged(allowed)) for e, allowed in zip(there, ranges, strict=True)]
    words = ("reproduced", "contradicted") if published else ("consistent", "inconsistent")
    verdict, reason = _verdict(judged, lacking)
    reason += "" if published else "; direction only, on another dataset or schedule"
    reason += "; on JPEG-coded images" if published and dataset == "cifar10-jpeg" else ""
    held = sum(holds is True for _, _, holds in judged)
    coverage = f"{held} of {len(there) + len(lacking)} estimates hold"
    coverage += f", {len(lacking)} not measured" if lacking else ""
    if claim.families:
        coverage += f", on {len(networks)} network{'s' * (len(networks) != 1)}"
        coverage += f" (the paper: {sum(PAPERS[family] for family in claim.families)})"
    return _not_run(claim, reason) | {
        "measured": ", ".join(map(str, there)),
        "n": min(len(estimate.values) for estimate in there),
        "coverage": coverage,
        "verdict": {True: words[0], False: words[1], None: "inconclusive"}[verdict],
    }


Judged = tuple[Estimate, tuple[float, float], bool | None]


def _verdict(judged: Sequence[Judged], lacking: Sequence[str]) -> tuple[bool | None, str]:
    """Return whether the claim holds, fails, or (None) is undecided by these estimates, and why."""
    outside = _certainly_outside(judged)
    if outside:
        return False, f"outside: {', '.join(map(str, outside))}"
    undecided = {
        "one seed": [e for e, _, _ in judged if len(e.values) == 1],
        "two seeds that agree": [e for e, _, _ in judged if len(e.values) == 2 and not e.decides],
        "the interval straddles the bound": [e for e, _, holds in judged if e.decides and holds is None],
        "outside, but not with a Holm-adjusted p below 0.05": [e for e, _, holds in judged if holds is False],
        "not measured": lacking,
    }
    reasons = [f"{why}: {', '.join(map(str, what))}" for why, what in undecided.items() if what]
    return (None, "; ".join(reasons)) if reasons else (True, "every interval lies in the range")


def _certainly_outside(judged: Sequence[Judged]) -> list[Estimate]:
    """Return the estimates outside their range with a Holm-adjusted p below 0.05 among those that decide.

    Of many networks one lies outside by chance more often than 5 % of the time; of one estimate, the
    interval outside is that p.
    """
    tested = [(estimate, allowed, holds) for estimate, allowed, holds in judged if estimate.decides]
    outside = [holds is False for _, _, holds in tested]
    if len(tested) > 1 and any(outside):
        small, *_ = multipletests([e.p_outside(allowed) for e, allowed, _ in tested], 0.05, "holm")
        outside = [beyond and bool(few) for beyond, few in zip(outside, small, strict=True)]
    return [estimate for (estimate, _, _), beyond in zip(tested, outside, strict=True) if beyond]


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
        " outside, of several with a Holm-adjusted p below 0.05. Elsewhere only directions are judged:"
        " consistent or inconsistent."
    )


def beside(name: str, kind: str, table: pd.DataFrame) -> pd.DataFrame:
    """Return what the paper claims of a figure or table: statement, published, measured and verdict.

    Judged by `table`, the collected one that it is made from; claims about other data than the study's, or
    what stands in for it, are left out. Empty where the paper claims nothing that this table could show.
    """
    dataset = table["dataset"].iloc[0]
    setting = "ImageNet" if known(dataset).photographs else "CIFAR-10"
    there = [claim for claim in CLAIMS if claim.dataset == setting and name in SECTIONS]
    there = [] if custom.is_own(dataset) else there
    claims = [claim for claim in there if claim.section.endswith(SECTIONS[name])]
    columns = ["statement", "published", "measured", "verdict"]
    if not claims:
        return pd.DataFrame(columns=columns)
    judged = _judged(claims, {kind: table})
    return judged.assign(measured=judged["measured"].map(_shortened))[columns]


def _shortened(text: str, length: int = 160) -> str:
    return text if len(text) <= length else text[: text.rfind(", ", 0, length)] + ", …"
