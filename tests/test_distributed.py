"""Several processes on one run: they agree with one process, as far as BatchNorm allows."""

import json
import os
import shutil
import signal
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from safetensors.numpy import save_file
from safetensors.torch import load_file

from onlybn.axes import NORMALISATION
from onlybn.datasets import small
from onlybn.datasets.prepare import checksum
from onlybn.datasets.small import mean_and_deviation
from onlybn.distributed import ALONE, Group, _fault, launch
from onlybn.errors import UserError
from onlybn.files import write_json
from onlybn.networks.draw import draw
from onlybn.networks.state import learned, running_statistics
from onlybn.runs import records
from onlybn.training.evaluation import evaluate
from onlybn.training.loop import train
from onlybn.training.optimisers import Optimiser
from onlybn.training.schedules import learning_rates


@pytest.fixture
def together(train_block):
    """Train a run in two processes with gloo; return its folder."""

    def do(run, dataset):
        (folder,) = train_block([run], dataset, processes=2)
        return folder

    return do


@pytest.fixture
def some_digits(digits, digits_folder, tmp_path):
    """A prepared dataset of 102 training and 129 test digits.

    Four of five training batches have unequal halves, and the last test batch has one image.
    """

    def write(change=lambda images: images):
        folder = tmp_path / "datasets" / "digits"
        shutil.copytree(digits_folder, folder)
        splits = {
            "train": (change(digits.train.images[:102].numpy()), digits.train.labels[:102].numpy()),
            "test": (change(digits.test.images[:129].numpy()), digits.test.labels[:129].numpy()),
        }
        for split, (images, labels) in splits.items():
            save_file({"images": images, "labels": labels}, folder / f"{split}.safetensors")
        facts = json.loads((folder / "dataset.json").read_text())
        mean, std = mean_and_deviation(splits["train"][0])
        facts |= {"checksum": checksum(splits), "mean": mean, "std": std}
        write_json(folder / "dataset.json", facts)
        return folder

    return write


def test_the_parts_cover_a_batch_and_differ_by_at_most_one_image():
    for size in (1, 2, 3, 7):
        groups = [list(Group(rank, size).parts(100, 32)) for rank in range(size)]
        for start, parts in zip((0, 32, 64, 96), zip(*groups, strict=True), strict=True):
            places = [place for part in parts for place in range(100)[part]]
            assert places == list(range(100))[start : start + 32]
            lengths = [len(range(100)[part]) for part in parts]
            assert max(lengths) - min(lengths) <= 1


def test_two_processes_agree_with_one_if_their_statistics_agree(together, some_digits, make_run):
    # All images are equal, so every part has the same statistics; the labels, and so the gradients, differ.
    folder = some_digits(lambda images: np.ascontiguousarray(np.broadcast_to(images[:1], images.shape)))
    run = make_run(epochs=2, batch_size=25, regime="all", shift=0)
    run = replace(run, values=(("reparametrisation", "arctan-coarse-1.5-1"),))  # its numbers train too
    together_folder = together(run, folder)
    alone = train(run, small.read(folder, torch.device("cpu")))
    # Running variances divide by the part's pixels minus one, and tests use them: not exactly the same.
    trained = {name: t for name, t in learned(alone.network).items() if not name.endswith("running_var")}
    assert_same(together_folder, [row if row["split"] == "train" else {} for row in alone.rows], trained)
    assert records.read_record(together_folder)["computed"]["processes"] == 2


def test_two_processes_with_dropout_agree_with_one_that_drops_the_same_values(
    together, some_digits, make_run
):
    folder = some_digits()
    run = make_run("preactivation-wrn-10-1", epochs=1, batch_size=25, regime="all", learning_rate=0.01)
    run = replace(run, values=((NORMALISATION.name, "none"),))  # each part would have statistics of its own
    together_folder = together(run, folder)
    alone = train(run, small.read(folder, torch.device("cpu")))
    assert_same(together_folder, alone.rows, learned(alone.network))


def test_two_processes_agree_with_one_that_trains_the_halves_of_a_batch_in_turn(
    together, some_digits, make_run
):
    folder = some_digits()
    run = make_run(epochs=2, batch_size=25, regime="random-2")
    together_folder = together(run, folder)
    rows, tensors = in_turn(run, small.read(folder, torch.device("cpu")))
    assert_same(together_folder, rows, tensors)
    # As documented: BatchNorm's statistics are those of a half, so the whole batch gives another result.
    alone = train(run, small.read(folder, torch.device("cpu")))
    assert abs(alone.rows[-2]["loss"] - rows[-2]["loss"]) > 1e-3


