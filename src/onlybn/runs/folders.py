"""Folders of runs: publishing them, keeping aside what is replaced, clearing what jobs left."""

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from onlybn.errors import UserError
from onlybn.files import sha256, written_whole
from onlybn.locks import holding
from onlybn.runs.records import RECORD, WRITTEN, read_record


def keep_aside(folder: Path, aside: Path) -> Path | None:
    """Move a folder that holds a run below `aside`, by a name of its own; return where it then is.

    A folder without a record holds no run: it is left, and None returned.
    """
    if not (folder / RECORD).exists():
        return None
    name = sha256(folder / RECORD)[:12]
    paths = (aside / (f"{name}-{number}" if number else name) for number in count())
    kept = next(path for path in paths if not path.exists())
    aside.mkdir(parents=True, exist_ok=True)
    try:
        folder.rename(kept)
    except OSError as error:
        raise UserError(f"{folder} cannot be moved to {kept} ({error.strerror})") from None
    return kept


def publish(source: Path, folder: Path) -> None:
    """Copy the files that a finished run's record names into a folder without one, `run.json` last.

    The copies are files of their own: what is written to one later, as a restored backup is, leaves the
    other. If this is killed, the folder has no record, and the next try finds the run in `source`.
    """
    for name in (*read_record(source).get("files", WRITTEN), RECORD):
        with written_whole(folder / name) as path:
            shutil.copyfile(source / name, path)


def size_of(folder: Path) -> int:
    """Return how many bytes the files of a folder have."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def clear_work(work: Path, runs: Path) -> None:
    """Take away what waits in `work` of runs that are whole in `runs`, which has the same folders.

    What a job holds locked is left. A folder is renamed before its files go, its lock with it, so that a job
    that comes meanwhile makes a folder and a lock of its own.
    """
    for waiting in sorted(work.rglob("seed-*")):
        gone = waiting.with_name(f".{waiting.name}.gone")
        with suppress(OSError, UserError):
            with holding(waiting / ".lock") as held:
                if held and not _waits(waiting, runs / waiting.relative_to(work)):
                    shutil.rmtree(gone, ignore_errors=True)
                    waiting.rename(gone)
                    shutil.rmtree(gone)
            above = waiting.parent
            while above != work.parent:
                above.rmdir()  # which raises OSError where something is left
                above = above.parent


def _waits(waiting: Path, folder: Path) -> bool:
    """Say whether a work folder holds a checkpoint, or a run that is not in its own folder yet."""
    if any(waiting.glob("*checkpoint*")) or not (folder / RECORD).exists():
        return True
    record = waiting / RECORD
    return record.exists() and record.read_bytes() != (folder / RECORD).read_bytes()
