"""Read a study from Snakemake's configuration: its YAML file and the overrides, all errors at once.

This module does not import torch, since Snakemake reads the configuration again in every cluster job.
"""

import hashlib
import os
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
from pydantic import ValidationError

from onlybn import custom, datasets, observers
from onlybn.axes import ARCHITECTURE, AXES, OPTIONAL, RECIPE, REGIME, Axis
from onlybn.errors import UserError, unknown_message
from onlybn.strict_yaml import read_yaml, scalar
from onlybn.study import BOOLEAN, Definition, Experiment, Study, Training, fault_message, seeds_from
from onlybn.study import changed as changed_training

# The values of config.yaml, for a Snakefile that imports ours as a module and sets only some of them.
DEFAULTS = {
    "study": "digits",
    "data_dir": "data",
    "results_dir": "results",
    "device": "auto",
    "deterministic": False,
    "seeds_per_job": 5,
    "processes_per_run": 1,
    "workers": 0,
    "checkpoint_every": 0,
    "longest_job": None,
    "planned_on": None,
    "gpu_as": "gpu",
}
# Settings that are whole numbers, with their minimum.
NUMBERS = {"seeds_per_job": 1, "processes_per_run": 1, "workers": 0, "checkpoint_every": 0}
SETTINGS = tuple(DEFAULTS)
PATHS = ("study", "data_dir", "results_dir")
SELECTIONS = ("seeds", *(axis.plural for axis in AXES))
CHANGES = ("dataset", *Training.model_fields)
DEVICES = ("auto", "cpu", "cuda")
GPUS_AS = ("gpu", "gres")
# Measured step times (onlybn.workflow.costs).
COSTS = Path(__file__).parent / "workflow" / "costs.parquet"
# The most characters of a name, since a file's name has at most 255 bytes. The name of a log is longer than
# that of its experiment, and Slurm's log names contain an architecture and a regime.
LONGEST = {
    **dict.fromkeys(("name", "experiment", "dataset", "variant"), 230),
    **dict.fromkeys(("architecture", "regime"), 90),
}
# The studies of the package's own checkout, for a Snakefile that Snakemake loads from a server.
STUDIES = Path(__file__).parents[2] / "workflow" / "studies"
# Folders of results/ that are not studies, so no study may have these names.
TAKEN_NAMES = ("datasets", "reference")


def configuration_with(given: Iterable[str], folder: Path = Path()) -> dict[str, Any]:
    """Return a folder's config.yaml updated with KEY=VALUE pairs, which Snakemake's own parser reads.

    Raises UserError if the file is missing or no mapping, or a pair is malformed.
    """
    from snakemake.cli import parse_config
    from snakemake.utils import update_config

    file = folder / "config.yaml"
    if not file.is_file():
        raise UserError("config.yaml is not here; start this in the folder of the Snakefile")
    config = read_yaml(file)
    config = {} if config is None else config
    if not isinstance(config, dict):
        raise UserError(f"{file}: is not a mapping with the keys {', '.join(SETTINGS)}")
    for pair in given:
        try:
            update_config(config, parse_config([pair]))
        except ValueError:
            raise UserError(f"config: '{pair}' is not KEY=VALUE") from None
    return config


