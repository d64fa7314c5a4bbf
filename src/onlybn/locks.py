"""Locks of files, which end with the process that holds them, however it ends."""

import errno
import fcntl
import math
import os
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from onlybn.errors import UserError

if TYPE_CHECKING:
    from onlybn.jobs import Terminal

# Seconds that a killed job's own processes may take to notice, until which they hold its locks.
PATIENCE = 10.0


def lock(path: Path, refusal: str, *, patience: float = 0.0) -> int:
    """Take the lock file at `path` until this process ends, however it ends; return its descriptor.

    Raises UserError with the sentence `refusal` if another process still holds it after `patience` seconds.
    """
    if (descriptor := _lock_within(path, patience)) is None:
        raise UserError(refusal)
    return descriptor


def wait_for_lock(path: Path, told: str, terminal: "Terminal") -> int:
    """Take the lock file at `path`, however long another process holds it, which `told` then says."""
    if (descriptor := _lock_within(path, PATIENCE)) is None:
        print(told, flush=True)
        terminal.say(told)
        descriptor = _lock_within(path, math.inf)
    return descriptor


def _lock_within(path: Path, seconds: float) -> int | None:
    """Take the lock file at `path` and return its descriptor, or None if another process holds it so long."""
    deadline = time.monotonic() + seconds
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)
    return descriptor


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Hold the lock file at `path` in the body, and say whether it is held: not if another process has it.

    Only who holds a lock file may delete it, or the folder that it lies in.
    """
    descriptor = _try_lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_locked(path: Path) -> bool | None:
    """Say whether a process holds the lock file at `path`; None if this user may not look."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return None
    return False


def claim(names: Sequence[str], count: int, folder: Path, kind: str) -> list[int]:
    """Lock `count` of the named things of a machine until this process ends; return their places in `names`.

    Waits, all of them free again for others, while fewer are free. The locks are files in `folder`.
    """
    told = False
    while True:
        held: dict[int, int] = {}
        for index, name in enumerate(names):
            if len(held) < count and (descriptor := _try_lock(folder / name)) is not None:
                held[index] = descriptor
        if len(held) == count:
            return list(held)
        for descriptor in held.values():
            os.close(descriptor)
        if not told:
            print(
                f"waiting for a {kind}: other jobs have {len(names) - len(held)} of {len(names)}", flush=True
            )
            told = True
        time.sleep(0.5)


def _try_lock(path: Path) -> int | None:
    """Take the lock file at `path` and return its descriptor, or None if another process holds it."""
    while True:
        descriptor = _open_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # Who held it before may have deleted it: then others lock another file of this name.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EBADF:  # NFS locks no file that is open for reading alone
                raise UserError(
                    f"the lock file {path} is another user's, and its file system locks only what one may"
                    " write; its owner can allow that with chmod g+w"
                ) from error
            raise UserError(
                f"{path.parent} is on a file system without locks (flock: {error.strerror}), so that two jobs"
                " could write the same run; choose a folder on another one with --config results_dir=…"
            ) from error
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """Open a lock file, which is made if it is missing; another user's for reading, where that is all."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"the lock file {path} cannot be opened ({error.strerror}); all who share these results need to"
            " read it and to write in its folder"
        ) from error
