"""Dropout and the noise behind it: the same bits on every device, alone or beside others, after a kill."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import recorded_by_running

from onlybn.distributed import Group
from onlybn.models import build
from onlybn.models.dropout import Dropout, draw_from
from onlybn.networks.draw import draw
from onlybn.networks.variants import DEFAULT, initialise
from onlybn.noise import Noise, _spread, _spread_by_kernel
from onlybn.randomness import key
from onlybn.training import loop
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.forward import Forward
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train, train_replicates
from onlybn.training.steps import GraphSteps

CPU = torch.device("cpu")
WITH_DROPOUT = ["preactivation-wrn-10-1", "vgg-11-head-512"]


def noise(seed=0, step=0, first=0, device=CPU):
    found = Noise(seed, device)
    found.step.fill_(step)
    found.first = first
    return found


def numbers(*shape, purpose="p", **given):
    return noise(**given).uniform([purpose], shape)


def split_mix(state):
    """SplitMix64's output for a state, as its authors publish it, on NumPy's unsigned numbers."""
    z = np.asarray(state, np.uint64)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@pytest.mark.parametrize(("seed", "step"), [(0, 0), (2**40, 78_124)])
def test_the_numbers_are_those_of_a_second_implementation(seed, step):
    found = numbers(3, 2, 5, seed=seed, step=step, first=7).flatten(1).numpy()
    increment = np.array([0x9E3779B97F4A7C15], np.uint64)
    of_step = split_mix(np.frombuffer(key(seed, "p")[:8], "<u8") + np.uint64(step) * increment)
    for row, place in zip(found, range(7, 10), strict=True):
        example = split_mix(of_step + np.uint64(place) * increment)
        hashes = split_mix(example + np.arange(5, dtype=np.uint64) * increment)
        halves = np.stack([hashes & np.uint64(0xFFFFFFFF), hashes >> np.uint64(32)], axis=1).flatten()
        np.testing.assert_array_equal(row, (halves >> np.uint64(8)).astype(np.float64) / 2**24)
    assert split_mix(increment)[0] == 0xE220A8397B1DCDAF  # the published first number of seed 0


@pytest.mark.parametrize("elements", [1, 2, 7, 640])
def test_the_compiled_kernel_draws_the_numbers_of_the_operations_for_other_devices(elements):
    examples = torch.from_numpy(split_mix(np.arange(40)).view(np.int64))
    found = _spread_by_kernel(examples, elements)
    assert found.shape == (40, elements)
    assert torch.equal(found, _spread(examples, elements))


def test_the_numbers_are_uniform_and_differ_between_seeds_purposes_steps_and_examples():
    first = numbers(50, 4_001)
    assert first.dtype == torch.float32
    assert 0 <= first.min() < 1e-4 < 0.9999 < first.max() < 1
    counts = torch.histc(first, 20, 0, 1)
    expected = first.numel() / 20
    assert ((counts - expected) ** 2 / expected).sum() < 45  # χ² with 19 degrees of freedom: p > 0.0007
    others = [
        numbers(50, 4_001, seed=1),
        numbers(50, 4_001, step=1),
        numbers(50, 4_001, purpose="q"),
        first.roll(1, 0),
        first.roll(1, 1),
        first.roll(2, 1),
    ]
    for other in others:
        correlation = torch.corrcoef(torch.stack([first.flatten(), other.flatten()]))[0, 1]
        assert abs(correlation) < 4.5 / math.sqrt(first.numel())


def test_a_process_with_a_part_of_the_batch_draws_the_numbers_of_that_part():
    whole = numbers(10, 3, 3)
    assert torch.equal(torch.cat([numbers(4, 3, 3), numbers(6, 3, 3, first=4)]), whole)


def test_a_process_counts_examples_from_the_start_of_the_whole_batch(few_digits, make_run, monkeypatch):
    monkeypatch.setattr(Group, "wrap", lambda self, network: network)
    live = LiveRun(make_run("resnet-8", batch_size=25), few_digits, group=Group(1, 2))
    images, labels = live.next_batch()
    live.step(images, labels, 25, 0.1)
    assert (live.noise.first, len(labels)) == (12, 13)


@pytest.mark.parametrize("shape", [(40, 500), (20, 10, 7, 9)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dropout_drops_its_share_and_scales_the_rest_whose_gradient_alone_flows(shape, dtype):
    layer = Dropout(0.3)
    draw_from(noise(), torch.nn.Sequential(layer))
    x = torch.full(shape, 1.5, dtype=dtype)
    if len(shape) == 4:
        x = x.to(memory_format=torch.channels_last)
    x.requires_grad_()
    y = layer(x)
    assert (y.dtype, y.stride()) == (dtype, x.stride())
    kept = y != 0
    assert kept.float().mean().item() == pytest.approx(0.7, abs=4 * math.sqrt(0.21 / x.numel()))
    assert torch.equal(y[kept], torch.full_like(y[kept], 1.5 / 0.7))
    y.sum().backward()
    assert torch.equal(x.grad != 0, kept)
    assert torch.equal(layer(x), y)
    assert torch.equal(layer(x[:5]), y[:5])
    assert torch.equal(layer.eval()(x), x)


def test_each_layer_and_each_step_has_masks_of_its_own_and_tests_have_none():
    network = build("vgg-11-head-512", channels=1, classes=10)
    initialise(network, DEFAULT, 0)
    source, masks = noise(), []
    draw_from(source, network)
    for layer in network.hidden:
        layer.dropout.register_forward_hook(lambda layer, given, output: masks.append(output == 0))
    images = torch.randn(4, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    network(images)
    source.step.fill_(1)
    network(images)
    assert not any(torch.equal(masks[0], other) for other in masks[1:])
    network.eval()
    assert torch.equal(network(images), network(images))


@pytest.mark.parametrize("name", WITH_DROPOUT)
def test_a_network_with_dropout_is_no_static_graph(name, make_run):
    network, _ = draw(make_run(name, "all"), channels=1, classes=10)
    assert Forward(network, network, torch.bfloat16, (4, 1, 8, 8)).static is None


def assert_same(outcomes, others):
    for one, other in zip(outcomes, others, strict=True):
        assert one.rows == other.rows
        for name, tensor in one.network.state_dict().items():
            assert torch.equal(tensor, other.network.state_dict()[name]), name


@pytest.fixture
def runs(make_run):
    short = {"regime": "batchnorm+output", "epochs": 2, "batch_size": 40, "shift": 0}
    return [make_run("preactivation-wrn-10-1", seed=seed, **short) for seed in (0, 1)]


class Killed(BaseException):
    """An exception that no code catches."""


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16])
def test_runs_with_dropout_are_the_same_alone_together_and_after_a_kill(
    precision, few_digits, runs, tmp_path
):
    given = {"precision": precision}
    together = train_replicates(runs, few_digits, **given)
    assert_same([train(run, few_digits, **given) for run in runs], together)

    def kill(live):
        if live[0].taken == 4:
            raise Killed

    kept = Checkpoints({seed: tmp_path / f"{seed}" for seed in (0, 1)}, {}, every=1)
    with pytest.raises(Killed):
        train_replicates(runs, few_digits, checkpoints=kept, step_ended=kill, **given)
    resumed = train_replicates(runs, few_digits, checkpoints=kept, **given)
    assert all(outcome.resumed for outcome in resumed)
    assert_same(resumed, together)


def test_a_recorded_graph_draws_the_masks_of_each_step(few_digits, runs, monkeypatch):
    runs = [replace(run, training=run.training.model_copy(update={"learning_rate": 0.0})) for run in runs]
    eager = train_replicates(runs, few_digits)
    monkeypatch.setattr(
        loop, "_steps", lambda some, device, group: GraphSteps(some, device, recorded_by_running([]))
    )
    # Nothing moves but the statistics of what dropout leaves.
    assert_same(train_replicates(runs, few_digits), eager)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_draws_the_cpus_numbers_also_in_a_graph():
    gpu = noise(seed=3, step=5, first=2, device=torch.device("cuda"))
    shape = (8, 31, 31, 16)
    assert torch.equal(gpu.uniform(["p"], shape).cpu(), numbers(*shape, seed=3, step=5, first=2))
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        found = gpu.uniform(["p"], shape)
    for step in (6, 7):
        gpu.step.fill_(step)
        graph.replay()
        assert torch.equal(found.cpu(), numbers(*shape, seed=3, step=step, first=2))
