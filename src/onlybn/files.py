"""Atomic writing of files (whole or not at all), and checksums."""

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
# The errors of a file system that does not support or allow a call (CIFS, FUSE, VirtualBox). A full or
# broken disk gives other errors.
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
    """Yield a temporary path beside `path` to write to; on leaving, flush it and rename it to `path`.

    Creates the folder. If the body raises, `path` is unchanged. Raises UserError if the disk is full or
    cannot be written for another reason. If the file system does not support changing a mode or flushing,
    that step is skipped. Only one process at a time may write a path: the next writer overwrites the
    temporary file of a killed one.
    """
    temporary = path.with_name(f".{path.name}.partial")
    message = "cannot be written ({}); the existing content is intact"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with suppress(OSError):
            temporary.chmod(_MODE)  # some libraries leave files that only their owner can read
        _flush(temporary)
        temporary.replace(path)
        message = "was written, but not flushed to disk ({}); it may be lost if this machine stops"
        _flush(path.parent)
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UserError(f"{path} {message.format(reason)}") from error
    finally:
        with suppress(OSError):
            temporary.unlink()


def _flush(path: Path) -> None:
    """Flush a file, or a folder's list of files, to disk, if the file system supports it."""
    with _if_supported():
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flush(descriptor: int) -> None:
    """Flush an open file to disk, if the file system supports it."""
    with _if_supported():
        os.fsync(descriptor)


@contextmanager
def _if_supported() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _REFUSED:
            raise


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a mapping as indented JSON, whole or not at all."""
    with written_whole(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def write_table(path: Path, table: pa.Table) -> None:
    """Write a table as Parquet (zstd), whole or not at all; equal tables give equal bytes."""
    with written_whole(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


# Rows that `write_tables` keeps in memory: 40 MB for a table of 30 columns, whatever its length.
GROUP = 1 << 18


def write_tables(path: Path, tables: Iterable[pa.Table]) -> None:
    """Write tables of one schema, concatenated, as `write_table` does, without keeping all in memory.

    Equal rows give equal bytes, however they are split into tables.
    """
    with written_whole(path) as temporary:
        groups = map(_plain, _groups(tables))
        first = next(groups)
        with pq.ParquetWriter(temporary, first.schema, compression="zstd") as writer:
            writer.write_table(first)
            for group in groups:
                writer.write_table(group)


def _groups(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """Yield the rows in tables of `GROUP` rows; the last one may be smaller."""
    waiting: list[pa.Table] = []
    for table in tables:
        waiting.append(table)
        while sum(map(len, waiting)) > GROUP:
            whole = pa.concat_tables(waiting)
            yield whole[:GROUP]
            waiting = [whole[GROUP:]]
    yield pa.concat_tables(waiting)


def _plain(group: pa.Table) -> pa.Table:
    """Return a table in one chunk; its dictionaries have only the used words, in order of first use."""
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
    """Raise UserError if a file's time stamp is over 5 s in the future, by the clock of the folder's disk.

    Snakemake fails every job that reads such a file, after the job has finished: its outputs would be older.
    """
    with TemporaryFile(dir=folder) as probe:
        now = os.fstat(probe.fileno()).st_mtime
    stamps = {path: path.stat().st_mtime for path in paths if path.exists()}
    if late := {path: stamp for path, stamp in stamps.items() if stamp > now + 5}:
        first, stamp = next(iter(late.items()))
        others = f" and {len(late) - 1:,} more" if len(late) > 1 else ""
        raise UserError(
            f"{first}{others}: stamped in the future ({datetime.fromtimestamp(stamp):%Y-%m-%d %H:%M:%S}), so"
            " every output would be older than its input; if this machine's clock is right, give such files"
            f" the current time: find {shlex.quote(str(folder))} -newermt now -exec touch {{}} +"
        )