def open_study(config: Mapping[str, Any], builtin: Path) -> Study:
    """Read the study that Snakemake's `config` names, apply the overrides in `config`, and validate.

    `builtin` is the folder of the studies that come with the Snakefile; it may not exist. Afterwards this
    process can also import modules from the folder of the study file. Raises UserError with one line for each
    error found.
    """
    faults = [
        "config: " + unknown_message("key", key, [*SETTINGS, *SELECTIONS, *CHANGES])
        for key in config
        if key not in {*SETTINGS, *SELECTIONS, *CHANGES}
    ]
    settings = DEFAULTS | {key: value for key, value in config.items() if key in SETTINGS}
    settings |= {key: _scalar(settings[key]) for key in SETTINGS if key not in PATHS}
    if settings["device"] not in DEVICES:
        faults.append("config: device: " + unknown_message("device", settings["device"], DEVICES))
    if settings["gpu_as"] not in GPUS_AS:
        faults.append("config: gpu_as: " + unknown_message("resource", settings["gpu_as"], GPUS_AS))
    longest = settings["longest_job"]
    if longest is not None and (type(longest) is not int or longest < 1):
        faults.append(
            f"config: longest_job: {longest!r} is not a whole number of minutes of at least 1, or null"
        )
    if not isinstance(settings["deterministic"], bool):
        faults.append(f"config: deterministic: {settings['deterministic']!r} is not allowed; {BOOLEAN}")
    faults += [
        f"config: {key}: {settings[key]!r} is not a whole number of at least {least}"
        for key, least in NUMBERS.items()
        if type(settings[key]) is not int or settings[key] < least
    ]
    faults += [
        f"config: {key}: {settings[key]!r} is not the path of a folder"
        for key in ("data_dir", "results_dir")
        if not isinstance(settings[key], str) or not settings[key]
    ]
    for key in PATHS:
        if isinstance(settings[key], str) and settings[key]:
            try:
                settings[key] = _one_spelling(settings[key])
            except ValueError as error:
                faults.append(f"config: {key}: {error}")
    if not faults:
        faults += _cannot_write(Path(settings["results_dir"]))

    overrides = {k: _scalar_or_list(v) for k, v in config.items() if k in (*SELECTIONS, *CHANGES)}
    file = None
    try:
        file = _study_file(settings["study"], builtin if builtin.is_dir() else STUDIES)
        raw = _read_study(file)
        custom.import_from(file.resolve().parent)
    except UserError as error:
        faults.append(str(error))
    if file is None or faults:
        raise UserError("\n".join(faults))

    whole = _validate(raw, {}, file)
    given = {key: value for key, value in overrides.items() if key in CHANGES}
    length = {key: value for key, value in given.items() if key in ("epochs", "steps")}
    if length == {f"{whole.training.unit}s": whole.training.length}:
        for key in length:  # rescaling by 1 could still round the schedule
            del given[key]
        length = {}
    changed = _validate(_with_changes(raw, whole, given), given, file)
    # A change appears in the name by its validated value, unless the study, with its schedule moved to the
    # new length, already has that value.
    moved = _validate(_with_changes(raw, whole, length), length, file)
    unchanged = {key: _current(whole if key in length else moved, key) for key in given}
    changes = {key: _current(changed, key) for key in given if _current(changed, key) != unchanged[key]}
    selected, selections = _select(changed, overrides, file)
    runs_name = file.stem + _suffix(changes)
    study = Study(
        name=runs_name + _suffix(selections),
        runs_name=runs_name,
        definition=selected,
        **{key: settings[key] for key in SETTINGS if key != "study"},
    )
    _check_names(study)
    _check_trainings(study)
    first, *_ = study.points(next(iter(study.experiments)))
    study.recordings(first)  # raises if two experiments record one run with different options
    recorded = (study.definition.record if g.record is None else g.record for g in study.experiments.values())
    observers.check_processes({name for names in recorded for name in names}, study.processes_per_run)
    return study


def _check_trainings(study: Study) -> None:
    """Reject too small a last batch or part of the images, and a precision without measured costs."""
    points = [run for name in study.experiments for run in study.points(name)]
    for run in {(run.dataset, run.value(RECIPE)): run for run in points}.values():
        recipe = run.value(RECIPE)
        dataset, part = datasets.known(run.dataset), "" if recipe == RECIPE.default else f"recipes.{recipe}."
        if dataset.examples:
            examples, _ = dataset.examples
            classes = dataset.classes if dataset.targets == "classes" else 1
            run.training.check_validation(examples, classes, f"{part}validation")
            run.training.check_examples(examples, classes, f"{part}examples")
            run.training.check_last_batch(examples, study.processes_per_run, f"{part}batch_size")
    for precision in dict.fromkeys(run.training.precision for run in points):
        _check_planned_on(study.planned_on, precision)


