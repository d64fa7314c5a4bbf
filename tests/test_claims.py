"""Claims: tables with known answers go through every one of them, to every verdict."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import run_columns

from onlybn.tables.claims import (
    CIFAR10_TRAINING,
    CLAIMS,
    IMAGENET_TRAINING,
    LARGEST,
    POSITIVE,
    Estimate,
    Measured,
    _ratio_interval,
    beside,
    caption,
    depth_beats_width,
    numbers,
    shown,
)
from onlybn.variants import DEFAULT

CIFAR_BATCHNORM = {
    "resnet-14": 48,
    "resnet-32": 55,
    "resnet-56": 62,
    "resnet-110": 69.5,
    "resnet-218": 75,
    "resnet-434": 80,
    "resnet-866": 82,
    "wrn-14-2": 53,
    "wrn-14-4": 58,
    "wrn-14-8": 63,
    "wrn-14-16": 68,
    "wrn-14-32": 73,
    "vgg-11": 50,
    "vgg-16": 52,
}
IMAGENET_BATCHNORM = {"imagenet-resnet-50": 7, "imagenet-resnet-101": 11, "imagenet-resnet-200": 17}
IMAGENET_TOP_5 = {"imagenet-resnet-50": 17, "imagenet-resnet-101": 24, "imagenet-resnet-200": 32}


class World:
    """Tables in which every claim holds, but for `wrong`, which moves every quantity far out of its range.

    Replicates differ by `noise` around that, the same for every quantity of a seed but for its sign.
    """

    def __init__(self, dataset, training, seeds=3, wrong=False, noise=0.02):
        self.dataset, self.training, self.wrong = dataset, training, wrong
        self.seeds, self.noise = range(seeds), noise
        imagenet = dataset == "imagenet"
        self.batchnorm = IMAGENET_BATCHNORM if imagenet else CIFAR_BATCHNORM
        self.tables = (self.metrics(imagenet), *map(self.measured, ("affine", "clamping", "activations")))

    def run(self, network, regime, seed, variant=DEFAULT):
        training = {"epochs": self.training["epochs"], "training": json.dumps(self.training)}
        return run_columns(network, regime, seed, dataset=self.dataset, variant=variant, **training)

    def metrics(self, imagenet):
        rows = []
        for network, bn in self.batchnorm.items():
            top_5 = IMAGENET_TOP_5.get(network, 90)
            # Points above `batchnorm`; turned round, and enlarged, every one is outside its range.
            offsets = {
                "batchnorm": (0, 0),
                "batchnorm+output": (15, 25) if imagenet else (1, 0),
                "random-2": (-6, 3 - top_5) if imagenet else (-19, 0),
                "output": (0.8 - bn, 2.7 - top_5) if imagenet else (-25, 0),
            }
            accuracies = {regime: (bn + a, top_5 + b) for regime, (a, b) in offsets.items()}
            accuracies["all"] = (93.3, 98)
            accuracies["no-affine"] = (91.3 if imagenet else 92.1, 97)
            rows += [
                self.accuracy(network, regime, DEFAULT, *values) for regime, values in accuracies.items()
            ]
            if not imagenet:
                ones = "kaiming-normal_gamma-one-beta-one"
                rows += [self.accuracy(network, "batchnorm", ones, bn + 2, 90)]
                rows += [self.accuracy(network, "all", ones, 92, 90)]
        return pd.concat(rows, ignore_index=True)

    def accuracy(self, network, regime, variant, top_1, top_5):
        if self.wrong:
            steeper = 0.9 if network.startswith("wrn") else 1.2
            top_1, top_5 = 100 - steeper * top_1, 100 - steeper * top_5
            top_1 += 40 * (regime == "batchnorm+output")
            top_5 += 40 * (regime == "batchnorm+output")
        rows = []
        for seed in self.seeds:
            jitter = self.noise * (seed - 1) * (-1) ** len(regime + network)
            row = {"epoch": 1, "split": "test", "top_1": top_1 + jitter, "top_5": top_5 + jitter}
            rows.append(self.run(network, regime, seed, variant) | row)
        return pd.DataFrame(rows)

    def measured(self, table):
        rows = []
        for network in self.batchnorm:
            for regime in ("all", "batchnorm"):
                regime_as = {"all": "batchnorm", "batchnorm": "all"}[regime] if self.wrong else regime
                for seed in self.seeds:
                    run = self.run(network, regime, seed)
                    rows.append(getattr(self, table)(network, regime_as, seed).assign(**run))
        return pd.concat(rows, ignore_index=True)

    def affine(self, network, regime, seed):
        zeros, negative, low, high = {
            ("all", False): (8, 10, -0.6, 0.33),  # mean 0.27, deviation 0.21
            ("batchnorm", False): (60, 50, -0.455, 0.697),  # mean 0.20, deviation 0.48
            ("all", True): (10, 10, -0.3, 0.172),
            ("batchnorm", True): (66, 60, -0.29, 0.37),
        }[regime, self.dataset == "imagenet"]
        gamma = np.full(200, high)
        gamma[:zeros] = 0
        gamma[zeros : zeros + negative] = low
        # One γ per seed moves, so that replicates differ.
        return pd.DataFrame({"gamma": np.append(gamma, 0.2 + 0.01 * seed * self.noise / 0.02)})

    def clamping(self, network, regime, seed):
        drop = (6 if self.wrong else 0.1) + self.noise * seed
        share = {"all": 4, "batchnorm": 30}[regime]
        jump = 20 * (network in LARGEST)
        return pd.DataFrame(
            {
                "threshold": [0.01, 0.05],
                "beta_too": False,
                "top_1_unclamped": 60.0,
                "top_1": 60 - drop,
                "clamped_percent": [share + self.noise * seed, share + jump + self.noise * seed],
            }
        )

    def activations(self, network, regime, seed):
        dead = {"all": 1, "batchnorm": 33}[regime] + seed * (self.noise > 1)
        return pd.DataFrame({"off": np.where(np.arange(100) < dead, 1.0, 0.5)})


CIFAR = [claim.id for claim in CLAIMS if claim.dataset == "CIFAR-10"]
IMAGENET = [claim.id for claim in CLAIMS if claim.dataset == "ImageNet"]
SETTINGS = {
    "CIFAR-10": ("cifar10", CIFAR10_TRAINING),
    "ImageNet": ("imagenet", IMAGENET_TRAINING),
}


def verdicts(*world, setting=None, **kwargs):
    rows = numbers(*World(*world, **kwargs).tables)
    return rows[rows["dataset"] == setting] if setting else rows


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_claim_is_reproduced_where_it_holds(setting):
    rows = verdicts(*SETTINGS[setting], setting=setting)
    assert set(rows["verdict"]) == {"reproduced"}, rows[rows["verdict"] != "reproduced"].to_string()
    assert (rows["n"] == 3).all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_claim_is_contradicted_where_it_fails(setting):
    rows = verdicts(*SETTINGS[setting], setting=setting, wrong=True)
    assert set(rows["verdict"]) == {"contradicted"}, rows[rows["verdict"] != "contradicted"].to_string()
    assert rows["reason"].str.startswith("outside: ").all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_seed_is_inconclusive_at_best(setting):
    rows = verdicts(*SETTINGS[setting], setting=setting, seeds=1)
    assert set(rows["verdict"]) == {"inconclusive"}
    assert rows["reason"].str.startswith("one seed").all()


def test_a_mean_that_rounds_to_0_has_no_sign_but_the_ends_of_its_interval_tell_theirs():
    assert str(Estimate("drop", [-0.001, -0.0012], POSITIVE)) == "drop 0.00 [-0.00, 0.00]"


def test_an_interval_that_straddles_the_bound_is_inconclusive():
    rows = verdicts(*SETTINGS["CIFAR-10"], setting="CIFAR-10", noise=30).set_index("id")
    accuracies = rows.loc[["acc-r110-all", "acc-r14-bn", "depth-over-width", "random-worse"]]
    assert set(accuracies["verdict"]) == {"inconclusive"}
    assert accuracies["reason"].str.startswith("the interval straddles the bound").all()


def test_claims_of_what_was_not_run_say_so():
    metrics, *_ = World(*SETTINGS["CIFAR-10"]).tables
    rows = numbers(metrics[metrics["architecture"] == "resnet-14"])
    ran = rows[rows["verdict"] != "not run"]["id"].tolist()
    assert ran == ["acc-r14-bn", "affine-helps", "random-worse", "output-small", "bn-init"]


DIRECTIONS = {
    *("affine-helps", "deeper-better", "depth-beats-width", "random-worse", "output-small"),
    *("gamma-zero", "clamp-free", "clamp-mixed", "dead-relu", "bn-init", "vgg-similar"),
}


@pytest.mark.parametrize(("wrong", "verdict"), [(False, "consistent"), (True, "inconsistent")])
@pytest.mark.parametrize(
    ("dataset", "training"), [("digits", CIFAR10_TRAINING), ("cifar10", CIFAR10_TRAINING | {"epochs": 5})]
)
def test_elsewhere_directions_are_judged_and_values_are_not_run(dataset, training, wrong, verdict):
    rows = verdicts(dataset, training, setting="CIFAR-10", wrong=wrong).set_index("id")
    assert {claim for claim, row in rows.iterrows() if row["verdict"] == verdict} == DIRECTIONS
    assert set(rows["verdict"]) == {verdict, "not run"}
    assert "published values are judged" in rows.loc["acc-r14-bn", "reason"]


def test_jpeg_coded_images_count_as_the_papers_with_a_remark():
    rows = verdicts("cifar10-jpeg", CIFAR10_TRAINING, setting="CIFAR-10")
    assert set(rows["verdict"]) == {"reproduced"}
    assert rows["reason"].str.endswith("on JPEG-coded images").all()


def test_the_interval_is_students_t_over_seeds():
    estimate = Estimate("x", [1.0, 2.0, 3.0], (0, 4))
    assert estimate.interval == pytest.approx((2 - 4.302653 / 3**0.5, 2 + 4.302653 / 3**0.5), rel=1e-5)
    assert Estimate("x", [1.0, 2.0, 3.0], (-1, 5)).judged((-1, 5)) is True
    assert estimate.judged((0, 4)) is None
    assert estimate.judged((5, 6)) is False


def test_two_seeds_that_agree_exactly_decide_nothing_and_no_difference_is_not_a_gain():
    assert Estimate("x", [0.8, 0.8], POSITIVE).judged(POSITIVE) is None
    assert Estimate("x", [0.8, 0.8, 0.8], POSITIVE).judged(POSITIVE) is True
    assert Estimate("x", [0.0, 0.0, 0.0], POSITIVE).judged(POSITIVE) is None


def slopes(depth, width):
    """Return the judgement of Figure 3's slopes of networks that gain so many points, a value per seed."""
    rows = [
        run_columns(network, "batchnorm", seed)
        | {"epoch": 1, "split": "test", "batchnorm_parameters": count, "top_1": top_1, "top_5": 90.0}
        for seed, gains in enumerate(zip(depth, width, strict=True))
        for network, count, top_1 in (
            ("resnet-14", 1_000, 40.0),
            ("resnet-32", 2_000, 40 + gains[0]),
            ("wrn-14-2", 2_000, 40 + gains[1]),
        )
    ]
    return list(depth_beats_width(Measured({"metrics": pd.DataFrame(rows)})))


