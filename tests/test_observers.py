"""Recordings: an observer sees each step, changes nothing, and its rows survive a kill."""

import math
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from conftest import recorded_by_running
from torch.nn import functional as F

from onlybn import observers
from onlybn.errors import UserError
from onlybn.networks.draw import draw
from onlybn.networks.state import learned
from onlybn.observers import weights
from onlybn.runs import records, saving
from onlybn.runs.schemas import SCHEMAS
from onlybn.training import loop
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train, train_replicates
from onlybn.training.steps import GraphSteps

EVERY = {"weights": {"every": 3}}
SETTINGS = {"device": "cpu", "processes": 1, "threads": 1, "precision": "float32"}


def eager(some, device, group):
    return loop.EagerSteps(some)


def recorded(some, device, group):
    return GraphSteps(some, device, recorded_by_running([]))


def files(tmp_path, runs, images, name, **options):
    """Train replicates and save them; return the bytes of what they wrote, by seed and file."""
    outcomes = train_replicates(runs, images, **options)
    found = {}
    for run, outcome in zip(runs, outcomes, strict=True):
        folder = tmp_path / name / str(run.seed)
        saving.save(folder, run, outcome, images, SETTINGS)
        found |= {
            (run.seed, path.name): path.read_bytes()
            for path in folder.iterdir()
            if path.name != records.RECORD
        }
    return found


class Spoiler:
    """An observer that changes everything in the network that a careless one might change."""

    def __init__(self, run, network, steps_per_epoch, options):
        pass

    def wants(self, epoch, step):
        return step != 2

    def look(self, moment):
        F.cross_entropy(moment.network(moment.images), moment.labels).backward()
        moment.network.eval()
        with torch.no_grad():
            for tensor in (*moment.network.parameters(), *moment.network.buffers()):
                tensor.fill_(7)
        return []


@pytest.mark.parametrize("steps", [eager, recorded])
@pytest.mark.parametrize(
    ("regime", "precision"),
    [("all", torch.float32), ("all", torch.bfloat16), ("random-2", torch.float32)],
)
def test_a_run_has_the_same_bytes_with_and_without_a_recording(
    few_digits, make_run, tmp_path, monkeypatch, precision, steps, regime
):
    monkeypatch.setattr(loop, "_steps", steps)
    runs = [make_run(seed=seed, regime=regime, epochs=1) for seed in (0, 1)]
    options = {"precision": precision}
    without = files(tmp_path, runs, few_digits, "without", **options)
    beside = files(tmp_path, runs, few_digits, "with", recordings={1: EVERY}, **options)
    assert set(beside) - set(without) == {(1, "weights.parquet")}
    assert {name: beside[name] for name in without} == without
    monkeypatch.setattr(weights, "Recorder", Spoiler)
    spoiled = files(tmp_path, runs, few_digits, "spoiled", recordings={0: EVERY, 1: EVERY}, **options)
    assert {name: spoiled[name] for name in without} == without


def test_every_tensor_that_an_observer_changes_is_restored(few_digits, make_run, monkeypatch):
    run = make_run(regime="random-2")
    state = train(run, few_digits).network.state_dict()
    monkeypatch.setattr(weights, "Recorder", Spoiler)
    spoiled = train(run, few_digits, recordings=EVERY).network.state_dict()
    assert list(spoiled) == list(state)
    assert all(torch.equal(spoiled[name], tensor) for name, tensor in state.items())


def test_a_moment_shows_the_network_before_the_step_and_the_values_after_it(
    few_digits, make_run, monkeypatch
):
    run = make_run(regime="all", epochs=1, weight_decay=0.01)
    moments = []

    class Looker(Spoiler):
        def wants(self, epoch, step):
            return True

        def look(self, moment):
            for name, parameter in moment.network.named_parameters():
                assert torch.equal(parameter, moment.before[name])
            F.cross_entropy(moment.network(moment.images), moment.labels).backward()  # adds to none of these
            copied = {"before": moment.before, "set": moment.set, "gradients": moment.gradients}
            copied = {key: {n: t.clone() for n, t in tensors.items()} for key, tensors in copied.items()}
            moments.append(replace(moment, loss=moment.loss.clone(), **copied))
            return []

    monkeypatch.setattr(weights, "Recorder", Looker)
    outcome = train(run, few_digits, recordings={"weights": {}})
    assert [(moment.epoch, moment.step) for moment in moments] == [(1, 1), (1, 2), (1, 3), (1, 4)]
    network, _ = draw(run, channels=1, classes=10)
    parameters = dict(network.named_parameters())
    optimiser = torch.optim.SGD(parameters.values(), lr=0.1, momentum=0.9, weight_decay=0.01)
    for moment in moments:
        optimiser.zero_grad()
        loss = F.cross_entropy(network(moment.images), moment.labels)
        loss.backward()
        assert moment.loss.item() == pytest.approx(loss.item(), rel=1e-3)
        for name, parameter in parameters.items():
            torch.testing.assert_close(moment.gradients[name], parameter.grad, rtol=1e-2, atol=1e-4)
        optimiser.step()
        for name, parameter in parameters.items():
            torch.testing.assert_close(moment.set[name], parameter.detach(), rtol=1e-2, atol=1e-4)
    for name, parameter in outcome.network.named_parameters():
        assert torch.equal(parameter, moments[-1].set[name])


