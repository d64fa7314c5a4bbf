"""Each recording equals a second computation in float64, changes no run, and survives a kill."""

import copy
import json
import re
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from conftest import BUILTIN, CONFIG
from torch import nn
from torch.nn import functional as F

from onlybn import observers
from onlybn.configuration import open_study
from onlybn.datasets.prepare import prepare
from onlybn.datasets.small import read
from onlybn.errors import UserError
from onlybn.files import write_tables
from onlybn.models.dropout import draw_from
from onlybn.models.network import Network
from onlybn.networks import statistics
from onlybn.noise import Noise
from onlybn.observers import inputs
from onlybn.randomness import generator
from onlybn.runs import saving
from onlybn.runs.collect import collect
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train

RECORDINGS = {
    "curve": {"every": 2},
    "inputs": {"every": 3, "units": 5},
    "gradient-shift": {"every": 3},
    "landscape": {"every": 3, "factors": [0.5, 4], "random": 1},
    "reestimated": {},
    "generalisation": {},
    "identity": {"every": 3},
}
SETTINGS = {"device": "cpu", "processes": 1, "threads": 1, "precision": "float32"}
# The parameters of ResNet-8 that move together, in the order of its layers.
CONVOLUTIONS = {
    "convolution": "batchnorm",
    "stages.0.0.convolution_1": "stages.0.0.batchnorm_1",
    "stages.0.0.convolution_2": "stages.0.0.batchnorm_2",
    "stages.1.0.convolution_1": "stages.1.0.batchnorm_1",
    "stages.1.0.convolution_2": "stages.1.0.batchnorm_2",
    "stages.1.0.shortcut.convolution": "stages.1.0.shortcut.batchnorm",
    "stages.2.0.convolution_1": "stages.2.0.batchnorm_1",
    "stages.2.0.convolution_2": "stages.2.0.batchnorm_2",
    "stages.2.0.shortcut.convolution": "stages.2.0.shortcut.batchnorm",
}


@dataclass
class Seen:
    """A moment as a recording got it, in float64: a copy of the network, the batch, and the step's result."""

    network: Network
    images: torch.Tensor
    labels: torch.Tensor
    set: dict[str, torch.Tensor]
    rate: float

    def twin(self, names=()) -> Network:
        """Return a copy of the network, in which these parameters are as the step sets them."""
        network = copy.deepcopy(self.network)
        with torch.no_grad():
            for name in names:
                network.get_parameter(name).copy_(self.set[name])
        return network

    def loss(self, network) -> torch.Tensor:
        return F.cross_entropy(network(self.images), self.labels)

    def gradients(self, network) -> dict[str, torch.Tensor]:
        network.zero_grad()
        self.loss(network).backward()
        return {name: p.grad for name, p in network.named_parameters() if p.requires_grad}


@pytest.fixture
def watched(monkeypatch, few_digits):
    """Train a run with one recording; return the moments by the steps taken before, and the outcome."""

    def watch(run, name, options=None, images=few_digits):
        recorder, seen = observers.module(name).Recorder, {}
        look = recorder.look

        def copied(self, moment):
            network = copy.deepcopy(moment.network).double()
            given = moment.images.double(), moment.labels.clone()
            values = {name: tensor.double() for name, tensor in moment.set.items()}
            taken = (moment.epoch - 1) * run.training.steps_per_epoch(images.examples) + moment.step - 1
            seen[taken] = Seen(network, *given, values, moment.rate)
            return look(self, moment)

        monkeypatch.setattr(recorder, "look", copied)
        return seen, train(run, images, recordings={name: RECORDINGS[name] if options is None else options})

    return watch


def distance(some, others) -> float:
    return float(torch.cat([(some[n] - others[n]).flatten() for n in some]).norm())


def flat(tensors) -> torch.Tensor:
    return torch.cat([tensor.detach().flatten() for tensor in tensors.values()])


def cosine(some, others) -> float:
    return float(F.cosine_similarity(flat(some), flat(others), dim=0))


