"""Where a run was computed, and by what: processor, versions, commit."""

import os
import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path


@cache
def processor() -> str:
    """Return the processor's name, as far as it can be told."""
    name = platform.processor() or platform.machine()
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.is_file():
        lines = cpuinfo.read_text().splitlines()
        name = next((x.split(":")[1].strip() for x in lines if x.startswith("model name")), name)
    return name


def machine() -> str:
    """Return the processor's name, how many there are, and the system."""
    return f"{processor()}, {os.cpu_count()} logical CPUs, {platform.system()}"


def versions() -> dict[str, str]:
    """Return the versions of Python, of this package and of what computed the run."""
    import torch

    packages = ("onlybn", "numpy", "pyarrow", "safetensors")
    computed_by = {"python": platform.python_version(), "torch": torch.__version__}
    return computed_by | {name: version(name) for name in packages}


def commit() -> str | None:
    """Return the git commit of the code, marked `+` if files differ from it; None outside a checkout."""
    here = Path(__file__).parent
    try:
        head, changed = (
            subprocess.run(
                ["git", "-C", here, *command], capture_output=True, text=True, check=True
            ).stdout.strip()
            for command in (["rev-parse", "HEAD"], ["status", "--porcelain", "--", "."])
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return head + ("+" if changed else "")
