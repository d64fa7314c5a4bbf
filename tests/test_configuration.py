"""Configuration of a study: overrides, names, and a sentence for every error."""

import fcntl
import os
import re
import subprocess
import sys
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from conftest import BUILTIN, CONFIG, ROOT
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from onlybn import axes
from onlybn.configuration import DEFAULTS, configuration_with, open_study
from onlybn.errors import UserError
from onlybn.networks.variants import NAMES as VARIANTS
from onlybn.papers.only_batchnorm.published import IMAGENET_TRAINING
from onlybn.workflow.paths import Workflow, open_snakefile

HEALTH = [HealthCheck.function_scoped_fixture]

STUDY = """
dataset: digits
training: {epochs: 4, batch_size: 32, learning_rate: 0.1, milestones: [2, 3], flip: false}
seeds: 3
experiments:
  depth: {architectures: [resnet-8, resnet-14], regimes: [all, batchnorm]}
  one: {architectures: [resnet-8], regimes: [batchnorm]}
figures:
  figure-2: [depth]
  figure-3: [one]
tables:
  accuracy: [depth, one]
"""


@pytest.fixture
def study(tmp_path):
    """Open the study above, changed by `edit` and the given configuration."""

    def open_(edit=None, text=STUDY, name="mine.yaml", **config):
        content = yaml.safe_load(text) if edit else None
        if edit:
            edit(content)
        file = tmp_path / name
        file.write_text(yaml.safe_dump(content) if edit else text)
        folders = {"data_dir": "data", "results_dir": str(tmp_path / "results")}
        defaults = CONFIG | folders | {"study": str(file), "seeds_per_job": 1}
        return open_study(defaults | config, BUILTIN)

    return open_


def sentences_of(opened, *args, **kwargs) -> list[str]:
    """The sentences of the error that opening a study raises, if any."""
    try:
        opened(*args, **kwargs)
    except UserError as error:
        return str(error).splitlines()
    return []


def faults(opened, *args, **kwargs) -> list[str]:
    with pytest.raises(UserError) as error:
        opened(*args, **kwargs)
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILTIN.rglob("*.yaml")))
def test_every_built_in_study_is_valid(study, name):
    opened = study(study=name)
    assert opened.name == name
    assert all(opened.runs(experiment) for experiment in opened.experiments)


def test_the_imagenet_study_is_the_papers(study):
    opened = study(study="imagenet")
    training = opened.definition.training.model_dump()
    assert {name: training[name] for name in IMAGENET_TRAINING} == IMAGENET_TRAINING
    assert opened.definition.seeds == [0, 1, 2]
    depths = (18, 34, 50, 101, 200)
    assert opened.names(axes.ARCHITECTURE) == [f"imagenet-resnet-{depth}" for depth in depths]


def test_the_cifar10_study_is_the_papers(study):
    opened = study(study="cifar10")
    training = opened.definition.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (160, 128, 0.1)
    assert (training.milestones, training.momentum, training.weight_decay) == ([80, 120], 0.9, 1e-4)
    assert opened.definition.seeds == [0, 1, 2, 3, 4]
    depths = [n for n in opened.names(axes.ARCHITECTURE) if n.startswith("resnet")]
    widths = [n for n in opened.names(axes.ARCHITECTURE) if n.startswith("wrn")]
    assert depths == [f"resnet-{d}" for d in (14, 32, 56, 110, 218, 434, 866)]
    assert widths == [f"wrn-14-{w}" for w in (2, 4, 8, 16, 32)]  # with ResNet-14, six widths


def test_a_study_expands_to_its_grid_times_its_seeds(study):
    runs = study().runs("depth")
    assert len(runs) == 2 * 2 * 3
    assert str(runs[0]) == "resnet-8 all seed 0"
    assert len({(run.architecture, run.regime, run.seed) for run in runs}) == 12