# what the recordings have in common


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    ("architecture", "values", "alone"),
    [
        ("resnet-8", (), RECORDINGS),
        ("preactivation-wrn-10-1", (), {}),  # has dropout
        ("mlp-20-10-sigmoid", (("normalisation", "batchnorm-noisy"),), {}),
    ],
)
def test_a_run_has_the_same_bytes_with_each_recording_and_with_all(
    few_digits, make_run, tmp_path, architecture, values, alone, precision
):
    run = replace(make_run(architecture, regime="all", epochs=1), values=values)

    def written(recordings):
        folder = tmp_path / "-".join(recordings)
        outcome = train(run, few_digits, precision=precision, recordings=recordings)
        saving.save(folder, run, outcome, few_digits, SETTINGS)
        names = ("metrics.parquet", "affine.parquet", "state.safetensors")
        return {name: (folder / name).read_bytes() for name in names}, outcome.recorded

    without, _ = written({})
    beside, recorded = written(RECORDINGS)
    assert beside == without
    for name, options in alone.items():
        assert written({name: options}) == (without, {name: recorded[name]})


def test_the_recordings_of_a_killed_and_resumed_run_are_the_same(few_digits, make_run, tmp_path, monkeypatch):
    run = make_run("preactivation-wrn-10-1", regime="all")
    expected = train(run, few_digits, recordings=RECORDINGS)
    whole, taken = LiveRun.step, []

    class Killed(BaseException):
        pass

    def step(self, *given):
        taken.append(self.taken)
        if len(taken) == 6:
            raise Killed
        whole(self, *given)

    monkeypatch.setattr(LiveRun, "step", step)
    recorded = {"recordings": RECORDINGS, "checkpoints": Checkpoints({0: tmp_path / "0"}, {}, every=2)}
    with pytest.raises(Killed):
        train(run, few_digits, **recorded)
    found = train(
        run, few_digits, recordings=RECORDINGS, checkpoints=Checkpoints({0: tmp_path / "0"}, {}, every=2)
    )
    assert taken[6] == 4  # two of the steps were looked at twice
    assert found.recorded == expected.recorded
    assert found.rows == expected.rows


def test_recordings_survive_being_saved_collected_and_read(few_digits, make_run, tmp_path):
    from onlybn.drawing import summaries

    run, folder = make_run(regime="all", epochs=1), tmp_path / "run"
    outcome = train(run, few_digits, recordings=RECORDINGS)
    saving.save(folder, run, outcome, few_digits, SETTINGS)
    for name, rows in outcome.recorded.items():
        table = pq.read_table(folder / f"{name}.parquet")
        assert table.schema.remove_metadata() == SCHEMAS[name]
        assert [set(row) for row in rows] == [set(SCHEMAS[name].names)] * len(rows)
        paths = [tmp_path / experiment / f"{name}.parquet" for experiment in ("one", "two")]
        for path in paths:
            path.parent.mkdir(exist_ok=True)
            write_tables(path, collect(path.parent.name, name, {folder: run}))
        read = summaries.read(paths)  # a run that both have is there once
        assert read["architecture"].unique() == ["resnet-8"]
        found = pa.Table.from_pandas(read[SCHEMAS[name].names], SCHEMAS[name], preserve_index=False)
        assert found.to_pylist() == table.to_pylist()


