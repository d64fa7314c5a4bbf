"""One training job: the runs of a block of seeds, except those that are finished already."""

import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import torch

from onlybn import custom, datasets, observers
from onlybn.axes import NORMALISATION
from onlybn.datasets.images import Images
from onlybn.devices import choose_precision, free_memory, name_of, name_of_precision, take_devices
from onlybn.distributed import ALONE, Group, join, launch
from onlybn.errors import UserError
from onlybn.jobs import Terminal, counted, die_with_parent, duration, keep_freed_memory, stoppable
from onlybn.locks import PATIENCE, lock, wait_for_lock
from onlybn.machine import commit
from onlybn.models.batchnorm import gpu_kernels
from onlybn.networks.fits import check_normalisation
from onlybn.runs import records, saving
from onlybn.runs.folders import keep_aside, publish, size_of
from onlybn.runs.progress import Publisher, measured
from onlybn.study import Run
from onlybn.training.checkpoints import SHARE, Checkpoints, discard
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import train_replicates
from onlybn.training.side_by_side import that_fit

CHECKPOINT = "checkpoint.safetensors"
# Seconds between lines on the terminal.
SECONDS_BETWEEN = 300.0

# A run, the folder that it works in, and its recordings: their options by name.
Work = tuple[Run, Path, Mapping[str, Mapping[str, Any]]]


def reporting(publisher: Publisher, terminal: Terminal | None = None) -> Callable[[LiveRun], None]:
    """Return a function that logs and publishes each test of a run.

    Of a long run it writes a line to the terminal too, every few minutes.
    """
    written = time.monotonic()

    def report(live: LiveRun) -> None:
        nonlocal written
        trained = next(row for row in reversed(live.rows) if row["split"] == "train")
        tested, training = live.rows[-1], live.run.training
        at = f" of {training.unit} {tested[training.unit]:,}" if tested["step"] != trained["step"] else ""
        left = publisher.seconds_left(live) or 0.0
        line = (
            f"{live.run}: {training.unit} {trained[training.unit]:,}/{training.length:,}, training loss"
            f" {trained['loss']:.3f}, {tested['split']} {measured(tested)}{at},"
            f" {duration(left)} left"
        )
        print(line, flush=True)
        if live.is_over:
            publisher.publish(live)
        elif terminal and time.monotonic() - written >= SECONDS_BETWEEN:
            terminal.report(line)
            written = time.monotonic()

    return report


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
    recordings: Sequence[Mapping[str, Mapping[str, Any]]] | None = None,
    analyses: Sequence[Collection[str]] | None = None,
    measure: Callable[[str, Run, Path, Images, Path], None] | None = None,
) -> None:
    """Train the runs that are not finished, then copy all runs into their folders at once.

    Finished runs, and the checkpoints of unfinished ones, are kept in `work/seed-N`, where the next attempt
    finds them. A folder that holds another run, or a damaged one, is moved into `replaced/seed-N`; if a run
    that was moved there before is requested again, it is taken from there. While another job trains one of
    the runs, for example a job whose Snakemake was killed, this one waits and takes what that one finished.
    `processes` share each run, each with `threads` threads and `workers` more that decode photographs.
    `recordings` lists those of each run, with their options; a finished run that lacks one is trained again.
    `analyses` lists those of each run, which `measure` writes after its training into its work folder, unless
    processes share the run.
    Raises UserError if the devices are missing, or if a recording does not exist.
    """
    _set_up(threads, deterministic)
    try:
        recorded = [
            {name: observers.check(name, options) for name, options in wanted.items()}
            for wanted in recordings or [{} for _ in runs]
        ]
    except ValueError as error:
        raise UserError(f"recordings: {error}") from None
    data = datasets.read_facts(dataset)["checksum"]
    with ExitStack() as held:
        left: list[Work] = []
        sources: dict[Path, Path] = {}
        folders_of_work = [work / f"seed-{run.seed}" for run in runs]
        for run, work_folder in zip(runs, folders_of_work, strict=True):
            told = f"{run}: another job trains it; this one waits for its end"
            held.callback(os.close, wait_for_lock(work_folder / ".lock", told, terminal))
        for run, work_folder, folder, wanted in zip(runs, folders_of_work, folders, recorded, strict=True):
            kept = sorted((replaced / work_folder.name).glob("*"))
            finished = (
                at for at in (folder, work_folder, *kept) if records.is_finished(at, run, data, wanted)
            )
            if source := next(finished, None):
                discard(work_folder / CHECKPOINT)  # of a job that was killed right after its last step
                print(f"{run}: finished before" + f", and kept in {source}" * (source in kept), flush=True)
            else:
                left.append((run, work_folder, wanted))
            sources[folder] = source or work_folder
        if left:
            datasets.check_loader(dataset, data_dir, print, terminal.say)
        targets = take_devices(device, processes) if left else []
        # One run on small images does not fill a GPU. On a CPU each run ends sooner alone, and is then safe.
        small = not datasets.known(runs[0].dataset).photographs
        together = small and [target.type for target in targets] == ["cuda"]
        images = None
        groups = [[one] for one in left]
        if together:
            images = datasets.read(dataset, targets[0], data_dir=data_dir, workers=workers)
            groups = _groups(left, images, free_memory(targets[0]))
        for some in groups:
            if processes > 1:
                ((run, work_folder, wanted),) = some
                asked = {"devices": list(map(str, targets)), "deterministic": deterministic}
                asked |= {"threads": threads, "workers": workers, "checkpoint_every": checkpoint_every}
                paths = {"work_folder": str(work_folder), "dataset": str(dataset), "data_dir": str(data_dir)}
                paths |= {"import_path": sys.path}
                described = {"run": records.described(run), "recordings": wanted}
                described |= {"other_dataset": run.other_dataset}
                launch(processes, "onlybn.runs.block", asked | paths | described)
            else:
                images = images or datasets.read(dataset, targets[0], data_dir=data_dir, workers=workers)
                _train(some, images, checkpoint_every, terminal=terminal)
            for run, work_folder, _ in some:
                terminal.report(_result(run, work_folder))
        moved = []
        for folder, source in sources.items():
            if source != folder:
                if kept_at := keep_aside(folder, replaced / folder.name):
                    moved.append(kept_at)
                publish(source, folder)
        trained = {run.seed for run, *_ in left} if images else set()
        wanted = analyses or [()] * len(runs)
        for run, folder, work_folder, names in zip(runs, folders, folders_of_work, wanted, strict=True):
            for analysis in names if run.seed in trained else ():
                with suppress(UserError):  # the run is done; the analysis' own job tells what is wrong
                    measure(analysis, run, folder, images, work_folder / f"{analysis}.parquet")
        for source in sources.values():
            if replaced in source.parents:  # only now: Snakemake removes the files of a job that fails
                shutil.rmtree(source)
    if moved:
        size = sum(map(size_of, moved)) / 1e6
        told = ", ".join(map(str, moved))
        terminal.say(f"{runs[0].study}: what new runs replace is kept ({size:,.1f} MB): {told}")


