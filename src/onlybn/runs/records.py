"""A run's folder proves itself: `run.json`, its digests, and the checks for everything that reads a run.

This module does not import torch, since runs that a study did not request are found when Snakemake starts. A
record of an earlier version has neither `files` nor `seal`; its other content is checked.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from onlybn import custom, observers
from onlybn.axes import ALWAYS, ordered
from onlybn.errors import UserError
from onlybn.files import sha256, write_table
from onlybn.study import SPECIFICATION, Run, Training

if TYPE_CHECKING:
    import pandas as pd

RECORD = "run.json"
WRITTEN = ("metrics.parquet", "affine.parquet", "state.safetensors")
FILES = (*WRITTEN, RECORD)  # in the order of writing: a folder that has a record is complete

# The keys of `run.json` that every reader relies on, with their types.
KINDS = {
    **dict.fromkeys(("study", "dataset", "architecture", "regime", "variant", "digest"), str),
    **dict.fromkeys(("status", "dataset_checksum", "frozen_digest"), str),
    **dict.fromkeys(("training", "counts", "computed", "wall_clock"), dict),
    **dict.fromkeys(("seed", "channels", "classes"), int),
}
# Mappings that a record may lack.
OPTIONAL = ("axes", "files", "recordings", "own")
# The keys of `own` in the record of a run with custom code.
CUSTOM = ("sources", "size", "family", "depth", "width")
COUNTS = (
    "parameters",
    "batchnorm_parameters",
    "output_parameters",
    "shortcut_parameters",
    "trainable_parameters",
)


# reading and writing records


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its `seal`, the SHA-256 of the rest of the record as canonical JSON."""
    content = {name: value for name, value in record.items() if name != "seal"}
    return content | {"seal": _digest_of(content)}


def _digest_of(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """Return a run's `run.json`; raise UserError if it is missing, damaged, altered or incomplete."""
    path = folder / RECORD
    remedy = f"delete {folder} to train the run again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        raise UserError(f"{path} is missing: {folder} holds no finished run") from None
    except PermissionError:
        raise UserError(f"{path} cannot be read; ask its owner for permission") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); {remedy}") from None
    if not isinstance(record, dict) or record.get("specification") != SPECIFICATION:
        raise UserError(f"{path} was not written by this version; {remedy}")
    if ("files" in record or "seal" in record) and record.get("seal") != sealed(record)["seal"]:
        raise UserError(
            f"{path} was altered since it was written: its seal does not match its content; {remedy}"
        )
    lacking = [name for name in KINDS if not isinstance(record.get(name), KINDS[name])]
    lacking += [name for name in OPTIONAL if not isinstance(record.get(name, {}), dict)]
    length = "steps" if "training" not in lacking and "steps" in record["training"] else "epochs"
    for name, inner in {"counts": COUNTS, "computed": ("processes",), "training": (length,)}.items():
        lacking += [
            f"{name}.{n}" for n in inner if name not in lacking and not isinstance(record[name].get(n), int)
        ]
    if "own" not in lacking and not _are_sources(record.get("own", {}).get("sources", [])):
        lacking.append("own.sources")
    if not lacking and any(custom.is_custom(record[name]) for name in ("architecture", "regime", "dataset")):
        lacking += [f"own.{n}" for n in CUSTOM if n not in record.get("own", {})]
    if lacking:
        raise UserError(f"{path} is damaged ({', '.join(lacking)} missing or invalid); {remedy}")
    return record


def _are_sources(value: object) -> bool:
    """Return whether a value is a list of what `custom.source` returns."""
    return isinstance(value, list) and all(
        isinstance(source, dict) and all(isinstance(source.get(key), str) for key in custom.SOURCE)
        for source in value
    )


def described(run: Run) -> dict[str, Any]:
    """Return the part of `run.json` that is known before training: specification, seed and study."""
    return {"study": run.study, "seed": run.seed, "digest": run.digest, **run.specification}


def run_of(record: Mapping[str, Any]) -> Run:
    """Return the run that a record describes."""
    names = ("study", "dataset", *(axis.name for axis in ALWAYS), "seed")
    values = ordered(dict(record.get("axes", {})))
    return Run(
        **{name: record[name] for name in names}, values=values, training=Training(**record["training"])
    )


