"""One random network with many tasks: tables, figure and claims from collected tables with known answers."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from conftest import counts, run_columns
from matplotlib import pyplot as plt
from scipy import stats

from onlybn.drawing import draw
from onlybn.judging import judge
from onlybn.papers import paper
from onlybn.papers.one_seed.claims import CLAIMS, PUBLISHED
from onlybn.papers.one_seed.figures import bytes as figure
from onlybn.papers.one_seed.tables import tasks

NETWORK = "resnet-14"
OWN = {"batchnorm": 80.0, "batchnorm+output": 88.0, "all": 99.0}


def world(loss=0.0, seeds=3, noise=0.05, lost=(), apart=0.0):
    """Runs of two tasks, on own features and on two shared ones, on which they lose points.

    The shared ones are that many points `apart`; `lost` names runs that diverged.
    """
    rows = []
    for dataset, easier in (("digits", 0.0), ("digits-even", 4.0)):
        for regime, accuracy in OWN.items():
            for features in ("own",) if regime == "all" else ("own", "features-100", "features-101"):
                for seed in range(seeds):
                    row = run_columns(NETWORK, regime, seed, dataset=dataset, features_seed=features)
                    wobble = noise * (seed - 1) * (2 if features == "features-101" else 1)
                    top_1 = accuracy + easier / 2 + wobble - loss * (features != "own")
                    top_1 += apart / 2 * ((features == "features-101") - (features == "features-100"))
                    row |= {
                        "epoch": 2,
                        "step": 2,
                        "split": "test",
                        "loss": 1.0,
                        "top_1": top_1,
                        "top_5": 99.0,
                    }
                    if (dataset, features, seed) in lost:
                        row |= {"status": "diverged"}
                    rows.append(row | {"learning_rate": 0.1})
    return pd.DataFrame(rows)


def verdicts(metrics):
    return judge(CLAIMS, {"metrics": metrics}, PUBLISHED).set_index("id")


def test_a_row_has_both_accuracies_their_paired_difference_and_the_bytes_of_a_task():
    rows = tasks.numbers(world(loss=3.0)).set_index(["dataset", "regime"])
    assert len(rows) == 4
    row = rows.loc[("digits-even", "batchnorm")]
    assert (row["shared_n"], row["own_n"], row["pairs"]) == (6, 3, 3)
    assert (row["shared"], row["own"]) == pytest.approx((79.0, 82.0))
    assert row["difference"] == pytest.approx(-3.0)
    assert row["low"] < -3 < row["high"] < -2.5
    of = counts(NETWORK)
    statistics = of["batchnorm_parameters"]
    assert row["bytes"] == 4 * (of["batchnorm_parameters"] + statistics)
    assert row["network_bytes"] == 4 * (of["parameters"] + statistics)
    assert rows.loc[("digits", "batchnorm+output"), "bytes"] == row["bytes"] + 4 * of["output_parameters"]
    shown = tasks.shown(tasks.numbers(world(loss=3.0)))
    assert shown.iloc[0]["shared − own"].startswith("-3.0 [-3.")
    assert shown.iloc[0].to_dict() | {"task": "digits", "a task (kB)": "9.0"} == shown.iloc[0].to_dict()


def test_a_diverged_run_is_in_no_mean():
    rows = tasks.numbers(world(lost={("digits", "own", 1), ("digits", "features-100", 0)}))
    row = rows.set_index(["dataset", "regime"]).loc[("digits", "batchnorm")]
    assert (row["shared_n"], row["own_n"], row["pairs"]) == (5, 2, 2)
    assert (row["shared_diverged"], row["own_diverged"]) == (1, 1)
    assert tasks.shown(rows).iloc[0]["own features (%)"].endswith("(n = 2, 1 diverged)")
    none = tasks.numbers(world(lost={("digits", "own", seed) for seed in range(3)}))
    assert tasks.shown(none).iloc[0][["own features (%)", "shared − own"]].tolist() == ["3 diverged", ""]
    both = world(lost={("digits", "own", 1), ("digits", "features-100", 0)})
    assert "2 runs that diverged left out" in verdicts(both).loc["shared-batchnorm", "reason"]
    both = pd.concat([both, both.assign(architecture="resnet-20", depth=20)])
    assert "4 runs that diverged left out" in verdicts(both).loc["shared-batchnorm", "reason"]


def test_what_all_seeds_share_is_in_the_interval():
    def row(**given):
        return tasks.numbers(world(loss=3.0, **given)).set_index(["dataset", "regime"]).iloc[0]

    near, far = row(), row(apart=2.0)
    assert near["difference"] == pytest.approx(far["difference"])
    one_degree = stats.t.ppf(0.975, 1)  # of two shared features
    error = (near["high"] - near["difference"]) / one_degree
    between = np.std([-1.0, 1.0], ddof=1) / math.sqrt(2)
    half = one_degree * math.hypot(error, between)
    assert far["high"] - far["difference"] == pytest.approx(half, rel=0.01)
    assert verdicts(world(loss=3.0, apart=4.0)).loc["shared-batchnorm", "verdict"] == "inconclusive"


@pytest.mark.parametrize("kept", [["own", "features-100"], ["features-100", "features-101"], ["own"]])
def test_one_draw_of_shared_features_or_none_of_either_kind_decides_nothing(kept):
    metrics = world(loss=3.0)
    found = verdicts(metrics[metrics["features_seed"].isin(kept)])
    expected = "inconclusive" if len(set(kept) & {"own", "features-100"}) == 2 else "not run"
    assert found.loc["shared-batchnorm", "verdict"] == expected
    if expected == "inconclusive":
        reason = found.loc["shared-batchnorm", "reason"]
        assert reason.startswith("one draw of what all seeds share: resnet-14 batchnorm shared − own")
    assert found.loc["few-bytes", "verdict"] == "reproduced"


def test_claims_hold_where_sharing_is_free_and_fail_where_it_costs():
    assert set(verdicts(world())["verdict"]) == {"reproduced"}
    found = verdicts(world(loss=3.0))
    assert found.loc[["shared-batchnorm", "shared-output"], "verdict"].tolist() == ["contradicted"] * 2
    assert set(verdicts(world(noise=9))["verdict"]) == {"inconclusive", "reproduced"}
    larger = world().assign(parameters=20_000)
    assert verdicts(larger).loc["few-bytes", "verdict"] == "contradicted"
    assert set(verdicts(None)["verdict"]) == {"not run"}


def test_the_figure_has_a_panel_for_each_task_and_a_point_for_each_regime():
    numbers = figure.numbers(world())
    assert len(numbers) == 2 * 3
    assert numbers.set_index(["dataset", "regime"]).loc[("digits", "all"), "n"] == 3
    assert numbers.set_index(["dataset", "regime"]).loc[("digits", "batchnorm"), "n"] == 6
    assert numbers["x"].nunique() == 3
    drawn = figure.draw(numbers)
    assert [axes.get_title() for axes in drawn.axes[:2]] == ["digits", "even digits"]
    plt.close(drawn)


def test_points_of_several_networks_are_named_and_not_joined(tmp_path):
    both = pd.concat([world(), world().assign(architecture="resnet-20", depth=20)])
    drawn = figure.draw(figure.numbers(both))
    labels = {text.get_text() for text in drawn.legends[0].get_texts()}
    assert len(labels) == 6 and all(label.startswith("resnet-") for label in labels)
    points = [container.lines[0] for container in drawn.axes[0].containers]
    assert len({(line.get_color(), line.get_marker()) for line in points}) == 6
    assert {line.get_linestyle() for line in points} == {"None"}
    plt.close(drawn)
    world().to_parquet(tmp_path / "metrics.parquet")
    _, caption, _ = draw.told(paper("one-seed"), "bytes", "s", [tmp_path / "metrics.parquet"])
    assert "n = 3 (all), 6 (" in caption


def test_a_regime_whose_runs_all_diverged_is_a_cross_at_the_bottom():
    rows = world()
    lost = (rows["regime"] == "all") & (rows["dataset"] == "digits")
    numbers = figure.numbers(rows.assign(status=rows["status"].where(~lost, "diverged")))
    row = numbers.set_index(["dataset", "regime"]).loc[("digits", "all")]
    assert (row["n"], row["diverged"]) == (0, 3)
    assert row["x"] == numbers["x"].max()
    drawn = figure.draw(numbers)
    crosses = [[line for line in axes.lines if line.get_marker() == "x"] for axes in drawn.axes[:2]]
    assert [len(found) for found in crosses] == [1, 0]
    assert crosses[0][0].get_xdata()[0] == row["x"]
    plt.close(drawn)


def test_networks_with_other_draws_are_judged_apart():
    both = pd.concat([world(), world(loss=3.0).assign(variant="binary_gamma-one")])
    (row,) = judge([CLAIMS[0]], {"metrics": both}, PUBLISHED).to_dict("records")
    assert row["verdict"] == "contradicted"
    assert re.match(
        r"resnet-14 batchnorm .* \[.*, resnet-14 binary_gamma-one batchnorm .* \[", row["measured"]
    )


def test_its_paper_is_there_and_a_task_on_resnet_110_takes_under_a_percent():
    assert paper("one-seed").figures["bytes"].title == "Accuracy against bytes"
    of = counts("resnet-110")
    stored = 2 * of["batchnorm_parameters"] + of["output_parameters"]
    assert stored / (of["parameters"] + of["batchnorm_parameters"]) < 0.01
