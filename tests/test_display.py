"""What a terminal and a pipe show while Snakemake runs; the terminal is a pseudo-terminal with a screen."""

import fcntl
import logging
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pyte
import pytest
import snakemake
from checkout import ROOT, STUDY, Checkout

from onlybn import jobs
from onlybn.runs import progress
from onlybn.runs.progress import Progress
from snakemake_logger_plugin_onlybn import display as displays
from snakemake_logger_plugin_onlybn import work as works
from snakemake_logger_plugin_onlybn.work import Work

ROWS, COLUMNS = 16, 100
# Stands in for training: each run is at its third epoch until the file `go` is there.
TRAINS = """
import time
from pathlib import Path
from onlybn.errors import UserError
from onlybn.jobs import job
with job(Path(snakemake.log[0])) as terminal:
    from onlybn.runs.progress import Progress, write
    folder = Path(snakemake.output[0]).parent
    seed = int(folder.name[-1])
    work = Path(snakemake.params.work) / folder.name
    work.mkdir(parents=True, exist_ok=True)
    if seed == 1 and Path("faulty").exists():
        raise UserError("β is wrong")
    terminal.say(f"seed {seed} would like to say something")
    terminal.report("what a display shows anyway")
    told = dict(run="a run", unit="epoch", length=9, steps=90, begun=0, seconds_left=60.0)
    write(work, Progress(**told, state="training", reached=3, step=35, accuracy=81.25, written=time.time()))
    while not Path("go").exists():
        time.sleep(0.05)
    write(work, Progress(**told, state="finished", reached=9, step=90, accuracy=91.25, written=time.time()))
    for file in snakemake.output:
        Path(file).write_text("{}")
"""


