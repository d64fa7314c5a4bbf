"""The expected cost of a study on a device: runs, steps, hours, storage."""

from pathlib import Path

import pandas as pd

from onlybn import custom
from onlybn.analyses.clamping import THRESHOLDS
from onlybn.datasets import Dataset, prepared
from onlybn.jobs import counted, duration
from onlybn.networks.work import Work, work
from onlybn.observers.probes import IMAGES
from onlybn.study import Run, Study
from onlybn.workflow.costs import Times

# Overhead of a job in seconds (benchmarks/startup.py), and bytes of a run's tables (benchmarks/storage.py):
# per run, per epoch, and per BatchNorm channel.
JOB_SECONDS = 2.3
# A job that finds its analysis measured right after training, measured too: it imports no torch.
VERIFY_SECONDS = 0.6
RUN_BYTES, EPOCH_BYTES, CHANNEL_BYTES = 12_000, 60, 35
# The number of tests of an analysis: clamping tests each threshold, with β and without, and once unclamped.
# Statistics tests 9 times on clean images and 5 times on each of 6 shifts, and estimates 7 times.
PASSES = {"clamping": 2 * len(THRESHOLDS) + 1, "activations": 1, "removal": 1, "statistics": 46}
# The tests of a look of those recordings that also pass over training images.
TESTS_OF_A_LOOK = {"reestimated": 2, "generalisation": 1}
# How long a look of another recording takes, in training steps (benchmarks/recordings.py): of gradient-shift
# for each layer, of landscape for each direction and step size.
LOOKS = {"weights": 0.1, "curve": 0.02, "inputs": 1, "gradient-shift": 0.5, "landscape": 0.9, "identity": 1.6}


def images(study: Study, name: str) -> Dataset:
    """Return the facts of a study's images; raise UserError if they must be prepared first."""
    return prepared(name, Path(study.results_dir) / "datasets" / custom.to_path(name))


def steps(study: Study, run: Run) -> int:
    """Return the number of steps of a run."""
    return run.training.steps_of(images(study, run.dataset).examples[0])


def tests(study: Study, run: Run) -> int:
    """Return the number of tests of a run in training."""
    return run.training.tests(images(study, run.dataset).examples[0])


def passes(study: Study, run: Run) -> float:
    """Return how long the tests of a run in training take, in passes over the test images.

    Some recordings also pass over training images.
    """
    training, (train, test) = run.training, images(study, run.dataset).examples
    validated = tests(study, run) * training.held_out(train) / test
    recorded, passed = study.recordings(run), min(IMAGES, training.trained_on(train)) / test
    looks = sum(
        len(recorded[name]["epochs"] or (1, 2, 3)) * (tested + passed)
        for name, tested in TESTS_OF_A_LOOK.items()
        if name in recorded
    )
    return validated + looks + (1 if training.select == "best" else tests(study, run))


def step_seconds(study: Study, times: Times, run: Run) -> float:
    """Return the seconds for a step of a run."""
    dataset, batch = images(study, run.dataset), run.training.batch_size
    return times.step(dataset, run.architecture, run.regime, batch, run.structure) / 1e3


def recording_steps(study: Study, run: Run) -> float:
    """Return how long the looks of a run's recordings take, in steps."""
    found = 0.0
    for name, options in study.recordings(run).items():
        if name not in LOOKS:
            continue
        looks = steps(study, run) / options["every"] if options["every"] else tests(study, run)
        parts = 1
        if name == "gradient-shift":
            parts = len(options["layers"] or ()) or _work(study, run).trained_weights
        elif name == "landscape":
            parts = (1 + options["random"]) * len(options["factors"])
        found += looks * parts * LOOKS[name]
    return found


def training_seconds(study: Study, times: Times, run: Run) -> float:
    """Return the seconds for a run's steps and its recordings."""
    return (steps(study, run) + recording_steps(study, run)) * step_seconds(study, times, run)


def _work(study: Study, run: Run) -> Work:
    return work(images(study, run.dataset), run.architecture, run.regime, run.structure)


def testing_seconds(study: Study, times: Times, run: Run, passes: float) -> float:
    """Return the seconds for `passes` passes over the test images."""
    dataset = images(study, run.dataset)
    return passes * dataset.examples[1] * times.test(dataset, run.architecture, run.structure) / 1e3


