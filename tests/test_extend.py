"""Custom architectures, datasets and regimes, named as `module:function`."""

import json
import re
import shutil
import subprocess
import sys
import textwrap

import forked
import numpy as np
import pandas as pd
import pytest
import torch
from checkout import ROOT, Checkout
from conftest import BUILTIN, CONFIG
from safetensors import safe_open
from torch import nn

import onlybn
from onlybn import axes, custom
from onlybn.configuration import open_study
from onlybn.datasets import check_loader
from onlybn.datasets.prepare import prepare
from onlybn.errors import UserError
from onlybn.files import sha256
from onlybn.models import build
from onlybn.networks.regimes import apply
from onlybn.networks.variants import DEFAULT, initialise
from onlybn.runs import records

EXAMPLE = "study=examples/densenet/densenet-textures.yaml"
SMALL = ("architectures=densenet:densenet_10", "epochs=1", "seeds=1")
RESULTS = "results/densenet-textures_epochs-1_architectures-densenet.densenet_10_seeds-1"
RUNS = "results/densenet-textures_epochs-1/runs/densenet.densenet_10"


@pytest.fixture(scope="module")
def example(tmp_path_factory):
    """A checkout in which the example's study was run in its smallest form, on a tenth of its images."""
    checkout = Checkout(tmp_path_factory.mktemp("example"), "")
    shutil.copytree(ROOT / "examples", checkout.folder / "examples")
    images = checkout.folder / "examples" / "densenet" / "textures.py"
    images.write_text(images.read_text().replace("2_000", "200").replace("500", "50"))
    checkout.text = checkout.ok("--config", EXAMPLE, *SMALL)
    return checkout


def record(example, regime):
    folder = example.folder / RUNS / regime / DEFAULT / "seed-0"
    return folder, json.loads((folder / "run.json").read_text())


def densenet_counts(*, layers, growth, channels, classes):
    """The parameters of a DenseNet, added up by hand: all, BatchNorm's, outputs of convolutions."""
    width = 2 * growth
    weights, batchnorm, outputs = channels * width * 9, 0, width
    for block in range(3):
        if block:
            batchnorm += 2 * width
            width //= 2
            weights += 2 * width * width
            outputs += width
        for _ in range(layers):
            batchnorm += 2 * width
            weights += width * growth * 9
            outputs += growth
            width += growth
    batchnorm += 2 * width
    return weights + batchnorm + (width + 1) * classes, batchnorm, outputs


def test_a_study_of_custom_networks_and_images_is_drawn(example):
    results = example.folder / RESULTS
    for name in ("figure-2", "figure-5", "figure-6", "figure-7"):
        assert (results / "figures" / f"{name}.png").stat().st_size > 10_000
        numbers = pd.read_parquet(results / "figures" / f"{name}.parquet")
        assert set(numbers["panel"]) == {"densenet depth"}
        assert set(numbers["x"]) == {10}
        assert numbers["y"].notna().all()
    accuracy = pd.read_parquet(results / "tables" / "accuracy.parquet")
    assert accuracy["regime"].tolist() == ["all", "batchnorm", "output", "random-2"]
    assert accuracy["n"].tolist() == [1] * 4
    assert set(accuracy["classes"]) == {8}


def test_trained_parameters_of_a_custom_network_are_counted_and_stored(example):
    parameters, batchnorm, outputs = densenet_counts(layers=2, growth=8, channels=3, classes=8)
    counted = pd.read_parquet(example.folder / RESULTS / "tables/table-1.parquet").iloc[0]
    assert (counted["parameters"], counted["batchnorm_parameters"]) == (parameters, batchnorm)
    for regime, trained in {"all": parameters, "batchnorm": batchnorm, "random-2": 2 * outputs}.items():
        folder, facts = record(example, regime)
        assert facts["counts"]["trainable_parameters"] == trained
        with safe_open(folder / "state.safetensors", "pt") as file:
            stored = sum(file.get_tensor(name).numel() for name in file.keys())  # noqa: SIM118
        assert stored == trained + batchnorm  # running statistics: as many again as γ and β


def test_a_second_start_and_other_settings_find_nothing_to_do(example):
    assert example.jobs("--config", EXAMPLE, *SMALL) == {}
    assert example.jobs("--config", EXAMPLE, *SMALL, "seeds_per_job=2") == {}


