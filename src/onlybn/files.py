"""Files that are written whole or not at all, and checksums."""

import errno
import hashlib
import json
import os
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from safetensors import SafetensorError

from onlybn.errors import UserError

_UMASK = os.umask(0)
os.umask(_UMASK)
_MODE = 0o666 & ~_UMASK
# What a file system answers that does not know a call, or does not allow it (CIFS, FUSE, VirtualBox). A full
# or a broken disk answers otherwise.
_REFUSED = {
    errno.EINVAL,
    errno.ENOTSUP,
    errno.EOPNOTSUPP,
    errno.ENOSYS,
    errno.EPERM,
    errno.EACCES,
    errno.EBADF,
}


@contextmanager
def written_whole(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` to write to; on leaving, flush it to disk and rename it into place.

    Makes the folder. If the body raises, `path` is left as it was; raises UserError if the disk is full, or
    cannot be written for another reason. A file system that refuses to change a mode or to flush is written
    without. Not for several writers of one path at once: what a killed one leaves beside it, the next one
    overwrites.
    """
    beside = path.with_name(f".{path.name}.partial")
    said = "cannot be written ({}); what was there before is whole"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield beside
        with suppress(OSError):
            beside.chmod(_MODE)  # some libraries leave files that only their owner can read
        _flush(beside)
        beside.replace(path)
        said = "was written, but the disk does not hold it yet ({}); it may be lost if this machine stops"
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} {said.format(reason)}") from error
    finally:
        with suppress(OSError):
            beside.unlink()


def _flush(path: Path) -> None:
    """Have the disk hold what was written to a file, or which files a folder has, where it can be asked."""
    try:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as readable JSON, whole or not at all."""
    with written_whole(path) as beside:
        beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet (zstd), whole or not at all; equal tables give equal bytes."""
    with written_whole(path) as beside:
        pq.write_table(table, beside, compression="zstd")


# Rows that `write_tables` holds at once: of ten million rows of 30 columns, 40 MB.
GROUP = 1 << 18


def write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema below each other, as `write_table` writes them, without holding them all.

    Equal rows give equal bytes, however they are cut into tables.
    """
    with written_whole(path) as beside:
        groups = map(_plain, _groups(tables))
        first = next(groups)
        with pq.ParquetWriter(beside, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for group in groups:
                writer.write_table(group)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the tables' rows in tables of `GROUP` rows, the last one smaller."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) > GROUP:
            whole = pa.concat_tables(waiting)
            yield whole[:GROUP]
            waiting = [whole[GROUP:]]
    yield pa.concat_tables(waiting)


def _plain(group: pa.Table) -> pa.Table:
    """Return a table in one piece, with the words that it uses alone, in the order in which they come."""
    group = group.unify_dictionaries().combine_chunks()
    for place, field in enumerate(group.schema):
        if pa.types.is_dictionary(field.type) and len(group):
            words = group.column(place).chunk(0)
            used = words.indices.unique().drop_null()
            indices = pc.index_in(words.indices, used)
            plain = pa.DictionaryArray.from_arrays(indices, words.dictionary.take(used))
            group = group.set_column(place, field, plain)
    return group


def sha256(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def refuse_future(paths: Iterable[Path], folder: Path) -> None:
    """Raise UserError if a file is stamped more than 5 s in the future, by the clock of the folder's disk.

    Snakemake fails every job that reads such a file, once it is done: its outputs would be older.
    """
    with TemporaryFile(dir=folder) as probe:
        now = os.fstat(probe.fileno()).st_mtime
    stamps = {path: path.stat().st_mtime for path in paths if path.exists()}
    if late := {path: stamp for path, stamp in stamps.items() if stamp > now + 5}:
        first, stamp = next(iter(late.items()))
        others = f" and {len(late) - 1:,} more" if len(late) > 1 else ""
        raise UserError(
            f"{first}{others}: stamped in the future ({datetime.fromtimestamp(stamp):%Y-%m-%d %H:%M:%S}), and"
            " nothing made from it could be newer; if this machine's clock is right, give such files the"
            f" current time: find {shlex.quote(str(folder))} -newermt now -exec touch {{}} +"
        )
