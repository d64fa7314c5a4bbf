"""A run's folder proves itself: `run.json`, the digests in it, and the checks of everything that reads a run.

It imports no torch, since what is not what a study asks for is found when Snakemake starts. A record of an
earlier version has neither `files` nor `seal`; what it does tell is checked.
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
FILES = (*WRITTEN, RECORD)  # in the order in which they are written: a folder with a record is whole

# What every reader of `run.json` relies on.
KINDS = {
    **dict.fromkeys(("study", "dataset", "architecture", "regime", "variant", "digest"), str),
    **dict.fromkeys(("status", "dataset_checksum", "frozen_digest"), str),
    **dict.fromkeys(("training", "counts", "computed", "wall_clock"), dict),
    **dict.fromkeys(("seed", "channels", "classes"), int),
}
# What is told besides of a run with anything of the user's own.
OWN = ("sources", "size", "family", "depth", "width")
COUNTS = (
    "parameters",
    "batchnorm_parameters",
    "output_parameters",
    "shortcut_parameters",
    "trainable_parameters",
)


# what a record says


def sealed(record: Mapping[str, Any]) -> dict[str, Any]:
    """Return a record with its `seal`, the SHA-256 of all else in it as canonical JSON."""
    content = {name: value for name, value in record.items() if name != "seal"}
    return content | {"seal": _digest_of(content)}


def _digest_of(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def read_record(folder: Path) -> dict[str, Any]:
    """Return a run's `run.json`; raise UserError if it is missing, damaged, altered or not whole."""
    path = folder / RECORD
    again = f"delete {folder} to train the run again"
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UserError(f"{path} is missing: {folder} holds no finished run") from None
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} is damaged ({error}); {again}") from None
    if not isinstance(record, dict) or record.get("specification") != SPECIFICATION:
        raise UserError(f"{path} was not written by this version; {again}")
    if ("files" in record or "seal" in record) and record.get("seal") != sealed(record)["seal"]:
        raise UserError(
            f"{path} was altered since it was written: its seal is not that of its content; {again}"
        )
    lacking = [name for name in KINDS if not isinstance(record.get(name), KINDS[name])]
    length = "steps" if "steps" in (record.get("training") or ()) else "epochs"
    for name, inner in {"counts": COUNTS, "computed": ("processes",), "training": (length,)}.items():
        lacking += [
            f"{name}.{n}" for n in inner if name not in lacking and not isinstance(record[name].get(n), int)
        ]
    if not lacking and any(custom.is_custom(record[name]) for name in ("architecture", "regime", "dataset")):
        told = record.get("own")
        lacking += [f"own.{n}" for n in OWN if not isinstance(told, dict) or n not in told]
    if lacking:
        raise UserError(f"{path} is damaged (it tells no {', '.join(lacking)}); {again}")
    return record


def described(run: Run) -> dict[str, Any]:
    """Return what `run.json` says of a run before it is trained: its specification, seed and study."""
    return {"study": run.study, "seed": run.seed, "digest": run.digest, **run.specification}


def run_of(record: Mapping[str, Any]) -> Run:
    """Return the run that such a record describes."""
    names = ("study", "dataset", *(axis.name for axis in ALWAYS), "seed")
    told = {name: record[name] for name in names}
    return Run(**told, values=ordered(dict(record.get("axes", {}))), training=Training(**record["training"]))


def identity(record: Mapping[str, Any]) -> str:
    """Return what is the same of two records if their runs and files are: no clock, machine or commit."""
    names = ("digest", "seed", "dataset_checksum", "frozen_digest", "status", "files")
    return _digest_of([record.get(name) for name in names])[:16]


# whether it is the run that was asked for


class Found(NamedTuple):
    """What a run's folder holds: the record of the run that was asked for, or why it is not that run's.

    Both are None where there is no record.
    """

    record: dict[str, Any] | None
    fault: str | None


def find(
    folder: Path, run: Run, data: str | None = None, recordings: Mapping[str, Any] | None = None
) -> Found:
    """Say whether the folder's record is of this very run, trained on the data of that checksum.

    `data` is None where it is not known yet. `recordings` are those that it has to have, with their options.
    The files beside the record are not looked at.
    """
    if not (folder / RECORD).exists():
        return Found(None, None)
    try:
        record = read_record(folder)
    except UserError as error:
        return Found(None, str(error))
    asked = {"axes": {}} | described(run)
    record = {"axes": {}} | record
    there = {name: record.get(name) for name in asked if name not in ("study", "training", "digest")}
    differ = [f"{name} {there[name]}, not {asked[name]}" for name in there if there[name] != asked[name]]
    trainings = record["training"], asked["training"]
    differ += [
        f"{name} {trainings[0].get(name)}, not {trainings[1].get(name)}"
        for name in dict.fromkeys([*trainings[1], *trainings[0]])
        if trainings[0].get(name) != trainings[1].get(name)
    ]
    if not differ and record["digest"] != run.digest:
        differ = [f"digest {record['digest']}, not {run.digest}"]
    for told in record.get("own", {}).get("sources", []):
        if custom.since(told) == "other":
            differ.append(f"{told['module']} of {told['folder']}, which is other code")
    if data is not None and record["dataset_checksum"] != data:
        differ.append("other images of the dataset's name")
    lacking = [name for name, options in (recordings or {}).items() if _recorded(record, name) != options]
    if not differ and lacking:
        wanted = "with the options that the study asks for"
        return Found(None, f"{folder} lacks the recording {', '.join(lacking)}, {wanted}")
    if differ:
        return Found(None, f"{folder} holds another run than {run}: {', '.join(differ)}")
    return Found(record, None)


