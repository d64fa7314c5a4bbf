"""Checkpoints: a job killed anywhere goes on to the same bytes; a checkpoint of anything else is not used."""

import json
import resource
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from onlybn import storage
from onlybn.checkpoints import Checkpoints
from onlybn.jobs import Stop
from onlybn.training import Observer, Replicate, train_replicates

TABLES = ("metrics.parquet", "affine.parquet", "state.safetensors")


class Killed(BaseException):
    """What no code catches, as a SIGKILL."""


def killing_after(steps, monkeypatch):
    """Have training end after so many steps, counted over replicates; checkpoints are all that stays."""
    step, taken = Replicate.step, 0

    def counted(self, *args):
        nonlocal taken
        if taken == steps:
            raise Killed
        taken += 1
        step(self, *args)

    monkeypatch.setattr(Replicate, "step", counted)


def checkpoints(tmp_path, computed=None, **options):
    return Checkpoints({seed: tmp_path / f"{seed}" for seed in (0, 1)}, computed or {}, **options)


def assert_same(outcomes, others):
    for one, other in zip(outcomes, others, strict=True):
        assert str(one.rows) == str(other.rows)  # a loss may be no number
        assert one.diverged == other.diverged
        for name, tensor in one.network.state_dict().items():
            assert torch.equal(tensor, other.network.state_dict()[name]), name


@pytest.mark.parametrize("regime", ["all", "batchnorm", "random-2"])
@pytest.mark.parametrize("every", [0, 1])
@pytest.mark.parametrize("steps", [3, 9, 15])  # of 2 runs × 3 epochs × 4
def test_a_killed_training_goes_on_to_the_same_bits(
    few_digits, make_run, tmp_path, monkeypatch, steps, every, regime
):
    runs = [make_run(seed=seed, epochs=3, regime=regime, milestones=[2]) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)
    with monkeypatch.context() as patch:
        killing_after(steps, patch)
        with pytest.raises(Killed):
            train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, every=every))
    assert (tmp_path / "0").exists() == (every == 1 or steps >= 8)
    outcomes = train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, every=every))
    assert_same(outcomes, undisturbed)
    resumed = [outcome.resumed for outcome in outcomes]
    expected = divmod(steps // 2, 4) if every else (steps // 8, 0)
    told = [[(r["epoch"], r["steps"]) for r in some] for some in resumed]
    assert told == [[expected] * (expected > (0, 0))] * 2


def test_replicates_that_a_kill_left_apart_meet_again(few_digits, make_run, tmp_path, capsys):
    runs = [make_run(seed=seed, epochs=3) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)

    class Twice(Observer):
        def epoch_ended(self, progress):
            if (progress.run.seed, progress.epoch) == (1, 2):
                raise Killed

    with pytest.raises(Killed):
        kept = checkpoints(tmp_path, every=3)
        train_replicates(runs, few_digits, observers=[Twice()], checkpoints=kept)
    (tmp_path / "1").unlink()
    assert_same(train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path)), undisturbed)
    assert capsys.readouterr().out == "resnet-8 batchnorm seed 0: going on after epoch 1 and 3 steps\n"


@pytest.mark.parametrize("moment", ["step", "test"])
def test_work_that_is_to_stop_keeps_where_it_is(few_digits, make_run, tmp_path, monkeypatch, moment):
    runs = [make_run(seed=seed) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)
    stop = Stop()
    name = {"step": "step", "test": "end_epoch"}[moment]
    whole, calls = getattr(Replicate, name), 0

    def stopping(self, *args):
        nonlocal calls
        calls += 1
        if calls == 4:
            stop(signal.SIGTERM, None)
        return whole(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(Replicate, name, stopping)
        with pytest.raises(KeyboardInterrupt):
            train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, stop=stop))
    places = []
    for seed in (0, 1):
        with safe_open(tmp_path / f"{seed}", "pt") as file:
            facts = json.loads(file.metadata()["onlybn"])
            places.append((facts["epoch"], facts["steps"]))
    assert places == {"step": [(0, 2), (0, 2)], "test": [(2, 0), (1, 4)]}[moment]
    assert_same(train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path)), undisturbed)


def test_a_divergence_is_kept_too(few_digits, make_run, tmp_path):
    run = make_run(learning_rate=1e30, epochs=3)
    (diverged,) = train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
    assert diverged.diverged == 1
    assert_same(train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path)), [diverged])


def _another_run(path, make_run):
    return {"run": make_run(momentum=0.5)}


def _other_data(path, make_run):
    return {"checksum": "0"}


def _another_precision(path, make_run):
    return {"computed": {"precision": "bfloat16"}}


def _truncated(path, make_run):
    path.write_bytes(path.read_bytes()[:-7])


def _other_weights(path, make_run):
    _rewrite(path, draw_of_frozen_weights="0")


def _a_tensor_less(path, make_run):
    _rewrite(path, without="momentum.0")


def _not_a_checkpoint(path, make_run):
    path.write_bytes(b"not at all")


