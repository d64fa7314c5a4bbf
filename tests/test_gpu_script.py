"""The first script to run on a GPU (benchmarks/gpu.py), here on the CPU."""

import pytest
from conftest import ROOT, recorded_by_running

from onlybn.training import loop
from onlybn.training.steps import EagerSteps, GraphSteps


@pytest.fixture
def case(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import gpu

    return lambda: gpu.case("resnet-8", "batchnorm", "float32", device="cpu", dataset="digits")


def test_a_case_compares_training_steps_with_separate_steps(case, monkeypatch):
    found = case()
    assert (found["difference"], found["same_bits"]) == (0, True)
    assert found["losses"][0] == found["losses"][1]
    graphs = []

    def recorded(live, device, group):
        return GraphSteps(live, device, recorded_by_running(graphs))

    monkeypatch.setattr(loop, "_steps", recorded)
    found = case()
    assert found["difference"] < 1e-3
    assert graphs == [2, 2] * 2  # a whole batch and a partial one, for two replicates, twice


def test_a_case_detects_steps_with_other_results(case, monkeypatch):
    class Slower(EagerSteps):
        def __call__(self, batches, whole, rate, **options):
            super().__call__(batches, whole, 0.5 * rate)

    monkeypatch.setattr(loop, "_steps", lambda live, device, group: Slower(live))
    assert case()["difference"] > 1e-2
