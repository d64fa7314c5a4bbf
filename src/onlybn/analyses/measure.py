"""Analyses of finished runs: right after training, or in a job of their own."""

from importlib import import_module
from pathlib import Path

import torch

from onlybn import datasets
from onlybn.datasets.images import Images
from onlybn.devices import take_devices
from onlybn.jobs import Terminal, keep_freed_memory
from onlybn.runs import saving
from onlybn.runs.records import expect, write_measured
from onlybn.runs.schemas import SCHEMAS
from onlybn.study import Run


def measure(analysis: str, run: Run, folder: Path, images: Images, target: Path) -> None:
    """Write an analysis of the run in `folder` to `target`; the table is empty if the run diverged.

    The network is tested in the precision that it was trained in. The analysis gets the images with those
    that the run trained on. Raises UserError if the folder holds another run, a damaged one, or one that was
    trained on other images.
    """
    record = expect(folder, run, images.checksum)
    table = SCHEMAS[analysis].empty_table()
    if record["status"] == "finished":
        table = getattr(import_module(f"onlybn.analyses.{analysis}"), analysis)(
            saving.load(folder, trust=True).to(images.device, memory_format=torch.channels_last),
            run.parts_of(images)[0],
            precision=getattr(torch, record["computed"]["precision"]),
        )
    write_measured(target, table, record)


def measure_alone(
    analysis: str,
    run: Run,
    folder: Path,
    target: Path,
    *,
    dataset: Path,
    data_dir: Path,
    device: str,
    threads: int,
    workers: int,
    terminal: Terminal,
) -> None:
    """Do the same as the only work of a process; raises UserError, too, if another loader made `dataset`."""
    torch.set_num_threads(threads)
    keep_freed_memory()
    (place,) = take_devices(device)
    datasets.check_loader(dataset, data_dir, print, terminal.say)
    images = datasets.read(dataset, place, data_dir=data_dir, workers=workers)
    measure(analysis, run, folder, images, target)