def _check_names(study: Study) -> None:
    """Reject names too long for a file, and names that Snakemake takes for an endless recursion."""
    repeated = _repetition()
    wildcards = {
        "experiment": study.experiments,
        "dataset": study.datasets,
        "architecture": study.names(ARCHITECTURE),
        "regime": study.names(REGIME),
        "variant": {run.point[2] for name in study.experiments for run in study.points(name)},
    }
    faults = [
        f"study: the {kind} {_brief(name)} has {len(name)} characters; allowed: {LONGEST[kind]}, since it is"
        " part of file names"
        for kind, names in {"name": [study.name], **wildcards}.items()
        for name in names
        if len(name) > LONGEST[kind]
    ]
    faults += [
        f"study: the {kind} {_brief(name)} ends with {_brief(part)} 20 times or more, which Snakemake takes"
        " for an endless recursion; choose another name"
        for kind, names in wildcards.items()
        for name in names
        if (part := repeated(custom.to_path(name)))
    ]
    if faults:
        raise UserError("\n".join(faults))


def _repetition() -> Callable[[str], str | None]:
    """Return Snakemake's function that returns the repeated end of a path, if any.

    Training needs no Snakemake (benchmarks/gpu.py); without it, no path is too repetitive.
    """
    try:
        from snakemake.io import PeriodicityDetector
    except ModuleNotFoundError:
        return lambda path: None
    return PeriodicityDetector().is_periodic


def _brief(name: str) -> str:
    return f"'{name}'" if len(name) <= 40 else f"'{name[:40]}…'"


def _check_planned_on(device: object, precision: str) -> None:
    """Reject a device whose step times were not measured in that precision."""
    if device is None:
        return
    table = pq.read_table(COSTS, columns=["device", "precision"]).to_pylist()
    known = sorted({row["device"] for row in table if precision in (row["precision"], "auto")})
    if device not in known:
        raise UserError(
            f"config: planned_on: {unknown_message('measured device', device, known)};"
            " to measure another device, run python benchmarks/scaling.py"
        )


def _study_file(study: object, builtin: Path) -> Path:
    """Return the file of a study, given as the name of a built-in study or as a path."""
    files = {path.stem: path for path in builtin.rglob("*.yaml")}
    names = sorted(files)
    if not isinstance(study, str) or not study:
        raise UserError(f"config: study: {study!r} is neither the name nor the path of a study")
    if study in files:
        return files[study]
    file = Path(study)
    if file.suffix not in (".yaml", ".yml"):
        raise UserError(
            "config: study: " + unknown_message("study", study, names) + ", or the path of a .yaml file"
        )
    if not file.is_file():
        raise UserError(f"config: study: the file {file} does not exist")
    if file.resolve() in {path.resolve() for path in files.values()}:
        return file
    if file.stem in (*names, *TAKEN_NAMES):
        raise UserError(f"config: study: the name '{file.stem}' of {file} is taken; rename the file")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]*", file.stem):
        raise UserError(
            f"config: study: the name of {file} may contain only letters, digits and hyphens, since the"
            " folder of its results has that name"
        )
    return file


def _read_study(file: Path) -> dict[str, Any]:
    raw = read_yaml(file)
    if not isinstance(raw, dict):
        raise UserError(f"{file}: a study is a mapping with the keys {', '.join(Definition.model_fields)}")
    return raw


def _validate(raw: dict[str, Any], changes: Mapping[str, Any], file: Path) -> Definition:
    try:
        return Definition.model_validate(raw)
    except ValidationError as error:
        lines = [line for fault in error.errors() for line in _sentences(fault, changes, file)]
        raise UserError("\n".join(lines)) from None


def _sentences(fault: Mapping[str, Any], changes: Mapping[str, Any], file: Path) -> list[str]:
    path = [part for part in fault["loc"] if part != "[key]"]
    key = ".".join(str(part) for part in path)
    where = f"{file}: {key}"
    if path and path[-1] in changes:
        where = f"config: {path[-1]}"
    elif path == ["training"] and set(changes) & set(Training.model_fields):
        where = "config: training"
    if fault["type"] == "extra_forbidden":
        return [f"{where}: " + unknown_message("key", path[-1], _keys_at(path[:-1]))]
    return [f"{where if key else file}: {line}" for line in fault_message(fault).splitlines()]


def _keys_at(path: list[Any]) -> list[str]:
    model = {"training": Training, "experiments": Experiment}.get(path[0] if path else "", Definition)
    return list(model.model_fields)