def test_loading_elsewhere_finds_the_custom_module_and_returns_the_tested_network(example, tmp_path):
    folder, _ = record(example, "batchnorm")
    prepared = example.folder / "results/datasets/textures.textures"
    code = f"""
        import sys, torch, onlybn
        from pathlib import Path
        from onlybn.datasets import read
        from onlybn.training.evaluation import evaluate
        images = read(Path({str(prepared)!r}), torch.device("cpu"), data_dir=Path())
        torch.set_num_threads(1)
        print(evaluate(onlybn.load({str(folder)!r}, trust=True), images)["top_1"])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], cwd=tmp_path, capture_output=True, text=True
    )
    metrics = pd.read_parquet(folder / "metrics.parquet")
    assert float(done.stdout) == metrics["top_1"].iloc[-1], done.stderr


def test_two_processes_share_a_run_of_a_custom_network(example):
    run = f"{RUNS}/batchnorm/{DEFAULT}/seed-1/run.json"
    example.ok(run, "--config", EXAMPLE, *SMALL[:-1], "seeds=2", "processes_per_run=2")
    assert json.loads((example.folder / run).read_text())["computed"]["processes"] == 2


def test_a_custom_study_can_be_planned_once_its_images_are_prepared_and_status_finds_its_runs(example):
    def look(*arguments):
        return forked.python_m("onlybn", *arguments, EXAMPLE, *SMALL, folder=example.folder)

    measured = pd.read_parquet(ROOT / "src/onlybn/workflow/costs.parquet")
    device = measured.loc[measured["precision"] == "float32", "device"].iloc[0]
    assert "| densenet:densenet_10 |      4 |" in look("plan", "--device", device).stdout
    refused = look("plan", "--device", device, "results_dir=elsewhere").stderr
    assert refused.startswith(
        "error: textures:textures is not prepared yet; run snakemake elsewhere/datasets/"
    )
    assert "4 of 4 runs are done" in look("status").stdout


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a custom module into a folder that this process imports from."""
    monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
    before = set(sys.modules)

    def write(source, name="mine"):
        (tmp_path / f"{name}.py").write_text(textwrap.dedent(source))
        sys.modules.pop(name, None)

    yield write
    for name in set(sys.modules) - before:
        if getattr(sys.modules[name], "__file__", None) and str(tmp_path) in sys.modules[name].__file__:
            del sys.modules[name]


STUDY = """
dataset: {dataset}
training: {{epochs: 1, batch_size: 32, learning_rate: 0.1, flip: false}}
seeds: 1
experiments: {{e: {{architectures: ["{architecture}"], regimes: ["{regime}"]}}}}
"""


def opened(tmp_path, text=STUDY, **names):
    names = {"dataset": "digits", "architecture": "resnet-8", "regime": "all"} | names
    file = tmp_path / "study.yaml"
    file.write_text(text.format(**names))
    return open_study(CONFIG | {"study": str(file), "results_dir": str(tmp_path / "results")}, BUILTIN)


