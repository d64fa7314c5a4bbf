"""Exported networks: folded and pruned ones, and those read from files, give the same logits."""

import json
import re
from dataclasses import replace

import forked
import pytest
import torch
from checkout import ROOT
from safetensors import safe_open
from torch import nn

import onlybn
from onlybn.axes import NORMALISATION
from onlybn.errors import UserError
from onlybn.exporting.dataflow import surroundings
from onlybn.exporting.export import export
from onlybn.exporting.fold import fold
from onlybn.exporting.prune import Pruned, clamp, prune
from onlybn.models.batchnorm import normalise
from onlybn.networks.draw import draw
from onlybn.runs import saving
from onlybn.training.loop import train

ALIASED = "fakes.networks:Aliased"  # its BatchNorm has two names
# The layers that are folded, and those that stay.
FOLDED = {
    "resnet-8": (9, 0),
    "vgg-8-half": (5, 0),
    "vgg-8-half-sigmoid": (5, 0),
    "mlp-20-10": (2, 0),
    "preactivation-wrn-10-1": (3, 4),  # behind an addition
    "imagenet-resnet-18-3x3": (20, 0),
    "imagenet-resnet-50-3x3": (53, 0),
    f"{__name__}:twice": (1, 1),
    f"{__name__}:halved": (1, 0),
    ALIASED: (1, 0),
}
# The layers whose channels only linear maps behind a ReLU read.
PRUNABLE = {"resnet-8": 3, "vgg-8-half": 5, "vgg-8-half-sigmoid": 0, "mlp-20-10": 2}
PRUNABLE |= {"preactivation-wrn-10-1": 7, "imagenet-resnet-18-3x3": 8, "imagenet-resnet-50-3x3": 33}
PRUNABLE |= {f"{__name__}:twice": 1, f"{__name__}:halved": 0, ALIASED: 1}


class Twice(nn.Module):
    """A custom network in which BatchNorm shares the output of its convolution with an addition."""

    def __init__(self, channels, classes):
        super().__init__()
        self.first, self.second = nn.Conv2d(channels, 6, 3, padding=1), nn.Conv2d(6, 6, 3, padding=1)
        self.batchnorm_1, self.batchnorm_2 = nn.BatchNorm2d(6), nn.BatchNorm2d(6)
        self.relu_1, self.relu_2 = nn.ReLU(), nn.ReLU()
        self.output = nn.Linear(6, classes)

    def forward(self, images):
        x = self.first(images)
        y = normalise(x, self.batchnorm_1, self.relu_1)
        y = normalise(self.second(y), self.batchnorm_2, self.relu_2) + x
        return self.output(y.mean(dim=(2, 3)))


