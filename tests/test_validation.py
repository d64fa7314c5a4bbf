"""Validation: images held out by the seed, and with `select: best` the state that is best on them."""

import json
import signal
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import BUILTIN, CONFIG, recorded_by_running, run_columns
from pydantic import ValidationError

import onlybn
from onlybn.configuration import open_study
from onlybn.datasets import validation
from onlybn.distributed import Group
from onlybn.drawing.queries import Measured
from onlybn.drawing.summaries import finals
from onlybn.errors import UserError
from onlybn.jobs import Stop
from onlybn.networks.state import learned
from onlybn.runs import progress, records
from onlybn.study import Training
from onlybn.training import live_run, loop
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.evaluation import evaluate
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train, train_replicates
from onlybn.training.selection import Best
from onlybn.training.steps import GraphSteps
from onlybn.workflow import plan

# The last epoch of a run with these keys undoes what the others learned, so the best state is not the last.
SPOILED = {"epochs": 4, "milestones": [3], "divide_by": 0.01, "validation": 0.2, "select": "best"}
DIVERGING = SPOILED | {"milestones": [2], "divide_by": 1e-18}


@pytest.fixture
def spoiled(make_run):
    return partial(make_run, regime="all", **SPOILED)


def checkpoints(folder, **options):
    return Checkpoints({seed: folder / f"{seed}" for seed in (0, 1)}, {}, share=0.0, **options)


def state(outcome):
    return {name: tensor.clone() for name, tensor in outcome.network.state_dict().items()}


def assert_same(outcomes, others):
    for one, other in zip(outcomes, others, strict=True):
        assert str(one.rows) == str(other.rows)  # a loss may be no number
        assert one.diverged == other.diverged
        ours, theirs = state(one), state(other)
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def splits(rows):
    return [(row["epoch"], row["split"]) for row in rows]


# which images are held out


def test_each_class_is_held_out_by_its_share_and_the_seed_draws_which_images(digits):
    labels = digits.train.labels.numpy()
    trains, held_out = validation.hold_out(labels, 144, seed=3)
    assert sorted([*trains, *held_out]) == list(range(len(labels)))
    assert len(held_out) == 144
    expected = np.bincount(labels) * 144 / len(labels)
    assert (abs(np.bincount(labels[held_out]) - expected) < 1).all()
    assert np.array_equal(held_out, validation.hold_out(labels, 144, seed=3)[1])
    assert not np.array_equal(held_out, validation.hold_out(labels, 144, seed=4)[1])


@pytest.mark.parametrize(
    ("images", "count", "expected"),
    [((3, 3, 4), 5, [2, 1, 2]), ((10, 20, 70), 10, [1, 2, 7]), ((7, 2, 2), 4, [2, 1, 1])],
)
def test_the_largest_remainders_get_what_is_left_and_of_equal_ones_the_first(images, count, expected):
    labels = np.repeat([0, 1, 2], images)
    _, held_out = validation.hold_out(labels, count, seed=0)
    assert np.bincount(labels[held_out]).tolist() == expected


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("group", [Group(), Group(1, 2)])
def test_order_shifts_and_flips_are_those_of_a_dataset_without_the_held_out_images(digits, group, compiled):
    images, held_out = digits.hold_out(144, seed=5)
    others = digits.train.take(images.places)
    alone = replace(digits, train=others, examples=len(others))
    options = {"seed": 5, "epoch": 2, "batch_size": 100, "shift": 0.125, "flip": True, "group": group}
    batches = [some.training_batches(**options, compiled=compiled) for some in (images, alone)]
    for (ours, our_labels), (theirs, their_labels) in zip(*batches, strict=True):
        assert torch.equal(ours, theirs)
        assert torch.equal(our_labels, their_labels)
    shown = torch.cat([batch for batch, _ in held_out.test_batches(100)])
    (place, *_) = np.setdiff1d(np.arange(1_437), images.places)
    assert torch.equal(shown[0], digits.normalise(digits.train.images[place][None])[0])
    assert len(shown) == 144


def test_a_run_trains_as_on_a_dataset_without_the_held_out_images_and_scores_them(few_digits, make_run):
    outcome = train(make_run(regime="all", validation=0.2), few_digits)
    images, held_out = few_digits.hold_out(20, seed=0)
    others = few_digits.train.take(images.places)
    alone = train(make_run(regime="all"), replace(few_digits, train=others, examples=80))
    assert splits(outcome.rows) == [
        (epoch, split) for epoch in (1, 2) for split in ("train", "validation", "test")
    ]
    assert [row for row in outcome.rows if row["split"] != "validation"] == alone.rows
    assert outcome.rows[-2].items() >= evaluate(outcome.network, held_out).items()


