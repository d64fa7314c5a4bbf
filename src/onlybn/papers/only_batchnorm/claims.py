"""The paper's claims, each with its published value and how it is measured."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import pandas as pd
from scipy import stats

from onlybn.axes import DEFAULTS
from onlybn.drawing.queries import Measured, difference
from onlybn.drawing.summaries import stuck
from onlybn.judging import NEGATIVE, POSITIVE, Claim, Estimate, Estimates, around, ratio_interval
from onlybn.papers.only_batchnorm.figures.shares import dead_percent, near_zero
from onlybn.papers.only_batchnorm.published import NEAR_ZERO, NETWORKS, PUBLISHED

__all__ = ["CLAIMS", "PUBLISHED"]

Estimator = Callable[[Measured], Estimates]
CIFAR = ("resnet", "wrn")
IMAGENET = ("imagenet-resnet",)
# How many networks a claim about every one of them is about.
ON_CIFAR = sum(NETWORKS[family] for family in CIFAR)
ON_IMAGENET = sum(NETWORKS[family] for family in IMAGENET)


def accuracy(
    network: str, regime: str, published: float, tolerance: float, value: str = "top_1", at_most: bool = False
) -> Estimator:
    """Claim that a network's accuracy is what was published, within a tolerance in points."""
    low = -math.inf if at_most else published - tolerance

    def estimate(measured: Measured) -> Estimates:
        values = measured.values(network, regime, value).tolist()
        yield Estimate(f"{network} {regime} {value}", values, (low, published + tolerance), network)

    return estimate


def inet_random_worse(measured: Measured) -> Estimates:
    """Claim that ImageNet's networks reach a top-5 of 4 % at most when 2 random weights per channel train."""
    for network in measured.networks(*IMAGENET):
        yield from accuracy(network, "random-2", 4, 0.5, "top_5", at_most=True)(measured)


def paired(
    one: str, other: str, families: Sequence[str], published: tuple[float, float], value: str = "top_1"
) -> Estimator:
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
        low, high = ratio_interval(depth.to_numpy(), width.to_numpy())
        bounds = (100 * (low - 1), 100 * (high - 1))
        yield Estimate(f"steeper by (%), {over}", steeper, (8, 28), bounds=bounds)


def gamma_moments(network: str, published: Mapping[str, tuple[float, float, float | None]]) -> Estimator:
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

            yield of("mean", lambda g: g.mean(), around(mean, 0.05))
            yield of("std", lambda g: g.std(ddof=1), around(deviation, 0.05))
            if negative is not None:
                yield of("negative (%)", lambda g: 100 * (g < 0).mean(), around(negative, 5))

    return estimate


def shares(
    table: str,
    measure: Callable[[pd.DataFrame], float],
    families: Sequence[str],
    published: Mapping[str, tuple[float, float]],
    network: str | None = None,
) -> Estimator:
    """Claim what share of a network's channels `measure` finds under each regime, on every network or one."""

    def estimate(measured: Measured) -> Estimates:
        for name in [network] if network else measured.networks(*families):
            for regime, allowed in published.items():
                found = measured.per_seed(table, name, regime, measure).tolist()
                yield Estimate(f"{name} {regime}", found, allowed, name)

    return estimate


def more(table: str, measure: Callable[[pd.DataFrame], float], families: Sequence[str]) -> Estimator:
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