MINE = """
    raise SystemExit("a study is read without running this")

    def network(channels, classes): ...
    def images(data_dir): ...
    alias = network
"""
FAULTS = {
    "architecture=mine:netwrok": r"'mine:netwrok': unknown function of \S+mine.py 'netwrok'; did you mean"
    r" 'network'\? Allowed: images, network",
    "architecture=mime:network": "'mime:network': the module mime is neither beside the study file nor on"
    r" Python's import path; did you mean 'mine'\?",
    "architecture=mine.inner:network": "the module mine.inner is neither beside the study file nor on",
    "architecture=mine:": "'mine:' is not the module:function of a custom architecture",
    "architecture=broken:network": r"'broken:network': \S+broken.py line 2 is not valid Python: ",
    "regime=mine:stem": "unknown function of .*mine.py 'stem'",
    "dataset=mine:image": r"unknown function of \S+mine.py 'image'; did you mean 'images'\?",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_name_gives_one_sentence_when_the_study_is_read(fault, tmp_path, module):
    module(MINE)
    module("\ndef network(:\n", name="broken")
    key, _, name = fault.partition("=")
    with pytest.raises(UserError, match=rf"^\S+study.yaml: [\w.]+: .*{FAULTS[fault]}[^\n]*$"):
        opened(tmp_path, **{key: name})


def test_a_study_is_read_without_running_custom_modules(tmp_path, module):
    module(MINE)
    study = opened(tmp_path, architecture="mine:alias", dataset="mine:images")
    assert study.names(axes.ARCHITECTURE) == ["mine:alias"]
    assert "mine" not in sys.modules


def test_no_file_beside_a_study_hides_a_module_of_python(tmp_path):
    (tmp_path / "random.py").write_text("def network(channels, classes): ...")
    with pytest.raises(UserError, match=r"unknown function of \S+random.py 'network'") as caught:
        opened(tmp_path, architecture="random:network")
    assert str(tmp_path / "random.py") not in str(caught.value)


def test_a_custom_dataset_must_set_whether_images_may_be_flipped(tmp_path, module):
    module(MINE)
    with pytest.raises(UserError, match=r"training.flip: is missing; true if a flipped image of mine:images"):
        opened(tmp_path, STUDY.replace(", flip: false", ""), dataset="mine:images")


@pytest.mark.parametrize(
    "name", ["resnet-14", "densenet:densenet_22", "a.b_c:d", "batchnorm+output", "digits"]
)
def test_a_name_is_restored_from_its_spelling_in_paths(name):
    assert ":" not in custom.to_path(name)
    assert custom.from_path(custom.to_path(name)) == name


NETWORKS = """
    import torch
    from torch import nn
    from torch.nn import functional as F

    class Plain(nn.Module):
        def __init__(self, channels, classes):
            super().__init__()
            self.convolution = nn.Conv2d(channels, 4, 3)
            self.batchnorm = nn.BatchNorm2d(4)
            self.relu = nn.ReLU()
            self.output = nn.Linear(4, classes)

        def features(self, x):
            return self.relu(self.batchnorm(self.convolution(x)))

        def forward(self, x):
            return self.output(self.features(x).mean(dim=(2, 3)))

    class Twice(Plain):
        width = 3

        def features(self, x):
            return self.relu(1 - self.relu(self.batchnorm(self.convolution(x))))

    class Functional(Plain):
        def features(self, x):
            return torch.relu(self.batchnorm(self.convolution(x)))

    class Dropped(Plain):
        def features(self, x):
            return F.dropout(super().features(x), 0.1, self.training)

    class Unused(Plain):
        def __init__(self, **images):
            super().__init__(**images)
            self.more = nn.Conv2d(4, 4, 1)

    class Scaled(Plain):
        def __init__(self, **images):
            super().__init__(**images)
            self.scale = nn.Parameter(torch.ones(1))

    class Tied(Plain):
        def __init__(self, **images):
            super().__init__(**images)
            self.more = nn.BatchNorm2d(4)
            self.more.weight = self.batchnorm.weight

    class Pooled(Plain):
        def forward(self, x):
            return self.features(x).mean(dim=(2, 3))

    class Crooked(Plain):
        def forward(self, x):
            return self.output(x)

    class Placed(Plain):
        depth = "deep"

    class Smooth(Plain):
        def features(self, x):
            return F.gelu(self.batchnorm(self.convolution(x)))

    def no_batchnorm(channels, classes):
        return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))

    def fixed(channels, classes):
        network = Plain(channels, classes)
        network.batchnorm = nn.BatchNorm2d(4, affine=False)
        return network

    def nothing(channels, classes):
        pass

    def failing(channels, classes):
        raise RuntimeError("out of ideas")

    def leaving(channels, classes):
        raise SystemExit("bye")

    def no_arguments():
        pass
"""
REFUSED = {
    "Functional": r"the network of mine:Functional calls relu as a function \(1 times in a pass\)",
    "Dropped": r"draws random numbers in training \(bernoulli_, as dropout does\)",
    "Unused": "never calls its layer more",
    "Scaled": "has the parameter scale of a Scaled, but only those of nn.Conv2d, nn.BatchNorm2d and",
    "Tied": "shares the parameter more.weight between layers",
    "Pooled": r"returned \(2, 4\) for 2 images, expected logits of shape \(2, 10\); it does not end with an",
    "Crooked": r"mine:Crooked failed: RuntimeError: .* \(mine.py line \d+\)",
    "Placed": "has a depth 'deep', expected a whole number of at least 1",
    "no_batchnorm": "the network of mine:no_batchnorm has no nn.BatchNorm2d",
    "fixed": "has an nn.BatchNorm2d without γ and β, running statistics or momentum",
    "nothing": "mine:nothing returned a NoneType, expected a torch.nn.Module",
    "failing": r"mine:failing failed: RuntimeError: out of ideas \(mine.py line \d+\)",
    "leaving": r"mine:leaving failed: SystemExit: bye \(mine.py line \d+\)",
    "no_arguments": "mine:no_arguments failed: TypeError: .* unexpected keyword argument 'channels'",
}


@pytest.mark.parametrize("function", REFUSED)
def test_a_network_that_a_study_cannot_train_is_rejected_in_one_sentence(function, module):
    module(NETWORKS)
    with pytest.raises(UserError, match=rf"^[^\n]*{REFUSED[function]}[^\n]*$"):
        build(f"mine:{function}", channels=1, classes=10, size=8)


def test_a_custom_network_has_the_position_of_its_attributes_or_of_its_counted_layers(module):
    module(NETWORKS)
    plain = build("mine:Plain", channels=1, classes=10, size=8).architecture
    assert (plain.family, plain.depth, plain.width) == ("mine", 2, 1)
    assert build("mine:Twice", channels=1, classes=10, size=8).architecture.width == 3


def test_every_call_of_a_custom_networks_relu_is_counted(module, few_digits):
    from onlybn.analyses.activations import activations

    module(NETWORKS)
    network = build("mine:Twice", channels=1, classes=10, size=8)
    initialise(network, DEFAULT, 0)
    rows = activations(network, few_digits).to_pandas()
    with torch.no_grad():
        inner, network = network.network, network.eval()
        first = inner.batchnorm(inner.convolution(few_digits.normalise(few_digits.test.images))).relu()
    zeros = [(x == 0).sum(dim=(0, 2, 3)).tolist() for x in (first, (1 - first).relu())]
    assert rows["zeros"].tolist() == zeros[0] + zeros[1]
    assert rows["block"].tolist() == [1] * 4 + [2] * 4
    smooth = build("mine:Smooth", channels=1, classes=10, size=8)
    with pytest.raises(UserError, match=r"^mine:Smooth has no nn.ReLU whose zeros could be counted$"):
        activations(smooth, few_digits)


REGIMES = """
    from torch import nn
    from onlybn.networks.regimes import batchnorm

    def stem(network, seed):
        return network.convolutions()[0].parameters()

    def both(network, seed):
        return [*batchnorm(network, seed), *stem(network, seed)]

    def nothing(network, seed):
        return []

    def another(network, seed):
        return nn.Linear(1, 1).parameters()

    def number(network, seed):
        return 3
"""


def test_a_custom_regime_trains_what_its_function_returns(module):
    from onlybn.datasets import DATASETS
    from onlybn.networks.work import work

    module(REGIMES)
    network = build("resnet-8", channels=1, classes=10)
    initialise(network, DEFAULT, 0)
    assert list(apply(network, "mine:stem", 0)) == ["convolution.weight"]
    assert len(apply(network, "mine:both", 0)) == 1 + len(apply(network, "batchnorm", 0))
    done = work(DATASETS["digits"], "resnet-8", "mine:stem")
    whole, stem = work(DATASETS["digits"], "resnet-8", "all"), 2 * 8 * 8 * 16 * 9
    assert (done.trained, done.weight_gradients) == (16 * 9, stem)
    assert done.input_gradients == whole.input_gradients == whole.forward - stem


@pytest.mark.parametrize("function", ["nothing", "another", "number"])
def test_a_regime_that_returns_no_parameters_of_the_network_is_rejected(function, module):
    module(REGIMES)
    network = build("resnet-8", channels=1, classes=10)
    expected = "mine:number failed: TypeError" if function == "number" else "did not return parameters of the"
    with pytest.raises(UserError, match=rf"^[^\n]*{expected}[^\n]*$"):
        apply(network, f"mine:{function}", 0)


IMAGES = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)
LABELS = np.array([0, 1, 2, 0, 1, 2])
BOTH = {"train": (IMAGES, LABELS), "test": (IMAGES, LABELS)}
SPLITS = {
    "good": BOTH,
    "list": [BOTH["train"], BOTH["test"]],
    "alone": {"train": BOTH["train"]},
    "bare": BOTH | {"test": IMAGES},
    "floats": BOTH | {"train": (IMAGES / 255, LABELS)},
    "long": BOTH | {"train": (IMAGES[:, :3], LABELS)},
    "words": BOTH | {"train": (IMAGES, LABELS.astype(str))},
    "fewer": BOTH | {"test": (IMAGES, LABELS[:5])},
    "gap": {split: (IMAGES, np.array([0, 1, 3, 0, 1, 3])) for split in BOTH},
    "unseen": BOTH | {"test": (IMAGES, np.array([0, 1, 2, 3, 1, 2]))},
    "larger": BOTH | {"test": (IMAGES.repeat(2, 1).repeat(2, 2), LABELS)},
    "black": BOTH | {"train": (0 * IMAGES, LABELS)},
    "one": dict.fromkeys(BOTH, (IMAGES, 0 * LABELS)),
    "huge": dict.fromkeys(BOTH, (IMAGES, 10**12 * LABELS)),
    "wrapped": {split: (IMAGES, LABELS.astype(np.uint64) + np.uint64(2**64 - 2)) for split in BOTH},
    "untrained": BOTH | {"train": (IMAGES, LABELS % 2)},
    "untested": BOTH | {"test": (IMAGES, LABELS % 2)},
    "empty": BOTH | {"test": (IMAGES[:0], LABELS[:0])},
}
WRONG = {
    "list": "mine:list did not return a dictionary of train and test",
    "alone": "mine:alone did not return a dictionary of train and test",
    "bare": "mine:bare: test is not a tuple of two NumPy arrays, images and labels",
    "floats": r"the train images are float64 of shape \(6, 4, 4, 1\), expected uint8 of shape \(examples,",
    "long": r"the train images are uint8 of shape \(6, 3, 4, 1\)",
    "words": "the train labels are <U21, expected whole numbers",
    "fewer": "there are 5 test labels for 6 images",
    "gap": "the train labels run from 0 to 3 in 3 classes, expected every class from 0 to 3",
    "unseen": "the test labels run from 0 to 3 in 4 classes, expected every class from 0 to 2",
    "larger": r"the test images are uint8 of shape \(6, 8, 8, 1\), expected uint8 of shape \(6, 4, 4, 1\)",
    "black": "every training pixel of channel 0 is the same",
    "one": "all train images are of one class, expected at least two classes",
    "huge": "the train labels run from 0 to 2000000000000 in 3 classes, expected every class from 0 to 20000",
    "wrapped": "the train labels run from -2 to 0 in 3 classes, expected every class from 0 to 0",
    "untrained": "the test labels run from 0 to 2 in 3 classes, expected every class from 0 to 1",
    "untested": "the test labels run from 0 to 1 in 2 classes, expected every class from 0 to 2",
    "empty": r"the test images are uint8 of shape \(0, 4, 4, 1\), expected uint8 of shape \(examples,",
    "missing": r"mine:missing failed: FileNotFoundError: .* \(mine.py line \d+\)",
}


