"""The collect stage: the tables of an experiment's runs, stacked, with each run's columns; no arithmetic."""

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from onlybn import own
from onlybn.analyses import ANALYSES
from onlybn.errors import UserError
from onlybn.models import architecture
from onlybn.schemas import SCHEMAS, missing
from onlybn.storage import COUNTS, read_record


def collect(experiment: str, table: str, folders: Iterable[Path]) -> Iterator[pa.Table]:
    """Yield `{table}.parquet` of the runs' folders, in their order, behind the columns of each run.

    Of the table `runs` that is a row of where the run comes from, as its `run.json` tells.

    A run whose table is empty, since it diverged, has one row of missing values, so that it is counted.
    Raises UserError if a run is damaged, if the runs were not trained on the same data, or replicates not by
    as many processes, which BatchNorm's statistics depend on.
    """
    trained_on, trained_by = {}, {}
    for folder in folders:
        record = read_record(folder)
        trained_on.setdefault(record["dataset_checksum"], folder)
        if len(trained_on) > 1:
            one, other = trained_on.values()
            raise UserError(
                f"experiment {experiment} mixes runs of different data: {one} and {other} have other dataset"
                " checksums in run.json; delete the runs of the data you do not want"
            )
        point = tuple(record[name] for name in ("architecture", "regime", "variant"))
        processes = record["computed"]["processes"]
        other, of = trained_by.setdefault(point, (processes, folder))
        if other != processes:
            raise UserError(
                f"experiment {experiment} mixes replicates trained by {other} and by {processes} processes"
                f" ({of} and {folder}), with other BatchNorm statistics; delete those you do not want"
            )
        placed = record.get("own") or asdict(architecture(record["architecture"]))
        columns = {
            "study": record["study"],
            "dataset": record["dataset"],
            "experiment": experiment,
            "architecture": record["architecture"],
            **{name: placed[name] for name in ("family", "depth", "width")},
            "regime": record["regime"],
            "variant": record["variant"],
            "seed": record["seed"],
            "status": record["status"],
            "epochs": record["training"]["epochs"],
            "training": json.dumps(record["training"], sort_keys=True),
            **{name: record["counts"][name] for name in COUNTS},
        }
        if own.is_own(record["dataset"]):  # of others it is known
            columns["classes"] = record["classes"]
        rows = _recorded(record, folder) if table == "runs" else _measured(table, folder)
        named = {name: _constant(value, rows.num_rows) for name, value in columns.items()}
        yield pa.table({**named, **{name: rows[name] for name in rows.column_names}})


def _recorded(record: Mapping[str, Any], folder: Path) -> pa.Table:
    """Return a row of where a run comes from, as its record tells it."""
    computed = record["computed"]
    try:
        told = {**record, **computed, **record["wall_clock"]} | {
            "seeds_together": json.dumps(computed.get("seeds_together")),
            "resumed": len(computed.get("resumed", [])),
            "versions": ", ".join(f"{name} {value}" for name, value in record.get("versions", {}).items()),
        }
        return pa.Table.from_pylist([told], SCHEMAS["runs"])
    except (pa.ArrowException, AttributeError, TypeError) as error:
        raise UserError(
            f"{folder / 'run.json'} is damaged ({error}); delete {folder} to train the run again"
        ) from None


def _measured(table: str, folder: Path) -> pa.Table:
    path = folder / f"{table}.parquet"
    again = f"delete {path} to measure" if table in ANALYSES else f"delete {folder} to train"
    try:
        rows = pq.read_table(path)
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{path} is missing or damaged ({error}); {again} it again") from None
    if lacking := missing(table, rows.column_names):
        raise UserError(f"{path} lacks the columns {', '.join(lacking)}; {again} it again")
    rows = rows.select(SCHEMAS[table].names)
    if other := [field.name for field in SCHEMAS[table] if rows.schema.field(field.name).type != field.type]:
        raise UserError(f"{path} holds other types in the columns {', '.join(other)}; {again} it again")
    if rows.num_rows == 0:
        return pa.table([pa.nulls(1, field.type) for field in rows.schema], rows.schema)
    return rows


def _constant(value: str | int, rows: int) -> pa.Array:
    if isinstance(value, str):
        index = pa.array([0], pa.int32()).take(pa.array([0] * rows, pa.int32()))
        return pa.DictionaryArray.from_arrays(index, [value])
    return pa.array([value] * rows, pa.int64())
