"""Reparametrisations: Ψ, its slope and its steps against computations written apart, and what a run keeps."""

import json
import math
from dataclasses import replace
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import BUILTIN
from scipy import special
from torch import nn
from torch.nn import functional as F

import onlybn
from onlybn import distributed
from onlybn.axes import REPARAMETRISATION
from onlybn.configuration import open_study
from onlybn.errors import UserError
from onlybn.networks import functions, ranges, regimes, reparametrise
from onlybn.networks.draw import draw
from onlybn.networks.state import frozen
from onlybn.observers import probes, weights
from onlybn.runs import saving
from onlybn.tensors import digest, read_tensors
from onlybn.training import loop
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.evaluation import evaluate
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train, train_replicates
from onlybn.training.optimisers import Adam, Optimiser
from onlybn.training.steps import GraphSteps

SHAPE = {"channels": 1, "classes": 10}
UNIFORM = "kaiming-uniform_gamma-uniform"
# Ψ, its inverse and its slope by w (Section 3), in NumPy.
WRITTEN_APART = {
    "arctan-1.2-0.6": (
        lambda v: 1.2 * np.arctan(v / 0.6),
        lambda w: 0.6 * np.tan(w / 1.2),
        lambda w: 2.0 * np.cos(w / 1.2) ** 2,
    ),
    "arsinh-0.8-0.5": (
        lambda v: 0.8 * np.arcsinh(v / 0.5),
        lambda w: 0.5 * np.sinh(w / 0.8),
        lambda w: 1.6 / np.cosh(w / 0.8),
    ),
    "erf-1.5-0.5": (
        lambda v: 1.5 * special.erf(v / 0.5),
        lambda w: 0.5 * special.erfinv(w / 1.5),
        lambda w: 6 / math.sqrt(math.pi) * np.exp(-(special.erfinv(w / 1.5) ** 2)),
    ),
    "powerpropagation-1.5": (
        lambda v: np.sign(v) * np.abs(v) ** 1.5,
        lambda w: np.sign(w) * np.abs(w) ** (2 / 3),
        lambda w: 1.5 * np.abs(w) ** (1 / 3),
    ),
    "linear-1.6": (lambda v: 1.6 * v, lambda w: w / 1.6, lambda w: np.full_like(w, 1.6)),
}
LEARNED = ("arctan-fine-1.2-0.6", "arctan-coarse-1.2-0.6")
EVERY = (*WRITTEN_APART, *LEARNED, "weight-norm")


def through(run, name, variant=UNIFORM):
    """The run with its weights trained through a function, from a draw that fits it."""
    return replace(run, values=((REPARAMETRISATION.name, REPARAMETRISATION.spelled(name)),), variant=variant)


# the functions


@pytest.mark.parametrize("name", WRITTEN_APART)
def test_each_function_its_inverse_and_slope_equal_a_computation_written_apart(name):
    forward, inverse, slope = WRITTEN_APART[name]
    w = np.linspace(-1.1, 1.1, 201)
    psi, exact = reparametrise.function(name), torch.from_numpy(w)
    v = psi.right_inverse(exact)
    for ours, theirs in (
        (v, inverse(w)),
        (psi(v), w),
        (psi(v), forward(v.numpy())),
        (psi.slope(v), slope(w)),
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, atol=1e-13)
    rounded = psi(psi.right_inverse(exact).float())
    assert abs(rounded.double() - exact).max() <= 1e-6


@pytest.mark.parametrize("name", EVERY)
def test_slopes_are_the_derivatives_and_no_zero_gives_a_nan(name):
    psi = reparametrise.function(name)
    if name == "weight-norm":
        weight = torch.zeros(2, 3, 1, 1, dtype=torch.float64)
        weight[0, 0] = 0.5
        assert torch.equal(psi(*psi.right_inverse(weight))[0], weight[0])
        return
    v = torch.tensor([-0.7, -0.1, 0.2, 0.9], dtype=torch.float64, requires_grad=True)
    (derivative,) = torch.autograd.grad(psi(v).sum(), v)
    torch.testing.assert_close(psi.slope(v.detach()), derivative)
    assert psi.slope(torch.zeros(1)).isfinite() and psi(torch.zeros(1)) == 0


