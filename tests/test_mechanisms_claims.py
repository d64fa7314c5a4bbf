"""The claims about what BatchNorm does: tables with known answers go through every one of them."""

import json
import math
from functools import cache
from itertools import product

import numpy as np
import pandas as pd
import pytest
from conftest import run_columns

from onlybn.judging import UNNAMED, judge
from onlybn.observers.inputs import PERCENTS
from onlybn.papers.batchnorm_mechanisms.claims import CLAIMS, PUBLISHED
from onlybn.papers.batchnorm_mechanisms.measures import first_step
from onlybn.papers.batchnorm_mechanisms.published import CIFAR10, DEEP_LINEAR, MNIST
from onlybn.papers.batchnorm_mechanisms.tables import claims_further

SEEDS = range(3)
MLP, VGG, SIGMOID, DEEP = "mlp-100-100-100-sigmoid", "vgg-8-half", "vgg-8-half-sigmoid", "deep-linear-25"
OF = {
    MLP: ("mnist-binary", MNIST, {"none": 0.1, "x5": 0.5}),
    VGG: (
        *("cifar10", CIFAR10),
        {"none": 0.1, "x5": 0.5, "x30": 3.0, "tenth": 0.01, "k1": 0.02, "k5": 0.32},
    ),
    SIGMOID: ("cifar10", CIFAR10, {"none": 0.1}),
    DEEP: ("deep-linear", DEEP_LINEAR, {"none": 1e-6, "tenth": 1e-7}),
}
PLAIN = ("none", "none-noisy")
LOST = 9.0  # an accuracy at chance


