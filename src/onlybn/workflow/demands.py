"""The memory and time that a job requests from a cluster, from its network and a device's measured times.

Both grow with the attempt, since Snakemake retries a job that ran out of either. Heavy modules are imported
only inside functions, which only the Snakemake that submits jobs calls.
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

# Memory of a job's two Snakemakes, which Slurm also counts, and of a process that decodes photographs.
SNAKEMAKES_MB, WORKER_MB = 500, 500
# Host memory of CUDA's libraries: a generous guess, not measured.
CUDA_MB = 4_000
# Memory of a process if nothing is known, since custom images are not prepared yet.
UNKNOWN_MB = 6_000
# Factors on the estimates; and additional minutes, since a node may have to load torch first.
MEMORY_MARGIN, TIME_MARGIN, STARTING_MINUTES = 1.3, 2.0, 10
# The largest factor on memory, so that a job that fails for another reason does not request ever more.
MOST_GROWTH = 3


def training_memory(study: Study, run: Run, runs: int, attempt: int) -> int:
    """Return the megabytes of memory for a job that trains a block of `runs` runs, this one among them."""
    return _memory(study, run, run.training.batch_size, runs, attempt)


def analysis_memory(study: Study, run: Run, attempt: int) -> int:
    """Return the megabytes of memory for a job that analyses a run."""
    return _memory(study, replace(run, regime="output"), 1, 1, attempt)


def training_minutes(study: Study, run: Run, runs: int, analyses: Iterable[str], attempt: int) -> int:
    """Return the minutes for a job that trains and analyses so many runs; `longest_job` if unknown."""

    def seconds(times: "Times") -> float:
        from onlybn.workflow.plan import PASSES, passes, testing_seconds, training_seconds

        tested = passes(study, run) + sum(PASSES.get(analysis, 1) for analysis in analyses)
        trained = training_seconds(study, times, run)
        return runs * (trained + testing_seconds(study, times, run, tested))

    return _minutes(study, run, seconds, attempt)


def analysis_minutes(study: Study, run: Run, analysis: str, attempt: int) -> int:
    """Return the minutes for a job that analyses a run; `longest_job` if they cannot be estimated."""

    def seconds(times: "Times") -> float:
        from onlybn.workflow.plan import PASSES, testing_seconds

        return testing_seconds(study, times, run, PASSES.get(analysis, 1))

    return _minutes(study, run, seconds, attempt)


def _memory(study: Study, run: Run, batch: int, runs: int, attempt: int) -> int:
    from onlybn.training.side_by_side import more_tensors
    from onlybn.workflow.costs import memory, memory_of_checkpoint, memory_of_weights
    from onlybn.workflow.plan import images

    try:
        dataset = images(study, run.dataset)
        trained = {"values": run.structure, "more": more_tensors(run)}
        if study.device == "cpu":
            process = memory(dataset, run.architecture, run.regime, batch, **trained)
        else:
            # Activations are on the GPU; the host has each run's weights while it draws them, and later a
            # checkpoint.
            held = memory_of_checkpoint(dataset, run.architecture, run.regime, **trained)
            process = CUDA_MB + runs * max(memory_of_weights(dataset, run.architecture), held)
        process += study.workers * WORKER_MB * dataset.photographs
        if not dataset.photographs:
            process += sum(dataset.examples) * dataset.size**2 * dataset.channels // 2**20
    except UserError:  # custom images are not prepared yet, or custom code fails, which the job will report
        process = UNKNOWN_MB
    whole = SNAKEMAKES_MB + MEMORY_MARGIN * study.processes_per_run * process
    return math.ceil(whole / 100) * 100 * min(attempt, MOST_GROWTH)


def _minutes(study: Study, run: Run, seconds: Callable[["Times"], float], attempt: int) -> int:
    times = _times(study, run)
    if times is None:
        return study.longest_job
    try:
        minutes = math.ceil(TIME_MARGIN * seconds(times) / 60) + STARTING_MINUTES
    except UserError:  # custom code fails, which the job will report
        return study.longest_job
    return min(minutes * attempt, study.longest_job)


def _times(study: Study, run: Run) -> "Times | None":
    """Return the times of the device that the study is planned on; None if they do not apply.

    Processes that share a run were not measured, nor was the decoding of photographs.
    """
    photographs = known(run.dataset).photographs
    if study.planned_on is None or study.processes_per_run > 1 or photographs:
        return None
    return _times_of(study.planned_on, run.training.precision, study.seeds_per_job)


@cache
def _times_of(device: str, precision: str, together: int) -> "Times":
    from onlybn.workflow.costs import Times, measured, measured_precision

    table = measured()
    return Times(table, device, measured_precision(table, device, precision), together)