NAMES = {
    "arctan-0-1": "'arctan-0-1': 0 is not a number above 0",
    "arctan-0.8": "'arctan-0.8' is not of the form arctan-A-B, with two numbers",
    "arctan-fine-1": "'arctan-fine-1' is not of the form arctan-fine-A-B, with two numbers",
    "powerpropagation-0.5": "'powerpropagation-0.5': 0.5 is not a number of at least 1",
    "weight-norm-2": "'weight-norm-2' is not of the form weight-norm, with no number",
    "arctn-1-1": "unknown reparametrisation 'arctn-1-1'; did you mean 'arctan-A-B'? Allowed: none, arc",
    "arctan-1-1-last": "unknown reparametrisation 'arctan-1-1-last'",
    "nowhere:psi": "'nowhere:psi': the module nowhere is neither beside the study file nor on Python's",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_name_is_refused_in_one_sentence(name):
    with pytest.raises(ValueError) as refused:
        REPARAMETRISATION.check(name)
    assert NAMES[name] in str(refused.value)
    assert "\n" not in str(refused.value)


def test_numbers_have_one_spelling_however_they_are_written():
    assert REPARAMETRISATION.spelled("arctan-1.0-0.60") == "arctan-1-0.6"
    assert REPARAMETRISATION.spelled("arctan-fine-0.5-1.0-but-last") == "arctan-fine-0.5-1-but-last"
    assert REPARAMETRISATION.spelled("weight-norm") == "weight-norm"
    config = {"study": "digits", "reparametrisations": "none,arctan-1.0-0.6", "variants": UNIFORM}
    study = open_study(config, BUILTIN)
    assert {tuple(grid.reparametrisations) for grid in study.experiments.values()} == {
        ("none", "arctan-1-0.6")
    }
    assert study.runs_name == "digits"  # existing runs are shared, tables have a folder of their own
    assert study.name == f"digits_reparametrisations-none,arctan-1-0.6_variants-{UNIFORM}"


def test_a_regime_that_trains_single_entries_is_refused_with_a_function():
    with pytest.raises(
        ValueError, match="the regime random-2 trains single entries of weights, which the rep"
    ):
        REPARAMETRISATION.acts("arctan-1-1", "random-2")


def test_a_function_that_reaches_no_weight_that_trains_is_neutral(make_run):
    for name in ("arctan-1-0.6-first", "arctan-1-0.6-but-last", "arctan-1-0.6"):
        for regime in regimes.REGIMES:
            run = replace(make_run(regime=regime), variant=UNIFORM, values=((REPARAMETRISATION.name, name),))
            network, _ = draw(run, **SHAPE)
            reached = any(True for _ in reparametrise.with_functions(network))
            assert REPARAMETRISATION.acts(name, regime) == reached, (name, regime)


# the start


@pytest.mark.parametrize("regime", regimes.REGIMES)
def test_only_trainable_weights_go_through_a_function(make_run, regime):
    run = make_run(regime=regime)
    plain, _ = draw(replace(run, variant=UNIFORM), **SHAPE)
    network, _ = draw(through(run, "arctan-1-0.6"), **SHAPE)
    for name, layer in network.named_layers((nn.Conv2d, nn.Linear, nn.BatchNorm2d)):
        is_weight = not isinstance(layer, nn.BatchNorm2d) and layer.weight.requires_grad
        assert hasattr(layer, "psi") == is_weight
        assert torch.equal(layer.weight, plain.get_submodule(name).weight)
    assert any(hasattr(layer, "psi") for layer in network.modules()) == regimes.trains_weights(regime)
    assert digest(frozen(network)) == digest(frozen(plain))


def test_a_function_may_be_on_the_first_convolution_or_on_all_but_the_last_layer(make_run):
    for ending, without in (("-first", None), ("-but-last", "output")):
        network, _ = draw(through(make_run(regime="all"), f"arctan-1-1{ending}"), **SHAPE)
        having = [n for n, layer in network.named_layers((nn.Conv2d, nn.Linear)) if hasattr(layer, "psi")]
        every = [name for name, _ in network.named_layers((nn.Conv2d, nn.Linear))]
        assert having == (["convolution"] if without is None else [n for n in every if n != without])


@pytest.mark.parametrize("name", EVERY)
def test_training_starts_at_the_drawn_weights_and_outputs(make_run, few_digits, name):
    plain = LiveRun(replace(make_run(regime="all"), variant=UNIFORM), few_digits).network
    live = LiveRun(through(make_run(regime="all"), name), few_digits).network
    for one, other in zip(plain.parameters(), settled(live).parameters(), strict=True):
        assert (one - other).abs().max() <= 1e-6
    batch, _ = next(few_digits.test_batches(70))
    with torch.no_grad():
        assert (plain.eval()(batch) - live.eval()(batch)).abs().max() <= 1e-5


def settled(network):
    reparametrise.settle(network)
    return network


@pytest.mark.parametrize("name", ["arctan-0.3-0.5", "erf-0.5-0.5", "arctan-fine-0.3-0.5"])
def test_a_draw_outside_the_range_is_refused_with_the_smallest_number_that_fits(make_run, name):
    run = through(make_run(regime="all"), name, "kaiming-normal_gamma-uniform")
    with pytest.raises(UserError) as refused:
        draw(run, **SHAPE)
    text = str(refused.value)
    assert text.startswith(f"{name} does not fit the drawn weights: the largest of convolution is 1.")
    needed = text.rpartition(" ")[2]
    stem, _, b = name.rsplit("-", 2)
    draw(through(run, f"{stem}-{needed}-{b}", run.variant), **SHAPE)
    less = f"{float(needed) - 0.01:.2f}"
    with pytest.raises(UserError):
        draw(through(run, f"{stem}-{less}-{b}", run.variant), **SHAPE)


def test_the_start_of_a_study_names_the_number_that_fits_all_of_its_seeds(tmp_path):
    (tmp_path / "psi.yaml").write_text(
        "dataset: digits\n"
        "training: {epochs: 1, batch_size: 32, learning_rate: 0.1, flip: false}\n"
        "seeds: 4\n"
        "experiments:\n"
        "  e: {architectures: [resnet-8], regimes: [all], reparametrisations: [none, arctan-0.5-0.5]}\n"
    )
    study = open_study({"study": str(tmp_path / "psi.yaml")}, tmp_path)
    with pytest.raises(UserError) as refused:
        ranges.check_ranges(study)
    text = str(refused.value)
    assert text.startswith(
        "study: resnet-8 kaiming-normal_gamma-uniform: arctan-0.5-0.5 does not fit the drawn"
    )
    assert " in seed " in text and "\n" not in text
    needed = text.rpartition(" ")[2]
    fitting = (tmp_path / "psi.yaml").read_text().replace("arctan-0.5", f"arctan-{needed}")
    (tmp_path / "psi.yaml").write_text(fitting)
    ranges.check_ranges(open_study({"study": str(tmp_path / "psi.yaml")}, tmp_path))


# steps


class Apart:
    """The weights of a network in float64 as functions of what trains, by formulas written apart."""

    def __init__(self, name, weights):
        self.kind, *numbers = name.replace("-fine", "").replace("-coarse", "").split("-")
        self.is_learned, self.is_norm = name in LEARNED, name == "weight-norm"
        self.a, self.b = ([float(n) for n in numbers if n != "norm"] + [0.0, 0.0])[:2]
        if self.is_norm:
            starts = [w.clone() for w in weights]
        else:
            inverse = WRITTEN_APART["-".join([self.kind, *numbers])][1]
            starts = [torch.from_numpy(inverse(w.numpy())) for w in weights]
        self.v = [start.requires_grad_() for start in starts]
        self.norms = [
            w.flatten(1).norm(dim=1).view(-1, *[1] * (w.dim() - 1)).requires_grad_() for w in weights
        ]
        pairs = len(weights) if "fine" in name else 1
        self.pairs = [
            [torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (self.a, self.b)]
            for _ in range(pairs)
        ]

    def weight(self, place):
        v, a, b = self.v[place], self.a, self.b
        if self.is_norm:
            return self.norms[place] * v / v.flatten(1).norm(dim=1).view_as(self.norms[place])
        if self.is_learned:
            a, b = self.pairs[place % len(self.pairs)]
        return {
            "arctan": lambda: a * torch.atan(v / b),
            "arsinh": lambda: a * torch.log(v / b + torch.sqrt((v / b) ** 2 + 1)),
            "erf": lambda: a * torch.erf(v / b),
            "powerpropagation": lambda: torch.sign(v) * v.abs() ** a,
            "linear": lambda: a * v,
        }[self.kind]()

    @property
    def groups(self):
        """What decays, and what does not: fixed functions decay on the weight, others on what trains."""
        if self.is_norm:
            return [*self.v, *self.norms], []
        if self.is_learned:
            return self.v, [number for pair in self.pairs for number in pair]
        return [], self.v


def batches(run, images):
    """Yield ten batches in float64."""
    shown = {"seed": run.seed, "batch_size": 32, "shift": 0.125, "flip": False}
    every = (batch for epoch in (1, 2, 3) for batch in images.training_batches(**shown, epoch=epoch))
    return ((pixels.double(), labels) for pixels, labels in islice(every, 10))


def ten_steps(run, images):
    """Return a run's weights after ten steps, in float64."""
    network, trained = draw(run, **SHAPE)
    network.double().train()
    optimiser = Optimiser(network, trained.values(), run.training)
    for pixels, labels in batches(run, images):
        F.cross_entropy(network(pixels), labels).backward()
        optimiser.step(run.training.learning_rate)
        optimiser.forget_gradients()
    return [layer.weight.detach() for _, layer in network.named_layers((nn.Conv2d, nn.Linear))]


def ten_steps_apart(run, images, name):
    """Return the same, with torch's optimisers and functions written apart."""
    training = run.training
    network, _ = draw(replace(run, values=()), **SHAPE)
    network.double().train()
    weights = [layer.weight for _, layer in network.named_layers((nn.Conv2d, nn.Linear))]
    apart = Apart(name, [weight.detach() for weight in weights])
    others = [p for p in network.parameters() if not any(p is weight for weight in weights)]
    decayed, free = apart.groups
    rate, decay = training.learning_rate, training.weight_decay
    if training.optimiser == "sgd":
        groups = [{"params": some} for some in ([*others, *decayed], free) if some]
        groups[-1]["weight_decay"] = 0.0 if free else decay
        optimiser = torch.optim.SGD(groups, lr=rate, momentum=training.momentum, weight_decay=decay)
    else:  # Adam follows the weights' own gradients, and the slopes scale its steps
        optimiser = torch.optim.Adam([*others, *weights], lr=rate, weight_decay=decay)
    for pixels, labels in batches(run, images):
        computed = [apart.weight(place) for place in range(len(weights))]
        with torch.no_grad():
            for weight, value in zip(weights, computed, strict=True):
                weight.copy_(value)
        optimiser.zero_grad()
        for weight in weights:
            weight.grad = None
        F.cross_entropy(network(pixels), labels).backward()
        if training.optimiser == "adam":
            optimiser.step()
            for place, weight in enumerate(weights):
                (slope,) = torch.autograd.grad(computed[place].sum(), apart.v[place])
                apart.v[place].data += (weight.detach() - computed[place].detach()) * slope
            continue
        for weight, value in zip(weights, computed, strict=True):
            extra = decay * value.detach() if free is apart.v else 0
            value.backward(weight.grad + extra, retain_graph=True)
        optimiser.step()
    return [apart.weight(place).detach() for place in range(len(weights))]


@pytest.mark.parametrize(
    ("name", "optimiser"),
    [*((name, "sgd") for name in EVERY), ("arctan-1.2-0.6", "adam"), ("powerpropagation-1.5", "adam")],
)
def test_ten_steps_equal_a_computation_written_apart_in_float64(make_run, few_digits, name, optimiser):
    rate = 0.02 if optimiser == "sgd" else 0.001
    run = make_run(regime="all", learning_rate=rate, weight_decay=0.05, optimiser=optimiser)
    run = through(run, name)
    for ours, theirs in zip(ten_steps(run, few_digits), ten_steps_apart(run, few_digits, name), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-8)


def test_adam_without_a_function_is_torchs_adam():
    draw = torch.Generator().manual_seed(0)
    ours, theirs = ([nn.Parameter(torch.linspace(-1, 1, n)) for n in (7, 3)] for _ in range(2))
    adam = Adam(ours, momentum=0.9, weight_decay=0.01)
    other = torch.optim.Adam(theirs, lr=0.01, weight_decay=0.01)
    for _ in range(20):
        for one, twin in zip(ours, theirs, strict=True):
            one.grad = torch.randn(one.shape, generator=draw)
            twin.grad = one.grad.clone()
        adam.step(0.01)
        other.step()
    for one, twin in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, twin, rtol=1e-6, atol=1e-7)


