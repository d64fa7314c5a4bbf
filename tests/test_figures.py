"""Figures and tables from collected tables with known answers, diverged runs among them."""

import math
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest

from onlybn.figures import FIGURES, figure_1, figure_2, figure_3
from onlybn.figures.draw import draw
from onlybn.models import architecture, build
from onlybn.summaries import finals, over_seeds, read
from onlybn.tables import accuracy, table_1
from onlybn.tables.make import make


def collected(points, seeds=(0, 1), experiment="e") -> pd.DataFrame:
    """A collected metrics table: final top-1 per (architecture, regime), one point higher per seed.

    Accuracy None is a run that diverged in its second epoch.
    """
    rows = []
    for (name, regime), top_1 in points.items():
        described = architecture(name)
        for seed in seeds:
            final = math.nan if top_1 is None else top_1 + seed
            run = {
                "study": "s",
                "dataset": "digits",
                "experiment": experiment,
                "architecture": name,
                "family": described.family,
                "depth": described.depth,
                "width": described.width,
                "regime": regime,
                "variant": "kaiming-normal_gamma-uniform",
                "seed": seed,
                "status": "diverged" if top_1 is None else "finished",
                **build(name, channels=3, classes=10).parameter_counts(),
            }
            for epoch, value in ((1, 5.0), (2, final)):
                for split in ("train", "test"):
                    row = {"epoch": epoch, "split": split, "loss": 1.0, "learning_rate": 0.1}
                    rows.append(run | row | {"top_1": value, "top_5": min(100.0, value + 30)})
    return pd.DataFrame(rows)


def test_a_runs_final_accuracy_is_its_last_test_row():
    assert finals(collected({("resnet-14", "all"): 50.0}))["top_1"].tolist() == [50, 51]


def test_replicates_are_summarised_with_n_minus_1():
    (point,) = over_seeds(finals(collected({("resnet-14", "all"): 50.0}))).to_dict("records")
    assert point["top_1"] == 50.5
    assert point["top_1_std"] == pytest.approx(np.std([50, 51], ddof=1))
    assert (point["n"], point["diverged"], point["at_chance"]) == (2, 0, 0)


def test_diverged_runs_enter_no_mean_and_are_counted_and_so_are_runs_at_chance():
    metrics = pd.concat(
        [
            collected({("resnet-14", "all"): 50.0}, seeds=[0, 1]),
            collected({("resnet-14", "all"): None}, seeds=[2]),
            collected({("resnet-14", "output"): 14.5}, seeds=[0, 1]),
        ]
    )
    points = over_seeds(finals(metrics)).set_index("regime")
    assert points.loc["all", ["top_1", "n", "diverged"]].tolist() == [50.5, 2, 1]
    assert points.loc["output", ["n", "at_chance"]].tolist() == [2, 1]


def test_figure_2_places_resnet_14_in_both_panels():
    metrics = collected({(name, "batchnorm"): 50.0 for name in ("resnet-14", "resnet-32", "wrn-14-2")})
    numbers = figure_2.numbers(metrics)
    panels = numbers.groupby("panel")["x"].apply(list).to_dict()
    assert panels == {"depth": [14, 32], "width": [1, 2]}
    assert numbers["y"].tolist() == [50.5] * 4


def test_figure_1_draws_only_its_two_regimes():
    metrics = collected({("resnet-14", regime): 50.0 for regime in ("all", "no-affine", "output")})
    assert set(figure_1.numbers(metrics)["regime"]) == {"all", "no-affine"}


def test_figure_3_fits_points_per_doubling_of_batchnorm_parameters():
    counts = {"resnet-14": 1_120, "resnet-32": 2_464, "resnet-110": 8_288, "wrn-14-4": 4_480}
    slope = {"resnet": 4.0, "wrn": 3.0}
    points = {
        (name, "batchnorm"): 40 + slope[name.split("-")[0]] * math.log2(count / 1_120)
        for name, count in counts.items()
    }
    numbers = figure_3.numbers(collected(points | {("resnet-14", "all"): 90.0}))
    assert numbers.groupby("panel")["slope"].first().to_dict() == pytest.approx({"depth": 4.0, "width": 3.0})
    assert set(numbers["x"]) == set(counts.values())
    assert "+4.00 points per doubling by depth, +3.00 points" in figure_3.caption(numbers)