class World:
    """Tables in which every claim holds; if `wrong`, networks without normalisation and with it are swapped.

    What is claimed of one arm alone is wrong then, too. `behaves` returns as what an arm behaves.
    """

    def __init__(self, wrong=False):
        self.wrong = wrong

    def behaves(self, name):
        swapped = {"batchnorm": "none", "none": "batchnorm"} | dict.fromkeys(["l1", "l2", "linf"], "none")
        swapped |= {"none-noisy": "batchnorm", "batchnorm-noisy": "worse", "batchnorm-after": "after"}
        return swapped.get(name, name) if self.wrong else name

    def rows(self, network, name, recipe="none", *, seeds=SEEDS, **changes):
        """Yield the columns of each run of an arm, with its seed and how it behaves."""
        dataset, training, rates = OF[network]
        told = training | {"learning_rate": rates[recipe]}
        columns = {"dataset": dataset, "recipe": recipe, "normalisation": name, "epochs": 0}
        columns |= {"steps": told["steps"], "training": json.dumps(told)}
        for seed in seeds:
            yield run_columns(network, "all", seed, **columns | changes), self.behaves(name), seed / 100

    def accuracy(self, network, kind, recipe):
        """Return the final test accuracy, and the share of the steps after which all but 5 % is learned."""
        needs_it = network == SIGMOID or recipe in ("x5", "x30", "k5")
        if network != MLP and (kind == "none-noisy" or (kind == "none" and needs_it)):
            return LOST, 1.0
        if kind in ("none", "worse", "after"):
            return 92.0 - 10 * (kind != "none"), 0.5
        return 96.0 + (kind == "batchnorm-after"), {"none": 0.1, "x5": 0.04}.get(recipe, 0.08)

    @property
    def metrics(self):
        found = []
        arms = [(MLP, n, r) for n in ("none", "batchnorm", "batchnorm-after") for r in ("none", "x5")]
        arms += [(VGG, n, r) for n in ("none", "batchnorm") for r in ("none", "x5", "x30")]
        arms += [(VGG, "none-noisy", "none"), (SIGMOID, "none", "none"), (SIGMOID, "batchnorm", "none")]
        for network, name, recipe in arms:
            for columns, kind, noise in self.rows(network, name, recipe):
                final, share = self.accuracy(network, kind, recipe)
                for step in np.linspace(0.02, 1, 20) * columns["steps"]:
                    top = min(final, LOST + (final - LOST) * (0.95 * step / columns["steps"] / share))
                    row = {"epoch": 1, "step": step, "split": "test", "loss": 1.0, "top_5": 99.0}
                    found.append(columns | row | {"top_1": top + noise, "learning_rate": 0.1})
        return pd.DataFrame(found)

    @property
    def generalisation(self):
        found = []
        for group in (4, 16, 64, 128):
            for columns, _, noise in self.rows(VGG, f"ghost-{group}", variant="other"):
                gap = (1 - 2 * self.wrong) * np.log2(group) + noise
                for split, top in (("train", 90 + gap), ("test", 90.0)):
                    row = {"epoch": 1, "step": 15_000.0, "split": split, "loss": 1.0, "top_5": 99.0}
                    found.append(columns | row | {"top_1": top})
        return pd.DataFrame(found)

    @property
    def curve(self):
        found = []
        for name in ("none", "batchnorm", "batchnorm-noisy", "l1", "l2", "linf"):
            several = ("none", "x5", "tenth", "k1", "k5")
            for recipe in several if name in ("none", "batchnorm") else ("none",):
                for columns, kind, noise in self.rows(VGG, name, recipe):
                    final, share = self.accuracy(VGG, kind, recipe)
                    share *= 1.1 if kind == "batchnorm-noisy" else 0.95 if kind[0] == "l" else 1
                    for step in range(0, 15_000, 500):
                        top = min(final, LOST + (final - LOST) * step / 15_000 / share)
                        found.append(columns | {"step": step, "loss": 1.0, "top_1": top + noise})
        for name in ("none", "batchnorm", "l1", "l2", "linf"):
            for recipe in ("none", "tenth") if name in ("none", "batchnorm") else ("none",):
                for columns, kind, noise in self.rows(DEEP, name, recipe):
                    loss = {"none": 1700, "batchnorm": 500, "l1": 100}.get(kind, 700) * (1 + noise)
                    found += [columns | {"step": step, "loss": loss, "top_1": np.nan} for step in (0, 9_990)]
        return pd.DataFrame(found)

    @property
    def inputs(self):
        found = []
        arms = [(MLP, "none"), (MLP, "batchnorm")]
        arms += [(VGG, name) for name in ("none", "batchnorm", "batchnorm-noisy")]
        for network, name in arms:
            for columns, kind, noise in self.rows(network, name):
                moves = {"none": 0.1, "batchnorm": 0.01, "worse": 0.05}.get(kind, 1.0) * (1 + noise)
                for place, step in enumerate(np.linspace(0, 0.9, 10) * columns["steps"]):
                    for number in range(3):
                        drift = moves * place * (30 if network == MLP or self.wrong else 1)
                        row = {"step": step, "layer": f"layers.{number}", "number": number, "unit": 0}
                        row |= {"mean_step": moves, "variance_step": moves / 2}
                        spread = drift + np.array(PERCENTS) / 50
                        row |= {"unit_percentiles": spread, "all_percentiles": spread * 1.1}
                        wander = (1 + noise) * place / 100 * (9 if self.wrong and name == "none" else 1)
                        row |= {"means": [wander, wander + 1], "variances": [(2 + wander) ** 2] * 2}
                        found.append(columns | row)
        return pd.DataFrame(found)

    @property
    def shift(self):
        found = []
        arms = [(VGG, n, r) for n in ("none", "batchnorm") for r in ("none", "tenth")]
        arms += [(DEEP, n, "tenth") for n in ("none", "batchnorm")]
        for network, name, recipe in arms:
            for columns, kind, noise in self.rows(network, name, recipe):
                cosine = {"none": 0.995, "batchnorm": 0.4}[kind] - noise / 10
                for step in range(0, 2_000, 500):
                    for number in range(9):
                        row = {"step": step, "layer": f"layers.{number}", "number": number, "norm": 1.0}
                        row |= {"relative": 2 - 2 * cosine, "shift": 1.0, "cosine": cosine}
                        found.append(columns | row)
        return pd.DataFrame(found)

    @property
    def landscape(self):
        found = []
        for network in (VGG, DEEP):
            for name in ("none", "batchnorm", *(("l1", "l2", "linf") if network == VGG else ())):
                for columns, kind, noise in self.rows(network, name):
                    rate = json.loads(columns["training"])["learning_rate"]
                    for part in (0.0, 0.1, 0.9):
                        rough = (30.0 if kind == "none" else 1.0) if part < 0.5 else 2.1
                        late = 5.0 if self.wrong and part > 0.5 else 1.0
                        for direction, factor in product(("gradient", "random-1"), (0.0, 0.5, 1.0)):
                            row = {"step": part * columns["steps"], "direction": direction, "factor": factor}
                            beta = rough * late * (1 + noise) / rate
                            row |= {"learning_rate": rate, "loss": 1 + factor * rough, "decay": 0.1}
                            row |= {"gradient_change": beta * factor, "gradient_norm": 1.0}
                            row |= {"beta": beta if factor else np.nan, "cosine": 1.0}
                            found.append(columns | row)
        return pd.DataFrame(found)

    @property
    def identity(self):
        error = 1e-3 if self.wrong else 1e-13
        rows = [columns | {"step": 0, "error": error} for columns, *_ in self.rows(VGG, "batchnorm")]
        return pd.DataFrame(rows)

    @property
    def reestimated(self):
        found = []
        for columns, _, noise in self.rows(VGG, "batchnorm"):
            for epoch, apart in ((1, 3.0), (9, 0.1)):
                apart = (4.0 if epoch == 9 else 0.1) if self.wrong else apart
                row = {"epoch": epoch, "step": epoch * 100, "loss": 1.0, "top_5": 99.0}
                found += [
                    columns | row | {"statistics": name, "top_1": top + noise}
                    for name, top in (("running", 90.0), ("pooled", 90 + apart))
                ]
        for columns, _, noise in self.rows(VGG, "layernorm"):  # it has no statistics to re-estimate
            row = {"epoch": 9, "step": 900, "loss": 1.0, "top_5": 99.0, "top_1": 80.0 + noise}
            found.append(columns | row | {"statistics": "running"})
        return pd.DataFrame(found)

    @property
    def statistics(self):
        found = []
        tops = {"running": 30.0, "pooled-shifted": 20.0 if self.wrong else 70.0}
        for network, name in ((VGG, "batchnorm"), (MLP, "batchnorm"), (MLP, "layernorm")):
            for columns, _, noise in self.rows(network, name):
                shown = [("clean", "running", 90.0), ("clean", "batch-1", 10.0), ("clean", "batch-128", 90.0)]
                shown += [("noise", statistics, top) for statistics, top in tops.items()]
                for shift, statistics, top in shown:
                    for layer in range(2):
                        row = {"shift": shift, "statistics": statistics, "top_1": top + noise, "layer": layer}
                        row |= {"predicted": 7 if self.wrong else 1, "apart": 0.1 if self.wrong else 1e-7}
                        grown = (shift == "noise") != self.wrong
                        found.append(columns | row | {"largest": 9.0 + noise if grown else 3.0})
        return pd.DataFrame(found)