def clamp_free(*families: str) -> Estimator:
    """Claim that clamping at 0.01 costs nothing in either regime."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*families):
            for regime in ("all", "batchnorm"):
                drop = _clamped(measured, network, regime, 0.01, _drop).tolist()
                yield Estimate(f"{network} {regime} drop", drop, (-0.5, 0.5), network)

    return estimate


def clamp_share(*families: str) -> Estimator:
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
    """Claim that clamping at 0.05 harms `all` in the deepest and the widest network, where more γ lie below.

    More than in the next smaller one; harm is a drop of more than 0.5 points.
    """
    for network, next_one in LARGEST.items():
        found = (_clamped(measured, name, "all", 0.05, _share) for name in (network, next_one))
        yield Estimate(f"{network} − {next_one} below 0.05 (%)", difference(*found), POSITIVE)
        drop = _clamped(measured, network, "all", 0.05, _drop).tolist()
        yield Estimate(f"{network} drop", drop, (0.5, math.inf))


ONES = "kaiming-normal_gamma-one-beta-one"
OTHERS = tuple(f"kaiming-normal_{affine}" for affine in ("gamma-uniform", "gamma-one", "gamma-symmetric"))


def bn_init(regime: str, others: Sequence[str], allowed: tuple[float, float]) -> Estimator:
    """Claim how far γ = 1, β = 1 ends above other initialisations of γ and β, in points, on every network."""

    def estimate(measured: Measured) -> Estimates:
        for network in measured.networks(*CIFAR):
            for other in others:
                pair = (measured.values(network, regime, variant=variant) for variant in (ONES, other))
                values = difference(*pair)
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
    for axis, neutral in DEFAULTS.items():
        if axis != "variant" and axis in runs:
            runs = runs[runs[axis] == neutral]
    runs = runs[runs["variant"].isin([ONES, *OTHERS]) & runs["regime"].isin(["all", "batchnorm"])]
    runs = runs[runs.groupby("architecture")["variant"].transform("nunique") > 1]
    failed = 100.0 * (stuck(runs) | (runs["status"] == "diverged"))
    if len(runs):
        share = stats.binomtest(int((failed > 0).sum()), len(runs)).proportion_ci()
        bounds = (100 * share.low, 100 * share.high)
        by_seed = failed.groupby(runs["seed"]).mean().tolist()
        yield Estimate(f"failed (%) of {len(runs)} runs", by_seed, POSITIVE, bounds=bounds)


def vgg_order(measured: Measured) -> Estimates:
    """Claim that VGGs show the same order of regimes."""
    for one, other in (("all", "batchnorm"), ("batchnorm", "random-2"), ("batchnorm", "output")):
        for estimate in paired(one, other, ["vgg"], POSITIVE)(measured):
            yield replace(estimate, of=f"{estimate.of} {one} − {other}")


def _claims(section: str, dataset: str, *rows: tuple) -> list[Claim]:
    """Return the claims that a section makes on a dataset, of rows of a claim's other fields."""
    return [Claim(name, section, dataset, *rest) for name, *rest in rows]