@pytest.fixture
def images(module):
    module("def missing(data_dir):\n    return (data_dir / 'no such file').read_bytes()\n")
    import mine  # what `module` wrote

    for name, returned in SPLITS.items():
        setattr(mine, name, lambda data_dir, returned=returned: returned)


@pytest.mark.parametrize("function", WRONG)
def test_invalid_images_are_rejected_before_anything_is_written(function, images, tmp_path):
    with pytest.raises(UserError, match=rf"^[^\n]*{WRONG[function]}[^\n]*$"):
        prepare(f"mine:{function}", tmp_path, tmp_path / f"mine.{function}")
    assert not (tmp_path / f"mine.{function}").exists()


def test_the_facts_of_custom_images_come_from_preparing_them(images, tmp_path):
    from onlybn.datasets import prepared, read

    with pytest.raises(UserError, match=r"mine:good is not prepared yet; run snakemake \S+dataset.json"):
        prepared("mine:good", tmp_path / "mine.good")
    prepare("mine:good", tmp_path, tmp_path / "mine.good")
    facts = prepared("mine:good", tmp_path / "mine.good")
    assert (facts.classes, facts.channels, facts.size, facts.examples) == (3, 1, 4, (6, 6))
    found = read(tmp_path / "mine.good", torch.device("cpu"), data_dir=tmp_path)
    assert found.mean == pytest.approx([IMAGES.mean() / 255])
    assert found.std == pytest.approx([IMAGES.std() / 255])
    assert (found.size, found.classes, len(found.test)) == (4, 3, 6)