def test_the_digest_depends_only_on_the_specification(study):
    opened = study()
    one = opened.run("resnet-8", "all", "kaiming-normal_gamma-uniform", seed=0)
    other = opened.run("resnet-8", "all", "kaiming-normal_gamma-uniform", seed=1)
    assert one.digest == other.digest
    assert study(device="cpu", seeds_per_job=3).run(one.architecture, one.regime, one.variant) == one
    assert one.digest != opened.run("resnet-8", "batchnorm", one.variant).digest
    assert one.digest != study(momentum=0.8).run("resnet-8", "all", one.variant).digest


def test_a_selection_shares_the_runs_of_the_whole_study(study):
    for seeds in (2, "0,1", "[0,1]", ["0", "1"], [0, 1]):
        opened = study(seeds=seeds)
        assert opened.definition.seeds == [0, 1]
        assert opened.runs_name == "mine"
        assert opened.name.startswith("mine_seeds-")
    more = study(seeds=5)
    assert (more.runs_name, more.definition.seeds) == ("mine", [0, 1, 2, 3, 4])


def test_a_selection_drops_experiments_that_become_empty(study):
    opened = study(architectures="resnet-14")
    assert list(opened.experiments) == ["depth"]
    assert list(opened.definition.figures) == ["figure-2"]
    assert opened.definition.tables == {"accuracy": ["depth"]}
    assert study(regimes="batchnorm").names(axes.REGIME) == ["batchnorm"]
    assert study(architectures="resnet-8,resnet-14").name == "mine"


def test_a_changed_study_has_a_separate_folder(study):
    opened = study(epochs=8)
    assert opened.name == opened.runs_name == "mine_epochs-8"
    assert study(epochs=4).name == "mine"
    assert study(epochs="8", seeds=1).name == "mine_epochs-8_seeds-1"
    assert study(epochs=8, seeds=1).runs_name == "mine_epochs-8"
    assert study(dataset="cifar10-jpeg", flip=True).name == "mine_dataset-cifar10-jpeg_flip-true"
    assert study(learning_rate="1e-3").definition.training.learning_rate == 0.001


def test_changed_epochs_rescale_the_schedule(study):
    assert study(epochs=2).definition.training.milestones == [1, 1.5]
    assert study(epochs=2, milestones="[]").definition.training.milestones == []
    assert study(milestones="[1,2]").definition.training.milestones == [1, 2]
    assert study(milestones=1).definition.training.milestones == [1]


def test_a_schedule_given_together_with_epochs_is_not_rescaled(study):
    opened = study(epochs=8, milestones="2,3", warmup=0.5)  # milestones as in the file
    assert opened.definition.training.milestones == [2, 3]
    assert opened.definition.training.warmup == 0.5
    assert opened.name == "mine_epochs-8_milestones-2,3_warmup-0.5"
    assert study(epochs=8.0, milestones=[2]).name == "mine_epochs-8_milestones-2"


GIVEN = {
    "deterministic=true": {"deterministic": True},
    "longest_job=null": {"longest_job": None},
    "workers=010": {"workers": 10},
    "learning_rate=1e-2": {"name": "mine_learning_rate-0.01"},
    "weight_decay=1e-4": {"name": "mine"},
    "epochs=2e0": {"name": "mine_epochs-2"},
    "milestones=[1,2]": {"name": "mine_milestones-1,2"},
    "seeds=0,1": {"name": "mine_seeds-2"},
    "seeds=[3]": {"name": "mine_seed-3"},
    "seeds=[010,0x1]": {"name": "mine_seeds-1,10"},
}


@pytest.mark.parametrize("given", GIVEN)
def test_status_and_plan_read_overrides_as_the_workflow_does(study, tmp_path, given):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    key = given.partition("=")[0]
    opened = study(**{key: configuration_with([given], tmp_path)[key]})
    ((attribute, expected),) = GIVEN[given].items()
    assert getattr(opened, attribute) == expected