def test_rows_that_differ_in_a_list_alone_are_noticed(few_digits, make_run, tmp_path):
    from onlybn.drawing import summaries

    run, paths = make_run(regime="all", epochs=1), []
    outcome = train(run, few_digits, recordings={"inputs": RECORDINGS["inputs"]})
    for experiment in ("one", "two"):
        saving.save(tmp_path / "run", run, outcome, few_digits, SETTINGS)
        paths.append(tmp_path / experiment / "inputs.parquet")
        paths[-1].parent.mkdir()
        write_tables(paths[-1], collect(experiment, "inputs", {tmp_path / "run": run}))
        outcome.recorded["inputs"][3]["means"][2] += 1
    with pytest.raises(UserError, match="have different rows of the run"):
        summaries.read(paths)


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "landscape",
            {"factors": [0.5, 0]},
            "landscape.factors: [0.5, 0] is not a list of different numbers",
        ),
        (
            "landscape",
            {"factors": [-1, -2]},
            "landscape.factors: [-1, -2] is not a list of different numbers",
        ),
        ("landscape", {"factors": [1, 1]}, "landscape.factors: [1, 1] is not a list of different numbers"),
        ("landscape", {"factors": [True]}, "landscape.factors: [True] is not a list of different numbers"),
        ("landscape", {"factors": ["a"]}, "landscape.factors: ['a'] is not a list of different numbers"),
        ("landscape", {"factors": []}, "landscape.factors: [] is not a list of different numbers above 0"),
        ("landscape", {"random": -1}, "landscape.random: -1 is not a number of directions of at least 0"),
        ("inputs", {"units": 0}, "inputs.units: 0 is not a number of units of at least 1"),
        ("curve", {"every": 0}, "curve.every: 0 is not a number of steps of at least 1"),
        ("identity", {"evry": 1}, "identity: unknown option 'evry'; did you mean 'every'?"),
        ("gradient-shift", {"layers": "a"}, "gradient-shift.layers: 'a' is not a list of layers' names"),
        ("reestimated", {"epochs": [0]}, "reestimated.epochs: [0] is not a list of different epochs from 1"),
        ("reestimated", {"epochs": [2, 2]}, "reestimated.epochs: [2, 2] is not a list of different epochs"),
        ("gradient_shift", {}, "unknown recording 'gradient_shift'; did you mean 'gradient-shift'?"),
    ],
)
def test_an_error_in_an_option_is_one_sentence(name, options, sentence):
    with pytest.raises(ValueError, match=f"^{re.escape(sentence)}") as raised:
        observers.check(name, options)
    assert "\n" not in str(raised.value)


def test_options_are_in_one_spelling():
    assert observers.check("landscape", {"factors": ["1e-2", 4, 1]})["factors"] == [0.01, 1.0, 4.0]
    assert observers.check("reestimated", {"epochs": [9, 2]}) == {"epochs": [2, 9]}
    assert observers.check("curve") == {"every": 10}


@pytest.mark.parametrize(
    ("name", "options", "sentence"),
    [
        (
            "gradient-shift",
            {"layers": ["output", "ouput"]},
            "gradient-shift.layers: unknown layer of resnet-8",
        ),
        ("reestimated", {"epochs": [3, 1]}, "reestimated.epochs: 3 is beyond the last epoch of resnet-8 all"),
        (
            "generalisation",
            {"epochs": [3]},
            "generalisation.epochs: 3 is beyond the last epoch of resnet-8 all",
        ),
    ],
)
def test_an_option_that_does_not_fit_the_run_is_one_sentence_before_anything_trains(
    few_digits, make_run, monkeypatch, name, options, sentence
):
    monkeypatch.setattr(LiveRun, "step", None)
    with pytest.raises(UserError, match=f"^{sentence}") as raised:
        train(make_run(regime="all"), few_digits, recordings={name: options})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", [*RECORDINGS, "weights"])
def test_a_run_in_several_processes_refuses_recordings_that_need_the_whole_batch(tmp_path, name):
    definition = {
        "dataset": "digits",
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.1, "flip": False},
        "seeds": 1,
        "record": {"weights": None},
        "experiments": {"one": {"architectures": ["resnet-8"], "regimes": ["all"], "record": [name]}},
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(definition))
    settings = CONFIG | {"study": str(tmp_path / "mine.yaml"), "results_dir": str(tmp_path / "results")}
    open_study(settings, BUILTIN)
    if name == "weights":
        open_study(settings | {"processes_per_run": 2}, BUILTIN)
        return
    with pytest.raises(UserError) as raised:
        open_study(settings | {"processes_per_run": 2}, BUILTIN)
    assert str(raised.value) == (
        "processes_per_run: 2 processes each have a part of a batch, and the recording"
        f" {name} needs the whole batch; allowed: 1"
    )


# each recording against a second computation


def test_the_curve_has_loss_and_accuracy_of_every_nth_batch_before_its_step(make_run, watched):
    seen, outcome = watched(make_run(regime="all", momentum=0.5, milestones=[1]), "curve")
    rows = outcome.recorded["curve"]
    assert [(row["epoch"], row["step"]) for row in rows] == [(1, 0), (1, 2), (2, 4), (2, 6)]
    assert [row["learning_rate"] for row in rows] == [0.1, 0.1, 0.01, 0.01]
    for row in rows:
        one = seen[row["step"]]
        hits = one.network(one.images).argmax(dim=1) == one.labels
        assert row["top_1"] == pytest.approx(100 * float(hits.double().mean()))
        assert row["loss"] == pytest.approx(one.loss(one.network).item(), rel=1e-5)


