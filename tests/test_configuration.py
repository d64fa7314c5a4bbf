"""From configuration to study: overrides, names, and a sentence for every fault."""

import subprocess
import sys

import pytest
import yaml
from conftest import BUILTIN, CONFIG

from onlybn.configuration import configuration_with, open_study
from onlybn.errors import UserError
from onlybn.tables.claims import IMAGENET_TRAINING

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
    """Open a study: the text above, changed by `edit` and the configuration given."""

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


def faults(opened, *args, **kwargs) -> list[str]:
    with pytest.raises(UserError) as error:
        opened(*args, **kwargs)
    return str(error.value).splitlines()


@pytest.mark.parametrize("name", sorted(path.stem for path in BUILTIN.glob("*.yaml")))
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
    assert opened.names("architectures") == [f"imagenet-resnet-{depth}" for depth in depths]


def test_the_cifar10_study_is_the_papers(study):
    opened = study(study="cifar10")
    training = opened.definition.training
    assert (training.epochs, training.batch_size, training.learning_rate) == (160, 128, 0.1)
    assert (training.milestones, training.momentum, training.weight_decay) == ([80, 120], 0.9, 1e-4)
    assert opened.definition.seeds == [0, 1, 2, 3, 4]
    depths = [n for n in opened.names("architectures") if n.startswith("resnet")]
    widths = [n for n in opened.names("architectures") if n.startswith("wrn")]
    assert depths == [f"resnet-{d}" for d in (14, 32, 56, 110, 218, 434, 866)]
    assert widths == [f"wrn-14-{w}" for w in (2, 4, 8, 16, 32)]  # with ResNet-14, six widths


def test_a_study_expands_to_its_grid_times_its_seeds(study):
    runs = study().runs("depth")
    assert len(runs) == 2 * 2 * 3
    assert str(runs[0]) == "resnet-8 all seed 0"
    assert len({(run.architecture, run.regime, run.seed) for run in runs}) == 12


def test_the_digest_is_of_the_specification_alone(study):
    opened = study()
    one = opened.run("resnet-8", "all", "kaiming-normal_gamma-uniform", seed=0)
    other = opened.run("resnet-8", "all", "kaiming-normal_gamma-uniform", seed=1)
    assert one.digest == other.digest
    assert study(device="cpu", seeds_per_job=3).run(one.architecture, one.regime, one.variant) == one
    assert one.digest != opened.run("resnet-8", "batchnorm", one.variant).digest
    assert one.digest != study(momentum=0.8).run("resnet-8", "all", one.variant).digest


def test_selections_share_the_runs_of_the_whole_study(study):
    for given in (2, "0,1", "[0,1]", ["0", "1"], [0, 1]):
        opened = study(seeds=given)
        assert opened.definition.seeds == [0, 1]
        assert opened.runs_name == "mine"
        assert opened.name.startswith("mine_seeds-")
    more = study(seeds=5)
    assert (more.runs_name, more.definition.seeds) == ("mine", [0, 1, 2, 3, 4])


def test_a_selection_drops_what_it_leaves_empty(study):
    opened = study(architectures="resnet-14")
    assert list(opened.experiments) == ["depth"]
    assert list(opened.definition.figures) == ["figure-2"]
    assert opened.definition.tables == {"accuracy": ["depth"]}
    assert study(regimes="batchnorm").names("regimes") == ["batchnorm"]
    assert study(architectures="resnet-8,resnet-14").name == "mine"


def test_changes_go_to_a_folder_of_their_own(study):
    opened = study(epochs=8)
    assert opened.name == opened.runs_name == "mine_epochs-8"
    assert study(epochs=4).name == "mine"
    assert study(epochs="8", seeds=1).name == "mine_epochs-8_seeds-1"
    assert study(epochs=8, seeds=1).runs_name == "mine_epochs-8"
    assert study(dataset="cifar10-jpeg", flip=True).name == "mine_dataset-cifar10-jpeg_flip-true"
    assert study(learning_rate="1e-3").definition.training.learning_rate == 0.001


def test_changed_epochs_move_the_schedule_in_proportion(study):
    assert study(epochs=2).definition.training.milestones == [1, 1.5]
    assert study(epochs=2, milestones="[]").definition.training.milestones == []
    assert study(milestones="[1,2]").definition.training.milestones == [1, 2]
    assert study(milestones=1).definition.training.milestones == [1]


def test_a_schedule_that_is_given_beside_epochs_is_kept(study):
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
    "seeds=0,1": {"name": "mine_seeds-0,1"},
}


@pytest.mark.parametrize("given", GIVEN)
def test_status_and_plan_read_what_is_given_as_the_workflow_does(study, tmp_path, given):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    key = given.partition("=")[0]
    opened = study(**{key: configuration_with([given], tmp_path)[key]})
    ((attribute, expected),) = GIVEN[given].items()
    assert getattr(opened, attribute) == expected


