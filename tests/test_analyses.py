"""Analyses of networks with known answers, and what they must not change."""

from dataclasses import replace
from importlib import import_module

import pytest
import torch
from torch import nn

from onlybn.analyses import ANALYSES, activations, clamping
from onlybn.datasets.small import Split
from onlybn.models.network import Network, Place
from onlybn.networks.draw import draw
from onlybn.networks.state import learned
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.evaluation import TEST_BATCH, evaluate


class HandMade(Network):
    """One BatchNorm that shifts each of three channels by β, and one ReLU that is called twice."""

    def __init__(self):
        super().__init__()
        self.batchnorm = nn.BatchNorm2d(3, eps=1e-30)
        self.batchnorm.bias.data = torch.tensor([-0.5, 0.0, 1.0])
        self.relu = nn.ReLU()
        self.output = nn.Linear(3, 2)

    def forward(self, images):
        first = self.relu(self.batchnorm(images.expand(-1, 3, -1, -1)))
        return self.output(self.relu(first - 0.6).mean(dim=(2, 3)))

    def normalisation_places(self):
        return {self.batchnorm: Place(0, 0, "stem")}

    def relu_places(self):
        return {self.relu: [Place(0, 0, "stem"), Place(1, 1, "addition")]}

    def shortcut_convolutions(self):
        return []


@pytest.fixture
def four_pixels(digits):
    """Two images of 2×2 pixels, 0 or 1 once normalised: five are 0 and three are 1."""
    pixels = torch.tensor([[[0, 0], [0, 1]], [[0, 1], [1, 0]]], dtype=torch.uint8)[..., None]
    split = Split(pixels, torch.tensor([0, 1]))
    return replace(digits, train=split, test=split, mean=[0.0], std=[1 / 255])


@pytest.mark.parametrize("batch_size", [1, 2])
def test_activations_are_counted_exactly_over_images_and_pixels(four_pixels, batch_size, monkeypatch):
    monkeypatch.setitem(TEST_BATCH, "cpu", batch_size)
    table = activations.activations(HandMade(), four_pixels).to_pydict()
    # Channels add −0.5, 0 and 1 before the first ReLU; the second subtracts 0.6 more.
    assert table["zeros"] == [5, 5, 0, 8, 5, 0]
    assert table["activations"] == [8] * 6
    assert table["off"] == [0.625, 0.625, 0.0, 1.0, 0.625, 0.0]
    assert table["position"] == ["stem"] * 3 + ["addition"] * 3
    assert table["relu"] == [0, 0, 0, 1, 1, 1]


def test_activations_have_a_row_per_channel_of_every_relu(few_digits, make_run):
    network, _ = draw(make_run("resnet-14"), channels=1, classes=10)
    table = activations.activations(network, few_digits)
    assert table.num_rows == 16 + 2 * (2 * 16 + 2 * 32 + 2 * 64)
    positions = table["position"].to_pylist()
    assert positions.count("inside") == positions.count("addition") == 2 * (16 + 32 + 64)
    assert table["activations"].to_pylist()[0] == 70 * 8 * 8


def test_clamping_sets_gammas_strictly_below_the_threshold_to_0(few_digits, make_run):
    network, _ = draw(make_run(), channels=1, classes=10)
    for layer in network.normalisations():
        layer.weight.data.fill_(0.5)
        layer.bias.data.fill_(0.25)
    network.batchnorm.weight.data[:4] = torch.tensor([0.009, -0.009, 0.01, 0.02])
    table = clamping.clamping(network, few_digits, thresholds=(0.01, 0.05)).to_pydict()
    assert table["clamped"] == [2, 4, 2, 4]
    assert table["channels"][0] == 336
    assert table["beta_too"] == [False, False, True, True]

    def by_hand(count, beta):
        clamped, _ = draw(make_run(), channels=1, classes=10)
        clamped.load_state_dict(network.state_dict())
        clamped.batchnorm.weight.data[:count] = 0
        if beta:
            clamped.batchnorm.bias.data[:count] = 0
        return evaluate(clamped, few_digits)["loss"]

    assert table["loss"] == [by_hand(2, False), by_hand(4, False), by_hand(2, True), by_hand(4, True)]
    assert table["loss_unclamped"] == [by_hand(0, False)] * 4


@pytest.mark.parametrize("analysis", ANALYSES)
def test_an_analysis_does_not_change_the_network(analysis, few_digits, make_run):
    network, _ = draw(make_run(), channels=1, classes=10)
    before = {name: tensor.clone() for name, tensor in learned(network).items()}
    table = getattr(import_module(f"onlybn.analyses.{analysis}"), analysis)(network, few_digits)
    assert all(torch.equal(tensor, before[name]) for name, tensor in learned(network).items())
    assert table.schema == SCHEMAS[analysis]
    assert not any(layer._forward_hooks or layer._forward_pre_hooks for layer in network.modules())