class Halved(nn.Module):
    """A custom network whose channels are split in two halves."""

    def __init__(self, channels, classes):
        super().__init__()
        self.convolution, self.batchnorm = nn.Conv2d(channels, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.relu, self.output = nn.ReLU(), nn.Linear(3, classes)

    def forward(self, images):
        one, other = normalise(self.convolution(images), self.batchnorm, self.relu).chunk(2, dim=1)
        return self.output((one - other).mean(dim=(2, 3)))


def halved(channels, classes):
    return Halved(channels, classes)


def twice(channels, classes):
    return Twice(channels, classes)


@pytest.fixture
def drawn(make_run):
    """Return a network in float64 as if trained, and images; γ and β have both signs, and some γ are 0."""

    def make(architecture, normalisation=NORMALISATION.default):
        values = ((NORMALISATION.name, normalisation),) * (normalisation != NORMALISATION.default)
        run = replace(make_run(architecture, "all"), values=values)
        network, _ = draw(run, channels=3, classes=10, size=8)
        rng = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for layer in network.normalisations():
                for tensor in (layer.weight, layer.bias, *layer.buffers()):
                    if tensor.is_floating_point():
                        tensor.uniform_(-1, 1, generator=rng)
                for name, buffer in layer.named_buffers():
                    if name == "running_var":
                        buffer.abs_()
        images = torch.randn((4, 3, 8, 8), generator=rng, dtype=torch.float64)
        return network.double().eval(), images

    return make


def assert_same_logits(network, images, expected):
    found = network(images)
    assert (found - expected).abs().max() < 1e-10 * expected.abs().max()


@pytest.mark.parametrize("architecture", FOLDED)
@torch.no_grad()
def test_a_folded_network_gives_the_same_logits(architecture, drawn):
    network, images = drawn(architecture)
    expected = network(images)
    assert fold(network, images[:1]) == FOLDED[architecture]
    assert_same_logits(network, images, expected)


@pytest.mark.parametrize("architecture", PRUNABLE)
@torch.no_grad()
def test_a_pruned_network_gives_the_same_logits_and_is_smaller(architecture, drawn):
    network, images = drawn(architecture)
    clamp(network, 0.5)
    expected, whole = network(images), sum(p.numel() for p in network.parameters())
    layers = network.normalisations()
    zero = [(layer.weight == 0, layer.bias > 0) for layer in layers]
    prunable = {found.layer for found in surroundings(network, images[:1]) if found.before and found.after}
    removed = sum(
        int((none & ~above).sum())
        for (none, above), layer in zip(zero, layers, strict=True)
        if layer in prunable
    )
    counts = prune(network, images[:1])
    assert counts == Pruned(
        channels=sum(len(none) for none, _ in zero),
        zero=sum(int(none.sum()) for none, _ in zero),
        removed=removed,
        constant=sum(int((none & above).sum()) for none, above in zero),
    )
    after = [found for found in surroundings(network, images[:1]) if found.after]
    assert len(after) == PRUNABLE[architecture]
    assert_same_logits(network, images, expected)
    assert (sum(p.numel() for p in network.parameters()) < whole) == (removed > 0) == bool(prunable)
    fold(network, images[:1])
    assert_same_logits(network, images, expected)


@torch.no_grad()
def test_a_layer_whose_channels_are_all_0_keeps_one(drawn):
    network, images = drawn("resnet-8")
    inside = network.stages[1][0]
    inside.batchnorm_1.weight.zero_()
    inside.batchnorm_1.bias.fill_(-1)
    inside.batchnorm_1.bias[5] = 0.5  # a constant, which stays
    expected = network(images)
    assert prune(network, images[:1]).removed == 31
    assert tuple(inside.convolution_1.weight.shape) == (1, 16, 3, 3)
    assert tuple(inside.convolution_2.weight.shape) == (32, 1, 3, 3)
    assert_same_logits(network, images, expected)
    inside.batchnorm_1.bias.fill_(-1)
    assert prune(network, images[:1]).removed == 0


@pytest.mark.parametrize("normalisation", ["layernorm", "none", "l2", "batchnorm-after"])
@torch.no_grad()
def test_what_is_not_batchnorm_right_behind_a_convolution_stays(normalisation, drawn):
    network, images = drawn("vgg-8-half", normalisation)
    expected, layers = network(images), len(network.normalisations())
    assert fold(network, images[:1]) == (0, layers)
    assert torch.equal(network(images), expected)


# files


@pytest.fixture
def run(make_run, few_digits, tmp_path):
    run = make_run(regime="batchnorm", epochs=1, shift=0)
    outcome = train(run, few_digits)
    saving.save(tmp_path / "run", run, outcome, few_digits, {"processes": 1, "precision": "float32"})
    return tmp_path / "run"


def test_a_run_that_trained_single_entries_is_folded_and_pruned_as_an_ordinary_network(
    make_run, few_digits, tmp_path
):
    run = make_run(regime="random-2", epochs=1, shift=0)
    outcome = train(run, few_digits)
    saving.save(tmp_path / "run", run, outcome, few_digits, {"processes": 1, "precision": "float32"})
    network = onlybn.load(tmp_path / "run")
    assert not any("parametrizations" in name for name in network.state_dict())
    trained = {name: t for name, t in outcome.network.state_dict().items() if "parametrizations" not in name}
    assert {name: network.state_dict()[name].tolist() for name in trained} == {
        name: tensor.tolist() for name, tensor in trained.items()
    }
    for (name, layer), (_, own) in zip(
        network.named_layers(nn.Conv2d), outcome.network.named_layers(nn.Conv2d), strict=True
    ):
        assert torch.equal(layer.weight, own.weight), name
    lines = export(tmp_path / "run", tmp_path / "a.safetensors", folds=True, threshold=None)
    assert lines[1].startswith("folded: 9 BatchNorm layers into what is right before them; ")


def test_a_file_of_tensors_is_the_whole_network_and_says_how_images_are_normalised(run, tmp_path, few_digits):
    (first, last) = export(run, tmp_path / "out" / "a.safetensors", folds=False, threshold=None)
    assert first == "resnet-8 batchnorm seed 0"
    assert re.fullmatch(r".*/a\.safetensors: 77,754 parameters, 3\d\d kB", last)
    network = onlybn.load(run)
    with safe_open(tmp_path / "out" / "a.safetensors", "pt") as file:
        assert set(file.keys()) == set(network.state_dict())
        assert all(torch.equal(file.get_tensor(name), t) for name, t in network.state_dict().items())
        facts = json.loads(file.metadata()["onlybn"])
    expected = {"architecture": "resnet-8", "mean": few_digits.mean, "std": few_digits.std, "size": 8}
    assert facts == facts | expected | {"folded": False, "pruned_at": None}
    export(run, tmp_path / "out" / "b.safetensors", folds=False, threshold=None)
    files = [(tmp_path / "out" / name).read_bytes() for name in ("a.safetensors", "b.safetensors")]
    assert files[0] == files[1]


@pytest.mark.filterwarnings("ignore:The given buffer is not writable")
def test_a_program_maps_pixels_from_0_to_1_to_the_networks_logits(run, tmp_path, few_digits):
    told = export(run, tmp_path / "a.pt2", folds=True, threshold=0.0)
    assert told[1].startswith("pruned at 0: 0 of ")
    assert re.fullmatch(r"\d+\.\d\d times as fast as before pruning", told[2])
    assert told[3].startswith(
        "folded: 9 BatchNorm layers into what is right before them; the logits of 128 random images differ by"
    )
    pixels = few_digits.test.images.permute(0, 3, 1, 2).float() / 255
    with torch.no_grad():
        expected = onlybn.load(run)(few_digits.normalise(few_digits.test.images))
        program = torch.export.load(tmp_path / "a.pt2").module()
        found, one = program(pixels), program(pixels[:1])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(one, expected[:1], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("file", "threshold", "sentence"),
    [
        ("a.txt", None, "a.txt has no known ending; allowed: .safetensors, .pt2, .onnx"),
        ("a.pt2", -1.0, "export: --prune: -1 is not a threshold of at least 0"),
        ("a.pt2", float("nan"), "export: --prune: nan is not a threshold"),
        ("run/state.safetensors", None, "run is the folder of a run; write state.safetensors elsewhere"),
    ],
)
def test_what_cannot_be_exported_is_one_sentence(run, tmp_path, file, threshold, sentence):
    with pytest.raises(UserError, match=re.escape(sentence)):
        export(run, tmp_path / file, folds=False, threshold=threshold)
    assert onlybn.load(run)


def test_a_network_whose_logits_would_change_is_not_exported(run, tmp_path, monkeypatch):
    def wrong(network, images):
        with torch.no_grad():
            network.output.weight.mul_(1.01)
        return 1, 0

    monkeypatch.setattr("onlybn.exporting.export.fold", wrong)
    with pytest.raises(UserError, match=r"differ by at most .*; this network can only be exported as it is$"):
        export(run, tmp_path / "a.pt2", folds=True, threshold=None)
    assert not (tmp_path / "a.pt2").exists()


def test_the_format_onnx_names_the_packages_that_it_needs(run, tmp_path, monkeypatch):
    monkeypatch.setattr("onlybn.exporting.export.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"needs onnx and onnxscript; pip install onnx onnxscript$"):
        export(run, tmp_path / "a.onnx", folds=False, threshold=None)


def test_the_command_exports_a_committed_network_or_says_what_is_missing(tmp_path):
    run = "results/reference/networks/resnet-14-batchnorm-seed-2"
    file = str(tmp_path / "a.safetensors")
    done = forked.python_m("onlybn", "export", run, file, "--prune", "0.01", "--fold", folder=ROOT)
    assert done.returncode == 0, done.stderr
    assert (
        "pruned at 0.01: 101 of 560 channels removed, of 132 with γ = 0; 4 of these have β > 0 and stay;"
        in (done.stdout)
    )
    assert ": 96,117 parameters, " in done.stdout
    for missing in ("nowhere", f"{run}/run.json"):
        done = forked.python_m("onlybn", "export", missing, file, folder=ROOT)
        assert done.returncode == 1
        assert done.stderr == f"error: {missing}/run.json is missing: {missing} holds no finished run\n"
