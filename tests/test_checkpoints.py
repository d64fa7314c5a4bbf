"""Checkpoints: a job killed anywhere resumes to the same bytes; a checkpoint of anything else is ignored."""

import json
import math
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import forked
import killed
import pyarrow.parquet as pq
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import onlybn
from onlybn.jobs import Stop
from onlybn.runs import folders, records
from onlybn.training import checkpoints as module
from onlybn.training import loop
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.evaluation import evaluate
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train_replicates
from onlybn.training.steps import GraphSteps

TABLES = ("metrics.parquet", "affine.parquet", "state.safetensors")


class Killed(BaseException):
    """An exception that no code catches, like a SIGKILL."""


def killing_after(steps, monkeypatch):
    """Make training end after so many steps, counted over replicates; only checkpoints stay."""
    step, taken = LiveRun.step, 0

    def counted(self, *args):
        nonlocal taken
        if taken == steps:
            raise Killed
        taken += 1
        step(self, *args)

    monkeypatch.setattr(LiveRun, "step", counted)


def checkpoints(tmp_path, computed=None, share=0.0, **options):
    paths = {seed: tmp_path / f"{seed}" for seed in (0, 1)}
    return Checkpoints(paths, computed or {}, share=share, **options)


def assert_same(outcomes, others):
    for one, other in zip(outcomes, others, strict=True):
        assert str(one.rows) == str(other.rows)  # a loss may be no number
        assert one.diverged == other.diverged
        for name, tensor in one.network.state_dict().items():
            assert torch.equal(tensor, other.network.state_dict()[name]), name


@pytest.mark.parametrize("regime", ["all", "batchnorm", "random-2"])
@pytest.mark.parametrize(("every", "share"), [(4, 0), (0, math.inf)])  # after each epoch, and each step
@pytest.mark.parametrize("steps", [3, 9, 15])  # of 2 runs × 3 epochs × 4
def test_a_killed_training_resumes_to_the_same_bits(
    few_digits, make_run, tmp_path, monkeypatch, steps, every, share, regime
):
    kept = {"every": every, "share": share}
    runs = [make_run(seed=seed, epochs=3, regime=regime, milestones=[2]) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)
    with monkeypatch.context() as patch:
        killing_after(steps, patch)
        with pytest.raises(Killed):
            train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, **kept))
    assert (tmp_path / "0").exists() == (share > 0 or steps >= 8)
    outcomes = train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, **kept))
    assert_same(outcomes, undisturbed)
    resumed = [outcome.resumed for outcome in outcomes]
    # A checkpoint after an epoch's last step is written before the epoch's test.
    expected = divmod(steps // 2, 4) if share else ((0, 4) if steps >= 8 else (0, 0))
    points = [[(r["epoch"], r["steps"]) for r in some] for some in resumed]
    assert points == [[expected] * (expected > (0, 0))] * 2


def test_replicates_that_a_kill_left_at_different_steps_meet_again(few_digits, make_run, tmp_path, capsys):
    runs = [make_run(seed=seed, epochs=3) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)

    def kill(live):
        if (live.run.seed, live.taken) == (1, 8):
            raise Killed

    with pytest.raises(Killed):
        kept = checkpoints(tmp_path, every=3)
        train_replicates(runs, few_digits, report=kill, checkpoints=kept)
    (tmp_path / "1").unlink()
    assert_same(train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path)), undisturbed)
    assert capsys.readouterr().out == "resnet-8 batchnorm seed 0: resuming after epoch 1 and 2 steps\n"


@pytest.mark.parametrize("moment", ["step", "test"])
def test_a_requested_stop_writes_a_checkpoint(few_digits, make_run, tmp_path, monkeypatch, moment):
    runs = [make_run(seed=seed) for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)
    stop = Stop()
    whole, calls = getattr(LiveRun, moment), 0

    def stopping(self, *args):
        nonlocal calls
        calls += 1
        if calls == 4:
            stop(signal.SIGTERM, None)
        return whole(self, *args)

    with monkeypatch.context() as patch:
        patch.setattr(LiveRun, moment, stopping)
        with pytest.raises(KeyboardInterrupt):
            train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path, stop=stop))
    places = []
    for seed in (0, 1):
        with safe_open(tmp_path / f"{seed}", "pt") as file:
            facts = json.loads(file.metadata()["onlybn"])
            places.append((facts["taken"], facts["tested"]))
    assert places == {"step": [(2, 0), (2, 0)], "test": [(8, 8), (8, 4)]}[moment]
    assert_same(train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path)), undisturbed)