def _rewrite(path, without=None, **changes):
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["onlybn"]) | changes
    tensors = load_file(path)
    tensors.pop(without, None)
    save_file(tensors, path, metadata={"onlybn": json.dumps(facts)})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (_another_run, "is of another specification ("),
        (_other_data, "is of another dataset ("),
        (_another_precision, "is of another computation ({}, here {'precision': 'bfloat16'})"),
        (_truncated, "is damaged ("),
        (_other_weights, "is of another draw of frozen weights (0, here "),
        (_a_tensor_less, "has other tensors"),
        (_not_a_checkpoint, "is damaged ("),
    ],
)
def test_a_checkpoint_of_anything_else_is_not_used_and_the_log_says_why(
    few_digits, make_run, tmp_path, capsys, change, reason
):
    path = tmp_path / "0"
    train_replicates([make_run()], few_digits, checkpoints=checkpoints(tmp_path))
    changes = change(path, make_run) or {}
    run = changes.get("run", make_run())
    images = replace(few_digits, checksum=changes.get("checksum", few_digits.checksum))
    kept = checkpoints(tmp_path, computed=changes.get("computed"))
    (outcome,) = train_replicates([run], images, checkpoints=kept)
    assert outcome.resumed == []
    assert_same([outcome], train_replicates([run], images))
    assert f"starting again, since its checkpoint {reason}" in capsys.readouterr().out


# Of a block of two runs of two epochs of 4 steps, with a checkpoint every 3 steps: a kill, and what is left.
KILLS = {
    "before the first step": ("SIGKILL", "onlybn.training:Replicate.step", 1),
    "within the first epoch": ("SIGKILL", "onlybn.training:Replicate.step", 4),
    "within the second run": ("SIGKILL", "onlybn.training:Replicate.step", 14),
    "while a checkpoint is written": ("SIGKILL", "onlybn.files:_flush", 5),
    "in testing": ("SIGKILL", "onlybn.training:evaluate", 2),
    "before a finished run is kept": ("SIGKILL", "onlybn.storage:write_json", 1),
    "while the block is published": ("SIGKILL", "shutil:copyfile", 3),
    "while its work folder goes": ("SIGKILL", "shutil:rmtree", 2),
    "asked to stop": ("SIGTERM", "onlybn.training:Replicate.step", 6),
}


@pytest.fixture(scope="module")
def block(digits_folder, tmp_path_factory):
    """Run a block as a process that kills itself, if told to; return its status."""

    def run(
        folder: Path, runs, number="SIGKILL", called="onlybn.training:Replicate.step", nth=-1, largest=-1
    ):
        def limit():
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))

        command = [sys.executable, Path(__file__).with_name("killed.py"), folder, digits_folder]
        described = [json.dumps(storage.described(run)) for run in runs]
        asked = [*map(str, command), number, called, str(nth), *described]
        return subprocess.run(asked, stderr=subprocess.DEVNULL, preexec_fn=limit, check=False).returncode

    return run


@pytest.fixture(scope="module")
def undisturbed(block, tmp_path_factory):
    """The bytes of a block that nothing disturbed, by regime."""
    found = {}

    def of(runs):
        regime = runs[0].regime
        if regime not in found:
            folder = tmp_path_factory.mktemp("undisturbed")
            assert block(folder, runs) == 0
            found[regime] = {path: (folder / path).read_bytes() for path in _files()}
        return found[regime]

    return of


def _files():
    return [Path("runs") / f"seed-{seed}" / name for seed in (0, 1) for name in TABLES]


@pytest.mark.parametrize("case", KILLS)
def test_a_job_killed_anywhere_ends_in_the_same_bytes(block, undisturbed, make_run, tmp_path, case):
    runs = [make_run(seed=seed, batch_size=400) for seed in (0, 1)]
    expected = undisturbed(runs)
    number, called, nth = KILLS[case]
    status = block(tmp_path, runs, number, called, nth)
    assert status == {"SIGKILL": -signal.SIGKILL, "SIGTERM": 1}[number]
    if number == "SIGTERM":
        *_, told, last = (tmp_path / "log").read_text().splitlines()
        assert told.endswith("stopped; the next start goes on from here")
        assert last == "interrupted"
    assert block(tmp_path, runs) == 0
    for path, content in expected.items():
        assert (tmp_path / path).read_bytes() == content, path
    assert not list((tmp_path / "work").iterdir())
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize("largest", [20_000, 12_000])  # bytes: too few for a checkpoint, and for a table
def test_a_write_that_fails_half_way_is_one_sentence_and_what_was_there_stays(
    block, undisturbed, make_run, tmp_path, largest
):
    runs = [make_run(seed=seed, batch_size=400) for seed in (0, 1)]
    expected = undisturbed(runs)
    assert block(tmp_path, runs, "SIGKILL", "onlybn.training:Replicate.step", 12) == -signal.SIGKILL
    kept = {path: path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()}
    assert len(kept) == 7  # two locks, the first run's files, the second's checkpoint
    assert block(tmp_path, runs, largest=largest) == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("error: ")
    assert last.endswith("cannot be written (File too large); what was there before is whole")
    assert {path: path.read_bytes() for path in (tmp_path / "work").rglob("*") if path.is_file()} == kept
    assert block(tmp_path, runs) == 0
    for path, content in expected.items():
        assert (tmp_path / path).read_bytes() == content, path
