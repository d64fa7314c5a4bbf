"""Claims: tables with known answers go through every one of them, to every verdict."""

import json
from collections import Counter
from functools import cache

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import BUILTIN, CONFIG, run_columns
from scipy import stats

from onlybn.configuration import open_study
from onlybn.drawing import queries, summaries
from onlybn.drawing.queries import Measured
from onlybn.drawing.report import claimed
from onlybn.judging import OWN, POSITIVE, Claim, Estimate, Published, Setting, judge, ratio_interval
from onlybn.models import architecture
from onlybn.networks.variants import DEFAULT
from onlybn.papers import paper
from onlybn.papers.only_batchnorm.claims import (
    CLAIMS,
    LARGEST,
    ONES,
    OTHERS,
    depth_beats_width,
    depth_beats_width_by,
)
from onlybn.papers.only_batchnorm.published import (
    CIFAR10_TRAINING,
    IMAGENET_TRAINING,
    NEAR_ZERO,
    NETWORKS,
)
from onlybn.papers.only_batchnorm.tables import claims_appendices
from onlybn.papers.only_batchnorm.tables.claims import caption, numbers, shown

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
                rows += [self.accuracy(network, "batchnorm", ONES, bn + 2, 90)]
                rows += [self.accuracy(network, "all", ONES, 92, 90)]
                rows += [self.accuracy(network, "batchnorm", other, bn - 1, 90) for other in OTHERS[1:]]
                rows += [self.accuracy(network, "all", OTHERS[1], 10, 50)[:1]]  # a failed run
        return pd.DataFrame([row for seeds in rows for row in seeds])

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
        return rows

    def measured(self, table):
        rows, runs = [], []
        for network in self.batchnorm:
            for regime in ("all", "batchnorm"):
                regime_as = {"all": "batchnorm", "batchnorm": "all"}[regime] if self.wrong else regime
                for seed in self.seeds:
                    rows.append(getattr(self, table)(network, regime_as, seed))
                    runs.append(self.run(network, regime, seed))
        described = pd.DataFrame(runs).loc[np.repeat(range(len(runs)), list(map(len, rows)))]
        return pd.concat([described.reset_index(drop=True), pd.concat(rows, ignore_index=True)], axis=1)

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
        drop, at_0_05 = (6, 6) if self.wrong else (0.1, 0.1)
        if network in LARGEST:
            at_0_05 = 0.1 if self.wrong else 6
        more = self.noise * seed
        share = {"all": 4, "batchnorm": 30}[regime]
        jump = (-20 if self.wrong else 20) * (network in LARGEST)
        return pd.DataFrame(
            {
                "threshold": [0.01, 0.05],
                "beta_too": False,
                "top_1_unclamped": 60.0,
                "top_1": [60 - drop - more, 60 - at_0_05 - more],
                "clamped_percent": [share + self.noise * seed, share + jump + self.noise * seed],
            }
        )

    def activations(self, network, regime, seed):
        dead = {"all": 1, "batchnorm": 33}[regime] + seed * (self.noise > 1)
        return pd.DataFrame({"off": np.where(np.arange(100) < dead, 1.0, 0.5)})


PAPER = paper("only-batchnorm")
CIFAR = [claim.id for claim in CLAIMS if claim.dataset == "CIFAR-10"]
IMAGENET = [claim.id for claim in CLAIMS if claim.dataset == "ImageNet"]
SETTINGS = {
    "CIFAR-10": ("cifar10", CIFAR10_TRAINING),
    "ImageNet": ("imagenet", IMAGENET_TRAINING),
}


@cache
def _tables(dataset, training, **kwargs):
    return World(dataset, json.loads(training), **kwargs).tables


def tables(dataset, training, **kwargs):
    """The tables of a world, made once; no test changes them."""
    return _tables(dataset, json.dumps(training), **kwargs)


def verdicts(*world, setting=None, **kwargs):
    rows = numbers(*tables(*world, **kwargs))
    return rows[rows["dataset"] == setting] if setting else rows


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_claim_is_reproduced_where_it_holds(setting):
    rows = verdicts(*SETTINGS[setting], setting=setting)
    assert set(rows["verdict"]) == {"reproduced"}, rows[rows["verdict"] != "reproduced"].to_string()
    assert (rows.loc[rows["id"] != "bn-init-fails", "n"] == 3).all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_every_claim_is_contradicted_where_it_fails(setting):
    rows = verdicts(*SETTINGS[setting], setting=setting, wrong=True).set_index("id")
    # Where all accuracies are low every run fails, and where slopes fall they have no ratio.
    rows = rows.drop(["bn-init-fails", "depth-beats-width-by"], errors="ignore")
    assert set(rows["verdict"]) == {"contradicted"}, rows[rows["verdict"] != "contradicted"].to_string()
    assert rows["reason"].str.startswith("outside: ").all()


