"""What a study will cost on a device, before anything is trained: runs, steps, hours, storage."""

from pathlib import Path

import pandas as pd

from onlybn import custom, papers
from onlybn.analyses.clamping import THRESHOLDS
from onlybn.datasets import Dataset, prepared
from onlybn.jobs import duration
from onlybn.networks.work import work
from onlybn.study import Run, Study
from onlybn.workflow.costs import Times

# Seconds that a job takes before and after its work, and bytes of a run's tables (benchmarks/startup.py
# and storage.py): whatever it trains, for every epoch, for every BatchNorm channel.
JOB_SECONDS = 2.3
RUN_BYTES, EPOCH_BYTES, CHANNEL_BYTES = 12_000, 60, 35
# How often an analysis tests: clamping for each threshold, with β and without, and once unclamped.
PASSES = {"clamping": 2 * len(THRESHOLDS) + 1, "activations": 1}


def images(study: Study, name: str) -> Dataset:
    """Return what is known of a study's images; raise UserError if that takes preparing them first."""
    return prepared(name, Path(study.results_dir) / "datasets" / custom.to_path(name))


def steps(study: Study, run: Run) -> int:
    """Return the number of steps of a run."""
    return run.training.steps_of(images(study, run.dataset).examples[0])


def tests(study: Study, run: Run) -> int:
    """Return how often a run is tested while it trains."""
    return run.training.tests(images(study, run.dataset).examples[0])


def training_seconds(study: Study, times: Times, run: Run) -> float:
    """Return the seconds that a run's steps take."""
    dataset, batch = images(study, run.dataset), run.training.batch_size
    return steps(study, run) * times.step(dataset, run.architecture, run.regime, batch, run.structure) / 1e3


def testing_seconds(study: Study, times: Times, run: Run, passes: int) -> float:
    """Return the seconds that so many passes over the test images take."""
    dataset = images(study, run.dataset)
    return passes * dataset.examples[1] * times.test(dataset, run.architecture, run.structure) / 1e3


def guessed(study: Study, times: Times) -> list[str]:
    """Return the architectures of a study of whose width the device's times tell nothing."""
    networks = {run.architecture: run.dataset for run in study.each_run()}
    return [name for name, dataset in networks.items() if times.is_guess(images(study, dataset), name)]


def plan(study: Study, times: Times, *, main: bool = False) -> pd.DataFrame:
    """Return a row per point of a study but for its variant: what runs, each once, and analyses cost.

    With `main`, only what the target `main` needs. Empty where nothing is drawn.

    Columns: architecture, regime, axes (the values that are not neutral, as words), runs, steps (of all of
    them), step_ms, training_hours, testing_hours (while training, and in analyses), starting_hours of jobs,
    megabytes.
    """
    kinds: dict[tuple[str, str, str], set[str]] = {}
    made = papers.paper(study.definition.paper).made
    runs: dict[tuple[str, str, str], dict[int, Run]] = {}
    wanted = {
        name: shown
        for name, shown in (study.definition.figures | study.definition.tables).items()
        if made[name].main or not main
    }
    for name in study.experiments:
        drawn = {kind for one, shown in wanted.items() if name in shown for kind in made[one].reads}
        if not drawn:
            continue
        for run in study.runs(name):
            kinds.setdefault(run.point, set()).update(drawn)
            runs.setdefault(run.point, {})[run.seed] = run
    rows, all_blocks = [], study.seed_blocks()
    for point, drawn in kinds.items():
        run, count = next(iter(runs[point].values())), len(runs[point])
        blocks = sum(not runs[point].keys().isdisjoint(seeds) for seeds in all_blocks)
        done = work(images(study, run.dataset), run.architecture, run.regime, run.structure)
        trained = training_seconds(study, times, run)
        analyses = [PASSES[kind] for kind in drawn if kind in PASSES]
        tested = testing_seconds(study, times, run, tests(study, run) + sum(analyses))
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
                "step_ms": 1e3 * trained / steps(study, run),
                "training_hours": count * trained / 3_600,
                "testing_hours": count * tested / 3_600,
                "starting_hours": JOB_SECONDS * (blocks + count * len(analyses)) / 3_600,
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
    """Return a table by architecture, and a sentence with the whole."""
    if table.empty:
        return "Nothing is drawn of this study, so nothing is trained for it."
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
    """Return what all rows of a plan come to."""
    seconds = 3_600 * table[HOURS].sum(axis=None)
    side_by_side = f", {duration(seconds / at_once)} with {at_once} at once" if at_once > 1 else ""
    return (
        f"{table['runs'].sum():,} runs, {table['steps'].sum():,} steps: {duration(seconds)} of one at a time"
        f"{side_by_side}; {table['megabytes'].sum() / 1e3:,.2f} GB"
    )
