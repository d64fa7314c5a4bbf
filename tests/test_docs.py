"""The documentation: generated parts are up to date, numbers are those of the tables, links resolve."""

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import forked
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import ROOT, run_columns
from torch.nn import BatchNorm2d

import onlybn
from onlybn.drawing.summaries import NEUTRAL, finals
from onlybn.files import write_table
from onlybn.judging import Estimate
from onlybn.runs.schemas import SCHEMAS

REFERENCE = ROOT / "results" / "reference" / "digits"
ONE_NETWORK = "cifar10-resnet-14_regimes-all,batchnorm,random-2_seeds-5"


def generator():
    found = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


@pytest.mark.parametrize("page", generator().PAGES)
def test_the_made_parts_of_a_page_are_up_to_date(page):
    text = (ROOT / page).read_text()
    assert "<!-- made from " in text
    assert generator().written(text) == text, "make docs"


def test_every_setting_is_described():
    from onlybn.configuration import SETTINGS

    described = generator().settings()
    assert set(SETTINGS) == set(yaml.safe_load((ROOT / "config.yaml").read_text()))
    assert all(re.search(rf"^\| `{key}` +\| `\S+` +\| \S", described, re.M) for key in SETTINGS)


def test_the_page_on_results_tells_every_column_and_no_other():
    there = {"experiment", *run_columns("resnet-14", "all", 0)}
    there |= {name for schema in SCHEMAS.values() for name in schema.names} | NEUTRAL.keys()
    for file in REFERENCE.rglob("*.parquet"):
        there |= set(pd.read_parquet(file).columns)
    page = (ROOT / "docs" / "results.md").read_text()
    first_cells = re.findall(r"^\| (`.+?) \|", page, re.M)
    told = {name for cell in first_cells for name in re.findall(r"`(\w+)`", cell)}
    without_deviations = {name for name in there if name.removesuffix("_std") not in there - {name}}
    assert told >= without_deviations
    assert told <= there


WHOLE = [
    ["study=digits"],
    ["study=cifar10-short", "seeds=4"],
    ["study=cifar10-resnet-14", "regimes=all,batchnorm,random-2", "seeds=5"],
]


@pytest.mark.parametrize("study", WHOLE, ids=" ".join)
def test_committed_studies_are_whole_so_that_every_target_only_draws(study):
    settings = [*study, "results_dir=results/reference"]
    done = forked.python_m("snakemake", "-n", "all", "--config", *settings, folder=ROOT)
    assert done.returncode == 0, done.stderr
    jobs = set(re.findall(r"^(\w+) +\d+$", done.stdout, re.M))
    assert jobs <= {"draw_figure", "make_table", "draw_sheet", "all", "total"}


@pytest.mark.parametrize("seed", [2, 3])
def test_a_committed_network_is_given_back_on_this_machine_too(seed):
    network = onlybn.load(ROOT / "results/reference/networks" / f"resnet-14-batchnorm-seed-{seed}")
    collected = pd.read_parquet(
        ROOT / "results/reference" / ONE_NETWORK / "experiments/features/affine.parquet",
        filters=[("seed", "==", seed), ("regime", "==", "batchnorm")],
    )
    layers = [layer for layer in network.modules() if isinstance(layer, BatchNorm2d)]
    for name, layer in enumerate(layers):
        row = collected[collected["layer"] == name]
        assert layer.weight.tolist() == row["gamma"].tolist()
        assert layer.bias.tolist() == row["beta"].tolist()
    assert len(collected) == sum(layer.num_features for layer in layers) == 560


def words(page):
    return " ".join((ROOT / page).read_text().split())


def signed(value, digits=1):
    return f"{value:+.{digits}f}".replace("-", "−")


def example(name):
    found = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


def difference(one, other, regime):
    """The row of examples/compare.py for two committed studies: how far the other is above the one."""
    rows = example("compare").compare(*(ROOT / "results/reference" / study for study in (one, other)))
    return rows[rows["regime"] == regime]


PRECISIONS = (
    "cifar10_dataset-cifar10-jpeg_epochs-5_precision-{}_architectures-resnet-14_regimes-all,batchnorm_seeds-3"
)


