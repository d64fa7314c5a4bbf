"""What an export and a bank have in common: the finished run that they read, and the file that they write."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from onlybn.errors import UserError
from onlybn.models.network import Network
from onlybn.runs.records import RECORD, described, read_record, run_of
from onlybn.runs.saving import image_size, load


def read_finished(folder: Path, *, trust: bool) -> tuple[Network, dict[str, Any]]:
    """Return a finished run's network, as `onlybn.load` does, and its facts.

    The facts are its specification, seed and study, the `mean` and `std` of its images, and their `channels`,
    `classes` and `size`. Raises UserError for a run that `onlybn.load` refuses, or that diverged.
    """
    network, record = load(folder, trust=trust), read_record(folder)
    if record["status"] != "finished":
        raise UserError(f"{folder} diverged in epoch {record['diverged_epoch']}: it has no trained network")
    facts = described(run_of(record)) | record["normalisation"]
    facts |= {key: record[key] for key in ("channels", "classes")} | {"size": image_size(record)}
    return network, facts


def check_file(command: str, file: Path, endings: Iterable[str]) -> None:
    """Raise UserError if a file to be written has no ending that is known, or would be a file of a run."""
    if file.suffix not in (endings := [*endings]):
        raise UserError(f"{command}: {file} has no known ending; allowed: {', '.join(endings)}")
    if (file.parent / RECORD).exists():
        raise UserError(f"{command}: {file.parent} is the folder of a run; write {file.name} elsewhere")