def test_the_recordings_of_a_deep_linear_network_are_those_of_its_product(make_run, watched, tmp_path):
    prepare("deep-linear", tmp_path, tmp_path / "deep-linear")
    images = read(tmp_path / "deep-linear", torch.device("cpu"))
    squared = {"loss": "squared-error", "batch_size": 1000, "learning_rate": 1e-6, "momentum": 0}
    run = make_run("deep-linear-4", regime="all", epochs=1, shift=0, weight_decay=0, **squared)
    run = replace(run, dataset="deep-linear", variant="glorot-uniform_gamma-one")
    run = replace(run, values=(("normalisation", "none"),))
    seen, outcome = watched(run, "landscape", {"factors": [1e-4, 30.0]}, images)
    names = [f"hidden.{n}.linear.weight" for n in range(3)] + ["output.weight"]
    x, y = seen[0].images.flatten(1), seen[0].labels
    weights = [seen[0].network.get_parameter(name).detach() for name in names]

    def products(weights):
        found = [x]
        for weight in weights:
            found.append(found[-1] @ weight.T)
        return found

    def gradients(weights):
        *before, out = products(weights)
        assert out.shape == y.shape
        error, found = out - y, []
        for weight, given in zip(weights[::-1], before[::-1], strict=True):
            found.append(error.T @ given)
            error = error @ weight
        return (out - y).square().sum() / 2, found[::-1]

    loss, found = gradients(weights)
    length = torch.cat([g.flatten() for g in found]).norm()
    row, *others = outcome.recorded["landscape"]
    assert row["loss"] == pytest.approx(float(loss))
    assert row["gradient_norm"] == pytest.approx(float(length))
    # In float32 a step of 1e-10 · g would round to another direction and length.
    for size, there in zip((1e-10, 30e-6), others, strict=True):
        at, changed = gradients([w - size * g for w, g in zip(weights, found, strict=True)])
        change = torch.cat([(a - b).flatten() for a, b in zip(changed, found, strict=True)]).norm()
        assert there["loss"] == pytest.approx(float(at))
        assert there["beta"] == pytest.approx(float(change / (size * length)), rel=1e-5)

    recordings = {"curve": {}, "gradient-shift": {}, "inputs": {}, "identity": {}}
    recorded = train(run, images, recordings=recordings).recorded
    (curve,) = recorded["curve"]
    told = {"epoch": 1, "step": 0, "top_1": None, "learning_rate": 1e-6}
    assert curve == told | {"loss": pytest.approx(row["loss"], rel=1e-5)}
    moved = [w - 1e-6 * g for w, g in zip(weights, found, strict=True)]
    for number, shift in enumerate(recorded["gradient-shift"]):
        _, shifted = gradients([*moved[:number], *weights[number:]])
        expected = float((found[number] - shifted[number]).norm())
        assert shift["shift"] == pytest.approx(expected, rel=1e-2, abs=1e-2)
        assert shift["norm"] == pytest.approx(float(found[number].norm()), rel=1e-5)
    for row, before, after in zip(
        recorded["inputs"], products(weights)[1:-1], products(moved)[1:-1], strict=True
    ):
        assert row["variances"] == pytest.approx(variance_of(before.T).tolist(), rel=1e-4)
        assert row["mean_step"] == pytest.approx(
            float((mean_of(after.T) - mean_of(before.T)).abs().mean()), rel=1e-2
        )
    assert recorded["identity"] == []


