"""What every job of the workflow does around its work: a log, one sentence on failure, locks."""

import ctypes
import os
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NoReturn

from onlybn.errors import UserError


@contextmanager
def job(log: Path) -> Iterator["Terminal"]:
    """Send all that the job prints to its log; yield what still reaches the terminal.

    A user's mistake ends as one sentence, the log's last line, and exit status 1; any other fault also
    leaves its traceback above that line. Where the log cannot be written, the terminal gets the sentence.
    The process ends with the job.
    """
    terminal = Terminal(_send_output(log))
    _leave_out_the_users_settings()
    # A scheduler's SIGTERM unwinds like Ctrl-C, so that files half written are taken away.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield terminal
    except UserError as error:
        _end(terminal, error.shown())
    except KeyboardInterrupt:
        _end(terminal, "interrupted; the same command goes on from here")
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        # In one line, whatever it has: CUDA's messages end with advice for CUDA's developers.
        _end(terminal, f"error: {type(error).__name__}: {' '.join(str(error).split())}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Python takes half a second and more to take torch and numba apart


def _send_output(log: Path) -> int:
    """Make the log what standard output and error write to; return a descriptor of the standard error before.

    Leaves with one sentence if the log cannot be written.
    """
    for number in range(3):  # in order, so that each closed one is opened again as itself
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    terminal = os.dup(2)
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        Terminal(terminal).say(f"error: the log {log} cannot be written ({error.strerror})")
        sys.exit(1)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # Python has none where they were closed, and another encoding where the user's language has.
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = os.fdopen(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
    return terminal


# What changes warnings to errors, and what computes in a shorter format than the one that a study names, and
# `run.json` records.
UNSET = (
    "PYTHONWARNINGS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def _leave_out_the_users_settings() -> None:
    """Have the job's libraries, not imported yet, ignore what the user set for other work."""
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)
    for name in UNSET:
        os.environ.pop(name, None)
    warnings.filters[:] = [entry for entry in warnings.filters if entry[0] != "error"]


def _end(terminal: "Terminal", sentence: str) -> NoReturn:
    """Leave with a sentence, the log's last line."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError as error:
        terminal.say(f"{sentence} (the log cannot be written: {error.strerror})")
    sys.exit(1)


class Terminal:
    """The terminal that Snakemake runs in, behind the job's log."""

    def __init__(self, descriptor: int):
        self.descriptor = descriptor

    def say(self, line: str) -> None:
        """Write one whole line, which jobs side by side do not mix, if the terminal is still there."""
        with suppress(OSError):
            os.write(self.descriptor, f"{line}\n".encode(errors="backslashreplace"))


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


def last_lines(snakemake_log: Path) -> list[str]:
    """Return the last line of each failed job's log, in the order in which the jobs failed."""
    end = " (check log file(s) for error details)"
    found: dict[str, None] = {}
    for line in _lines(snakemake_log, errors="surrogateescape"):
        name, _, rest = line.strip().partition(": ")
        if name == "log" and rest.endswith(end) and (log := _own_log(rest.removesuffix(end))):
            said = [line for line in _lines(log, errors="replace") if line.strip()]
            if said and said[-1].startswith(("error: ", "interrupted; ")):
                found[said[-1]] = None
            else:
                after = f", after: {said[-1]}" if said else ""
                found[f"{log} ends without a reason; the job was killed, perhaps for memory{after}"] = None
    return list(found)


def _own_log(names: str) -> Path | None:
    """Return the first of a job's logs, its own: a cluster's, after it, says that it failed and not why."""
    parts = names.split(", ")  # which a path may hold too
    paths = (Path(", ".join(parts[:count])) for count in range(1, len(parts) + 1))
    return next((path for path in paths if path.is_file()), None)


def _lines(file: Path, errors: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors=errors).split("\n")
    except OSError:
        return []