IMAGES_CODE = """
    import numpy as np

    def load(data_dir):
        images = np.random.default_rng(0).integers(0, 256, (6, 4, 4, 1), dtype=np.uint8)
        return {split: (images, np.array([0, 1, 2] * 2)) for split in ("train", "test")}
"""


@pytest.fixture
def prepared_by(tmp_path, monkeypatch, module):
    """Prepare images with the module `pictures` of a project; check them as another study would."""
    before, project = [*sys.path], tmp_path / "project"
    (project / "data").mkdir(parents=True)
    folder = project / "results" / "datasets" / "pictures.load"

    def study_in(place, source=IMAGES_CODE):
        place.mkdir(exist_ok=True)
        (place / "pictures.py").write_text(textwrap.dedent(source))
        monkeypatch.setattr(sys, "path", [*before, str(place)])
        sys.modules.pop("pictures", None)

    study_in(project / "study")
    prepare("pictures:load", project / "data", folder)
    sys.modules.pop("pictures")

    def check(data_dir=project / "data", folder=folder):
        lines = []
        check_loader(folder, data_dir, lines.append)
        return lines

    return project, folder, study_in, check


def test_images_from_other_code_or_another_data_dir_are_rejected(prepared_by):
    project, folder, study_in, check = prepared_by
    assert check() == []
    recorded = json.loads((folder / "dataset.json").read_text())["loader"]
    assert recorded["sha256"] == sha256(project / "study" / "pictures.py")
    with pytest.raises(UserError) as raised:
        check(data_dir=project / "more")
    remedy = f"set another results_dir, rename the function, or delete {folder} to prepare it again"
    assert str(raised.value) == (
        f"{folder} was prepared by pictures:load from data_dir {project / 'data'}, and data_dir is now"
        f" {project / 'more'}; {remedy}"
    )
    study_in(project / "second", IMAGES_CODE.replace("rng(0)", "rng(1)"))
    with pytest.raises(UserError) as raised:
        check()
    assert str(raised.value) == (
        f"{folder} was prepared by pictures:load in {project / 'study'}, and pictures:load in"
        f" {project / 'second'} is other code; {remedy}"
    )
    for loader in ([], {}, recorded | {"data_dir": 3}, [["folder"] * 9]):
        facts = json.loads((folder / "dataset.json").read_text()) | {"loader": loader}
        (folder / "dataset.json").write_text(json.dumps(facts))
        with pytest.raises(UserError, match=r"pictures.load is damaged \(dataset.json: loader\); delete it"):
            check()


