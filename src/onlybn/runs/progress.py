"""How far a run is while it trains: a small file in its work folder, for whoever shows progress."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onlybn.jobs import duration

if TYPE_CHECKING:
    from onlybn.training.live_run import LiveRun

FILE = "progress.json"
# Seconds at least between two files of a run, and what share of the time writing them may take.
SECONDS_BETWEEN, SHARE = 1.0, 0.001


@dataclass(frozen=True)
class Progress:
    """How far a run is.

    `state` is `training`, `finished` or `diverged`. `reached` of `length` epochs are trained and tested, or
    steps trained where the study counts those (`unit`). `step` of `steps` are trained in either case, of
    which this job found `begun` done.
    `accuracy` is the last top-1 accuracy in percent on the test split, or on that of `split`, and `loss` the
    loss there; both are None before the first test, and the accuracy too where the targets are no classes.
    `seconds_left` are those that the run itself still takes, None before its first step.
    `written` is the time, in seconds since 1970.
    """

    run: str
    state: str
    unit: str
    reached: int
    length: int
    step: int
    steps: int
    begun: int
    accuracy: float | None
    seconds_left: float | None
    written: float
    split: str = "test"
    loss: float | None = None

    @property
    def share(self) -> float:
        """The share of the run's steps that are done."""
        return self.step / self.steps

    @property
    def at(self) -> str:
        """Where the run is, such as `epoch 3/160`."""
        return f"{self.unit} {self.reached:,}/{self.length:,}"

    @property
    def result(self) -> str:
        """What came of the run, or what its last test gave."""
        if self.state == "diverged":
            return f"diverged in {self.unit} {self.reached:,}"
        return f"{self.split} {named}" if (named := self.measured) else "not tested yet"

    @property
    def measured(self) -> str:
        """What the last test gave, without its split; empty before the first test."""
        if self.accuracy is None and self.loss is None:
            return ""
        return measured({"top_1": self.accuracy, "loss": self.loss})

    def __str__(self) -> str:
        if self.state != "training":
            return f"{self.run}: {self.result}"
        left = [] if self.seconds_left is None else [f"{duration(self.seconds_left)} left"]
        return f"{self.run}: {', '.join([self.at, self.result, *left])}"


def measured(row: Mapping[str, Any]) -> str:
    """Return in words what a row of the metrics says: the accuracy, or the loss where there is none."""
    if row["top_1"] is None:
        return f"loss {row['loss']:.4g}"
    return f"accuracy {row['top_1']:.1f} %"


def of(live: "LiveRun", seconds_left: float | None) -> Progress:
    """Return how far a live run is."""
    training = live.run.training
    *_, tested = [{"top_1": None, "split": "test"}, *live.rows[-1:]]
    return Progress(
        run=str(live.run),
        state="diverged" if live.diverged else "finished" if live.is_over else "training",
        unit=training.unit,
        reached=live.taken if training.unit == "step" else -(-live.tested // live.steps_per_epoch),
        length=training.length,
        step=live.taken,
        steps=live.steps,
        begun=live.begun,
        accuracy=tested["top_1"],
        seconds_left=seconds_left,
        written=time.time(),
        split=tested["split"],
        loss=tested.get("loss"),
    )


def write(folder: Path, progress: Progress) -> None:
    """Write a run's progress into its work folder, whole; where that fails, the run goes on without."""
    beside = folder / f".{FILE}.partial"
    with suppress(OSError):
        beside.write_text(json.dumps(asdict(progress)), encoding="utf-8")
        beside.replace(folder / FILE)


def read(folder: Path) -> Progress | None:
    """Return the progress in a run's work folder; None where there is none, or another version's."""
    try:
        return Progress(**json.loads((folder / FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


class Publisher:
    """Writes the progress of runs that train side by side, now and then; `folders` are by seed."""

    def __init__(self, folders: Mapping[int, Path]):
        self.folders = folders
        self.started, self.due = time.monotonic(), 0.0

    def step_ended(self, live: Sequence["LiveRun"]) -> None:
        """Write how far the runs are, if it is time."""
        now = time.monotonic()
        if now >= self.due:
            for run in live:
                self.publish(run)
            self.due = now + max(SECONDS_BETWEEN, (time.monotonic() - now) / SHARE)

    def publish(self, live: "LiveRun") -> None:
        """Write how far a run is."""
        write(self.folders[live.run.seed], of(live, self.seconds_left(live)))

    def seconds_left(self, live: "LiveRun") -> float | None:
        """Return how long the rest of a run takes; None where it has taken no step yet."""
        taken = live.taken - live.begun
        return (time.monotonic() - self.started) / taken * (live.steps - live.taken) if taken else None
