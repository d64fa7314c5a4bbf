"""Static graphs: they give the same bits as the network's modules, and are used only where they apply."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from onlybn import axes
from onlybn.models.batchnorm import normalise
from onlybn.networks.draw import draw
from onlybn.networks.state import learned
from onlybn.study import Run
from onlybn.training import static_graph
from onlybn.training.forward import Forward
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train
from onlybn.training.optimisers import SGD

BFLOAT16 = torch.bfloat16
supported = pytest.mark.skipif(not static_graph.is_supported(), reason="oneDNN has no bfloat16 here")
FAMILIES = ("resnet-14", "wrn-14-2", "vgg-11")
REGIMES = (
    "all",
    "no-affine",
    "batchnorm",
    "output",
    "batchnorm+output",
    "batchnorm+output+shortcut",
    "gamma",
    "beta",
    "random-2",
)


def first_and_last(network, seed):
    """Train only the first convolution, whose gradient passes through everything."""
    return network.convolutions()[0].parameters()


def biases(network, seed):
    """Train β and the biases of convolutions whose weights are frozen."""
    return [
        layer.bias for layer in [*network.convolutions(), *network.normalisations()] if layer.bias is not None
    ]


def trained(run: Run, images, *, by_modules: bool) -> list[torch.Tensor]:
    """Train five steps of 32, of 4 and again of 32 images, and test; return all results."""
    live = LiveRun(run, images, BFLOAT16)
    assert live.forward.static is not None
    if by_modules:
        live.forward.static = None
    live.network.train()
    for _ in range(5):
        batch, labels = live.next_batch()
        live.step(batch, labels, len(labels), 0.1)
        live.step_ended()
    sums = live.measures.sums.clone()
    live.test(0.1)
    measured = [torch.tensor([row["loss"], row["top_1"]]) for row in live.rows]
    return [*learned(live.network).values(), *live.optimiser.buffers, sums, *measured]


def assert_same_bits(run: Run, images) -> None:
    by_modules, static = (trained(run, images, by_modules=flag) for flag in (True, False))
    assert len(static) == len(by_modules)
    for one, other in zip(static, by_modules, strict=True):
        assert torch.equal(one, other)


@supported
@pytest.mark.parametrize("regime", REGIMES)
@pytest.mark.parametrize("architecture", FAMILIES)
def test_training_gives_the_same_bits_as_the_networks_modules(architecture, regime, few_digits, make_run):
    if architecture == "vgg-11" and regime == "batchnorm+output+shortcut":
        pytest.skip("a VGG has no shortcuts")
    assert_same_bits(make_run(architecture, regime, weight_decay=0.01), few_digits)


@supported
def test_training_a_vgg_of_half_width_gives_the_same_bits_as_its_modules(few_digits, make_run):
    assert_same_bits(make_run("vgg-8-half", "all", weight_decay=0.01), few_digits)


def test_a_vgg_with_sigmoids_is_computed_with_sigmoids_in_bfloat16(make_run):
    network, _ = draw(make_run("vgg-8-sigmoid", "all"), channels=1, classes=10)
    network.to(memory_format=torch.channels_last)
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    exact = network(images)
    found = Forward(network, network, BFLOAT16, images.shape)(images).float()
    assert (found - exact).norm() < 0.1 * exact.norm()


@supported
@pytest.mark.parametrize("regime", ["first_and_last", "biases"])
@pytest.mark.parametrize("architecture", FAMILIES)
def test_the_same_bits_whatever_part_trains(architecture, regime, few_digits, make_run):
    assert_same_bits(make_run(architecture, f"{__name__}:{regime}"), few_digits)


@supported
@pytest.mark.parametrize("regime", ["all", "batchnorm+output+shortcut"])
def test_the_same_bits_for_parametrised_weights(regime, few_digits, make_run):
    run = replace(make_run("resnet-8", regime), values=((axes.REPARAMETRISATION.name, "linear-2"),))
    assert_same_bits(run, few_digits)


@supported
def test_the_same_bits_for_weights_too_large_to_pack(few_digits, make_run, monkeypatch):
    monkeypatch.setattr(static_graph, "_PACKED", 0)
    assert_same_bits(make_run("resnet-14", "batchnorm"), few_digits)


@supported
def test_the_same_bits_on_images_of_three_channels_and_odd_size(make_run, few_digits):
    network, _ = draw(make_run("resnet-14", "batchnorm"), channels=3, classes=10)
    network.to(memory_format=torch.channels_last)
    images = torch.randn(6, 3, 13, 9).to(memory_format=torch.channels_last)
    outputs = []
    for by_modules in (True, False):
        forward = Forward(network, network, BFLOAT16, images.shape)
        assert forward.static
        forward(images, by_modules=by_modules).float().square().sum().backward()
        outputs.append([p.grad for p in network.parameters() if p.requires_grad])
        for parameter in network.parameters():
            parameter.grad = None
    assert all(torch.equal(one, other) for one, other in zip(*outputs, strict=True))


def graph_of(run, precision=BFLOAT16, channels=1, size=8):
    network, _ = draw(run, channels=channels, classes=10, size=size)
    return Forward(network, network, precision, (4, channels, size, size)).static


@supported
def test_it_is_used_only_for_bfloat16_on_one_thread(make_run):
    assert graph_of(make_run())
    assert graph_of(make_run(), torch.float32) is None
    torch.set_num_threads(2)
    try:
        assert graph_of(make_run()) is None
    finally:
        torch.set_num_threads(1)


class Own(nn.Module):
    """A custom network, though of operations that a static graph supports."""

    def __init__(self, classes: int, channels: int):
        super().__init__()
        self.convolution = nn.Conv2d(channels, 8, 3, padding=1)
        self.batchnorm, self.relu = nn.BatchNorm2d(8), nn.ReLU()
        self.output = nn.Linear(8, classes)

    def forward(self, images):
        x = normalise(self.convolution(images), self.batchnorm, self.relu)
        return self.output(x.mean(dim=(2, 3)))


def own(*, channels, classes):
    return Own(classes, channels)


def test_an_unsupported_network_is_computed_by_its_modules(make_run, few_digits):
    without = replace(make_run(regime="all"), values=((axes.NORMALISATION.name, "none"),))
    assert graph_of(without) is None
    assert graph_of(make_run("imagenet-resnet-18"), channels=3, size=32) is None
    assert graph_of(make_run("vgg-8-sigmoid")) is None
    assert graph_of(make_run("mlp-8-8")) is None
    assert graph_of(replace(make_run(), architecture=f"{__name__}:own")) is None


def test_on_a_processor_without_bfloat16_a_network_is_computed_by_its_modules(
    few_digits, make_run, monkeypatch
):
    monkeypatch.setattr(static_graph, "is_supported", lambda: False)
    assert graph_of(make_run()) is None
    assert train(make_run(regime="all", epochs=1), few_digits, precision=BFLOAT16).diverged is None


def test_a_hook_on_a_module_sees_every_step(few_digits, make_run):
    run, heard = make_run(epochs=3), []

    def listen(live):
        if live.taken == live.steps_per_epoch:
            live.network.relu.register_forward_hook(lambda *_: heard.append(live.network.training))

    train(run, few_digits, precision=BFLOAT16, report=listen)
    assert heard.count(True) == 2 * 4


@pytest.mark.parametrize("regime", ["batchnorm", "output"])
def test_frozen_weights_that_were_rounded_once_give_the_same_bits(regime, few_digits, make_run):
    torch.set_num_threads(2)
    try:
        network, _ = draw(make_run("vgg-11", regime), channels=1, classes=10)
        forward = Forward(network, network, BFLOAT16, (4, 1, 8, 8))
        assert any(name.startswith("output") for name in forward.rounded) == (regime == "batchnorm")
        images = torch.randn(4, 1, 8, 8)
        once = forward(images)
        forward.rounded = {}
        assert torch.equal(once, forward(images))
    finally:
        torch.set_num_threads(1)


def test_sgd_in_one_pass_gives_the_same_bits():
    draw = torch.Generator().manual_seed(0)
    shapes = [(16,), (1,), (8, 3, 3, 3), (10, 37), (4099,)]
    parameters = [
        [nn.Parameter(torch.randn(shape, generator=draw.manual_seed(i))) for i, shape in enumerate(shapes)]
        for _ in range(2)
    ]
    parameters[0][2].data = parameters[0][2].data.to(memory_format=torch.channels_last)
    by_pass = [
        SGD(some, momentum=0.9, weight_decay=0.01, in_one_pass=flag)
        for some, flag in zip(parameters, (True, False), strict=True)
    ]
    for step in range(5):
        for i, pair in enumerate(zip(*parameters, strict=True)):
            gradient = torch.randn(pair[0].shape, generator=draw.manual_seed(100 * step + i))
            for parameter in pair:
                parameter.grad = gradient.clone()
        for optimiser in by_pass:
            optimiser.step(0.1 / (step + 1))
    for one, other in zip(*parameters, strict=True):
        assert torch.equal(one, other)
    assert all(torch.equal(*pair) for pair in zip(*(optimiser.buffers for optimiser in by_pass), strict=True))