def test_edited_code_copied_code_and_a_moved_project_keep_their_images(prepared_by, tmp_path):
    project, folder, study_in, check = prepared_by
    study_in(project / "copy")
    (tmp_path / "link").symlink_to(project / "data")
    assert check(data_dir=tmp_path / "link") == check()
    copied = (
        f"{folder} was prepared by pictures:load in {project / 'study'}; this study uses a copy of that code"
    )
    assert check() == [copied]
    study_in(project / "study", IMAGES_CODE + "\n    # edited\n")
    edited = "the file of pictures:load has changed since it prepared {}; the prepared images are used; to"
    edited += " prepare them again, delete that folder"
    assert check() == [edited.format(folder)]
    moved = project.rename(tmp_path / "moved")
    study_in(moved / "study", IMAGES_CODE + "\n    # edited\n")
    folder = moved / "results" / "datasets" / "pictures.load"
    assert check(moved / "data", folder) == [edited.format(folder)]
    study_in(moved / "study")
    assert check(moved / "data", folder) == []
    facts = json.loads((folder / "dataset.json").read_text())
    del facts["loader"]  # as an older version prepared it
    (folder / "dataset.json").write_text(json.dumps(facts))
    assert check(moved / "nowhere", folder) == []


def test_jobs_and_the_start_reject_images_that_other_code_prepared(
    prepared_by, tmp_path, train_block, make_run, capsys
):
    from dataclasses import replace

    from onlybn.workflow.paths import Workflow

    project, folder, study_in, _ = prepared_by
    run = replace(make_run(epochs=1, batch_size=3), dataset="pictures:load")
    refused = r"was prepared by pictures:load from data_dir \S+project/data, and data_dir is now"
    with pytest.raises(UserError, match=refused):
        train_block([run], folder)  # whose data_dir is tmp_path
    (tmp_path / "results").symlink_to(project / "results")
    study = opened(tmp_path, dataset="pictures:load")
    with pytest.raises(SystemExit, match=rf"^error: [^\n]*{refused}"):
        Workflow(study).start(local=True)
    prepare("pictures:load", tmp_path, folder)
    study_in(project / "study", IMAGES_CODE + "\n    # edited\n")
    train_block([run], folder)
    assert "the file of pictures:load has changed since it prepared" in capsys.readouterr().out


def test_the_recorded_source_is_the_imported_one(prepared_by):
    project, _, _, _ = prepared_by
    custom.call("pictures:load", project)
    file = project / "study" / "pictures.py"
    before = sha256(file)
    file.write_text("# edited while it runs")
    assert custom.source("pictures:load")["sha256"] == before
    file.unlink()
    assert custom.source("pictures:load") == {
        "module": "pictures",
        "folder": str(file.parent),
        "sha256": before,
    }


def test_memory_is_requested_even_before_custom_images_are_prepared(images, tmp_path):
    from onlybn.workflow import demands

    study = opened(tmp_path, dataset="mine:missing")
    unknown = demands.training_memory(study, study.each_run()[0], 1, 1)
    assert unknown > demands.UNKNOWN_MB
    (tmp_path / "mine.py").write_text("def good(data_dir): ...")
    study = opened(tmp_path, dataset="mine:good")
    assert demands.training_memory(study, study.each_run()[0], 1, 1) == unknown
    prepare("mine:good", tmp_path, tmp_path / "results" / "datasets" / "mine.good")
    assert demands.training_memory(study, study.each_run()[0], 1, 1) < unknown


def test_a_last_batch_that_is_too_small_is_rejected_once_the_examples_are_counted(
    images, tmp_path, train_block, make_run
):
    from dataclasses import replace

    prepare("mine:good", tmp_path, tmp_path / "mine.good")
    run = replace(make_run(batch_size=5), dataset="mine:good")
    with pytest.raises(UserError, match=r"last batch has 1 of 5 images, fewer than two for each process"):
        train_block([run], tmp_path / "mine.good")


