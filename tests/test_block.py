"""A training job: what a failure leaves for the next try, and what it refuses."""

import shutil
import subprocess
import sys
from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from conftest import Silent

from onlybn import locks
from onlybn.drawing.summaries import RUN, finals
from onlybn.locks import lock
from onlybn.runs import block, folders, records
from onlybn.runs.schemas import SCHEMAS, STEP
from onlybn.training.live_run import LiveRun


@pytest.fixture
def job(train_block, digits_folder, make_run, monkeypatch):
    """Train seeds 0 and 1 as one block; return which seeds were trained."""
    trained = []
    train = block.train_replicates

    def do(fail_at=None, **changes):
        runs = [make_run(seed=seed, epochs=1, **changes) for seed in (0, 1)]
        trained.clear()

        def watched(runs, *args, **kwargs):
            (run,) = runs
            if run.seed == fail_at:
                raise MemoryError
            trained.append(run.seed)
            return train(runs, *args, **kwargs)

        monkeypatch.setattr(block, "train_replicates", watched)
        train_block(runs, digits_folder)
        return list(trained)

    do.trained = trained
    return do


def test_finished_runs_of_an_unfinished_block_wait_and_are_not_trained_again(job, tmp_path):
    with pytest.raises(MemoryError):
        job(fail_at=1)
    assert job.trained == [0]
    assert not (tmp_path / "runs").exists()
    assert job() == [1]
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == ["seed-0", "seed-1"]
    folders.clear_work(tmp_path / "work", tmp_path / "runs")
    assert not (tmp_path / "work").exists()


def test_a_finished_block_trains_nothing_again_and_another_specification_everything(job, tmp_path):
    assert job() == [0, 1]
    before = (tmp_path / "runs" / "seed-0" / "run.json").read_bytes()
    assert job() == []
    assert (tmp_path / "runs" / "seed-0" / "run.json").read_bytes() == before
    (tmp_path / "runs" / "seed-0" / "clamping.parquet").touch()
    assert job(momentum=0.5) == [0, 1]
    assert records.read_record(tmp_path / "runs" / "seed-0")["training"]["momentum"] == 0.5
    # What was there is kept, its analyses too, and comes back when it is asked for again.
    (kept,) = (tmp_path / "replaced" / "seed-0").iterdir()
    assert (kept / "run.json").read_bytes() == before
    assert (kept / "clamping.parquet").exists()
    assert not (tmp_path / "runs" / "seed-0" / "clamping.parquet").exists()
    assert job() == []
    assert (tmp_path / "runs" / "seed-0" / "run.json").read_bytes() == before
    (kept,) = (tmp_path / "replaced" / "seed-0").iterdir()
    assert records.read_record(kept)["training"]["momentum"] == 0.5


def test_a_run_that_comes_back_is_kept_until_its_job_is_done(job, tmp_path, monkeypatch):
    assert job() == [0, 1]
    before = (tmp_path / "runs" / "seed-0" / "run.json").read_bytes()
    assert job(momentum=0.5) == [0, 1]
    kept = tmp_path / "replaced" / "seed-0"

    published = []

    def dies(source, folder):
        """Of a job that is killed Snakemake removes what it wrote."""
        if published:
            raise MemoryError
        published.append(folder)

    monkeypatch.setattr(block, "publish", dies)
    with pytest.raises(MemoryError):
        job()
    assert any(before == (run / "run.json").read_bytes() for run in kept.iterdir())


def test_a_damaged_run_is_trained_again_also_where_its_copy_that_waits_is_damaged_too(job, tmp_path):
    assert job() == [0, 1]
    expected = (tmp_path / "runs" / "seed-0" / "affine.parquet").read_bytes()
    for place in ("runs", "work"):
        file = tmp_path / place / "seed-0" / "affine.parquet"
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    shutil.rmtree(tmp_path / "runs" / "seed-0")
    assert job() == [0]
    assert (tmp_path / "runs" / "seed-0" / "affine.parquet").read_bytes() == expected


def test_files_of_two_runs_are_never_taken_for_one(job, tmp_path):
    """What a restored backup leaves when its process is killed: old files under a new record."""
    assert job() == [0, 1]
    old = (tmp_path / "runs" / "seed-0" / "metrics.parquet").read_bytes()
    assert job(momentum=0.5) == [0, 1]
    (tmp_path / "runs" / "seed-0" / "metrics.parquet").write_bytes(old)
    assert job(momentum=0.5) == []  # its copy waits still
    assert (tmp_path / "runs" / "seed-0" / "metrics.parquet").read_bytes() != old


def test_a_second_job_on_a_run_waits_for_the_first_and_says_so(job, tmp_path, monkeypatch):
    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    held = tmp_path / "work" / "seed-1" / ".lock"
    code = (
        "import sys; from pathlib import Path; from onlybn.locks import lock;"
        "lock(Path(sys.argv[1]), 'taken'); print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code, held], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    said = []

    def say(terminal, line):
        said.append(line)
        other.kill()

    monkeypatch.setattr(Silent, "say", say)
    try:
        assert other.stdout.readline() == "held\n"
        assert job() == [0, 1]
    finally:
        other.kill()
        other.communicate()
    assert said[0] == "resnet-8 batchnorm seed 1: another job trains it; this one waits for its end"
    lock(held, "the lock outlived its process")


def test_of_a_long_run_the_terminal_hears_now_and_then_with_the_time_left(
    train_block, digits_folder, make_run, monkeypatch
):
    said = []
    monkeypatch.setattr("conftest.Silent.say", lambda self, line: said.append(line))
    run = make_run(epochs=3)
    for seconds_between, expected in ((1e9, 0), (0.0, 2)):  # nothing is left after the last epoch
        monkeypatch.setattr(block, "SECONDS_BETWEEN", seconds_between)
        said.clear()
        train_block([replace(run, seed=expected)], digits_folder)
        assert sum("s left" in line for line in said) == expected
        assert "after 3 epochs" in said[-1]


def test_a_run_of_steps_says_and_records_its_steps(train_block, digits_folder, make_run, monkeypatch, capsys):
    said = []
    monkeypatch.setattr("conftest.Silent.say", lambda self, line: said.append(line))
    run = make_run(epochs=None, steps=1_000, test_every=1, batch_size=1_400)
    monkeypatch.setattr(LiveRun, "is_over", property(lambda live: live.taken == 3))
    (folder,) = train_block([run], digits_folder)
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", training loss")[0] for line in lines] == [
        f"resnet-8 batchnorm seed 0: step {step}/1,000" for step in (1, 2, 3)
    ]
    assert "% after 3 steps, " in said[-1]
    metrics = pq.read_table(folder / "metrics.parquet")
    assert metrics.schema.remove_metadata() == SCHEMAS["metrics"].insert(1, STEP)
    assert metrics["step"].to_pylist() == [1, 1, 2, 2, 3, 3]
    assert metrics["epoch"].to_pylist() == [1, 1, 1, 1, 2, 2]  # two steps pass over 1,437 images
    record = records.read_record(folder)
    assert (record["training"]["steps"], "epochs" in record["training"]) == (1_000, False)
    assert records.is_finished(folder, run)
    (test_row,) = finals(metrics.to_pandas().assign(**dict.fromkeys(RUN, 0)))["step"]
    assert test_row == 3