def test_steps_tests_and_the_last_batch_follow_from_the_number_of_images_alone():
    training = Training(epochs=200, batch_size=128, learning_rate=0.1, validation=0.1)
    assert (training.held_out(50_000), training.trained_on(50_000)) == (5_000, 45_000)
    assert training.steps_per_epoch(50_000) == 352
    assert (training.steps_of(50_000), training.tests(50_000)) == (70_400, 200)
    assert Training(steps=1_000, batch_size=128, learning_rate=0.1, validation=0.1).tests(50_000) == 3
    training.check_last_batch(129, 1)  # which trains 116 of them
    short = training.model_copy(update={"epochs": None, "steps": 1})
    assert [short.smallest_batch(examples) for examples in (100, 143)] == [90, 128]
    short.check_last_batch(143, 1)  # of 129 that train, one step takes 128
    with pytest.raises(UserError, match="an epoch's last batch has 1 of 128 images"):
        training.check_last_batch(143, 1)


def test_the_neutral_values_are_in_no_specification(make_run):
    assert make_run(validation=0, select="last").digest == make_run().digest
    assert {"validation", "select"}.isdisjoint(make_run().training.specified)
    held_out, best = make_run(validation=0.1), make_run(validation=0.1, select="best")
    assert held_out.training.specified.items() >= {"validation": 0.1}.items()
    assert len({run.digest for run in (make_run(), held_out, best)}) == 3


# what is selected


@pytest.mark.parametrize("graph", [False, True])
def test_the_best_state_on_validation_is_kept_and_alone_scored_on_the_test_split(
    few_digits, spoiled, monkeypatch, graph
):
    if graph:
        steps = lambda some, device, group: GraphSteps(some, device, recorded_by_running([]))  # noqa: E731
        monkeypatch.setattr(loop, "_steps", steps)
    states, accuracies = {}, {}

    def note(live):
        epoch = live.tested // live.steps_per_epoch
        states[epoch] = {name: tensor.clone() for name, tensor in learned(live.network).items()}
        accuracies[epoch] = live.rows[-2]["top_1"]

    last = train(spoiled(select="last"), few_digits, report=note)
    best = train(spoiled(), few_digits)
    selected = max(accuracies, key=accuracies.get)
    assert selected < 4
    assert splits(best.rows) == [
        *((epoch, split) for epoch in (1, 2, 3, 4) for split in ("train", "validation")),
        (selected, "test"),
    ]
    tested = [row for row in last.rows if row["split"] == "test"]
    assert best.rows[-1] == tested[selected - 1]
    assert best.rows[-1]["top_1"] > tested[-1]["top_1"]
    for name, tensor in learned(best.network).items():
        assert torch.equal(tensor, states[selected][name]), name


def test_of_equally_good_tests_the_first_is_kept():
    weight = torch.zeros(1)
    best = Best({"weight": weight})
    for epoch, top_1 in enumerate([10.0, 30.0, 30.0, 20.0], start=1):
        best.offer({"epoch": epoch, "top_1": top_1}, {"weight": weight.fill_(epoch)})
    assert (best.row["epoch"], best.state["weight"].item()) == (2, 2.0)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [(DIVERGING, (3, "validation")), ({"learning_rate": 1e18}, (1, "validation"))],
)
def test_a_diverged_run_keeps_its_best_state_and_has_one_test_row(few_digits, make_run, changes, expected):
    run = make_run(regime="all", **(SPOILED | changes))
    drawn = state(LiveRun(run, few_digits))
    outcome = train(run, few_digits)
    assert outcome.diverged == expected[0]
    *_, last, (selected, split) = splits(outcome.rows)
    assert (last, split) == (expected, "test")
    assert selected < outcome.diverged
    assert np.isfinite(outcome.rows[-1]["loss"])
    assert all(tensor.isfinite().all() for tensor in learned(outcome.network).values())
    if selected == 0:  # nothing was tested before: the state before training
        assert all(torch.equal(tensor, drawn[name]) for name, tensor in state(outcome).items())


# interruptions