@torch.no_grad()
def relu_inputs(network, images) -> dict[str, torch.Tensor]:
    """Return the inputs of ResNet-8's ReLUs in training, written out."""

    def batchnorm(x, layer):
        mean, variance = x.mean(dim=(0, 2, 3)), x.var(dim=(0, 2, 3), correction=0)
        scale = layer.weight / torch.sqrt(variance + layer.eps)
        return (x - mean[:, None, None]) * scale[:, None, None] + layer.bias[:, None, None]

    def convolved(x, convolution, layer):
        x = F.conv2d(x, convolution.weight, stride=convolution.stride, padding=convolution.padding)
        return batchnorm(x, layer)

    x = convolved(images, network.convolution, network.batchnorm)
    found = {"relu": x}
    for s, (block,) in enumerate(network.stages):
        x = x.relu()
        inside = convolved(x, block.convolution_1, block.batchnorm_1)
        sum_ = convolved(inside.relu(), block.convolution_2, block.batchnorm_2)
        shortcut = block.shortcut
        x = sum_ + (convolved(x, shortcut.convolution, shortcut.batchnorm) if shortcut else x)
        found |= {f"stages.{s}.0.relu_1": inside, f"stages.{s}.0.relu_2": x}
    return found


def test_inputs_are_those_of_the_nonlinearities_before_and_after_the_step(make_run, watched, monkeypatch):
    monkeypatch.setattr(inputs, "CHUNK", 10_000)  # several chunks in a layer
    seen, outcome = watched(make_run(regime="all", seed=3), "inputs")
    rows = outcome.recorded["inputs"]
    percents = torch.tensor(inputs.PERCENTS, dtype=torch.float64) / 100
    for taken, one in seen.items():
        before = relu_inputs(one.network, one.images)
        after = relu_inputs(one.twin(one.set), one.images)
        found = [row for row in rows if row["step"] == taken]
        assert [(row["layer"], row["number"]) for row in found] == list(zip(before, range(7), strict=True))
        for row, x, changed in zip(found, before.values(), after.values(), strict=True):
            of_unit, of_all = x[:, row["unit"]].flatten(), x.flatten()
            for column, values in (("unit_percentiles", of_unit), ("all_percentiles", of_all)):
                expected = torch.quantile(values, percents).tolist()
                assert row[column] == pytest.approx(expected, rel=1e-4, abs=1e-4)
            pooled = x.transpose(0, 1).flatten(1), changed.transpose(0, 1).flatten(1)
            means, variances = ([f(values) for values in pooled] for f in (mean_of, variance_of))
            order = generator(3, "inputs", row["layer"]).permutation(x.shape[1])
            chosen = sorted(order[:5])
            assert row["unit"] == order[0]
            assert row["means"] == pytest.approx(means[0][chosen].tolist(), rel=1e-4, abs=1e-6)
            assert row["variances"] == pytest.approx(variances[0][chosen].tolist(), rel=1e-4)
            for column, (old, new) in (("mean_step", means), ("variance_step", variances)):
                assert row[column] == pytest.approx(float((new - old).abs().mean()), rel=1e-3, abs=1e-6)


def mean_of(values):
    return values.mean(dim=1)


def variance_of(values):
    return (values - values.mean(dim=1, keepdim=True)).square().mean(dim=1)


