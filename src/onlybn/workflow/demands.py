"""What a job asks a cluster for: memory and time, from its network and the measured times of a device.

Both grow with the attempt: Snakemake tries again what ran out of either. Nothing heavy is imported before a
function is called, which only the Snakemake that submits jobs does.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

from onlybn.datasets import known
from onlybn.errors import UserError
from onlybn.study import Run, Study

if TYPE_CHECKING:
    from onlybn.workflow.costs import Times

# A job's two Snakemakes, which Slurm counts too; a process that decodes photographs.
SNAKEMAKES_MB, WORKER_MB = 500, 500
# What CUDA's libraries take of the host, generously: it was not measured.
CUDA_MB = 4_000
# A process of which nothing is known, since the user's own images are not prepared yet.
UNKNOWN_MB = 6_000
# How many times the estimate is asked for; minutes beside it, in which a node may first read torch.
MEMORY_MARGIN, TIME_MARGIN, STARTING_MINUTES = 1.3, 2.0, 10
# No job that fails for another reason asks for more than this many times as much memory.
MOST_GROWTH = 3


def training_memory(study: Study, run: Run, runs: int, attempt: int) -> int:
    """Return the megabytes of memory for a job that trains a block of so many runs, this one and others."""
    return _memory(study, run, run.training.batch_size, runs, attempt)


def analysis_memory(study: Study, run: Run, attempt: int) -> int:
    """Return the megabytes of memory for a job that analyses a run."""
    return _memory(study, replace(run, regime="output"), 1, 1, attempt)


def training_minutes(study: Study, run: Run, runs: int, analyses: Iterable[str], attempt: int) -> int:
    """Return the minutes for a job that trains and analyses so many runs; `longest_job` if unknown."""

    def seconds(times: "Times") -> float:
        from onlybn.workflow.plan import PASSES, testing_seconds, tests, training_seconds

        passes = tests(study, run) + sum(PASSES.get(analysis, 1) for analysis in analyses)
        trained = training_seconds(study, times, run)
        return runs * (trained + testing_seconds(study, times, run, passes))

    return _minutes(study, run, seconds, attempt)


def analysis_minutes(study: Study, run: Run, analysis: str, attempt: int) -> int:
    """Return the minutes for a job that analyses a run; `longest_job` if nothing tells them."""

    def seconds(times: "Times") -> float:
        from onlybn.workflow.plan import PASSES, testing_seconds

        return testing_seconds(study, times, run, PASSES.get(analysis, 1))

    return _minutes(study, run, seconds, attempt)


def _memory(study: Study, run: Run, batch: int, runs: int, attempt: int) -> int:
    from onlybn.workflow.costs import memory, memory_of_checkpoint, memory_of_weights
    from onlybn.workflow.plan import images

    try:
        dataset = images(study, run.dataset)
        if study.device == "cpu":
            process = memory(dataset, run.architecture, run.regime, batch, run.structure)
        else:
            # Activations are on the GPU; of each run the host holds the weights, while it draws them, and
            # later a checkpoint.
            held = memory_of_checkpoint(dataset, run.architecture, run.regime, run.structure)
            process = CUDA_MB + runs * max(memory_of_weights(dataset, run.architecture), held)
        process += study.workers * WORKER_MB * dataset.photographs
        if not dataset.photographs:
            process += sum(dataset.examples) * dataset.size**2 * dataset.channels // 2**20
    except UserError:  # of something of the user's own: images not prepared yet, or what the job will tell
        process = UNKNOWN_MB
    whole = SNAKEMAKES_MB + MEMORY_MARGIN * study.processes_per_run * process
    return math.ceil(whole / 100) * 100 * min(attempt, MOST_GROWTH)


def _minutes(study: Study, run: Run, seconds: Callable[["Times"], float], attempt: int) -> int:
    times = _times(study, run)
    if times is None:
        return study.longest_job
    try:
        asked = math.ceil(TIME_MARGIN * seconds(times) / 60) + STARTING_MINUTES
    except UserError:  # of something of the user's own, which the job will tell
        return study.longest_job
    return min(asked * attempt, study.longest_job)


def _times(study: Study, run: Run) -> "Times | None":
    """Return the times of the device that the study is planned on; None where they would not tell.

    Nothing was measured of processes that share a run, nor of decoding photographs.
    """
    photographs = known(run.dataset).photographs
    if study.planned_on is None or study.processes_per_run > 1 or photographs:
        return None
    return _times_of(study.planned_on, run.training.precision, study.seeds_per_job)


@cache
def _times_of(device: str, asked: str, together: int) -> "Times":
    from onlybn.workflow.costs import Times, measured, measured_precision

    table = measured()
    return Times(table, device, measured_precision(table, device, asked), together)