def test_a_divergence_survives_in_the_checkpoint(few_digits, make_run, tmp_path):
    run = make_run(learning_rate=1e30, epochs=3)
    (diverged,) = train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
    assert diverged.diverged == 1
    (again,) = train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
    assert_same([again], [diverged])
    assert [place["epoch"] for place in again.resumed] == [1]


def test_a_run_that_diverges_after_resuming_restores_the_last_test(
    few_digits, make_run, tmp_path, monkeypatch
):
    run = make_run(epochs=3)
    test = LiveRun.test

    def spoiled(self, *given):
        if self.taken == 8:
            self.measures.sums[1] = torch.nan
        test(self, *given)

    monkeypatch.setattr(LiveRun, "test", spoiled)
    (diverged,) = train_replicates([run], few_digits)
    assert diverged.diverged == 2
    with monkeypatch.context() as patch:
        killing_after(6, patch)  # within the second epoch
        with pytest.raises(Killed):
            train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path, every=1))
    (again,) = train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
    assert [(place["epoch"], place["steps"]) for place in again.resumed] == [(1, 2)]
    assert_same([again], [diverged])


def test_a_recorded_graph_resumes_from_a_checkpoint(few_digits, make_run, tmp_path, monkeypatch):
    def record(branches):  # in place of CUDA's
        def run():
            for branch in branches:
                branch()

        run()
        return run

    monkeypatch.setattr(loop, "_steps", lambda some, device, group: GraphSteps(some, device, record))
    runs = [make_run(seed=seed, regime="all") for seed in (0, 1)]
    undisturbed = train_replicates(runs, few_digits)
    stop = Stop()

    with pytest.raises(KeyboardInterrupt):
        kept = checkpoints(tmp_path, stop=stop)
        train_replicates(runs, few_digits, report=lambda live: stop(signal.SIGTERM, None), checkpoints=kept)
    outcomes = train_replicates(runs, few_digits, checkpoints=checkpoints(tmp_path))
    assert_same(outcomes, undisturbed)
    assert all(outcome.resumed for outcome in outcomes)


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


def _a_bit_flipped(path, make_run):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def _of_an_older_version(path, make_run):
    _rewrite(path, lacking="resumed")


def _facts_of_another_kind(path, make_run):
    save_file(load_file(path), path, metadata={"onlybn": "[1]"})


def _rows_altered(path, make_run):
    rows = path.with_name("0-rows.jsonl")
    rows.write_text(rows.read_text().replace("train", "drain", 1))


def _rows_cut_short(path, make_run):
    rows = path.with_name("0-rows.jsonl")
    rows.write_bytes(rows.read_bytes()[:-9])


def _rows_gone(path, make_run):
    path.with_name("0-rows.jsonl").unlink()


def _not_a_checkpoint(path, make_run):
    path.write_bytes(b"not at all")


def _rewrite(path, without=None, lacking=None, **changes):
    with safe_open(path, "pt") as file:
        facts = json.loads(file.metadata()["onlybn"]) | changes
    facts.pop(lacking, None)
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
        (_a_tensor_less, "is damaged (its content does not match its digest)"),
        (_a_bit_flipped, "is damaged (its content does not match its digest)"),
        (_of_an_older_version, "was not written by this version"),
        (_facts_of_another_kind, "is damaged ("),
        (_rows_altered, "is damaged (its rows do not match their digest)"),
        (_rows_cut_short, "is damaged (its rows do not match their digest)"),
        (_rows_gone, "is damaged (its rows do not match their digest)"),
        (_not_a_checkpoint, "is damaged ("),
    ],
)
def test_a_checkpoint_of_anything_else_is_ignored_and_the_log_says_why(
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
    assert f"restarting: its checkpoint {reason}" in capsys.readouterr().out


def test_rows_that_a_killed_process_wrote_after_its_checkpoint_are_cut_off(few_digits, make_run, tmp_path):
    run = make_run(epochs=4)
    undisturbed = train_replicates([run], few_digits)

    def kill(live):
        if live.taken == 12:
            raise Killed

    with pytest.raises(Killed):
        kept = checkpoints(tmp_path, every=6)
        train_replicates([run], few_digits, report=kill, checkpoints=kept)
    rows = tmp_path / "0-rows.jsonl"
    valid = rows.read_bytes()
    assert valid.count(b"\n") == 4  # of the tests after steps 4 and 8
    rows.write_bytes(valid + b'["metrics", {"epoch": 3, "spl')
    assert_same(train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path)), undisturbed)
    assert rows.read_bytes().startswith(valid)
    assert rows.read_bytes().count(b"\n") == 8


def test_the_metadata_of_a_checkpoint_does_not_grow_with_the_rows(few_digits, make_run, tmp_path):
    sizes = []
    for steps in (1, 40):
        run = make_run(epochs=None, steps=steps, test_every=1)
        train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
        with safe_open(tmp_path / "0", "pt") as file:
            sizes.append(len(file.metadata()["onlybn"]))
    assert sizes[1] < sizes[0] + 20


