"""Replicates side by side: each trains as if alone, in eager steps or in a recorded graph."""

from dataclasses import replace

import pytest
import torch
from conftest import recorded_by_running

from onlybn.datasets.small import Split
from onlybn.runs import records, saving
from onlybn.training import loop
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train, train_replicates
from onlybn.training.steps import EagerSteps, GraphSteps


def assert_equal(one, other):
    assert one.rows == other.rows
    for ours, theirs in zip(one.trained.values(), other.trained.values(), strict=True):
        assert torch.equal(ours, theirs)


def test_replicates_trained_together_equal_those_trained_alone(few_digits, make_run):
    runs = [make_run(seed=seed, regime="random-2") for seed in (0, 3)]
    for run, outcome in zip(runs, train_replicates(runs, few_digits), strict=True):
        assert_equal(outcome, train(run, few_digits))


def test_the_others_continue_when_a_replicate_diverges(few_digits, make_run, monkeypatch):
    test = LiveRun.test

    def spoiled(self, *given):
        if (self.run.seed, self.taken) == (1, 8):
            self.measures.sums[1] = torch.nan
        test(self, *given)

    monkeypatch.setattr(LiveRun, "test", spoiled)
    runs = [make_run(seed=seed, epochs=3) for seed in (0, 1, 2)]
    outcomes = train_replicates(runs, few_digits)
    assert [outcome.diverged for outcome in outcomes] == [None, 2, None]
    assert [len(outcome.rows) for outcome in outcomes] == [6, 4, 6]
    assert_equal(outcomes[2], train(runs[2], few_digits))


def test_recorded_steps_equal_eager_ones_and_recording_changes_nothing(few_digits, make_run, monkeypatch):
    runs = [make_run(seed=seed, regime="all", momentum=0.5) for seed in (0, 1)]  # 3 batches of 32, one of 4
    eager = train_replicates(runs, few_digits)
    calls = []
    monkeypatch.setattr(
        loop, "_steps", lambda some, device, group: GraphSteps(some, device, recorded_by_running(calls))
    )
    for one, other in zip(train_replicates(runs, few_digits), eager, strict=True):
        for ours, theirs in zip(one.rows, other.rows, strict=True):
            assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-4)
        for ours, theirs in zip(one.trained.values(), other.trained.values(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)
    assert calls == [2, 2]  # a graph for each size of batch, with a branch for each replicate


def test_steps_of_a_network_with_hooks_are_run_and_not_replayed(few_digits, make_run, monkeypatch):
    replayed, heard = [], []

    class Replayed(EagerSteps):
        def __call__(self, *given, **options):
            replayed.append(heard.copy())
            super().__call__(*given, **options)

    hooks = []

    def listen(live):
        if live.taken == 4:
            (layer, *_) = live.network.normalisations()
            hooks.append(layer.register_forward_hook(lambda module, *_: heard.append(module.training)))
        else:
            hooks[0].remove()

    monkeypatch.setattr(loop, "_steps", lambda some, device, group: Replayed(some))
    run = make_run(epochs=3)
    outcome = train(run, few_digits, report=listen)
    assert heard == [True] * 4 + [False]  # four batches are trained on, and one is tested
    assert replayed == [[]] * 4 + [heard] * 4  # before and after
    assert_equal(outcome, train(run, few_digits))


def test_a_records_rate_counts_the_images_of_all_seeds_side_by_side(few_digits, make_run, tmp_path):
    runs = [make_run(seed=seed) for seed in (0, 1)]
    settings = {"processes": 1, "precision": "float32"}
    for run, outcome in zip(runs, train_replicates(runs, few_digits), strict=True):
        for together in ({}, {"seeds_together": [0, 1]}):
            saving.save(tmp_path, run, outcome, few_digits, settings | together)
            rate = records.read_record(tmp_path)["wall_clock"]["training_images_per_second"]
            assert rate == round((1 + len(together)) * 2 * 100 / outcome.seconds, 1)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_on_a_gpu_replicates_together_equal_those_alone_and_are_near_the_cpus(few_digits, make_run):
    gpu = torch.device("cuda")
    images = replace(
        few_digits,
        device=gpu,
        **{
            s: Split(getattr(few_digits, s).images.to(gpu), getattr(few_digits, s).labels.to(gpu))
            for s in SPLITS
        },
    )
    torch.use_deterministic_algorithms(True)
    try:
        runs = [make_run(seed=seed) for seed in (0, 1)]
        for run, outcome in zip(runs, train_replicates(runs, images), strict=True):
            assert_equal(outcome, train(run, images))
            on_cpu = train(run, few_digits)
            for ours, theirs in zip(outcome.rows, on_cpu.rows, strict=True):
                assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-2)
    finally:
        torch.use_deterministic_algorithms(False)


SPLITS = ("train", "test")