def _set_up(threads: int, deterministic: bool) -> None:
    """Set how this process computes, before it computes anything."""
    commit()  # of the code that was imported; the files may change while it trains
    torch.set_num_threads(threads)
    keep_freed_memory()
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # what cuBLAS needs to be deterministic
    if deterministic:  # calling this with False would import torch's compiler too, which takes a second
        torch.use_deterministic_algorithms(True)
        torch.utils.deterministic.fill_uninitialized_memory = False
    torch.backends.cudnn.benchmark = not deterministic


def _groups(left: Sequence[Work], images: Images, free: int) -> list[Sequence[Work]]:
    """Return the runs in groups of nearly equal size, each of which fits into the GPU's free memory."""
    run, count = left[0][0], len(left)
    precision = choose_precision(run.training.precision, images.device)
    fitting = that_fit(run, images, precision, count, free)
    groups = math.ceil(count / fitting)
    if groups > 1:
        print(
            f"{run.study}: {free / 2**30:.1f} GiB of the GPU are free, which {count} seeds of"
            f" {run.architecture} {run.regime} side by side would not fit: {groups} groups of them, one"
            " after the other",
            flush=True,
        )
    return [left[count * i // groups : count * (i + 1) // groups] for i in range(groups)]


def _train(
    some: Sequence[Work],
    images: Images,
    checkpoint_every: int,
    group: Group = ALONE,
    terminal: Terminal | None = None,
) -> None:
    """Train replicates side by side, or resume them, each into its work folder."""
    runs = [run for run, *_ in some]
    if custom.is_custom(runs[0].dataset):  # for others this was checked when the study was read
        runs[0].training.check_examples(images.examples, images.classes)
        runs[0].training.check_last_batch(images.examples, group.size)
        _check_normalisation(runs[0], images, group.size)
    precision = choose_precision(runs[0].training.precision, images.device)
    computed = {
        "device": images.device.type,
        "deterministic": images.device.type == "cpu" or torch.are_deterministic_algorithms_enabled(),
        "processes": group.size,
        "threads": torch.get_num_threads(),
        "precision": name_of_precision(precision),
    }
    if images.device.type == "cuda":
        computed["batchnorm"] = "triton" if gpu_kernels(images.device) else "torch"
    # Processes of a group cannot all stop at the same step: they resume from an earlier checkpoint.
    with stoppable() if group.size == 1 else nullcontext() as stop:
        checkpoints = Checkpoints(
            {run.seed: work_folder / CHECKPOINT for run, work_folder, _ in some},
            computed,
            every=checkpoint_every,
            share=SHARE,
            stop=stop,
            by_thread=images.device.type == "cuda",
        )
        publisher = Publisher({run.seed: work_folder for run, work_folder, _ in some})
        with _out_of_memory(runs):
            outcomes = train_replicates(
                runs,
                images,
                precision=precision,
                recordings={run.seed: recordings for run, _, recordings in some},
                report=reporting(publisher, terminal) if group.leads else lambda live: None,
                step_ended=publisher.step_ended if group.leads else lambda live: None,
                group=group,
                checkpoints=checkpoints,
            )
        settings = {
            "device_name": name_of(images.device),
            "seeds_together": [run.seed for run in runs],
            "precision_asked": runs[0].training.precision,
        }
        if group.leads:
            for (run, work_folder, _), outcome in zip(some, outcomes, strict=True):
                saving.save(work_folder, run, outcome, images, computed | settings)
                checkpoints.discard(run.seed)


def _check_normalisation(run: Run, images: Images, processes: int) -> None:
    """Raise UserError if a built-in network cannot normalise the images of a custom dataset."""
    if not custom.is_custom(run.architecture):
        batch = run.training.smallest_batch(images.examples) // processes
        shape = datasets.shape(images)
        check_normalisation(run.value(NORMALISATION), run.architecture, **shape, batches=[batch])


@contextmanager
def _out_of_memory(runs: Sequence[Run]) -> Iterator[None]:
    """Turn torch's errors about a GPU's memory into UserError, which says what to set."""
    try:
        yield
    except RuntimeError as error:
        cause: BaseException | None = error
        while cause and not isinstance(cause, torch.OutOfMemoryError):
            cause = cause.__context__  # recording a graph that fails raises another error
        if not cause:
            raise
        count, first = len(runs), runs[0]
        alone = "processes_per_run: set more, where there are more GPUs, or a smaller batch_size"
        fewer = f"seeds_per_job: set {count - 1} or fewer" if count > 1 else alone
        raise UserError(
            f"{fewer}: the GPU's memory does not hold {count} seed{'s' * (count > 1)} of {first.architecture}"
            f" {first.regime} in batches of {first.training.batch_size}"
        ) from error


def _train_together() -> None:
    """Train one run as one of several processes, with the arguments that `train_block` gave to `launch`."""
    asked = json.loads(sys.argv[1])
    die_with_parent()
    _set_up(asked["threads"], asked["deterministic"])
    sys.path[:] = asked["import_path"]  # where the user's own modules are
    group, device = join(asked["devices"])
    run = replace(records.run_of(asked["run"]), other_dataset=asked["other_dataset"])
    work_folder = Path(asked["work_folder"])
    if group.leads:  # these processes may outlive the job that started them, and its lock
        refusal = f"processes of a job that was killed still train {run}; stop them"
        lock(work_folder / ".lock-of-group", refusal, patience=PATIENCE)
    images = datasets.read(
        Path(asked["dataset"]), device, data_dir=Path(asked["data_dir"]), workers=asked["workers"]
    )
    _train([(run, work_folder, asked["recordings"])], images, asked["checkpoint_every"], group)
    torch.distributed.destroy_process_group()
    # All is written. Gloo's threads sometimes abort a process that exits normally.
    sys.stdout.flush()
    os._exit(0)


def _result(run: Run, work_folder: Path) -> str:
    record = records.read_record(work_folder)
    seconds = record["wall_clock"]["seconds"]
    if record["status"] == "diverged":
        return f"{run}: diverged in epoch {record['diverged_epoch']}, {duration(seconds)}"
    row = pq.read_table(work_folder / "metrics.parquet").to_pylist()[-1]
    unit = run.training.unit
    length = counted(row[unit], unit)
    if run.training.select == "best":
        length += f" of {run.training.length:,}"
    return f"{run}: test {measured(row)} after {length}, {duration(seconds)}"


if __name__ == "__main__":
    from torch.distributed.elastic.multiprocessing.errors import record

    try:
        record(_train_together)()
    except (UserError, KeyboardInterrupt):  # which the process that started this one reports
        sys.exit(1)
