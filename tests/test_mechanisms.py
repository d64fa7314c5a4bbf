"""What BatchNorm does: its figures and tables from collected tables with known answers."""

import json
import math
from functools import cache
from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from conftest import run_columns
from matplotlib import pyplot as plt

from onlybn.drawing import draw as drawing
from onlybn.drawing import make as making
from onlybn.observers.inputs import PERCENTS
from onlybn.papers import paper
from onlybn.papers.batchnorm_mechanisms import arms, looks, measures
from onlybn.papers.batchnorm_mechanisms.figures import (
    batch_size,
    deep_linear,
    evaluation,
    gradient_shift,
    identity,
    landscape,
    learning_rates,
    noisy_batchnorm,
    norms,
    placement,
    sigmoid_mlp,
    tolerated_rates,
)
from onlybn.papers.batchnorm_mechanisms.tables import accuracy
from onlybn.papers.batchnorm_mechanisms.tables import learning_rates as learning_rates_table

PAPER = paper("batchnorm-mechanisms")
STEPS, EVERY = 1000, 40
LAYERS = 4
NORMAL = NormalDist()
# How fast a normalisation learns, its effective β · rate early on, and how far a step moves its inputs.
KINDS = {
    "batchnorm": (3.0, 0.8, 0.02),
    "none": (1.0, 2.4, 0.1),
    "batchnorm-noisy": (2.7, 1.0, 1.0),
    "l1": (3.1, 0.7, 0.05),
    "linf": (2.5, 0.9, 0.05),
    "layernorm": (2.0, 1.2, 0.03),
    "ghost-8": (2.2, 0.9, 0.02),
    "ghost-32": (2.6, 0.9, 0.02),
    "batchnorm-after": (3.2, 0.9, 0.02),
}