def in_turn(run, images):
    """Train in one process, the two halves of every batch one after the other; return rows and tensors."""
    training = run.training
    network, trained = draw(run, channels=1, classes=10)
    network.to(memory_format=torch.channels_last)
    optimiser = Optimiser(network, trained.values(), training)
    halves = [Group(0, 2), Group(1, 2)]
    starts = range(0, 102, 25)
    rates = learning_rates(training, len(starts)).reshape(training.epochs, -1)
    rows = []
    for epoch in range(1, training.epochs + 1):
        network.train()
        shown = {"seed": run.seed, "epoch": epoch, "batch_size": 25, "shift": training.shift, "flip": False}
        at_start = {name: t.clone() for name, t in running_statistics(network).items()}
        statistics = [{n: t.clone() for n, t in at_start.items()} for _ in halves]
        batches = zip(*(images.training_batches(**shown, group=half) for half in halves), strict=True)
        total = 0.0
        for rate, pair in zip(rates[epoch - 1], batches, strict=True):
            whole = sum(len(labels) for _, labels in pair)
            for own, (batch, labels) in zip(statistics, pair, strict=True):
                running = running_statistics(network)
                for name, tensor in running.items():
                    tensor.copy_(own[name])
                loss = torch.nn.functional.cross_entropy(network(batch), labels)
                (loss * len(labels) / whole).backward()
                total += loss.item() * len(labels)
                own.update({name: tensor.clone() for name, tensor in running.items()})
            optimiser.step(rate)
            optimiser.forget_gradients()
        for name, tensor in running_statistics(network).items():
            tensor.copy_((statistics[0][name] + statistics[1][name]) / 2)
        rows += [{"loss": total / 102}, evaluate(network, images)]
    return rows, learned(network)


def assert_same(folder, rows, tensors):
    measured = pq.read_table(folder / "metrics.parquet").to_pylist()
    assert len(measured) == len(rows)
    for ours, theirs in zip(measured, rows, strict=True):
        for name in {"loss", "top_1", "top_5"} & set(theirs):
            assert ours[name] == pytest.approx(theirs[name], rel=1e-5)
    state = load_file(folder / "state.safetensors")
    assert set(tensors) <= set(state)
    for name, tensor in tensors.items():
        torch.testing.assert_close(state[name], tensor, rtol=1e-3, atol=5e-5)


def test_a_users_mistake_in_one_of_several_processes_gives_its_sentence(
    together, digits_folder, tmp_path, make_run
):
    damaged = tmp_path / "elsewhere" / "digits"
    shutil.copytree(digits_folder, damaged)
    (damaged / "test.safetensors").write_bytes((damaged / "test.safetensors").read_bytes()[:-1])
    with pytest.raises(UserError, match=r"elsewhere/digits is damaged .* delete it to prepare it again$"):
        together(make_run(), damaged)


def test_processes_find_the_package_of_a_checkout_that_is_not_installed(python_without_the_package):
    before = os.environ["PYTHONPATH"]
    launch(1, "onlybn.errors", {})
    assert os.environ["PYTHONPATH"] == before


def test_processes_heed_no_signal_that_is_ignored(monkeypatch):
    """`nohup` ignores SIGHUP; torch's own handlers would stop the run."""
    asked = []

    def fake(config, entry):
        asked.append(config.signals_to_handle.split(","))
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # as torch leaves its handlers
        return lambda *args: None

    monkeypatch.setattr("torch.distributed.launcher.api.elastic_launch", fake)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        launch(2, "onlybn.errors", {})
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
    assert asked == [["SIGINT", "SIGTERM", "SIGQUIT"]]


def test_a_users_mistake_is_reported_even_if_waiting_processes_fail_first():
    def failure(message, timestamp):
        return SimpleNamespace(message={"message": message, "extraInfo": {}}, timestamp=timestamp)

    waited = failure("RuntimeError: Connection closed by peer", 7)
    fault = _fault({0: waited, 1: failure("UserError: a.JPEG was altered", 7)})
    assert isinstance(fault, UserError)
    assert str(fault) == "a.JPEG was altered"
    fault = _fault({0: waited, 1: failure("MemoryError: ", 6)})
    assert isinstance(fault, RuntimeError)
    assert str(fault) == "process 1 failed: MemoryError: "


def test_a_group_of_one_changes_nothing():
    loss = torch.tensor(2.0)
    network = torch.nn.Linear(1, 1)
    assert ALONE.weigh(loss, 3, 5) is loss
    assert ALONE.wrap(network) is network
    assert ALONE.leads