def weights_alone(network, seed):
    return [layer.weight for _, layer in network.named_layers((nn.Conv2d, nn.Linear))]


def test_linear_s_is_sgd_at_s_squared_times_the_rate(make_run, few_digits):
    run = replace(make_run(regime="all", learning_rate=0.01, weight_decay=0.02), variant=UNIFORM)
    run = replace(run, regime=f"{__name__}:weights_alone")
    control = train(through(run, "linear-2"), few_digits).network
    faster = train(replace(run, training=run.training.model_copy(update={"learning_rate": 0.04})), few_digits)
    for one, other in zip(weights_alone(control, 0), weights_alone(faster.network, 0), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_the_identity_gives_the_bits_of_no_function(make_run, few_digits, optimiser):
    run = replace(make_run(regime="all", learning_rate=0.01, optimiser=optimiser), variant=UNIFORM)
    plain = train(run, few_digits)
    identity = train(replace(run, values=((REPARAMETRISATION.name, "linear-1"),)), few_digits)
    assert plain.rows == identity.rows
    for one, other in zip(plain.network.parameters(), settled(identity.network).parameters(), strict=True):
        assert torch.equal(one, other)


def test_an_optimiser_is_in_the_specification_only_if_it_is_not_sgd(make_run):
    assert "optimiser" not in make_run().specification["training"]
    assert make_run(optimiser="adam").specification["training"]["optimiser"] == "adam"


# graphs, checkpoints, divergence


def graphed(some, device, group):
    def record(branches):
        def run():
            for branch in branches:
                branch()

        run()
        return run

    return GraphSteps(some, device, record)


class Eager(GraphSteps):
    """Takes each step operation by operation, with the rate rounded as in a graph."""

    def __call__(self, *args, **options):
        super().__call__(*args, eagerly=True)


class Killed(BaseException):
    pass


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
@pytest.mark.parametrize("name", ["arctan-1.2-0.6", "arctan-coarse-1.2-0.6", "weight-norm"])
def test_recorded_steps_and_resumed_ones_give_the_same_bits(
    make_run, few_digits, tmp_path, monkeypatch, name, optimiser
):
    settings = {"regime": "all", "learning_rate": 0.01, "optimiser": optimiser}
    runs = [through(make_run(seed=seed, **settings), name) for seed in (0, 1)]
    steps = {"eager": lambda some, device, group: Eager(some, device), "recorded": graphed}

    def kill(live):
        if live.taken == 4 and not live.begun:
            raise Killed

    def kept():
        return Checkpoints({seed: tmp_path / f"{seed}" for seed in (0, 1)}, {}, every=3, share=0.0)

    monkeypatch.setattr(loop, "_steps", steps["eager"])
    undisturbed = train_replicates(runs, few_digits)
    with pytest.raises(Killed):
        train_replicates(runs, few_digits, checkpoints=kept(), report=kill)
    resumed = train_replicates(runs, few_digits, checkpoints=kept())
    assert all(outcome.resumed for outcome in resumed)
    monkeypatch.setattr(loop, "_steps", steps["recorded"])
    recorded = train_replicates(runs, few_digits)
    for one, *others in zip(undisturbed, resumed, recorded, strict=True):
        for other in others:
            assert one.rows == other.rows
            for key, tensor in one.network.state_dict().items():
                assert torch.equal(tensor, other.network.state_dict()[key]), key


@pytest.mark.parametrize(("key", "is_over"), [("a", False), ("b", True)])
def test_a_learned_number_that_reaches_0_is_recorded_and_diverges_only_by_its_loss(
    make_run, few_digits, key, is_over
):
    run = through(make_run(regime="all", epochs=1), "arctan-coarse-1.2-0.6")
    live = LiveRun(run, few_digits, recordings={"weights": {"every": 1}})
    (psi,) = {layer.psi for layer in live.network.modules() if "psi" in layer._modules}
    with torch.no_grad():
        getattr(psi, key).zero_()
        live.optimiser.computed[0].values[0].zero_()  # arctan(0 / 0) where b is 0
    for one in live.optimiser.computed:
        one.push()
    live.step(*live.next_batch(), 32, 0.0)
    live.step_ended()
    live.tested, live.taken = 0, 4
    live.test(0.0)
    assert live.recorded["weights"][0][key] == 0
    assert (live.diverged is not None) == is_over


# what a folder keeps


@pytest.mark.parametrize("name", ["arctan-1.2-0.6", "arctan-fine-1.2-0.6", "weight-norm"])
def test_a_folder_holds_the_weights_and_loading_gives_an_ordinary_network(
    make_run, few_digits, tmp_path, name
):
    run = through(make_run(regime="all", epochs=1), name)
    outcome = train(run, few_digits)
    saving.save(tmp_path, run, outcome, few_digits, {"processes": 1, "precision": "float32"})
    state, _ = read_tensors(tmp_path / "state.safetensors")
    plain, _ = draw(replace(run, values=()), **SHAPE)
    own = {f"{layer}.psi.{key}" for layer, _ in plain.named_layers((nn.Conv2d, nn.Linear)) for key in "ab"}
    learned = {name for name in state if "num_batches" not in name}
    assert learned - plain.state_dict().keys() == (own if "fine" in name else set())
    network = onlybn.load(tmp_path)
    assert [n for n, _ in network.named_parameters()] == [n for n, _ in plain.named_parameters()]
    assert [n for n, _ in network.named_modules()] == [n for n, _ in plain.named_modules()]
    assert evaluate(network, few_digits)["loss"] == outcome.rows[-1]["loss"]
    for one, other in zip(network.parameters(), settled(outcome.network).parameters(), strict=True):
        assert torch.equal(one, other)
    record = json.loads((tmp_path / "run.json").read_text())
    assert record["axes"] == {"reparametrisation": run.value(REPARAMETRISATION)}
    assert record["counts"]["parameters"] == plain.parameter_counts()["parameters"]


# custom functions


class Tanh(functions.Elementwise):
    def forward(self, v):
        return torch.tanh(v)

    def right_inverse(self, weight):
        return torch.atanh(weight)

    def slope(self, v):
        return 1 - torch.tanh(v).square()


def tanh(weight):
    return Tanh()


def not_invertible(weight):
    psi = Tanh()
    psi.right_inverse = lambda weight: weight
    return psi


def nothing(weight):
    return None


def test_a_custom_function_trains_and_a_wrong_one_is_refused_in_one_sentence(make_run, few_digits):
    outcome = train(through(make_run(regime="all"), f"{__name__}:tanh"), few_digits)
    assert outcome.diverged is None
    assert all(layer.weight.abs().max() < 1 for layer in outcome.network.convolutions())
    with pytest.raises(
        UserError, match=r"not_invertible: forward\(right_inverse\(w\)\) differs from a drawn"
    ):
        draw(through(make_run(regime="all"), f"{__name__}:not_invertible"), **SHAPE)
    with pytest.raises(UserError, match="returned a NoneType, expected a torch"):
        draw(through(make_run(regime="all"), f"{__name__}:nothing"), **SHAPE)


class NamedPsi(nn.Module):
    """A network that calls its last layer psi."""

    def __init__(self, channels, classes):
        super().__init__()
        self.first, self.batchnorm = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4)
        self.relu, self.psi = nn.ReLU(), nn.Linear(4, classes)

    def forward(self, images):
        return self.psi(self.relu(self.batchnorm(self.first(images))).mean(dim=(2, 3)))


