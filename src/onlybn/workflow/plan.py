"""What a study will cost on a device, before anything is trained: runs, steps, hours, storage."""

from pathlib import Path

import pandas as pd

from onlybn import custom
from onlybn.analyses.clamping import THRESHOLDS
from onlybn.datasets import Dataset, prepared
from onlybn.jobs import duration
from onlybn.papers.only_batchnorm import figures, tables
from onlybn.study import Study
from onlybn.workflow.costs import Times, work

# Seconds that a job takes before and after its work, and bytes of a run's tables (benchmarks/startup.py
# and storage.py): whatever it trains, for every epoch, for every BatchNorm channel.
JOB_SECONDS = 3.0
RUN_BYTES, EPOCH_BYTES, CHANNEL_BYTES = 12_000, 60, 35
# How often an analysis tests: clamping for each threshold, with β and without, and once unclamped.
PASSES = {"clamping": 2 * len(THRESHOLDS) + 1, "activations": 1}


def images(study: Study) -> Dataset:
    """Return what is known of a study's images; raise UserError if that takes preparing them first."""
    name = study.definition.dataset
    return prepared(name, Path(study.results_dir) / "datasets" / custom.to_path(name))


def steps(study: Study) -> int:
    """Return the number of steps of a run."""
    return study.definition.training.steps_of(images(study).examples[0])


def tests(study: Study) -> int:
    """Return how often a run is tested while it trains."""
    return study.definition.training.tests(images(study).examples[0])


def training_seconds(study: Study, times: Times, architecture: str, regime: str) -> float:
    """Return the seconds that a run's steps take."""
    batch = study.definition.training.batch_size
    return steps(study) * times.step(images(study), architecture, regime, batch) / 1e3


def testing_seconds(study: Study, times: Times, architecture: str, passes: int) -> float:
    """Return the seconds that so many passes over the test images take."""
    dataset = images(study)
    return passes * dataset.examples[1] * times.test(dataset, architecture) / 1e3


def plan(study: Study, times: Times, *, main: bool = False) -> pd.DataFrame:
    """Return a row per architecture and regime of a study: what its runs, each once, and analyses cost.

    With `main`, only what Figures 1 to 7, Table 1 and the accuracies need. Empty where nothing is drawn.

    Columns: runs, steps (of all of them), step_ms, training_hours, testing_hours (while training, and in
    analyses), starting_hours of jobs, megabytes.
    """
    dataset = images(study)
    kinds: dict[tuple[str, str, str], set[str]] = {}
    # Of the claims, a table of the whole paper, figures make what is not the metrics.
    made_from = figures.FIGURES | tables.TABLES | {"claims": ("claims", "metrics")}
    wanted = {
        name: shown
        for name, shown in (study.definition.figures | study.definition.tables).items()
        if name in (*figures.MAIN, *tables.MAIN) or not main
    }
    for name, grid in study.experiments.items():
        drawn = {kind for made, shown in wanted.items() if name in shown for kind in made_from[made][1:]}
        if not drawn:
            continue
        for architecture in grid.architectures:
            for regime in grid.regimes:
                for variant in grid.variants:
                    kinds.setdefault((architecture, regime, variant), set()).update(drawn)
    rows = []
    for (architecture, regime, _), drawn in kinds.items():
        runs, blocks = len(study.definition.seeds), len(study.seed_blocks())
        done = work(dataset, architecture, regime)
        trained = training_seconds(study, times, architecture, regime)
        analyses = [PASSES[kind] for kind in drawn if kind in PASSES]
        tested = testing_seconds(study, times, architecture, tests(study) + sum(analyses))
        channels = done.channels
        bytes_per_run = 4 * (done.trained + 2 * channels) + CHANNEL_BYTES * channels
        bytes_per_run += RUN_BYTES + EPOCH_BYTES * tests(study)
        rows.append(
            {
                "architecture": architecture,
                "regime": regime,
                "runs": runs,
                "steps": runs * steps(study),
                "step_ms": 1e3 * trained / steps(study),
                "training_hours": runs * trained / 3_600,
                "testing_hours": runs * tested / 3_600,
                "starting_hours": JOB_SECONDS * (blocks + runs * len(analyses)) / 3_600,
                "megabytes": runs * bytes_per_run / 1e6,
            }
        )
    table = pd.DataFrame(rows)
    if table.empty:
        return table
    summed = {name: "sum" for name in table.columns[2:] if name != "step_ms"}
    return table.groupby(["architecture", "regime"], sort=False, as_index=False).agg(
        summed | {"step_ms": "first"}
    )[list(table.columns)]


HOURS = ["training_hours", "testing_hours", "starting_hours"]


def markdown(table: pd.DataFrame, at_once: int) -> str:
    """Return a table by architecture, and a sentence with the whole."""
    if table.empty:
        return "Nothing is drawn of this study, so nothing is trained for it."
    table = table.assign(hours=table[HOURS].sum(axis=1))
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