@pytest.mark.parametrize(("steps", "every"), [(5, 3), (11, 1), (15, 3)])  # of 2 runs × 4 epochs × 3
def test_a_killed_run_resumes_to_the_same_selection(few_digits, spoiled, tmp_path, monkeypatch, steps, every):
    class Killed(BaseException):
        pass

    step, taken = LiveRun.step, 0

    def counted(self, *given):
        nonlocal taken
        taken += 1
        if taken > steps:
            raise Killed
        step(self, *given)

    runs = [spoiled(seed=seed) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)
    with monkeypatch.context() as patch:
        patch.setattr(LiveRun, "step", counted)
        with pytest.raises(Killed):
            train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, every=every))
    resumed = train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path))
    assert_same(resumed, undisturbed)
    assert any(outcome.resumed for outcome in resumed) == (steps // 2 >= every)
    # A checkpoint of the end has the selected state as well.
    assert_same(train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path)), undisturbed)


@pytest.mark.parametrize("diverging", [False, True])
def test_a_stop_while_the_best_state_is_scored_resumes_there(
    few_digits, spoiled, tmp_path, monkeypatch, diverging
):
    """Of two replicates, one ends first if it diverges; the other trains on after the restart."""
    test, stop = LiveRun.test, Stop()

    def lost(self, *given):
        if diverging and (self.run.seed, self.taken) == (1, 6):
            self.measures.sums[1] = torch.nan
        test(self, *given)

    def stopping(network, images, **options):
        if images.examples != 100:
            stop(signal.SIGTERM, None)
        return evaluate(network, images, **options)

    monkeypatch.setattr(LiveRun, "test", lost)
    runs = [spoiled(seed=seed) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)
    assert [outcome.diverged for outcome in undisturbed] == [None, 2 if diverging else None]
    with monkeypatch.context() as patch:
        patch.setattr(live_run, "evaluate", stopping)  # the held-out images are those of 100 examples
        with pytest.raises(KeyboardInterrupt):
            train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, stop=stop))
    resumed = train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path))
    assert_same(resumed, undisturbed)
    assert [[place["epoch"] for place in outcome.resumed] for outcome in resumed] == (
        [[2], [2]] if diverging else [[4], [3]]
    )


@pytest.mark.parametrize("function", ["arctan-1-0.6", "arctan-fine-1-0.6"])
def test_a_reparametrised_run_that_is_over_keeps_its_selected_weights_when_it_is_read_again(
    few_digits, spoiled, tmp_path, function
):
    run = replace(
        spoiled(), variant="kaiming-uniform_gamma-uniform", values=(("reparametrisation", function),)
    )
    first = train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
    assert first[0].rows[-1]["epoch"] < 4
    again = train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
    assert again[0].resumed
    assert_same(again, first)


# jobs


def test_a_job_records_the_selected_epoch_and_writes_its_state(
    train_block, digits_folder, digits, spoiled, monkeypatch, capsys, tmp_path
):
    said, published = [], []
    monkeypatch.setattr("conftest.Silent.say", lambda self, line: said.append(line))
    write = progress.write
    monkeypatch.setattr(progress, "write", lambda at, one: (published.append(str(one)), write(at, one)))
    run = spoiled(batch_size=200)
    (folder,) = train_block([run], digits_folder)
    record = records.read_record(folder)
    selected = record["selected_epoch"]
    assert selected < 4
    assert "selected_step" not in record
    *_, validated, tested = pq.read_table(folder / "metrics.parquet").to_pylist()
    assert (validated["split"], tested["split"], tested["epoch"]) == ("validation", "test", selected)
    network = onlybn.load(folder)
    assert evaluate(network, digits)["top_1"] == tested["top_1"]
    lines = capsys.readouterr().out.splitlines()
    assert all("validation accuracy" in line for line in lines[:-1])
    assert "epoch 4/4, training loss" in lines[-1]
    assert f"test accuracy {tested['top_1']:.1f} % of epoch {selected}, " in lines[-1]
    assert f"test accuracy {tested['top_1']:.1f} % after {selected} epoch" in said[-1]
    assert " of 4, " in said[-1]
    assert published[-1].endswith(f"test accuracy {tested['top_1']:.1f} %")
    clock = record["wall_clock"]
    images = clock["seconds"] * clock["training_images_per_second"]
    assert images == pytest.approx(4 * 1_150, rel=0.01)  # 287 of 1,437 are held out