@pytest.mark.parametrize("setting", SETTINGS)
def test_one_seed_is_inconclusive_at_best(setting):
    rows = verdicts(*SETTINGS[setting], setting=setting, seeds=1)
    rows = rows[rows["id"] != "bn-init-fails"]  # which a single failed run shows
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
    metrics, *_ = tables(*SETTINGS["CIFAR-10"])
    rows = numbers(metrics[metrics["architecture"] == "resnet-14"])
    ran = rows[rows["verdict"] != "not run"]["id"].tolist()
    assert ran == [
        *("acc-r14-bn", "affine-helps", "random-worse", "output-small"),
        *("bn-init-best", "bn-init-worse", "bn-init-fails"),
    ]


DIRECTIONS = {
    *("affine-helps", "deeper-better", "depth-beats-width", "random-worse", "output-small"),
    *("gamma-zero-more", "clamp-free", "clamp-mixed", "dead-relu-more", "bn-init-best", "bn-init-worse"),
    *("vgg-similar-order", "vgg-similar-zero"),
}


def test_what_was_not_measured_of_a_claim_counts_and_leaves_it_inconclusive():
    _, _, _, activations = tables(*SETTINGS["CIFAR-10"])
    networks = activations[activations["architecture"].isin(["resnet-14", "resnet-32"])]
    rows = numbers(None, activations=networks[networks["regime"] == "batchnorm"]).set_index("id")
    assert rows.loc["dead-relu", ["coverage", "verdict", "reason"]].tolist() == [
        "2 of 4 estimates hold, 2 not measured, on 2 networks (the paper: 12)",
        "inconclusive",
        "not measured: resnet-14 all, resnet-32 all",
    ]
    assert rows.loc["dead-relu-more", "verdict"] == "not run"
    without = networks[(networks["regime"] == "batchnorm") | (networks["architecture"] == "resnet-14")]
    rows = numbers(None, activations=without).set_index("id")
    assert rows.loc["dead-relu", "reason"] == "not measured: resnet-32 all"


def test_that_clamping_costs_nothing_is_not_judged_by_how_much_it_disables_nor_the_other_way_round():
    _, _, clamping, _ = tables(*SETTINGS["CIFAR-10"])
    few = clamping.assign(clamped_percent=3.4 + clamping["seed"] / 10)
    rows = numbers(None, clamping=few).set_index("id")
    assert rows.loc[["clamp-free", "clamp-share"], "verdict"].tolist() == ["reproduced", "contradicted"]
    elsewhere = few.assign(training=json.dumps(CIFAR10_TRAINING | {"epochs": 3}))
    rows = numbers(None, clamping=elsewhere).set_index("id")
    assert rows.loc[["clamp-free", "clamp-share"], "verdict"].tolist() == ["consistent", "not run"]


def test_the_share_near_0_is_judged_by_one_range_however_it_was_measured():
    network, values = "resnet-14", [23.9, 24.0, 24.1]  # 24 % is the least that the paper gives
    runs = [run_columns(network, "batchnorm", seed, dataset="cifar10") for seed in range(3)]
    published = {"training": json.dumps(CIFAR10_TRAINING)}
    gamma = [np.where(np.arange(1000) < 10 * value, 0.0, 1.0) for value in values]
    affine = pd.concat([pd.DataFrame({"gamma": g}).assign(**r) for g, r in zip(gamma, runs, strict=True)])
    clamped = {"threshold": 0.01, "beta_too": False, "top_1": 47.0, "top_1_unclamped": 47.0}
    clamping = pd.DataFrame(
        [run | clamped | {"clamped_percent": value} for run, value in zip(runs, values, strict=True)]
    )
    rows = numbers(None, affine.assign(**published), clamping.assign(**published)).set_index("id")
    assert rows.loc[["gamma-zero", "clamp-share"], "verdict"].tolist() == ["reproduced"] * 2
    for claim in ("gamma-zero", "clamp-share", "inet-gamma-zero", "inet-clamp-share"):
        assert "({} to {} %)".format(*NEAR_ZERO) in rows.loc[claim, "published"]


