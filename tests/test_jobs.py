"""What surrounds a job's work."""

import errno
import os
import subprocess
import sys

import pytest

from onlybn import jobs, locks
from onlybn.errors import UserError
from onlybn.jobs import Terminal, last_lines
from onlybn.locks import holding, is_locked, lock


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
    assert last_lines(tmp_path / "no such.log") == []


def test_the_reason_is_found_in_a_folder_whose_name_has_commas_or_is_no_utf_8(tmp_path):
    folder = tmp_path / os.fsdecode(b"a, b, \xff")
    folder.mkdir()
    (folder / "a.log").write_text("error: it")
    (folder / "slurm.log").write_text("it failed")
    told = f"log: {folder}/a.log, {folder}/slurm.log (check log file(s) for error details)\n"
    (tmp_path / "snakemake.log").write_bytes(os.fsencode(told))
    assert last_lines(tmp_path / "snakemake.log") == ["error: it"]


def test_of_a_job_that_was_killed_it_is_told_after_what(tmp_path):
    for name, text in (("a", "epoch 1\nepoch 2\n"), ("b", "")):
        (tmp_path / f"{name}.log").write_text(text)
    told = "".join(f"log: {tmp_path}/{n}.log (check log file(s) for error details)\n" for n in "ab")
    (tmp_path / "snakemake.log").write_text(told)
    killed = "ends without a reason; the job was killed, perhaps for memory"
    assert last_lines(tmp_path / "snakemake.log") == [
        f"{tmp_path}/a.log {killed}, after: epoch 2",
        f"{tmp_path}/b.log {killed}",
    ]


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


FAILS = """
from pathlib import Path
from onlybn.errors import UserError
from onlybn.jobs import job
import sys
with job(Path(sys.argv[1])):
    print("γ")
    raise UserError("β is wrong")
"""


def failing_job(log, closed="", **environment):
    """Run a job that fails, with streams closed as the shell says; return what the terminal shows."""
    command = ["sh", "-c", f'exec "$@" {closed}', "sh", sys.executable, "-c", FAILS, log]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode != 0
    assert not done.stdout
    return done.stderr


def test_a_job_computes_in_what_its_study_says_whatever_the_user_has_set(tmp_path):
    code = FAILS.replace('"γ"', '[name for name in __import__("os").environ if name in UNSET]')
    code = code.replace("import job", "import UNSET, job")
    own = dict.fromkeys(jobs.UNSET, "1") | {"PYTHONWARNINGS": "error"}
    subprocess.run([sys.executable, "-c", code, "log"], cwd=tmp_path, env=os.environ | own)
    assert (tmp_path / "log").read_text().startswith("[]\nerror: β is wrong")


@pytest.mark.parametrize("closed", ["2>&-", "<&- >&- 2>&-"])
def test_a_job_whose_standard_streams_are_closed_still_writes_its_log(tmp_path, closed):
    failing_job(tmp_path / "log", closed, PYTHONIOENCODING="ascii")
    assert (tmp_path / "log").read_text(encoding="utf-8") == "γ\nerror: β is wrong\n"


def test_where_the_log_cannot_be_written_the_terminal_gets_the_reason(tmp_path):
    told = failing_job("/dev/full").splitlines()
    assert told[0].startswith("error: ")
    assert told[0].endswith(" (the log cannot be written: No space left on device)")
    (tmp_path / "file").touch()
    told = failing_job(tmp_path / "file" / "log")
    assert told == f"error: the log {tmp_path}/file/log cannot be written (File exists)\n"


def test_a_lock_is_made_for_all_whom_the_umask_allows(tmp_path):
    before = os.umask(0o002)
    try:
        lock(tmp_path / "results" / ".lock", "taken")
    finally:
        os.umask(before)
    assert (tmp_path / "results" / ".lock").stat().st_mode & 0o777 == 0o664


def only_for_reading(monkeypatch, refused=os.O_RDWR | os.O_CREAT):
    """Have files be another user's, which this one may not write, or not even read."""
    really = os.open

    def opened(path, flags, mode=0o777, **more):
        if flags & refused or refused == os.O_RDONLY:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return really(path, flags, mode, **more)

    monkeypatch.setattr(locks.os, "open", opened)


def test_another_users_lock_is_taken_by_who_may_read_it(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    held = lock(path, "taken")
    only_for_reading(monkeypatch)
    with pytest.raises(UserError, match="taken"):
        lock(path, "taken")
    os.close(held)
    lock(path, "taken")
    assert is_locked(path)


def test_a_lock_that_may_not_be_read_is_one_sentence_and_no_answer(tmp_path, monkeypatch):
    path = tmp_path / ".lock"
    path.touch()
    only_for_reading(monkeypatch, os.O_RDONLY)
    with pytest.raises(
        UserError, match=r"the lock file .*\.lock cannot be opened \(Permission denied\); all"
    ):
        lock(path, "taken")
    path.unlink()
    path.symlink_to(path)  # which nobody can open
    assert is_locked(path) is None


@pytest.mark.parametrize(
    ("number", "sentence"),
    [
        (errno.ENOLCK, r"is on a file system without locks \(flock: No locks available\)"),
        (
            errno.EBADF,
            r"\.lock is another user's, and its file system locks only what one may write; its owner",
        ),
    ],
)
def test_a_lock_that_the_file_system_refuses_is_one_sentence(tmp_path, monkeypatch, number, sentence):
    def refuse(descriptor, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.fcntl, "flock", refuse)
    with pytest.raises(UserError, match=sentence):
        lock(tmp_path / ".lock", "taken")
    assert is_locked(tmp_path / ".lock") is None


@pytest.mark.parametrize("again", [True, False], ids=["replaced", "deleted"])
def test_a_lock_file_that_goes_before_it_is_locked_is_noticed(tmp_path, monkeypatch, again):
    path = tmp_path / "work" / ".lock"
    really, others = locks.fcntl.flock, []

    def late(descriptor, operation):
        if not others:
            path.unlink()
            path.parent.rmdir()
            others.append(None)
            if again:
                others.append(lock(path, "taken"))
        return really(descriptor, operation)

    monkeypatch.setattr(locks.fcntl, "flock", late)
    if again:
        with pytest.raises(UserError, match="taken"):
            lock(path, "taken")
    else:
        descriptor = lock(path, "taken")
        assert os.path.samestat(os.fstat(descriptor), path.stat())


def test_processes_that_delete_the_lock_that_they_hold_never_hold_it_together(tmp_path):
    code = """
import os, sys, time
from pathlib import Path
from onlybn.locks import holding
count = 0
while count < 200:
    with holding(Path("work/.lock")) as held:
        if held:
            os.close(os.open("alone", os.O_CREAT | os.O_EXCL))
            os.unlink("alone")
            os.unlink("work/.lock")
            count += 1
"""
    both = [subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path) for _ in range(2)]
    assert [process.wait(timeout=60) for process in both] == [0, 0]


def test_a_lock_that_another_holds_is_not_held(tmp_path):
    descriptor = lock(tmp_path / ".lock", "taken")
    with holding(tmp_path / ".lock") as held:
        assert not held
    os.close(descriptor)
    with holding(tmp_path / ".lock") as held:
        assert held
    assert not is_locked(tmp_path / ".lock")
