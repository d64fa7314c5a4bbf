"""Normalisations: each agrees with a second computation in float64, trains, resumes, and is loaded again."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import BUILTIN, CONFIG
from torch import nn
from torch.nn import functional as F

import onlybn
from onlybn.analyses.clamping import clamping
from onlybn.axes import NORMALISATION
from onlybn.configuration import open_study
from onlybn.distributed import Group
from onlybn.errors import UserError
from onlybn.models.normalisations import ActivationNoise, GhostBatchNorm, NoiseConstants, give_noise
from onlybn.networks import normalise, regimes
from onlybn.networks.draw import build, draw
from onlybn.networks.fits import check_fits, check_normalisation
from onlybn.networks.variants import initialise
from onlybn.noise import Noise
from onlybn.runs import saving
from onlybn.runs.affine import affine
from onlybn.training import loop
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.evaluation import evaluate
from onlybn.training.forward import Forward
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train, train_replicates
from onlybn.training.static_graph import is_supported

CPU = torch.device("cpu")
EPS, MOMENTUM = 1e-5, 0.1
NAMES = [name.replace("N", "4") for name in normalise.NORMALISATIONS]
# A network with BatchNorm of 8 units behind its first layer, and one with 16 channels.
UNITS, MAPS = "mlp-8", "resnet-8"
BY_BATCH = ["batchnorm", "batchnorm-noisy", "l1", "l2", "linf", "ghost-1", "ghost-3", "ghost-4", "ghost-50"]
BY_EXAMPLE = ["layernorm", "groupnorm-1", "groupnorm-2", "groupnorm-4", "instancenorm"]


def with_normalisation(run, name):
    return replace(run, values=((NORMALISATION.name, name),) * (name != NORMALISATION.default))


def layer_of(name, architecture):
    """The first normalisation layer of a network, with γ of both signs, and a β that is not 0."""
    network = build(architecture, name, channels=1, classes=10, size=8)
    initialise(network, "kaiming-normal_gamma-symmetric", 0)
    layer = network.normalisations()[0]
    nn.init.uniform_(layer.bias, -1, 1, torch.Generator().manual_seed(0))
    return layer


def batch(architecture, seed):
    shape = (7, 16, 3, 2) if architecture == MAPS else (7, 8)
    x = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    offset = torch.arange(shape[1]).view(-1, *[1] * (len(shape) - 2))
    return 2 * x + offset / 4


def groups_of(name, examples):
    """The parts of a batch that are normalised by themselves."""
    size = int(name.partition("-")[2]) if name.startswith("ghost") else examples
    starts = [*range(0, max(examples - size + 1, 1), size)]
    return [slice(a, b) for a, b in zip(starts, [*starts[1:], examples], strict=True)]


def one_mean(name, values):
    """What a group of values of one channel becomes before γ and β; its mean, and its variance or norm."""
    mean, count = values.sum() / values.numel(), values.numel()
    if name in ("l1", "l2", "linf"):
        size = {
            "l1": lambda: values.abs().sum() / count,
            "l2": lambda: (values**2).sum().div(count).sqrt(),
            "linf": lambda: values.abs().max(),
        }[name]()
        return (values - mean) / (size**2 + EPS).sqrt(), mean, size
    variance = ((values - mean) ** 2).sum() / count
    return (values - mean) / (variance + EPS).sqrt(), mean, variance * count / (count - 1)


def by_batch(name, x, gamma, beta, running):
    """The batch's statistics, channel by channel; `running` is float64 (2, channels), and follows them."""
    y = torch.empty_like(x)
    for c in range(x.shape[1]):
        found = []
        for part in groups_of(name, len(x)):
            normal, mean, spread = one_mean(name, x[part, c])
            y[part, c] = gamma[c] * normal + beta[c]
            found.append(torch.stack([mean, spread]))
        followed = sum(found) / len(found)
        running[:, c] = (1 - MOMENTUM) * running[:, c] + MOMENTUM * followed.detach()
    return y


def by_example(name, x, gamma, beta):
    channels = x.shape[1]
    kind, _, number = name.partition("-")
    groups = {"layernorm": 1, "instancenorm": channels}.get(kind) or int(number)
    size = channels // groups
    y = torch.empty_like(x)
    for n in range(len(x)):
        for first in range(0, channels, size):
            y[n, first : first + size] = one_mean(name, x[n, first : first + size])[0]
    along = (-1, *[1] * (x.ndim - 2))
    return y * gamma.view(along) + beta.view(along)


