"""What Snakemake's jobs have done and do: told by its log records, and by the progress of runs."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from onlybn.jobs import INTERRUPTED, counted, duration, reason
from onlybn.runs import progress
from onlybn.runs.progress import Progress

# What a job does, by the first part of its rule's name, and what it makes; target rules do nothing.
DOES = {
    "prepare": "preparing",
    "count": "counting",
    "train": "starting",  # until it is known how far its runs are
    "analyse": "analysing",
    "collect": "collecting",
    "draw_figure": "drawing",
    "make_table": "drawing",
    "draw_sheet": "drawing",
}


# Seconds that a job is taken to take before one of its kind is done.
JOB_SECONDS = 4.0
MAKES = {"analyse": "analysis", "draw_figure": "figure", "make_table": "table"}


@dataclass
class Run:
    """A run of the jobs that Snakemake was asked for; `present` if it was done before."""

    name: str
    work: Path
    weight: float
    present: bool
    job: int | None = None
    done: bool = False
    progress: Progress | None = None
    written_before: float | None = None

    def start(self, job: int) -> None:
        """Take note of the job that trains the run, and of progress that an earlier job published."""
        earlier = progress.read(self.work)
        self.job, self.progress, self.written_before = job, None, earlier and earlier.written

    def look(self) -> None:
        """Read how far the run is."""
        found = progress.read(self.work)
        if found and found.written != self.written_before:
            self.progress = found


@dataclass
class Job:
    """A job at work, with the first part of its rule's name, and since when."""

    rule: str
    files: list[str]
    since: float


class Work:
    """What was planned, what is at work, and what is done."""

    def __init__(self):
        self.study, self.all = "", 0
        self.runs: dict[str, Run] = {}
        self.jobs: dict[int, Job] = {}
        # By the first part of the rules' names: jobs planned and done, and the seconds of those done.
        self.planned: Counter[str] = Counter()
        self.done: Counter[str] = Counter()
        self.took: Counter[str] = Counter()
        self.drawn: list[str] = []
        self.faults: list[str] = []
        self.interrupted = False
        self.started, self.working_since = time.monotonic(), None

    def plan(self, study: str, runs: Mapping[str, Mapping[str, Any]], whole: int) -> None:
        """Take note of the runs that jobs will train, by their folders, and of how many there are in all."""
        self.study, self.all = study, whole
        self.runs = {folder: Run(**run | {"work": Path(run["work"])}) for folder, run in runs.items()}

    def plan_jobs(self, jobs: Mapping[str, int]) -> None:
        """Take note of how many jobs of each rule there are."""
        for rule, count in jobs.items():
            self.planned[rule.partition("-")[0]] += count

    @property
    def runs_done(self) -> int:
        """How many of all runs are done."""
        return self.all - sum(not (run.done or run.present) for run in self.runs.values())

    @property
    def trained(self) -> int:
        """How many runs were trained here."""
        return sum(run.done for run in self.runs.values())

    @property
    def training(self) -> list[Run]:
        """The runs of which it is known how far they are."""
        return [run for run in self.runs.values() if run.job is not None and run.progress and not run.done]

    @property
    def at_work(self) -> Counter[str]:
        """How many jobs do what, those left out whose runs are known to train."""
        shown = {run.job for run in self.training}
        return Counter(DOES[job.rule] for number, job in self.jobs.items() if number not in shown)

    @property
    def made(self) -> list[str]:
        """What was made here beside runs, such as `2 figures`."""
        return [counted(self.done[rule], noun) for rule, noun in MAKES.items() if self.done[rule]]

    def job_started(self, number: int, rule: str, files: Iterable[str]) -> None:
        """Take note of a job that was started or submitted."""
        rule = rule.partition("-")[0]
        if rule in DOES:
            self.jobs[number] = Job(rule, list(files), time.monotonic())
            self.working_since = self.working_since or time.monotonic()
        if rule == "train":
            for folder in dict.fromkeys(str(Path(file).parent) for file in self.jobs[number].files):
                if folder in self.runs:
                    self.runs[folder].start(number)

    def job_finished(self, number: int) -> list[Run]:
        """Take note of a job that is done; return the runs that were not known to be done yet."""
        ended = self.look()
        if job := self.jobs.pop(number, None):
            self.done[job.rule] += 1
            self.took[job.rule] += time.monotonic() - job.since
            if DOES[job.rule] == "drawing":
                self.drawn.append(Path(job.files[0]).stem)
            for run in self._of(number):
                if run.progress and not run.done:
                    run.done = True
                    ended.append(run)
                run.present, run.job = run.present or not run.done, None
        return ended

    def job_failed(self, number: int, rule: str, logs: Iterable[str]) -> str | None:
        """Take note of a job that failed; return why, unless it was told before or somebody stopped it."""
        self.jobs.pop(number, None)
        for run in self._of(number):
            run.job = None
        log = next(filter(Path.is_file, map(Path, logs)), None)
        if self.interrupted and not log:  # it was stopped before it could say anything
            return None
        why = reason(log) if log else f"error: a job of the rule {rule} failed, and left no log"
        if why == INTERRUPTED:
            self.interrupted = True
            return None
        if log and str(log) not in why:
            why = f"{why} ({log})"
        if why in self.faults:
            return None
        self.faults.append(why)
        return why

    def look(self) -> list[Run]:
        """Read how far runs are; return those that ended since the last look."""
        ended = []
        for run in self.runs.values():
            if run.job is not None and not run.done:
                run.look()
                if run.progress and run.progress.state != "training":
                    run.done = True
                    ended.append(run)
        return ended

    @property
    def seconds_left(self) -> float | None:
        """How long the rest will take, as jobs took until now; None while it is too early to tell."""
        now = time.monotonic()
        elapsed = now - (self.working_since or now)
        took = self.took.copy()  # seconds of jobs, those at work included
        for job in self.jobs.values():
            took[job.rule] += now - job.since
        seconds = 0.0
        for rule in DOES.keys() - {"train"}:
            mean = self.took[rule] / self.done[rule] if self.done[rule] else JOB_SECONDS
            seconds += max(0, self.planned[rule] - self.done[rule]) * mean
        done = left = 0.0
        for run in self.runs.values():
            if not run.present:
                share, begun = 0.0, 0.0
                if run.progress:
                    share = 1.0 if run.done else run.progress.share
                    begun = run.progress.begun / run.progress.steps
                done += run.weight * (share - begun)
                left += run.weight * (1.0 - share)
        if left:
            # After a minute, or a fifth of all: before, it is mostly the start of jobs that takes time.
            if not done or (elapsed < 60 and done < left / 4):
                return None
            seconds += took["train"] * left / done
        # As many at a time as until now.
        return seconds * elapsed / took.total() if took.total() else None

    def stand(self, untold: int = 0) -> str:
        """Return how many runs are done, without the `untold` last ones, and how long the rest will take."""
        about = f", about {duration(left)} left" if (left := self.seconds_left) else ""
        return f"{self.runs_done - untold:,} of {self.all:,} runs done{about}"

    def _of(self, number: int) -> list[Run]:
        """Return the runs that a job trains, or trained."""
        return [run for run in self.runs.values() if run.job == number]
