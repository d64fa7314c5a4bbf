"""Facts about the computation of a run: processor, versions, commit."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

from onlybn import __version__


@cache
def processor() -> str:
    """Return the processor's name, as precisely as it is known."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return name


def machine() -> str:
    """Return the processor's name, the number of logical CPUs, and the system."""
    return f"{processor()}, {os.cpu_count()} logical CPUs, {platform.system()}"


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package, and of the packages that compute runs.

    This package need not be installed: with conda, jobs find it in the checkout.
    """
    import torch

    computed_by = {"python": platform.python_version(), "torch": torch.__version__, "onlybn": __version__}
    return computed_by | {name: version(name) for name in ("numpy", "pyarrow", "safetensors")}


@cache
def commit(root: Path = Path(__file__).parents[2]) -> str | None:
    """Return the git commit of the code at the first call, with `+` if the code differs from it.

    None outside a checkout of this project: a copy inside another repository does not count, and the
    environment (`GIT_DIR`) is ignored.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}

    def git(*command: str) -> str:
        done = ["git", "--no-optional-locks", "-C", str(root), *command]
        return subprocess.run(
            done, env=environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "src/onlybn/machine.py")
        changed = git(
            "status", "--porcelain", "--untracked-files=normal", "--", "src", "Snakefile", "workflow"
        )
        return git("rev-parse", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return None