def assert_agree(layer, reference, architecture, rounds):
    """Compare outputs and the gradients of the input, γ and β."""
    gamma, beta = (p.detach().double().requires_grad_() for p in (layer.weight, layer.bias))
    for seed in range(rounds):
        x = batch(architecture, seed)
        if x.ndim == 4:
            x = x.to(memory_format=torch.channels_last)
        wide, x = x.double().requires_grad_(), x.requires_grad_()
        dy = torch.randn(x.shape, generator=torch.Generator().manual_seed(10 + seed))
        y, expected = layer(x), reference(wide, gamma, beta)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y.double(), expected, rtol=1e-4, atol=1e-5)
        ours = torch.autograd.grad(y, [x, layer.weight, layer.bias], dy)
        theirs = torch.autograd.grad(expected, [wide, gamma, beta], dy.double())
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(one.double(), other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "architecture"),
    [(n, a) for n in BY_BATCH for a in (UNITS, MAPS) if (n, a) != ("ghost-1", UNITS)],
)
def test_statistics_of_the_batch_agree_with_float64(name, architecture):
    layer = layer_of(name, architecture)
    running = torch.stack([torch.zeros(len(layer.weight)), torch.ones(len(layer.weight))]).double()
    assert_agree(layer, lambda *given: by_batch(name, *given, running), architecture, rounds=3)
    found = [buffer for _, buffer in layer.named_buffers()]
    torch.testing.assert_close(torch.stack(found).double(), running, rtol=1e-5, atol=1e-6)

    def reference(x, gamma, beta):
        mean, spread = (values.view(-1, *[1] * (x.ndim - 2)) for values in running)
        spread = spread**2 if name in ("l1", "l2", "linf") else spread
        gamma, beta = (values.view(mean.shape) for values in (gamma, beta))
        return gamma * (x - mean) / (spread + EPS).sqrt() + beta

    assert_agree(layer.eval(), reference, architecture, rounds=1)
    assert [buffer for _, buffer in layer.named_buffers()] == found


@pytest.mark.parametrize(
    ("name", "architecture"),
    [(n, a) for n in BY_EXAMPLE for a in (UNITS, MAPS) if (n, a) != ("instancenorm", UNITS)],
)
def test_statistics_of_an_example_agree_with_float64_and_are_the_same_in_tests(name, architecture):
    layer = layer_of(name, architecture)
    assert_agree(layer, lambda *given: by_example(name, *given), architecture, rounds=1)
    assert not list(layer.buffers())
    x = batch(architecture, 0)
    together = layer(x)
    assert torch.equal(layer.eval()(x), together)
    alone = torch.cat([layer(one[None]) for one in x])
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)


def test_a_batch_of_equal_values_has_a_finite_gradient_whatever_the_norm():
    for name in ("l1", "l2", "linf", "ghost-2"):
        layer, x = layer_of(name, UNITS), torch.zeros(4, 8, requires_grad=True)
        layer(x).square().sum().backward()
        assert x.grad.isfinite().all()
        assert torch.equal(layer(x), layer.bias.expand(4, 8))


