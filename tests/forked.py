"""Python processes that import nothing slowly: each is forked from one that has the modules already."""

import multiprocessing
import os
from collections.abc import Callable
from pathlib import Path

_IMPORTED = multiprocessing.get_context("forkserver")
_IMPORTED.set_forkserver_preload(
    ["snakemake.cli", "snakemake_executor_plugin_slurm", "onlybn.runs.block", "onlybn.training.loop"]
)
SECONDS = 300


def run(function: Callable, *arguments, out: str | Path = os.devnull, error: str | Path = os.devnull) -> int:
    """Call a module's function in a process of its own that writes to two files; return its exit status."""
    process = _IMPORTED.Process(target=_call, args=(function, arguments, out, error))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        raise TimeoutError(f"{function.__name__} did not end within {SECONDS} seconds")
    return process.exitcode


def _call(function: Callable, arguments: tuple, out: str | Path, error: str | Path) -> None:
    for number, (name, mode) in enumerate([(os.devnull, "r"), (out, "w"), (error, "w")]):
        with open(name, mode) as file:
            os.dup2(file.fileno(), number)
    function(*arguments)