@cache
def verdicts(wrong):
    world = World(wrong)
    kinds = ("metrics", "curve", "inputs", "landscape", "identity", "reestimated", "statistics")
    kinds += ("generalisation",)
    tables = {kind: getattr(world, kind) for kind in kinds} | {"gradient-shift": world.shift}
    return judge(CLAIMS, tables, PUBLISHED).set_index("id")


# Only directions are judged of what was published of ImageNet, for which no study trains the networks, and of
# what networks are said to do without a dataset.
DIRECTIONS = [claim.id for claim in CLAIMS if claim.dataset in ("ImageNet", UNNAMED)]


@pytest.mark.parametrize("claim", [claim.id for claim in CLAIMS])
def test_a_claim_is_reproduced_where_it_holds_and_contradicted_where_it_does_not(claim):
    holds, fails = (verdicts(wrong).loc[claim] for wrong in (False, True))
    words = ("consistent", "inconsistent") if claim in DIRECTIONS else ("reproduced", "contradicted")
    assert holds["verdict"] == words[0], (holds["measured"], holds["reason"])
    assert fails["verdict"] == words[1], (fails["measured"], fails["reason"])


def test_without_tables_nothing_is_judged():
    rows = judge(CLAIMS, {}, PUBLISHED)
    assert set(rows["verdict"]) == {"not run"}