@pytest.mark.parametrize("name", NAMES)
def test_bfloat16_gives_activations_near_those_of_float32(name):
    architecture = "vgg-8-half" if name == "batchnorm-after" else MAPS
    network = build(architecture, name, channels=1, classes=10, size=8)
    initialise(network, "kaiming-normal_gamma-one", 0)
    images = torch.randn(16, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network.to(memory_format=torch.channels_last)
    exact = network(images)
    with torch.autocast("cpu", torch.bfloat16):
        found = network(images).float()
    assert (found - exact).norm() < 0.06 * exact.norm()
    static = Forward(network, network, torch.bfloat16, (16, 1, 8, 8)).static
    assert (static is not None) == (name == "batchnorm" and is_supported())


# noise


def noise(seed=0, step=0, first=0):
    found = Noise(seed, CPU)
    found.step.fill_(step)
    found.first = first
    return found


PUBLISHED = NoiseConstants(mean=0.5, scale=1.25, mean_spread=0.1, scale_deviation=0.1)


def noisy(source, constants=PUBLISHED):
    layer = ActivationNoise()
    give_noise(nn.ModuleDict({"one": layer}), source, constants)
    return layer


def test_noise_is_s_times_x_plus_m_as_computed_in_float64():
    x = batch(MAPS, 0).requires_grad_()
    layer = noisy(noise(step=3), NoiseConstants(mean=0.4, scale=1.5, mean_spread=0.2, scale_deviation=0.3))
    y = layer(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    numbers = {
        what: noise(step=3).uniform(("activation noise", "one", what), (7, 3, 2, 16)).double().numpy()
        for what in ("means", "scales")
    }
    of_channels = {
        what: noise(step=3).shared_uniform(("activation noise", "one", what), (16,)).double().numpy()
        for what in ("channel means", "channel scales")
    }
    pairs = noise(step=3).uniform(("activation noise", "one", "scales"), (7, 2, 48)).double().numpy()
    radius, angle = np.sqrt(-2 * np.log(1 - pairs[:, 0])), 2 * np.pi * pairs[:, 1]
    normal = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], 1).reshape(7, 3, 2, 16)
    m = 0.4 * (2 * of_channels["channel means"] - 1) + 0.2 * (2 * numbers["means"] - 1)
    s = 1 + 0.5 * of_channels["channel scales"] + 0.3 * normal
    last = x.detach().double().permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(y.detach().permute(0, 2, 3, 1).numpy(), s * last + m, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(gradient.permute(0, 2, 3, 1).numpy(), s, rtol=1e-5, atol=1e-5)


def test_noise_has_the_published_moments_by_channel_and_by_activation():
    x = torch.zeros(200, 400, 2, 2)
    m = torch.stack([noisy(noise(step=step))(x) for step in (0, 1)])
    s = torch.stack([noisy(noise(step=step))(x + 1) for step in (0, 1)]) - m
    mu, sigma = (values.mean(dim=(1, 3, 4)) for values in (m, s))
    assert mu.abs().max() < 0.51
    assert mu.std().item() == pytest.approx(0.5 / math.sqrt(3), rel=0.06)
    assert ((sigma > 0.98) & (sigma < 1.27)).all()
    assert sigma.mean().item() == pytest.approx(1.125, abs=0.01)
    assert sigma.std().item() == pytest.approx(0.25 / math.sqrt(12), rel=0.06)
    around = m - mu[:, None, :, None, None]
    assert around.abs().max() < 0.11
    assert around.std().item() == pytest.approx(0.1 / math.sqrt(3), rel=0.01)
    assert (s - sigma[:, None, :, None, None]).std().item() == pytest.approx(0.1, rel=0.01)
    for values in (mu, sigma):  # drawn afresh in each step
        assert abs(torch.corrcoef(values)[0, 1]) < 0.2


def test_normal_numbers_have_a_normals_moments_and_shares_beyond_each_deviation():
    found = noise().normal(["p"], (2_000, 501)).double()
    assert found.shape == (2_000, 501)
    size = found.numel()
    assert abs(found.mean()) < 4 / size**0.5
    assert found.std().item() == pytest.approx(1, abs=4 / (2 * size) ** 0.5)
    assert (found**3).mean().item() == pytest.approx(0, abs=4 * (15 / size) ** 0.5)
    assert (found**4).mean().item() == pytest.approx(3, abs=4 * (96 / size) ** 0.5)
    for deviations in (1, 2, 3, 4):
        share = math.erfc(deviations / 2**0.5)
        assert (found.abs() > deviations).double().mean().item() == pytest.approx(
            share, abs=4 * (share / size) ** 0.5
        )
    assert found.abs().max() < 5.77
    halves = found[:, :250].flatten(), found[:, 251:].flatten()  # the numbers of a pair
    for one, other in (halves, [half.abs() for half in halves]):
        assert abs(torch.corrcoef(torch.stack([one, other]))[0, 1]) < 4 / len(one) ** 0.5


@pytest.mark.parametrize("name", ["batchnorm-noisy", "none-noisy"])
def test_a_process_with_a_part_of_the_batch_gets_the_noise_of_that_part(name):
    x, found = batch(MAPS, 0), []
    for first, part in ((0, slice(0, 7)), (0, slice(0, 3)), (3, slice(3, 7))):
        found.append(noisy(noise(first=first))(x[part]))
    torch.testing.assert_close(torch.cat(found[1:]), found[0], rtol=0, atol=1e-6)


def test_each_layer_step_and_seed_has_noise_of_its_own_and_tests_have_none(make_run, few_digits):
    run = with_normalisation(make_run("mlp-8-8", "all"), "batchnorm-noisy")
    live = LiveRun(run, few_digits)
    first, second = (layer.batchnorm for layer in live.network.hidden)
    x = torch.zeros(5, 8)
    found = [first.noise(x), second.noise(x)]
    live.noise.step.fill_(1)
    found += [first.noise(x), LiveRun(run.with_seed(1), few_digits).network.hidden[0].batchnorm.noise(x)]
    assert not any(torch.equal(one, other) for i, one in enumerate(found) for other in found[:i])
    assert torch.equal(first.noise(x), found[2])
    live.network.eval()
    assert torch.equal(first.noise(x), x)
    network, _ = draw(run, channels=1, classes=10, size=8)
    assert torch.equal(network.hidden[0].batchnorm.noise(x), x)  # outside of a run


def test_the_constants_of_the_noise_are_training_keys(make_run, few_digits):
    quiet = {"noise_mean": 0, "noise_scale": 1, "noise_mean_spread": 0, "noise_scale_deviation": 0}
    loss = {}
    for name, constants in (("batchnorm", {}), ("batchnorm-noisy", quiet), ("none-noisy", {}), ("none", {})):
        run = with_normalisation(make_run("mlp-8", "all", epochs=1, **constants), name)
        live = LiveRun(run, few_digits)
        loss[name], _ = live.gradients(*live.next_batch(), 32)
    assert loss["batchnorm-noisy"] == loss["batchnorm"]
    assert abs(loss["none-noisy"] - loss["none"]) > 0.01


# networks


def test_without_normalisation_an_mlp_has_its_biases_and_a_deep_linear_network_has_none():
    mlp = build("mlp-8-8", "none", channels=1, classes=10, size=8)
    assert all(layer.linear.bias is not None for layer in mlp.hidden)
    deep = build("deep-linear-3", "none", channels=1, classes=10, size=8)
    assert {name for name, _ in deep.named_parameters()} == {
        *(f"hidden.{number}.linear.weight" for number in (0, 1)),
        "output.weight",
    }


@pytest.mark.parametrize("architecture", ["mlp-8-8", "mlp-8-8-sigmoid", "vgg-8-half"])
def test_batchnorm_after_normalises_what_the_activation_returns(architecture):
    network = build(architecture, "batchnorm-after", channels=1, classes=10, size=8)
    initialise(network, "kaiming-normal_gamma-uniform", 0)
    plain = build(architecture, "batchnorm", channels=1, classes=10, size=8)
    initialise(plain, "kaiming-normal_gamma-uniform", 0)
    assert network.state_dict().keys() == plain.state_dict().keys()
    assert [*network.normalisation_places().values()] == [*plain.normalisation_places().values()]
    heard = {}
    for layer in network.activation_places():
        layer.register_forward_pre_hook(lambda layer, given: heard.update({layer: given[0].clone()}))
    images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    logits = network(images)
    x = images.double()
    stages = network.stages if architecture.startswith("vgg") else [network.hidden]
    layers = [layer for stage in stages for layer in stage]
    for number, layer in enumerate(layers):
        if architecture.startswith("vgg"):
            x = F.max_pool2d(x, 2) if number and x.shape[2] > 1 else x
            x = F.conv2d(x, layer.convolution.weight.double(), layer.convolution.bias.double(), padding=1)
        else:
            x = x.flatten(1) @ layer.linear.weight.double().T + layer.linear.bias.double()
        torch.testing.assert_close(heard[layer.activation].double(), x, rtol=1e-4, atol=1e-5)
        x = x.sigmoid() if architecture.endswith("sigmoid") else x.clamp_min(0)
        others = [0, *range(2, x.ndim)]
        x = (x - x.mean(others, keepdim=True)) / (x.var(others, correction=0, keepdim=True) + EPS).sqrt()
        x = x * layer.batchnorm.weight.double().view(-1, *[1] * (x.ndim - 2))
    x = x.mean(dim=(2, 3)) if x.ndim == 4 else x
    expected = x @ network.output.weight.double().T + network.output.bias.double()
    torch.testing.assert_close(logits.double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", NAMES)
def test_the_affine_parameters_of_whatever_normalises_train_and_are_in_the_tables(name, make_run, few_digits):
    run = with_normalisation(make_run("vgg-8-half" if "after" in name else MAPS, "all"), name)
    network, _ = draw(run, channels=1, classes=10, size=8)
    placed, layers = [*network.normalisation_places()], network.normalisations()
    initial = {n: (layer.weight, layer.bias) for n, layer in network.named_normalisations()}
    table = affine(network, initial)
    if name.startswith("none"):
        assert (layers, table.num_rows) == ([], 0)
        return
    assert set(placed) == set(layers)
    assert table.num_rows == network.parameter_counts()["batchnorm_parameters"] // 2
    assert table["gamma"].null_count == 0
    nulls = table["running_mean"].null_count, table["running_variance"].null_count
    has_mean, has_variance = hasattr(layers[0], "running_mean"), hasattr(layers[0], "running_var")
    assert nulls == (table.num_rows * (not has_mean), table.num_rows * (not has_variance))
    assert has_mean == (name in ("l1", "l2", "linf") or has_variance)
    for regime, keys in {"batchnorm": {"weight", "bias"}, "gamma": {"weight"}, "beta": {"bias"}}.items():
        trained = regimes.apply(network, regime, 0)
        assert {n.rpartition(".")[2] for n in trained} == keys
        assert len(trained) == len(layers) * len(keys)
    regimes.apply(network, "no-affine", 0)
    assert all((layer.weight == 1).all() and not layer.bias.requires_grad for layer in layers)
    if name == "layernorm":
        clamped = clamping(network, few_digits, thresholds=[0.5, 2.0])
        assert clamped["clamped"].to_pylist() == [0, table.num_rows] * 2


class Killed(BaseException):
    """An exception that no code catches."""


@pytest.mark.parametrize(
    ("architecture", "name"),
    [
        *(("mlp-8-8", name) for name in NAMES if name not in ("batchnorm", "instancenorm")),
        *((MAPS, name) for name in ("batchnorm-noisy", "ghost-4", "l1", "instancenorm")),
        ("vgg-8-half", "batchnorm-after"),
        ("deep-linear-3", "batchnorm"),
    ],
)
def test_a_run_trains_resumes_to_the_same_bits_and_is_loaded(
    architecture, name, make_run, few_digits, tmp_path
):
    for regime in ("all", "batchnorm"):
        if regime == "batchnorm" and name.startswith("none"):
            continue
        run = make_run(architecture, regime, epochs=1, batch_size=50, learning_rate=0.01, shift=0)
        run = with_normalisation(run, name)
        whole = train(run, few_digits)
        assert whole.diverged is None
        assert len(whole.trained) > 0

        def kill(live):
            raise Killed

        kept = Checkpoints({0: tmp_path / f"{regime}.checkpoint"}, {}, every=1)
        with pytest.raises(Killed):
            train_replicates([run], few_digits, checkpoints=kept, step_ended=kill)
        (resumed,) = train_replicates([run], few_digits, checkpoints=kept)
        assert resumed.resumed
        assert resumed.rows == whole.rows
        for key, tensor in whole.network.state_dict().items():
            assert torch.equal(tensor, resumed.network.state_dict()[key]), key
        folder = tmp_path / regime
        folder.mkdir()
        saving.save(folder, run, whole, few_digits, {"processes": 1, "precision": "float32"})
        assert evaluate(onlybn.load(folder), few_digits)["loss"] == whole.rows[-1]["loss"]


def test_replicates_with_noise_are_the_same_side_by_side_and_in_a_recorded_graph(
    make_run, few_digits, monkeypatch
):
    from conftest import recorded_by_running

    from onlybn.training.steps import GraphSteps

    short = {"epochs": 2, "batch_size": 50, "shift": 0, "learning_rate": 0.01}
    runs = [with_normalisation(make_run("mlp-8", "all", seed=s, **short), "batchnorm-noisy") for s in (0, 1)]
    alone = [train(run, few_digits).rows for run in runs]
    assert [outcome.rows for outcome in train_replicates(runs, few_digits)] == alone
    monkeypatch.setattr(
        loop, "_steps", lambda some, device, group: GraphSteps(some, device, recorded_by_running([]))
    )
    graphed = [outcome.rows[-1]["loss"] for outcome in train_replicates(runs, few_digits)]
    assert graphed == pytest.approx([rows[-1]["loss"] for rows in alone], rel=1e-3)


def test_a_process_of_several_takes_its_own_part_of_the_noise(make_run, few_digits, monkeypatch):
    monkeypatch.setattr(Group, "wrap", lambda self, network: network)
    run = with_normalisation(make_run("mlp-8", "all", batch_size=25), "none-noisy")
    heard = []
    for group in (Group(0, 1), Group(1, 2)):
        live = LiveRun(run, few_digits, group=group)
        layer = live.network.hidden[0].batchnorm
        layer.noise.register_forward_hook(lambda layer, given, output: heard.append(output - given[0]))
        images, labels = live.next_batch()
        live.gradients(images, labels, 25)
    torch.testing.assert_close(heard[0][12:], heard[1], rtol=0, atol=1e-5)


# names and misfits


@pytest.mark.parametrize(
    ("given", "spelled"), [("ghost-016", "ghost-16"), ("groupnorm-8", "groupnorm-8"), ("linf", "linf")]
)
def test_a_name_has_one_spelling(given, spelled):
    assert NORMALISATION.spelled(given) == spelled


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("ghost-0", "0 is not a number of at least 1"),
        ("ghost", "is not of the form ghost-N"),
        ("groupnorm-2.5", "is not of the form groupnorm-N"),
        ("ghost-1234567", "is not of the form ghost-N"),
        ("layernrom", "did you mean 'layernorm'"),
        ("l3", "unknown normalisation 'l3'"),
    ],
)
def test_a_wrong_name_is_rejected_in_one_sentence(name, sentence):
    with pytest.raises(ValueError, match=rf"^[^\n]*{sentence}[^\n]*$"):
        normalise.check(name)