def _scalar_or_list(value: object) -> object:
    """Parse a --config value: Snakemake passes `a,b` as a string and `[0,1]` as a list of strings."""
    if isinstance(value, list):
        return [_scalar_or_list(item) for item in value]
    if not isinstance(value, str):
        return _scalar(value)
    text = value.strip()
    if text.startswith("[") and text.endswith("]"):
        return [_scalar_or_list(part) for part in text[1:-1].split(",") if part.strip()]
    if "," in text:
        return [_scalar_or_list(part) for part in text.split(",") if part.strip()]
    return _scalar(text)


def _scalar(value: object) -> object:
    """Parse a string as YAML 1.2 does; 2.0 becomes 2, and 1e18 stays as it is, also in names."""
    if isinstance(value, str):
        value = scalar(value.strip())
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return int(value)
    return value


def _current(definition: Definition, key: str) -> object:
    return definition.dataset if key == "dataset" else getattr(definition.training, key)


def _with_changes(raw: Mapping[str, Any], whole: Definition, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Apply a changed dataset and changed training keys; a changed length rescales the schedule."""
    dataset = changes.get("dataset", raw["dataset"])
    given = {key: value for key, value in changes.items() if key != "dataset"}
    lengths = {key: value for key, value in given.items() if key in ("epochs", "steps")}
    recipes = {name: _moved(whole, name, lengths) for name in whole.recipes}
    training = changed_training(whole.training, given)
    return {**raw, "training": training, "dataset": dataset, "recipes": recipes}


def _moved(whole: Definition, name: str, lengths: Mapping[str, Any]) -> dict[str, Any]:
    """Return a recipe whose length and schedule are rescaled as the study's length is."""
    recipe, training = whole.recipes[name], whole.training_of(name)
    (unit, length), *more = [*lengths.items(), ("", None)]
    known = len(more) == 1 and type(length) is int and length >= 1
    if not known or training.unit != whole.training.unit:  # steps cannot be converted to epochs
        return recipe
    rescaled = max(1, round(training.length * length / whole.training.length))
    moved = changed_training(training, {unit: rescaled})
    keys = dict.fromkeys(unit if key in ("epochs", "steps") else key for key in recipe)
    return {key: moved[key] for key in keys if key in moved}


def _select(
    definition: Definition, overrides: Mapping[str, Any], file: Path
) -> tuple[Definition, dict[str, object]]:
    """Keep only the selected values of each axis and the selected seeds; drop experiments left empty."""
    faults: list[str] = []
    selections: dict[str, object] = {}
    kept = {name: grid.model_dump() for name, grid in definition.experiments.items()}
    for axis in AXES:
        key = axis.plural
        if key not in overrides:
            continue
        given = overrides[key] if isinstance(overrides[key], list) else [overrides[key]]
        wanted = list(dict.fromkeys(_spelled(axis, str(name)) for name in given if name is not None))
        present = list(dict.fromkeys(name for grid in kept.values() for name in grid[key]))
        if axis is RECIPE:
            allowed = [RECIPE.default, *definition.recipes]
            faults += [
                f"config: {key}: {unknown_message('recipe', n, allowed)}" for n in wanted if n not in allowed
            ]
        else:
            faults += [
                f"config: {key}: {fault}" for name in wanted if (fault := _not_present(axis, name, present))
            ]
        if not wanted:
            faults.append(f"config: {key}: is empty; at least one is needed")
        before = {name: grid[key] for name, grid in kept.items()}
        new = [name for name in wanted if name not in present]
        for grid in kept.values():
            # An experiment that does not set an optional axis is extended by what no experiment names.
            extended = axis in OPTIONAL and grid[key] == [axis.default]
            grid[key] = [name for name in grid[key] if name in wanted] + (new if extended else [])
        if axis in OPTIONAL and not faults:
            left = [grid for grid in kept.values() if all(grid[of.plural] for of in AXES)]
            misfits = (m for grid in left for m in axis.misfits(grid[key], grid[REGIME.plural]))
            faults += dict.fromkeys(f"config: {key}: {misfit}" for misfit in misfits)
        if {name: set(grid[key]) for name, grid in kept.items()} != {n: set(b) for n, b in before.items()}:
            selections[key] = [name for name in dict.fromkeys([*present, *wanted]) if name in wanted]
    seeds = definition.seeds
    if "seeds" in overrides:
        try:
            seeds = seeds_from(overrides["seeds"])
        except ValueError as error:
            faults.append(f"config: seeds: {error}")
        if any((grid["seeds"] or definition.seeds) != seeds for grid in kept.values()):
            selections |= _named_seeds(seeds)
    if faults:
        raise UserError("\n".join(faults))
    kept = {name: grid for name, grid in kept.items() if all(grid[axis.plural] for axis in AXES)}
    if not kept:
        raise UserError("config: this selection matches no run of any experiment of the study")

    def drawn(wanted: Mapping[str, list[str]]) -> dict[str, list[str]]:
        left = {name: [e for e in experiments if e in kept] for name, experiments in wanted.items()}
        return {name: experiments for name, experiments in left.items() if experiments}

    if "seeds" in overrides:  # also replaces the seeds that an experiment sets for itself
        kept = {name: grid | {"seeds": None} for name, grid in kept.items()}
    raw = definition.model_dump(exclude_unset=True)
    raw |= {"experiments": kept, "seeds": seeds}
    raw |= {"figures": drawn(definition.figures), "tables": drawn(definition.tables)}
    return _validate(raw, overrides, file), selections


def _spelled(axis: Axis, name: str) -> str:
    """Return a value in its one spelling; an unknown one as it is."""
    try:
        return axis.spelled(name)
    except ValueError:
        return name


def _not_present(axis: Axis, name: str, present: list[str]) -> str | None:
    """Return why a name cannot be selected: it is no value of the axis, or the study does not name it."""
    try:
        axis.check(name)
    except ValueError as error:
        return str(error)
    if name in present or axis in OPTIONAL:
        return None
    return unknown_message(f"{axis.name} of this study", name, present)


def _named_seeds(seeds: list[int]) -> dict[str, object]:
    """Return how seeds appear in a study's name: as a number of seeds from 0, as one seed, or as a list."""
    if seeds == list(range(len(seeds))):
        return {"seeds": len(seeds)}
    return {"seed": seeds[0]} if len(seeds) == 1 else {"seeds": seeds}


def _suffix(overrides: Mapping[str, object]) -> str:
    """Return the suffix of a study's name for validated overrides, such as `_epochs-5_seeds-0,4`."""

    def text(value: object) -> str:
        if isinstance(value, list):
            return ",".join(text(item) for item in value) or "none"
        if isinstance(value, str):
            return custom.to_path(value)
        return str(_scalar(value)).lower()

    suffix = "".join(f"_{key}-{text(value)}" for key, value in sorted(overrides.items()))
    if len(suffix) > 150:  # a folder's name has at most 255 bytes
        suffix = f"_{hashlib.sha256(suffix.encode()).hexdigest()[:16]}"
    return suffix


def _one_spelling(path: str) -> str:
    """Return the normal form of a path: `~` and variables expanded, nothing redundant.

    A relative path stays relative unless it leads out of this folder: Snakemake keeps copies of outputs
    below its own folder by their paths, and `..` would place them, and delete, in another. Raises ValueError
    if a variable or a user does not exist.
    """
    whole = os.path.expandvars(os.path.expanduser(path))  # noqa: PTH111 - Path's raises
    if unknown := re.search(r"^~[^/]*|\$(\w+|\{\w+\})", whole):
        raise ValueError(f"'{path}': {unknown[0]} is not defined on this machine; write the full path")
    normal = os.path.normpath(whole)
    # After a symbolic link, `..` leads to another folder than the text suggests.
    if os.path.realpath(normal) != os.path.realpath(whole):
        return os.path.realpath(whole)
    return os.path.normpath(Path.cwd() / normal) if normal.startswith(os.pardir) else normal


def _cannot_write(folder: Path) -> list[str]:
    """Return the reasons why results cannot be written below `folder`."""
    if set("{}") & set(str(folder)):
        return [
            f"config: results_dir: {folder} contains a brace, which Snakemake reads as a wildcard; choose a"
            " path without braces"
        ]
    for path in (folder, *folder.parents):
        if path.is_symlink() and not path.exists():
            return [
                f"config: results_dir: {path} is a link to {path.readlink()}, which does not exist; create"
                " that folder, or choose another one"
            ]
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        return [f"config: results_dir: {folder} cannot be created, since {existing} is not a folder"]
    if not os.access(existing, os.W_OK | os.X_OK):
        return [f"config: results_dir: {folder} cannot be written, since {existing} is not writable"]
    return []
