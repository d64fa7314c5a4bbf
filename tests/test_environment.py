"""`make install`: the pinned dependencies, with torch from another index where one is given."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from fakes.backend import wheel

from onlybn.environment import split_requirements


def publish(index: Path, name: str, version: str, *needs: str) -> str:
    """Put a package into a package index, and return its line of requirements.txt."""
    folder = index / name
    folder.mkdir(parents=True, exist_ok=True)
    file = wheel(folder, name, version, *needs)
    with (folder / "index.html").open("a") as page:
        page.write(f'<a href="{file}">{file}</a>\n')
    digest = hashlib.sha256((folder / file).read_bytes()).hexdigest()
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


class Project:
    """A copy of the Makefile with a few empty packages as dependencies, in indices that are folders."""

    def __init__(self, folder: Path):
        self.folder = folder
        for name in (
            "Makefile",
            *(f"src/onlybn/{name}.py" for name in ("__init__", "errors", "environment")),
        ):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
        shutil.copy(ROOT / "tests" / "fakes" / "backend.py", folder)
        (folder / "pyproject.toml").write_text(
            '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
            '[project]\nname = "onlybn"\nversion = "0.1.0"\n'
        )
        self.usual, self.cpu = folder / "usual", folder / "cpu"
        lines = [
            publish(self.usual, "nvidia-cublas", "13.1"),
            publish(self.usual, "sympy", "1.14"),
            publish(self.usual, "torch", "2.11.0", "sympy", "nvidia-cublas", "triton"),
            publish(self.usual, "torchvision", "0.26.0", "torch"),
            publish(self.usual, "triton", "3.6"),
        ]
        (folder / "requirements.txt").write_text("".join(lines))
        publish(self.cpu, "torch", "2.11.0+cpu", "sympy")
        publish(self.cpu, "torchvision", "0.26.0+cpu", "torch")

    def make(self, *settings: str) -> subprocess.CompletedProcess:
        """Run `make install`."""
        usual = {"PIP_INDEX_URL": self.usual.as_uri(), "PIP_CONFIG_FILE": os.devnull, "PIP_NO_INPUT": "1"}
        others = ("PIP_", "MAKE", "MFLAGS", "TORCH_INDEX")  # as the tests' own make may have set them
        environment = {name: value for name, value in os.environ.items() if not name.startswith(others)}
        command = ["make", "install", f"PYTHON={sys.executable}", *settings]
        return subprocess.run(
            command, cwd=self.folder, env=environment | usual, capture_output=True, text=True, timeout=300
        )

    def installed(self) -> dict[str, str]:
        """Return the packages of the environment with their versions."""
        command = [self.folder / ".venv/bin/python", "-m", "pip", "freeze", "--exclude-editable"]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return dict(re.findall(r"^(\S+)==(\S+)$", done.stdout, re.M))


def test_torch_comes_from_the_index_that_make_install_is_given(tmp_path):
    project = Project(tmp_path)
    cpu = f"TORCH_INDEX={project.cpu.as_uri()}"

    def refused(index: str, sentence: str) -> None:
        done = project.make(f"TORCH_INDEX={index}")
        assert done.returncode
        assert re.fullmatch(rf"error: {sentence}.*\nmake: .+\n", done.stderr)

    refused("cpu", "TORCH_INDEX is 'cpu'; allowed: the address of a package index")
    assert project.make().returncode == 0
    pinned = {"nvidia-cublas": "13.1", "torch": "2.11.0", "torchvision": "0.26.0", "triton": "3.6"}
    assert pinned.items() <= project.installed().items()

    done = project.make(cpu)
    assert done.returncode == 0, done.stderr
    assert "2 packages of CUDA libraries and Triton are left out" in done.stdout
    without_cuda = {"sympy": "1.14", "torch": "2.11.0+cpu", "torchvision": "0.26.0+cpu"}
    assert without_cuda.items() <= project.installed().items()
    assert not {"nvidia-cublas", "triton"} & project.installed().keys()

    for again in ([], [cpu]):
        assert "Nothing to be done" in project.make(*again).stdout
    os.utime(tmp_path / "requirements.txt")
    assert "2 packages of CUDA" in project.make().stdout  # the index of the last installation
    missing = "torch==2.11.0 and torchvision==0.26.0 could not be installed from TORCH_INDEX"
    refused(tmp_path.as_uri(), missing)
    assert without_cuda.items() <= project.installed().items()

    assert project.make("TORCH_INDEX=").returncode == 0
    assert pinned.items() <= project.installed().items()
    assert "Nothing to be done" in project.make().stdout


def test_other_packages_are_held_to_their_hashes_beside_another_torch(tmp_path):
    project = Project(tmp_path)
    requirements = tmp_path / "requirements.txt"
    other = re.sub(r"(sympy.*\n.*sha256:)\w{64}", rf"\g<1>{'0' * 64}", requirements.read_text())
    requirements.write_text(other)
    done = project.make(f"TORCH_INDEX={project.cpu.as_uri()}")
    assert re.match(r"error: the pinned dependencies could not be installed; pip says: .+\nmake", done.stderr)


@pytest.mark.parametrize("name", ["numpy", "sympy", "numba", "setuptools"])
def test_what_any_torch_needs_stays_among_the_hashed_requirements(name):
    others, torch, cuda = split_requirements((ROOT / "requirements.txt").read_text())
    assert re.search(rf"^{name}==.*\\\n    --hash=sha256:", others, re.M)
    assert torch == ["torch==2.11.0", "torchvision==0.26.0"]
    assert "triton" in cuda
    left = re.findall(r"^([\w.-]+)==", others, re.M)
    assert not [package for package in left if re.match("nvidia|cuda|triton|torch", package)]
    assert len(left) + len(torch) + len(cuda) == len(
        re.findall(r"^[\w.-]+==", (ROOT / "requirements.txt").read_text(), re.M)
    )
