"""Architectures: the exact counts of Table 1, and the structure behind them."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from onlybn.analyses.activations import activations
from onlybn.analyses.clamping import clamping
from onlybn.axes import NORMALISATION
from onlybn.datasets import DATASETS
from onlybn.models import architecture, build
from onlybn.models.dropout import Dropout
from onlybn.models.preactivation import PreactivationBlock
from onlybn.networks.draw import build as built
from onlybn.networks.regimes import REGIMES, apply, needs_affine
from onlybn.networks.variants import DEFAULT, initialise
from onlybn.networks.work import work
from onlybn.training.loop import train

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
# The networks of Weight Compander: all parameters for 10 classes and for 100; weights of convolutions and
# linear layers for 10 classes, and the number of these layers; BatchNorm (COMPANDER.md's table).
COMPANDER = {
    "imagenet-resnet-18-3x3": (11_173_962, 11_220_132, 11_164_352, 21, 9_600),
    "imagenet-resnet-34-3x3": (21_282_122, 21_328_292, 21_265_088, 37, 17_024),
    "imagenet-resnet-50-3x3": (23_520_842, 23_705_252, 23_467_712, 54, 53_120),
    "preactivation-wrn-28-10": (36_479_194, 36_536_884, 36_461_232, 29, 17_952),
    "vgg-16-head-512": (15_253_578, 15_299_748, 15_239_872, 16, 8_448),
    "vgg-16-head-4096": (33_646_666, 34_015_396, 33_625_792, 16, 8_448),
    "vgg-19-head-512": (20_565_834, 20_612_004, 20_548_288, 19, 11_008),
    "vgg-19-head-4096": (38_958_922, 39_327_652, 38_934_208, 19, 11_008),
}
# A small network of each of its families.
COMPANDERS_FAMILIES = ["imagenet-resnet-18-3x3", "preactivation-wrn-10-1", "vgg-11-head-512"]
# The networks of the papers on BatchNorm's mechanisms, for 28×28 grey images, or for vectors of 10.
MECHANISMS = {
    "mlp-100-100-100": (784 * 100 + 100 + 2 * (100 * 100 + 100) + 100 * 10 + 10 + 600, 600, 1_010),
    "mlp-100-100-100-sigmoid": (99_710 + 600, 600, 1_010),
    "mlp-7": (784 * 7 + 7 + 14 + 7 * 10 + 10, 14, 80),
    "vgg-8": (9 * (64 + 64 * 128 + 128 * 256 + 256 * 512 + 512 * 512) + 3 * 1_472 + 5_130, 2_944, 5_130),
    "vgg-8-half": (9 * (32 + 32 * 64 + 64 * 128 + 128 * 256 + 256 * 256) + 3 * 736 + 2_570, 1_472, 2_570),
    "vgg-11-half-sigmoid": (2_310_986, 2_752, 2_570),
    "deep-linear-25": (25 * 100 + 24 * 20, 480, 100),
}
MECHANISMS_FAMILIES = ["mlp-6-5-4", "mlp-6-5-4-sigmoid", "vgg-8-half", "vgg-8-sigmoid", "deep-linear-4"]


@pytest.mark.parametrize("name", [*TABLE_1, *IMAGENET, *VGG])
def test_parameter_counts_are_those_of_table_1(name):
    counts = build(name, channels=3, classes=1000 if name in IMAGENET else 10).parameter_counts()
    assert tuple(counts.values()) == (TABLE_1 | IMAGENET | VGG)[name]


@pytest.mark.parametrize("name", COMPANDER)
def test_parameter_counts_are_those_of_weight_companders_networks(name):
    of_10, of_100 = (build(name, channels=3, classes=classes) for classes in (10, 100))
    counts = of_10.parameter_counts()
    transformed = [layer.weight.numel() for _, layer in of_10.named_layers((nn.Conv2d, nn.Linear))]
    assert COMPANDER[name] == (
        counts["parameters"],
        of_100.parameter_counts()["parameters"],
        sum(transformed),
        len(transformed),
        counts["batchnorm_parameters"],
    )
    assert counts["parameters"] == sum(parameter.numel() for parameter in of_10.parameters())


@pytest.mark.parametrize("name", MECHANISMS)
def test_parameter_counts_are_those_of_the_mechanisms_networks(name):
    shape = {"channels": 10, "size": 1} if name.startswith("deep") else {"channels": 1, "size": 28}
    network = build(name, classes=10, **shape)
    counts = network.parameter_counts()
    assert tuple(counts.values()) == (*MECHANISMS[name], 0)
    assert counts["parameters"] == sum(parameter.numel() for parameter in network.parameters())


def test_depth_counts_the_layers_and_the_family_names_what_a_network_is_made_of():
    described = [architecture(name) for name in (*MECHANISMS, "vgg-16-sigmoid", "vgg-13-half")]
    assert [(one.depth, one.family) for one in described] == [
        *((4, "mlp"), (4, "mlp-sigmoid"), (2, "mlp")),
        *((8, "vgg"), (8, "vgg-half"), (11, "vgg-half-sigmoid"), (25, "deep-linear")),
        *((16, "vgg-sigmoid"), (13, "vgg-half")),
    ]
    assert [one.has_convolutions for one in described] == [False] * 3 + [True] * 3 + [False] + [True] * 2


@pytest.mark.parametrize(("classes", "count"), [(200, 23_917_832), (1_000, 25_557_032)])
def test_resnet_50_is_torchvisions_for_any_number_of_classes(classes, count):
    network = build("imagenet-resnet-50", channels=3, classes=classes)
    assert network.parameter_counts()["parameters"] == count


@pytest.mark.parametrize(
    "name",
    [
        *("resnet-14", "wrn-14-2", "vgg-13", "imagenet-resnet-18", "imagenet-resnet-50"),
        *COMPANDERS_FAMILIES,
        "imagenet-resnet-50-3x3",
    ],
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


@pytest.mark.parametrize("normalisation", ["batchnorm", "none", "batchnorm-after"])
@pytest.mark.parametrize("name", ["resnet-8", "vgg-11-head-512", *MECHANISMS_FAMILIES])
def test_every_call_of_an_activation_has_a_place_and_shows_its_input(name, normalisation):
    if normalisation == "batchnorm-after" and not name.startswith(("mlp", "vgg")):
        return
    network = built(name, normalisation, channels=1, classes=10, size=8)
    initialise(network, DEFAULT, seed=0)
    places, calls, outputs = network.activation_places(), {}, {}
    for layer in places:
        layer.register_forward_pre_hook(
            lambda layer, given: calls.setdefault(layer, []).append(given[0]) or None
        )
        layer.register_forward_hook(lambda layer, given, output: outputs.update({layer: output}))
    network(torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0)))
    assert {layer: len(inputs) for layer, inputs in calls.items()} == {p: len(c) for p, c in places.items()}
    assert [*calls] == [*places]  # in the order of the forward pass
    for layer in places:
        if isinstance(layer, nn.Sigmoid):
            torch.testing.assert_close(calls[layer][-1].sigmoid(), outputs[layer])
    kinds = {type(layer) for layer in places}
    assert len(kinds) == 1
    assert (network.relu_places() == places) == (kinds == {nn.ReLU})
    assert kinds.isdisjoint({nn.Sigmoid, nn.Identity}) or network.relu_places() == {}
    if name.startswith(("mlp", "deep")):
        assert len(places) == len(network.normalisation_places()) == network.architecture.depth - 1


@pytest.mark.parametrize(
    ("name", "activation"),
    [
        ("mlp-6-5-4", lambda x: x.clamp_min(0)),
        ("mlp-6-5-4-sigmoid", torch.sigmoid),
        ("deep-linear-4", lambda x: x),
    ],
)
def test_a_fully_connected_network_is_its_layers_on_flattened_images(name, activation):
    network = build(name, channels=2, classes=3, size=2)
    initialise(network, "kaiming-normal_gamma-uniform", seed=0)
    images = torch.randn(9, 2, 2, 2, generator=torch.Generator().manual_seed(0))

    def linear(layer, x):
        y = x @ layer.weight.double().T
        return y if layer.bias is None else y + layer.bias.double()

    x = images.double().flatten(1)
    for layer in network.hidden:
        x = linear(layer.linear, x)
        x = (x - x.mean(0)) / (x.var(0, correction=0) + 1e-5).sqrt() * layer.batchnorm.weight.double()
        x = activation(x)
    torch.testing.assert_close(network(images).double(), linear(network.output, x), rtol=1e-4, atol=1e-5)
    biases = [n for n, _ in network.named_parameters() if n.endswith(("linear.bias", "output.bias"))]
    assert len(biases) == (0 if name == "deep-linear-4" else 4)


def test_a_vgg_of_half_width_and_with_sigmoids_differs_in_nothing_else():
    networks = {
        name: build(name, channels=3, classes=10) for name in ("vgg-11", "vgg-11-half", "vgg-11-sigmoid")
    }
    shapes = {name: [layer.weight.shape for layer in net.convolutions()] for name, net in networks.items()}
    assert shapes["vgg-11-sigmoid"] == shapes["vgg-11"]
    assert [(o // 2, i if i == 3 else i // 2) for o, i, *_ in shapes["vgg-11"]] == [
        (o, i) for o, i, *_ in shapes["vgg-11-half"]
    ]
    assert networks["vgg-11-sigmoid"].state_dict().keys() == networks["vgg-11"].state_dict().keys()


def test_a_vgg_stops_pooling_at_1_by_1_for_small_images():
    network = build("vgg-11", channels=1, classes=10)
    initialise(network, DEFAULT, seed=0)
    sizes = []
    for stage in network.stages:
        stage.register_forward_hook(lambda stage, inputs, output: sizes.append(tuple(output.shape[2:])))
    network(torch.zeros(2, 1, 8, 8))
    network(torch.zeros(2, 1, 32, 32))
    assert sizes == [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1), (32, 32), (16, 16), (8, 8), (4, 4), (2, 2)]


@pytest.mark.parametrize("name", ["resnet-8", *COMPANDERS_FAMILIES])
@pytest.mark.parametrize(("channels", "side"), [(1, 8), (3, 9), (3, 32)])
def test_images_of_any_size_give_a_logit_per_class(name, channels, side):
    network = build(name, channels=channels, classes=7)
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


@pytest.mark.parametrize(("inputs", "stride"), [(4, 2), (4, 1), (6, 1)])
def test_a_preactivation_block_adds_convolutions_of_what_is_normalised_before_them(inputs, stride):
    torch.manual_seed(0)
    block = PreactivationBlock(inputs, 6, stride).eval()
    for layer in (block.batchnorm_1, block.batchnorm_2):
        nn.init.uniform_(layer.running_mean)
        nn.init.uniform_(layer.running_var, 0.5, 2)
    x = torch.randn(2, inputs, 8, 8)
    active = block.batchnorm_1(x).relu()
    inner = block.batchnorm_2(nn.functional.conv2d(active, block.convolution_1.weight, None, stride, 1))
    added = x if (inputs, stride) == (6, 1) else block.shortcut(active)
    expected = block.convolution_2(inner.relu()) + added
    torch.testing.assert_close(block(x), expected)


def test_dropout_precedes_a_blocks_second_convolution_and_each_hidden_layer():
    network = build("preactivation-wrn-16-2", channels=3, classes=10)
    rates = [block.dropout.rate for stage in network.stages for block in stage]
    assert rates == [0.3] * 6
    network = build("vgg-13-head-4096", channels=3, classes=10)
    layers = [layer for layer in network.modules() if isinstance(layer, Dropout | nn.Linear)]
    assert [getattr(layer, "rate", None) for layer in layers] == [0.5, None, 0.5, None, None]
    assert [layer.out_features for layer in layers if isinstance(layer, nn.Linear)] == [4096, 4096, 10]


def test_a_vgg_with_hidden_layers_pools_after_its_last_stage_too():
    network = build("vgg-11-head-512", channels=3, classes=10)
    initialise(network, DEFAULT, seed=0)
    network.eval()
    features = network._features(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert features.shape == (2, 512, 2, 2)
    given = []
    network.hidden.register_forward_hook(lambda layer, inputs, output: given.append(inputs[0]))
    network(torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(given[0], features.amax(dim=(2, 3)))


def test_a_stem_for_small_images_keeps_their_resolution():
    network = build("imagenet-resnet-18-3x3", channels=3, classes=10)
    with torch.no_grad():
        assert network.maxpool(network.conv1(torch.empty(1, 3, 32, 32, device="meta"))).shape[2:] == (32, 32)
    whole = build("imagenet-resnet-18", channels=3, classes=10)
    difference = whole.conv1.weight.numel() - network.conv1.weight.numel()
    assert difference == 64 * 3 * (49 - 9)


@pytest.mark.parametrize("regime", [*REGIMES, "random-2"])
@pytest.mark.parametrize("name", COMPANDERS_FAMILIES)
def test_the_work_of_weight_companders_networks_is_counted_in_every_regime(name, regime):
    done = work(DATASETS["cifar100"], name, regime)
    network = build(name, channels=3, classes=100)
    assert done.trained == sum(p.numel() for p in apply(network, regime, 0).values())
    assert done.forward > 0
    if not needs_affine(regime):
        assert work(DATASETS["cifar100"], name, regime, ((NORMALISATION.name, "none"),)).channels == 0


@pytest.mark.parametrize(
    "normalisation", ["batchnorm", "batchnorm-after", "ghost-4", "layernorm", "none-noisy"]
)
@pytest.mark.parametrize("name", ["mlp-6-5-4", "mlp-6-5-4-sigmoid", "vgg-8-half"])
def test_the_work_of_the_mechanisms_networks_is_counted_with_every_normalisation(name, normalisation):
    plain, values = work(DATASETS["digits"], name, "all"), ((NORMALISATION.name, normalisation),)
    done = work(DATASETS["digits"], name, "all", () if normalisation == "batchnorm" else values)
    assert done.channels == (0 if normalisation == "none-noisy" else plain.channels)
    assert replace(done, channels=0, trained=0, parameters=0) == replace(
        plain, channels=0, trained=0, parameters=0
    )
    network = build(name, channels=1, classes=10, size=8)
    if name == "mlp-6-5-4":
        assert plain.forward == 2 * (64 * 6 + 6 * 5 + 5 * 4 + 4 * 10)
        assert plain.activations == 6 + 5 + 4
    assert plain.parameters == network.parameter_counts()["parameters"]


@pytest.mark.parametrize(
    ("name", "normalisation"),
    [*((name, "batchnorm") for name in COMPANDERS_FAMILIES), ("preactivation-wrn-10-1", "none")],
)
def test_weight_companders_networks_train_and_can_be_analysed(name, normalisation, few_digits, make_run):
    run = make_run(name, "all", epochs=1, batch_size=50, learning_rate=0.01)
    run = replace(run, values=((NORMALISATION.name, normalisation),) * (normalisation == "none"))
    outcome = train(run, few_digits)
    assert outcome.diverged is None
    rows = activations(outcome.network, few_digits).to_pandas()
    assert len(rows.groupby("relu")) == sum(map(len, outcome.network.relu_places().values()))
    clamped = clamping(outcome.network, few_digits, thresholds=[0.5])
    assert len(clamped) == (2 if normalisation == "batchnorm" else 0)


@pytest.mark.parametrize(
    "name",
    [
        *("resnet-15", "resnet-2", "resnet-", "resnet--14", "wrn-14-0", "wrn-20-2", "resnet-014", ""),
        *("vgg-12", "vgg-12-head-512", "vgg-16-head-1024", "imagenet-resnet-19-3x3", "resnet-18-3x3"),
        *("preactivation-wrn-27-10", "preactivation-wrn-4-1", "preactivation-wrn-28-0"),
        *("mlp", "mlp-", "mlp-0", "mlp-100-", "mlp-100-sigmoid-5", "deep-linear-1", "deep-linear"),
        *("vgg-12-half", "vgg-11-sigmoid-half", "vgg-11-head-512-half"),
    ],
)
def test_a_wrong_name_is_rejected_in_one_sentence(name):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        architecture(name)


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("resnet-15", r"6n \+ 2 layers, such as resnet-14 or resnet-20"),
        ("preactivation-wrn-27-10", r"6n \+ 4 .* preactivation-wrn-22-10 or preactivation-wrn-28-10"),
        ("vgg-16-head-1024", "did you mean 'vgg-16-head-512'"),
        ("vgg-15-head-512", "did you mean 'vgg-1[0-9]-head-512'"),
        ("imagenet-resnet-5-3x3", "did you mean 'imagenet-resnet-50-3x3'"),
    ],
)
def test_the_nearest_name_is_suggested(name, sentence):
    with pytest.raises(ValueError, match=sentence):
        architecture(name)


def test_counts_cover_the_whole_network_even_if_only_chosen_weights_are_parameters():
    network = build("resnet-14", channels=3, classes=10)
    before = network.parameter_counts()
    initialise(network, DEFAULT, 0)
    apply(network, "random-2", 0)
    assert network.parameter_counts() == before
