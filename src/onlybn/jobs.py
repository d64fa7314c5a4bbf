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
    """Send all that the job prints to its log; yield the terminal, for the few lines that a user should see.

    A user's mistake ends as one sentence, the log's last line, and exit status 1; any other fault also
    leaves its traceback above that line. If the log cannot be written, the terminal gets the sentence.
    The process ends with the job.
    """
    terminal = _send_output(log)
    _ignore_the_users_settings()
    # A scheduler's SIGTERM unwinds like Ctrl-C, so that half-written files are removed.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield terminal
    except UserError as error:
        _end(terminal, error.shown())
    except KeyboardInterrupt:
        _end(terminal, INTERRUPTED)
    except Exception as error:
        with suppress(OSError):
            traceback.print_exc()
        # In one line, whatever it has: CUDA's messages end with advice for CUDA's developers.
        _end(terminal, f"error: {type(error).__name__}: {' '.join(str(error).split())}")
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)  # Python takes half a second and more to unload torch and numba


# Names the file to which the lines for the terminal go while a display is there to show them.
DISPLAY = "ONLYBN_DISPLAY"


def _send_output(log: Path) -> "Terminal":
    """Send standard output and error to the log; return the terminal, which standard error was before.

    Exits with one sentence if the log cannot be written.
    """
    for number in range(3):  # in order, so that each closed one gets its own number again
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    terminal = _terminal()
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o666)
    except OSError as error:
        terminal.say(f"error: the log {log} cannot be written ({error.strerror})")
        sys.exit(1)
    os.dup2(file, 1)
    os.dup2(file, 2)
    os.close(file)
    # Python has no streams if they were closed, and another encoding if the user's language has one.
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = os.fdopen(number, "w", 1, encoding="utf-8", errors="backslashreplace", closefd=False)
        setattr(sys, name, stream)
    return terminal


def _terminal() -> "Terminal":
    """Return the terminal, or the file from which a display on this machine takes lines for it."""
    with suppress(KeyError, OSError):
        return Terminal(os.open(os.environ[DISPLAY], os.O_WRONLY | os.O_APPEND), displayed=True)
    return Terminal(os.dup(2))


# Settings that turn warnings into errors, or that compute in a shorter format than the one that a study names
# and `run.json` records.
UNSET = (
    "PYTHONWARNINGS",
    "DNNL_DEFAULT_FPMATH_MODE",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "NVIDIA_TF32_OVERRIDE",
    "TORCH_ALLOW_TF32_CUBLAS_OVERRIDE",
)


def _ignore_the_users_settings() -> None:
    """Make the job's libraries, not imported yet, ignore what the user set for other work."""
    os.environ.update(MPLBACKEND="agg", MATPLOTLIBRC=os.devnull)
    for name in UNSET:
        os.environ.pop(name, None)
    warnings.filters[:] = [entry for entry in warnings.filters if entry[0] != "error"]


def _end(terminal: "Terminal", sentence: str) -> NoReturn:
    """Exit with a sentence, the log's last line."""
    try:
        print(sentence, file=sys.stderr, flush=True)
    except OSError as error:
        terminal.say(f"{sentence} (the log cannot be written: {error.strerror})")
    sys.exit(1)


class Terminal:
    """The terminal in which Snakemake runs; if `displayed`, a display shows the lines and all progress."""

    def __init__(self, descriptor: int, *, displayed: bool = False):
        self.descriptor, self.displayed = descriptor, displayed

    def say(self, line: str) -> None:
        """Write one whole line, which jobs side by side do not mix, if the terminal is still there."""
        with suppress(OSError):
            os.write(self.descriptor, f"{line}\n".encode(errors="backslashreplace"))

    def report(self, line: str) -> None:
        """Write a line on progress, unless a display shows that anyway."""
        if not self.displayed:
            self.say(line)


