"""How replicates share the memory and the time of a GPU, which is a fake here."""

from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from onlybn import datasets
from onlybn.errors import UserError
from onlybn.runs import block, records
from onlybn.study import Run, Training
from onlybn.training import side_by_side
from onlybn.training.side_by_side import fills_a_gpu, memory, that_fit
from onlybn.training.steps import CudaRecorder

GIB = 2**30


def of(architecture, regime="batchnorm"):
    """A run on CIFAR-10, and the shape of its images."""
    training = Training(epochs=1, batch_size=128, learning_rate=0.1)
    images = SimpleNamespace(channels=3, classes=10, size=32)
    return Run("s", "cifar10", training, architecture, regime, "kaiming-normal_gamma-uniform", 0), images


def test_a_wide_network_fills_a_gpu_and_a_deep_one_does_not():
    full = [name for name in ("resnet-14", "resnet-110", "wrn-14-4", "vgg-16") if fills_a_gpu(*of(name))]
    assert full == []
    assert all(fills_a_gpu(*of(name)) for name in ("wrn-14-8", "wrn-14-32"))


def test_concurrent_steps_need_memory_each_and_steps_in_turn_share_it():
    one, two, three = (memory(*of("resnet-110"), torch.bfloat16, n) for n in (1, 2, 3))
    activations = 2 * 128 * side_by_side._work(*of("resnet-110")).activations
    assert three - two == pytest.approx(two - one, abs=2)
    assert two - one > side_by_side.KEPT * activations
    wide = [memory(*of("wrn-14-32"), torch.bfloat16, n) for n in (1, 2)]
    weights = 4 * side_by_side._work(*of("wrn-14-32")).parameters
    assert wide[1] - wide[0] == pytest.approx(weights, rel=0.01)
    assert memory(*of("resnet-110"), torch.float32, 1) > 1.5 * one


def test_as_many_replicates_train_together_as_fit_and_one_is_always_tried():
    deep = of("resnet-110")
    assert that_fit(*deep, torch.bfloat16, 5, 80 * GIB) == 5
    need = memory(*deep, torch.bfloat16, 3) / side_by_side.SHARE
    assert that_fit(*deep, torch.bfloat16, 5, round(need) + 1) == 3
    assert that_fit(*deep, torch.bfloat16, 5, round(need) - 1000) == 2
    assert that_fit(*deep, torch.bfloat16, 5, 0) == 1


def _with_a_gpu(monkeypatch, free):
    """Make jobs assume a GPU with so much free memory."""
    read = datasets.read
    cpu = torch.device("cpu")
    monkeypatch.setattr(block, "take_devices", lambda asked, count: [SimpleNamespace(type="cuda")])
    monkeypatch.setattr(datasets, "read", lambda folder, device, **given: read(folder, cpu, **given))
    monkeypatch.setattr(block, "free_memory", lambda device: free)


def test_seeds_that_do_not_fit_together_train_in_even_groups_and_the_log_says_so(
    train_block, digits_folder, digits, make_run, monkeypatch, capsys
):
    runs = [make_run(seed=seed, epochs=1, batch_size=400, precision="float32") for seed in range(5)]
    _with_a_gpu(monkeypatch, round(memory(runs[0], digits, torch.float32, 4) / side_by_side.SHARE) + 1)
    folders = train_block(runs, digits_folder)
    together = [records.read_record(folder)["computed"]["seeds_together"] for folder in folders]
    assert together == [[0, 1], [0, 1], [2, 3, 4], [2, 3, 4], [2, 3, 4]]
    assert "5 seeds of resnet-8 batchnorm side by side would not fit: 2 groups" in capsys.readouterr().out


def test_a_gpu_out_of_memory_gives_one_sentence_that_says_what_to_set(
    train_block, digits_folder, make_run, monkeypatch
):
    def recorded(*given, **options):
        try:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")
        finally:  # as a graph does that is not recorded to its end
            raise RuntimeError("operation failed due to a previous error during capture")

    _with_a_gpu(monkeypatch, 80 * GIB)
    monkeypatch.setattr(block, "train_replicates", recorded)
    some = [make_run(seed=seed) for seed in (0, 1)]
    with pytest.raises(
        UserError, match=r"^seeds_per_job: set 1 or fewer: the GPU's memory does not hold 2 s"
    ):
        train_block(some, digits_folder)
    with pytest.raises(
        UserError, match=r"^processes_per_run: set more, .*: the GPU.* 1 seed of resnet-8 batchnorm in"
    ):
        train_block(some[:1], digits_folder)


def test_any_other_error_of_torch_is_not_changed(make_run):
    with pytest.raises(RuntimeError, match="illegal address"), block._out_of_memory([make_run()]):
        raise RuntimeError("an illegal address was met")


@pytest.mark.parametrize(("at_once", "streams"), [(True, 3), (False, 1)])
def test_branches_are_recorded_each_on_its_stream_or_all_on_one(monkeypatch, at_once, streams):
    made, ran = [], []

    class Stream:
        def __init__(self):
            made.append(self)

        def wait_stream(self, other):
            pass

    class Graph:
        def pool(self):
            return "pool"

        def replay(self):
            return "replayed"

    main, current = SimpleNamespace(wait_stream=lambda other: None), []

    def entering(stream):
        current[:] = [stream]
        return nullcontext()

    for name, fake in {
        "Stream": Stream,
        "CUDAGraph": Graph,
        "stream": entering,
        "graph": lambda graph, **options: nullcontext(ran.clear()),
        "current_stream": lambda: main,
        "synchronize": lambda: None,
    }.items():
        monkeypatch.setattr(torch.cuda, name, fake)
    record = CudaRecorder(at_once=at_once)
    branches = [lambda number=number: ran.append((number, current[0])) for number in range(3)]
    assert record(branches)() == "replayed"
    assert record(branches)() == "replayed"  # the second size of batch takes the same streams
    assert [number for number, _ in ran] == [0, 1, 2]
    assert len({id(stream) for _, stream in ran}) == len(made) == streams