def random_worse(gains, diverged=()):
    """Return the row of `random-worse` where `batchnorm` is so many points above, by network and seed.

    `diverged` are networks and seeds of which `batchnorm` diverged.
    """
    rows = [
        run_columns(network, regime, seed, dataset="cifar10", training=json.dumps(CIFAR10_TRAINING))
        | {"epoch": 1, "split": "test", "top_5": 90.0, "top_1": 30 + gain * (regime == "batchnorm")}
        | ({"status": "diverged"} if regime == "batchnorm" and (network, seed) in diverged else {})
        for network, values in gains.items()
        for seed, gain in enumerate(values)
        for regime in ("batchnorm", "random-2")
    ]
    return numbers(pd.DataFrame(rows)).set_index("id").loc["random-worse"]


def test_one_network_of_many_outside_its_range_contradicts_only_beyond_chance():
    inside = {f"resnet-{depth}": (19.0, 19.1, 19.2) for depth in (14, 32, 56, 110, 218, 434, 866)}
    inside |= {f"wrn-14-{width}": (19.0, 19.1, 19.2) for width in (2, 4, 8, 16)}
    assert random_worse(inside)["verdict"] == "reproduced"
    barely = Estimate("", (14.0, 15.0, 15.2), (16.5, 21.5))
    assert barely.judged(barely.range) is False
    assert 0.05 / 12 < barely.p_outside(barely.range) < 0.05
    row = random_worse(inside | {"wrn-14-32": barely.values})
    assert row["verdict"] == "inconclusive"
    assert row["coverage"] == "11 of 12 estimates hold, on 12 networks (the paper: 12)"
    reason = "outside, but not with a Holm-adjusted p below 0.05: wrn-14-32 14.73 [13.14, 16.33]"
    assert row["reason"] == reason
    assert random_worse({"wrn-14-32": barely.values})["verdict"] == "contradicted"
    row = random_worse(inside | {"wrn-14-32": (14.9, 15.0, 15.1)})
    assert row[["verdict", "reason"]].tolist() == ["contradicted", "outside: wrn-14-32 15.00 [14.75, 15.25]"]


def test_a_network_that_diverged_is_not_measured_and_runs_left_out_are_counted():
    gains = {"resnet-14": (19.0, 19.1, 19.2), "resnet-32": (19.0, 19.1, 19.2)}
    row = random_worse(gains, {("resnet-32", seed) for seed in range(3)})
    assert row[["verdict", "coverage"]].tolist() == [
        "inconclusive",
        "1 of 2 estimates hold, 1 not measured, on 1 network (the paper: 12)",
    ]
    assert row["reason"] == "not measured: resnet-32; 3 runs that diverged left out"
    row = random_worse(gains, {("resnet-32", 0)})
    assert row["verdict"] == "reproduced"
    assert row["reason"] == "every interval lies in the range; 1 run that diverged left out"


@pytest.mark.parametrize(
    ("status", "top_1", "measured", "verdict"),
    [
        ("finished", 30.0, "failed (%) of 16 runs 0.00 [0.00, 20.59]", "inconclusive"),
        ("finished", 15.0, "failed (%) of 16 runs 6.25 [0.16, 30.23]", "reproduced"),
        ("diverged", 30.0, "failed (%) of 16 runs 6.25 [0.16, 30.23]", "reproduced"),
    ],
)
def test_that_some_runs_fail_is_shown_by_one_that_does_and_not_refuted_by_none(
    status, top_1, measured, verdict
):
    runs = [
        run_columns("resnet-14", regime, seed, dataset="cifar10", variant=variant)
        | {
            "training": json.dumps(CIFAR10_TRAINING),
            "epoch": 1,
            "split": "test",
            "top_5": 90.0,
            "top_1": 30.0,
        }
        for seed in (0, 1)
        for regime in ("all", "batchnorm")
        for variant in (ONES, *OTHERS)
    ]
    runs[0] |= {"status": status, "top_1": top_1}
    alone = [run | {"architecture": "resnet-32", "variant": DEFAULT} for run in runs[:1]]  # not of E.2
    row = numbers(pd.DataFrame(runs + alone)).set_index("id").loc["bn-init-fails"]
    assert row[["measured", "verdict"]].tolist() == [measured, verdict]
    row = numbers(pd.DataFrame(runs[:8])).set_index("id").loc["bn-init-fails"]
    assert row["verdict"] == "inconclusive"  # of one seed


