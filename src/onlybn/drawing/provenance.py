"""Where each run comes from: a row per run, from its `run.json`, with its final test accuracy."""

import pandas as pd

from onlybn.drawing.summaries import NEUTRAL, differs, finals, run

WORDS = (
    *("network", "regime", "variant", "axes", "status", "device", "precision"),
    *("specification", "data", "frozen weights", "commit", "versions"),
)
KEPT = [
    "architecture",
    "regime",
    "variant",
    "seed",
    "status",
    "diverged_epoch",
    "epochs",
    "top_1",
    "trainable_parameters",
    "device_name",
    "precision",
    "precision_asked",
    "deterministic",
    "processes",
    "threads",
    "seeds_together",
    "seconds",
    "training_images_per_second",
    "resumed",
    "digest",
    "dataset",
    "dataset_checksum",
    "frozen_digest",
    "commit",
    "versions",
    "machine",
    "training",
]


def numbers(runs: pd.DataFrame, metrics: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run; `top_1` is its final test accuracy in percent, missing if it diverged."""
    final = finals(metrics).query("status == 'finished'")
    names = run(runs)
    whole = runs.merge(final[[*names, "top_1"]], on=names, how="left")
    some = [name for name in NEUTRAL if name in whole]
    return whole[[*KEPT[:3], *some, *KEPT[3:]]]


def shown(numbers: pd.DataFrame) -> pd.DataFrame:
    """Return a row per run, with short digests; the CSV and Parquet have the full ones."""
    axes = differs(numbers)
    return pd.DataFrame(
        {
            "network": numbers["architecture"],
            "regime": numbers["regime"],
            "seed": numbers["seed"],
            "status": numbers["status"],
            "epochs": numbers["epochs"],
            **({"steps": numbers["steps"]} if "steps" in numbers else {}),
            "top-1 (%)": numbers["top_1"],
            "seconds": numbers["seconds"],
            "resumed": numbers["resumed"],
            "variant": numbers["variant"],
            **({"axes": axes} if axes.any() else {}),
            "device": numbers["device_name"],
            "precision": numbers["precision"],
            "specification": numbers["digest"],
            "data": numbers["dataset_checksum"].str[:12],
            "frozen weights": numbers["frozen_digest"].str[:12],
            "commit": numbers["commit"].map(_abbreviated, na_action="ignore"),
            "versions": numbers["versions"],
        }
    )


def caption(numbers: pd.DataFrame) -> str:
    """Say how many runs finished, diverged or were resumed, and what the digests mean."""
    finished, resumed = (numbers["status"] == "finished").sum(), (numbers["resumed"] > 0).sum()
    seconds = numbers["seconds"].sum()
    took = f"{seconds / 3600:.1f} hours" if seconds >= 3600 else f"{seconds / 60:.1f} minutes"
    devices = ", ".join(numbers["device_name"].dropna().unique())
    return (
        f"{len(numbers)} runs: {finished} finished, {len(numbers) - finished} diverged, {resumed} resumed"
        f" from a checkpoint; {took} of training in total" + (f" on {devices}" if devices else "") + "."
        " Specification is the digest of all settings of a run except its seed: runs with the same"
        " specification are replicates. Data and frozen weights are checksums. + after a commit: files were"
        " changed."
    )


def _abbreviated(commit: str) -> str:
    return commit[:10] + "+" * commit.endswith("+")