def _recorded(record: Mapping[str, Any], name: str) -> dict[str, Any] | None:
    """Return the options of a run's recording; one that came later has its default. None: not recorded so."""
    options = record.get("recordings", {}).get(name)
    try:
        return None if options is None else observers.check(name, options)
    except ValueError:
        return None


def expect(
    folder: Path, run: Run, data: str | None = None, recordings: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the record of this very run; raise UserError if the folder holds none, or another's."""
    record, fault = find(folder, run, data, recordings)
    if fault:
        raise UserError(fault)
    return record or read_record(folder)  # which says that it is missing


def check_files(folder: Path, record: Mapping[str, Any], names: Iterable[str] | None = None) -> None:
    """Raise UserError unless these files of a run's folder, or all, are those that training wrote."""
    for name in record.get("files", WRITTEN) if names is None else names:
        path = folder / name
        again = f"delete {folder} to train the run again"
        try:
            found = sha256(path)
        except OSError as error:
            raise UserError(f"{path} is damaged ({error.strerror}); {again}") from None
        if "files" in record and found != record["files"].get(name):
            raise UserError(
                f"{path} is not the file that {folder / RECORD} records: its SHA-256 differs; {again}"
            )


def is_finished(
    folder: Path, run: Run, data: str | None = None, recordings: Mapping[str, Any] | None = None
) -> bool:
    """Say whether the folder holds this very run, finished or diverged, its files as they were written."""
    record, _ = find(folder, run, data, recordings)
    try:
        if record:
            check_files(folder, record)
    except UserError:
        return False
    return record is not None


# tables, which tell what they are made from


def write_measured(path: Path, table: pa.Table, record: Mapping[str, Any]) -> None:
    """Write an analysis' table with what proves it: its run, the state that was measured, and its content."""
    write_table(path, telling(table, **_measured(record), content=content(table)))


def _measured(record: Mapping[str, Any]) -> dict[str, Any]:
    state = record.get("files", {}).get("state.safetensors")
    return {"digest": record["digest"], "seed": record["seed"], "state": state}


def is_measured(told: Mapping[str, Any], record: Mapping[str, Any]) -> bool:
    """Say whether an analysis' table, by what it tells, was measured on the run of that record as it now is.

    One of an earlier version tells nothing; it is taken for the run's own where the record is as old.
    """
    return told.items() >= _measured(record).items() if told else "files" not in record


def check_measured(path: Path, table: pa.Table, record: Mapping[str, Any]) -> None:
    """Raise UserError unless an analysis' table was measured on that run, and holds what was measured."""
    told, again = told_in(table.schema), f"delete {path} to measure it again"
    if not is_measured(told, record):
        raise UserError(f"{path} was measured on another run than the one beside it; {again}")
    if told and told.get("content") != content(table):
        raise UserError(
            f"{path} was altered since it was measured: its digest is not that of its values; {again}"
        )


def has_analysis(analysis: str, run: Run, folder: Path, data: str) -> bool:
    """Return whether a run's folder holds an intact table of an analysis of this run, on these data.

    `data` is the dataset's checksum.
    """
    path = folder / f"{analysis}.parquet"
    if not path.exists():
        return False
    record = expect(folder, run, data)
    try:
        check_measured(path, pq.read_table(path), record)
    except (UserError, pa.ArrowInvalid, OSError):
        return False
    return True


def collected_from(runs: Iterable[tuple[Run, Mapping[str, Any] | None]]) -> list[list[Any]]:
    """Return what a collected table tells of its runs, in order: specification, seed, and what was found.

    The last is None of a run whose record is not there.
    """
    return [[run.digest, run.seed, record and identity(record)] for run, record in runs]


def is_collected(told: Mapping[str, Any], runs: list[list[Any]]) -> bool:
    """Say whether a collected table tells that it holds these runs, as they now are, and no others.

    One of an earlier version tells nothing, and is taken as it is; so are runs that are not there.
    """
    if not told:
        return True
    then = told.get("runs")
    if not isinstance(then, list) or [run[:2] for run in then] != [run[:2] for run in runs]:
        return False
    return all(now[2] in (None, run[2]) for run, now in zip(then, runs, strict=True))


def drawn_from(tables: Iterable[Path]) -> str:
    """Return the digest of what a figure or table is made from, by what the collected tables tell."""
    return _digest_of([[path.parent.name, path.stem, told_at(path)] for path in tables])


def write_drawn(path: Path, numbers: "pd.DataFrame", tables: Iterable[Path]) -> None:
    """Write the numbers of a figure or table, which tell what collected tables they are made from."""
    kept = pa.Table.from_pandas(numbers, preserve_index=False)
    write_table(path, telling(kept, tables=drawn_from(tables)))


def telling(table: pa.Table, **told: Any) -> pa.Table:
    """Return a table that tells, in its metadata, these things too."""
    return table.replace_schema_metadata({**(table.schema.metadata or {}), b"onlybn": json.dumps(told)})


def told_in(schema: pa.Schema) -> dict[str, Any]:
    """Return what a table tells in its metadata; nothing where an earlier version wrote it."""
    try:
        told = json.loads((schema.metadata or {}).get(b"onlybn", b"{}"))
    except (ValueError, RecursionError):
        told = None
    return told if isinstance(told, dict) else {"damaged": True}


def told_at(path: Path) -> dict[str, Any]:
    """Return what a Parquet file tells in its metadata."""
    try:
        return told_in(pq.read_schema(path))
    except (OSError, pa.ArrowException):
        return {"damaged": True}


def content(table: pa.Table) -> str:
    """Return the SHA-256 over a table's names, types and values, however the file keeps them."""
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
