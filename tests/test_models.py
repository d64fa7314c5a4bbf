"""Architectures: the exact counts of Table 1, and the structure behind them."""

import pytest
import torch
from torch import nn

from onlybn.models import architecture, build
from onlybn.networks.regimes import apply
from onlybn.networks.variants import DEFAULT, initialise

# network: all, BatchNorm, output, shortcut convolutions (Table 1)
TABLE_1 = {
    "resnet-14": (175_258, 1_120, 650, 2_560),
    "resnet-32": (466_906, 2_464, 650, 2_560),
    "resnet-56": (855_770, 4_256, 650, 2_560),
    "resnet-110": (1_730_714, 8_288, 650, 2_560),
    "resnet-218": (3_480_602, 16_352, 650, 2_560),
    "resnet-434": (6_980_378, 32_480, 650, 2_560),
    "resnet-866": (13_979_930, 64_736, 650, 2_560),
    "wrn-14-2": (696_618, 2_240, 1_290, 10_240),
    "wrn-14-4": (2_777_674, 4_480, 2_570, 40_960),
    "wrn-14-8": (11_093_130, 8_960, 5_130, 163_840),
    "wrn-14-16": (44_337_418, 17_920, 10_250, 655_360),
    "wrn-14-32": (177_279_498, 35_840, 20_490, 2_621_440),
}
IMAGENET = {
    "imagenet-resnet-18": (11_689_512, 9_600, 513_000, 172_032),
    "imagenet-resnet-34": (21_797_672, 17_024, 513_000, 172_032),
    "imagenet-resnet-50": (25_557_032, 53_120, 2_049_000, 2_768_896),
    "imagenet-resnet-101": (44_549_160, 105_344, 2_049_000, 2_768_896),
    "imagenet-resnet-200": (64_673_832, 176_000, 2_049_000, 2_768_896),
}
# Not in the paper's table; VGG-16's total is the known one for CIFAR-10 with BatchNorm.
VGG = {
    "vgg-11": (9_231_114, 5_504, 5_130, 0),
    "vgg-13": (9_416_010, 5_888, 5_130, 0),
    "vgg-16": (14_728_266, 8_448, 5_130, 0),
    "vgg-19": (20_040_522, 11_008, 5_130, 0),
}


@pytest.mark.parametrize("name", [*TABLE_1, *IMAGENET, *VGG])
def test_parameter_counts_are_those_of_table_1(name):
    counts = build(name, channels=3, classes=1000 if name in IMAGENET else 10).parameter_counts()
    assert tuple(counts.values()) == (TABLE_1 | IMAGENET | VGG)[name]


@pytest.mark.parametrize(
    "name", ["resnet-14", "wrn-14-2", "vgg-13", "imagenet-resnet-18", "imagenet-resnet-50"]
)
def test_every_batchnorm_and_every_call_of_a_relu_has_a_place(name):
    network = build(name, channels=3, classes=10)
    initialise(network, DEFAULT, seed=0)
    places = network.normalisation_places()
    assert set(places) == set(network.normalisations())
    assert len(set(places.values())) == len(places)
    calls = {}
    for relu in network.relu_places():
        relu.register_forward_hook(lambda relu, *_: calls.update({relu: calls.get(relu, 0) + 1}))
    network(torch.zeros(2, 3, 32, 32))
    assert calls == {relu: len(places) for relu, places in network.relu_places().items()}
    assert {m for m in network.modules() if isinstance(m, nn.ReLU)} == set(calls)


def test_a_vgg_stops_pooling_at_1_by_1_for_small_images():
    network = build("vgg-11", channels=1, classes=10)
    initialise(network, DEFAULT, seed=0)
    sizes = []
    for stage in network.stages:
        stage.register_forward_hook(lambda stage, inputs, output: sizes.append(tuple(output.shape[2:])))
    network(torch.zeros(2, 1, 8, 8))
    network(torch.zeros(2, 1, 32, 32))
    assert sizes == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 9, 32])
def test_images_of_any_size_give_a_logit_per_class(channels, side):
    network = build("resnet-8", channels=channels, classes=7)
    initialise(network, DEFAULT, seed=0)
    assert network(torch.zeros(2, channels, side, side)).shape == (2, 7)


def test_only_the_first_blocks_of_stages_2_and_3_stride_and_have_shortcuts():
    network = build("resnet-20", channels=3, classes=10)
    strided = [layer for layer in network.convolutions() if layer.stride == (2, 2)]
    assert len(strided) == 4  # a 3×3 and a 1×1 in each
    assert [block.shortcut is not None for stage in network.stages for block in stage] == [
        *(False, False, False),
        *(True, False, False),
        *(True, False, False),
    ]
    assert all(block.convolution_1.stride == (1, 1) for block in network.stages[0])


@pytest.mark.parametrize(
    "name",
    ["resnet-15", "resnet-2", "resnet-", "resnet--14", "wrn-14-0", "wrn-20-2", "resnet-014", "", "vgg-12"],
)
def test_a_wrong_name_is_rejected_in_one_sentence(name):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        architecture(name)


def test_the_nearest_depths_are_suggested():
    with pytest.raises(ValueError, match=r"6n \+ 2 layers, such as resnet-14 or resnet-20"):
        architecture("resnet-15")


def test_counts_cover_the_whole_network_even_if_only_chosen_weights_are_parameters():
    network = build("resnet-14", channels=3, classes=10)
    before = network.parameter_counts()
    initialise(network, DEFAULT, 0)
    apply(network, "random-2", 0)
    assert network.parameter_counts() == before