def right(kind):
    """Return a table in which every claim holds, to be changed."""
    return made(kind).copy()


@cache
def made(kind):
    return getattr(World(), kind)


def rejudged(*ids, **tables):
    """Judge the claims of these ids by tables, or every claim."""
    claims = [claim for claim in CLAIMS if claim.id in ids or not ids]
    return judge(
        claims, {kind.replace("_", "-"): table for kind, table in tables.items()}, PUBLISHED
    ).set_index("id")


def test_a_part_of_a_claim_that_was_not_measured_leaves_it_undecided():
    def two_arms(kind):
        table = right(kind)
        kept = table["normalisation"].isin(["none", "batchnorm"]) & (table["recipe"] == "none")
        return table[kept & (table["architecture"] != MLP)]

    rows = rejudged(**{kind: two_arms(kind) for kind in ("metrics", "curve", "inputs", "landscape")})
    lacking = {
        "i2-sooner": "batchnorm ×5, ",
        "s1-faster": "vgg-8-half none ×5 fails, vgg-8-half batchnorm ×5 trains",
        "s4-unstable": "vgg-8-half batchnorm-noisy / none",
    }
    for claim, parts in lacking.items():
        assert rows.loc[claim, "verdict"] == "inconclusive", claim
        assert parts in rows.loc[claim, "reason"].split("not measured: ")[1]
    plain = two_arms("metrics")[lambda table: table["normalisation"] == "none"]
    row = rejudged("i4-sigmoid", metrics=plain).loc["i4-sigmoid"]
    assert (row["verdict"], row["coverage"]) == ("inconclusive", "1 of 2 estimates hold, 1 not measured")
    assert "not measured: vgg-8-half-sigmoid / ReLU" in row["reason"]
    rows = rejudged(metrics=plain, curve=two_arms("curve")[lambda table: table["normalisation"] == "none"])
    assert set(rows.loc[["s2-tests", "s4-unstable", "i2-sooner"], "verdict"]) == {"not run"}


def test_every_run_of_a_claim_means_two_runs_at_least_but_one_of_an_identity():
    kinds = ("metrics", "curve", "identity", "statistics", "generalisation")
    one = {kind: table[table["seed"] == 0] for kind in kinds for table in [right(kind)]}
    rows = rejudged(**one)
    for claim in ("m1-sooner", "s1-faster", "s5-plain-noisy", "r1-gap", "i1-rates", "i4-sigmoid"):
        assert rows.loc[claim, "verdict"] == "inconclusive", claim
    assert set(rows.loc[["t1-identity", "e4-one-example", "n1-layernorm"], "verdict"]) == {"reproduced"}


def test_a_step_is_interpolated_between_tests_so_that_equal_tests_are_no_tie():
    rows = pd.DataFrame({"step": [1000, 500, 1500], "top_1": [80.0, 60.0, 95.0]})
    assert first_step(rows, 70) == pytest.approx(750)
    assert first_step(rows, 80) == pytest.approx(1000)
    assert first_step(rows, 30) == pytest.approx(250)
    assert math.isnan(first_step(rows, 96))
    metrics = right("metrics")
    metrics = metrics[(metrics["architecture"] == MLP) & (metrics["recipe"] == "none")]
    first, later = sorted(metrics["step"].unique())[:2]
    metrics = metrics[
        metrics["step"].isin([first, later]) & metrics["normalisation"].isin(["none", "batchnorm"])
    ]
    ahead = metrics["normalisation"] == "batchnorm"
    tops = np.where(metrics["step"] == later, 95.0, np.where(ahead, 85.0, 60.0))
    row = rejudged("m1-sooner", metrics=metrics.assign(top_1=tops)).loc["m1-sooner"]
    assert row["verdict"] == "reproduced", row["measured"]


