"""One training job: the runs of a block of seeds, those that are finished already skipped."""

import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack, nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import torch

from onlybn import custom, datasets
from onlybn.datasets.images import Images
from onlybn.devices import choose_precision, name_of, name_of_precision, take_devices
from onlybn.distributed import ALONE, Group, join, launch
from onlybn.errors import UserError
from onlybn.jobs import (
    PATIENCE,
    Terminal,
    die_with_parent,
    duration,
    keep_freed_memory,
    lock,
    stoppable,
    wait_for_lock,
)
from onlybn.machine import commit
from onlybn.runs import records, saving
from onlybn.runs.folders import keep_aside, publish, size_of
from onlybn.study import Run
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.loop import Observer, Progress, train_replicates

CHECKPOINT = "checkpoint.safetensors"


class EpochLines(Observer):
    """Prints a line per epoch, with the time that the rest of the run will take.

    Of a long run it says one on the terminal too, every few minutes.
    """

    SECONDS_BETWEEN = 300.0

    def __init__(self, terminal: Terminal | None = None):
        self.terminal = terminal
        self.started = self.said = time.perf_counter()
        self.before: int | None = None

    def epoch_ended(self, progress: Progress) -> None:
        """Print where the run stands."""
        epochs = progress.run.training.epochs
        if self.before is None:
            self.before = progress.epoch - 1
        now = time.perf_counter()
        left = (now - self.started) / (progress.epoch - self.before) * (epochs - progress.epoch)
        train_row, test_row = progress.rows[-2:]
        line = (
            f"{progress.run}: epoch {progress.epoch}/{epochs}, training loss {train_row['loss']:.3f},"
            f" test accuracy {test_row['top_1']:.1f} %, {duration(left)} left"
        )
        print(line, flush=True)
        if self.terminal and now - self.said >= self.SECONDS_BETWEEN and left:
            self.terminal.say(line)
            self.said = now


def train_block(
    runs: Sequence[Run],
    folders: Sequence[Path],
    *,
    work: Path,
    replaced: Path,
    dataset: Path,
    data_dir: Path,
    device: str,
    deterministic: bool,
    threads: int,
    processes: int,
    workers: int,
    checkpoint_every: int,
    terminal: Terminal,
) -> None:
    """Train the runs that are not finished, then copy all into their folders at once.

    Finished runs and the checkpoints of unfinished ones wait in `work/seed-N`, where the next try finds
    them. A folder that holds another run, or a damaged one, is moved into `replaced/seed-N`; a run that
    was moved there before, and is asked for again, comes back. While another job trains one of the runs,
    as one whose Snakemake was killed does, this one waits, and takes what that one finished. `processes`
    share each run, each on `threads` threads and with `workers` more that decode photographs. Raises
    UserError if the devices are not there.
    """
    _set_up(threads, deterministic)
    waiting = [work / f"seed-{run.seed}" for run in runs]
    data = datasets.read_facts(dataset)["checksum"]
    with ExitStack() as held:
        for run, place in zip(runs, waiting, strict=True):
            told = f"{run}: another job trains it; this one waits for its end"
            held.callback(os.close, wait_for_lock(place / ".lock", told, terminal))
        left, sources = [], {}
        for run, place, folder in zip(runs, waiting, folders, strict=True):
            kept = sorted((replaced / place.name).glob("*"))
            there = (where for where in (folder, place, *kept) if records.is_finished(where, run, data))
            if source := next(there, None):
                print(f"{run}: finished before" + f", and kept in {source}" * (source in kept), flush=True)
            else:
                left.append((run, place))
            sources[folder] = source or place
        if left:
            datasets.check_loader(dataset, data_dir, print, terminal.say)
        targets = take_devices(device, processes) if left else []
        # Small images do not fill a GPU alone; on the CPU each run ends sooner alone, and is then safe.
        small = not datasets.known(runs[0].dataset).photographs
        together = small and [target.type for target in targets] == ["cuda"]
        images = None
        for some in [left] if together else [[one] for one in left]:
            if processes > 1:
                ((run, place),) = some
                asked = {"devices": list(map(str, targets)), "deterministic": deterministic}
                asked |= {"threads": threads, "workers": workers, "checkpoint_every": checkpoint_every}
                paths = {"place": str(place), "dataset": str(dataset), "data_dir": str(data_dir)}
                paths |= {"import_path": sys.path}
                launch(processes, "onlybn.runs.block", asked | paths | {"run": records.described(run)})
            else:
                images = images or datasets.read(dataset, targets[0], data_dir=data_dir, workers=workers)
                _train(some, images, checkpoint_every, terminal=terminal)
            for run, place in some:
                terminal.say(_result(run, place))
        moved = []
        for folder, source in sources.items():
            if source != folder:
                if kept_at := keep_aside(folder, replaced / folder.name):
                    moved.append(kept_at)
                publish(source, folder)
                if replaced in source.parents:
                    shutil.rmtree(source)
    if moved:
        size = sum(map(size_of, moved)) / 1e6
        told = ", ".join(map(str, moved))
        terminal.say(f"{runs[0].study}: what new runs replace is kept ({size:,.1f} MB): {told}")