def test_a_job_of_steps_records_the_selected_step(train_block, digits_folder, make_run):
    keys = {"epochs": None, "steps": 4, "test_every": 2, "batch_size": 400}
    (folder,) = train_block([make_run(**keys, validation=0.1, select="best")], digits_folder)
    record, *_, tested = records.read_record(folder), *pq.read_table(folder / "metrics.parquet").to_pylist()
    assert record["selected_step"] == tested["step"] in (2, 4)
    assert record["selected_epoch"] == tested["epoch"] == 1
    assert records.run_of(record).training.select == "best"


# what is refused

STUDY = """
dataset: digits
training: {epochs: 4, batch_size: 32, learning_rate: 0.1, flip: false}
recipes: {held: {validation: 0.2}}
seeds: 1
experiments: {one: {architectures: [resnet-8], regimes: [all], recipes: [none, held]}}
"""


@pytest.fixture
def study(tmp_path):
    def open_(training=None, **config):
        content = yaml.safe_load(STUDY)
        content["training"] |= training or {}
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        settings = {"study": str(tmp_path / "mine.yaml"), "results_dir": str(tmp_path / "results")}
        return open_study(CONFIG | settings | config, BUILTIN)

    return open_


def test_selecting_the_best_without_validation_is_refused(study):
    with pytest.raises(
        ValidationError, match=r"select: best needs images to choose by; add validation: 0\.1"
    ):
        Training(epochs=1, batch_size=1, learning_rate=1, select="best")
    with pytest.raises(UserError) as refused:
        study(select="best")
    assert len(str(refused.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("share", "sentence"),
    [
        (
            0.001,
            "a share of 0.001 holds out 1 of 1,437 training images, and each of the 10 classes needs one",
        ),
        (
            0.999,
            "a share of 0.999 holds out 1,436 of 1,437 training images, and each of the 10 classes needs",
        ),
    ],
)
def test_a_share_that_must_leave_a_class_without_images_is_refused_at_the_start(study, share, sentence):
    with pytest.raises(UserError, match=f"^config: validation: {sentence}") as refused:
        study(validation=share)
    assert str(refused.value).endswith("; hold out at least 10 and at most 1,427")


def test_a_share_that_leaves_a_rare_class_without_images_is_refused_before_training():
    labels = np.repeat([0, 1], [996, 4])
    with pytest.raises(UserError, match=r"0 of the 4 training images of class 1 .* choose a larger share$"):
        validation.hold_out(labels, 100, seed=0)
    with pytest.raises(UserError, match=r"4 of the 4 training images of class 1 .* choose a smaller share$"):
        validation.hold_out(labels, 900, seed=0)


# costs and tables


def test_a_plan_counts_the_tests_on_validation_and_the_steps_without_its_images(study):
    last, held = study().points("one")
    assert (plan.steps(study(), last), plan.passes(study(), last)) == (4 * 45, 4)
    assert plan.steps(study(), held) == 4 * 36
    assert plan.passes(study(), held) == pytest.approx(4 + 4 * 287 / 360)
    best = replace(held, training=held.training.model_copy(update={"select": "best"}))
    assert plan.passes(study(), best) == pytest.approx(1 + 4 * 287 / 360)


def test_claims_can_ask_for_accuracy_on_validation_by_seed():
    rows = []
    for seed, selected in ((0, 1), (1, 2)):
        named = run_columns("resnet-8", "all", seed, training=json.dumps({"select": "best"}))
        measures = {"loss": 1.0, "top_5": 99.0, "learning_rate": 0.1}
        rows += [
            named | measures | {"epoch": epoch, "split": split, "top_1": value + seed}
            for epoch, split, value in (
                *((1, "train", 50), (1, "validation", 40), (2, "train", 60), (2, "validation", 30)),
                (selected, "test", 70),
            )
        ]
    metrics = pd.DataFrame(rows)
    measured = Measured({"metrics": metrics})
    assert measured.values("resnet-8", "all").tolist() == [70, 71]
    assert measured.values("resnet-8", "all", split="validation").to_dict() == {0: 40, 1: 31}
    assert measured.values("resnet-8", "all", split="train").tolist() == [50, 61]
    assert finals(metrics, "validation")["epoch"].tolist() == [1, 2]
    assert (
        Measured({"metrics": metrics[metrics["split"] != "validation"]})
        .values("resnet-8", "all", split="validation")
        .empty
    )
