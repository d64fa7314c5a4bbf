"""Statistics of normalisation estimated anew, and the analysis of that name."""

import copy
import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.optim.swa_utils import update_bn

from onlybn.analyses import statistics as analysis
from onlybn.models.network import Network, Place
from onlybn.networks import statistics
from onlybn.networks.draw import draw
from onlybn.networks.state import running_statistics
from onlybn.training.evaluation import evaluate
from onlybn.training.loop import train


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
    layer.bias.data = torch.tensor([1.0, -2.0, 0.5])
    image = torch.tensor([[1.0, -2.0, 7.0]])
    statistics.set_to_batch(layer, image)
    torch.testing.assert_close(layer(image)[0], layer.bias, atol=1e-3, rtol=0)


class ByAverage(nn.Module):
    """Subtracts the mean and divides by the mean absolute value; running estimates of both in evaluation."""

    def __init__(self, channels):
        super().__init__()
        self.momentum = 0.1
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_average", torch.ones(channels))

    def forward(self, x):
        if self.training:
            with torch.no_grad():
                self.running_mean.lerp_(x.mean(0), self.momentum)
                self.running_average.lerp_(x.abs().mean(0), self.momentum)
        return (x - self.running_mean) / self.running_average


def test_a_layer_with_another_statistic_than_the_variance_computes_it_itself(digits):
    class ByAverages(Units):
        def __init__(self):
            super().__init__()
            self.batchnorm = ByAverage(64)

        def named_normalisations(self):
            return self.named_layers(ByAverage)

    network = ByAverages().double().eval()
    some = batches(digits, 16, 40)
    for estimated in statistics.reestimated(network, some).values():
        assert list(estimated) == ["batchnorm.running_mean", "batchnorm.running_average"]
    x = torch.cat(some).flatten(1)
    found = statistics.pooled(network, some)
    torch.testing.assert_close(found["batchnorm.running_mean"], x.mean(0))
    torch.testing.assert_close(found["batchnorm.running_average"], x.abs().mean(0))
    assert network.batchnorm.momentum == 0.1
    assert not network.batchnorm.training
    assert network.batchnorm.running_average.tolist() == [1.0] * 64


# the analysis


def rows_of(table):
    """Return the rows by shift, statistics and layer."""
    return {(row["shift"], row["statistics"], row["layer"]): row for row in table.to_pylist()}


@pytest.fixture
def trained(few_digits, make_run):
    run = make_run(regime="all", shift=0, batch_size=25, learning_rate=0.02)
    return train(run, few_digits).network.eval()


def test_statistics_are_measured_as_by_hand_in_float64(few_digits, trained):
    found = rows_of(analysis.statistics(trained, few_digits))
    names = [name for name, _ in trained.named_normalisations()]
    network = copy.deepcopy(trained).double()
    images = few_digits.normalise(few_digits.test.images).double()
    labels = few_digits.test.labels

    def tested(size, *, training=False):
        largest = {}

        def look(layer, given, out):
            largest[layer] = max(largest.get(layer, 0.0), out.abs().max().item())

        hooks = [layer.register_forward_hook(look) for layer in network.normalisations()]
        with torch.no_grad():
            logits = torch.cat([network.train(training)(batch) for batch in images.split(size)])
        for hook in hooks:
            hook.remove()
        by_name = {name: largest[layer] for name, layer in network.named_normalisations()}
        return logits, nn.functional.cross_entropy(logits, labels).item(), by_name

    own, _, _ = tested(128)
    expected = {"running": tested(128)}
    for name, values in statistics.reestimated(network, batches(few_digits, 128, 100)).items():
        statistics.write(network, values)
        expected[name] = tested(128)
    for size in (2, 8, 32, 128, 1_000):
        expected[f"batch-{size}"] = tested(size, training=True)  # 70 images leave no batch of one
    for name, (logits, loss, largest) in expected.items():
        for number, layer in enumerate(names):
            row = found["clean", name, number]
            assert row["name"] == layer
            assert row["loss"] == pytest.approx(loss, rel=1e-4)
            assert row["largest"] == pytest.approx(largest[layer], rel=1e-4)
            assert row["apart"] == pytest.approx((logits - own).abs().max().item(), rel=1e-3, abs=1e-4)
            assert row["predicted"] == len(logits.argmax(dim=1).unique())
            assert row["not_finite"] == 0
            assert row["top_1"] == pytest.approx(
                100 * (logits.argmax(dim=1) == labels).double().mean().item()
            )


def test_clean_images_have_every_statistics_and_shifted_ones_fewer(few_digits, trained):
    found = rows_of(analysis.statistics(trained, few_digits))
    kinds = {shift: [s for at, s, layer in found if at == shift and layer == 0] for shift, *_ in found}
    assert list(kinds) == [
        *("clean", "contrast-0.3", "contrast-3", "brightness"),
        *("blur", "noise", "inversion"),
    ]
    sizes = [f"batch-{size}" for size in (1, 2, 8, 32, 128, 1_000)]
    assert kinds.pop("clean") == ["running", "cumulative", "pooled", *sizes]
    for some in kinds.values():
        assert some == ["running", "pooled", "pooled-shifted", "batch-32", "batch-128"]
    measured = evaluate(trained, few_digits)
    assert measured["loss"] == pytest.approx(found["clean", "running", 0]["loss"], rel=1e-6)
    assert measured["top_1"] == found["clean", "running", 0]["top_1"]