def test_equivalent_requests_have_one_name(study):
    for same in (
        [{"seeds": [0, 1]}, {"seeds": 2}, {"seeds": "1,0"}],
        [{"milestones": 1}, {"milestones": "1.0"}, {"milestones": "[1.0]"}],
        [{"architectures": "resnet-14"}, {"architectures": "resnet-14,resnet-14"}],
        [{"regimes": "all,batchnorm"}, {}, {"flip": "false"}, {"seeds": 3}, {"milestones": [2.0, 3]}],
        [{"epochs": 8}, {"epochs": 8, "milestones": [4, 6]}, {"epochs": 8, "warmup": 0}],
        [{"weight_decay": 0}, {"weight_decay": "-0.0"}],
    ):
        opened = [study(**given) for given in same]
        assert len({one.name for one in opened}) == 1, same
        assert len({one.run("resnet-8", "all", VARIANTS[0]).digest for one in opened}) == 1, same
    zeros = [study(put("training", "weight_decay", zero)) for zero in (0, -0.0)]
    assert len({one.run("resnet-8", "all", VARIANTS[0]).digest for one in zeros}) == 1


VALUES = {
    "epochs": [3, 4, "4.0", 8, 12],
    "batch_size": [30, 32, "33"],
    "learning_rate": [0.1, "1e-1", 1, "1.0", 1e18, 1e-18],
    "milestones": [[], 1, "1.0", [1.0], [0.5, 1], "0.5,1", [2]],
    "warmup": [0, "-0.0", 0.5, 1],
    "shift": [0, 0.125, 0.25],
    "precision": ["auto", "float32"],
    "flip": [False, "False"],
    "seeds": [1, 2, 3, [0], [2], [3], [0, 1], [1, 0], [0, 2], [2, 3]],
    "architectures": ["resnet-8", ["resnet-14"], "resnet-14,resnet-8"],
    "regimes": ["all", "batchnorm", "batchnorm,all", "all,all"],
}


@pytest.mark.parametrize("key", VALUES)
@given(shared=st.fixed_dictionaries({}, optional={key: st.sampled_from(v) for key, v in VALUES.items()}))
@settings(max_examples=4, derandomize=True, deadline=None, database=None, suppress_health_check=HEALTH)
def test_any_two_requests_differ_in_name_or_are_equal(study, key, shared):
    opened = [study(**shared | {key: value}) for value in VALUES[key]]
    for one, other in combinations(opened, 2):
        assert (one.name == other.name) == (one.definition == other.definition)
        same = one.definition.training == other.definition.training
        assert (one.runs_name == other.runs_name) == same


def test_the_names_of_committed_results_do_not_change(study):
    committed = ROOT / "results" / "reference"
    requests = 0
    for folder in committed.glob("cifar10*_*"):
        name, *parts = re.split(
            r"_(?=(?:dataset|epochs|milestones|precision|architectures|regimes|seeds)-)", folder.name
        )
        given = dict(part.split("-", 1) for part in parts)
        given = {key: "[]" if value == "none" else value for key, value in given.items()}
        assert study(study=name, **given).name == folder.name
        requests += 1
    assert requests == 6


def test_a_folder_name_stays_short(study):
    many = ",".join(str(seed) for seed in range(300))
    assert len(study(seeds=many).name) < 100


def test_blocks_are_named_by_their_seeds(study):
    def names(**config):
        workflow = Workflow(study(**config))
        return [Path(workflow.block_log(seeds)).stem for seeds in workflow.study.seed_blocks()]

    assert names(seeds=5, seeds_per_job=2) == ["seeds-0-to-1", "seeds-2-to-3", "seed-4"]
    assert names(seeds=[0, 4], seeds_per_job=2) == ["seeds-0-and-4"]
    assert names(seeds=[0, 1, 3, 5, 6, 7], seeds_per_job=9) == ["seeds-0-to-1-and-3-and-5-to-7"]
    assert len(names(seeds=[2**62 + 2 * n for n in range(40)], seeds_per_job=40)[0]) < 100


def test_blocks_hold_consecutive_seeds(study):
    assert study(seeds=5, seeds_per_job=2).seed_blocks() == [[0, 1], [2, 3], [4]]
    assert study(seeds=5, seeds_per_job=9).seed_blocks() == [[0, 1, 2, 3, 4]]


def put(*path_and_value):
    *path, key, value = path_and_value

    def edit(content):
        for part in path:
            content = content[part]
        content[key] = value

    return edit


