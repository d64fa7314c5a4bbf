"""Where a study stands, told from its files alone."""

import os
import subprocess
import sys
from pathlib import Path

import forked
import pytest
from conftest import BUILTIN, CONFIG, ROOT

from onlybn.configuration import open_study
from onlybn.files import write_json
from onlybn.jobs import duration
from onlybn.locks import is_locked, lock
from onlybn.runs import progress, records
from onlybn.runs.progress import Progress
from onlybn.study import Run
from onlybn.workflow.paths import Workflow
from onlybn.workflow.status import status

STUDY = """
dataset: digits
training: {epochs: 2, batch_size: 128, learning_rate: 0.1, flip: false}
seeds: 5
experiments:
  one: {architectures: [resnet-8], regimes: [batchnorm]}
  shared: {architectures: [resnet-8], regimes: [all, batchnorm]}
figures: {figure-4: [one], figure-2: [shared]}
"""


@pytest.fixture
def workflow(tmp_path):
    file = tmp_path / "tiny.yaml"
    file.write_text(STUDY)
    settings = {"study": str(file), "results_dir": str(tmp_path / "results")}
    settings |= {"device": "cpu", "seeds_per_job": 5}
    return Workflow(open_study(CONFIG | settings, BUILTIN))


def finish(folder: Path, run: Run, **record) -> None:
    """Write the least that is a record of that run, of an earlier version."""
    whole = {name: kind() for name, kind in records.KINDS.items()}
    whole |= {"counts": dict.fromkeys(records.COUNTS, 1), "computed": {"processes": 1}}
    write_json(folder / "run.json", whole | records.described(run) | {"status": "finished"} | record)


def how_far(run: Run, **changes) -> Progress:
    """Progress after the first of two epochs."""
    told = {"run": str(run), "state": "training", "unit": "epoch", "reached": 1, "length": 2}
    told |= {"step": 12, "steps": 24, "begun": 0, "accuracy": None, "seconds_left": None, "written": 1.0}
    return Progress(**told | changes)


def test_each_run_is_counted_once_in_its_state_and_in_each_experiment(workflow, tmp_path):
    runs = workflow.study.runs("one")
    folders, works = zip(*(workflow.places(run) for run in runs), strict=True)
    finish(folders[0], runs[0])
    finish(works[1], runs[1], status="diverged", diverged_epoch=2)  # its block is not finished yet
    finish(folders[2], runs[0])
    held = lock(works[3] / ".lock", "taken")
    works[4].mkdir(parents=True)
    (works[4] / "checkpoint.safetensors").touch()
    progress.write(works[3], how_far(runs[3], accuracy=87.6, seconds_left=7.0))
    for file in workflow.figure_files("figure-4"):
        Path(file).parent.mkdir(parents=True, exist_ok=True)
        Path(file).touch()
    text = status(workflow)
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in text.splitlines() if "|" in line]
    states = ["missing", "interrupted", "running", "finished", "diverged", "outdated"]
    assert rows[0] == ["experiment", "runs", *states]
    assert rows[2] == ["one", "5", "0", "1", "1", "1", "1", "1"]
    assert rows[3] == ["shared", "10", "5", "1", "1", "1", "1", "1"]
    assert rows[4][1:] == rows[3][1:]
    assert text.startswith("tiny: 2 of 10 runs are done; no Snakemake is at work")
    assert "running:\n  resnet-8 batchnorm seed 3: epoch 1/2, test accuracy 87.6 %, 7 s left\n" in text
    assert "interrupted:\n  resnet-8 batchnorm seed 4: no epoch yet\n" in text
    assert "diverged:\n  resnet-8 batchnorm seed 1: in epoch 2\n" in text
    assert f"outdated:\n  {folders[2]} holds another run than {runs[2]}: seed 0, not 2\n" in text
    assert "1 of 4 figures and tables are there; not yet: figure-2, sheet, provenance" in text
    assert f"damaged:\n  {folders[0] / 'metrics.parquet'} is damaged (No such" in status(
        workflow, verify=True
    )
    del held


def test_a_snakemake_at_work_is_told_and_looking_makes_no_file(workflow, tmp_path):
    assert "no Snakemake is at work" in status(workflow)
    assert not (tmp_path / "results").exists()
    lock(workflow.lock_file, "taken")
    assert is_locked(tmp_path / "results" / ".tiny.lock")
    assert "; a Snakemake is at work" in status(workflow)


def test_a_study_that_is_watched_is_shown_until_its_runs_are_done(reproduced):
    done = forked.python_m("onlybn", "status", "--watch", folder=reproduced.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("tiny: 10 of 10 runs are done; no Snakemake is at work") == 1


def test_times_are_said_as_a_person_says_them():
    said = {seconds: duration(seconds) for seconds in (0.4, 99, 100, 3_600, 7_500, 10**6)}
    assert list(said.values()) == ["0 s", "99 s", "2 min", "60 min", "2 h 5 min", "12 days"]


def test_a_reader_that_has_enough_ends_no_command_in_a_traceback():
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "onlybn", "status"]
    done = subprocess.run(command, cwd=ROOT, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")