def test_a_folders_name_stays_short(study):
    many = ",".join(str(seed) for seed in range(300))
    assert len(study(seeds=many).name) < 100


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
    "missing epochs": (lambda content: content["training"].pop("epochs"), "training.epochs: is missing"),
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
    "flip word": (put("training", "flip", "maybe"), "training.flip: 'maybe' is not true or false"),
    "training list": (put("training", [1]), "training: [1] is not a mapping"),
    "experiments": (put("experiments", {}), "experiments: is empty; at least one is needed"),
    "experiment name": (
        put("experiments", "A/B", {"architectures": ["resnet-8"], "regimes": ["all"]}),
        "'A/B' is not a name of small letters",
    ),
    "figure": (put("figures", "figure-99", ["one"]), "unknown figure 'figure-99'; did you mean"),
    "figure's experiment": (
        put("figures", "figure-2", ["deep"]),
        "figures.figure-2: unknown experiment 'deep'",
    ),
    "table": (put("tables", "acuracy", ["one"]), "unknown table 'acuracy'; did you mean 'accuracy'?"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_a_fault_in_a_file_is_one_sentence_with_the_file_and_key(study, case):
    edit, sentence = BAD_FILES[case]
    (fault,) = faults(study, edit)
    assert "mine.yaml: " in fault
    assert sentence in fault


def test_every_fault_is_told_at_once(study):
    def edit(content):
        content["training"] |= {"epochs": 0, "momentum": 2, "typo": 1}
        content["experiments"]["one"]["regimes"] = ["al"]

    assert len(faults(study, edit)) == 4


BAD_TEXTS = {
    "not YAML": ("a: [", "not valid YAML"),
    "not a mapping": ("- a", "a study is a mapping with the keys dataset, training"),
    "empty": ("", "a study is a mapping"),
    "twice": ("seeds: 1\nseeds: 2", "line 2: not valid YAML: the key 'seeds' stands twice"),
    "python": ("seeds: !!python/object/apply:os.system [ls]", "not valid YAML"),
    "bytes": ("\x00", "cannot be read as YAML"),
    "deep": ("[" * 3000, "cannot be read as YAML"),
}


@pytest.mark.parametrize("case", BAD_TEXTS)
def test_a_file_that_is_no_study_is_one_sentence(study, case):
    text, sentence = BAD_TEXTS[case]
    (fault,) = faults(study, text=text)
    assert sentence in fault


BAD_CONFIGS = {
    "key": ({"epoch": 5}, "config: unknown key 'epoch'; did you mean 'epochs'?"),
    "study": ({"study": "cifar"}, "config: study: unknown study 'cifar'; did you mean 'cifar10'?"),
    "no study": ({"study": None}, "config: study: None is neither"),
    "no file": ({"study": "nowhere/x.yaml"}, "config: study: there is no file nowhere/x.yaml"),
    "device": ({"device": "gpu"}, "config: device: unknown device 'gpu'"),
    "per job": ({"seeds_per_job": 0}, "config: seeds_per_job: 0 is not a whole number of at least 1"),
    "processes": ({"processes_per_run": "two"}, "config: processes_per_run: 'two' is not a whole number of"),
    "too many": (
        {"processes_per_run": 15},
        "batch_size: an epoch's last batch has 29 of 32 images, fewer than two for each process of a run;"
        " take at most 14 processes_per_run, or take another batch_size",
    ),
    "deterministic": ({"deterministic": "maybe"}, "config: deterministic: 'maybe' is not true or false"),
    "last batch": ({"batch_size": 4}, "batch_size: an epoch's last batch has 1 of 4 images, fewer than two"),
    "longest job": ({"longest_job": 0}, "longest_job: 0 is not a whole number of minutes of at least 1, or"),
    "longest day": ({"longest_job": "1d"}, "longest_job: '1d' is not a whole number of minutes"),
    "planned on": (
        {"planned_on": "AMD EPYC"},
        "config: planned_on: unknown measured device 'AMD EPYC'; did you mean 'AMD EPYC (AVX5",
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
    "dataset": ({"dataset": "mnist"}, "config: dataset: unknown dataset 'mnist'"),
}


@pytest.mark.parametrize("case", BAD_CONFIGS)
def test_a_fault_on_the_command_line_is_one_sentence_with_the_key(study, case):
    config, sentence = BAD_CONFIGS[case]
    (fault,) = faults(study, **config)
    assert sentence in fault


@pytest.mark.parametrize("name", ["digits.yaml", "reference.yaml", "datasets.yaml"])
def test_names_that_are_taken_are_refused(study, name):
    (fault,) = faults(study, name=name)
    assert "is taken; rename the file" in fault


@pytest.mark.parametrize("name", ["a_b.yaml", "a b.yaml", "..yaml"])
def test_names_that_are_no_folders_are_refused(study, name):
    (fault,) = faults(study, name=name)
    assert "letters, digits and hyphens" in fault or "is not a study" in fault or "unknown study" in fault


def test_results_below_a_regular_file_are_refused(study, tmp_path):
    (tmp_path / "file").write_text("")
    (fault,) = faults(study, results_dir=str(tmp_path / "file" / "results"))
    assert fault.endswith("file is not a folder")


def test_reading_a_study_imports_neither_torch_nor_pandas():
    code = (
        "import sys; from onlybn.workflow import open_workflow;"
        "heavy = {'torch', 'torchvision', 'pandas', 'matplotlib', 'seaborn', 'scipy', 'sklearn'};"
        "sys.exit(' '.join(heavy & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