def test_a_normalisation_that_does_not_fit_custom_images_is_one_sentence(
    images, tmp_path, train_block, make_run
):
    from dataclasses import replace

    prepare("mine:good", tmp_path, tmp_path / "mine.good")
    run = replace(make_run("mlp-8", batch_size=3), dataset="mine:good")
    run = replace(run, values=(("normalisation", "ghost-1"),))
    with pytest.raises(
        UserError, match=r"^ghost-1 does not fit mlp-8 on images of 4×4 pixels in batches of 3"
    ):
        train_block([run], tmp_path / "mine.good")


def test_loading_a_run_reports_a_changed_or_lost_module(
    module, tmp_path, train_block, make_run, digits_folder
):
    from dataclasses import replace

    module(NETWORKS)
    run = replace(make_run(epochs=1, batch_size=500), architecture="mine:Plain")
    (folder,) = train_block([run], digits_folder)
    assert isinstance(onlybn.load(folder, trust=True).network.batchnorm, nn.BatchNorm2d)
    module(NETWORKS + "\n    # changed\n")
    with pytest.warns(UserWarning, match=r"the file of mine has changed since \S+seed-0 was trained"):
        onlybn.load(folder, trust=True)
    module(NETWORKS.replace("Conv2d(channels, 4, 3)", "Conv2d(channels, 4, 5)"))
    with (
        pytest.warns(UserWarning),
        pytest.raises(UserError, match="frozen weights drawn from seed 0 are not"),
    ):
        onlybn.load(folder, trust=True)
    (tmp_path / "mine.py").unlink()
    sys.modules.pop("mine")
    with pytest.raises(
        UserError,
        match=r"^\S+run.json: its network cannot be built here \('mine:Plain': the module mine is neither",
    ):
        onlybn.load(folder, trust=True)
    facts = json.loads((folder / "run.json").read_text())
    del facts["own"]["size"]
    (folder / "run.json").write_text(json.dumps(records.sealed(facts)))
    with pytest.raises(UserError, match=r"run.json is damaged \(own.size missing or invalid\)"):
        onlybn.load(folder, trust=True)


def test_a_network_that_was_edited_between_seeds_is_rejected_in_one_sentence(
    module, train_block, make_run, digits_folder
):
    from dataclasses import replace

    from onlybn.runs.collect import collect

    found = {}
    for seed, source in enumerate((NETWORKS, NETWORKS.replace("channels, 4, 3)", "channels, 4, 5)"))):
        module(source)
        run = replace(make_run(epochs=1, batch_size=500, seed=seed), architecture="mine:Plain")
        (folder,) = train_block([run], digits_folder)
        found[folder] = run
    one, other = found
    refused = rf"mixes replicates of different parameters: 98 in {one}, 162 in {other}; delete those"
    with pytest.raises(UserError, match=refused):
        list(collect("e", "metrics", found))


def test_a_family_of_one_depth_has_its_panel_by_width():
    from conftest import run_columns

    from onlybn.papers.only_batchnorm.figures import figure_3
    from onlybn.papers.only_batchnorm.figures.accuracy import REGIMES

    def networks(key, values, family):
        return [
            run_columns("resnet-8", regime, 0, architecture=f"{family}:{value}", family=family)
            | {key: value, "epoch": 1, "split": "test", "top_1": 50.0, "top_5": 90.0}
            | {"batchnorm_parameters": 100 * value}
            for value in values
            for regime in ("batchnorm", "mine:stem")
        ]

    rows = networks("width", (1, 2), "wide") + networks("depth", (10, 20), "deep")
    numbers = REGIMES.numbers(pd.DataFrame(rows))
    assert numbers.groupby("panel")["x"].unique().map(list).to_dict() == {
        "wide width": [1, 2],
        "deep depth": [10, 20],
    }
    left, right = REGIMES.draw(numbers).axes
    assert [axes.get_xlabel() for axes in (left, right)] == ["depth (layers)", "width (factor on channels)"]
    assert right.get_legend_handles_labels()[1] == ["BatchNorm", "stem"]
    (axes,) = figure_3.draw(figure_3.numbers(pd.DataFrame(rows))).axes
    assert [label.split(":")[0] for label in axes.get_legend_handles_labels()[1]] == [
        "growing deep depth",
        "growing wide width",
    ]


# What the page on extending changes for each kind of addition: new files, and changes of existing files.
CLAIMS = "src/onlybn/papers/only_batchnorm/claims.py"
TOUCHED = {
    "An architecture": ["mine/networks.py"],
    "A dataset": ["mine/images.py"],
    "A regime": ["mine/regimes.py"],
    "A reparametrisation": ["mine/bounded.py"],
    "A recording": ["src/onlybn/observers/moves.py", "src/onlybn/observers/__init__.py"],
    "A figure": [
        "src/onlybn/papers/only_batchnorm/figures/learning.py",
        "src/onlybn/papers/only_batchnorm/paper.py",
    ],
    "A claim": [CLAIMS],
}