def test_p_of_a_mean_outside_is_students():
    values = (1.0, 2.0, 3.5)
    for allowed, end in (((4.0, 5.0), 4.0), ((0.0, 1.0), 1.0)):
        expected = stats.ttest_1samp(values, end).pvalue
        assert Estimate("", values, ()).p_outside(allowed) == pytest.approx(expected)
    assert Estimate("", values, ()).p_outside((0, 4)) == 1
    assert Estimate("", (1.0, 1.0, 1.0), ()).p_outside((2, 4)) == 0


def test_the_papers_networks_are_those_of_its_study():
    with (
        open(BUILTIN / "only_batchnorm" / "cifar10.yaml") as cifar,
        open(BUILTIN / "only_batchnorm" / "imagenet.yaml") as imagenet,
    ):
        experiments = [e for file in (cifar, imagenet) for e in yaml.safe_load(file)["experiments"].values()]
    named = {name for experiment in experiments for name in experiment["architectures"]}
    assert Counter(architecture(name).family for name in named) == NETWORKS


@pytest.mark.parametrize(
    ("column", "other"),
    [("training", json.dumps(CIFAR10_TRAINING | {"learning_rate": 0.3})), ("dataset", "digits")],
)
def test_runs_of_several_trainings_or_datasets_are_not_judged(column, other):
    metrics, *_ = tables(*SETTINGS["CIFAR-10"])
    rows = numbers(pd.concat([metrics, metrics.assign(**{column: other})]))
    assert set(rows["verdict"]) == {"not run"}
    assert set(rows["reason"]) == {f"runs of several {column}s are not judged"}


def test_a_training_with_a_key_that_the_paper_does_not_have_is_not_the_papers():
    metrics, *_ = tables(*SETTINGS["CIFAR-10"])
    rows = numbers(metrics.assign(training=json.dumps(CIFAR10_TRAINING | {"nesterov": True})))
    assert set(rows["verdict"]) == {"consistent", "not run"}


@pytest.mark.parametrize(("wrong", "verdict"), [(False, "consistent"), (True, "inconsistent")])
@pytest.mark.parametrize(
    ("dataset", "training"), [("digits", CIFAR10_TRAINING), ("cifar10", CIFAR10_TRAINING | {"epochs": 5})]
)
def test_elsewhere_directions_are_judged_and_values_are_not_run(dataset, training, wrong, verdict):
    rows = verdicts(dataset, training, setting="CIFAR-10", wrong=wrong).set_index("id")
    rows = rows.drop("bn-init-fails")
    assert {claim for claim, row in rows.iterrows() if row["verdict"] == verdict} == DIRECTIONS
    assert set(rows["verdict"]) == {verdict, "not run"}
    assert "published values are judged" in rows.loc["acc-r14-bn", "reason"]


def test_what_a_study_does_not_expect_is_judged_alike_and_says_why():
    given, reasons = tables("digits", CIFAR10_TRAINING), {"affine-helps": "all is well"}
    plain = numbers(*given)
    doubted = numbers(*given, not_expected=reasons | {"acc-r14-bn": "too easy"})
    changed = plain["reason"] != doubted["reason"]
    assert plain.loc[changed, "id"].tolist() == ["affine-helps"]  # the other is not judged here
    assert doubted.loc[changed, "reason"].tolist() == [
        "not expected here: all is well; " + reason for reason in plain.loc[changed, "reason"]
    ]
    pd.testing.assert_frame_equal(plain.drop(columns="reason"), doubted.drop(columns="reason"))


def test_the_appendices_have_a_table_of_their_claims_alone():
    given = tables(*SETTINGS["CIFAR-10"])
    every, own = numbers(*given).set_index("id"), claims_appendices.numbers(*given).set_index("id")
    assert set(own["section"]) == {"Appendix C", "Appendix E.2"}
    pd.testing.assert_frame_equal(own, every.loc[own.index])


@pytest.mark.parametrize("file", sorted(BUILTIN.rglob("*.yaml")), ids=lambda file: file.stem)
def test_every_study_doubts_claims_of_its_paper_alone(file):
    opened = open_study(CONFIG | {"study": file.stem}, BUILTIN)
    paper(opened.definition.paper).check_claims(opened.definition.not_expected)
    with pytest.raises(ValueError, match="unknown claim 'affine-help'; did you mean 'affine-helps'"):
        paper("only-batchnorm").check_claims(["affine-helps", "affine-help"])


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