def identity(record: Mapping[str, Any]) -> str:
    """Return a digest that is equal for equal runs and files; it ignores clock, machine and commit."""
    names = ("digest", "seed", "dataset_checksum", "frozen_digest", "status", "files")
    return _digest_of([record.get(name) for name in names])[:16]


# checking that a folder has the requested run


class Found(NamedTuple):
    """What a run's folder has: the record of the requested run, or the reason why it is not that run's.

    Both are None if there is no record.
    """

    record: dict[str, Any] | None
    fault: str | None


def find(
    folder: Path, run: Run, data: str | None = None, recordings: Mapping[str, Any] | None = None
) -> Found:
    """Return the folder's record if it is of this very run and dataset, or else the reason why it is not.

    `data` is the dataset's checksum, or None if that is not known yet. `recordings` are the required
    recordings, with their options. The files beside the record are not checked.
    """
    if not (folder / RECORD).exists():
        return Found(None, None)
    try:
        record = read_record(folder)
    except UserError as error:
        return Found(None, str(error))
    requested = {"axes": {}} | described(run)
    record = {"axes": {}} | record
    present = {name: record.get(name) for name in requested if name not in ("study", "training", "digest")}
    differ = [
        f"{name} {present[name]}, not {requested[name]}"
        for name in present
        if present[name] != requested[name]
    ]
    trainings = record["training"], requested["training"]
    differ += [
        f"{name} {trainings[0].get(name)}, not {trainings[1].get(name)}"
        for name in dict.fromkeys([*trainings[1], *trainings[0]])
        if trainings[0].get(name) != trainings[1].get(name)
    ]
    if not differ and record["digest"] != run.digest:
        differ = [f"digest {record['digest']}, not {run.digest}"]
    for source in record.get("own", {}).get("sources", []):
        if custom.since(source) == "other":
            differ.append(f"{source['module']} of {source['folder']}, which is other code")
    if data is not None and record["dataset_checksum"] != data:
        differ.append("other images under the same dataset name")
    lacking = [name for name, options in (recordings or {}).items() if _recorded(record, name) != options]
    if not differ and lacking:
        names = ", ".join(lacking)
        return Found(None, f"{folder} lacks the recording {names} with the options that the study requests")
    if differ:
        return Found(None, f"{folder} holds another run than {run}: {', '.join(differ)}")
    return Found(record, None)


