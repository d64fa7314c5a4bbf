"""What every job of the workflow does around its work: a log, one sentence on failure, locks."""

import ctypes
import fcntl
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from onlybn.errors import UserError


@contextmanager
def job(log: Path) -> Iterator["Terminal"]:
    """Send all that the job prints to its log; yield what still reaches the terminal.

    A user's mistake ends as one sentence, the log's last line, and exit status 1; any other fault also
    leaves its traceback above that line.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    terminal = Terminal(os.dup(2))
    with log.open("w", encoding="utf-8") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    # A scheduler's SIGTERM unwinds like Ctrl-C, so that files half written are taken away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield terminal
    except UserError as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    except Exception as error:
        traceback.print_exc()
        # In one line, whatever it has: CUDA's messages end with advice for CUDA's developers.
        sys.exit(f"error: {type(error).__name__}: {' '.join(str(error).split())}")


class Terminal:
    """The terminal that Snakemake runs in, behind the job's log."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def say(self, line: str) -> None:
        """Write one whole line, which jobs side by side do not mix, if the terminal is still there."""
        with suppress(OSError):
            os.write(self.descriptor, f"{line}\n".encode())


class Stop:
    """Whether the work was asked to stop, by SIGTERM or Ctrl-C; asked again, it stops at once."""

    # Some schedulers send a signal to a job's processes and to its group: that is one asking, not two.
    AT_ONCE = 2.0

    def __init__(self):
        self._first: float | None = None

    @property
    def asked(self) -> bool:
        """Whether the work is to stop at its next good place."""
        return self._first is not None

    def __call__(self, number: int, frame: object) -> None:
        """Take a signal."""
        now = time.monotonic()
        self._first = self._first or now
        if now - self._first > self.AT_ONCE:
            raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Take SIGTERM and Ctrl-C as a question for the body, which asks the `Stop` that this yields.

    A body that ends without having asked is followed by KeyboardInterrupt. A signal that this process
    ignores, as one in a shell's background ignores Ctrl-C, stays ignored.
    """
    stop = Stop()
    before = {caught: signal.getsignal(caught) for caught in (signal.SIGINT, signal.SIGTERM)}
    before = {caught: handler for caught, handler in before.items() if handler is not signal.SIG_IGN}
    for caught in before:
        signal.signal(caught, stop)
    try:
        yield stop
    finally:
        for caught, handler in before.items():
            signal.signal(caught, handler)
    if stop.asked:
        raise KeyboardInterrupt


def die_with_parent() -> None:
    """Have Linux kill this process when the one that started it is gone; elsewhere this does nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == 1:
            os._exit(1)


def keep_freed_memory() -> None:
    """Have the C library keep the memory of large tensors that are freed, for the next step to take.

    By default glibc gives it back to the system, which then fills it with zeros again, page by page: a
    fifth of a step on the CPU. Elsewhere this does nothing.
    """
    trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # Older versions allow 32 MB at most; setting the other alone would make things worse.
        if mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, 32 << 20):
            mallopt(trim_threshold, 1 << 30)


def duration(seconds: float) -> str:
    """Return a time as a person says it, such as `40 s`, `12 min`, `3 h 5 min` or `12 days`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 1440:,.0f} days"


# Seconds that a killed job's own processes may take to notice, until which they hold its locks.
PATIENCE = 10.0


def lock(path: Path, refusal: str, *, patience: float = 0.0) -> int:
    """Take the lock file at `path` until this process ends, however it ends; return its descriptor.

    Raises UserError with the sentence `refusal` if another process still holds it after `patience` seconds.
    """
    deadline = time.monotonic() + patience
    while (descriptor := _try_lock(path)) is None:
        if time.monotonic() > deadline:
            raise UserError(refusal)
        time.sleep(0.1)
    return descriptor


def wait_for_lock(path: Path, told: str, terminal: "Terminal") -> int:
    """Take the lock file at `path`, however long another process holds it, which `told` then says."""
    try:
        return lock(path, told, patience=PATIENCE)
    except UserError as error:
        if str(error) != told:
            raise
    print(told, flush=True)
    terminal.say(told)
    return lock(path, told, patience=math.inf)


def is_locked(path: Path) -> bool:
    """Say whether a process holds the lock file at `path`."""
    with suppress(FileNotFoundError), path.open() as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def claim(names: Sequence[str], count: int, folder: Path, kind: str) -> list[int]:
    """Lock `count` of the named things of a machine until this process ends; return their places in `names`.

    Waits, all of them free again for others, while fewer are free. The locks are files in `folder`.
    """
    told = False
    while True:
        held: dict[int, int] = {}
        for place, name in enumerate(names):
            if len(held) < count and (descriptor := _try_lock(folder / name)) is not None:
                held[place] = descriptor
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
    """Take the lock file at `path` and return its descriptor, or None if another process holds it.

    A lock on a file that was deleted or replaced meanwhile locks nobody out: then it is taken anew.
    """
    while True:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.stat()):
                    return descriptor
        except BlockingIOError:
            os.close(descriptor)
            return None
        except OSError as error:
            os.close(descriptor)
            raise UserError(
                f"{path.parent} is on a file system without locks (flock: {error.strerror}), so that two jobs"
                " could write the same run; choose a folder on another one with --config results_dir=…"
            ) from error
        os.close(descriptor)


def last_lines(snakemake_log: Path) -> list[str]:
    """Return the last line of each failed job's log, in the order in which the jobs failed."""
    logs = []
    for line in snakemake_log.read_text(encoding="utf-8", errors="replace").splitlines():
        name, _, rest = line.strip().partition(": ")
        if name == "log" and rest.endswith("(check log file(s) for error details)"):
            # The job's own; a cluster's, after it, says that it failed and not why.
            own, *_ = rest.removesuffix(" (check log file(s) for error details)").split(", ")
            logs.append(Path(own))
    found = {}
    for log in logs:
        lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
        found |= dict.fromkeys([line for line in lines if line.strip()][-1:])
    return list(found)
