"""The columns of a run's tables, and of its record; in collected tables the run's own columns come first."""

from collections.abc import Iterable

import pyarrow as pa

from onlybn import observers

SCHEMAS = {
    "runs": pa.schema(
        [
            ("digest", pa.string()),
            ("diverged_epoch", pa.int64()),
            ("dataset_checksum", pa.string()),
            ("frozen_digest", pa.string()),
            ("device", pa.string()),
            ("device_name", pa.string()),
            ("machine", pa.string()),
            ("precision_asked", pa.string()),
            ("precision", pa.string()),
            ("deterministic", pa.bool_()),
            ("processes", pa.int64()),
            ("threads", pa.int64()),
            ("seeds_together", pa.string()),
            ("resumed", pa.int64()),
            ("commit", pa.string()),
            ("versions", pa.string()),
            ("seconds", pa.float64()),
            ("training_images_per_second", pa.float64()),
        ]
    ),
    "metrics": pa.schema(
        [
            ("epoch", pa.int32()),
            ("split", pa.dictionary(pa.int32(), pa.string())),
            ("loss", pa.float64()),
            ("top_1", pa.float64()),
            ("top_5", pa.float64()),
            ("learning_rate", pa.float64()),
        ]
    ),
    "affine": pa.schema(
        [
            ("layer", pa.int32()),
            ("name", pa.dictionary(pa.int32(), pa.string())),
            ("stage", pa.int32()),
            ("block", pa.int32()),
            ("position", pa.dictionary(pa.int32(), pa.string())),
            ("channel", pa.int32()),
            ("gamma", pa.float32()),
            ("beta", pa.float32()),
            ("running_mean", pa.float32()),
            ("running_variance", pa.float32()),
            ("gamma_initial", pa.float32()),
            ("beta_initial", pa.float32()),
        ]
    ),
    "clamping": pa.schema(
        [
            ("threshold", pa.float64()),
            ("beta_too", pa.bool_()),
            ("clamped", pa.int64()),
            ("channels", pa.int64()),
            ("clamped_percent", pa.float64()),
            ("loss", pa.float64()),
            ("top_1", pa.float64()),
            ("top_5", pa.float64()),
            ("loss_unclamped", pa.float64()),
            ("top_1_unclamped", pa.float64()),
            ("top_5_unclamped", pa.float64()),
        ]
    ),
    "activations": pa.schema(
        [
            ("relu", pa.int32()),
            ("stage", pa.int32()),
            ("block", pa.int32()),
            ("position", pa.dictionary(pa.int32(), pa.string())),
            ("channel", pa.int32()),
            ("zeros", pa.int64()),
            ("activations", pa.int64()),
            ("off", pa.float64()),
        ]
    ),
    "removal": pa.schema(
        [
            ("left_over", pa.int64()),
            ("loss", pa.float64()),
            ("top_1", pa.float64()),
            ("top_5", pa.float64()),
        ]
    ),
    "statistics": pa.schema(
        [
            ("shift", pa.dictionary(pa.int32(), pa.string())),
            ("statistics", pa.dictionary(pa.int32(), pa.string())),
            ("layer", pa.int32()),
            ("name", pa.dictionary(pa.int32(), pa.string())),
            ("loss", pa.float64()),
            ("top_1", pa.float64()),
            ("top_5", pa.float64()),
            ("not_finite", pa.int64()),
            ("predicted", pa.int64()),
            ("apart", pa.float64()),
            ("largest", pa.float64()),
        ]
    ),
}

SCHEMAS |= {name: observers.module(name).SCHEMA for name in observers.OBSERVERS}

# An additional column of metrics, after the epoch, for runs whose length is in steps.
STEP = pa.field("step", pa.int64())


def columns(kind: str, *, in_steps: bool) -> pa.Schema:
    """Return the columns of a table, for runs whose length is in steps or in epochs."""
    return SCHEMAS[kind].insert(1, STEP) if kind == "metrics" and in_steps else SCHEMAS[kind]


# The columns that figures and tables read, besides the run's, from tables with a row per channel (ten million
# rows in a large study). From other tables they read all columns.
DRAWN = {
    "affine": ("layer", "position", "gamma", "beta"),
    "activations": ("relu", "position", "off"),
}


def missing(kind: str, columns: Iterable[str]) -> list[str]:
    """Return the required columns of this kind of table that are missing in `columns`."""
    return [name for name in SCHEMAS[kind].names if name not in columns]
