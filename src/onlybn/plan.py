"""What a study will cost on a device, before anything is trained: runs, steps, hours, storage."""

import pandas as pd

from onlybn import figures, tables
from onlybn.analyses.clamping import THRESHOLDS
from onlybn.costs import Times, work
from onlybn.datasets import DATASETS
from onlybn.jobs import duration
from onlybn.study import Study

# Seconds that a job takes before and after its work, and bytes of a run's tables (benchmarks/startup.py
# and storage.py): whatever it trains, for every epoch, for every BatchNorm channel.
JOB_SECONDS = 3.0
RUN_BYTES, EPOCH_BYTES, CHANNEL_BYTES = 12_000, 60, 35


def plan(study: Study, times: Times, *, main: bool = False) -> pd.DataFrame:
    """Return a row per architecture and regime of a study: what its runs, each once, and analyses cost.

    With `main`, only what Figures 1 to 7, Table 1 and the accuracies need.

    Columns: runs, steps (of all of them), step_ms, training_hours, testing_hours (at the ends of epochs, and
    in analyses), starting_hours of jobs, megabytes.
    """
    training, dataset = study.definition.training, study.definition.dataset
    examples, tests = DATASETS[dataset].examples
    steps = training.epochs * -(-examples // training.batch_size)
    kinds: dict[tuple[str, str, str], set[str]] = {}
    drawing = {f: shown for f, shown in study.definition.figures.items() if f in figures.MAIN or not main}
    listing = [shown for t, shown in study.definition.tables.items() if t in tables.MAIN or not main]
    for name, grid in study.experiments.items():
        if not any(name in shown for shown in (*drawing.values(), *listing)):
            continue
        drawn = {figures.FIGURES[f][1] for f, shown in drawing.items() if name in shown}
        for architecture in grid.architectures:
            for regime in grid.regimes:
                for variant in grid.variants:
                    kinds.setdefault((architecture, regime, variant), set()).update(drawn)
    rows = []
    for (architecture, regime, _), drawn in kinds.items():
        runs, blocks = len(study.definition.seeds), len(study.seed_blocks())
        done = work(dataset, architecture, regime)
        step = times.step(dataset, architecture, regime, training.batch_size)
        # Clamping tests for each threshold, with β and without, and once unclamped; activations test once.
        passes = {"clamping": 2 * len(THRESHOLDS) + 1, "activations": 1}
        analyses = [passes[kind] for kind in drawn if kind in passes]
        tested = training.epochs + sum(analyses)
        channels = done.channels
        bytes_per_run = 4 * (done.trained + 2 * channels) + CHANNEL_BYTES * channels
        bytes_per_run += RUN_BYTES + EPOCH_BYTES * training.epochs
        rows.append(
            {
                "architecture": architecture,
                "regime": regime,
                "runs": runs,
                "steps": runs * steps,
                "step_ms": step,
                "training_hours": runs * steps * step / 3.6e6,
                "testing_hours": runs * tested * tests * times.test(dataset, architecture) / 3.6e6,
                "starting_hours": JOB_SECONDS * (blocks + runs * len(analyses)) / 3_600,
                "megabytes": runs * bytes_per_run / 1e6,
            }
        )
    table = pd.DataFrame(rows)
    summed = {name: "sum" for name in table.columns[2:] if name != "step_ms"}
    return table.groupby(["architecture", "regime"], sort=False, as_index=False).agg(
        summed | {"step_ms": "first"}
    )[list(table.columns)]


def markdown(table: pd.DataFrame, at_once: int) -> str:
    """Return a table by architecture, and a sentence with the whole."""
    hours = ["training_hours", "testing_hours", "starting_hours"]
    table = table.assign(hours=table[hours].sum(axis=1))
    shown = table.groupby("architecture", sort=False).agg(
        runs=("runs", "sum"),
        steps=("steps", "sum"),
        fastest=("step_ms", "min"),
        slowest=("step_ms", "max"),
        hours=("hours", "sum"),
        megabytes=("megabytes", "sum"),
    )
    headers = ["architecture", "runs", "steps", "ms a step, from", "to", "hours", "MB"]
    whole = 3_600 * shown["hours"].sum()
    counted = f"{shown['runs'].sum():,} runs, {shown['steps'].sum():,} steps"
    return (
        shown.to_markdown(headers=headers, floatfmt=("", ",.0f", ",.0f", ",.1f", ",.1f", ",.2f", ",.1f"))
        + f"\n\n{counted}: {duration(whole)} of one at a time"
        + (f", {duration(whole / at_once)} with {at_once} at once" if at_once > 1 else "")
        + f"; {shown['megabytes'].sum() / 1e3:,.2f} GB"
    )