@pytest.mark.parametrize("kill_at", [2, 7, 13])
def test_a_killed_run_of_steps_goes_on_to_the_same_bits(
    few_digits, make_run, tmp_path, monkeypatch, capsys, kill_at
):
    run = make_run(regime="all", epochs=None, steps=14, test_every=3, milestones=[9])
    undisturbed = train_replicates([run], few_digits)
    for share in (0.0, math.inf):
        with monkeypatch.context() as patch:
            killing_after(kill_at, patch)
            with pytest.raises(Killed):
                train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path, share=share))
    (outcome,) = train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path))
    assert_same([outcome], undisturbed)
    assert f"resuming after step {kill_at}\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("costs", "kept_at"),
    [
        (0.2, [10, 20, 30]),  # at 2 %, 10 seconds after the last
        (0.4, [20]),
        (1e-9, list(range(1, 37))),
        (1e9, []),
    ],
)
def test_checkpoints_are_written_for_their_share_of_the_time(
    few_digits, make_run, tmp_path, monkeypatch, costs, kept_at
):
    """Use a clock that advances by a second per step, and by the cost of writing."""
    clock = 0.0
    monkeypatch.setattr(module.time, "perf_counter", lambda: clock)
    step, write, kept = LiveRun.step_ended, Checkpoints._write, []

    def second(self):
        nonlocal clock
        step(self)
        clock = round(clock + 1, 6)

    def costly(self, live, tensors):
        nonlocal clock
        write(self, live, tensors)
        kept.append(live.taken)
        clock = round(clock + costs, 6)

    monkeypatch.setattr(LiveRun, "step_ended", second)
    monkeypatch.setattr(Checkpoints, "_write", costly)
    monkeypatch.setattr(module, "FIRST_COST", costs)
    monkeypatch.setattr(module, "FIRST_COST_PER_BYTE", 0)
    run = make_run(epochs=9)
    train_replicates([run], few_digits, checkpoints=checkpoints(tmp_path, share=0.02))
    assert sorted({*kept_at, 36}) == sorted(set(kept))


# For a block of two runs of two epochs of 4 steps, with a checkpoint every 3 steps: a kill, and the places
# (epochs, steps) from which each run then resumed. With BATCH images per batch, an epoch has 4 steps.
BATCH = 400
WRITES = "onlybn.runs.saving:write_json"
KILLS = {
    "before the first step": ("SIGKILL", "onlybn.training.live_run:LiveRun.step", 1, [], []),
    "within the first epoch": ("SIGKILL", "onlybn.training.live_run:LiveRun.step", 4, [(0, 3)], []),
    "within the second run": ("SIGKILL", "onlybn.training.live_run:LiveRun.step", 15, [], [(1, 2)]),
    "while a checkpoint is written": ("SIGKILL", "onlybn.files:_flush", 5, [(1, 2)], []),
    "while rows are written": ("SIGKILL", "onlybn.training.journal:flush", 1, [(0, 3)], []),
    "in testing": ("SIGKILL", "onlybn.training.live_run:evaluate", 2, [(1, 2)], []),
    "before a finished run's checkpoint is deleted": (
        "SIGKILL",
        "onlybn.training.checkpoints:discard",
        1,
        [],
        [],
    ),
    "before a finished run is kept": ("SIGKILL", "onlybn.runs.saving:write_json", 1, [(2, 0)], []),
    "while the block is published": ("SIGKILL", "shutil:copyfile", 3, [], []),
    "asked to stop": ("SIGTERM", "onlybn.training.live_run:LiveRun.step", 6, [(1, 2)], []),
    "asked to stop in testing": ("SIGTERM", "onlybn.training.live_run:evaluate", 2, [(1, 4)], []),
    "asked to stop at the end": ("SIGTERM", "onlybn.runs.saving:write_json", 1, [], []),
}


