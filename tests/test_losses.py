"""Targets that are numbers, the squared error, and runs on a number of images that the seed draws."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import BUILTIN, CONFIG, run_columns
from pydantic import ValidationError

import onlybn
from onlybn.analyses.clamping import clamping
from onlybn.analyses.measure import measure
from onlybn.analyses.removal import removal
from onlybn.configuration import open_study
from onlybn.datasets import deep_linear, read
from onlybn.datasets.prepare import prepare
from onlybn.distributed import Group
from onlybn.drawing import accuracies
from onlybn.drawing.summaries import finals, over_seeds
from onlybn.errors import UserError
from onlybn.networks.draw import draw
from onlybn.runs import progress, records
from onlybn.study import Training
from onlybn.training.evaluation import Measures, batch_loss, evaluate
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train
from onlybn.workflow import plan

NUMBERS = {"loss": "squared-error", "batch_size": 1_000, "shift": 0, "momentum": 0, "weight_decay": 0}


@pytest.fixture(scope="module")
def linear_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets") / "deep-linear"
    prepare("deep-linear", Path("unused"), folder)
    return folder


@pytest.fixture(scope="module")
def linear(linear_folder):
    return read(linear_folder, torch.device("cpu"), data_dir=Path("unused"))


@pytest.fixture
def run_on_numbers(make_run):
    """A ResNet whose last layer alone trains: its gradient is that of a linear model."""

    def make(**training):
        run = make_run(regime="output", **NUMBERS | {"learning_rate": 1e-6} | training)
        return replace(run, dataset="deep-linear", values=(("normalisation", "none"),))

    return make


# the data


def test_the_targets_are_one_linear_map_of_the_inputs(linear):
    splits = deep_linear.load(Path("unused"))
    (x, y), (test_x, test_y) = (
        (inputs.reshape(-1, 10).astype(float), targets.astype(float)) for inputs, targets in splits.values()
    )
    matrix = np.linalg.lstsq(x, y, rcond=None)[0]
    np.testing.assert_allclose(test_x @ matrix, test_y, atol=1e-4)
    assert 0.7 < matrix.std() < 1.3
    assert x.mean() == pytest.approx(0, abs=0.05)
    assert x.std() == pytest.approx(1, abs=0.05)
    assert not np.allclose(x, test_x)


def test_the_network_gets_the_numbers_as_they_are_in_a_new_order_each_epoch(linear):
    options = {"seed": 0, "batch_size": 1_000, "shift": 0.0, "flip": False}
    for compiled in (False, True):
        ((x, y),) = linear.training_batches(**options, epoch=1, compiled=compiled)
        assert x.shape == (1_000, 10, 1, 1)
        order = linear.order(0, 1)
        assert torch.equal(x[:, :, 0, 0], linear.train.images[order][:, 0, 0])
        assert torch.equal(y, linear.train.labels[order])
    ((tested, _),) = linear.test_batches(1_000)
    assert torch.equal(tested.flatten(), linear.test.images.flatten())


# the loss


def test_the_squared_error_is_half_the_sum_over_outputs_and_examples():
    outputs, targets = torch.randn(2, 5, 10, generator=torch.Generator().manual_seed(0))
    expected = 0.5 * ((outputs.double() - targets.double()) ** 2).sum().item()
    assert batch_loss(outputs, targets).item() == pytest.approx(expected, rel=1e-6)
    measures = Measures(torch.device("cpu"), "numbers")
    for part in (slice(0, 2), slice(2, 5)):
        measures.add(batch_loss(outputs[part], targets[part]), outputs[part], targets[part])
    averages = measures.averages()
    assert averages["loss"] == pytest.approx(expected / 5, rel=1e-6)
    assert averages["top_1"] is averages["top_5"] is None


def test_a_run_follows_gradient_descent_in_float64(linear, run_on_numbers):
    run = run_on_numbers(epochs=3)
    outcome = train(run, linear)
    network, _ = draw(run, channels=10, classes=10)
    network.double()
    x, y = linear.train.images.permute(0, 3, 1, 2).double(), linear.train.labels.double()
    losses = []
    for _ in range(3):
        loss = 0.5 * ((network(x) - y) ** 2).sum()
        losses.append(loss.item() / 1_000)
        gradients = torch.autograd.grad(loss, list(network.output.parameters()))
        with torch.no_grad():
            for parameter, gradient in zip(network.output.parameters(), gradients, strict=True):
                parameter -= 1e-6 * gradient
    trained = [row for row in outcome.rows if row["split"] == "train"]
    assert [row["loss"] for row in trained] == pytest.approx(losses, rel=1e-5)
    assert losses[2] < losses[0]
    torch.testing.assert_close(
        outcome.network.output.weight.double(), network.output.weight, atol=1e-5, rtol=0
    )
    assert all(row["top_1"] is row["top_5"] is None for row in outcome.rows)


def test_parts_of_a_sum_over_processes_have_the_gradient_of_the_whole(linear, run_on_numbers):
    """DDP averages gradients over processes, so each part of a sum is weighted by their number."""
    run = run_on_numbers()
    alone = LiveRun(run, linear)
    x, y = alone.next_batch()
    alone.gradients(x, y, len(y))
    parts = []
    for rank in (0, 1):
        live = LiveRun(run, linear)
        live.group = Group(rank, 2)
        (part,) = live.group.parts(1_000, 1_000)
        live.gradients(x[part], y[part], 1_000)
        parts.append(live.network.output.weight.grad)
    torch.testing.assert_close(sum(parts) / 2, alone.network.output.weight.grad, rtol=1e-4, atol=1e-3)


# a whole run


def test_a_job_on_numbers_writes_null_accuracies_and_says_its_loss(
    train_block, linear, linear_folder, run_on_numbers, capsys, tmp_path, monkeypatch
):
    said, published = [], []
    monkeypatch.setattr("conftest.Silent.say", lambda self, line: said.append(line))
    write = progress.write
    monkeypatch.setattr(progress, "write", lambda at, one: (published.append(one), write(at, one)))
    run = run_on_numbers(epochs=None, steps=4, test_every=2)
    (folder,) = train_block([run], linear_folder)
    metrics = pq.read_table(folder / "metrics.parquet").to_pandas()
    assert len(metrics) == 4
    assert metrics[["top_1", "top_5"]].isna().all(axis=None)
    loss = metrics["loss"].iloc[-1]
    assert f", test loss {loss:.4g}, " in capsys.readouterr().out.splitlines()[-1]
    assert f"test loss {loss:.4g} after 4 steps" in said[-1]
    assert published[-1].result == f"test loss {loss:.4g}"
    assert published[0].result == "not tested yet"
    network = onlybn.load(folder)
    assert evaluate(network, linear)["loss"] == pytest.approx(loss)
    assert removal(network, linear)["top_1"].to_pylist() == [None]
    assert clamping(network, linear).num_rows == 0
    measure("statistics", run, folder, linear, tmp_path / "statistics.parquet")
    row, *_ = pq.read_table(tmp_path / "statistics.parquet").to_pylist()
    assert (row["shift"], row["predicted"], row["top_1"]) == ("clean", None, None)
    assert row["loss"] == pytest.approx(loss)


def test_a_loss_that_is_not_finite_ends_a_run_on_numbers(linear, run_on_numbers):
    outcome = train(run_on_numbers(epochs=9, learning_rate=1e12), linear)
    assert outcome.diverged
    assert all(torch.isfinite(p).all() for p in outcome.network.parameters())


def test_tables_of_accuracies_without_any_are_made_all_the_same(tmp_path):
    rows = [
        run_columns("resnet-8", "all", seed, dataset="deep-linear")
        | {"epoch": 2, "split": "test", "loss": 1.0 + seed, "learning_rate": 0.1}
        | {"top_1": None, "top_5": None}
        for seed in (0, 1)
    ]
    metrics = pd.DataFrame(rows).astype({"top_1": float, "top_5": float})
    (row,) = over_seeds(finals(metrics), values=["loss", "top_1"]).to_dict("records")
    assert (row["loss"], row["n"], row["diverged"], row["at_chance"]) == (1.5, 2, 0, 0)
    assert accuracies.shown(accuracies.numbers(metrics))["all"].tolist() == ["– (n = 2)"]


# the number of examples


def test_each_class_has_its_share_of_the_examples_and_the_seed_draws_them(digits, make_run):
    run = make_run(examples=200, seed=3)
    images, held_out = run.parts_of(digits)
    assert held_out is None
    assert images.examples == len(np.unique(images.places)) == 200
    counts = digits.train.labels.bincount().double()
    chosen = digits.train.labels[images.places].bincount()
    assert (chosen - counts * 200 / 1_437).abs().max() < 1
    assert np.array_equal(images.places, run.parts_of(digits)[0].places)
    assert not np.array_equal(images.places, run.with_seed(4).parts_of(digits)[0].places)


def test_examples_are_drawn_from_what_validation_leaves_which_does_not_depend_on_their_number(
    digits, make_run
):
    for examples in (None, 100, 1_150):
        images, held_out = make_run(validation=0.2, examples=examples).parts_of(digits)
        expected, held = digits.hold_out(287, seed=0)
        assert torch.equal(held_out.test.images, held.test.images)
        assert np.isin(images.places, expected.places).all()
        assert images.examples == (examples or 1_150)


def test_a_run_of_some_examples_trains_as_on_a_dataset_of_these(few_digits, make_run):
    outcome = train(make_run(regime="all", examples=60), few_digits)
    images, _ = make_run(examples=60).parts_of(few_digits)
    chosen = few_digits.train.take(images.places)
    alone = train(make_run(regime="all"), replace(few_digits, train=chosen, examples=60))
    assert outcome.rows == alone.rows


def test_examples_of_numbers_are_drawn_plainly(linear, run_on_numbers):
    images, _ = run_on_numbers(examples=7).parts_of(linear)
    assert images.examples == len(set(images.places)) == 7


def test_steps_tests_and_the_last_batch_follow_from_the_number_of_examples(make_run):
    training = make_run(examples=1_000, validation=0.1, epochs=3).training
    assert (training.trained_on(50_000), training.held_out(50_000)) == (1_000, 5_000)
    assert (training.steps_per_epoch(50_000), training.steps_of(50_000)) == (32, 96)
    with pytest.raises(UserError, match="an epoch's last batch has 1 of 32 images"):
        make_run(examples=33).training.check_last_batch(50_000, 1)


def test_the_keys_are_in_a_specification_only_where_they_are_not_neutral(make_run):
    assert make_run(loss="cross-entropy", examples=None).digest == make_run().digest
    specified = make_run(examples=100).training.specified
    assert specified["examples"] == 100
    run = make_run(examples=100)
    assert records.run_of(json.loads(json.dumps(records.described(run)))) == run
    assert len({one.digest for one in (make_run(), run, make_run(loss="squared-error"))}) == 3


# what is refused

STUDY = """
dataset: digits
training: {epochs: 4, batch_size: 32, learning_rate: 0.1, flip: false}
seeds: 1
experiments: {one: {architectures: [resnet-8], regimes: [all]}}
"""


@pytest.fixture
def study(tmp_path):
    def open_(dataset="digits", recipes=None, **training):
        content = yaml.safe_load(STUDY) | {"dataset": dataset}
        content["training"] |= training
        if recipes:
            content["recipes"] = recipes
            content["experiments"]["one"]["recipes"] = ["none", *recipes]
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        settings = {"study": str(tmp_path / "mine.yaml"), "results_dir": str(tmp_path / "results")}
        return open_study(CONFIG | settings, BUILTIN)

    return open_


MISFITS = {
    "squared error of classes": (
        {"loss": "squared-error"},
        "training.loss: the targets of digits are classes; allowed: cross-entropy",
    ),
    "cross-entropy of numbers": (
        {"dataset": "deep-linear", "shift": 0},
        "training.loss: the targets of deep-linear are numbers; allowed: squared-error",
    ),
    "flips of numbers": (
        {"dataset": "deep-linear", "loss": "squared-error", "shift": 0, "flip": True},
        "training.flip: deep-linear has numbers, not images; allowed: false",
    ),
    "shifts of numbers": (
        {"dataset": "deep-linear", "loss": "squared-error"},
        "training.shift: deep-linear has numbers, not images; allowed: 0",
    ),
    "validation of numbers": (
        {"dataset": "deep-linear", "loss": "squared-error", "shift": 0, "validation": 0.1},
        "training.validation: deep-linear has no classes by which to hold out a share; allowed: 0",
    ),
    "too many examples": (
        {"examples": 1_438},
        "examples: 1,438 of 1,437 training images shall train; choose at least 10 and at most 1,437",
    ),
    "more examples than validation leaves": (
        {"examples": 1_300, "validation": 0.1},
        "examples: 1,300 of 1,293 training images shall train; choose at least 10 and at most 1,293",
    ),
    "too few examples": (
        {"examples": 9},
        "examples: 9 of 1,437 training images shall train, and each of the 10 classes needs one; choose",
    ),
    "an unknown loss": ({"loss": "hinge"}, "training.loss: 'hinge' is not allowed"),
    "a share as examples": ({"examples": 0.5}, "training.examples: 0.5 is not a whole number of at least 1"),
    "examples of a recipe": (
        {"recipes": {"small": {"examples": 3}}},
        "recipes.small.examples: 3 of 1,437 training images",
    ),
}


@pytest.mark.parametrize("case", MISFITS)
def test_a_key_that_does_not_fit_the_data_is_refused_in_one_sentence(study, case):
    keys, sentence = MISFITS[case]
    with pytest.raises(UserError) as refused:
        study(**keys)
    (line,) = str(refused.value).splitlines()
    assert sentence in line


def test_the_best_state_needs_accuracies():
    keys = {"epochs": 1, "batch_size": 1, "learning_rate": 1, "validation": 0.1}
    with pytest.raises(ValidationError, match="squared-error has none; choose last"):
        Training(**keys, select="best", loss="squared-error")


def test_examples_that_leave_a_rare_class_without_images_are_refused_before_training(few_digits, make_run):
    labels = torch.tensor([0] * 97 + [1] * 3)
    rare = replace(few_digits, train=replace(few_digits.train, labels=labels))
    with pytest.raises(
        UserError, match=r"^config: examples: none of the 3 .* class 1 would train, .* choose"
    ):
        make_run(examples=10).parts_of(rare)


def test_a_plan_counts_the_steps_of_the_examples(study):
    opened = study(examples=320)
    (run,) = opened.points("one")
    assert plan.steps(opened, run) == 4 * 10
    assert plan.passes(opened, run) == 4