def _recorded(record: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the options of a run's recording, with defaults for newer ones; None if it was not recorded."""
    options = record.get("recordings", {}).get(name)
    try:
        return None if options is None else observers.check(name, options)
    except ValueError:
        return None


def expect(folder: Path, run: Run, data: str | None = None) -> dict[str, Any]:
    """Return the record of this very run; raise UserError if the folder has none, or that of another run."""
    record, fault = find(folder, run, data)
    if fault:
        raise UserError(fault)
    return record or read_record(folder)  # which raises that it is missing


def check_files(folder: Path, record: Mapping[str, Any], names: Iterable[str] | None = None) -> None:
    """Raise UserError unless these files of a run's folder (by default all) are those that training wrote."""
    for name in record.get("files", WRITTEN) if names is None else names:
        path = folder / name
        remedy = f"delete {folder} to train the run again"
        try:
            found = sha256(path)
        except OSError as error:
            raise UserError(f"{path} is damaged ({error.strerror}); {remedy}") from None
        if "files" in record and found != record["files"].get(name):
            raise UserError(
                f"{path} is not the file that {folder / RECORD} records: its SHA-256 differs; {remedy}"
            )


def is_finished(
    folder: Path, run: Run, data: str | None = None, recordings: Mapping[str, Any] | None = None
) -> bool:
    """Return whether the folder has this very run, finished or diverged, with unchanged files."""
    record, _ = find(folder, run, data, recordings)
    try:
        if record:
            check_files(folder, record)
    except UserError:
        return False
    return record is not None


# tables that record their sources in their metadata


def write_measured(path: Path, table: pa.Table, record: Mapping[str, Any]) -> None:
    """Write an analysis' table with its proof: the run, the measured state, and the content's digest."""
    write_table(path, telling(table, **_measured(record), content=content(table)))


def _measured(record: Mapping[str, Any]) -> dict[str, Any]:
    state = record.get("files", {}).get("state.safetensors")
    return {"digest": record["digest"], "seed": record["seed"], "state": state}


def is_measured(metadata: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Return whether an analysis' table, by its metadata, was measured on the run of that record.

    A table of an earlier version has no metadata; it is accepted if the record is as old.
    """
    return metadata.items() >= _measured(record).items() if metadata else "files" not in record


def check_measured(path: Path, table: pa.Table, record: Mapping[str, Any]) -> None:
    """Raise UserError unless an analysis' table was measured on that run and is unchanged since."""
    metadata, remedy = told_in(table.schema), f"delete {path} to measure it again"
    if not is_measured(metadata, record):
        raise UserError(f"{path} was measured on another run than the one beside it; {remedy}")
    if metadata and metadata.get("content") != content(table):
        raise UserError(
            f"{path} was altered since it was measured: its digest does not match its values; {remedy}"
        )


def is_analysis(path: Path, run: Run, folder: Path, data: str) -> bool:
    """Return whether a file is an intact table of an analysis of the run in `folder`, on these data.

    `data` is the dataset's checksum.
    """
    if not path.exists():
        return False
    record = expect(folder, run, data)
    try:
        check_measured(path, pq.read_table(path), record)
    except (UserError, pa.ArrowInvalid, OSError):
        return False
    return True


def collected_from(runs: Iterable[tuple[Run, Mapping[str, Any] | None]]) -> list[list[Any]]:
    """Return what a collected table records of each run: digest, seed, and the identity of its record.

    The identity is None for a run that has no record.
    """
    return [[run.digest, run.seed, record and identity(record)] for run, record in runs]


def is_collected(metadata: Mapping[str, Any], runs: list[list[Any]]) -> bool:
    """Return whether a collected table has exactly these runs, as they now are, by its metadata.

    A table of an earlier version has no metadata and is accepted. A run that has no record is not compared.
    """
    if not metadata:
        return True
    then = metadata.get("runs")
    if not isinstance(then, list) or [run[:2] for run in then] != [run[:2] for run in runs]:
        return False
    return all(now[2] in (None, run[2]) for run, now in zip(then, runs, strict=True))


def drawn_from(tables: Iterable[Path]) -> str:
    """Return the digest of a figure's or table's sources: the metadata of the collected tables."""
    return _digest_of([[path.parent.name, path.stem, told_at(path)] for path in tables])


def write_drawn(path: Path, numbers: "pd.DataFrame", tables: Iterable[Path]) -> None:
    """Write the numbers of a figure or table, with the digest of the collected tables that they come from."""
    kept = pa.Table.from_pandas(numbers, preserve_index=False)
    write_table(path, telling(kept, tables=drawn_from(tables)))


def telling(table: pa.Table, **metadata: Any) -> pa.Table:
    """Return a table with our entry in its metadata set to these keys and values."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), b"onlybn": json.dumps(metadata)})


def told_in(schema: pa.Schema) -> dict[str, Any]:
    """Return our entry in a table's metadata; it is empty if an earlier version wrote the table."""
    try:
        metadata = json.loads((schema.metadata or {}).get(b"onlybn", b"{}"))
    except (ValueError, RecursionError):
        metadata = None
    return metadata if isinstance(metadata, dict) else {"damaged": True}


def told_at(path: Path) -> dict[str, Any]:
    """Return our entry in a Parquet file's metadata."""
    try:
        return told_in(pq.read_schema(path))
    except (OSError, pa.ArrowException):
        return {"damaged": True}


def content(table: pa.Table) -> str:
    """Return the SHA-256 of a table's names, types and values, which does not depend on the encoding."""
    found = hashlib.sha256()
    for name in table.column_names:
        column = table[name].combine_chunks()
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        found.update(f"{name} {column.type} {len(column)} ".encode())
        if pa.types.is_floating(column.type) or pa.types.is_integer(column.type):
            found.update(column.is_null().to_numpy(zero_copy_only=False))
            found.update(column.fill_null(0).to_numpy(zero_copy_only=False))
        else:
            found.update(json.dumps(column.to_pylist()).encode())
    return found.hexdigest()