class World:
    """Collected tables of arms in settings, two seeds each; the last seed of the last arm diverges at half.

    A setting is an architecture and a learning rate.
    """

    def __init__(self, kinds=("batchnorm", "none"), settings=(("resnet-8", 0.1),), seeds=2, **columns):
        self.columns, self.last = columns, (kinds[-1], settings[-1], seeds - 1)
        self.runs = [(k, s, seed) for s in settings for k in kinds for seed in range(seeds)]
        self.rng = np.random.default_rng(0)

    def table(self, rows) -> pd.DataFrame:
        """A table of what `rows` yields of each run, from its kind, rate, steps and seed."""
        found = []
        for run in self.runs:
            kind, (architecture, rate), seed = run
            steps, lost = np.arange(0, STEPS, EVERY), run == self.last
            training = {"steps": STEPS, "batch_size": 128, "learning_rate": rate}
            named = {"normalisation": kind, "recipe": f"x{rate:g}".replace(".", "-"), "steps": STEPS}
            named |= {"status": "diverged" if lost else "finished", "epochs": 0}
            named |= {"training": json.dumps(training), "dataset": "cifar10"} | self.columns
            columns = run_columns(architecture, named.pop("regime", "all"), seed, **named)
            steps = steps[steps < STEPS / 2] if lost else steps
            found += [columns | row for row in rows(*KINDS[kind], rate, steps, seed)]
        return pd.DataFrame(found)

    def accuracies(self, fast, rate, steps, seed):
        return 10 + 80 * (1 - np.exp(-fast * (1 + np.log10(rate) / 3) * steps / 300)) + seed

    @property
    def metrics(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps[1::2] + EVERY:
                value = self.accuracies(fast, rate, step, seed)
                for split, less in (("train", 0.0), ("test", 4.0)):
                    row = {"epoch": step // 100, "step": float(step), "split": split}
                    row |= {"loss": 2.5 * (1 - value / 100), "top_1": value - less, "top_5": 99.0}
                    yield row | {"learning_rate": rate}

        return self.table(rows)

    @property
    def curve(self):
        def rows(fast, beta, moves, rate, steps, seed):
            values = self.accuracies(fast, rate, steps, seed) + self.rng.normal(0, 2, len(steps))
            for step, value in zip(steps, values, strict=True):
                row = {"epoch": 1 + step // 100, "step": step, "top_1": value, "learning_rate": rate}
                yield row | {"loss": 2.5 * (1.05 - value / 100)}

        return self.table(rows)

    @property
    def inputs(self):
        def rows(fast, beta, moves, rate, steps, seed):
            normal = np.array([NORMAL.inv_cdf(min(max(p / 100, 1e-3), 1 - 1e-3)) for p in PERCENTS])
            for step in steps:
                for number in range(LAYERS):
                    centre, wide = moves * step / 100 + 0.1 * number, 1 + step / STEPS * number / 5
                    means = centre + np.arange(4) * 0.1
                    yield {
                        "epoch": 1,
                        "step": step,
                        "layer": f"layers.{number}",
                        "number": number,
                        "unit": seed,
                        "unit_percentiles": centre + wide * normal,
                        "all_percentiles": centre + 1.2 * wide * normal,
                        "means": means.astype("float32"),
                        "variances": np.full(4, wide, "float32"),
                        "mean_step": moves * (1 + 0.2 * self.rng.random()),
                        "variance_step": moves * (1 + 0.2 * self.rng.random()) / 2,
                    }

        return self.table(rows)

    @property
    def gradient_shift(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps:
                for number in range(LAYERS):
                    norm = 2 * np.exp(-step / STEPS) + 0.1 * number
                    cosine = np.cos(beta * number / LAYERS * (1 + 0.2 * self.rng.random()))
                    relative = math.sqrt(2 - 2 * cosine)
                    row = {"epoch": 1, "step": step, "layer": f"layers.{number}", "number": number}
                    row |= {"norm": norm, "shift": relative * norm, "relative": relative}
                    yield row | {"cosine": cosine}

        return self.table(rows)

    @property
    def landscape(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps:
                loss = 2.3 * math.exp(-fast * step / 600) + 0.05
                now = 2.0 + (beta - 2.0) * math.exp(-step / 300)  # rate · β
                for direction, part in (("gradient", 1.0), ("random-1", 0.2), ("random-2", 0.3)):
                    for factor in (0.0, 0.5, 1.0, 2.0, 4.0):
                        norm = 1 + seed
                        beta_now = now / rate * (0.5 + factor / 8) * part
                        row = {"epoch": 1, "step": step, "direction": direction, "factor": factor}
                        row |= {
                            "learning_rate": rate,
                            "loss": loss * (1 + beta * part * (factor - 1) ** 2 / 9),
                        }
                        row |= {"decay": 0.3, "gradient_change": beta_now * factor * rate * norm}
                        row |= {"gradient_norm": norm, "beta": beta_now if factor else None}
                        yield row | {"cosine": 1 - factor / 4}

        return self.table(rows)

    @property
    def reestimated(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for epoch in (1, 5, 10):
                for name, more in (("running", -10 / epoch), ("pooled", 0.0)):
                    value = self.accuracies(fast, rate, 100 * epoch, seed) + more
                    row = {"epoch": epoch, "step": 100 * epoch, "statistics": name, "loss": 1.0}
                    yield row | {"top_1": value, "top_5": 99.0}

        return self.table(rows)

    @property
    def generalisation(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for epoch in (1, 5, 10):
                value = self.accuracies(fast, rate, 100 * epoch, seed)
                for split, less in (("train", 0.0), ("test", 4.0)):
                    row = {"epoch": epoch, "step": 100 * epoch, "split": split, "top_5": 99.0}
                    yield row | {"loss": 2.5 * (1 - value / 100), "top_1": value - less}

        return self.table(rows)

    @property
    def identity(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for step in steps:
                for number in range(LAYERS):
                    row = {"epoch": 1, "step": step, "layer": f"bn{number}", "number": number}
                    row |= {"error": 1e-14 * (1 + number + seed), "mean_share": 0.3 - 0.03 * number}
                    yield row | {"normalised_share": 0.1 + 0.02 * number, "ratio": 0.8}

        return self.table(rows)

    @property
    def statistics(self):
        def rows(fast, beta, moves, rate, steps, seed):
            for place, shift in enumerate(evaluation.SHIFTS):
                for name in evaluation.STATISTICS:
                    if shift != "clean" and name in ("batch-1", "batch-2", "batch-8", "batch-1000"):
                        continue
                    value = 90.0 - (30 if name == "running" else 8) * place / 3 + seed
                    value = 10.0 if name == "batch-1" else value
                    for layer in range(LAYERS):
                        row = {"shift": shift, "statistics": name, "loss": 1.0, "top_1": value}
                        row |= {"top_5": 99.0, "not_finite": 0, "predicted": 10, "apart": 0.1}
                        yield row | {"layer": layer, "name": f"bn{layer}", "largest": 5.0 + place * layer}

        return self.table(rows)

    def kind(self, name):
        return getattr(self, name.replace("-", "_"))


@cache
def collected(kind: str, **world) -> pd.DataFrame:
    return World(**world).kind(kind)


WORLDS = {
    "noisy-batchnorm": {"kinds": ("batchnorm", "batchnorm-noisy", "none")},
    "learning-rates": {"settings": (("resnet-8", 0.1), ("resnet-8", 0.5))},
    "learning-rates-table": {"settings": (("resnet-8", 0.1), ("resnet-8", 0.5))},
    "tolerated-rates": {"settings": (("resnet-8", 0.1), ("resnet-8", 0.5))},
    "gradient-shift": {"settings": (("resnet-8", 0.1), ("resnet-14", 0.1))},
    "batch-size": {"kinds": ("batchnorm", "ghost-32", "ghost-8", "none")},
}
MADE = [
    name
    for name in PAPER.made
    if name not in ("claims", "claims-further", "provenance", "provenance-appendices")
]


def numbers_of(name: str, **world) -> pd.DataFrame:
    record = PAPER.made[name]
    tables = (collected(kind, **(WORLDS.get(name, {}) | world)) for kind in record.reads)
    return PAPER.load(record.module).numbers(*tables)


@pytest.mark.parametrize("name", MADE)
def test_every_figure_and_table_shows_its_arms_and_counts_the_run_that_diverged(name):
    record, numbers = PAPER.made[name], numbers_of(name)
    module = PAPER.load(record.module)
    assert "nan" not in module.caption(numbers)
    assert (numbers["n"].min(), numbers["n"].max(), numbers["diverged"].max()) == (1, 2, 1)
    words = WORLDS.get(name, {}).get("kinds", ("batchnorm", "none"))
    if name in PAPER.tables:
        shown = module.shown(numbers)
        assert {*module.WORDS} <= {*shown}
        assert "nan" not in shown.to_string()
        arm = shown.columns[1]
        assert all(shown[arm].str.startswith(looks.label(word)).any() for word in words)
        return
    figure = module.draw(numbers)
    assert figure.get_figwidth() <= 7
    assert all(axes.has_data() for axes in figure.axes)
    if name not in ("evaluation", "identity"):  # whose columns are named by the arms
        labels = {text.get_text() for text in figure.legends[0].get_texts()}
        assert all(any(label.startswith(looks.label(word)) for label in labels) for word in words)
    plt.close(figure)


def test_a_figure_is_drawn_from_collected_files_with_its_diverged_run_in_the_caption(tmp_path):
    name = "evaluation-over-time"
    files = []
    for kind in PAPER.figures[name].reads:
        files.append(tmp_path / f"{kind}.parquet")
        collected(kind).to_parquet(files[-1])
    drawing.draw(PAPER, name, "s", files, tmp_path / name)
    assert (tmp_path / f"{name}.png").stat().st_size > 10_000
    caption = (tmp_path / f"{name}.rst").read_text()
    assert "1,000 steps; mean ± one standard deviation, n = 1 (none), 2 (batchnorm) seeds" in caption
    assert "; 1 diverged run (×)" in caption


def test_a_table_is_made_from_collected_files(tmp_path):
    collected("metrics").to_parquet(tmp_path / "metrics.parquet")
    making.make(PAPER, "accuracy", "s", [tmp_path / "metrics.parquet"], tmp_path / "accuracy")
    text = (tmp_path / "accuracy.md").read_text()
    assert "| CIFAR-10, resnet-8 | none            | 76.5 (n = 1, 1 diverged) |" in text


def test_a_diverged_run_is_a_line_of_its_own_that_ends_at_a_cross():
    numbers = numbers_of("learning-rates")
    lost = numbers[numbers["seed"].notna()]
    assert set(lost["arm"]) == {"none, rate 0.5"} and set(lost["seed"]) == {1}
    figure = learning_rates.draw(numbers)
    crosses = [line.get_xdata()[0] for axes in figure.axes for line in axes.lines if line.get_marker() == "x"]
    assert crosses == lost.groupby("measure", sort=False)["x"].max().tolist()
    plt.close(figure)


def test_the_means_are_of_finished_runs_and_their_count_is_that_of_the_arm():
    numbers = numbers_of("placement")
    tests = collected("metrics").query("split == 'test' and status == 'finished' and normalisation == 'none'")
    here = numbers[(numbers["measure"] == learning_rates.TEST) & (numbers["arm"] == "none")]
    here = here[here["seed"].isna()].set_index("x")["y"]
    assert here.to_dict() == pytest.approx(tests.groupby("step")["top_1"].mean().to_dict())
    (row,) = numbers[numbers["arm"] == "none"][["n", "diverged"]].drop_duplicates().to_numpy()
    assert row.tolist() == [1, 1]
    ends = numbers[(numbers["measure"] == placement.FINAL) & (numbers["arm"] == "none")]
    assert ends.set_index("seed")["y"].isna().to_dict() == {0: False, 1: True}


def test_on_a_logarithmic_axis_mean_and_band_are_those_of_logarithms():
    numbers = numbers_of("deep-linear")
    curve = collected("curve").query("normalisation == 'batchnorm' and step == 80")
    here = numbers[(numbers["measure"] == deep_linear.LOSS) & (numbers["arm"] == "BatchNorm")]
    (row,) = here[here["x"] == 80].to_dict("records")
    logs = np.log(curve["loss"])
    assert [row[name] for name in ("y", "low", "high")] == pytest.approx(
        np.exp([logs.mean(), logs.mean() - logs.std(ddof=1), logs.mean() + logs.std(ddof=1)]).tolist()
    )
    lost = collected("metrics").copy()
    lost.loc[lost["status"] == "diverged", "loss"] = math.nan  # and an accuracy that means nothing
    numbers = learning_rates.numbers(lost, collected("curve"))
    assert set(numbers.loc[numbers["seed"].notna(), "measure"]) == {learning_rates.TRAINING}


def test_runs_at_chance_are_counted_by_their_last_test():
    metrics, curve = collected("metrics").copy(), collected("curve")
    metrics.loc[(metrics["normalisation"] == "none") & (metrics["seed"] == 0), "top_1"] = 10.0
    for numbers in (
        learning_rates.numbers(metrics, curve),
        noisy_batchnorm.numbers(metrics, curve, collected("inputs")),
    ):
        assert numbers.groupby("arm")["at_chance"].max().max() == 1
        assert set(numbers.loc[numbers["at_chance"] == 1, "normalisation"]) == {"none"}


@pytest.mark.parametrize("name", MADE)
@pytest.mark.parametrize("normalisation", ["batchnorm", "none"])
def test_a_study_of_one_normalisation_is_drawn_too(name, normalisation):
    if (name, normalisation) == ("identity", "none"):
        return
    tables = [collected(kind, **WORLDS.get(name, {})) for kind in PAPER.made[name].reads]
    tables = [table[table["normalisation"] == normalisation] for table in tables]
    if normalisation == "batchnorm":  # neutral: a collected table has no such column
        tables = [table.drop(columns="normalisation") for table in tables]
    elif name.startswith("evaluation"):  # no layer normalises
        tables = [table.assign(layer=-1, largest=math.nan) if "layer" in table else table for table in tables]
    module = PAPER.load(PAPER.made[name].module)
    numbers = module.numbers(*tables)
    assert set(numbers["normalisation"].dropna()) == {normalisation}
    if name in PAPER.figures:
        plt.close(module.draw(numbers))
    else:
        assert not module.shown(numbers).empty


def test_a_run_that_diverged_before_any_test_is_counted():
    metrics = collected("metrics")
    lost = metrics[metrics["status"] == "diverged"].head(1).copy()
    lost[["epoch", "step", "split", "loss", "top_1", "top_5"]] = None
    metrics = pd.concat([metrics[metrics["status"] == "finished"], lost], ignore_index=True)
    numbers = batch_size.numbers(metrics.drop(columns="learning_rate"))
    assert numbers.groupby("arm")["diverged"].max().to_dict() == {"BatchNorm": 0, "none": 1}
    assert accuracy.shown(accuracy.numbers(metrics))["all"].tolist()[1] == "76.5 (n = 1, 1 diverged)"


def test_an_arm_of_which_every_run_diverged_is_still_drawn():
    for name in ("learning-rates", "landscape", "placement", "batch-size"):
        record = PAPER.figures[name]
        tables = [collected(kind).copy() for kind in record.reads]
        for table in tables:
            table.loc[table["normalisation"] == "none", "status"] = "diverged"
        module = PAPER.load(record.module)
        numbers = module.numbers(*tables)
        assert numbers["n"].min() == 0
        figure = module.draw(numbers)
        assert "none" in {text.get_text().split(",")[0] for text in figure.legends[0].get_texts()}, name
        plt.close(figure)


def test_a_squared_error_has_a_loss_and_no_accuracy():
    training = json.dumps(
        {"loss": "squared-error", "learning_rate": 1e-6, "steps": STEPS, "batch_size": 1000}
    )
    columns = {"training": training, "dataset": "deep-linear"}
    tables = {kind: collected(kind).assign(**columns) for kind in ("metrics", "curve", "landscape")}
    for kind in ("metrics", "curve"):
        tables[kind]["top_1"] = None
    numbers = norms.numbers(*tables.values())
    assert set(numbers["measure"]) == {norms.LOSS, norms.BETA}
    figure = norms.draw(numbers)
    assert [axes.get_ylabel() for axes in figure.axes] == ["training loss", "early effective\nβ"]
    plt.close(figure)
    cells = accuracy.shown(accuracy.numbers(tables["metrics"]))["all"].tolist()
    assert cells[0].startswith("loss 0.2") and cells[0].endswith("(n = 2)")


def test_training_counted_in_epochs_is_drawn_over_epochs():
    metrics = collected("metrics").drop(columns=["step", "steps"]).assign(epochs=10)
    curve = collected("curve").drop(columns="steps").assign(epochs=10)
    figure = learning_rates.draw(learning_rates.numbers(metrics, curve))
    assert [axes.get_xlabel() for axes in figure.axes] == ["step", "epoch"]
    plt.close(figure)


def run_of(values, seed=0, every=10) -> pd.DataFrame:
    """A curve of one run, with these training accuracies."""
    row = run_columns("resnet-8", "all", seed, epochs=0, steps=every * len(values))
    return pd.DataFrame([row | {"step": every * place, "top_1": top_1} for place, top_1 in enumerate(values)])


def test_a_curve_is_smoothed_over_five_points_and_symmetrically_fewer_at_its_ends():
    curve = run_of([0.0, 10.0, 20.0, 90.0, 40.0, 50.0]).sample(frac=1, random_state=0)
    expected = {0: 0.0, 10: 10.0, 20: 32.0, 30: 42.0, 40: 60.0, 50: 50.0}
    assert curve.assign(y=measures.smoothed).set_index("step")["y"].to_dict() == pytest.approx(expected)


def test_points_after_a_run_diverged_are_in_no_mean():
    curve = collected("curve").query("normalisation == 'batchnorm' and seed == 0").sort_values("step")
    lost = curve["step"] > curve["step"].iloc[6]
    diverged = curve.assign(loss=curve["loss"].mask(lost), top_1=curve["top_1"].mask(lost, 0.0))
    expected = pd.concat([measures.smoothed(curve[~lost]), diverged.loc[lost, "top_1"]])
    pd.testing.assert_series_equal(measures.smoothed(diverged), expected, check_names=False)
    assert lost.any() and expected[~lost].min() > 0


def test_the_first_step_with_an_accuracy_is_that_of_the_rows():
    rows = run_of([0.0, 10.0, 20.0, 90.0, 40.0, 50.0]).sample(frac=1, random_state=0)
    found = [measures.first_step(rows, accuracy) for accuracy in (0.0, 20.1, 90.0)]
    assert found == pytest.approx([0, 20 + 10 * 0.1 / 70, 30])
    assert math.isnan(measures.first_step(rows, 90.1))


def test_early_is_the_first_fifth_of_the_steps_and_late_the_last():
    curve = run_of(range(100))
    assert measures.early(curve)["step"].tolist() == list(range(0, 200, 10))
    assert measures.late(curve)["step"].tolist() == list(range(800, 1000, 10))
    # A run that diverged is as long as its replicates; if lengths are in epochs, as the longest recorded.
    lost = pd.concat([curve, curve.head(30).assign(seed=1, status="diverged")]).drop(columns="steps")
    lost = lost.reset_index(drop=True)
    assert measures.early(lost).groupby("seed")["step"].max().to_dict() == {0: 190, 1: 190}
    assert measures.late(lost)["seed"].unique().tolist() == [0]


def probes(step, losses, changes, direction="gradient", rate=0.1, norm=2.0) -> pd.DataFrame:
    run, rows = run_columns("resnet-8", "all", 0, epochs=0, steps=100), []
    for factor, loss, change in zip((0.0, 0.5, 1.0, 4.0), losses, changes, strict=True):
        row = {"step": step, "direction": direction, "factor": factor, "learning_rate": rate, "loss": loss}
        row |= {"decay": factor, "gradient_change": change, "gradient_norm": norm}
        beta = change / (factor * rate * norm) if factor else None
        rows.append(run | row | {"beta": beta})
    return pd.DataFrame(rows)


def test_bands_reach_over_the_probed_step_sizes_and_beta_is_their_largest():
    table = probes(0, (9.0, 2.0, 1.0, 4.0), (0.0, 0.3, 0.5, 1.2))
    (band,) = measures.bands(table).to_dict("records")
    assert (band["loss_low"], band["loss_high"]) == (1.0, 4.0)
    assert (band["decayed_low"], band["decayed_high"]) == (2.0, 8.0)
    assert (band["change_low"], band["change_high"]) == (0.3, 1.2)
    assert band["spread"] == pytest.approx(math.log(4.0))
    assert band["relative_change"] == pytest.approx(0.6)
    assert band["beta"] == pytest.approx(0.3 / (0.05 * 2.0))
    assert band["rate_beta"] == pytest.approx(0.1 * band["beta"])


def test_a_band_that_reaches_a_loss_of_0_is_drawn_where_it_is_above():
    table = pd.concat(
        [
            probes(0, (2.0, 0.5, 1.0, 3.0), (0.0, 0.3, 0.5, 1.2)),
            probes(10, (1.0, 0.0, 0.0, 1.0), (0.0, 0.3, 0.5, 1.2)),
        ]
    )
    numbers = landscape.numbers(table)
    low = numbers[(numbers["measure"] == landscape.LOSS) & (numbers["edge"] == "low")]
    assert low.set_index("x")["y"].to_dict() == {0: 0.5}
    figure = landscape.draw(numbers)
    assert figure.axes[0].has_data()
    plt.close(figure)


def test_random_directions_are_one_band_and_a_loss_that_is_not_finite_is_infinite():
    table = pd.concat(
        [
            probes(0, (9.0, 2.0, 1.0, math.nan), (0.0, 0.3, 0.5, math.nan)),
            probes(0, (9.0, 8.0, 8.5, 9.0), (0.0, 0.1, 0.2, 0.3), "random-1"),
            probes(0, (9.0, 8.5, 9.5, 8.0), (0.0, 0.2, 0.4, 0.5), "random-2"),
        ]
    )
    found = measures.bands(table).set_index("direction")
    assert found.loc["random", ["loss_low", "loss_high", "change_high"]].tolist() == [8.0, 9.5, 0.5]
    assert found.loc["gradient", ["loss_low", "loss_high", "beta"]].tolist() == [1.0, math.inf, math.inf]


def test_the_early_and_late_quantiles_are_those_of_the_gradients_bands():
    rng = np.random.default_rng(3)
    drawn = {step: (rng.uniform(1, 3, 4), rng.uniform(0.1, 1, 4)) for step in range(100)}
    table = pd.concat([probes(step, *values) for step, values in drawn.items()])
    (found,) = measures.early_and_late(table.assign(rate=0.1)).to_dict("records")
    assert found["rate"] == 0.1  # which claims compare
    for part, steps in (("early", range(20)), ("late", range(80, 100))):
        losses = [drawn[step][0][1:] + np.array([0.5, 1, 4]) for step in steps]  # with the decay term
        changes = [drawn[step][1][1:] for step in steps]
        betas = [max(c / np.array([0.5, 1, 4]) / 0.2) for c in changes]
        assert found[f"{part}_spread"] == pytest.approx(
            np.median([np.log(max(of) / min(of)) for of in losses])
        )
        assert found[f"{part}_relative_change"] == pytest.approx(np.median([max(c) / 2.0 for c in changes]))
        assert found[f"{part}_beta"] == pytest.approx(np.quantile(betas, 0.9))
        assert found[f"{part}_rate_beta"] == pytest.approx(0.1 * np.median(betas))


def test_half_of_infinite_values_have_an_infinite_median():
    table = pd.concat([probes(step, (1.0, 1.0, 2.0, math.inf), (0, 1, 1, math.inf)) for step in range(10)])
    assert measures.early_and_late(table)["early_beta"].tolist() == [math.inf]


def test_a_drawn_density_integrates_to_1_and_is_near_that_of_the_distribution():
    values = [NORMAL.inv_cdf(min(max(p / 100, 1e-4), 1 - 1e-4)) for p in PERCENTS]
    edges = np.linspace(-5, 5, 101)
    density = measures.density(PERCENTS, values, edges)
    assert density.sum() * 0.1 == pytest.approx(1)
    assert density == pytest.approx([NORMAL.pdf(x) for x in (edges[1:] + edges[:-1]) / 2], abs=0.03)
    same = measures.density(PERCENTS, [0.0] * len(PERCENTS), edges)  # a dead unit
    assert same.sum() * 0.1 == pytest.approx(1) and same[[40, 60]].tolist() == [0, 0]


def test_percentiles_and_drifts_of_inputs_are_those_of_the_recorded_lists():
    inputs = collected("inputs")
    here = inputs[(inputs["normalisation"] == "none") & (inputs["seed"] == 0) & (inputs["number"] == 2)]
    found = measures.percentiles(here, "unit_percentiles", (15, 50))
    recorded = np.vstack(here["unit_percentiles"].to_numpy())
    assert found[found["percent"] == 15]["value"].tolist() == recorded[:, PERCENTS.index(15)].tolist()
    drift = measures.drift(here).set_index("step")["mean_drift"]
    expected = {step: 0.1 * step / 100 for step in range(0, STEPS, EVERY)}
    assert drift.to_dict() == pytest.approx(expected, abs=1e-6)


def test_the_figure_of_the_sigmoid_network_shows_one_seeds_unit_and_all_seeds_percentiles_of_the_last_layer():
    numbers = numbers_of("sigmoid-mlp")
    inputs = collected("inputs")
    last = inputs[(inputs["number"] == LAYERS - 1) & (inputs["normalisation"] == "batchnorm")]
    for measure, column, seeds in (
        (sigmoid_mlp.UNIT, "unit_percentiles", [0]),
        (sigmoid_mlp.ALL, "all_percentiles", [0, 1]),
    ):
        here = numbers[(numbers["measure"] == measure) & (numbers["normalisation"] == "batchnorm")]
        median = here[here["percent"] == 50].set_index("x")["y"]
        rows = last[last["seed"].isin(seeds)]
        values = rows[column].map(lambda found: found[PERCENTS.index(50)])
        assert median.to_dict() == pytest.approx(values.groupby(rows["step"]).mean().to_dict())


def test_the_layers_drawn_are_those_of_the_published_figures():
    def drawn(layers, places):
        table = pd.DataFrame({"number": range(layers), "setting": "s"})
        return (arms.at_places(table, places)["number"] + 1).tolist()

    assert drawn(13, noisy_batchnorm.PLACES) == [2, 9, 13]
    assert drawn(13, gradient_shift.PLACES) == [5, 9]
    assert drawn(25, gradient_shift.PLACES) == [9, 17]


def test_settings_say_what_differs_among_the_runs_of_a_network_and_arms_what_normalises():
    world = {"settings": (("resnet-8", 0.1), ("resnet-8", 0.5), ("resnet-14", 0.1))}
    metrics = collected("metrics", **world)
    table = arms.described(metrics)
    assert table["setting"].unique().tolist() == [
        "CIFAR-10, resnet-8, rate 0.1",
        "CIFAR-10, resnet-8, rate 0.5",
        "CIFAR-10, resnet-14",
    ]
    assert table["arm"].unique().tolist() == ["BatchNorm", "none"]
    table = arms.described(metrics, rates=True)
    assert table["setting"].unique().tolist() == ["CIFAR-10, resnet-8", "CIFAR-10, resnet-14"]
    assert table["arm"].unique().tolist()[:2] == ["BatchNorm, rate 0.1", "none, rate 0.1"]
    few = metrics.assign(training=json.dumps({"learning_rate": 0.1, "batch_size": 32, "examples": 500}))
    both = pd.concat([metrics, few.assign(recipe="few", variant="glorot-uniform_gamma-one")])
    assert "CIFAR-10, resnet-14, glorot-uniform_gamma-one, batch size 32, 500 images" in set(
        arms.described(both)["setting"]
    )
    assert "none, rate 0.1, few" in set(arms.described(both, rates=True)["arm"])
    again = pd.concat([metrics.assign(recipe="none"), metrics.assign(recipe="same")])
    assert "CIFAR-10, resnet-8, rate 0.5, same" in set(arms.described(again)["setting"])
    assert len(accuracy.shown(accuracy.numbers(again))) == 12


def test_steps_to_the_plain_networks_best_are_paired_by_seed_at_its_best_learning_rate():
    metrics = collected("metrics", settings=(("resnet-8", 0.1), ("resnet-8", 0.5)), seeds=3)
    runs = arms.against_plain(metrics)
    tests = metrics[(metrics["split"] == "test") & (metrics["status"] == "finished")]
    rate = tests["training"].map(lambda text: json.loads(text)["learning_rate"])
    # At 0.5 a plain run diverged, so 0.1 counts, where all finished.
    plain = tests[(tests["normalisation"] == "none") & (rate == 0.1)]
    target = plain.groupby("seed")["top_1"].max()
    for _, one in runs[(runs["normalisation"] == "batchnorm") & (runs["rate"] == 0.5)].iterrows():
        own = tests[(tests["normalisation"] == "batchnorm") & (rate == 0.5) & (tests["seed"] == one["seed"])]
        first = own.loc[own["top_1"] >= target[one["seed"]], "step"].min()
        before = own.loc[own["step"] < first, "step"].max()
        assert one["target"] == target[one["seed"]]
        assert before < one["reached"] <= first  # between two tests, on a straight line
        assert one["plain"] == plain["step"].max()
        assert one["ratio"] == one["plain"] / one["reached"] > 1
    summary = learning_rates_table.numbers(metrics).set_index("arm")
    assert summary["reaching"].to_dict() == {
        "BatchNorm, rate 0.1": 3,
        "none, rate 0.1": 3,
        "BatchNorm, rate 0.5": 3,
        "none, rate 0.5": 2,
    }
    shown = learning_rates_table.shown(learning_rates_table.numbers(metrics)).set_index("arm")
    assert shown.loc["none, rate 0.5", ["runs that reach it", "diverged"]].tolist() == ["2 of 3", "1"]


def test_tolerated_rates_are_drawn_by_the_best_smoothed_accuracy_of_each_run():
    curve = collected("curve", settings=(("resnet-8", 0.1), ("resnet-8", 0.5))).copy()
    finished = curve[(curve["status"] == "finished") & (curve["normalisation"] == "none")]
    means = measures.smoothed(finished).groupby([finished["training"], finished["seed"]]).max()
    numbers = tolerated_rates.numbers(curve)
    here = numbers[numbers["normalisation"] == "none"].set_index("x")["y"]
    rates = means.index.get_level_values(0).map(lambda text: json.loads(text)["learning_rate"])
    assert here.to_dict() == pytest.approx(means.groupby(rates).mean().to_dict())
    assert numbers.groupby("x")["diverged"].sum().to_dict() == {0.1: 0, 0.5: 1}


def test_without_a_plain_network_nothing_is_compared_with_it():
    metrics = collected("metrics", kinds=("batchnorm", "l1"))
    runs = arms.against_plain(metrics)
    assert runs["reached"].isna().all() and runs["best"].notna().any()
    assert not learning_rates_table.shown(learning_rates_table.numbers(metrics)).empty


def test_a_group_is_that_of_ghost_or_the_batch_and_the_gap_is_training_less_test():
    runs = batch_size.by_group(collected("generalisation", **WORLDS["batch-size"]))
    groups = runs.groupby("normalisation")["group"].first()
    assert groups.drop("none").to_dict() == {"batchnorm": 128, "ghost-32": 32, "ghost-8": 8}
    assert math.isnan(groups["none"])
    assert runs.loc[runs["status"] == "finished", "gap"].tolist() == pytest.approx([4.0] * 7)
    before_the_end = collected("generalisation", **WORLDS["batch-size"]).query("epoch < 10")
    assert batch_size.by_group(before_the_end)["gap"].isna().all()


def test_activations_are_compared_with_clean_ones_and_every_run_is_counted():
    table = collected("statistics").copy()
    table.loc[table["statistics"] == "batch-1", "predicted"] = 1
    ratios = evaluation.explosions(table)
    found = ratios[(ratios["shift"] == "inversion") & (ratios["layer"] == 2)]["ratio"]
    assert found.tolist() == pytest.approx([(5 + 6 * 2) / 5] * len(found))
    tests = evaluation.tests(table)
    clean = tests[(tests["shift"] == "clean") & (tests["status"] == "finished")]
    assert len(clean) == 3 * len(evaluation.STATISTICS)
    assert evaluation.by_network(table)["n"].max() == 2


def test_a_normalisation_looks_the_same_in_every_figure_and_no_two_look_alike():
    names = ["none", "batchnorm", "batchnorm-noisy", "none-noisy", "batchnorm-after", "l1", "l2", "linf"]
    names += ["layernorm", "instancenorm", "groupnorm-2", "groupnorm-8", "ghost-4", "ghost-16"]
    together = looks.looks(names)
    assert all(looks.looks([name])[name] == together[name] for name in names)
    assert len({str(look.colour) for look in together.values()}) == len(names)
    assert looks.ordered(["mine:norm", "ghost-16", "ghost-4", "none", "batchnorm"]) == [
        *("none", "batchnorm", "ghost-4", "ghost-16", "mine:norm")
    ]


def test_the_edge_of_stability_is_drawn_for_the_rate_of_a_panel():
    tables = (collected(kind) for kind in PAPER.figures["deep-linear"].reads)
    figure = deep_linear.draw(deep_linear.numbers(*tables))
    (beta,) = (axes for axes in figure.axes if axes.get_ylabel() == landscape.BETA)
    lines = [line.get_ydata()[0] for line in beta.lines if line.get_linestyle() == ":"]
    assert lines == [20.0]
    assert landscape.STABLE == 2.0
    plt.close(figure)


def test_the_deep_linear_network_has_bands_along_its_gradient_and_distances_of_gradients():
    numbers = numbers_of("deep-linear").query("normalisation == 'batchnorm' and seed.isna()")
    probes = measures.bands(collected("landscape").query("normalisation == 'batchnorm'"))
    edges = probes[probes["direction"] == "gradient"].groupby("step")[["loss_low", "loss_high"]]
    means = edges.agg(lambda values: np.exp(np.log(values).mean()))
    for edge, column in (("low", "loss_low"), ("high", "loss_high")):
        drawn = numbers[(numbers["measure"] == deep_linear.PROBED) & (numbers["edge"] == edge)]
        assert drawn.set_index("x")["y"].to_dict() == pytest.approx(means[column].to_dict())
    shifts = collected("gradient-shift").query("normalisation == 'batchnorm'")
    for share in gradient_shift.PLACES.values():
        number = round(share * (LAYERS - 1))
        drawn = numbers[numbers["measure"] == f"‖G − G′‖, layer\N{NO-BREAK SPACE}{number + 1}"]
        found = shifts[shifts["number"] == number].groupby("step")["shift"]
        geometric = found.agg(lambda values: np.exp(np.log(values).mean()))
        assert drawn.set_index("x")["y"].to_dict() == pytest.approx(geometric.to_dict())


def test_an_arm_whose_runs_all_diverged_keeps_its_panel_of_the_evaluation():
    table = collected("statistics")
    plain = table["normalisation"] == "none"
    row = table[plain].drop_duplicates("seed").assign(status="diverged", shift=None, statistics=None)
    numbers = evaluation.numbers(pd.concat([table[~plain], row], ignore_index=True))
    lost = numbers[numbers["normalisation"] == "none"]
    assert (len(lost), lost["n"].item(), lost["diverged"].item()) == (1, 0, 2)
    figure = evaluation.draw(numbers)
    assert any("none" in axes.get_title() for axes in figure.axes)
    plt.close(figure)


def test_a_batch_too_small_for_two_groups_is_one_group():
    recorded = collected("generalisation", kinds=("batchnorm", "ghost-32", "ghost-8", "none"))

    def groups(batch):
        training = recorded["training"].map(lambda text: json.dumps(json.loads(text) | {"batch_size": batch}))
        rows = batch_size.by_group(recorded.assign(training=training)).drop_duplicates("normalisation")
        return rows.set_index("normalisation")["group"].to_dict()

    expected = {"batchnorm": 128, "ghost-32": 32, "ghost-8": 8, "none": math.nan}
    assert groups(128) == pytest.approx(expected, nan_ok=True)
    # The partial last group joins the one before.
    assert groups(60) == pytest.approx(expected | {"batchnorm": 60, "ghost-32": 60}, nan_ok=True)


def test_the_identitys_caption_bounds_every_recorded_error():
    table = collected("identity")
    numbers = identity.numbers(table.assign(error=[3.88e-15, *[1e-16] * (len(table) - 1)]))
    assert "in float64, at most 4e-15; dotted" in identity.caption(numbers)