@pytest.mark.parametrize("name", ["none", "arctan-fine-1.2-0.6"])
def test_a_module_of_a_custom_network_may_be_named_psi(make_run, few_digits, monkeypatch, name):
    run = make_run(f"{__name__}:NamedPsi", regime="all", epochs=1)
    run = run if name == "none" else through(run, name)
    outcome = train(run, few_digits)
    assert outcome.diverged is None
    network = outcome.network
    functions = {f"network.{layer}.psi.{key}" for layer in ("first", "psi") for key in "ab"}
    learned = {n for n, _ in network.named_parameters()} - probes.trained(network).keys()
    assert learned == (functions if name != "none" else set())
    ignored = []
    ddp = type("DDP", (), {"__init__": lambda *_, **__: None})
    ddp._set_params_and_buffers_to_ignore_for_model = staticmethod(lambda _, names: ignored.extend(names))
    monkeypatch.setattr(distributed, "DistributedDataParallel", ddp)
    distributed.Group(size=2).wrap(network)
    assert set(ignored) == learned
    assert isinstance(settled(network).network.psi, nn.Linear)


# the recording


def test_the_recording_has_the_function_of_every_layer_and_the_share_near_0(make_run, few_digits):
    run = through(make_run(regime="all", epochs=1), "arctan-1.2-0.6")
    outcome = train(run, few_digits, recordings={"weights": {}})
    rows = outcome.recorded["weights"]
    start, end = rows[: len(rows) // 2], rows[len(rows) // 2 :]
    drawn, _ = draw(run, **SHAPE)
    layers = dict(drawn.named_layers((nn.Conv2d, nn.Linear)))
    assert [row["layer"] for row in start] == list(layers) == [row["layer"] for row in end]
    assert [row["number"] for row in start] == list(range(len(layers)))
    final = dict(outcome.network.named_layers((nn.Conv2d, nn.Linear)))
    for row, name in zip(end, layers, strict=True):
        weight, before = (net[name].weight.detach().double().numpy() for net in (final, layers))
        small = np.abs(weight) < weights.NEAR * np.sqrt((before**2).mean())
        slopes = 2.0 * np.cos(weight / 1.2) ** 2
        assert row["near_zero"] == pytest.approx(100 * small.mean())
        assert row["slope"] == pytest.approx(slopes.mean(), rel=1e-6)
        assert row["flat"] == pytest.approx(100 * (slopes < 0.02).mean())
        assert (row["a"], row["b"], row["beyond"]) == (1.2, 0.6, 0)
        assert row["limit"] == pytest.approx(1.2 * math.pi / 2)
        assert row["percentile_100"] == weight.max() < row["limit"]