class Stop:
    """A flag that SIGTERM or Ctrl-C sets; a second signal, at least two seconds later, stops immediately."""

    # Some schedulers send a signal to a job's processes and to its group: that is one request, not two.
    AT_ONCE = 2.0

    def __init__(self):
        self._first: float | None = None

    @property
    def asked(self) -> bool:
        """Whether the work should stop as soon as it can resume from there."""
        return self._first is not None

    def __call__(self, number: int, frame: object) -> None:
        """Handle a signal."""
        now = time.monotonic()
        self._first = self._first or now
        if now - self._first > self.AT_ONCE:
            raise KeyboardInterrupt


@contextmanager
def stoppable() -> Iterator[Stop]:
    """Turn SIGTERM and Ctrl-C into a stop flag that the body polls.

    If the body ends without polling it, KeyboardInterrupt follows. A signal that this process ignores, as
    a process in a shell's background ignores Ctrl-C, stays ignored.
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


@contextmanager
def importable() -> Iterator[None]:
    """Let Python processes that are started meanwhile import this package, even if it is not installed."""
    before = os.environ.get("PYTHONPATH")
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(Path(__file__).parents[1]), before)))
    try:
        yield
    finally:
        del os.environ["PYTHONPATH"]
        if before is not None:
            os.environ["PYTHONPATH"] = before


def die_with_parent() -> None:
    """Let Linux kill this process when its parent is gone; on other systems this does nothing."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        if os.getppid() == 1:
            os._exit(1)


def keep_freed_memory() -> None:
    """Make the C library keep the memory of freed large tensors, so that the next step reuses it.

    By default glibc returns it to the system, which then fills it with zeros again, page by page: a fifth
    of a step on the CPU. With other C libraries this does nothing.
    """
    trim_threshold, mmap_threshold = -1, -3  # glibc's malloc.h
    with suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        # Older versions allow 32 MB at most; setting only the other threshold would make things worse.
        if mallopt(mmap_threshold, 1 << 30) or mallopt(mmap_threshold, 32 << 20):
            mallopt(trim_threshold, 1 << 30)


def duration(seconds: float) -> str:
    """Return a time as a person would say it, such as `40 s`, `12 min`, `3 h 5 min` or `12 days`."""
    minutes = round(seconds / 60)
    if seconds < 100:
        return f"{seconds:.0f} s"
    if minutes < 100:
        return f"{minutes} min"
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes / 1440:,.0f} days"


def counted(number: int, noun: str) -> str:
    """Return a number and its noun, such as `1 run` or `2,000 analyses`."""
    if number != 1:
        noun = {"analysis": "analyses"}.get(noun, f"{noun}s")
    return f"{number:,} {noun}"


# The last line of a job that was stopped, and how the last line of one that failed begins.
INTERRUPTED = "interrupted; the same command resumes"
FAILED = "error: "


def last_lines(snakemake_log: Path) -> list[str]:
    """Return why jobs failed, each reason once, in the order in which they failed."""
    end = " (check log file(s) for error details)"
    found: dict[str, None] = {}
    for line in _lines(snakemake_log, errors="surrogateescape"):
        name, _, rest = line.strip().partition(": ")
        if name == "log" and rest.endswith(end) and (log := _own_log(rest.removesuffix(end))):
            found[reason(log)] = None
    return list(found)


def reason(log: Path) -> str:
    """Return the last line of a failed job's log, or, if that is no reason, what probably happened."""
    lines = [line for line in _lines(log, errors="replace") if line.strip()]
    if lines and (lines[-1].startswith(FAILED) or lines[-1] == INTERRUPTED):
        return lines[-1]
    after = f", after: {lines[-1]}" if lines else ""
    return f"{log} ends without a reason; the job was killed, perhaps for memory{after}"


def _own_log(names: str) -> Path | None:
    """Return the first of a job's logs: a cluster's log, which follows, says that it failed and not why."""
    parts = names.split(", ")  # a path may contain that too
    paths = (Path(", ".join(parts[:count])) for count in range(1, len(parts) + 1))
    return next((path for path in paths if path.is_file()), None)


def _lines(file: Path, errors: str) -> list[str]:
    try:
        return file.read_text(encoding="utf-8", errors=errors).split("\n")
    except OSError:
        return []