def percentiles(weight):
    """Return quantiles computed by hand: sorted, and linear between neighbours."""
    values = np.sort(weight.detach().numpy().astype(np.float64).ravel())
    places = np.array(weights.PERCENTILES) / 100 * (len(values) - 1)
    low, high = np.floor(places).astype(int), np.ceil(places).astype(int)
    return values[low] + (places - low) * (values[high] - values[low])


@pytest.mark.parametrize(
    ("regime", "values"),
    [("all", ()), ("random-2", ()), ("batchnorm", ()), ("all", (("reparametrisation", "linear-1.6"),))],
)
def test_weights_are_recorded_before_training_and_at_every_test(
    few_digits, make_run, tmp_path, regime, values
):
    run = replace(make_run(regime=regime), values=values)
    expected = {}

    def note(epoch, step, network):
        for name, layer in network.named_modules():
            if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear):
                expected[epoch, step, name] = percentiles(layer.weight)

    note(0, 0, LiveRun(run, few_digits).network)  # Ψ of its inverse rounds the drawn weights
    outcome = train(
        run,
        few_digits,
        recordings={"weights": {}},
        report=lambda live: note(live.rows[-1]["epoch"], live.taken, live.network),
    )
    saving.save(tmp_path, run, outcome, few_digits, SETTINGS)
    table = pq.read_table(tmp_path / "weights.parquet")
    assert table.schema.remove_metadata() == SCHEMAS["weights"]
    rows = {(row["epoch"], row["step"], row["layer"]): row for row in table.to_pylist()}
    assert list(rows) == list(expected)
    assert {(epoch, step) for epoch, step, _ in rows} == {(0, 0), (1, 4), (2, 8)}
    for key, row in rows.items():
        found = [row[column] for column, _ in weights.QUANTILES]
        assert found == pytest.approx(expected[key], rel=1e-12)
    record = records.read_record(tmp_path)
    assert record["recordings"] == {"weights": {"every": None, "layers": None}}
    assert set(record["files"]) == {*records.WRITTEN, "weights.parquet"}


@pytest.mark.parametrize(
    ("options", "training", "expected"),
    [
        ({"every": 3}, {"epochs": 2}, [(0, 0), (1, 3), (2, 6)]),
        ({"every": 1}, {"epochs": None, "steps": 3}, [(0, 0), (1, 1), (1, 2), (1, 3)]),
        ({}, {"epochs": None, "steps": 7, "test_every": 3}, [(0, 0), (1, 3), (2, 6), (2, 7)]),
    ],
)
def test_weights_of_chosen_layers_are_recorded_every_n_steps_or_at_tests(
    few_digits, make_run, options, training, expected
):
    layers = ["output", "convolution"]
    outcome = train(make_run(**training), few_digits, recordings={"weights": {"layers": layers, **options}})
    found = [(row["epoch"], row["step"], row["layer"]) for row in outcome.recorded["weights"]]
    assert found == [(*moment, layer) for moment in expected for layer in layers]


def test_a_recording_of_a_killed_and_resumed_run_has_the_same_bytes(
    few_digits, make_run, tmp_path, monkeypatch
):
    runs = [make_run(seed=seed, regime="all") for seed in (0, 1)]
    recordings = {0: EVERY, 1: {"weights": {}}}
    expected = files(tmp_path, runs, few_digits, "undisturbed", recordings=recordings)
    whole = LiveRun.step

    class Killed(BaseException):
        pass

    for kept, at in (({"every": 3}, 11), ({"share": math.inf}, 13)):
        taken = 0

        def step(self, *given, at=at):
            nonlocal taken
            if (taken := taken + 1) == at:
                raise Killed
            whole(self, *given)

        def checkpoints(name=str(at), kept=kept):
            paths = {seed: tmp_path / f"{name}-{seed}.safetensors" for seed in (0, 1)}
            return Checkpoints(paths, {}, **{"share": 0.0} | kept)

        with monkeypatch.context() as patch:
            patch.setattr(LiveRun, "step", step)
            with pytest.raises(Killed):
                train_replicates(runs, few_digits, recordings=recordings, checkpoints=checkpoints())
        found = files(
            tmp_path, runs, few_digits, f"resumed-{at}", recordings=recordings, checkpoints=checkpoints()
        )
        assert found == expected