BAD_FILES = {
    "unknown key": (put("trainng", {}), "unknown key 'trainng'; did you mean 'training'?"),
    "unknown training key": (put("training", "epoch", 3), "training.epoch: unknown key 'epoch'; did you"),
    "missing key": (lambda content: content.pop("seeds"), "seeds: is missing"),
    "missing epochs": (
        lambda content: content["training"].pop("epochs"),
        "training: epochs or steps is missing",
    ),
    "epochs and steps": (put("training", "steps", 5), "training: epochs and steps are both given"),
    "architecture": (
        put("experiments", "one", "architectures", ["resnet-15"]),
        "experiments.one.architectures.0: 'resnet-15' does not exist: a CIFAR-10 ResNet has 6n + 2",
    ),
    "regime": (
        put("experiments", "one", "regimes", ["batchnrom"]),
        "experiments.one.regimes.0: unknown regime 'batchnrom'; did you mean 'batchnorm'? Allowed: all,",
    ),
    "repeated": (put("experiments", "one", "regimes", ["all", "all"]), "named more than once: all"),
    "no regime": (put("experiments", "one", "regimes", []), "regimes: is empty; at least one"),
    "variant": (put("experiments", "one", "variants", ["he"]), "unknown variant 'he'"),
    "dataset": (put("dataset", "cifar"), "dataset: unknown dataset 'cifar'; did you mean 'cifar10'?"),
    "zero seeds": (put("seeds", 0), "seeds: 0 is not a number of seeds of at least 1"),
    "same seeds": (put("seeds", [1, 1]), "seeds: [1, 1] is not a number of seeds"),
    "a seed as a number": (
        put("seeds", 20240101),
        "seeds: 20240101 seeds are more than 10,000; write [20240101] for one seed",
    ),
    "negative seed": (put("seeds", [-1]), "seeds: [-1] is not a number of seeds"),
    "true seeds": (put("seeds", True), "seeds: True is not a number of seeds"),
    "late milestone": (
        put("training", "milestones", [2, 9]),
        "training: milestones 9 are not before the last epoch, 4",
    ),
    "order": (put("training", "milestones", [3, 2]), "milestones [3.0, 2.0] are not in increasing"),
    "warm-up": (put("training", "warmup", 4), "warmup of 4 epochs is not shorter than the 4 epochs"),
    "epochs text": (put("training", "epochs", "many"), "epochs: 'many' is not a whole number of at"),
    "epochs true": (put("training", "epochs", True), "epochs: True is not a whole number of at"),
    "epochs half": (put("training", "epochs", 1.5), "epochs: 1.5 is not a whole number of at least 1"),
    "epochs zero": (put("training", "epochs", 0), "epochs: 0 is not a whole number of at least 1"),
    "rate": (put("training", "learning_rate", 0), "learning_rate: 0 is not a number above 0"),
    "rate nan": (put("training", "learning_rate", float("nan")), "learning_rate: nan is not a number"),
    "momentum": (put("training", "momentum", 1), "momentum: 1 is not a share from 0 to below 1"),
    "decay": (put("training", "weight_decay", -1), "weight_decay: -1 is not a number of at least 0"),
    "precision": (put("training", "precision", "half"), "precision: 'half' is not allowed; allowed: 'fl"),
    "flip": (put("training", "flip", True), "training.flip: a flipped image of digits is not one of"),
    "flip word": (
        put("training", "flip", "maybe"),
        "training.flip: 'maybe' is not allowed; write true or false",
    ),
    "training list": (put("training", [1]), "training: [1] is not a mapping"),
    "experiments": (put("experiments", {}), "experiments: is empty; at least one is needed"),
    "experiment name": (
        put("experiments", "A/B", {"architectures": ["resnet-8"], "regimes": ["all"]}),
        "'A/B' is not a name of lower-case letters",
    ),
    "figure": (put("figures", "figure-99", ["one"]), "unknown figure 'figure-99'; did you mean"),
    "figure's experiment": (
        put("figures", "figure-2", ["deep"]),
        "figures.figure-2: unknown experiment 'deep'",
    ),
    "table": (put("tables", "acuracy", ["one"]), "unknown table 'acuracy'; did you mean 'accuracy'?"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_an_error_in_a_file_is_one_sentence_with_the_file_and_key(study, case):
    edit, sentence = BAD_FILES[case]
    (fault,) = faults(study, edit)
    assert "mine.yaml: " in fault
    assert sentence in fault


def test_all_errors_are_reported_at_once(study):
    def edit(content):
        content["training"] |= {"epochs": 0, "momentum": 2, "typo": 1}
        content["experiments"]["one"]["regimes"] = ["al"]
        content["record"] = ["weigths", "weigths", "inptus"]

    assert len(faults(study, edit)) == 7


TWO_READINGS = {
    "010": "010 is 8 in YAML 1.1 and 10 in YAML 1.2; write 10 or 8",
    "0500": "0500 is 320 in YAML 1.1 and 500 in YAML 1.2; write 500 or 320",
    "08": "08 is a text in YAML 1.1 and 8 in YAML 1.2; write 8 or '08' in quotes",
    "0o10": "0o10 is a text in YAML 1.1 and 8 in YAML 1.2; write 8 or '0o10' in quotes",
    "1:30": "1:30 is 90 in YAML 1.1 and a text in YAML 1.2; write 90 or '1:30' in quotes",
    "1_000": "1_000 is 1000 in YAML 1.1 and a text in YAML 1.2; write 1000 or '1_000' in quotes",
    "0b11": "0b11 is 3 in YAML 1.1 and a text in YAML 1.2; write 3 or '0b11' in quotes",
    "off": "off is false in YAML 1.1 and a text in YAML 1.2; write true or false or 'off' in quotes",
    "2024-01-02": "2024-01-02 is a date in YAML 1.1 and a text in YAML 1.2; write '2024-01-02' in quotes",
}


@pytest.mark.parametrize("spelled", TWO_READINGS)
def test_values_that_yaml_1_1_and_1_2_read_differently_are_rejected_with_the_line(study, spelled):
    text = STUDY.replace("epochs: 4", f"epochs: {spelled}").replace("seeds: 3", f"seeds: {spelled}")
    lines = [line.partition("mine.yaml: ")[2] for line in faults(study, text=text)]
    assert lines == [f"line 3: {TWO_READINGS[spelled]}", f"line 4: {TWO_READINGS[spelled]}"]
    quoted = STUDY.replace("epochs: 4", f"epochs: '{spelled}'")
    assert all("YAML 1.1" not in line for line in sentences_of(study, text=quoted))


def test_values_that_yaml_1_1_and_1_2_read_alike_are_accepted(study):
    text = STUDY.replace("0.1", "1e-3").replace("epochs: 4", "epochs: 0x10").replace("false", "FALSE")
    training = study(text=text).definition.training
    assert (training.learning_rate, training.epochs, training.flip) == (0.001, 16, False)


def test_config_files_are_read_as_strictly_as_studies(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(CONFIG).replace("deterministic: false", "deterministic: no"))
    line = file.read_text().split("deterministic")[0].count("\n") + 1
    sentence = f"{file}: line {line}: no is false in YAML 1.1 and a text in YAML 1.2; write true or false"
    with pytest.raises(UserError) as plan:
        configuration_with([], tmp_path)
    assert str(plan.value).startswith(sentence)
    assert refused_as_snakefile(configfiles=[str(file)]).startswith(f"error: {sentence}")


def test_an_empty_config_file_sets_nothing_and_one_that_is_no_mapping_is_refused(tmp_path):
    file = tmp_path / "config.yaml"
    file.write_text("# study: digits\n")
    assert configuration_with(["seeds=2"], tmp_path) == {"seeds": 2}
    for text in ("- study: digits\n", "digits\n", "[]\n"):
        file.write_text(text)
        with pytest.raises(UserError, match=rf"^{file}: is not a mapping with the keys study, data_dir, "):
            configuration_with(["seeds=2"], tmp_path)


def refused_as_snakefile(main=True, prefix="", configfiles=()) -> str:
    """The sentence with which the Snakefile fails, read directly or as a module."""
    modifier = SimpleNamespace(is_main_snakefile=lambda: main, modify_path=lambda path: prefix + path)
    folder = SimpleNamespace(get_path_or_uri=lambda secret_free: str(ROOT))
    snakemake = SimpleNamespace(modifier=modifier, current_basedir=folder, configfiles=configfiles)
    with pytest.raises(SystemExit) as refusal:
        open_snakefile(snakemake, {"device": "gpu"})
    return str(refusal.value)


def test_a_snakefile_module_gets_its_configuration_and_the_rest_from_config_yaml(tmp_path):
    assert DEFAULTS == CONFIG
    (tmp_path / "importers.yaml").write_text("on: 010\n")  # none of our keys
    for refusal in (
        refused_as_snakefile(),
        refused_as_snakefile(False, configfiles=[tmp_path / "importers.yaml"]),
    ):
        assert (
            refusal
            == "error: config: device: unknown device 'gpu'; did you mean 'cpu'? Allowed: auto, cpu, cuda"
        )
    assert refused_as_snakefile(False, prefix="x/").startswith(
        "error: module: prefix and replace_prefix are not"
    )


def test_an_environment_that_cannot_start_jobs_is_rejected(monkeypatch):
    check = [sys.executable, "-m", "onlybn.environment"]
    monkeypatch.setattr(sys, "executable", "/a b/bin/python")
    assert refused_as_snakefile() == (
        "error: the environment's Python is /a b/bin/python, and Snakemake can start no job with ' ' in that"
        " path; put the environment below a folder without spaces and special characters"
    )
    for folder, right in (("a b", False), ("a(b)", False), ("größe-1.0_x+y", True)):
        done = subprocess.run(
            [*check, folder], env={"PYTHONPATH": str(ROOT / "src")}, capture_output=True, text=True
        )
        assert (done.returncode == 0) == right
        assert right or done.stderr.startswith("error: the environment's Python is /")


BAD_TEXTS = {
    "not YAML": ("a: [", "not valid YAML"),
    "not a mapping": ("- a", "a study is a mapping with the keys paper, dataset"),
    "empty": ("", "a study is a mapping"),
    "twice": ("seeds: 1\nseeds: 2", "line 2: not valid YAML: the key 'seeds' is repeated"),
    "python": ("seeds: !!python/object/apply:os.system [ls]", "not valid YAML"),
    "bytes": ("\x00", "cannot be read as YAML"),
    "deep": ("[" * 3000, "cannot be read as YAML"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_file_that_is_no_study_gives_one_sentence(study, case):
    text, sentence = BAD_TEXTS[case]
    (fault,) = faults(study, text=text)
    assert sentence in fault


BAD_CONFIGS = {
    "key": ({"epoch": 5}, "config: unknown key 'epoch'; did you mean 'epochs'?"),
    "study": ({"study": "cifar"}, "config: study: unknown study 'cifar'; did you mean 'cifar10'?"),
    "no study": ({"study": None}, "config: study: None is neither"),
    "no file": ({"study": "nowhere/x.yaml"}, "config: study: the file nowhere/x.yaml does not exist"),
    "device": ({"device": "gpu"}, "config: device: unknown device 'gpu'"),
    "per job": ({"seeds_per_job": 0}, "config: seeds_per_job: 0 is not a whole number of at least 1"),
    "processes": ({"processes_per_run": "two"}, "config: processes_per_run: 'two' is not a whole number of"),
    "too many": (
        {"processes_per_run": 15},
        "batch_size: an epoch's last batch has 29 of 32 images, fewer than two for each process of a run;"
        " set processes_per_run to at most 14, or choose another batch_size",
    ),
    "yes": ({"flip": "yes"}, "config: flip: 'yes' is not allowed; write true or false"),
    "one": ({"flip": 1}, "flip: 1 is not allowed; write true or false"),
    "on": ({"deterministic": "on"}, "config: deterministic: 'on' is not allowed; write true or false"),
    "deterministic": (
        {"deterministic": "maybe"},
        "config: deterministic: 'maybe' is not allowed; write true or false",
    ),
    "last batch": ({"batch_size": 4}, "batch_size: an epoch's last batch has 1 of 4 images, fewer than two"),
    "longest job": ({"longest_job": 0}, "longest_job: 0 is not a whole number of minutes of at least 1, or"),
    "longest day": ({"longest_job": "1d"}, "longest_job: '1d' is not a whole number of minutes"),
    "planned on": (
        {"planned_on": "AMD EPYC"},
        "config: planned_on: unknown measured device 'AMD EPYC'; did you mean 'AMD EPYC (AVX",
    ),
    "gpu as": ({"gpu_as": "gpus"}, "config: gpu_as: unknown resource 'gpus'; did you mean 'gpu'?"),
    "workers": ({"workers": -1}, "config: workers: -1 is not a whole number of at least 0"),
    "shift": (
        {"study": "imagenette", "shift": 0.1},
        "training.shift: imagenette160's photographs are cropped at random, not shifted; allowed: 0",
    ),
    "data_dir": ({"data_dir": None}, "config: data_dir: None is not the path of a folder"),
    "architectures": (
        {"architectures": "resnet-20"},
        "config: architectures: unknown architecture of this study 'resnet-20'; did you mean",
    ),
    "no architecture": ({"architectures": "resnet-15"}, "'resnet-15' does not exist: a CIFAR-10 ResNet has"),
    "regimes": ({"regimes": "al"}, "config: regimes: unknown regime 'al'; did you mean 'all'?"),
    "seeds": ({"seeds": 0}, "config: seeds: 0 is not a number of seeds"),
    "nothing left": (
        {"architectures": "resnet-14", "regimes": "output"},
        "config: regimes: unknown regime of this study 'output'",
    ),
    "epochs": ({"epochs": "x"}, "config: epochs: 'x' is not a whole number of at least 1"),
    "milestones": ({"milestones": "[7]"}, "config: training: milestones 7 are not before the last"),
    "dataset": ({"dataset": "svhn"}, "config: dataset: unknown dataset 'svhn'"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_an_error_on_the_command_line_is_one_sentence_with_the_key(study, case):
    config, sentence = BAD_CONFIGS[case]
    (fault,) = faults(study, **config)
    assert sentence in fault


@pytest.mark.parametrize("name", ["digits.yaml", "reference.yaml", "datasets.yaml"])
def test_names_that_are_taken_are_rejected(study, name):
    (fault,) = faults(study, name=name)
    assert "is taken; rename the file" in fault


@pytest.mark.parametrize("name", ["a_b.yaml", "a b.yaml", "..yaml"])
def test_names_that_cannot_be_folders_are_rejected(study, name):
    (fault,) = faults(study, name=name)
    assert "letters, digits and hyphens" in fault or "is not a study" in fault or "unknown study" in fault


def test_equivalent_paths_have_one_normal_form(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("MINE", "mine")
    for spelled in ("results", "results/", "./results", "results//x/..", "x/../results", "results/."):
        assert study(results_dir=spelled).results_dir == "results"
    for spelled in ("~/results", "$HOME/results/", "${HOME}//results"):
        opened = study(results_dir=spelled, data_dir=spelled)
        assert opened.results_dir == opened.data_dir == str(tmp_path / "results")
    beside = tmp_path.parent / "beside"  # Snakemake would keep copies of its outputs in another folder
    assert study(results_dir="../beside").results_dir == str(beside)
    (tmp_path / "mine.yaml").write_text(STUDY)
    assert study(study="~/$MINE.yaml").name == "mine"
    (tmp_path / "far" / "folder").mkdir(parents=True)
    (tmp_path / "link").symlink_to("far/folder")
    assert study(results_dir="link/../results").results_dir == str(tmp_path / "far" / "results")


def test_results_may_be_in_the_current_folder(study, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workflow = Workflow(study(results_dir="."))
    patterns = [
        *workflow.everything,
        *workflow.dataset_files("digits"),
        workflow.dataset_log("digits"),
        workflow.run_pattern,
    ]
    assert all(path == os.path.normpath(path) for path in patterns)


BAD_PATHS = {
    "variable": ("$NOWHERE/x", "'$NOWHERE/x': $NOWHERE is not defined on this machine; write the full path"),
    "user": (
        "~nobody-such/x",
        "'~nobody-such/x': ~nobody-such is not defined on this machine; write the full path",
    ),
    "braces": ("a{b}", "a{b} contains a brace, which Snakemake reads as a wildcard; choose a path without"),
    "link": ("link", "link is a link to nowhere, which does not exist; create that folder, or choose"),
    "behind a link": ("link/x", "link is a link to nowhere, which does not exist; create that folder"),
}


@pytest.mark.parametrize("case", BAD_PATHS)
def test_an_impossible_path_gives_one_sentence(study, tmp_path, monkeypatch, case):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("nowhere")
    path, sentence = BAD_PATHS[case]
    (fault,) = faults(study, results_dir=path)
    assert fault.startswith(f"config: results_dir: {sentence}")


def experiment(name):
    return put("experiments", name, {"architectures": ["resnet-8"], "regimes": ["all"]})


BAD_NAMES = {
    "study": (
        None,
        "a" * 240,
        "study: the name 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa…' has 240 characters",
    ),
    "long": (experiment("ab-c" * 60), "mine", "study: the experiment 'ab-cab-cab-c"),
    "equal": (experiment("a" * 30), "mine", "ends with 'a' 20 times or more, which Snakemake takes"),
}


@pytest.mark.parametrize("case", BAD_NAMES)
def test_a_name_that_no_file_can_have_gives_one_sentence(study, case):
    edit, name, sentence = BAD_NAMES[case]
    fault, *_ = faults(study, edit, name=f"{name}.yaml")
    assert sentence in fault


def test_a_study_opens_without_snakemake(study, monkeypatch):
    """As `benchmarks/gpu.py` opens it, on a machine that only trains."""
    for name in [name for name in sys.modules if name.partition(".")[0] == "snakemake"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "snakemake", None)
    assert Workflow(study()).study.name == "mine"


def test_files_with_the_longest_names_can_be_created(study, tmp_path):
    name = "".join(chr(97 + n % 23) + chr(97 + n % 19) for n in range(115))
    workflow = Workflow(study(experiment(name), name=f"{name}.yaml"))
    (run, *_) = workflow.study.runs(name)
    logs = [f"{workflow.drawn}/logs/collect/{name}-activations.log", workflow.places(run)[0]]
    for path in logs:
        Path(path).parent.mkdir(parents=True)
        Path(path).touch()


def test_a_file_system_without_locks_gives_one_sentence_before_any_job(study, monkeypatch):
    def refuse(*_):
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(SystemExit) as refusal:
        Workflow(study()).start(local=True)
    assert re.fullmatch(
        r"error: \S+/results\S* is on a file system without locks \(flock: No locks available\), so two"
        r" jobs could write the same run; choose another file system with --config results_dir=…",
        str(refusal.value),
    )


def test_where_figures_are_is_logged_only_if_there_are_any(study, caplog):
    caplog.set_level("INFO")
    workflow = Workflow(study())
    workflow.finish()
    Path(workflow.drawn, "tables").mkdir(parents=True)
    workflow.finish()
    Path(workflow.drawn, "figures").mkdir(parents=True)
    workflow.finish()
    tables = f"ables are in {workflow.drawn}/tables"
    both = f"Figures are in {workflow.drawn}/figures and t{tables}"
    assert caplog.messages == ["Done", f"T{tables}", both]


def test_results_below_a_regular_file_are_rejected(study, tmp_path):
    (tmp_path / "file").write_text("")
    (fault,) = faults(study, results_dir=str(tmp_path / "file" / "results"))
    assert fault.endswith("file is not a folder")


def test_reading_a_study_imports_neither_torch_nor_pandas():
    code = (
        "import sys; from onlybn.workflow.paths import open_workflow;"
        "heavy = {'torch', 'torchvision', 'pandas', 'matplotlib', 'seaborn', 'scipy', 'sklearn'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