@pytest.mark.parametrize("kind", TOUCHED)
def test_an_addition_changes_one_place_or_adds_a_module_and_its_name(kind):
    page = (ROOT / "docs" / "extending.md").read_text()
    (section,) = [section for section in page.split("\n## ") if section.startswith(f"{kind}\n")]
    assert re.findall(r"^(?:# |\+\+\+ b/)(\S+\.py)$", section, re.M) == TOUCHED[kind]
    changes = sum(name.startswith("src/") and (ROOT / name).exists() for name in TOUCHED[kind])
    assert len(re.findall(r"^@@.*@@$", section, re.M)) == changes


def test_the_page_on_extending_is_correct(tmp_path):
    page = (ROOT / "docs" / "extending.md").read_text()
    fresh = Checkout(tmp_path, "")
    shutil.copytree(ROOT / "src", tmp_path / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for language, code in re.findall(r"^```(\w+)\n(.*?)^```$", page, re.M | re.S):
        if language == "diff":
            (tmp_path / "change.diff").write_text(code)
            subprocess.run(["git", "apply", "--recount", "change.diff"], cwd=tmp_path, check=True)
        elif language != "sh":
            file = tmp_path / code.splitlines()[0].removeprefix("# ")
            file.parent.mkdir(exist_ok=True)
            file.write_text(code)
    study = tmp_path / "mine" / "mine.yaml"
    more = "  figure-j: [regimes]\ntables:\n  hits: [regimes]\n"
    text = study.read_text().replace("tables:\n", more).replace("seeds: 1\n", "seeds: 1\nrecord: [moves]\n")
    study.write_text(text + "  failed: [bounded]\n")
    results = tmp_path / "results" / "mine"
    moves = results / "experiments" / "bounded" / "moves.parquet"
    collected = str(moves.relative_to(tmp_path))
    asked = ("accuracy", "failed", "hits", "figure-2", "figure-j", collected)
    fresh.ok(*asked, "--config", "study=mine/mine.yaml", PYTHONPATH=str(tmp_path / "src"))
    assert "BatchNorm beats the output layer alone" in (tmp_path / CLAIMS).read_text()
    accuracy = pd.read_parquet(results / "tables" / "accuracy.parquet").set_index("regime")
    assert list(accuracy.index) == ["batchnorm", "regimes:stem", "regimes:last_batchnorm_and_output"]
    trained = {"regimes.stem": 9 * 16, "regimes.last_batchnorm_and_output": 2 * 64 + 65 * 4}
    for regime, parameters in trained.items():
        path = results / "runs/networks.plain_5" / regime / DEFAULT / "seed-0" / "run.json"
        assert json.loads(path.read_text())["counts"]["trainable_parameters"] == parameters
    hits = pd.read_parquet(results / "tables" / "hits.parquet")
    assert hits.groupby("regime")["accuracy"].mean().to_dict() == pytest.approx(accuracy["top_1"].to_dict())
    learning = pd.read_parquet(results / "figures" / "figure-j.parquet")
    assert learning["y"].tolist() == accuracy["top_1"].tolist()
    assert set(pd.read_parquet(results / "figures" / "figure-2.parquet")["regime"]) == set(accuracy.index)
    moved = pd.read_parquet(moves)
    assert (moved["distance"] > 0).all()
    # `batchnorm` trains no weight: with a function it is the existing run.
    assert set(moved.groupby("regime")["reparametrisation"].unique().map(tuple).items()) == {
        ("batchnorm", ("none",)),
        ("regimes:stem", ("none", "bounded:tanh")),
    }


def test_the_example_of_coding_once_more_is_a_study_whose_second_coding_loses_more(monkeypatch):
    folder = ROOT / "examples" / "jpeg"
    opened = open_study(CONFIG | {"study": str(folder / "coded.yaml"), "seeds_per_job": 1}, BUILTIN)
    assert opened.definition.dataset == "coded:once"
    monkeypatch.syspath_prepend(folder)
    from coded import code_all

    flat = np.full((1, 32, 32, 3), 90, np.uint8)
    assert (code_all(flat) == flat).all()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (4, 8, 8, 3), np.uint8).repeat(4, axis=1).repeat(4, axis=2)
    first = code_all(images, shift=0)
    same, across = (np.abs(code_all(first, shift=shift) - first.astype(int)).mean() for shift in (0, 4))
    assert first.shape == images.shape
    assert same < across