@pytest.mark.parametrize("figure", FIGURES)
@pytest.mark.parametrize(
    "points",
    [
        {("resnet-14", r): 50.0 for r in ("all", "no-affine", "batchnorm")},
        {("resnet-14", "all"): None, ("resnet-14", "batchnorm"): None, ("wrn-14-2", "batchnorm"): 40.0},
    ],
    ids=["one network", "every run of a point diverged"],
)
def test_a_figure_of_little_is_drawn_and_says_what_it_lacks(figure, points, tmp_path):
    collected(points, seeds=[0]).to_parquet(tmp_path / "metrics.parquet")
    draw(figure, "s", [tmp_path / "metrics.parquet"], tmp_path / figure)
    assert (tmp_path / f"{figure}.png").stat().st_size > 10_000
    caption = (tmp_path / f"{figure}.rst").read_text()
    assert "Study s" in caption
    assert ("diverged" in caption) == (None in points.values())


def test_a_figure_redrawn_is_the_same_bytes(tmp_path):
    collected({("resnet-14", "batchnorm"): 50.0}).to_parquet(tmp_path / "metrics.parquet")
    files = []
    for name in ("one", "two"):
        draw("figure-3", "s", [tmp_path / "metrics.parquet"], tmp_path / name)
        files.append([(tmp_path / f"{name}{e}").read_bytes() for e in (".pdf", ".png", ".parquet")])
    assert files[0] == files[1]


def test_runs_that_experiments_share_are_counted_once(tmp_path):
    for name in ("a", "b"):
        collected({("resnet-14", "all"): 50.0}, experiment=name).to_parquet(tmp_path / name)
    assert over_seeds(finals(read([tmp_path / "a", tmp_path / "b"])))["n"].tolist() == [2]


def test_the_accuracy_table_shows_mean_deviation_n_and_what_diverged():
    metrics = pd.concat(
        [
            collected({("resnet-14", "all"): 50.0, ("resnet-14", "output"): None}),
            collected({("resnet-32", "all"): 60.0}, seeds=[0]),
        ]
    )
    lines = accuracy.markdown(accuracy.numbers(metrics)).splitlines()
    assert "50.5 ± 0.7 (n = 2)" in lines[2]
    assert "diverged (2)" in lines[2]
    assert "60.0 (n = 1)" in lines[3]


def test_table_1_shows_batchnorms_share():
    counts = build("resnet-110", channels=3, classes=10).parameter_counts()
    table = table_1.numbers(pd.DataFrame([{"architecture": "resnet-110", "dataset": "cifar10"} | counts]))
    assert table["batchnorm_percent"].round(2).tolist() == [0.48]
    assert "1,730,714" in table_1.markdown(table)


def test_tables_come_as_csv_markdown_and_parquet(tmp_path):
    collected({("resnet-14", "all"): 50.0}).to_parquet(tmp_path / "metrics.parquet")
    make("accuracy", [tmp_path / "metrics.parquet"], tmp_path / "accuracy")
    assert pd.read_csv(tmp_path / "accuracy.csv")["top_1"].tolist() == [50.5]
    assert pd.read_parquet(tmp_path / "accuracy.parquet")["n"].tolist() == [2]
    assert (tmp_path / "accuracy.md").read_text().startswith("| network")


def test_drawing_and_collecting_import_no_torch():
    code = (
        "import sys; import onlybn.figures.draw, onlybn.tables.make, onlybn.collect;"
        "from onlybn.figures import figure_1, figure_2, figure_3;"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