def guessed(study: Study, times: Times) -> list[str]:
    """Return the architectures of a study for whose width the device's times are a guess."""
    networks = {run.architecture: run.dataset for run in study.each_run()}
    return [name for name, dataset in networks.items() if times.is_guess(images(study, dataset), name)]


def plan(study: Study, times: Times, *, main: bool = False) -> pd.DataFrame:
    """Return the cost of a study's runs, each counted once, and analyses: a row per point without variant.

    With `main`, only what the target `main` needs. The table is empty if nothing is drawn.

    Columns: architecture, regime, axes (the values that are not neutral, as words), runs, steps (of all
    runs), step_ms, training_hours, testing_hours (in training and in analyses), starting_hours (of jobs),
    megabytes.
    """
    kinds: dict[tuple[str, str, str], set[str]] = {}
    runs: dict[tuple[str, str, str], dict[int, Run]] = {}
    for name in study.experiments:
        drawn = study.kinds_shown(name, main=main)
        for run in study.runs(name) if drawn else ():
            kinds.setdefault(run.point, set()).update(drawn)
            runs.setdefault(run.point, {})[run.seed] = run
    rows, all_blocks = [], study.seed_blocks()
    for point, drawn in kinds.items():
        run, count = next(iter(runs[point].values())), len(runs[point])
        blocks = sum(not runs[point].keys().isdisjoint(seeds) for seeds in all_blocks)
        done = _work(study, run)
        trained = training_seconds(study, times, run)
        analyses = [PASSES[kind] for kind in drawn if kind in PASSES]
        tested = testing_seconds(study, times, run, passes(study, run) + sum(analyses))
        channels = done.channels
        bytes_per_run = 4 * (done.trained + 2 * channels) + CHANNEL_BYTES * channels
        bytes_per_run += RUN_BYTES + EPOCH_BYTES * tests(study, run)
        rows.append(
            {
                "architecture": run.architecture,
                "regime": run.regime,
                "axes": " ".join(run.labels),
                "runs": count,
                "steps": count * steps(study, run),
                "step_ms": 1e3 * step_seconds(study, times, run),
                "training_hours": count * trained / 3_600,
                "testing_hours": count * tested / 3_600,
                "starting_hours": (JOB_SECONDS * blocks + VERIFY_SECONDS * count * len(analyses)) / 3_600,
                "megabytes": count * bytes_per_run / 1e6,
            }
        )
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    summed = {name: "sum" for name in table.columns[3:] if name != "step_ms"}
    return table.groupby(["architecture", "regime", "axes"], sort=False, as_index=False).agg(
        summed | {"step_ms": "first"}
    )[list(table.columns)]


HOURS = ["training_hours", "testing_hours", "starting_hours"]


def markdown(table: pd.DataFrame, at_once: int) -> str:
    """Return a table by architecture, and a sentence with the total."""
    if table.empty:
        return "This study draws nothing, so it trains nothing."
    table = table.assign(hours=table[HOURS].sum(axis=1))
    table["architecture"] = (table["architecture"] + " " + table["axes"]).str.strip()
    shown = table.groupby("architecture", sort=False).agg(
        runs=("runs", "sum"),
        steps=("steps", "sum"),
        fastest=("step_ms", "min"),
        slowest=("step_ms", "max"),
        hours=("hours", "sum"),
        megabytes=("megabytes", "sum"),
    )
    headers = ["architecture", "runs", "steps", "ms a step, from", "to", "hours", "MB"]
    return (
        shown.to_markdown(headers=headers, floatfmt=("", ",.0f", ",.0f", ",.1f", ",.1f", ",.2f", ",.1f"))
        + f"\n\n{sentence(table, at_once)}"
    )


def sentence(table: pd.DataFrame, at_once: int) -> str:
    """Return a sentence with the total of a plan's rows."""
    seconds = 3_600 * table[HOURS].sum(axis=None)
    side_by_side = f", {duration(seconds / at_once)} with {at_once} at once" if at_once > 1 else ""
    return (
        f"{counted(table['runs'].sum(), 'run')}, {table['steps'].sum():,} steps: {duration(seconds)} of one"
        f" at a time{side_by_side}; {table['megabytes'].sum() / 1e3:,.2f} GB"
    )
