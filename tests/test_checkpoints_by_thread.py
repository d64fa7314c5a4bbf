"""Checkpoints that a thread writes while training continues, as on a GPU; here with tensors on the CPU."""

import signal
import threading

import pytest
import torch

from onlybn.errors import UserError
from onlybn.jobs import Stop
from onlybn.tensors import read_tensors
from onlybn.training import checkpoints as module
from onlybn.training.checkpoints import Checkpoints, copied
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train_replicates


def checkpoints(folder, **options):
    paths = {seed: folder / f"{seed}" for seed in (0, 1)}
    return Checkpoints(paths, {}, **{"share": 0.0, "by_thread": True} | options)


@pytest.fixture
def slow(monkeypatch):
    """Make every write wait until `let` is set; `begun` is set once one waits."""
    let, begun, save = threading.Event(), threading.Event(), module.save_file

    def waiting(*given, **options):
        begun.set()
        assert let.wait(10)
        save(*given, **options)

    monkeypatch.setattr(module, "save_file", waiting)
    yield let, begun
    let.set()


def test_tensors_of_all_kinds_are_copied_in_one_piece_with_their_values_at_the_call():
    tensors = {
        "count": torch.tensor(5),
        "kernel": torch.randn(4, 3, 3, 3).to(memory_format=torch.channels_last),
        "odd": torch.arange(3, dtype=torch.bfloat16),
        "sums": torch.arange(4, dtype=torch.float64)[None],
        "none": torch.empty(0, 2),
    }
    expected = {name: tensor.clone() for name, tensor in tensors.items()}
    arrived = copied(tensors)
    for tensor in tensors.values():
        tensor.zero_()
    found = arrived()
    assert found.keys() == expected.keys()
    for name, tensor in found.items():
        assert (tensor.dtype, tensor.shape) == (expected[name].dtype, expected[name].shape)
        assert torch.equal(tensor, expected[name])
        assert tensor.is_contiguous()
    assert len({tensor.untyped_storage().data_ptr() for tensor in found.values()}) == 1


def test_training_continues_while_the_previous_state_is_written(few_digits, make_run, tmp_path, slow):
    let, begun = slow
    runs = [make_run(seed=seed, regime="all") for seed in (0, 1)]
    live = [LiveRun(run, few_digits) for run in runs]
    kept = checkpoints(tmp_path, every=1)
    for run in live:
        run.step(*run.next_batch(), 32, 0.1)
        run.step_ended()
    expected = [module._on_host(run.tensors(lambda tensor: tensor[None])) for run in live]
    expected = [{name: tensor.clone() for name, tensor in one.items()} for one in expected]
    kept.step_ended(live)
    assert begun.wait(10)
    for run in live:
        run.step(*run.next_batch(), 32, 0.1)
    assert not (tmp_path / "0").exists()
    let.set()
    kept.wait()
    for seed, one in enumerate(expected):
        found, facts = read_tensors(tmp_path / f"{seed}")
        assert facts["taken"] == 1
        assert found.keys() == one.keys()
        assert all(torch.equal(found[name], tensor) for name, tensor in one.items())


def test_a_killed_training_resumes_to_the_same_bits_and_file_as_without_a_thread(
    few_digits, make_run, tmp_path
):
    runs = [make_run(seed=seed, epochs=3, regime="all", milestones=[2]) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)

    class Killed(BaseException):
        pass

    def kill(live):
        if (live.run.seed, live.taken) == (1, 8):
            raise Killed

    for by_thread in (True, False):
        folder = tmp_path / str(by_thread)
        kept = checkpoints(folder, every=3, by_thread=by_thread)
        with pytest.raises(Killed):
            train_replicates(runs, few_digits, report=kill, checkpoints=kept)
        kept.wait()
    one, other = (read_tensors(tmp_path / str(by_thread) / "0") for by_thread in (True, False))
    assert one[1] | {"seconds": 0} == other[1] | {"seconds": 0}
    outcomes = train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path / "True", every=3))
    for found, expected in zip(outcomes, undisturbed, strict=True):
        assert found.rows == expected.rows
        assert [place["epoch"] for place in found.resumed] == [1]
        for name, tensor in found.network.state_dict().items():
            assert torch.equal(tensor, expected.network.state_dict()[name])
    assert read_tensors(tmp_path / "True" / "1")[1]["taken"] == 12  # the end of training is on disk


@pytest.mark.parametrize("by_thread", [True, False])
def test_a_requested_stop_waits_until_the_checkpoint_is_on_disk(
    few_digits, make_run, tmp_path, monkeypatch, by_thread
):
    stop, save, written = Stop(), module.save_file, []

    def late(*given, **options):
        save(*given, **options)
        threading.Event().wait(0.05)
        written.append(given)

    monkeypatch.setattr(module, "save_file", late)
    kept = checkpoints(tmp_path, stop=stop, by_thread=by_thread)
    runs = [make_run(seed=seed) for seed in (0, 1)]
    with pytest.raises(KeyboardInterrupt):
        train_replicates(runs, few_digits, report=lambda live: stop(signal.SIGTERM, None), checkpoints=kept)
    assert len(written) == 2
    assert {read_tensors(tmp_path / f"{seed}")[1]["taken"] for seed in (0, 1)} == {4}


def test_a_thread_that_cannot_write_ends_the_training_and_keeps_the_old_file(
    few_digits, make_run, tmp_path, monkeypatch
):
    run, save, calls = make_run(epochs=3), module.save_file, []

    def full(tensors, path, **options):
        calls.append(path)
        save(tensors, path, **options)
        if len(calls) > 1:
            path.write_bytes(path.read_bytes()[:100])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "save_file", full)
    with pytest.raises(UserError, match="0 cannot be written"):
        train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path, every=4))
    assert read_tensors(tmp_path / "0")[1]["taken"] == 4
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "0-rows.jsonl"]


def test_an_error_in_the_thread_is_raised_at_the_next_step_and_no_second_write_is_queued(
    few_digits, make_run, tmp_path, slow, monkeypatch
):
    let, begun = slow
    live = LiveRun(make_run(), few_digits)
    kept = checkpoints(tmp_path, share=1e9)
    live.step_ended()
    kept._keep([live])
    assert begun.wait(10)
    begun.clear()
    kept.step_ended([live])  # it would be time again, but for the write that goes on
    assert len(kept.unwritten) == 1
    let.set()
    kept.wait()
    monkeypatch.setattr(module, "digest", lambda tensors: 1 / 0)
    kept._keep([live])
    (failing,) = kept.unwritten
    assert failing.exception(10)
    with pytest.raises(ZeroDivisionError):
        kept.step_ended([live])