@pytest.mark.parametrize("name", ["none", "none-noisy"])
def test_a_regime_that_needs_affine_parameters_is_refused_where_there_are_none(name):
    with pytest.raises(ValueError, match=rf"γ and β, which the normalisation {name} does not have"):
        normalise.acts(name, "batchnorm")
    assert normalise.acts(name, "all")


def test_a_partial_last_group_joins_the_one_before():
    x = torch.arange(11.0)[:, None]
    groups = [g.squeeze(-1).tolist() for g in GhostBatchNorm(3, 1)._groups(x)]
    assert groups == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8, 9, 10]]]
    assert [g.shape[:2] for g in GhostBatchNorm(20, 1)._groups(x)] == [(1, 11)]
    assert [g.shape[:2] for g in GhostBatchNorm(6, 1)._groups(x)] == [(1, 11)]


@pytest.mark.parametrize(
    ("name", "architecture", "batch", "sentence"),
    [
        ("ghost-1", "mlp-8", 32, "hidden.0.batchnorm would normalise a single value"),
        ("ghost-16", "mlp-8", 1, "in batches of 1: hidden.0.batchnorm would normalise a single value"),
        ("batchnorm", "mlp-8", 1, "hidden.0.batchnorm would normalise a single value"),
        ("groupnorm-7", "resnet-8", 32, "the 16 channels of batchnorm do not divide into 7 groups"),
        ("groupnorm-8", "mlp-8", 32, "hidden.0.batchnorm would normalise a single value"),
        ("instancenorm", "mlp-8", 32, "hidden.0.batchnorm would normalise a single value"),
        ("instancenorm", "vgg-8", 32, r"on images of 8×8 .* stages.3.0.batchnorm would normalise a single"),
        ("batchnorm-after", "resnet-8", 32, "as MLPs and VGGs have"),
        ("batchnorm-after", "deep-linear-3", 32, "as MLPs and VGGs have"),
    ],
)
def test_a_normalisation_that_does_not_fit_is_refused_in_one_sentence(name, architecture, batch, sentence):
    with pytest.raises(UserError, match=rf"^{name} does not fit {architecture}[^\n]*{sentence}[^\n]*$"):
        check_normalisation(name, architecture, channels=1, classes=10, size=8, batches=[64, batch])