def test_a_checkpoint_without_the_recording_is_ignored(few_digits, make_run, tmp_path, capsys):
    run = make_run()
    checkpoints = Checkpoints({0: tmp_path / "0"}, {})
    train(run, few_digits, checkpoints=checkpoints)
    recorded = train(run, few_digits, recordings=EVERY, checkpoints=Checkpoints({0: tmp_path / "0"}, {}))
    assert "restarting: its checkpoint is of another choice of recordings" in capsys.readouterr().out
    assert recorded.recorded == train(run, few_digits, recordings=EVERY).recorded


def test_a_finished_run_without_the_recording_is_retrained_and_one_with_it_is_kept(
    train_block, digits_folder, make_run, tmp_path
):
    run = make_run(epochs=1, batch_size=400)
    (folder,) = train_block([run], digits_folder)
    before = {name: (folder / name).read_bytes() for name in records.WRITTEN}
    train_block([run], digits_folder, recordings=[EVERY])
    with_recording = (folder / "run.json").read_bytes()
    assert {name: (folder / name).read_bytes() for name in records.WRITTEN} == before
    assert (folder / "weights.parquet").exists()
    for wanted in (None, [EVERY], [{"weights": {"every": 3, "layers": None}}]):
        train_block([run], digits_folder, recordings=wanted)
        assert (folder / "run.json").read_bytes() == with_recording
    for damage in (lambda: (folder / "weights.parquet").write_bytes(b""), lambda: None):
        damage()
        train_block([run], digits_folder, recordings=[EVERY])
        assert pq.read_table(folder / "weights.parquet").num_rows
    with pytest.raises(
        UserError, match=r"^recordings: weights.every: 0 is not a number of steps of at least 1"
    ):
        train_block([run], digits_folder, recordings=[{"weights": {"every": 0}}])


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        ("weigths", {}, "unknown recording 'weigths'; did you mean 'weights'? Allowed: weights"),
        (
            "weights",
            {"ever": 1},
            "weights: unknown option 'ever'; did you mean 'every'? Allowed: every, layers",
        ),
        ("weights", {"every": 0}, "weights.every: 0 is not a number of steps of at least 1, or null for"),
        ("weights", {"every": True}, "weights.every: True is not a number of steps of at least 1"),
        ("weights", {"layers": []}, "weights.layers: [] is not a list of layers' names, or null for all"),
        ("weights", {"layers": "a"}, "weights.layers: 'a' is not a list of layers' names"),
        ("weights", [1], "weights: [1] is not a mapping of options"),
    ],
)
def test_an_error_in_a_recording_is_one_sentence(name, options, sentence):
    with pytest.raises(ValueError, match=r"^.") as raised:
        observers.check(name, options)
    assert str(raised.value).startswith(sentence)
    assert "\n" not in str(raised.value)


def test_each_error_in_a_recording_is_reported_and_defaults_are_filled_in():
    with pytest.raises(ValueError, match=r"every.*\n.*'typo'"):
        observers.check("weights", {"every": 0, "typo": 1})
    assert observers.check("weights") == observers.check("weights", {}) == {"every": None, "layers": None}


def test_an_unknown_layer_is_reported_with_the_nearest_before_anything_trains(
    few_digits, make_run, monkeypatch
):
    monkeypatch.setattr(LiveRun, "step", None)
    with pytest.raises(UserError, match="unknown layer of resnet-8 'ouput'; did you mean 'output'") as raised:
        train(make_run(), few_digits, recordings={"weights": {"layers": ["ouput"]}})
    assert "\n" not in str(raised.value)


def test_the_recording_of_a_diverged_run_is_kept(few_digits, make_run, tmp_path):
    run = make_run(learning_rate=1e30, epochs=3)
    outcome = train(run, few_digits, recordings={"weights": {}})
    saving.save(tmp_path, run, outcome, few_digits, SETTINGS)
    assert {row["epoch"] for row in pq.read_table(tmp_path / "weights.parquet").to_pylist()} == {0, 1}
    assert all(tensor.isfinite().all() for tensor in learned(outcome.network).values())