def test_numbers_in_the_text_are_rounded_from_the_committed_tables():
    readme, measured = words("README.md"), words("docs/measurements.md")
    metrics = pd.read_parquet(
        ROOT / "results/reference" / ONE_NETWORK / "experiments/regimes/metrics.parquet"
    )
    top_1 = finals(metrics).query("regime == 'batchnorm'").sort_values("seed")["top_1"].tolist()
    first_two, first_four, every = (Estimate("", top_1[:count], (46, 50)) for count in (2, 4, 5))
    low, high = every.interval
    ends = f"{min(top_1):.1f} to {max(top_1):.1f}"
    reached = f"{np.mean(top_1):.1f} ± {np.std(top_1, ddof=1):.1f} %"
    assert f"{reached} test accuracy (five seeds)" in readme
    assert f"{reached} (five seeds, {ends})" in measured
    assert f"{low:.2f} to {high:.2f}, lies in the range allowed, 46 to 50" in measured
    assert f"of four the interval lay inside by {first_four.interval[0] - 46:.2f} points" in measured
    assert first_two.judged((46, 50)) is None
    coded = pd.read_parquet(ROOT / "results/reference/jpeg/coded_again.parquet").query("quality == 75")
    float32 = coded.loc[coded["run"].str.contains("batchnorm", na=False), "before"].tolist()
    for page, values in (
        (measured, (float32, top_1[:4])),
        (words("docs/results.md"), (float32[2:], top_1[2:4])),
    ):
        for some in values:
            *others, last = (f"{value:.2f}" for value in some)
            assert f"{', '.join(others)} and {last}" in page
    shares = pd.read_parquet(ROOT / "results/reference" / ONE_NETWORK / "tables/claims.parquet").set_index(
        "id"
    )
    for claim in ("gamma-zero", "dead-relu"):
        share = float(re.search(r"batchnorm (\S+) \[", shares.loc[claim, "measured"])[1])
        assert f"({share:.1f} %; " in readme
        assert re.search(rf"{share:.1f} ± \S+ % of its", measured)

    for one, other in (
        (PRECISIONS.format("float32"), PRECISIONS.format("bfloat16")),
        ("coded_precision-float32", "coded"),
    ):
        (row,) = difference(one, other, "batchnorm").to_dict("records")
        mean, low, high = (signed(row[name], 2) for name in ("difference", "low", "high"))
        interval = f"[{low.removeprefix('+')}, {high.removeprefix('+')}]"
        assert re.search(rf"{re.escape(mean)}( points)? {re.escape(interval)}", measured)
        mean, low, high = (signed(row[name]) for name in ("difference", "low", "high"))
        assert f"| {mean} [{low.removeprefix('+')}, {high.removeprefix('+')}] |" in measured

    again = ROOT / "results/reference/cifar10-short_architectures-resnet-14,resnet-32_regimes-all"
    first, second = (
        finals(pd.read_parquet(folder / "experiments/regimes/metrics.parquet")).set_index(
            ["architecture", "regime", "seed"]
        )["top_1"]
        for folder in (SHORT, again)
    )
    apart = (second - first).dropna()
    low, high = Estimate("", apart.tolist(), ()).interval
    pair = apart.loc["resnet-32"].tolist()
    said = f"{pair[0]:.1f} and {pair[1]:.1f} points higher (ResNet-32): on average {apart.mean():.1f}"
    assert f"{said} [{signed(low)}, {high:.1f}]" in measured

    slopes = (
        pd.read_parquet(SHORT / "tables/claims.parquet").set_index("id").loc["depth-beats-width", "measured"]
    )
    mean, low, high = map(float, re.search(r"(\S+) \[(.+), (.+)\]$", slopes).groups())
    assert f"the difference of {mean:.1f} is barely off 0: {low:.2f} to {high:.1f}" in measured


