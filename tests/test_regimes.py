"""Regimes: of all parameters, exactly those of the regime move, and frozen ones stay equal bit for bit."""

import pytest
import torch

from onlybn.models import build
from onlybn.networks import regimes
from onlybn.networks.draw import draw
from onlybn.networks.parametrisations import ChannelsLast, Chosen
from onlybn.training.loop import train


def weights(network) -> dict[str, torch.Tensor]:
    """Every layer's weight and bias as the network uses them, reparametrised or not."""
    return {
        f"{name}.{kind}": getattr(layer, kind).detach().clone()
        for name, layer in network.named_modules()
        if isinstance(layer, torch.nn.Conv2d | torch.nn.BatchNorm2d | torch.nn.Linear)
        for kind in ("weight", "bias")
        if getattr(layer, kind) is not None
    }


def is_batchnorm(network, name):
    return isinstance(network.get_submodule(name.rpartition(".")[0]), torch.nn.BatchNorm2d)


def is_output(network, name):
    return network.get_submodule(name.rpartition(".")[0]) is network.output


def is_shortcut_convolution(network, name):
    return network.get_submodule(name.rpartition(".")[0]) in network.shortcut_convolutions()


MOVES = {
    "all": lambda network, name: True,
    "no-affine": lambda network, name: not is_batchnorm(network, name),
    "batchnorm": is_batchnorm,
    "output": is_output,
    "batchnorm+output": lambda network, name: is_batchnorm(network, name) or is_output(network, name),
    "batchnorm+output+shortcut": lambda network, name: (
        is_batchnorm(network, name) or is_output(network, name) or is_shortcut_convolution(network, name)
    ),
    "gamma": lambda network, name: is_batchnorm(network, name) and name.endswith(".weight"),
    "beta": lambda network, name: is_batchnorm(network, name) and name.endswith(".bias"),
}


def test_the_table_in_this_file_covers_every_regime():
    assert set(MOVES) == set(regimes.REGIMES)


@pytest.mark.parametrize("regime", MOVES)
def test_what_trains_moves_and_what_is_frozen_stays_bit_equal(regime, few_digits, make_run):
    run = make_run(regime=regime, weight_decay=0.01)
    before = weights(draw(run, channels=1, classes=10)[0])
    network = train(run, few_digits).network
    for name, after in weights(network).items():
        moved = (after != before[name]).any().item()
        assert moved == MOVES[regime](network, name), name


@pytest.mark.parametrize("k", [1, 2, 20])
def test_random_k_moves_k_weights_of_every_output_channel_of_every_convolution(k, few_digits, make_run):
    run = make_run(regime=f"random-{k}", weight_decay=0.01)
    before = weights(draw(run, channels=1, classes=10)[0])
    network = train(run, few_digits).network
    convolutions = {
        f"{name}.weight" for name, layer in network.named_modules() if isinstance(layer, torch.nn.Conv2d)
    }
    assert len(convolutions) == 9  # stem, 3 · 2 · 1 in blocks, 2 shortcuts
    for name, after in weights(network).items():
        moved = (after != before[name]).flatten(1 if after.dim() > 1 else 0).sum(-1)
        if name in convolutions:
            assert (moved == min(k, after[0].numel())).all(), name
        else:
            assert not moved.any(), name


@pytest.mark.parametrize("shape", [(8, 3, 3, 3), (5, 1, 3, 3), (6, 4, 1, 1), (4, 6, 5, 3)], ids=str)
@pytest.mark.parametrize("k", [1, 3])
def test_random_k_on_a_gpu_gives_the_cpus_weights_and_gradients_in_channels_last_memory(shape, k):
    g = torch.Generator().manual_seed(0)
    whole, by_weight = (torch.randn(shape, generator=g) for _ in range(2))
    index = torch.stack([torch.randperm(whole[0].numel(), generator=g)[:k] for _ in whole])
    values = torch.randn(len(whole), k, generator=g).requires_grad_()
    chosen = Chosen(whole, index)
    torch.use_deterministic_algorithms(True)
    try:
        expected, found = chosen(values), ChannelsLast.apply(values, chosen.frozen.view(shape), chosen.place)
        assert torch.are_deterministic_algorithms_enabled()
        gradients = [torch.autograd.grad(weight, values, by_weight)[0] for weight in (expected, found)]
    finally:
        torch.use_deterministic_algorithms(False)
    assert torch.equal(found, expected)
    assert found.stride() == whole.to(memory_format=torch.channels_last).stride()
    assert torch.equal(*gradients)
    assert torch.equal(chosen.frozen.view(shape), whole)  # what is frozen stays so


PAPERS = ("resnet-14", "resnet-110", "wrn-14-2", "wrn-14-32", "vgg-11", "vgg-19")
PAPERS += ("imagenet-resnet-18", "imagenet-resnet-50")


@pytest.mark.parametrize("architecture", PAPERS)
def test_random_2_replaces_gamma_and_beta_one_for_one_in_every_layer(architecture):
    network = build(architecture, channels=3, classes=10)
    affine = [layer.weight.numel() + layer.bias.numel() for layer in network.normalisations()]
    chosen = regimes.apply(network, "random-2", 0)
    assert len(network.convolutions()) == len(affine)
    assert [weights.numel() for weights in chosen.values()] == affine


def test_a_larger_k_includes_the_choice_of_a_smaller_one(make_run):
    def choice(k):
        network, _ = draw(make_run(regime=f"random-{k}"), channels=3, classes=10)
        return network.convolution.parametrizations["weight"][0].index

    few, many = choice(2), choice(5)
    assert all(set(a) < set(b) for a, b in zip(few.tolist(), many.tolist(), strict=True))


def test_no_affine_fixes_gamma_at_1_and_beta_at_0(make_run):
    network, trained = draw(make_run(regime="no-affine"), channels=1, classes=10)
    assert all((layer.weight == 1).all() and (layer.bias == 0).all() for layer in network.normalisations())
    assert sum(map(torch.numel, trained.values())) == sum(p.numel() for p in network.parameters()) - sum(
        2 * layer.num_features for layer in network.normalisations()
    )


def test_batchnorm_trains_the_shortcuts_too(make_run):
    _, trained = draw(make_run("resnet-32"), channels=3, classes=10)
    assert sum(map(torch.numel, trained.values())) == 2_464


def test_regimes_of_one_seed_share_their_random_features(make_run):
    one, _ = draw(make_run(regime="batchnorm"), channels=1, classes=10)
    other, _ = draw(make_run(regime="random-2"), channels=1, classes=10)
    assert all(torch.equal(tensor, weights(other)[name]) for name, tensor in weights(one).items())


@pytest.mark.parametrize("name", ["batchnrom", "random-0", "random-", "random--2", "", "ALL"])
def test_a_wrong_name_is_rejected_in_one_sentence(name):
    with pytest.raises(ValueError, match=r"^unknown regime [^\n]+$"):
        regimes.regime(name)


def test_the_nearest_name_is_suggested():
    with pytest.raises(ValueError, match="did you mean 'batchnorm'"):
        regimes.regime("batchnrom")