def test_runs_that_never_reach_an_accuracy_are_told_since_their_ratio_is_a_bound():
    table = right("metrics")
    metrics = table[(table["architecture"] == MLP) & (table["recipe"] == "none")].copy()
    assert "never" not in rejudged("m1-sooner", metrics=metrics).loc["m1-sooner", "measured"]
    slow = (metrics["normalisation"] == "none") & (metrics["seed"] == 1)
    metrics.loc[slow, "top_1"] = 50.0
    row = rejudged("m1-sooner", metrics=metrics).loc["m1-sooner"]
    assert f"{MLP} none / batchnorm (1 of 3 none never do) " in row["measured"]
    lost = (table["normalisation"] == "batchnorm") & (table["recipe"] == "x30") & (table["seed"] == 0)
    table.loc[lost, "top_1"] = 20.0
    row = rejudged("i2-sooner", metrics=table).loc["i2-sooner"]
    assert f"{VGG} steps of none / batchnorm ×30 (1 of 3 batchnorm never do) " in row["measured"]


def test_runs_that_do_what_is_claimed_are_counted():
    metrics = right("metrics")
    row = rejudged("s5-plain-noisy", metrics=metrics).loc["s5-plain-noisy"]
    assert row["measured"] == f"{VGG} none-noisy rate 0.1 at chance: 3 of 3 runs"
    assert row["summary"] == "3 of 3 runs"


def test_a_run_that_is_missing_is_none_that_never_reaches_an_accuracy():
    metrics, curve = right("metrics"), right("curve")
    for kind, table in (("metrics", metrics), ("curve", curve)):
        lost = (table["normalisation"] == "none") & (table["seed"] > 0)
        claim = "m1-sooner" if kind == "metrics" else "s1-faster"
        row = rejudged(claim, **{kind: table[~lost]}).loc[claim]
        assert (row["verdict"], row["n"]) == ("inconclusive", 1)


def test_other_recipes_and_diverged_runs_do_not_count_as_reaching_the_plain_networks_best():
    metrics = right("metrics")
    claims = ("i2-sooner", "i3-no-worse")
    before = rejudged(*claims, metrics=metrics)
    vgg = (metrics["architecture"] == VGG) & (metrics["recipe"] == "none")
    few = metrics[vgg & (metrics["variant"] != "other")].assign(recipe="few", top_1=99.9)
    few["training"] = few["training"].map(lambda text: json.dumps(json.loads(text) | {"examples": 500}))
    assert rejudged(*claims, metrics=pd.concat([metrics, few]))["measured"].equals(before["measured"])

    x30 = (metrics["architecture"] == VGG) & (metrics["recipe"] == "x30")
    x30 &= metrics["normalisation"] == "batchnorm"
    early = metrics["step"] == metrics["step"].min()
    diverged = metrics[~x30 | early].copy()
    diverged.loc[x30[diverged.index], ["status", "top_1"]] = ["diverged", LOST]
    row = rejudged("i2-sooner", metrics=diverged).loc["i2-sooner"]
    assert row["verdict"] == "inconsistent" and "×30" in row["reason"]

    plain = (metrics["normalisation"] == "none") & (metrics["architecture"] == VGG)
    lost = metrics.assign(status=metrics["status"].where(~plain, "diverged"))
    assert rejudged("i2-sooner", metrics=lost).loc["i2-sooner", "verdict"] == "not run"