def limited(largest: int, folder: str, dataset: str, number: str, called: str, nth: str, *runs: str) -> None:
    """Be a training job that kills itself, and that can write no file of more bytes than `largest`."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))
    killed.main(folder, dataset, number, called, nth, "1", *runs)


@pytest.fixture(scope="module")
def block(digits_folder):
    """Run a block in a process that kills itself if requested; return its status."""

    def run(
        folder: Path,
        runs,
        number="SIGKILL",
        called="onlybn.training.live_run:LiveRun.step",
        nth=-1,
        largest=-1,
    ):
        described = [json.dumps(records.described(run)) for run in runs]
        return forked.run(
            limited, largest, str(folder), str(digits_folder), number, called, str(nth), *described
        )

    return run


@pytest.fixture(scope="module")
def undisturbed(block, tmp_path_factory):
    """The bytes of an undisturbed block, by regime."""
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
def test_a_job_killed_anywhere_ends_with_the_same_bytes(block, undisturbed, make_run, tmp_path, case):
    runs = [make_run(seed=seed, batch_size=BATCH) for seed in (0, 1)]
    expected = undisturbed(runs)
    number, called, nth, *places = KILLS[case]
    status = block(tmp_path, runs, number, called, nth)
    assert status == {"SIGKILL": -signal.SIGKILL, "SIGTERM": 1}[number]
    if number == "SIGTERM":
        *_, stopped, last = (tmp_path / "log").read_text().splitlines()
        assert stopped.endswith("stopped; the next start resumes from here") == (called != WRITES)
        assert last == "interrupted; the same command resumes"
    assert block(tmp_path, runs) == 0
    for path, content in expected.items():
        assert (tmp_path / path).read_bytes() == content, path
    resumed = [
        records.read_record(tmp_path / "runs" / f"seed-{seed}")["computed"]["resumed"] for seed in (0, 1)
    ]
    assert [[(place["epoch"], place["steps"]) for place in some] for some in resumed] == list(places)
    folders.clear_work(tmp_path / "work", tmp_path / "runs")
    assert not (tmp_path / "work").exists()
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    ("number", "called", "nth", "largest", "unwritten"),
    [
        ("SIGKILL", "onlybn.training.live_run:LiveRun.step", 12, 8_000, "seed-1/checkpoint.safetensors"),
        ("SIGKILL", "onlybn.runs.saving:write_json", 2, 6_000, "seed-1/affine.parquet"),
    ],
)
def test_a_write_that_fails_halfway_gives_one_sentence_and_keeps_the_old_file(
    block, undisturbed, make_run, tmp_path, number, called, nth, largest, unwritten
):
    runs = [make_run(seed=seed, batch_size=BATCH) for seed in (0, 1)]
    expected = undisturbed(runs)
    assert block(tmp_path, runs, number, called, nth) == -signal.SIGKILL
    files = [path for path in (tmp_path / "work").rglob("*") if path.is_file()]
    kept = {path: path.read_bytes() for path in files if path.name != "progress.json"}
    assert block(tmp_path, runs, largest=largest) == 1
    last = (tmp_path / "log").read_text().splitlines()[-1]
    assert last.startswith("error: ")
    assert f"{unwritten} cannot be written (" in last
    assert "File too large" in last
    assert last.endswith("; the existing content is intact")
    assert {path: path.read_bytes() for path in kept} == kept
    assert block(tmp_path, runs) == 0
    for path, content in expected.items():
        assert (tmp_path / path).read_bytes() == content, path


def test_two_processes_resume_to_the_same_bytes_and_selection_after_their_launcher_was_killed(
    digits, digits_folder, make_run, train_block, tmp_path
):
    run = make_run(epochs=4, batch_size=128, validation=0.2, select="best")
    (folder,) = train_block([run], digits_folder, processes=2)
    expected = {name: (folder / name).read_bytes() for name in TABLES}
    *validated, tested = pq.read_table(folder / "metrics.parquet").to_pylist()
    best = max(validated[1::2], key=lambda row: row["top_1"])
    assert (tested["split"], tested["epoch"]) == ("test", best["epoch"])
    images, held_out = digits.hold_out(287, seed=0)
    for row, some in ((best, held_out), (tested, images)):
        assert evaluate(onlybn.load(folder), some)["top_1"] == pytest.approx(row["top_1"])
    killed = tmp_path / "killed"
    command = [sys.executable, Path(__file__).with_name("killed.py"), killed, digits_folder]
    never = ["SIGKILL", "onlybn.training.live_run:evaluate", "-1"]
    command = [*map(str, command), *never, "2", json.dumps(records.described(run))]
    launcher = subprocess.Popen(command)
    deadline = time.monotonic() + 60
    while not list(killed.rglob("checkpoint.safetensors")):
        assert time.monotonic() < deadline
        assert launcher.poll() is None
        time.sleep(0.001)
    launcher.kill()
    launcher.wait()
    with safe_open(killed / "work" / "seed-0" / "checkpoint.safetensors", "pt") as file:
        assert file.get_tensor("moved.batchnorm.running_mean").shape == (2, 16)
    assert subprocess.run(command, check=False).returncode == 0
    found = killed / "runs" / "seed-0"
    assert len(records.read_record(found)["computed"]["resumed"]) == 1
    assert {name: (found / name).read_bytes() for name in TABLES} == expected
