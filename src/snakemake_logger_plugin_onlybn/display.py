"""The display: one frame at the foot of a terminal, above it a line for what ended; plain lines elsewhere."""

import logging
import os
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from threading import Event, RLock, Thread
from typing import TextIO

from rich.console import Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text
from snakemake_interface_logger_plugins.common import LogEvent

from onlybn.jobs import DISPLAY, counted, duration
from onlybn.screen import Screen
from snakemake_logger_plugin_onlybn.work import Work

# Seconds between two looks at the progress of runs; between two lines about it without a terminal; for which
# drawn figures and tables are gathered into one line.
LOOK, PLAIN, GATHERED = 0.5, 300.0, 10.0
# How Snakemake's messages begin that are shown, beside warnings and errors.
MESSAGES = ("Nothing to be done", "Creating conda environment", "Downloading and installing remote packages")
# Errors that are not shown: a failed job's log tells why it failed.
LEFT_OUT = (
    "Exiting because a job execution failed",
    "WorkflowError:\nAt least one job did not complete",
    "Cannot restore ",
    "Restored previous version of ",
)
# Messages before the workflow starts that are not shown.
AT_START = ("Config file ", "Assuming unrestricted shared filesystem usage")
STOPPING = "Terminating processes on user request"
ENDING = "Will exit after finishing currently running jobs"