def test_a_layer_that_is_not_finite_explodes_and_a_shift_that_changes_nothing_is_left_out():
    table = right("statistics")
    table.loc[(table["shift"] == "noise") & (table["layer"] == 1), "largest"] = np.nan
    claims = ("e2-recovers", "e3-explodes")
    rows = rejudged(*claims, statistics=table)
    assert rows.loc["e3-explodes", "verdict"] == "consistent"
    assert rows.loc["e3-explodes", "reason"].endswith("direction only, since the source names no dataset")
    most = np.log(np.finfo(np.float32).max)
    assert f"log of layer 2 (3 not finite) {most:.2f} [" in rows.loc["e3-explodes", "measured"]
    clean = table[table["shift"] == "clean"]
    again = clean[clean["statistics"] == "running"]
    same = pd.concat([again, again.assign(statistics="pooled-shifted")]).assign(shift="contrast-3")
    rows_of_both = rejudged(*claims, statistics=pd.concat([table, same]))
    assert rows_of_both.loc["e3-explodes", "measured"] == rows.loc["e3-explodes", "measured"]
    assert rows_of_both.loc["e2-recovers", "measured"] == rows.loc["e2-recovers", "measured"]


def test_a_run_that_reaches_an_accuracy_and_diverges_is_none_that_reaches_it():
    metrics = right("metrics")
    lost = (metrics["architecture"] == MLP) & (metrics["normalisation"] == "batchnorm")
    metrics["status"] = metrics["status"].where(~lost, "diverged")
    assert rejudged("m1-sooner", metrics=metrics).loc["m1-sooner", "verdict"] == "contradicted"


def test_runs_on_other_axes_are_no_runs_of_a_claim():
    claims = {
        "metrics": ("m1-sooner", "i2-sooner"),
        "curve": ("s1-faster", "s3-noisy"),
        "reestimated": ("e1-agree",),
        "statistics": ("e2-recovers", "e3-explodes"),
    }
    for kind, ids in claims.items():
        table = right(kind)
        plain = table.assign(reparametrisation="none")
        other = table.assign(reparametrisation="arctan-1.0-0.6")
        both, alone = (rejudged(*ids, **{kind: some}) for some in (pd.concat([plain, other]), table))
        pd.testing.assert_frame_equal(both, alone, obj=kind)


def test_without_batchnorm_or_with_a_run_that_diverged_statistics_are_judged_by_the_others():
    table = right("reestimated")
    without = table[table["normalisation"] != "batchnorm"]
    assert rejudged("e1-agree", reestimated=without).loc["e1-agree", "verdict"] == "not run"
    ended = table[(table["seed"] > 0) | (table["epoch"] == 1)]
    row = rejudged("e1-agree", reestimated=ended).loc["e1-agree"]
    assert row["n"] == 2 and "nan" not in row["measured"]


def test_running_and_reestimated_statistics_are_compared_of_batchnorm_alone():
    table = right("reestimated")
    after = table[table["normalisation"] == "batchnorm"].assign(normalisation="batchnorm-after", top_1=0.0)
    rows = [
        rejudged("e1-agree", reestimated=some).loc["e1-agree"] for some in (table, pd.concat([table, after]))
    ]
    assert rows[0]["measured"] == rows[1]["measured"]
    assert rows[1]["n"] == 3


def in_epochs(training):
    keys = {key: value for key, value in json.loads(training).items() if key != "steps"}
    return json.dumps(keys | {"epochs": 9})


def test_a_training_that_is_counted_in_epochs_is_judged():
    metrics = right("metrics").drop(columns="step").assign(steps=0, epochs=9)
    metrics["epoch"] = right("metrics")["step"]
    metrics["training"] = metrics["training"].map(
        lambda text: json.dumps(
            {k: v for k, v in json.loads(text).items() if k != "steps"} | {"epochs": 50_000}
        )
    )
    curve = right("curve").assign(steps=0, epochs=9)
    curve["training"] = curve["training"].map(in_epochs)
    never = (curve["architecture"] == VGG) & (curve["normalisation"] == "none")
    curve.loc[never, "top_1"] = 40.0
    rows = rejudged("m1-sooner", "i2-sooner", "s1-faster", metrics=metrics, curve=curve)
    assert set(rows["verdict"]) == {"consistent"}


