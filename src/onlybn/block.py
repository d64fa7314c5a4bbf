"""One training job: the runs of a block of seeds, those that are finished already skipped."""

import os
import shutil
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from onlybn import storage
from onlybn.datasets.images import read
from onlybn.jobs import Terminal, lock
from onlybn.study import Run
from onlybn.training import Observer, Progress, choose_device, choose_precision, train


class EpochLines(Observer):
    """Prints a line per epoch, with the time that the rest of the run will take."""

    def __init__(self):
        self.started = time.perf_counter()

    def epoch_ended(self, progress: Progress) -> None:
        """Print where the run stands."""
        epochs = progress.run.training.epochs
        seconds = (time.perf_counter() - self.started) / progress.epoch * (epochs - progress.epoch)
        train_row, test_row = progress.rows[-2:]
        print(
            f"{progress.run}: epoch {progress.epoch}/{epochs}, training loss {train_row['loss']:.3f},"
            f" test accuracy {test_row['top_1']:.1f} %, {seconds:.0f} s left",
            flush=True,
        )


def train_block(
    runs: Sequence[Run],
    folders: Sequence[Path],
    *,
    work: Path,
    dataset: Path,
    device: str,
    threads: int,
    terminal: Terminal,
) -> None:
    """Train the runs that are not finished, then move all into their folders at once.

    Until then finished runs wait in `work/seed-N`, where the next try finds them. Raises UserError if
    another job trains one of them, or if the device is not there.
    """
    torch.set_num_threads(threads)
    waiting = [work / f"seed-{run.seed}" for run in runs]
    with ExitStack() as held:
        for run, place in zip(runs, waiting, strict=True):
            refusal = f"another job trains {run}; wait for it, or stop it, and start again"
            held.callback(os.close, lock(place / ".lock", refusal))
        target = choose_device(device)
        images = None
        for run, place, folder in zip(runs, waiting, folders, strict=True):
            if storage.is_finished(folder, run) or storage.is_finished(place, run):
                print(f"{run}: finished before", flush=True)
                continue
            images = images or read(dataset, target)
            precision = choose_precision(run.training.precision, target)
            outcome = train(run, images, precision=precision, observers=[EpochLines()])
            settings = {
                "device": target.type,
                "device_name": torch.cuda.get_device_name(target) if target.type == "cuda" else "CPU",
                "threads": threads,
                "precision_asked": run.training.precision,
                "precision": str(precision).removeprefix("torch."),
            }
            storage.save(place, run, outcome, images, settings)
            terminal.say(_result(run, outcome.rows[-1], outcome.diverged, outcome.seconds))
        for run, place, folder in zip(runs, waiting, folders, strict=True):
            if not storage.is_finished(folder, run):
                storage.publish(place, folder)
            shutil.rmtree(place)


def _result(run: Run, row: dict, diverged: int | None, seconds: float) -> str:
    if diverged:
        return f"{run}: diverged in epoch {diverged}, {seconds:.0f} s"
    epochs = f"{row['epoch']} epoch{'s' * (row['epoch'] != 1)}"
    return f"{run}: test accuracy {row['top_1']:.1f} % after {epochs}, {seconds:.0f} s"