class Display:
    """Shows log records from the start of the workflow until `close`; `take` refuses those before."""

    def __init__(self, stream: TextIO, *, no_color: bool = False):
        self.screen = Screen(stream, no_color=no_color or None)  # None: the environment may say so (NO_COLOR)
        self.work: Work | None = None
        self.end: str | None = None
        self.where, self.stopping = "", False
        self.lock, self.over = RLock(), Event()
        self.written = self.drawn_at = 0.0

    def take(self, record: logging.LogRecord) -> bool:
        """Show a record, and say whether Snakemake's own output may leave it out."""
        with self.lock:
            event = getattr(record, "event", None)
            if self.work is None:
                if event == LogEvent.WORKFLOW_STARTED:
                    self._start()
                return self.work is not None or record.getMessage().startswith(AT_START)
            if shown := getattr(record, "onlybn", None):
                self._take_ours(record.getMessage(), **shown)
            elif event == LogEvent.RUN_INFO:
                self.work.plan_jobs(record.stats)
            elif event == LogEvent.JOB_INFO:
                self.work.job_started(record.jobid, record.rule_name, record.output)
            elif event == LogEvent.JOB_FINISHED:
                self._say_ended(self.work.job_finished(record.job_id))
            elif event == LogEvent.JOB_ERROR:
                self._say_failed(record.jobid, record.rule_name, record.log)
            elif event == LogEvent.GROUP_ERROR:
                for failed in record.job_error_info:
                    self._say_failed(failed["jobid"], failed["rule_name"], failed["log"])
            elif event in (None, LogEvent.ERROR):
                self._say_message(record)
            return True

    def close(self) -> None:
        """Take the frame away, and say how it ended."""
        if self.work is None or self.over.is_set():
            return
        self.over.set()
        self.ticker.join()
        with self.lock:
            self._look()
            self._say_drawn()
            if self.screen.can_draw:
                self.live.stop()
            os.environ.pop(DISPLAY, None)
            self.said.close()
            Path(self.said.name).unlink(missing_ok=True)
            self._say_end()

    def _start(self) -> None:
        self.work = Work()
        # Jobs append to it what they want to say.
        self.said = tempfile.NamedTemporaryFile(prefix="onlybn-", suffix=".txt", delete=False)  # noqa: SIM115
        os.environ[DISPLAY] = self.said.name
        if self.screen.can_draw:
            self.live.start()
        self.written = time.monotonic()
        self.ticker = Thread(target=self._tick, daemon=True)
        self.ticker.start()

    @cached_property
    def live(self) -> Live:
        """The frame."""
        return Live(
            console=self.screen,
            get_renderable=self._frame,
            auto_refresh=False,
            transient=True,
            redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
        )

    def _tick(self) -> None:
        pause = LOOK
        while not self.over.wait(pause):
            began = time.monotonic()
            with self.lock:
                self._look()
                if self.drawn_at and time.monotonic() - self.drawn_at > GATHERED:
                    self._say_drawn()
                if self.screen.can_draw:
                    with suppress(OSError):  # the terminal is gone; Snakemake goes on
                        self.live.refresh()
                elif self.work.training and time.monotonic() - self.written > PLAIN:
                    self._say(f"{self.work.stand()}; {self.work.training[0].progress}")
            pause = max(LOOK, 10 * (time.monotonic() - began))  # a cluster's jobs may train hundreds of runs

    def _look(self) -> None:
        self._say_ended(self.work.look())
        for line in self.said.read().decode(errors="replace").splitlines():
            self._say(line)

    # lines

    def _take_ours(self, message: str, event: str, **shown) -> None:
        if event == "planned":
            self.work.plan(shown["study"], shown["runs"], shown["all"])
            self._say(message)
        elif event == "done":
            self.end, self.where = event, shown["where"]
        elif event == "failed":
            self.end = event
            known = tuple(self.work.faults)  # with the log's path after the reason
            self.work.faults += [why for why in shown["faults"] if not any(k.startswith(why) for k in known)]

    def _say(self, line: str, style: str = "") -> None:
        with suppress(OSError):
            self.screen.print(Text(line, style), soft_wrap=True)
        self.written = time.monotonic()

    def _say_ended(self, runs: Sequence) -> None:
        for untold, run in zip(reversed(range(len(runs))), runs, strict=True):
            style = "yellow" if run.progress.state == "diverged" else ""
            result = "done" if run.progress.state == "training" else run.progress.result  # it came late
            self._say(f"{run.name}: {result}; {self.work.stand(untold)}", style)
        if self.work.drawn and not self.drawn_at:
            self.drawn_at = time.monotonic()

    def _say_drawn(self) -> None:
        if self.work.drawn:
            self._say(f"drawn: {', '.join(self.work.drawn)}")
        self.work.drawn, self.drawn_at = [], 0.0

    def _say_failed(self, number: int, rule: str, logs: Iterable[str]) -> None:
        if why := self.work.job_failed(number, rule, logs):
            self._say(why, "red")

    def _say_message(self, record: logging.LogRecord) -> None:
        message = record.getMessage()
        if message.startswith((STOPPING, ENDING)):
            if not self.stopping:
                what = "keep a checkpoint" if message.startswith(STOPPING) else "run to their end"
                self._say(f"Stopping: the jobs at work {what} first.")
            self.stopping = self.work.interrupted = True
        elif getattr(record, "exception", None) == "KeyboardInterrupt":
            self.work.interrupted, self.end = True, self.end or "failed"
        elif record.levelno >= logging.WARNING:
            # A job that failed is told by its log.
            if not message.startswith(LEFT_OUT) and "CalledProcessError" not in message:
                self._say(message, "red" if record.levelno >= logging.ERROR else "yellow")
        elif message.startswith(MESSAGES):
            self._say(message)

    def _say_end(self) -> None:
        took = duration(time.monotonic() - self.work.started)
        if self.end == "done":
            made = [counted(self.work.trained, "run")] if self.work.trained else []
            made = ", ".join(made + self.work.made)
            self._say(f"Done in {took}{': ' * bool(made)}{made}", "green")
            if self.where:
                self._say(self.where)
        elif self.end == "failed":
            stand = (
                f"{self.work.runs_done:,} of {counted(self.work.all, 'run')} done" if self.work.all else ""
            )
            ended = "Interrupted" if self.work.interrupted else "Ended with faults"
            self._say(f"{ended} after {took}{', ' * bool(stand)}{stand}. The same command resumes.")
            if self.work.faults:
                self._say("What went wrong:", "red")
                for fault in self.work.faults:
                    self._say(f"  {fault}")

    # the frame

    def _frame(self) -> Group:
        work, height = self.work, self.screen.height
        whole = Table.grid(padding=(0, 2))
        if work.all:
            shares = sum(run.progress.share for run in work.training)
            bar = ProgressBar(total=work.all, completed=work.runs_done + shares, width=30)
            whole.add_row(Text(work.study, "bold"), bar, work.stand())
        else:
            whole.add_row("Looking at what is there" if not work.jobs else "At work")
        runs = Table.grid(padding=(0, 2))
        runs.add_column(no_wrap=True, overflow="ellipsis")
        training = work.training
        room = max(1, height - 5)
        for run in training[:room]:
            now = run.progress
            left = "" if now.seconds_left is None else f"{duration(now.seconds_left)} left"
            bar = ProgressBar(total=1.0, completed=now.share, width=12)
            runs.add_row(f"  {run.name}", bar, now.at, now.measured.removeprefix("accuracy "), left)
        more = [f"{len(training) - room:,} more training"] if len(training) > room else []
        others = [f"{count:,} {kind}" for kind, count in sorted(work.at_work.items())]
        parts = [f"at work: {', '.join(more + others)}"] if more + others else []
        parts += [f"made: {', '.join(work.made)}"] if work.made else []
        foot = Text("  " + "   ".join(parts), no_wrap=True, overflow="ellipsis", style="dim")
        if work.faults:
            foot.append(f"   {counted(len(work.faults), 'fault')}", "red")
        # The last line is empty: a shell whose Snakemake was killed goes on there.
        return Group(whole, *([runs] if training else []), foot, Text(""))