def test_the_claims_of_further_experiments_have_a_table_of_their_own_with_the_same_verdicts():
    given = [right(kind) for kind in ("metrics", "curve")] + [None, None, right("landscape")]
    own = claims_further.numbers(*given).set_index("id")
    assert own.index.tolist() == ["l5-rates", "p1-norms", "p1-deep-linear"]
    pd.testing.assert_frame_equal(own, verdicts(False).loc[own.index])
    assert set(own["verdict"]) == {"reproduced"}


def test_an_infinite_landscape_counts_as_the_largest_number():
    landscape = right("landscape")
    plain = (landscape["normalisation"] == "none") & (landscape["architecture"] == VGG)
    first = plain & (landscape["step"] == landscape.loc[plain, "step"].min())
    landscape.loc[first, ["loss", "gradient_change", "beta"]] = math.inf
    rows = rejudged("l2-predictive", "l3-beta", "p1-norms", curve=right("curve"), landscape=landscape)
    assert set(rows["verdict"]) == {"reproduced"}
    assert not rows["measured"].str.contains(r"nan|\binf").any()
    landscape = right("landscape")
    lost = (landscape["normalisation"] == "none") & (landscape["architecture"] == VGG)
    landscape["beta"] = landscape["beta"].mask(lost, math.inf)
    assert rejudged("l4-edge", landscape=landscape).loc["l4-edge", "verdict"] == "contradicted"


def test_the_landscape_along_random_directions_is_judged_apart_from_that_along_the_gradient():
    landscape = right("landscape")
    swapped = {"none": "batchnorm", "batchnorm": "none"}
    away = landscape["direction"] == "random-1"
    other = landscape["normalisation"].map(swapped).fillna(landscape["normalisation"])
    rows = rejudged(
        *("l1-loss", "l2-predictive", "l6-random"),
        landscape=landscape.assign(normalisation=landscape["normalisation"].mask(away, other)),
    )
    assert rows["verdict"].tolist() == ["reproduced", "reproduced", "contradicted"]
    rows = rejudged("l1-loss", "l6-random", landscape=landscape[~away])
    assert rows["verdict"].tolist() == ["reproduced", "not run"]


def test_accuracies_are_compared_at_the_rate_of_the_published_ones():
    metrics = right("metrics")
    x5 = (metrics["architecture"] == VGG) & (metrics["recipe"] == "x5")
    worse = metrics["top_1"].mask(x5 & (metrics["normalisation"] == "none"), 99.0)
    row = rejudged("s2-tests", metrics=metrics.assign(top_1=worse)).loc["s2-tests"]
    assert row["verdict"] == "reproduced" and "rate" not in row["measured"]
    own = (metrics["architecture"] == VGG) & (metrics["recipe"] == "none")
    worse = metrics["top_1"].mask(own & (metrics["normalisation"] == "none"), 99.0)
    row = rejudged("s2-tests", metrics=metrics.assign(top_1=worse)).loc["s2-tests"]
    assert row["verdict"] == "contradicted"


def test_other_norms_are_judged_by_the_absolute_change_of_the_gradient_too():
    landscape = right("landscape")
    lost = landscape["normalisation"] == "linf"
    landscape.loc[lost, ["gradient_norm", "gradient_change"]] *= 1e3  # whose ratio stays
    row = rejudged("p1-norms", curve=right("curve"), landscape=landscape).loc["p1-norms"]
    assert row["verdict"] == "contradicted" and "‖Δg‖, linf / none" in row["reason"]