class Terminal:
    """A pseudo-terminal with a screen, in which a command runs."""

    def __init__(self, checkout: Checkout, *arguments: str, term: str = "xterm-256color"):
        self.screen = pyte.Screen(COLUMNS, ROWS)
        self.stream, self.raw = pyte.ByteStream(self.screen), b""
        self.pid, self.descriptor = pty.fork()
        if self.pid == 0:
            # A shell that runs the tests in the background ignores Ctrl-C, and so would all that they start.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.chdir(checkout.folder)
            command = checkout.command(*arguments)
            os.execve(command[0], command, os.environ | {"TERM": term})
        fcntl.ioctl(self.descriptor, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))

    def text(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def read(self, seconds: float) -> bool:
        """Take what is written meanwhile; say whether more may come."""
        ready, _, _ = select.select([self.descriptor], [], [], seconds)
        try:
            content = os.read(self.descriptor, 1 << 16) if ready else None
        except OSError:  # nobody has the terminal open any more
            return False
        if content:
            self.raw += content
            self.stream.feed(content)
        return content != b""

    def until(self, *parts: str) -> str:
        """Wait until the screen shows all these; return what it shows."""
        deadline = time.monotonic() + 60
        while not all(part in self.text() for part in parts):
            assert self.read(0.2) and time.monotonic() < deadline, self.text()
        return self.text()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        os.write(self.descriptor, b"\x03")

    def end(self) -> int:
        """Wait for the end of the command, at most two minutes; return its status."""
        deadline = time.monotonic() + 120
        while self.read(1):
            if time.monotonic() > deadline:
                os.kill(self.pid, signal.SIGKILL)
        _, status = os.waitpid(self.pid, 0)
        return os.waitstatus_to_exitcode(status)


@pytest.fixture
def checkout(tmp_path):
    """A checkout whose images are there, and whose runs take as long as the test likes."""
    made = Checkout(tmp_path, STUDY)
    (tmp_path / "workflow/scripts/train.py").write_text(TRAINS)
    images = tmp_path / "results/datasets/digits"
    images.mkdir(parents=True)
    for name in ("dataset.json", "train.safetensors", "test.safetensors"):
        (images / name).write_text("{}")
    return made


def both_seeds() -> list[str]:
    point = "results/tiny/runs/resnet-8/all/kaiming-normal_gamma-uniform"
    return [*(f"{point}/seed-{seed}/run.json" for seed in (0, 1)), "--cores", "2"]


def test_a_terminal_shows_each_run_at_work_and_afterwards_lines_alone(checkout):
    terminal = Terminal(checkout, *both_seeds())
    shown = terminal.until("seed 0  ━", "seed 1  ━", "0 of 2 runs done", "seed 0 would like", "seed 1 would")
    assert "tiny: to do: 2 runs\n" in shown
    assert re.search(r"^tiny +[━╸╺]+ +0 of 2 runs done", shown, re.M)
    for seed in (0, 1):
        at = rf"^  resnet-8 all seed {seed} +[━╸╺]+ +epoch 3/9 +81\.2 % +60 s left$"
        assert re.search(at, shown, re.M)
    (checkout.folder / "go").touch()
    assert terminal.end() == 0
    text = terminal.text()
    assert (
        len(re.findall(r"^resnet-8 all seed [01]: test accuracy 91\.2 %; [12] of 2 runs done", text, re.M))
        == 2
    )
    assert re.fullmatch(r"Done in \d+ s: 2 runs", text.splitlines()[-1])
    for gone in ("━", "at work", "what a display shows anyway", "jobid"):
        assert gone not in text
    assert b"\x1b[?25l" not in terminal.raw  # which hides the cursor
    assert terminal.screen.cursor.x == 0


def test_a_fault_is_shown_when_it_happens_and_again_at_the_end_each_time_once(checkout):
    (checkout.folder / "faulty").touch()
    terminal = Terminal(checkout, *both_seeds())
    log = "results/tiny/logs/train/resnet-8/all/kaiming-normal_gamma-uniform/seed-1.log"
    shown = terminal.until("error: β is wrong", "1 fault", "seed 0  ━")
    assert shown.replace("\n", "").count("β is wrong") == 1
    (checkout.folder / "go").touch()
    assert terminal.end() == 1
    text = terminal.text()
    assert re.search(
        r"^Ended with faults after \d+ s, 1 of 2 runs done\. The same command resumes\.$", text, re.M
    )
    told = text.rpartition("What went wrong:\n")[2]
    assert told.replace("\n", "").strip() == f"error: β is wrong ({log})"
    assert "Traceback" not in text
    assert "CalledProcessError" not in text


def test_what_is_left_out_is_what_snakemake_says():
    package = Path(snakemake.__file__).parent
    source = "".join(path.read_text() for path in package.rglob("*.py"))
    for message in displays.LEFT_OUT:
        assert message.removeprefix("WorkflowError:\n").strip() in source


def test_ctrl_c_leaves_the_terminal_whole_and_says_how_to_go_on(checkout):
    terminal = Terminal(checkout, *both_seeds())
    terminal.until("seed 0  ━", "seed 1  ━")
    terminal.interrupt()
    assert terminal.end() == 1
    *_, last = terminal.text().splitlines()
    assert re.fullmatch(r"Interrupted after \d+ s, 0 of 2 runs done\. The same command resumes\.", last)
    assert "━" not in terminal.text()
    assert "went wrong" not in terminal.text()
    assert b"\x1b[?25l" not in terminal.raw
    assert terminal.screen.cursor.x == 0


def test_a_snakemake_that_is_asked_to_end_says_what_it_waits_for(checkout):
    terminal = Terminal(checkout, *both_seeds())
    terminal.until("seed 0  ━", "seed 1  ━")
    os.kill(terminal.pid, signal.SIGTERM)
    terminal.until("Stopping: the jobs at work run to their end first.", "━")
    (checkout.folder / "go").touch()
    assert terminal.end() == 1
    assert terminal.text().count("Stopping") == 1
    assert "2 of 2 runs done. The same command resumes." in terminal.text().splitlines()[-1]


def test_a_killed_snakemake_leaves_the_cursor_visible_on_a_line_of_its_own(checkout):
    terminal = Terminal(checkout, *both_seeds())
    terminal.until("seed 0  ━", "seed 1  ━")
    os.kill(terminal.pid, signal.SIGKILL)
    (checkout.folder / "go").touch()
    assert terminal.end() == -signal.SIGKILL
    assert b"\x1b[?25l" not in terminal.raw
    assert not terminal.screen.display[terminal.screen.cursor.y].strip()


def test_a_terminal_that_cannot_draw_gets_plain_lines(checkout):
    (checkout.folder / "go").touch()
    terminal = Terminal(checkout, *both_seeds(), term="dumb")
    assert terminal.end() == 0
    assert b"\x1b" not in terminal.raw
    assert re.search(r"^resnet-8 all seed 1: test accuracy 91.2 %; \d of 2 runs done", terminal.text(), re.M)


def test_a_pipe_gets_a_line_for_each_run_and_no_escape(checkout):
    (checkout.folder / "go").touch()
    lines = checkout.ok(*both_seeds(), NO_COLOR="1").splitlines()
    assert "\x1b" not in "".join(lines)
    assert sum("test accuracy 91.2 %" in line for line in lines) == 2
    assert len(lines) == 1 + 1 + 2 * 2 + 1  # the profile, what is to do, for each run what it says, the end


@pytest.mark.parametrize("option", ["--printshellcmds", "--verbose"])
def test_options_for_snakemakes_own_output_give_it_with_what_jobs_say(checkout, option):
    (checkout.folder / "go").touch()
    text = checkout.ok(*both_seeds(), option)
    assert "Finished jobid" in text
    assert text.count("what a display shows anyway") == 2


def test_quiet_tells_nothing_but_that_jobs_failed(checkout):
    (checkout.folder / "go").touch()
    text = checkout.ok(*both_seeds(), "--quiet", "all")
    assert "Finished" not in text
    assert "Done" not in text
    (checkout.folder / "faulty").touch()
    text = checkout.refusal(*both_seeds(), "--quiet", "all", "--forceall")
    assert text.splitlines()[-1] == "Not all jobs succeeded; the same command without --quiet tells why"


def test_a_dry_run_counts_jobs_and_lists_them_if_asked(checkout):
    text = checkout.ok(*both_seeds(), "-n")
    assert re.search(r"^train +1$", text, re.M)
    assert re.search(r"^total +2$", text, re.M)
    assert text.count("Job stats") == 1
    assert "rule train" not in text
    assert "rule train:" in checkout.ok(*both_seeds(), "-n", "-p")


def test_without_rich_snakemake_shows_its_own_output(checkout):
    (checkout.folder / "go").touch()
    (checkout.folder / "without" / "rich").mkdir(parents=True)
    (checkout.folder / "without/rich/__init__.py").write_text("raise ModuleNotFoundError(__name__)")
    assert "Finished jobid" in checkout.ok(*both_seeds(), PYTHONPATH=str(checkout.folder / "without"))


def test_the_snakemake_inside_of_a_cluster_job_shows_its_own_output(checkout):
    (checkout.folder / "go").touch()
    text = checkout.ok(*both_seeds(), "--mode", "remote", "--nolock", "--force")
    assert "Finished jobid" in text


def test_the_plugin_imports_nothing_that_takes_time_until_it_is_used():
    code = (
        "import sys, snakemake_logger_plugin_onlybn; sys.exit(not {'rich', 'onlybn'}.isdisjoint(sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def test_a_file_gets_a_line_now_and_then_while_nothing_ends(tmp_path, monkeypatch):
    monkeypatch.setattr(displays, "LOOK", 0.01)
    monkeypatch.setattr(displays, "PLAIN", 0.0)
    file = (tmp_path / "log").open("w")
    display = displays.Display(file)

    def tell(message="", **told):
        record = logging.LogRecord("snakemake", logging.INFO, "", 0, message, None, None)
        record.__dict__.update(told)
        return display.take(record)

    assert not tell("Building")  # Snakemake's own, as is all before the workflow starts
    assert tell(event="workflow_started")
    run = {"name": "resnet-8 all seed 0", "work": str(tmp_path), "weight": 1, "present": False}
    tell("to do", onlybn={"event": "planned", "study": "tiny", "runs": {"runs": run}, "all": 1})
    tell(event="job_info", jobid=1, rule_name="train", output=["runs/run.json"])
    told = {"run": "resnet-8 all seed 0", "unit": "epoch", "reached": 3, "length": 9, "step": 1, "steps": 9}
    told |= {"begun": 0, "seconds_left": 60.0, "state": "training", "accuracy": 50.0, "written": 1.0}
    progress.write(tmp_path, Progress(**told))
    deadline = time.monotonic() + 10
    expected = "0 of 1 runs done; resnet-8 all seed 0: epoch 3/9, test accuracy 50.0 %, 60 s left\n"
    while expected not in (tmp_path / "log").read_text():
        assert time.monotonic() < deadline
        file.flush()
    display.close()
    file.close()
    assert jobs.DISPLAY not in os.environ


# how far the work is


@pytest.fixture
def work(tmp_path, monkeypatch):
    """Work on three runs, of which one was done before, and on a clock that the test moves."""
    clock = [1_000.0]
    monkeypatch.setattr(works.time, "monotonic", lambda: clock[0])
    made = Work()
    made.clock = clock
    runs = {
        f"runs/{name}": {"name": name, "work": tmp_path / name, "weight": weight, "present": name == "old"}
        for name, weight in (("old", 1), ("short", 1), ("long", 3))
    }
    for run in runs.values():
        run["work"].mkdir()
    made.plan("tiny", runs, 7)  # the study has four more, which no job trains
    return made


def publish(work: Work, name: str, **changes) -> None:
    told = {
        "run": name,
        "state": "training",
        "unit": "epoch",
        "reached": 0,
        "length": 2,
        "step": 0,
        "steps": 10,
    }
    told |= {"begun": 0, "accuracy": 50.0, "seconds_left": None, "written": work.clock[0]}
    progress.write(work.runs[f"runs/{name}"].work, Progress(**told | changes))


def test_runs_that_were_done_before_count_as_done(work):
    assert work.stand() == "5 of 7 runs done"
    work.job_started(1, "train", ["runs/old/run.json", "runs/short/run.json"])
    assert work.job_finished(1) == []  # nothing tells that the job trained anything
    assert (work.runs_done, work.trained) == (6, 0)


def test_what_an_earlier_job_published_is_not_taken_for_this_ones(work):
    publish(work, "short", state="finished", step=10)
    work.clock[0] += 1
    work.job_started(1, "train-seed-1", ["runs/short/run.json"])
    assert work.look() == []
    assert work.at_work == {"starting": 1}
    publish(work, "short", step=5)
    assert work.look() == []
    assert [run.name for run in work.training] == ["short"]
    assert work.at_work == {}
    publish(work, "short", state="finished", step=10)
    assert [run.name for run in work.look()] == ["short"]
    assert work.job_finished(1) == []


def test_the_time_left_follows_from_how_long_jobs_took_here_and_from_the_size_of_runs(work):
    work.job_started(1, "train", ["runs/short/run.json"])
    publish(work, "short", begun=4, step=4)
    work.clock[0] += 30
    work.look()
    assert work.seconds_left is None
    publish(work, "short", begun=4, step=9)
    work.look()
    assert work.seconds_left is None  # half a run of four, in half a minute
    work.clock[0] += 31
    assert work.seconds_left == pytest.approx(61 / 0.5 * (0.1 + 3))
    publish(work, "short", begun=4, step=10, state="finished")
    assert work.job_finished(1)[0].name == "short"
    assert work.stand().startswith("6 of 7 runs done, about 5 min left")
    work.plan_jobs({"train": 2, "analyse": 3, "figure-1": 1, "total": 6})
    assert work.seconds_left == pytest.approx(61 / 0.6 * 3 + 3 * works.JOB_SECONDS)
    for number in (2, 3):  # side by side, while nothing trains
        work.job_started(number, "analyse", [f"runs/short/{number}.parquet"])
    work.clock[0] += 61
    for number in (2, 3):
        work.job_finished(number)
    assert work.seconds_left == pytest.approx((61 / 0.6 * 3 + 61) * 122 / (3 * 61))


def test_a_fault_is_told_once_and_what_somebody_stopped_is_none(work, tmp_path):
    log = tmp_path / "a.log"
    log.write_text("error: β is wrong\n")
    work.job_started(1, "train", ["runs/short/run.json"])
    assert work.job_failed(1, "train", [str(log)]) == f"error: β is wrong ({log})"
    assert work.job_failed(1, "train", [str(log)]) is None
    assert (
        work.job_failed(2, "collect", ["no.log"])
        == "error: a job of the rule collect failed, and left no log"
    )
    log.write_text("interrupted; the same command resumes\n")
    assert work.job_failed(1, "train", [str(log)]) is None
    assert work.job_failed(3, "draw_figure", ["no.log"]) is None  # it was stopped before it wrote any
    assert work.interrupted
    assert len(work.faults) == 2
    assert not work.jobs


def test_an_analysis_of_a_run_does_not_count_as_its_training(work):
    work.job_started(5, "analyse", ["runs/short/clamping.parquet"])
    assert work.job_finished(5) == []
    assert (work.runs_done, work.made) == (5, ["1 analysis"])