class Units(Network):
    """A network of one BatchNorm on units."""

    def __init__(self):
        super().__init__()
        self.batchnorm = nn.BatchNorm1d(64)
        nn.init.normal_(self.batchnorm.bias)
        self.output = nn.Linear(64, 10)

    def forward(self, images):
        return self.output(self.batchnorm(images.flatten(1)))

    def named_normalisations(self):
        return self.named_layers(nn.BatchNorm1d)

    def normalisation_places(self):
        return {self.batchnorm: Place(1, 1, "inside")}

    def relu_places(self):
        return {}

    def shortcut_convolutions(self):
        return []


def test_one_image_at_a_time_gets_one_class_from_a_dense_layer_with_its_own_statistics(few_digits):
    network = Units().eval()
    found = rows_of(analysis.statistics(network, few_digits))
    assert found["clean", "batch-1", 0]["predicted"] == 1
    beta = network.batchnorm.bias.abs().max().item()
    assert found["clean", "batch-1", 0]["largest"] == pytest.approx(beta, rel=1e-4)
    assert found["clean", "batch-2", 0]["predicted"] > 1


class ByLayer(Units):
    """Units normalised over each image, by a layer without running statistics."""

    def __init__(self):
        super().__init__()
        self.batchnorm = nn.LayerNorm(64)

    def named_normalisations(self):
        return self.named_layers(nn.LayerNorm)


def test_a_layer_without_running_statistics_does_not_depend_on_the_batch(few_digits):
    found = rows_of(analysis.statistics(ByLayer().eval(), few_digits))
    assert [s for at, s, _ in found if at == "clean"] == ["running", "batch-1", "batch-128"]
    assert [s for at, s, _ in found if at == "blur"] == ["running", "batch-128"]
    assert all(row["apart"] < 1e-5 for row in found.values())


def test_a_network_without_normalisation_has_a_row_without_layer(few_digits, make_run):
    run = replace(make_run(regime="all"), values=(("normalisation", "none"),))
    network, _ = draw(run, channels=1, classes=10)
    found = rows_of(analysis.statistics(network, few_digits))
    assert {layer for *_, layer in found} == {-1}
    assert found["clean", "running", -1]["name"] is found["clean", "running", -1]["largest"] is None


def test_logits_that_are_not_finite_are_counted(few_digits, trained):
    trained.normalisations()[0].running_mean.fill_(torch.nan)
    found = rows_of(analysis.statistics(trained, few_digits))
    assert found["clean", "running", 0]["not_finite"] == 70
    assert math.isnan(found["clean", "running", 0]["largest"])
    assert found["clean", "pooled", 0]["not_finite"] == 0


def test_shifts_are_those_of_torchvision_on_pixels(few_digits):
    batch = few_digits.normalise(few_digits.test.images[:3])
    pixels = few_digits.test.images[:3].permute(0, 3, 1, 2).double() / 255
    grey = pixels.mean(dim=(1, 2, 3), keepdim=True)
    expected = {
        "contrast-0.3": 0.3 * pixels + 0.7 * grey,
        "contrast-3": 3 * pixels - 2 * grey,
        "brightness": 1.5 * pixels,
        "inversion": 1 - pixels,
    }
    for shift, values in expected.items():
        found = analysis.shifted(few_digits, batch, shift).double() * few_digits.std[0] + few_digits.mean[0]
        torch.testing.assert_close(found, values.clamp(0, 1), atol=1e-5, rtol=0)


def test_noise_is_an_images_own_whatever_the_batch(few_digits):
    batch = few_digits.normalise(few_digits.test.images[:4])
    whole = analysis.shifted(few_digits, batch, "noise")
    alone = analysis.shifted(few_digits, batch[2:3], "noise", first=2)
    assert torch.equal(alone[0], whole[2])
    assert not torch.equal(whole[2], whole[3])


def test_blur_keeps_the_mean_of_a_constant_and_works_on_any_size(few_digits):
    for size in (1, 2, 3, 8):
        batch = torch.full((2, 1, size, size), 0.25)
        assert analysis.shifted(few_digits, batch, "blur").shape == batch.shape


def test_at_most_so_many_images_are_used_and_always_the_same(few_digits):
    images, _ = few_digits.of_run(None, 60, seed=1)
    assert len(images.unaugmented(1_000).test) == 60
    some = images.unaugmented(20)
    assert len(some.test) == 20
    assert torch.equal(some.test.images, images.unaugmented(20).test.images)
    assert len(images.with_fewer_tests(30).test) == 30
    assert images.with_fewer_tests(70) is images
