"""Lock files, which are released when the process that holds them ends, however it ends."""

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

# Seconds that the processes of a killed job may need to end; until then they hold its locks.
PATIENCE = 10.0


def lock(path: Path, refusal: str, *, patience: float = 0.0) -> int:
    """Take the lock file at `path` until this process ends, however it ends; return its descriptor.

    Raises UserError with the sentence `refusal` if another process still holds it after `patience` seconds.
    """
    if (descriptor := _lock_within(path, patience)) is None:
        raise UserError(refusal)
    return descriptor


def wait_for_lock(path: Path, message: str, terminal: "Terminal") -> int:
    """Take the lock file at `path`, and wait for it as long as needed; `message` then says so."""
    if (descriptor := _lock_within(path, PATIENCE)) is None:
        print(message, flush=True)
        terminal.say(message)
        descriptor = _lock_within(path, math.inf)
    return descriptor


def _lock_within(path: Path, seconds: float) -> int | None:
    """Take the lock file at `path` within so many seconds; return its descriptor, or None if that fails."""
    deadline = time.monotonic() + seconds
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            return None
        time.sleep(0.1)
    return descriptor


@contextmanager
def holding(path: Path) -> Iterator[bool]:
    """Hold the lock file at `path` during the body; yield False if another process has it.

    Only the holder of a lock file may delete it or its folder.
    """
    descriptor = _try_lock(path)
    try:
        yield descriptor is not None
    finally:
        if descriptor is not None:
            os.close(descriptor)


def is_locked(path: Path) -> bool | None:
    """Return whether a process holds the lock file at `path`; None if this user may not read it."""
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
    """Lock `count` of a machine's named resources until this process ends; return their indices in `names`.

    While fewer are free, this waits and holds none of them. The locks are files in `folder`.
    """
    reported = False
    while True:
        held: dict[int, int] = {}
        for index, name in enumerate(names):
            if len(held) < count and (descriptor := _try_lock(folder / name)) is not None:
                held[index] = descriptor
        if len(held) == count:
            return list(held)
        for descriptor in held.values():
            os.close(descriptor)
        if not reported:
            print(
                f"waiting for a {kind}: other jobs have {len(names) - len(held)} of {len(names)}", flush=True
            )
            reported = True
        time.sleep(0.5)


def _try_lock(path: Path) -> int | None:
    """Take the lock file at `path` and return its descriptor, or None if another process holds it."""
    while True:
        descriptor = _open_lock(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            # The previous holder may have deleted it; then others lock a new file of this name.
            if os.path.samestat(os.fstat(descriptor), path.stat()):
                return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except FileNotFoundError:
            pass
        except OSError as error:
            os.close(descriptor)
            if error.errno == errno.EBADF:  # NFS cannot lock a file that is open for reading only
                raise UserError(
                    f"the lock file {path} is another user's, and its file system locks only what one may"
                    " write; its owner can allow that with chmod g+w"
                ) from error
            raise UserError(
                f"{path.parent} is on a file system without locks (flock: {error.strerror}), so two jobs"
                " could write the same run; choose another file system with --config results_dir=…"
            ) from error
        os.close(descriptor)


def _open_lock(path: Path) -> int:
    """Open a lock file, and create it if it is missing; open another user's file for reading if necessary."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except PermissionError:
            return os.open(path, os.O_RDONLY)
    except OSError as error:
        raise UserError(
            f"the lock file {path} cannot be opened ({error.strerror}); all users of these results need"
            " permission to read it and to write in its folder"
        ) from error
