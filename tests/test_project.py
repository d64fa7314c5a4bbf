"""The project's own files: versions that agree, and nothing of the machine they were made on."""

import ast
import re
import subprocess
import tomllib
from functools import cache

import forked
import pytest
import yaml
from conftest import ROOT

SRC = ROOT / "src"


def locked() -> dict[str, set[str]]:
    pins: dict[str, set[str]] = {}
    for name, pin in re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "requirements.txt").read_text(), re.M):
        pins.setdefault(name, set()).add(pin)
    return pins


def test_environment_yml_gives_conda_users_the_locked_versions():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    (pip,) = [entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict)]
    given = dict(line.split(";")[0].strip().split("==") for line in pip)
    pins = locked()
    assert all(version in pins[name] for name, version in given.items())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    direct = {re.match(r"[\w.-]+", requirement)[0] for requirement in project["dependencies"]}
    assert set(given) == direct


def test_torch_and_torchvision_are_the_pair_that_was_measured():
    assert locked()["torch"] == {"2.11.0"}
    assert locked()["torchvision"] == {"0.26.0"}


def test_the_lock_names_no_index_and_hashes_everything():
    text = (ROOT / "requirements.txt").read_text()
    assert "://" not in text
    assert "index" not in text
    for block in re.split(r"\n(?=[\w.-]+==)", text):
        assert "--hash=sha256:" in block


def test_no_file_holds_a_path_of_a_machine():
    listed = subprocess.run(["git", "-C", ROOT, "ls-files"], capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.splitlines():
        content = (ROOT / name).read_bytes()
        assert not re.search(rb"(?<![\w.])/(work|home|root|Users)/\w", content), name


def imports(module: ast.Module) -> set[str]:
    """Return what a module imports when it is imported, and for type checkers: not what a function does."""
    found, left = set(), [module]
    while left:
        for node in ast.iter_child_nodes(left.pop()):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
            elif not isinstance(node, ast.FunctionDef):
                left.append(node)
    return found


def circle(imported: dict[str, set[str]]) -> list[str] | None:
    """Return modules each of which imports the next, the last one the first, if there are any."""
    done: set[str] = set()

    def from_(name: str, path: list[str]) -> list[str] | None:
        if name in path:
            return path[path.index(name) :]
        if name in done:
            return None
        found = next(filter(None, (from_(other, [*path, name]) for other in sorted(imported[name]))), None)
        done.add(name)
        return found

    return next(filter(None, (from_(name, []) for name in sorted(imported))), None)


@cache
def modules() -> dict[str, set[str]]:
    """Return what each module of the package imports of it; `from package import module`, the module."""
    paths = {
        ".".join(path.relative_to(SRC).with_suffix("").parts).removesuffix(".__init__"): path
        for path in SRC.rglob("*.py")
    }
    imported = {name: imports(ast.parse(path.read_text())) & paths.keys() for name, path in paths.items()}
    return {
        name: {other for other in others if not any(o.startswith(f"{other}.") for o in others)}
        for name, others in imported.items()
    }


def test_no_module_imports_itself_by_way_of_others():
    imported = modules()
    assert "onlybn.training.loop" in imported["onlybn.runs.block"]
    assert circle(imported) is None
    assert circle(imported | {"onlybn.study": {"onlybn.runs.block"}})


# From images to reports; what is requested (study, axes, …) and the base are imported by every stage.
STAGES = (
    ("datasets", "models"),
    ("networks",),
    ("training", "observers"),
    ("runs",),
    ("analyses", "exporting"),
    ("runs.collect",),
    ("drawing", "judging"),
    ("papers",),
    ("workflow",),
)


def stage(module: str) -> int | None:
    """The place in STAGES of a module of the package, by the longest name that fits."""
    parts = module.split(".")[1:]
    names = {name: place for place, names in enumerate(STAGES) for name in names}
    fitting = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((names[name] for name in fitting if name in names), None)


def test_no_stage_imports_a_later_one():
    assert stage("onlybn.runs.collect") > stage("onlybn.analyses.affine") > stage("onlybn.runs.block")
    for module, imported in modules().items():
        here = stage(module)
        later = {
            name
            for name in imported - {"onlybn.papers"}  # the types of records, and a paper by its name
            if here is not None and (stage(name) or 0) > here
        }
        assert not later, f"{module} imports {later}"


def test_a_report_without_a_target_is_refused_as_other_commands_refuse(tmp_path):
    done = forked.python_m("onlybn.workflow.report", folder=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("usage: python -m onlybn.workflow.report [-h] TARGET [KEY=VALUE ...]\n")
    assert "error: the following arguments are required: TARGET" in done.stderr


def test_a_report_is_written_beside_the_figures_of_its_study(reproduced):
    for config, code, told in (
        ("seeds=2", 0, "Report created"),
        ("seeds=two", 1, "error: config: seeds: "),
    ):
        done = forked.python_m("onlybn.workflow.report", "figure-1", config, folder=reproduced.folder)
        assert done.returncode == code
        assert told in done.stdout + done.stderr
    assert (reproduced.folder / "results/tiny/report.html").stat().st_size > 1_000_000