@pytest.mark.parametrize(
    ("depth", "width", "verdict"),
    [
        ((3.0, 3.1, 3.0), (2.0, 2.1, 2.2), True),
        ((-6.0, -6.5, -6.2), (-3.0, -3.1, -3.0), False),  # steeper downwards is not steeper
        ((5.0, 5.1, 5.2), (-1.0, -1.1, -1.0), True),
        ((3.0, 3.7), (2.9, 2.4), None),
    ],
)
def test_depth_beats_width_is_judged_by_the_difference_of_the_slopes(depth, width, verdict):
    difference, ratio = slopes(depth, width)
    assert difference.judged(difference.direction) is verdict
    if np.mean(width) < 0 or len(depth) == 2:
        assert ratio.interval == (-np.inf, np.inf)


def test_the_interval_of_the_slopes_ratio_covers_what_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        depth, width = 3.54 + 0.2 * rng.standard_normal(3), 3 + 0.2 * rng.standard_normal(3)
        low, high = _ratio_interval(depth, width)
        covered += low < 1.18 < high
    assert 0.91 < covered / 300 < 0.99


def test_every_claim_of_the_paper_has_a_row_with_its_section_and_published_value():
    rows = verdicts(*SETTINGS["CIFAR-10"])
    assert len(rows) == len(CLAIMS) == 32
    assert (rows[["section", "published", "statement"]] != "").all(axis=None)
    assert len(shown(rows)) == 32
    assert all(
        f"{count} {verdict}" in caption(rows) for verdict, count in rows["verdict"].value_counts().items()
    )


def test_beside_a_figure_stand_the_claims_that_the_paper_makes_of_it_judged_by_its_table():
    metrics, affine, *_ = World("cifar10", CIFAR10_TRAINING).tables
    rows = beside("figure-2", "metrics", metrics).set_index("statement")
    assert rows.loc["ResNet-110, BatchNorm", ["published", "verdict"]].tolist() == [
        "69.5 % (± 2)",
        "reproduced",
    ]
    assert not any("ResNet-50" in statement for statement in rows.index)  # ImageNet's
    assert beside("figure-5", "affine", affine)["verdict"].tolist() == ["reproduced"]
    assert beside("figure-g", "affine", affine).empty