def anchors(page):
    """The names that a heading's link has on GitHub."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text(), flags=re.M | re.S), re.M)
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings}


def test_links_between_pages_lead_to_files_and_headings():
    for page in [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), ROOT / "results/reference/README.md"]:
        for target, _, heading in re.findall(r"\]\(([^)#]*)(#?)([^)]*)\)", page.read_text()):
            if not target.startswith("https://"):
                file = page.parent / target if target else page
                assert file.exists(), f"{page.name}: {target}"
                assert not heading or heading in anchors(file), f"{page.name}: {target}#{heading}"


def test_the_notebook_style_example_answers_its_question(tmp_path):
    environment = os.environ | {"MPLBACKEND": "agg"}
    command = [sys.executable, ROOT / "examples" / "gamma_by_stage.py", REFERENCE]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    assert (tmp_path / "gamma_by_stage.png").stat().st_size > 10_000


def test_two_studies_are_compared_by_runs_of_the_same_seeds(tmp_path):
    for study, gains in (("one", (0, 0, 0)), ("other", (1, 2, 3))):
        table = {"loss": 1.0, "top_5": 90.0, "learning_rate": 0.1, "split": "test", "epoch": 2}
        runs = [("batchnorm", seed, "finished", 40 + seed + gain) for seed, gain in enumerate(gains)]
        runs += [("batchnorm", 3, "finished" if study == "one" else "diverged", 10.0)]  # not of both
        rows = [
            run_columns("resnet-8", regime, seed, status=status) | table | {"top_1": top_1}
            for regime, seed, status, top_1 in runs
        ]
        folder = tmp_path / study / "experiments" / "e"
        folder.mkdir(parents=True)
        pd.DataFrame(rows).to_parquet(folder / "metrics.parquet")
    command = [sys.executable, ROOT / "examples" / "compare.py", "one", "other"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    *_, row = done.stdout.splitlines()
    numbers = [float(cell) for cell in row.split("|")[4:-1]]
    # 4.30 is Student's t of two degrees of freedom at 97.5 %, 0.58 the standard error of 1, 2, 3.
    assert numbers == [41.0, 43.0, 2.0, pytest.approx(2 - 2.48, abs=0.01), pytest.approx(4.48, abs=0.01), 3]


SHORT = ROOT / "results" / "reference" / "cifar10-short_seeds-4"


def stack(*folders):
    command = [sys.executable, ROOT / "examples" / "stack.py", *folders]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def test_seeds_collected_apart_are_stacked_to_the_bytes_of_those_collected_together(tmp_path):
    tables = {path.relative_to(SHORT): pq.read_table(path) for path in SHORT.glob("experiments/*/*.parquet")}
    counted = Path("parameter_counts.parquet")
    seeds = pq.read_table(SHORT / "experiments/regimes/runs.parquet")["seed"].unique().to_pylist()
    for folder, some in (("one", seeds[::2]), ("other", seeds[1::2])):
        for name, table in tables.items():
            write_table(tmp_path / folder / name, table.filter(pc.is_in(table["seed"], pa.array(some))))
        write_table(tmp_path / folder / counted, pq.read_table(SHORT / counted))
    done = stack(tmp_path / "both", tmp_path / "one", tmp_path / "other")
    assert done.returncode == 0, done.stderr
    assert "0, 1" in done.stdout
    for name in (*tables, counted):
        assert (tmp_path / "both" / name).read_bytes() == (SHORT / name).read_bytes(), name
    (tmp_path / "one/experiments/features/affine.parquet").unlink()
    done = stack(tmp_path / "lacking", tmp_path / "one", tmp_path / "other")
    assert re.fullmatch(r"error: .*features lacks affine.parquet.*\n", done.stderr)
    assert not (tmp_path / "lacking").exists()


def test_runs_of_other_normalisations_are_stacked_too(tmp_path):
    whole = ROOT / "results" / "reference" / "other-norms"
    tables = {path.relative_to(whole): pq.read_table(path) for path in whole.glob("experiments/*/*.parquet")}
    assert tables
    for name, table in tables.items():
        neutral = pc.equal(table["normalisation"], "batchnorm")
        later = pc.greater(table["seed"], 1)
        parts = {
            "batchnorm": table.filter(neutral).drop_columns("normalisation"),
            "early": table.filter(pc.and_(pc.invert(neutral), pc.invert(later))),
            "late": table.filter(pc.and_(pc.invert(neutral), later)),
        }
        for folder, part in parts.items():
            write_table(tmp_path / folder / name, part.replace_schema_metadata(None))
    done = stack(tmp_path / "all", *(tmp_path / folder for folder in parts))
    assert done.returncode == 0, done.stderr
    for name, table in tables.items():
        stacked = pq.read_table(tmp_path / "all" / name)
        assert stacked.schema.equals(table.schema), name
        by_run = ["regime", "normalisation", "seed"]
        found, expected = (
            each.to_pandas().astype(dict.fromkeys(by_run[:2], str)).sort_values(by_run, kind="stable")
            for each in (stacked, table)
        )
        pd.testing.assert_frame_equal(
            found.reset_index(drop=True), expected.reset_index(drop=True), check_categorical=False
        )
    done = stack(tmp_path / "twice", tmp_path / "early", tmp_path / "early")
    twice = "error: seed 0 of resnet-14 all kaiming-normal_gamma-uniform groupnorm-8 is in two of the folders"
    assert done.stderr.startswith(twice), done.stderr


def test_seeds_trained_in_different_precisions_are_not_stacked(tmp_path):
    for name in (path.relative_to(SHORT) for path in SHORT.glob("experiments/*/runs.parquet")):
        table = pq.read_table(SHORT / name)
        other = {
            "seed": pa.array(table["seed"].to_numpy() + 10),
            "precision": pa.array(["float32"] * len(table)),
        }
        for column, values in other.items():
            table = table.set_column(table.column_names.index(column), column, values)
        write_table(tmp_path / "other" / name, table)
    refusal = r"error: resnet-\d+ all .+: replicates differ in precision: bfloat16, float32\n"
    assert re.fullmatch(refusal, stack(tmp_path / "out", SHORT, tmp_path / "other").stderr)


@pytest.mark.parametrize(
    ("other", "refusal"),
    [
        (SHORT, "seed 0 of resnet-14 all kaiming-normal_gamma-uniform is in two of the folders"),
        (REFERENCE, "these are runs of different studies: cifar10-short, digits"),
        (ROOT / "src", f"{ROOT / 'src'}/experiments holds no collected tables of runs"),
    ],
)
def test_runs_that_are_no_replicates_are_not_stacked(tmp_path, other, refusal):
    done = stack(tmp_path / "out", SHORT, other)
    assert done.stderr.startswith(f"error: {refusal}")
    assert done.returncode == 1
    assert not (tmp_path / "out").exists()