@pytest.mark.parametrize("name", NAMES)
def test_a_normalisation_that_fits_is_accepted(name):
    for architecture in ("mlp-8", "vgg-11-half"):
        if (name, architecture) != ("instancenorm", "mlp-8"):
            check_normalisation(name, architecture, channels=3, classes=10, size=32, batches=[2])


def test_all_misfits_of_a_study_are_reported_before_it_starts(tmp_path):
    path = tmp_path / "fits.yaml"
    path.write_text(
        "dataset: digits\n"
        "training: {epochs: 1, batch_size: 128, learning_rate: 0.1, flip: false}\n"
        "seeds: 1\n"
        "experiments:\n"
        "  first: {architectures: [resnet-8, mlp-8], regimes: [all],"
        " normalisations: [ghost-1, groupnorm-3, batchnorm-after]}\n"
        "  second: {architectures: [resnet-8, mlp-8], regimes: [random-2, batchnorm]}\n"
        "  third: {architectures: [resnet-8], regimes: [all], record:"
        " {reestimated: {epochs: [1, 9]}, weights: {layers: [output, ouput, nonsuch]}}}\n"
        "  fourth: {architectures: [mlp-8], regimes: [all], record: {gradient-shift: {layers: [1.conv]}}}\n"
        "  fifth: {architectures: [mlp-8-sigmoid, resnet-8], regimes: [all]}\n"
        "figures: {figure-7: [fifth]}\n"
    )
    study = open_study(CONFIG | {"study": str(path)}, BUILTIN)
    with pytest.raises(UserError) as error:
        check_fits(study)
    lines = str(error.value).splitlines()
    for line, start in zip(
        lines,
        [
            "study: batchnorm-after does not fit resnet-8",
            "study: ghost-1 does not fit mlp-8",
            "study: gradient-shift.layers: unknown layer of mlp-8 '1.conv'",
            "study: groupnorm-3 does not fit mlp-8",
            "study: groupnorm-3 does not fit resnet-8",
            "study: mlp-8-sigmoid has no ReLU, whose activations a figure or table shows",
            "study: reestimated.epochs: 9 is beyond the last epoch of resnet-8 all",
            "study: the regime random-2 trains weights of convolutions, and mlp-8 has none",
            "study: weights.layers: unknown layer of resnet-8 'nonsuch'",
            "study: weights.layers: unknown layer of resnet-8 'ouput'; did you mean 'output'",
        ],
        strict=True,
    ):
        assert line.startswith(start)


