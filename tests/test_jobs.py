"""What surrounds a job's work."""

import fcntl
import os
import subprocess
import sys

import pytest

from onlybn.errors import UserError
from onlybn.jobs import Terminal, last_lines, lock


def test_the_reason_is_the_last_line_of_a_failed_jobs_own_log_here_and_on_a_cluster(tmp_path):
    for name, text in (("a", "first\nerror: a\n\n"), ("b", "error: b"), ("slurm", "it failed")):
        (tmp_path / f"{name}.log").write_text(text)
    end = "(check log file(s) for error details)"
    told = (
        f"    log: {tmp_path}/a.log {end}\n"
        f"    log: {tmp_path}/b.log, {tmp_path}/slurm.log {end}\n"
        f"    log: {tmp_path}/gone.log, {tmp_path}/slurm.log {end}\n"
        f"    log: {tmp_path}/a.log {end}\n"
        f"    log: {tmp_path}/slurm.log\n"
    )
    (tmp_path / "snakemake.log").write_text(told)
    assert last_lines(tmp_path / "snakemake.log") == ["error: a", "error: b"]


def test_a_fault_of_several_lines_is_told_in_the_last_one(tmp_path):
    code = "from pathlib import Path; from onlybn.jobs import job\n"
    code += "with job(Path('log')): raise RuntimeError('CUDA error: misaligned\\nFor debugging pass X\\n')"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path)
    assert done.returncode == 1
    *_, last = (tmp_path / "log").read_text().splitlines()
    assert last == "error: RuntimeError: CUDA error: misaligned For debugging pass X"


def test_a_terminal_that_is_gone_stops_nothing():
    reading, writing = os.pipe()
    Terminal(writing).say("heard")
    assert os.read(reading, 100) == b"heard\n"
    os.close(reading)
    Terminal(writing).say("not heard")
    os.close(writing)


def test_a_lock_on_a_file_that_was_deleted_meanwhile_is_none(tmp_path, monkeypatch):
    path, flock, taken = tmp_path / ".lock", fcntl.flock, []

    def deleted_before(descriptor, operation):
        if not taken:
            path.unlink()
        taken.append(descriptor)
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", deleted_before)
    held = lock(path, "taken")
    assert len(taken) == 2
    with pytest.raises(UserError, match=r"^taken$"):
        lock(path, "taken")
    os.close(held)
