"""The collect stage: stack the tables of an experiment's runs and add each run's columns; no arithmetic."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from onlybn import custom
from onlybn.analyses import ANALYSES
from onlybn.axes import OPTIONAL
from onlybn.errors import UserError
from onlybn.models import architecture
from onlybn.runs.records import COUNTS, WRITTEN, check_files, check_measured, collected_from, expect, telling
from onlybn.runs.schemas import SCHEMAS, STEP, columns, missing
from onlybn.study import Run


def collect(
    experiment: str, table: str, runs: Mapping[Path, Run], data: str | None = None
) -> Iterator[pa.Table]:
    """Yield `{table}.parquet` of each run, in order, with the columns of the run in front.

    `runs` maps folders to runs. An optional axis has a column if a run of the experiment is not neutral on
    it. The table `runs` has one row for each run, from its `run.json`; all files of the run are verified
    first.

    A run whose table is empty, since it diverged or has no such layers, has one row of missing values, so
    that it is counted. The metadata of each yielded table lists all runs of the collected table.

    Raises UserError if a folder has another run or a damaged one, if the runs were not trained on the same
    data (with the checksum `data`, if given), or if replicates differ in precision or in the number of
    processes, on which BatchNorm's statistics depend.
    """
    records = {folder: expect(folder, run, data) for folder, run in runs.items()}
    sources = collected_from((run, records[folder]) for folder, run in runs.items())
    trained_on, computed = {}, {}
    in_steps = any(run.training.steps for run in runs.values())
    schema = columns(table, in_steps=in_steps)
    varied = [axis for axis in OPTIONAL if {run.value(axis) for run in runs.values()} != {axis.default}]
    for folder, record in records.items():
        trained_on.setdefault(record["dataset_checksum"], folder)
        if len(trained_on) > 1:
            one, other = trained_on.values()
            raise UserError(
                f"experiment {experiment} mixes runs of different data: the dataset checksums in run.json of"
                f" {one} and {other} differ; delete the runs of the data that you do not want"
            )
        point = runs[folder].point
        placed = record.get("own") or asdict(architecture(record["architecture"]))
        network = {name: placed[name] for name in ("family", "depth", "width")}
        network |= {name: record["counts"][name] for name in COUNTS}
        # A custom network or regime may have been edited between seeds.
        same = {name: record["computed"].get(name) for name in ("precision", "processes")} | network
        for name, value in same.items():
            other, of = computed.setdefault((point, name), (value, folder))
            if other != value:
                raise UserError(
                    f"experiment {experiment} mixes replicates of different {name}: {other} in {of},"
                    f" {value} in {folder}; delete those you do not want"
                )
        described = {
            "study": record["study"],
            "dataset": record["dataset"],
            "experiment": experiment,
            "architecture": record["architecture"],
            **{name: network[name] for name in ("family", "depth", "width")},
            "regime": record["regime"],
            "variant": record["variant"],
            **{axis.name: runs[folder].value(axis) for axis in varied},
            "seed": record["seed"],
            "status": record["status"],
            "epochs": record["training"].get("epochs", 0),
            **({"steps": record["training"].get("steps", 0)} if in_steps else {}),
            "training": json.dumps(record["training"], sort_keys=True),
            **{name: network[name] for name in COUNTS},
        }
        if custom.is_custom(record["dataset"]):  # built-in datasets have a known number
            described["classes"] = record["classes"]
        written = record.get("files", WRITTEN)
        # All files are checked only for the table of runs, so each study reads every file once.
        check_files(folder, record, None if table == "runs" else {f"{table}.parquet"}.intersection(written))
        rows = _recorded(record, folder) if table == "runs" else _measured(table, schema, folder, record)
        named = {name: _constant(value, rows.num_rows) for name, value in described.items()}
        part = pa.table({**named, **{name: rows[name] for name in rows.column_names}})
        yield telling(part, runs=sources)


def _recorded(record: Mapping[str, Any], folder: Path) -> pa.Table:
    """Return one row about a run's origin, from its record."""
    computed = record["computed"]
    try:
        row = {**record, **computed, **record["wall_clock"]} | {
            "seeds_together": json.dumps(computed.get("seeds_together")),
            "resumed": len(computed.get("resumed", [])),
            "versions": ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items()),
        }
        return pa.Table.from_pylist([row], SCHEMAS["runs"])
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise UserError(
            f"{folder / 'run.json'} is damaged ({error}); delete {folder} to train the run again"
        ) from None


def _measured(table: str, schema: pa.Schema, folder: Path, record: Mapping[str, Any]) -> pa.Table:
    path = folder / f"{table}.parquet"
    remedy = f"delete {path} to measure" if table in ANALYSES else f"delete {folder} to train"
    try:
        rows = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is missing or damaged ({error}); {remedy} it again") from None
    if lacking := missing(table, rows.column_names):
        raise UserError(f"{path} lacks the columns {', '.join(lacking)}; {remedy} it again")
    if table in ANALYSES:
        check_measured(path, rows, record)
    if STEP in schema and STEP.name not in rows.column_names:  # this run counts epochs, others count steps
        rows = rows.append_column(STEP, pa.nulls(rows.num_rows, STEP.type))
    rows = rows.select(schema.names)
    if other := [field.name for field in schema if rows.schema.field(field.name).type != field.type]:
        raise UserError(f"{path} has other types in the columns {', '.join(other)}; {remedy} it again")
    if rows.num_rows == 0:
        return pa.table([pa.nulls(1, field.type) for field in rows.schema], rows.schema)
    return rows


def _constant(value: str | int, rows: int) -> pa.Array:
    if isinstance(value, str):
        index = pa.array([0], pa.int32()).take(pa.array([0] * rows, pa.int32()))
        return pa.DictionaryArray.from_arrays(index, [value])
    return pa.array([value] * rows, pa.int64())