# A row: id, statement, published, estimate; where there are any, direction and networks.
# fmt: off
CLAIMS = [
    *_claims("Section 3, Figure 2", "CIFAR-10",
        ("acc-r110-all", "ResNet-110, all parameters", "93.3 % (± 1.5)",
         accuracy("resnet-110", "all", 93.3, 1.5)),
        ("acc-r110-bn", "ResNet-110, BatchNorm", "69.5 % (± 2)",
         accuracy("resnet-110", "batchnorm", 69.5, 2)),
        ("acc-r14-bn", "ResNet-14, BatchNorm", "48 % (± 2)", accuracy("resnet-14", "batchnorm", 48, 2)),
        ("acc-r866-bn", "ResNet-866, BatchNorm", "82 % (± 2)", accuracy("resnet-866", "batchnorm", 82, 2)),
        ("acc-w32-bn", "WRN-14-32, BatchNorm", "73 % (± 2)", accuracy("wrn-14-32", "batchnorm", 73, 2)),
    ),
    *_claims("Section 3, Figure 3", "CIFAR-10",
        ("depth-over-width", "ResNet-434 beats WRN-14-32 under BatchNorm", "about 7 points (5 to 9)",
         depth_over_width),
    ),
    *_claims("Section 3, Figure 1", "CIFAR-10",
        ("affine-helps", "all beats all but γ and β, on every network", "0.5 to 2 points",
         paired("all", "no-affine", CIFAR, (0.5, 2.5)), POSITIVE, ON_CIFAR),
    ),
    *_claims("Section 3, Figure 1", "ImageNet",
        ("inet-affine-helps", "all beats all but γ and β, on every network", "2 points",
         paired("all", "no-affine", IMAGENET, (1.5, 2.5)), POSITIVE, ON_IMAGENET),
    ),
    *_claims("Section 3, Figure 3", "CIFAR-10",
        ("deeper-better", "BatchNorm's accuracy grows per doubling, by depth and by width", "slopes above 0",
         deeper_better, POSITIVE),
        ("depth-beats-width", "the slope by depth is steeper than by width", "steeper",
         depth_beats_width, POSITIVE),
        ("depth-beats-width-by", "by how much the slope by depth is steeper", "about 18 % (8 to 28)",
         depth_beats_width_by),
    ),
    *_claims("Section 3, Figure 2", "CIFAR-10",
        ("random-worse", "BatchNorm beats as many random weights, on every network",
         "17 to 21 points (random weights: 56 % at best)",
         paired("batchnorm", "random-2", CIFAR, (16.5, 21.5)), POSITIVE, ON_CIFAR),
    ),
    *_claims("Section 3, Figure 2", "ImageNet",
        ("inet-random-worse", "2 random weights per channel, top-5", "at most 4 %",
         inet_random_worse, None, ON_IMAGENET),
    ),
    *_claims("Section 3, Figure 2", "CIFAR-10",
        ("output-small", "training the output layer too changes little, on every network",
         "within ± 3 points", paired("batchnorm+output", "batchnorm", CIFAR, (-3, 3)), (-3, 3), ON_CIFAR),
    ),
    *_claims("Section 3, Figure 2", "ImageNet",
        ("inet-r50-bn", "ResNet-50, BatchNorm, top-5", "17 % (± 2)",
         accuracy("imagenet-resnet-50", "batchnorm", 17, 2, "top_5")),
        ("inet-r200-bn", "ResNet-200, BatchNorm, top-5", "32 % (± 2)",
         accuracy("imagenet-resnet-200", "batchnorm", 32, 2, "top_5")),
        ("inet-bn-out-top-1", "the output layer adds to BatchNorm, top-1, on every network",
         "12 to 19 points",
         paired("batchnorm+output", "batchnorm", IMAGENET, (11.5, 19.5)), POSITIVE, ON_IMAGENET),
        ("inet-bn-out-top-5", "the output layer adds to BatchNorm, top-5, on every network",
         "about 25 points (20 to 30)",
         paired("batchnorm+output", "batchnorm", IMAGENET, (20, 30), "top_5"), POSITIVE, ON_IMAGENET),
        ("inet-r200-bn-out-top-1", "ResNet-200, BatchNorm and output layer, top-1", "32 % (± 2)",
         accuracy("imagenet-resnet-200", "batchnorm+output", 32, 2)),
        ("inet-r200-bn-out-top-5", "ResNet-200, BatchNorm and output layer, top-5", "57 % (± 2)",
         accuracy("imagenet-resnet-200", "batchnorm+output", 57, 2, "top_5")),
        ("inet-out-top-1", "ResNet-200, output layer alone, top-1", "0.8 % (± 0.5)",
         accuracy("imagenet-resnet-200", "output", 0.8, 0.5)),
        ("inet-out-top-5", "ResNet-200, output layer alone, top-5", "2.7 % (± 0.5)",
         accuracy("imagenet-resnet-200", "output", 2.7, 0.5, "top_5")),
    ),
    *_claims("Section 4, Figure 4", "CIFAR-10",
        ("gamma-r110", "γ of ResNet-110: mean, deviation, negative share",
         "all: 0.27, 0.21, 5 %; batchnorm: 0.20, 0.48, 25 % (± 0.05, ± 5 %)",
         gamma_moments("resnet-110", {"all": (0.27, 0.21, 5), "batchnorm": (0.20, 0.48, 25)})),
    ),
    *_claims("Section 4, Figure 4", "ImageNet",
        ("gamma-r101", "γ of ResNet-101: mean, deviation", "all: 0.14, 0.14; batchnorm: 0.05, 0.26 (± 0.05)",
         gamma_moments("imagenet-resnet-101", {"all": (0.14, 0.14, None), "batchnorm": (0.05, 0.26, None)})),
    ),
    *_claims("Section 4, Figure 5", "CIFAR-10",
        ("gamma-zero", "share of |γ| < 0.01 under BatchNorm, on every network",
         "a quarter to a half (23.5 to 50.5 %)",
         shares("affine", near_zero, CIFAR, {"batchnorm": NEAR_ZERO}), None, ON_CIFAR),
        ("gamma-zero-r110", "share of |γ| < 0.01 in ResNet-110, under BatchNorm and all",
         "27 % (± 3), all 4 % (± 2)",
         shares("affine", near_zero, CIFAR, {"batchnorm": around(27, 3), "all": around(4, 2)}, "resnet-110")),
        ("gamma-zero-more", "more |γ| < 0.01 under BatchNorm than under all, on every network", "more",
         more("affine", near_zero, CIFAR), POSITIVE, ON_CIFAR),
    ),
    *_claims("Section 4, Figure 5", "ImageNet",
        ("inet-gamma-zero", "share of |γ| < 0.01 under BatchNorm, on every network",
         "a quarter to a half (23.5 to 50.5 %)",
         shares("affine", near_zero, IMAGENET, {"batchnorm": NEAR_ZERO}), None, ON_IMAGENET),
        ("inet-gamma-zero-r101", "share of |γ| < 0.01 in ResNet-101, under BatchNorm and all",
         "33 % (± 3), all 5 % (± 2)",
         shares("affine", near_zero, IMAGENET, {"batchnorm": around(33, 3), "all": around(5, 2)},
                "imagenet-resnet-101")),
        ("inet-gamma-zero-more", "more |γ| < 0.01 under BatchNorm than under all, on every network", "more",
         more("affine", near_zero, IMAGENET), POSITIVE, ON_IMAGENET),
    ),
    *_claims("Section 4, Figure 6", "CIFAR-10",
        ("clamp-free", "clamping at 0.01 costs no accuracy, under all and BatchNorm, on every network",
         "drop within ± 0.5 points", clamp_free(*CIFAR), (-0.5, 0.5), ON_CIFAR),
        ("clamp-share", "share of features that clamping at 0.01 disables under BatchNorm, on every network",
         "24 to 38 %, elsewhere a quarter to a half (23.5 to 50.5 %)", clamp_share(*CIFAR), None, ON_CIFAR),
    ),
    *_claims("Section 4, Figure 6", "ImageNet",
        ("inet-clamp-free", "clamping at 0.01 costs no accuracy, under all and BatchNorm, on every network",
         "drop within ± 0.5 points", clamp_free(*IMAGENET), (-0.5, 0.5), ON_IMAGENET),
        ("inet-clamp-share",
         "share of features that clamping at 0.01 disables under BatchNorm, on every network",
         "24 to 38 %, elsewhere a quarter to a half (23.5 to 50.5 %)",
         clamp_share(*IMAGENET), None, ON_IMAGENET),
    ),
    *_claims("Section 4, Figure 6", "CIFAR-10",
        ("clamp-mixed", "clamping at 0.05 leaves all unharmed, in all but the deepest and widest network",
         "drop within ± 0.5 points", clamp_mixed, (-0.5, 0.5), ON_CIFAR - len(LARGEST)),
        ("clamp-jump", "and harms the deepest and widest, where it clamps more γ than in the next network",
         "the share jumps; a drop of more than 0.5 points", clamp_jump),
    ),
    *_claims("Section 4, Figure 7", "CIFAR-10",
        ("dead-relu",
         "ReLU channels off more than 99 % of the time, under BatchNorm and all, on every network",
         "batchnorm 28 to 39 %; all at most 10 %",
         shares("activations", dead_percent, CIFAR, {"batchnorm": (27.5, 39.5), "all": (-math.inf, 10.5)}),
         None, ON_CIFAR),
        ("dead-relu-more", "more such ReLU channels under BatchNorm than under all, on every network",
         "more", more("activations", dead_percent, CIFAR), POSITIVE, ON_CIFAR),
    ),
    *_claims("Section 4, Figure 7", "ImageNet",
        ("inet-dead-relu",
         "ReLU channels off more than 99 % of the time, under BatchNorm and all, on every network",
         "batchnorm 28 to 39 %; all at most 2 %",
         shares("activations", dead_percent, IMAGENET, {"batchnorm": (27.5, 39.5), "all": (-math.inf, 2.5)}),
         None, ON_IMAGENET),
        ("inet-dead-relu-more", "more such ReLU channels under BatchNorm than under all, on every network",
         "more", more("activations", dead_percent, IMAGENET), POSITIVE, ON_IMAGENET),
    ),
    *_claims("Appendix E.2", "CIFAR-10",
        ("bn-init-best", "γ = 1, β = 1 is the best of four initialisations for BatchNorm, on every network",
         "the order", bn_init("batchnorm", OTHERS, POSITIVE), POSITIVE, ON_CIFAR),
        ("bn-init-worse", "γ = 1, β = 1 is worse than the default for all, on every network", "the order",
         bn_init("all", OTHERS[:1], NEGATIVE), NEGATIVE, ON_CIFAR),
        ("bn-init-fails", "some runs fail to train with some initialisations of γ and β", "some",
         bn_init_fails, POSITIVE),
    ),
    *_claims("Appendix C", "CIFAR-10",
        ("vgg-similar-order", "VGG shows the same order: all, BatchNorm, then output and random weights",
         "the order of regimes", vgg_order, POSITIVE, NETWORKS["vgg"]),
        ("vgg-similar-zero", "VGG has more |γ| < 0.01 under BatchNorm than under all", "more",
         more("affine", near_zero, ["vgg"]), POSITIVE, NETWORKS["vgg"]),
        ("vgg-similar-share", "share of |γ| < 0.01 of VGG under BatchNorm",
         "a quarter to a half (23.5 to 50.5 %)",
         shares("affine", near_zero, ["vgg"], {"batchnorm": NEAR_ZERO}), None, NETWORKS["vgg"]),
    ),
]
# fmt: on