def test_a_published_interval_is_met_by_one_that_overlaps_it():
    estimate = Estimate("x", [1.0, 2.0, 3.0], (4, 6), overlaps=True)  # the interval is [-0.5, 4.5]
    assert [estimate.judged(allowed) for allowed in ((4, 6), (-3, -0.4), (4.6, 6))] == [True, True, False]
    assert Estimate("x", [1.0, 1.0], (0, 2), overlaps=True).judged((0, 2)) is None


def test_two_seeds_that_agree_decide_nothing_and_no_difference_is_not_a_gain():
    for apart in (0, 4e-16, 9e-10):
        assert Estimate("x", [0.8, 0.8 + apart], POSITIVE).judged(POSITIVE) is None
    assert Estimate("x", [0.8, 0.802], POSITIVE).judged(POSITIVE) is True  # an image of 50,000
    row = random_worse({"resnet-14": (19.0, 19.0 + 4e-16), "resnet-32": (19.0, 19.1)})
    assert row["verdict"] == "inconclusive"
    assert row["reason"] == "two seeds that agree: resnet-14 19.00 [19.00, 19.00]"
    assert Estimate("x", [0.8, 0.8, 0.8], POSITIVE).judged(POSITIVE) is True
    assert Estimate("x", [0.0, 0.0, 0.0], POSITIVE).judged(POSITIVE) is None


def slopes(depth, width):
    """Return the estimates of Figure 3's slopes of networks that gain so many points, a value per seed."""
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
    measured = Measured({"metrics": pd.DataFrame(rows)})
    return [*depth_beats_width(measured), *depth_beats_width_by(measured)]


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
    assert difference.judged(POSITIVE) is verdict
    rest_on = "by depth (resnet-14, resnet-32), by width (resnet-14, wrn-14-2)"
    assert difference.of == f"slope by depth − by width, {rest_on}"
    assert ratio.of == f"steeper by (%), {rest_on}"
    if np.mean(width) < 0 or len(depth) == 2:
        assert ratio.interval == (-np.inf, np.inf)


@pytest.mark.parametrize(
    ("depth", "verdict"),
    [
        ((3.5, 3.6, 3.55), True),
        ((6.0, 6.1, 6.2), False),
        ((3.0, 3.2, 3.3), None),
        ((3.5, 3.5005), None),
    ],
)
def test_by_how_much_depth_beats_width_is_judged_by_fiellers_interval(depth, verdict):
    _, ratio = slopes(depth, (3.0, 3.05, 3.02)[: len(depth)])
    assert ratio.judged(ratio.range) is verdict
    assert ratio.p_outside(ratio.range) == (0.05 if verdict is False else 1)


def test_the_interval_of_the_slopes_ratio_covers_what_it_says():
    rng = np.random.default_rng(0)
    covered = 0
    for _ in range(300):
        depth, width = 3.54 + 0.2 * rng.standard_normal(3), 3 + 0.2 * rng.standard_normal(3)
        low, high = ratio_interval(depth, width)
        covered += low < 1.18 < high
    assert 0.91 < covered / 300 < 0.99


def test_every_claim_of_the_paper_has_a_row_with_its_section_and_published_value():
    rows = verdicts(*SETTINGS["CIFAR-10"])
    assert len(rows) == len(CLAIMS)
    assert (rows[["section", "published", "statement"]] != "").all(axis=None)
    assert len(shown(rows)) == len(CLAIMS)
    assert all(
        f"{count} {verdict}" in caption(rows) for verdict, count in rows["verdict"].value_counts().items()
    )


def test_beside_a_figure_stand_the_claims_that_the_paper_makes_of_it_judged_by_its_table():
    metrics, affine, *_ = tables("cifar10", CIFAR10_TRAINING)

    def beside(figure, **collected):
        return claimed(PAPER, PAPER.figures[figure], collected)

    rows = beside("figure-2", metrics=metrics).set_index("statement")
    assert rows.loc["ResNet-110, BatchNorm", ["published", "verdict"]].tolist() == [
        "69.5 % (± 2)",
        "reproduced",
    ]
    assert not any("ResNet-50" in statement for statement in rows.index)  # ImageNet's
    assert beside("figure-5", affine=affine)["verdict"].tolist() == ["reproduced"] * 3
    assert beside("figure-g", affine=affine).empty
    short = metrics[metrics["architecture"] != "resnet-110"]  # which another figure of the study may draw
    verdicts = beside("figure-2", metrics=short).set_index("statement")["verdict"]
    assert verdicts["ResNet-110, BatchNorm"] == "not measured here"
    assert beside("figure-2", metrics=metrics.assign(dataset="mine:images")).empty


