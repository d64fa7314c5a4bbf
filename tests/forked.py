"""Python processes that import nothing slowly: each is forked from one that has the modules already.

So are the jobs of a Snakemake that is started here, since each would import torch or matplotlib anew.
"""

import multiprocessing
import os
import runpy
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from subprocess import CalledProcessError, CompletedProcess
from typing import TYPE_CHECKING

from onlybn.jobs import die_with_parent

if TYPE_CHECKING:
    from snakemake.script import PythonScript

_IMPORTED = multiprocessing.get_context("forkserver")
_IMPORTED.set_forkserver_preload(
    [
        *("snakemake.cli", "snakemake_executor_plugin_slurm"),
        *("onlybn.runs.block", "onlybn.training.loop", "onlybn.workflow.paths"),
        *("onlybn.runs.collect", "onlybn.drawing.make", "onlybn.drawing.draw", "onlybn.analyses.measure"),
    ]
)
SECONDS = 300


def run(function: Callable, *arguments, out: str = os.devnull, error: str = os.devnull) -> int:
    """Call a module's function in a process of its own that writes to two files; return its exit status."""
    process = _IMPORTED.Process(target=_call, args=(function, arguments, out, error))
    process.start()
    process.join(SECONDS)
    if process.exitcode is None:
        process.kill()
        process.join()
        raise TimeoutError(f"{function.__name__}{arguments} did not end within {SECONDS} seconds")
    return process.exitcode


def python_m(name: str, *arguments: str, folder: Path) -> CompletedProcess:
    """Do what `python -m NAME ARGUMENTS` does in a folder."""
    with tempfile.NamedTemporaryFile("r") as out, tempfile.NamedTemporaryFile("r") as error:
        status = run(_be_module, name, arguments, folder, out=out.name, error=error.name)
        return CompletedProcess([name, *arguments], status, out.read(), error.read())


def _call(function: Callable, arguments: tuple, out: str, error: str) -> None:
    for number, (name, mode) in enumerate([(os.devnull, "r"), (out, "w"), (error, "w")]):
        with open(name, mode) as file:
            os.dup2(file.fileno(), number)
    function(*arguments)


def _be_module(name: str, arguments: tuple[str, ...], folder: Path) -> None:
    os.chdir(folder)
    sys.argv[1:], sys.path[0] = arguments, str(folder)
    if name == "snakemake":
        from snakemake.script import PythonScript

        PythonScript.execute_script = _run_script
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def _run_script(script: "PythonScript", file: str, edit: bool = False) -> None:
    """Run a job's script in a fork of Snakemake; raise CalledProcessError if it fails."""
    child = os.fork()
    if child == 0:
        try:
            die_with_parent()
            os.closerange(3, os.sysconf("SC_OPEN_MAX"))
            sys.argv, sys.path[0] = [file], str(Path(file).parent)
            runpy.run_path(file, run_name="__main__")
        except SystemExit:
            pass  # it has told why
        except BaseException:
            traceback.print_exc()
        os._exit(1)  # a script that does its work ends its process itself
    if status := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise CalledProcessError(status, file)