def test_a_regime_of_entries_is_refused_for_an_mlp_when_it_is_drawn(make_run):
    with pytest.raises(UserError, match="random-2 trains weights of convolutions, and mlp-8 has none"):
        draw(make_run("mlp-8", "random-2"), channels=1, classes=10, size=8)


CUSTOM = """
from torch import nn
class Net(nn.Module):
    def __init__(self, channels, classes):
        super().__init__()
        self.conv, self.norm, self.relu = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4), nn.ReLU()
        self.output = nn.Linear(4, classes)
    def forward(self, x):
        return self.output(self.relu(self.norm(self.conv(x))).mean(dim=(2, 3)))
def net(channels, classes):
    return Net(channels, classes)
"""


def test_custom_networks_take_normalisations_or_refuse_them_in_one_sentence(make_run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "normed.py").write_text(CUSTOM)
    run = make_run("normed:net", "all")
    for name in ("ghost-4", "l1", "layernorm", "instancenorm", "batchnorm-noisy", "none-noisy"):
        network, _ = draw(with_normalisation(run, name), channels=1, classes=10, size=8)
        assert network(torch.randn(8, 1, 8, 8)).isfinite().all()
        assert network.network.norm in network.normalisation_places()
    for name in ("groupnorm-3", "batchnorm-after"):
        with pytest.raises(UserError, match=rf"^{name} does not fit normed:net[^\n]*$"):
            draw(with_normalisation(run, name), channels=1, classes=10, size=8)
    with pytest.raises(UserError, match=r"^normed:net does not work .* a single value has no variance$"):
        draw(with_normalisation(run, "instancenorm"), channels=1, classes=10, size=3)
