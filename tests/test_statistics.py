"""Statistics of normalisation estimated anew, and the analysis of that name."""

import copy

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from onlybn.networks import statistics
from onlybn.networks.draw import draw
from onlybn.networks.state import running_statistics


@pytest.fixture
def network(make_run):
    """A network in float64, with running statistics that are not those of any batch."""
    network, _ = draw(make_run(regime="all"), channels=1, classes=10)
    network.double()
    for number, layer in enumerate(network.normalisations()):
        layer.running_mean.fill_(0.1 * number)
        layer.running_var.fill_(2.0)
    return network.eval()


def batches(digits, size, count):
    images = digits.normalise(digits.train.images[:count]).double()
    return images.split(size)


def inputs_of(network, images):
    """Return the input of each normalisation in training mode, by the layer's name."""
    network, seen = copy.deepcopy(network).train(), {}
    for name, layer in network.named_normalisations():
        layer.register_forward_hook(lambda _, given, out, name=name: seen.update({name: given[0].clone()}))
    with torch.no_grad():
        network(images)
    return seen


def test_pooled_statistics_are_the_moments_of_all_values_that_a_layer_sees(digits, network):
    some = batches(digits, 16, 40)  # the last has 8 images
    found = statistics.pooled(network, some)
    seen = [inputs_of(network, batch) for batch in some]
    assert len(found) == 2 * len(network.normalisations())
    for name, _ in network.named_normalisations():
        values = torch.cat([one[name].transpose(0, 1).flatten(1) for one in seen], dim=1)
        torch.testing.assert_close(found[f"{name}.running_mean"], values.mean(dim=1))
        torch.testing.assert_close(found[f"{name}.running_var"], values.var(dim=1, correction=1))


def test_cumulative_statistics_are_those_of_torch(digits, network):
    some = batches(digits, 16, 40)
    found = statistics.reestimated(network, some)["cumulative"]
    by_torch = copy.deepcopy(network)
    for layer in by_torch.normalisations():
        layer.num_batches_tracked = torch.tensor(0)  # without it, torch does not average
    update_bn(some, by_torch)
    for name, tensor in running_statistics(by_torch).items():
        if name in found:
            torch.testing.assert_close(found[name], tensor)


def test_estimating_changes_neither_the_network_nor_its_mode(digits, network):
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    statistics.pooled(network.train(), batches(digits, 8, 16))
    assert all(module.training for module in network.modules())
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())
    assert not any(layer._forward_pre_hooks for layer in network.normalisations())


def test_normalising_by_the_batch_is_what_training_mode_does(digits, network):
    (images,) = batches(digits, 20, 20)
    with torch.no_grad(), statistics.by_batch(network):
        found = network(images)
    with torch.no_grad():
        torch.testing.assert_close(found, network.train()(images))


def test_one_image_normalised_by_itself_leaves_beta_on_units():
    layer = nn.BatchNorm1d(3).eval()
    nn.init.normal_(layer.bias)
    found = statistics.of_batch(layer, torch.tensor([[1.0, -2.0, 7.0]]))
    assert found["running_mean"].tolist() == [1.0, -2.0, 7.0]
    assert found["running_var"].tolist() == [0.0] * 3
