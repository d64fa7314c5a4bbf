"""The environment: where it may lie, and what is installed into it. Runs without any dependency.

    python -m onlybn.environment FOLDER               checks that Snakemake can start jobs from FOLDER
    FOLDER/bin/python -m onlybn.environment FOLDER --install [--torch-index URL]

installs the pinned dependencies and this project, as `make install` does.
"""

import argparse
import re
import subprocess
import sys
import sysconfig
from pathlib import Path

from onlybn.errors import UserError

ROOT = Path(__file__).parents[2]


def check_python(path: str) -> None:
    """Raise UserError if Snakemake can start no job by that path of Python.

    Snakemake writes it into the command of every script's job as it is, without quotes.
    """
    if special := re.search(r"""[\s'"\\$&|;<>()*?[\]{}`]""", path):
        raise UserError(
            f"the environment's Python is {path}, and Snakemake can start no job with {special[0]!r} in"
            " that path; put the environment below a folder without spaces and special characters"
        )


def split_requirements(locked: str) -> tuple[str, list[str], list[str]]:
    """Split a locked requirements file for an installation whose torch comes from another index.

    Returns the other requirements with their hashes, the pins of torch and torchvision, and the names of
    the packages that only torch's default build for Linux needs: CUDA's libraries and Triton.
    """
    others, torch, cuda = [], [], []
    for block in re.split(r"^(?=[\w.-]+==)", locked, flags=re.M):
        name, _, pin = block.split(" ")[0].partition("==")
        if name in ("torch", "torchvision"):
            torch.append(f"{name}=={pin}")
        elif name == "triton" or name.startswith(("nvidia-", "cuda-")):
            cuda.append(name)
        else:
            others.append(block)
    return "".join(others), torch, cuda


def install(folder: Path, index: str | None = None) -> None:
    """Install requirements.txt and this project into the environment in `folder`, whose Python runs this.

    `index` is the address of a package index that torch and torchvision come from, without hashes; ""
    stands for requirements.txt alone, and None for the index of the last installation, which
    `folder/torch-index` holds. `folder/installed` marks a complete installation. Raises UserError if pip
    fails.
    """
    last, installed = folder / "torch-index", folder / "installed"
    before = last.read_text(encoding="utf-8") if last.exists() else ""
    index = before if index is None else index
    if index and not re.match(r"(https?|file)://", index):
        raise UserError(
            f"TORCH_INDEX is '{index}'; allowed: the address of a package index, https://… or file:///…"
        )
    requirements = ROOT / "requirements.txt"
    others, torch, cuda = split_requirements(requirements.read_text(encoding="utf-8"))
    from_index = ["install", "-i", index, "--only-binary", ":all:", *torch]
    if index:
        print(
            f"torch and torchvision come from {index}, without hashes. {len(cuda)} packages of CUDA libraries"
            " and Triton are left out: with torch built for CPUs, .venv takes about 2 GB instead of 6.",
            flush=True,
        )
        requirements = folder / "requirements-without-torch.txt"
        requirements.write_text(others, encoding="utf-8")
        wanted = f"{' and '.join(torch)} could not be installed from TORCH_INDEX={index}"
        _pip([*from_index, "--no-deps", "--force-reinstall"], wanted)
        installed.unlink(missing_ok=True)
        last.write_text(index, encoding="utf-8")
        _pip(["uninstall", "--yes", *cuda], "CUDA's libraries could not be removed")
    else:
        print(
            "Installing the pinned dependencies into .venv: about 6 GB, a few minutes. On a machine without"
            " a GPU, TORCH_INDEX=URL saves 4 GB (docs/cluster.md).",
            flush=True,
        )
        installed.unlink(missing_ok=True)
        if before:  # pip would take torch built for CPUs for the pinned one
            _pip(["uninstall", "--yes", "torch", "torchvision"], "torch could not be removed")
        last.write_text("", encoding="utf-8")
    _pip(["install", "-r", str(requirements)], "the pinned dependencies could not be installed")
    if index:
        _pip(from_index, "what torch needs could not be installed")  # a CUDA build's own libraries
    _pip(["install", "--no-deps", "--no-build-isolation", "-e", str(ROOT)], "onlybn could not be installed")
    # On all cores, unlike pip. Some packages hold files that are not Python, so that it may fail.
    compiled = [sysconfig.get_path("purelib"), str(ROOT / "src")]
    subprocess.run([sys.executable, "-m", "compileall", "-qq", "-j", "0", *compiled], check=False)
    installed.touch()


def _pip(arguments: list[str], wrong: str) -> None:
    """Run this Python's pip; raise UserError with `wrong` and pip's last error if it fails."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments]
    if arguments[0] == "install":
        command.append("--no-compile")
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        reason = re.findall(r"^ERROR: (.*)", done.stderr, re.M) or done.stderr.splitlines() or ["no message"]
        raise UserError(f"{wrong}; pip says: {reason[-1].strip()}")


def main() -> None:
    """Run the command; a user's mistake ends in its sentence and exit status 1."""
    parser = argparse.ArgumentParser(prog="python -m onlybn.environment", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--install", action="store_true")
    parser.add_argument("--torch-index", metavar="URL", help="where torch and torchvision come from")
    requested = parser.parse_args()
    try:
        check_python(str(requested.folder.absolute() / "bin" / "python"))
        if requested.install:
            install(requested.folder, requested.torch_index)
    except UserError as error:
        sys.exit(error.shown())


if __name__ == "__main__":
    main()