def test_the_percentiles_of_very_many_inputs_are_those_of_evenly_spaced_ones(make_run, watched, monkeypatch):
    monkeypatch.setattr(inputs, "MANY", 1000)
    seen, outcome = watched(make_run(regime="all"), "inputs", {"every": 9})
    row = outcome.recorded["inputs"][0]
    values = relu_inputs(seen[0].network, seen[0].images)["relu"].permute(0, 2, 3, 1).flatten()
    assert row["all_percentiles"] == pytest.approx(
        np.percentile(values[:: len(values) // 1000 + 1], inputs.PERCENTS).tolist(), abs=1e-4
    )


def test_the_change_of_inputs_has_the_noise_of_the_next_step(make_run, watched):
    run = make_run("preactivation-wrn-10-1", regime="all", seed=1)
    seen, outcome = watched(run, "inputs")
    rows = [row for row in outcome.recorded["inputs"] if row["layer"] == "relu"]  # after all dropout
    assert [row["step"] for row in rows] == list(seen) == [0, 3, 6]
    for row, (taken, one) in zip(rows, seen.items(), strict=True):
        means = []
        for network, step in ((one.network, taken), (one.twin(one.set), taken + 1)):
            noise = Noise(run.seed, torch.device("cpu"))
            noise.step.fill_(step)
            draw_from(noise, network)
            network.relu.register_forward_pre_hook(
                lambda _, given, means=means: means.append(given[0].detach().mean(dim=(0, 2, 3)))
            )
            network(one.images)
        means, changed = means
        assert row["mean_step"] == pytest.approx(float((changed - means).abs().mean()), rel=1e-3)


def test_the_gradient_shift_is_that_of_moving_the_layers_before(make_run, watched):
    run = make_run(regime="all", weight_decay=0.01)
    seen, outcome = watched(run, "gradient-shift")
    rows = outcome.recorded["gradient-shift"]
    layers = [*CONVOLUTIONS, "output"]
    assert [(row["step"], row["layer"]) for row in rows] == [
        (t, layer) for t in (0, 3, 6) for layer in layers
    ]
    at_old = {taken: one.gradients(one.twin()) for taken, one in seen.items()}
    for row in rows:
        one, layer = seen[row["step"]], row["layer"]
        assert row["number"] == layers.index(layer)
        moved = [
            name
            for convolution in layers[: row["number"]]
            for name in (
                f"{convolution}.weight",
                *(f"{CONVOLUTIONS[convolution]}.{key}" for key in ("weight", "bias")),
            )
        ]
        old, new = (
            {"": found[f"{layer}.weight"]} for found in (at_old[row["step"]], one.gradients(one.twin(moved)))
        )
        assert row["norm"] == pytest.approx(float(flat(old).norm()), rel=1e-4)
        assert row["shift"] == pytest.approx(distance(old, new), rel=1e-3, abs=1e-6)
        assert row["relative"] == pytest.approx(row["shift"] / row["norm"])
        assert row["cosine"] == pytest.approx(cosine(old, new), abs=1e-4)
        assert (row["shift"] > 1e-3) == (row["number"] > 0)


def test_the_landscape_is_that_of_the_loss_along_its_directions(make_run, watched):
    run = make_run(regime="all", weight_decay=0.01, seed=2)
    seen, outcome = watched(run, "landscape")
    rows = outcome.recorded["landscape"]
    grid = [(t, d, f) for t in (0, 3, 6) for d in ("gradient", "random-1") for f in (0, 0.5, 4)]
    assert [(row["step"], row["direction"], row["factor"]) for row in rows] == grid
    at_old = {taken: one.gradients(one.twin()) for taken, one in seen.items()}
    for row in rows:
        one, gradients = seen[row["step"]], at_old[row["step"]]
        length, size = float(flat(gradients).norm()), row["factor"] * 0.1
        along = gradients
        if row["direction"] == "random-1":
            rng = generator(2, "landscape", row["step"], 1)
            drawn = {
                name: torch.from_numpy(rng.standard_normal(tuple(g.shape), dtype=np.float32)).double()
                for name, g in gradients.items()
            }
            along = {name: tensor * length / flat(drawn).norm() for name, tensor in drawn.items()}
        there = one.twin()
        with torch.no_grad():
            for name, direction in along.items():
                there.get_parameter(name).sub_(size * direction)
        found = one.gradients(there)
        change = distance(gradients, found)
        assert row["learning_rate"] == 0.1
        assert row["loss"] == pytest.approx(one.loss(there).item(), rel=1e-4)
        weights = flat(dict(there.named_parameters()))
        assert row["decay"] == pytest.approx(0.01 / 2 * float(weights @ weights), rel=1e-4)
        assert row["gradient_norm"] == pytest.approx(length, rel=1e-4)
        assert row["gradient_change"] == pytest.approx(change, rel=1e-3)
        assert row["cosine"] == pytest.approx(cosine(gradients, found), abs=1e-4)
        if row["factor"]:
            assert row["beta"] == pytest.approx(change / (size * length), rel=1e-3)
        else:
            assert row["beta"] is None


def test_the_landscape_of_a_weight_that_trains_through_a_function_is_that_of_the_weight(make_run, watched):
    run = replace(make_run(regime="all"), values=(("reparametrisation", "arctan-fine-2-1"),))
    seen, outcome = watched(run, "landscape")
    for row in outcome.recorded["landscape"][:2]:
        network = seen[0].twin()
        gradients = {n: g for n, g in seen[0].gradients(network).items() if ".psi." not in n}
        with torch.no_grad():
            for name, gradient in gradients.items():
                network.get_parameter(name).sub_(row["factor"] * 0.1 * gradient)
        weights = flat({n: p for n, p in network.named_parameters() if ".psi." not in n})
        assert row["loss"] == pytest.approx(seen[0].loss(network).item(), rel=1e-4)
        assert row["decay"] == pytest.approx(1e-4 / 2 * float(weights @ weights), rel=1e-4)


def test_the_identity_holds_in_float64_and_has_the_shares_that_batchnorm_subtracts(make_run, watched):
    seen, outcome = watched(make_run(regime="all"), "identity")
    rows = outcome.recorded["identity"]
    assert max(row["error"] for row in rows) < 1e-12
    for taken, one in seen.items():
        network, kept = one.twin(), {}

        def keep(layer, given, output, kept=kept):
            kept[layer] = given[0].detach(), output
            return output.clone()

        for layer in network.normalisations():
            layer.register_forward_hook(keep)
        loss = one.loss(network)
        for number, (name, layer) in enumerate(network.named_normalisations()):
            (row,) = (row for row in rows if (row["step"], row["layer"]) == (taken, name))
            assert row["number"] == number
            y, z = kept[layer]
            (g,) = torch.autograd.grad(loss, z, retain_graph=True)
            y, g = (tensor.transpose(0, 1).flatten(1) for tensor in (y, g))
            mean, sigma = mean_of(y)[:, None], variance_of(y)[:, None].sqrt()
            normalised, whole = (y - mean) / sigma, g.square().sum()
            mean_part, part = g.mean(dim=1, keepdim=True), (g * normalised).mean(dim=1, keepdim=True)
            count = y.shape[1]
            assert row["mean_share"] == pytest.approx(
                float(count * mean_part.square().sum() / whole), rel=1e-3
            )
            assert row["normalised_share"] == pytest.approx(
                float(count * part.square().sum() / whole), rel=1e-3
            )
            of_y = layer.weight[:, None] / sigma * (g - mean_part - normalised * part)
            ratio = of_y.detach().norm() / g.norm()
            assert row["ratio"] == pytest.approx(float(ratio), rel=1e-3)


def test_reestimated_statistics_are_those_of_the_training_images(few_digits, make_run, watched):
    run = make_run(regime="all", batch_size=100, epochs=None, steps=5, test_every=1, shift=0.2)
    seen, outcome = watched(run, "reestimated", {"epochs": [4, 2]})
    rows = outcome.recorded["reestimated"]
    assert [(row["epoch"], row["step"]) for row in rows] == [(2, 2), (2, 2), (4, 4), (4, 4)]
    tested = {row["step"]: row for row in outcome.rows if row["split"] == "test"}
    images, labels = next(few_digits.test_batches(70))
    training = few_digits.normalise(few_digits.train.images).double()
    for running, pooled in zip(rows[::2], rows[1::2], strict=True):
        assert (running["statistics"], pooled["statistics"]) == ("running", "pooled")
        taken = running["step"]
        assert all(running[key] == tested[taken][key] for key in ("loss", "top_1", "top_5"))
        network = seen[taken - 1].twin(seen[taken - 1].set)
        for layer in network.normalisations():
            layer.momentum = 1.0  # so that one batch of all images gives the statistics
        network(training)
        logits = network.eval()(images.double())
        assert pooled["loss"] == pytest.approx(F.cross_entropy(logits, labels).item(), rel=1e-4)
        assert pooled["top_1"] == pytest.approx(100 * float((logits.argmax(dim=1) == labels).double().mean()))


def test_generalisation_is_of_one_network_on_images_that_are_not_augmented(few_digits, make_run, watched):
    run = make_run(regime="all", batch_size=100, epochs=None, steps=5, test_every=1, shift=0.2)
    seen, outcome = watched(run, "generalisation", {"epochs": [2, 4]})
    rows = outcome.recorded["generalisation"]
    found = [(row["epoch"], row["step"], row["split"]) for row in rows]
    assert found == [(2, 2, "train"), (2, 2, "test"), (4, 4, "train"), (4, 4, "test")]
    tested = {(row["step"], row["split"]): row for row in outcome.rows}
    training, labels = few_digits.normalise(few_digits.train.images).double(), few_digits.train.labels
    for train_row, test_row in zip(rows[::2], rows[1::2], strict=True):
        taken, keys = train_row["step"], ("loss", "top_1", "top_5")
        assert all(test_row[key] == tested[taken, "test"][key] for key in keys)
        logits = seen[taken - 1].twin(seen[taken - 1].set).eval()(training)
        assert train_row["loss"] == pytest.approx(F.cross_entropy(logits, labels.long()).item(), rel=1e-4)
        right = (logits.argmax(dim=1) == labels).double().mean()
        assert train_row["top_1"] == pytest.approx(100 * float(right))
        assert train_row["loss"] != tested[taken, "train"]["loss"]  # of a batch, in training mode


def test_statistics_are_reestimated_in_the_runs_precision(few_digits, make_run, monkeypatch):
    seen, pooled = [], statistics.pooled

    def watching(*given):
        seen.append(torch.is_autocast_enabled("cpu"))
        return pooled(*given)

    monkeypatch.setattr(statistics, "pooled", watching)
    for precision in (torch.bfloat16, torch.float32):
        train(make_run(epochs=1), few_digits, precision=precision, recordings={"reestimated": {}})
    assert seen == [True, False]


@pytest.mark.parametrize(
    ("training", "expected"),
    [
        ({"epochs": 1}, [(1, 4)]),
        ({"epochs": 4}, [(1, 4), (2, 8), (4, 16)]),
        ({"epochs": None, "steps": 10}, [(1, 4), (2, 8), (3, 10)]),
    ],
)
def test_statistics_are_reestimated_after_the_first_the_middle_and_the_last_epoch(
    few_digits, make_run, training, expected
):
    outcome = train(make_run(**training), few_digits, recordings={"reestimated": {}})
    rows = outcome.recorded["reestimated"]
    assert [(row["epoch"], row["step"]) for row in rows[::2]] == expected


def test_what_a_network_does_not_have_is_not_recorded(few_digits, make_run):
    def recorded(name, regime="all", **values):
        run = replace(make_run(regime=regime, epochs=1), values=tuple(values.items()))
        return train(run, few_digits, recordings={name: RECORDINGS[name]}).recorded[name]

    assert recorded("gradient-shift", "batchnorm") == []
    assert {row["layer"] for row in recorded("gradient-shift", "batchnorm+output")} == {"output"}
    assert {row["layer"] for row in recorded("gradient-shift", "random-2")} == set()
    assert recorded("identity", normalisation="none") == []
    both = {"l1": 2, "ghost-4": 2, "batchnorm-noisy": 2, "layernorm": 1, "none": 1}
    for name, count in both.items():
        assert len(recorded("reestimated", normalisation=name)) == count
    frozen = recorded("identity", "output")  # no gradient reaches BatchNorm
    assert frozen == []
    assert len(recorded("landscape", "random-2")) == 2 * 2 * 3


def test_a_recording_of_a_diverged_run_is_valid_to_its_last_row(few_digits, make_run, tmp_path):
    run = make_run(regime="all", learning_rate=1e30, epochs=2)
    outcome = train(run, few_digits, recordings=RECORDINGS)
    saving.save(tmp_path, run, outcome, few_digits, SETTINGS)
    for name in RECORDINGS:
        assert pq.read_table(tmp_path / f"{name}.parquet").num_rows == len(outcome.recorded[name]) > 0
    assert json.loads((tmp_path / "run.json").read_text())["status"] == "diverged"


def test_a_channel_that_is_constant_does_not_hide_the_identity_of_the_others():
    from onlybn.observers.identity import _compared

    layer = nn.BatchNorm2d(3)
    rng = torch.Generator().manual_seed(0)
    y, gradient = (torch.randn(4, 3, 5, 5, generator=rng) for _ in range(2))
    whole = _compared(y[:, :2], gradient[:, :2], nn.BatchNorm2d(2))
    y[:, 2] = 7 + 1e-7 * y[:, 2]
    assert _compared(y, gradient, layer) == pytest.approx(whole, abs=1e-12)
    assert set(_compared(y, 0 * gradient, layer).values()) == {None}
