"""What a run records of its code: the versions, and the commit, whatever repository is around it."""

import subprocess
import tomllib
from importlib.metadata import PackageNotFoundError

import pytest
from conftest import ROOT

from onlybn import machine


def commit(root):
    return machine.commit.__wrapped__(root)


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """Create repositories from a folder's files."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")

    def make(folder):
        def git(*command):
            settings = ("-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "init.defaultBranch=main")
            done = ["git", "-C", str(folder), *settings, *command]
            return subprocess.run(done, check=True, capture_output=True, text=True).stdout.strip()

        git("init", "-q")
        git("add", ".")
        git("commit", "-qm", "all")
        return git("rev-parse", "HEAD")

    return make


def checkout(folder):
    for name in ("src/onlybn/machine.py", "workflow/rules/train.smk", "Snakefile", "README.md"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    return folder


@pytest.mark.parametrize(
    "changed", ["src/onlybn/machine.py", "Snakefile", "workflow/rules/train.smk", "workflow/rules/new.smk"]
)
def test_a_change_of_the_computing_code_marks_the_commit(repository, tmp_path, changed):
    head = repository(checkout(tmp_path))
    (tmp_path / "README.md").write_text("other words")
    assert commit(tmp_path) == head
    (tmp_path / changed).write_text("changed")
    assert commit(tmp_path) == f"{head}+"


def test_a_repository_around_a_copy_of_the_code_does_not_count(repository, tmp_path, monkeypatch):
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "text.tex").touch()
    thesis = repository(tmp_path / "thesis")
    copy = checkout(tmp_path / "thesis" / "onlybn-0.1.0")
    assert commit(copy) is None
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "thesis" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "thesis"))
    assert commit(checkout(tmp_path / "elsewhere")) is None
    monkeypatch.undo()
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    own = repository(copy)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "thesis" / ".git"))
    assert commit(copy) == own != thesis
    monkeypatch.setenv("PATH", "")
    assert commit(copy) is None


def test_the_versions_are_known_where_the_package_is_not_installed(monkeypatch):
    installed = machine.version

    def version(name):
        if name == "onlybn":
            raise PackageNotFoundError(name)
        return installed(name)

    monkeypatch.setattr(machine, "version", version)
    versions = machine.versions()
    assert list(versions) == ["python", "torch", "onlybn", "numpy", "pyarrow", "safetensors"]
    assert versions["onlybn"] == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