def test_networks_at_chance_say_nothing_of_how_well_others_test():
    metrics = right("metrics")
    own = (metrics["architecture"] == VGG) & (metrics["recipe"] == "none") & (metrics["seed"] == 0)
    plain = own & (metrics["normalisation"] == "none")
    row = rejudged("s2-tests", metrics=metrics.assign(top_1=metrics["top_1"].mask(plain, LOST)))
    assert row.loc["s2-tests", "n"] == 2
    own &= metrics["normalisation"] == "batchnorm"
    row = rejudged("s2-tests", metrics=metrics.assign(top_1=metrics["top_1"].mask(own, LOST))).loc["s2-tests"]
    assert (row["n"], row["verdict"]) == (3, "inconclusive")  # against it, and counted
    gone = metrics.assign(status=metrics["status"].mask(own, "diverged"))
    row = rejudged("s2-tests", metrics=gone).loc["s2-tests"]
    assert row["n"] == 2 and "; 1 run that diverged left out" in row["reason"]


def test_runs_of_several_draws_are_judged_apart_and_not_as_more_seeds():
    kinds = ("metrics", "curve", "landscape", "shift")
    tables = {kind: right(kind)[lambda table: table["seed"] < 2] for kind in kinds}
    twice = {kind: pd.concat([table, table.assign(variant="other draw")]) for kind, table in tables.items()}
    twice["gradient-shift"] = twice.pop("shift")
    tables["gradient-shift"] = tables.pop("shift")
    claims = ("l4-edge", "l4-deep-linear", "g2-deep-linear", "i4-sigmoid", "s5-plain-noisy")
    rows, again = (rejudged(*claims, **some) for some in (tables, twice))
    assert rows["n"].tolist() == again["n"].tolist()
    assert rows["verdict"].tolist() == again["verdict"].tolist()


def test_a_deep_linear_network_that_diverged_ends_highest():
    curve = right("curve")
    lost = (curve["normalisation"] == "none") & (curve["family"] == "deep-linear") & (curve["seed"] == 1)
    diverged = curve.assign(status=curve["status"].mask(lost, "diverged"), loss=curve["loss"].mask(lost))
    row = rejudged("p1-deep-linear", curve=diverged).loc["p1-deep-linear"]
    assert row["n"] == 3


def test_the_gap_is_correlated_only_where_a_seed_has_three_groups():
    recorded = right("generalisation")
    few = recorded[(recorded["seed"] > 0) | recorded["normalisation"].isin(["ghost-4", "ghost-128"])]
    whole, row = (rejudged("r1-gap", generalisation=table).loc["r1-gap"] for table in (recorded, few))
    assert (whole["n"], row["n"]) == (3, 2)


def test_the_best_training_is_one_of_those_with_the_most_finished_runs():
    metrics = right("metrics")
    mlp = (metrics["architecture"] == MLP) & metrics["normalisation"].isin(["none", "batchnorm"])
    others = sorted(metrics.loc[mlp, "training"].unique())
    assert len(others) > 1
    best = mlp & (metrics["training"] == others[0])
    lucky = metrics.assign(top_1=metrics["top_1"].mask(best, 99.9))
    lucky["status"] = lucky["status"].mask(best & (metrics["seed"] > 0), "diverged")
    rate = json.loads(others[0])["learning_rate"]
    measured = rejudged("m2-higher", metrics=lucky).loc["m2-higher", "measured"]
    assert f"best batchnorm (rate {rate:g})" not in measured
    assert "best batchnorm (rate " in measured


def test_rates_count_only_where_both_networks_were_run():
    curve = right("curve")
    before = rejudged("l5-rates", curve=curve).loc["l5-rates"]
    assert before["measured"].startswith("vgg-8-half rates, of 3 ")
    lone = (curve["recipe"] == "k5") & (curve["normalisation"] == "batchnorm")
    row = rejudged("l5-rates", curve=curve[~lone]).loc["l5-rates"]
    assert row["verdict"] == "not run"  # two rates say nothing