def _set_up(threads: int, deterministic: bool) -> None:
    """Set what this process computes with, before anything is computed."""
    commit()  # of the code that was imported, which may change while it trains
    torch.set_num_threads(threads)
    keep_freed_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    if deterministic:  # even to say no to it imports torch's compiler, which takes a second
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = not deterministic


def _train(
    some: Sequence[tuple[Run, Path]],
    images: Images,
    checkpoint_every: int,
    group: Group = ALONE,
    terminal: Terminal | None = None,
) -> None:
    """Train replicates side by side, each into its place, or go on with them."""
    runs = [run for run, _ in some]
    if custom.is_own(runs[0].dataset):  # of others it was checked when the study was read
        runs[0].training.check_last_batch(images.examples, group.size)
    precision = choose_precision(runs[0].training.precision, images.device)
    observers = [EpochLines(terminal)] if group.leads else []
    computed = {
        "device": images.device.type,
        "deterministic": images.device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "processes": group.size,
        "threads": torch.get_num_threads(),
        "precision": name_of_precision(precision),
    }
    # Processes of a group do not stop at one step: they go on from a checkpoint before.
    with stoppable() if group.size == 1 else nullcontext() as stop:
        checkpoints = Checkpoints(
            {run.seed: place / CHECKPOINT for run, place in some},
            computed,
            every=checkpoint_every,
            stop=stop,
        )
        outcomes = train_replicates(
            runs, images, precision=precision, observers=observers, group=group, checkpoints=checkpoints
        )
        settings = {
            "device_name": name_of(images.device),
            "seeds_together": [run.seed for run in runs],
            "precision_asked": runs[0].training.precision,
        }
        if group.leads:
            for (run, place), outcome in zip(some, outcomes, strict=True):
                saving.save(place, run, outcome, images, computed | settings)
                (place / CHECKPOINT).unlink(missing_ok=True)


def _train_together() -> None:
    """Train one run as one of several processes, on what `train_block` asked of `launch`."""
    asked = json.loads(sys.argv[1])
    die_with_parent()
    _set_up(asked["threads"], asked["deterministic"])
    sys.path[:] = asked["import_path"]  # where the user's own modules lie
    group, device = join(asked["devices"])
    run, place = records.run_of(asked["run"]), Path(asked["place"])
    if group.leads:  # these processes outlive one that is killed, and its lock
        refusal = f"processes of a job that was killed still train {run}; stop them"
        lock(place / ".lock-of-group", refusal, patience=PATIENCE)
    images = datasets.read(
        Path(asked["dataset"]), device, data_dir=Path(asked["data_dir"]), workers=asked["workers"]
    )
    _train([(run, place)], images, asked["checkpoint_every"], group)
    torch.distributed.destroy_process_group()
    # All is written. Gloo's threads now and then abort a process that ends in its own time.
    sys.stdout.flush()
    os._exit(0)


def _result(run: Run, place: Path) -> str:
    record = records.read_record(place)
    seconds = record["wall_clock"]["seconds"]
    if record["status"] == "diverged":
        return f"{run}: diverged in epoch {record['diverged_epoch']}, {duration(seconds)}"
    row = pq.read_table(place / "metrics.parquet").to_pylist()[-1]
    epochs = f"{row['epoch']} epoch{'s' * (row['epoch'] != 1)}"
    return f"{run}: test accuracy {row['top_1']:.1f} % after {epochs}, {duration(seconds)}"


if __name__ == "__main__":
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_train_together)()
    except (UserError, KeyboardInterrupt):  # for the process that asked to tell
        sys.exit(1)
