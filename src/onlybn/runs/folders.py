"""Folders of runs: publishing runs, moving replaced runs aside, removing leftovers of jobs."""

import shutil
from contextlib import suppress
from itertools import count
from pathlib import Path

from onlybn.errors import UserError
from onlybn.files import sha256, written_whole
from onlybn.locks import holding
from onlybn.runs.records import RECORD, WRITTEN, is_measured, read_record, told_at


def keep_aside(folder: Path, aside: Path) -> Path | None:
    """Move a run's folder below `aside`, under a unique name; return its new path.

    A folder without a record has no run: it stays, and None is returned.
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
    """Copy the files that a finished run's record names into a folder without a record, `run.json` last.

    These are copies, not links: writing to one later, as restoring a backup does, does not change the other.
    If this is killed, the folder has no record, and the next attempt finds the run in `source`.
    """
    for name in (*read_record(source).get("files", WRITTEN), RECORD):
        with written_whole(folder / name) as path:
            shutil.copyfile(source / name, path)


def size_of(folder: Path) -> int:
    """Return the size of all files of a folder, in bytes."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def clear_work(work: Path, runs: Path) -> None:
    """Delete the folders in `work` of runs that are complete in `runs`, which has the same layout.

    Analyses that were measured after training, and that no figure or table needed yet, stay without the rest
    of their folder. Folders that a job has locked stay. A folder is renamed, with its lock, before its files
    are deleted, so that a job that starts meanwhile creates a new folder and a new lock.
    """
    for waiting in sorted(work.rglob("seed-*")):
        gone, folder = waiting.with_name(f".{waiting.name}.gone"), runs / waiting.relative_to(work)
        with suppress(OSError, UserError):
            with holding(waiting / ".lock") as held:
                if held and not _waits(waiting, folder):
                    if analyses := _analyses(waiting, folder):
                        for path in {*waiting.iterdir()} - {waiting / ".lock", *analyses}:
                            path.unlink()
                    else:
                        shutil.rmtree(gone, ignore_errors=True)
                        waiting.rename(gone)
                        shutil.rmtree(gone)
            above = waiting.parent
            while above != work.parent:
                above.rmdir()  # raises OSError if the folder is not empty
                above = above.parent


def _waits(waiting: Path, folder: Path) -> bool:
    """Return whether a work folder has a checkpoint, or a run that is not in its final folder yet."""
    if any(waiting.glob("*checkpoint*")) or not (folder / RECORD).exists():
        return True
    record = waiting / RECORD
    return record.exists() and record.read_bytes() != (folder / RECORD).read_bytes()


def _analyses(waiting: Path, folder: Path) -> list[Path]:
    """Return the tables in a work folder that were measured on the run in `folder`, which lacks them."""
    record = read_record(folder)
    lacking = (path for path in waiting.glob("*.parquet") if not (folder / path.name).exists())
    return [path for path in lacking if is_measured(told_at(path), record)]