def accuracies(top_1, **columns):
    """A collected table of three seeds of ResNet-8 under `batchnorm`, on digits."""
    rows = [
        run_columns("resnet-8", "batchnorm", seed)
        | {"epoch": 1, "split": "test", "top_5": 90.0, "top_1": top_1 + seed / 10}
        | columns
        for seed in range(3)
    ]
    return pd.DataFrame(rows)


def test_a_claim_of_another_paper_is_judged_by_what_that_paper_published():
    claim = Claim(
        *("low", "Section 1", "Digits", "ResNet-8 is low", "20 %"),
        lambda measured: [Estimate("top-1", measured.values("resnet-8", "batchnorm").tolist(), (19, 21))],
        networks=5,
    )
    setting = Setting("Digits", {"epochs": 2}, "of another scanner")
    found = {
        epochs: judge(
            [claim],
            {"metrics": accuracies(20.0, training=json.dumps({"epochs": epochs, "precision": "float32"}))},
            Published({"digits": setting}, lambda dataset: None),
        ).loc[0]
        for epochs in (2, 3)
    }
    assert found[2]["verdict"] == "reproduced"
    assert found[2]["reason"].endswith("; of another scanner")
    assert found[2]["coverage"].endswith("(the paper: 5)")
    assert found[3]["verdict"] == "not run"


def test_a_claim_that_chooses_its_runs_is_judged_by_them_in_any_recipe_and_each_estimate_by_its_own_range():
    training = {"steps": 100, "momentum": 0, "learning_rate": 0.1}

    def rows(top_1, recipe="x5", rate=0.5, **columns):
        told = json.dumps(training | {"learning_rate": rate})
        return accuracies(top_1, **{"recipe": recipe, "training": told, "dataset": "cifar10"} | columns)

    def all_runs(measured):
        for recipe, found in measured.finals.groupby("recipe"):
            yield Estimate(recipe, found["top_1"].tolist(), (70, 80) if recipe == "x5" else (0, 10))

    def verdict(of, **changes):
        tables = {"metrics": pd.concat([rows(75.0), rows(5.0, "none", 0.1), *of])}
        fields = {"direction": OWN, "chooses": lambda table: table["family"] == "resnet"} | changes
        claim = Claim("id", "1", "C", "said", "75 %", all_runs, **fields)
        settings = {"cifar10": Setting("C", {"steps": 100, "momentum": 0}, free=("learning_rate",))}
        row = judge([claim], tables, Published(settings, lambda name: None)).iloc[0]
        return row["verdict"] if row["verdict"] != "not run" else row["reason"]

    assert verdict([]) == "reproduced"
    assert verdict([rows(250.0, architecture="vgg-11", family="vgg")]) == "reproduced"
    assert verdict([rows(75.0, dataset="digits")]) == "runs of several datasets are not judged"
    del training["steps"]
    assert verdict([]) == "consistent"
    assert verdict([], direction=None) == (
        "published values are judged under the paper's dataset and schedule alone"
    )


def test_a_query_finds_runs_at_the_requested_value_of_every_axis_and_else_at_the_neutral_one(monkeypatch):
    monkeypatch.setitem(queries.DEFAULTS, "folding", "none")
    point = summaries.point
    monkeypatch.setattr(summaries, "point", lambda t: point(t) + [name for name in t if name == "folding"])
    plain, folded = accuracies(20.0), accuracies(30.0, folding="twice")
    both = pd.concat([plain.assign(folding="none"), folded])
    for table, expected in ((plain, (20, None)), (both, (20, 30)), (folded, (None, 30))):
        measured = Measured({"metrics": table, "affine": table})
        for axes, first in zip(({}, {"folding": "twice"}), expected, strict=True):
            one = measured.values("resnet-8", "batchnorm", **axes)
            rows = measured.per_seed("affine", "resnet-8", "batchnorm", lambda r: r["top_1"].max(), **axes)
            seeds = [] if first is None else [first, first + 0.1, first + 0.2]
            assert one.tolist() == rows.tolist() == seeds
