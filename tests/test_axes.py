"""Axes: what a value changes in a run's specification, path and network; a neutral one changes nothing."""

import json
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
import yaml
from checkout import Checkout
from conftest import BUILTIN, CONFIG, run_columns
from matplotlib import pyplot as plt
from torch import nn
from torch.nn import functional as F

import onlybn
from onlybn.axes import NORMALISATION, RECIPE, REGIME, REPARAMETRISATION, VARIANT
from onlybn.configuration import open_study
from onlybn.drawing.summaries import finals, over_seeds, read
from onlybn.errors import UserError
from onlybn.judging import judge
from onlybn.networks.draw import draw
from onlybn.papers import paper
from onlybn.papers.only_batchnorm.claims import CLAIMS
from onlybn.papers.only_batchnorm.figures.accuracy import REGIMES
from onlybn.papers.only_batchnorm.figures.initialisation import FEATURES
from onlybn.papers.only_batchnorm.published import PUBLISHED
from onlybn.papers.only_batchnorm.tables import accuracy
from onlybn.runs import records, saving
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.evaluation import evaluate
from onlybn.training.loop import train
from onlybn.workflow.paths import Workflow

LINEAR, NONE = (REPARAMETRISATION.name, "linear-2"), (NORMALISATION.name, "none")
SHAPE = {"channels": 1, "classes": 10}

STUDY = """
dataset: digits
training: {epochs: 2, batch_size: 32, learning_rate: 0.1, flip: false, milestones: [1]}
recipes:
  slow: {learning_rate: 0.05}
  longer: {epochs: 4}
  same: {momentum: 0.9}
seeds: 2
experiments:
  first: {architectures: [resnet-8], regimes: [all, batchnorm]}
  second:
    architectures: [resnet-8]
    regimes: [all, batchnorm]
    reparametrisations: [none, linear-2, linear-1]
    recipes: [none, slow, same]
figures: {figure-2: [first]}
"""


@pytest.fixture
def study(tmp_path):
    def open_(text=STUDY, **config):
        path = tmp_path / "axes.yaml"
        path.write_text(text)
        return open_study(CONFIG | {"study": str(path)} | config, BUILTIN)

    return open_


def with_axes(run, *values):
    return replace(run, values=values)


def test_a_neutral_value_is_neither_in_the_specification_nor_in_the_path(make_run):
    run = make_run()
    assert "axes" not in run.specification
    assert run.point == ("resnet-8", "batchnorm", VARIANT.default)
    assert [run.value(axis) for axis in (REGIME, REPARAMETRISATION, RECIPE)] == ["batchnorm", "none", "none"]


def test_other_values_are_in_both_in_the_order_of_the_axes(make_run):
    run = with_axes(make_run(regime="all"), LINEAR, NONE, ("recipe", "slow"))
    assert run.specification["axes"] == dict([LINEAR, NONE, ("recipe", "slow")])
    assert run.point[2] == f"{VARIANT.default}_linear-2_none_slow"
    assert str(run) == "resnet-8 all linear-2 normalisation none slow seed 0"
    assert run.digest != make_run(regime="all").digest


def test_a_value_that_does_not_change_a_run_is_neutral_for_it(study):
    opened = study()
    first, second = (opened.runs(name) for name in ("first", "second"))
    neutral = {run.point: run.digest for run in first}
    assert neutral.items() <= {run.point: run.digest for run in second}.items()
    # `batchnorm` trains no weight; linear-1 is the identity; `same` changes nothing.
    assert {run.point[2].removeprefix(VARIANT.default) for run in second if run.regime == "batchnorm"} == {
        "",
        "_slow",
    }
    assert {run.point[2].removeprefix(VARIANT.default) for run in second if run.regime == "all"} == {
        "",
        "_slow",
        "_linear-2",
        "_linear-2_slow",
    }
    assert len(second) == 2 * 6
    assert len(opened.each_run()) == len(second)


@pytest.mark.parametrize("length", ["4", "4.0", "0.4e1"])
def test_a_recipes_run_is_specified_by_its_training_and_a_new_length_rescales_the_schedule(study, length):
    text = STUDY.replace("longer: {epochs: 4}", f"longer: {{epochs: {length}}}")
    opened = study(text.replace("recipes: [none, slow, same]", "recipes: [slow, longer]"))
    trainings = {run.value(RECIPE): run.training for run in opened.runs("second")}
    assert trainings["slow"].learning_rate == 0.05
    assert (trainings["longer"].epochs, trainings["longer"].milestones) == (4, [2])


FAULTS = {
    "reparametrisation": (
        "reparametrisations: [linar-2]",
        "unknown reparametrisation 'linar-2'; did you mean",
    ),
    "numbers": (
        "reparametrisations: [linear-2-3]",
        "'linear-2-3' is not of the form linear-S, with one",
    ),
    "normalisation": ("normalisations: [batchnrom]", "unknown normalisation 'batchnrom'; did you mean"),
    "recipe": ("recipes: [slwo]", "experiments.second.recipes: unknown recipe 'slwo'; did you mean 'slow'?"),
    "no γ": ("normalisations: [none]", "the regime batchnorm needs γ and β, which the normalisation none"),
    "axis": ("normalisation: [none]", "unknown key 'normalisation'; did you mean 'normalisations'?"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_value_gives_one_sentence(study, fault):
    line, expected = FAULTS[fault]
    text = STUDY.replace(
        "    reparametrisations: [none, linear-2, linear-1]\n    recipes: [none, slow, same]", f"    {line}"
    )
    with pytest.raises(UserError) as caught:
        study(text)
    (sentence,) = str(caught.value).splitlines()
    assert expected in sentence


RECIPES = {
    "linear-2: {learning_rate: 1}": "recipes.linear-2: 'linear-2' names a value of reparametrisation",
    "resnet-14: {learning_rate: 1}": "recipes.resnet-14: 'resnet-14' names a value of architecture",
    "digits: {learning_rate: 1}": "recipes.digits: 'digits' names a value of dataset; choose another name",
    "none: {learning_rate: 1}": "recipes.none: 'none' is the study's own training; choose another name",
    "x: {learnin_rate: 1}": "recipes.x: unknown key 'learnin_rate'; did you mean 'learning_rate'?",
    "x: {learning_rate: -1}": "recipes.x.learning_rate: -1 is not a number above 0",
    "x: {milestones: [3]}": "recipes.x: milestones 3 are not before the last epoch, 2",
    "x: 5": "recipes.x: 5 is not a mapping",
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_wrong_recipe_gives_one_sentence(study, recipe):
    with pytest.raises(UserError) as caught:
        study(STUDY.replace("slow: {learning_rate: 0.05}", f"slow: {{learning_rate: 0.05}}\n  {recipe}"))
    (sentence,) = str(caught.value).splitlines()
    assert RECIPES[recipe] in sentence


def test_the_command_line_selects_values_and_extends_experiments_without_values(study):
    opened = study(reparametrisations="none,linear-4")
    assert opened.name == "axes_reparametrisations-none,linear-4"
    assert opened.runs_name == "axes"
    assert opened.experiments["first"].reparametrisations == ["none", "linear-4"]
    assert opened.experiments["second"].reparametrisations == ["none"]
    shared = {Workflow(study()).places(run)[0] for run in study().runs("first")}
    assert shared < {Workflow(opened).places(run)[0] for run in opened.runs("first")}
    assert study(recipes="none").experiments["second"].recipes == ["none"]
    for given, expected in (
        ({"recipes": "fast"}, "unknown recipe 'fast'"),
        ({"normalisations": "no"}, "unknown norm"),
    ):
        with pytest.raises(UserError, match=expected):
            study(**given)
    with pytest.raises(UserError, match="the regime batchnorm needs γ and β"):
        study(normalisations="none")


def test_a_value_that_an_experiment_names_extends_no_other():
    def kept(**selection):
        opened = open_study(CONFIG | {"study": "batchnorm-mechanisms"} | selection, BUILTIN)
        return {name: opened.definition.experiments[name] for name in opened.experiments}

    # Of numbers, and so refused for the images of the other experiments.
    assert set(kept(recipes="deep")) == {"deep-linear", "deep-linear-norms"}
    several = kept(recipes="none,x5", normalisations="none,batchnorm-noisy")
    assert several["learning-rates"].recipes == ["none", "x5"]
    assert several["noisy"].recipes == ["none"]
    assert {"identity", "evaluation"}.isdisjoint(several)  # of BatchNorm alone
    assert kept(normalisations="groupnorm-2")["identity"].normalisations == ["groupnorm-2"]
    with pytest.raises(UserError, match="config: normalisations: is empty; at least one is needed"):
        kept(normalisations="")


def test_a_recording_that_an_experiment_does_not_make_is_no_table():
    workflow = Workflow(open_study(CONFIG | {"study": "batchnorm-mechanisms"}, BUILTIN))
    with pytest.raises(SystemExit, match="the experiment groups does not make the recording inputs; write"):
        workflow.experiment_runs(SimpleNamespace(experiment="groups", collected="inputs"))
    assert workflow.experiment_runs(SimpleNamespace(experiment="groups", collected="generalisation"))


MORE = """
  elsewhere: {architectures: [resnet-8], regimes: [all], dataset: cifar10, recipes: [slow], seeds: [1, 5]}
figures:"""


def test_an_experiment_may_set_its_own_dataset_and_seeds(study):
    opened = study(STUDY.replace("\nfigures:", MORE))
    runs = opened.runs("elsewhere")
    assert [(run.dataset, run.seed) for run in runs] == [("cifar10", 1), ("cifar10", 5)]
    assert runs[0].point[2] == f"{VARIANT.default}_slow_cifar10"
    assert {run.dataset for run in opened.runs("first")} == {"digits"}
    assert opened.seed_blocks() == [[0], [1], [5]]  # no job trains a seed that nothing asks for
    workflow = Workflow(opened)
    assert workflow.wildcard_constraints()["seed"] == "0|1|5"
    assert study(STUDY.replace("\nfigures:", MORE), seeds=1).seeds("elsewhere") == [0]
    flips = STUDY.replace("\nfigures:", MORE.replace("cifar10", "digits")).replace(
        "0.05}", "0.05, flip: true}"
    )
    with pytest.raises(
        UserError, match=r"experiments.elsewhere.dataset: recipes.slow.flip: a flipped image of dig"
    ):
        study(flips)


# normalisation


def test_without_normalisation_a_vgg_is_convolutions_with_biases_and_relus(make_run):
    run = with_axes(make_run("vgg-11", "all"), NONE)
    network, trained = draw(run, **SHAPE)
    assert network.normalisations() == []
    assert network.parameter_counts()["batchnorm_parameters"] == 0
    assert set(trained) == {name for name, _ in network.named_parameters()}
    images = torch.randn(2, 1, 8, 8, dtype=torch.float64)
    x, layers = images, [layer for stage in network.stages for layer in [stage]]
    for number, stage in enumerate(layers):
        if number and min(x.shape[2:]) > 1:
            x = F.max_pool2d(x, 2)
        for layer in stage:
            weight, bias = (tensor.double() for tensor in (layer.convolution.weight, layer.convolution.bias))
            x = F.conv2d(x, weight, bias, padding=1).clamp_min(0)
    expected = x.mean(dim=(2, 3)) @ network.output.weight.double().T + network.output.bias.double()
    torch.testing.assert_close(network.double()(images), expected)


@pytest.mark.parametrize("name", ["resnet-8", "vgg-11"])
def test_without_normalisation_weights_stay_those_of_the_seed_and_every_convolution_has_a_bias(
    make_run, name
):
    plain, _ = draw(make_run(name, "all"), **SHAPE)
    network, _ = draw(with_axes(make_run(name, "all"), NONE), **SHAPE)
    for one, other in zip(plain.convolutions(), network.convolutions(), strict=True):
        assert torch.equal(one.weight, other.weight)
        assert other.bias is not None


def test_a_run_without_normalisation_is_trained_saved_and_loaded(make_run, few_digits, tmp_path):
    run = with_axes(make_run("vgg-11", "all", epochs=1, learning_rate=0.01), NONE)
    outcome = train(run, few_digits)
    saving.save(tmp_path, run, outcome, few_digits, {"processes": 1, "precision": "float32"})
    assert evaluate(onlybn.load(tmp_path), few_digits)["loss"] == outcome.rows[-1]["loss"]


def test_a_custom_network_that_needs_its_batchnorm_is_rejected_in_one_sentence(
    make_run, tmp_path, monkeypatch
):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "needing.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, channels, classes):\n"
        "        super().__init__()\n"
        "        self.conv, self.norm = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4)\n"
        "        self.output = nn.Linear(4, classes)\n"
        "    def forward(self, x):\n"
        "        x = self.norm(self.conv(x)) * self.norm.weight.mean()\n"
        "        return self.output(x.mean(dim=(2, 3)))\n"
        "def net(channels, classes):\n    return Net(channels, classes)\n"
    )
    run = with_axes(make_run("needing:net", "all"), NONE)
    with pytest.raises(
        UserError, match="needing:net does not work with the normalisation none; its forward pass fails"
    ):
        draw(run, **SHAPE, size=8)


def test_the_keys_of_an_experiment_describe_the_axes():
    from onlybn.study import Experiment

    assert all(Experiment.model_fields[axis.plural].description for axis in (RECIPE, NORMALISATION))
    assert yaml.safe_load(STUDY)["recipes"].keys() == {"slow", "longer", "same"}


# recordings of studies and experiments


RECORDING = STUDY.replace("\nexperiments:", "\nrecord: [weights]\nexperiments:")


def test_a_run_is_recorded_for_every_experiment_that_contains_it(study):
    text = RECORDING.replace("regimes: [all, batchnorm]}", "regimes: [all, batchnorm], record: {}}")
    opened = study(text)
    whole = {"weights": {"every": None, "layers": None}}
    assert all(opened.recordings(run) == whole for run in opened.runs("second"))
    assert all(opened.recordings(run) == whole for run in opened.runs("first"))  # which are in both
    alone = study(text, recipes="slow").runs("second")
    assert all(opened.recordings(run) == whole for run in alone)
    assert study().recordings(study().each_run()[0]) == {}
    assert study(RECORDING).each_run()[0].digest == study().each_run()[0].digest


WRONG = {
    "record: [wieghts]": "record: unknown recording 'wieghts'; did you mean 'weights'?",
    "record: {weights: {every: 0}}": "record: weights.every: 0 is not a number of steps of at least 1",
    "record: {weights: {1: 60}}": "record: weights: unknown option '1'; allowed: every, layers",
    "record: {weights: {layer: [x]}}": "record: weights: unknown option 'layer'; did you mean 'layers'?",
    "record: weights": "record: 'weights' is not a list of recordings, or a mapping",
}


@pytest.mark.parametrize("record", WRONG)
def test_a_wrong_recording_gives_one_sentence(study, record):
    with pytest.raises(UserError) as caught:
        study(STUDY.replace("\nexperiments:", f"\n{record}\nexperiments:"))
    (sentence,) = str(caught.value).splitlines()
    assert WRONG[record] in sentence


def test_experiments_that_record_one_run_with_different_options_are_rejected(study):
    other = "regimes: [all, batchnorm], record: {weights: {every: 5}}}"
    with pytest.raises(
        UserError, match=r"^study: experiments.second.record: another experiment records weights"
    ):
        study(RECORDING.replace("regimes: [all, batchnorm]}", other))


def test_a_finished_run_without_a_recording_is_reported_and_retrained_to_the_same_bytes(tmp_path):
    text = """
dataset: digits
training: {epochs: 1, batch_size: 500, learning_rate: 0.1, flip: false}
seeds: 1
experiments: {e: {architectures: [resnet-8], regimes: [all], reparametrisations: [none, linear-2]}}
tables: {accuracy: [e]}
"""
    checkout = Checkout(tmp_path, text)
    checkout.ok("accuracy")
    before = checkout.digests()
    (tmp_path / "tiny.yaml").write_text(text.replace("\nseeds:", "\nrecord: [weights]\nseeds:"))
    collected = "results/tiny/experiments/e/weights.parquet"
    output = checkout.ok("accuracy", collected)
    assert "2 of 2 runs of tiny exist but are not what the study requests" in output
    assert "lacks the recording weights with the options that the study requests" in output
    after = checkout.digests()
    runs = {name: found for name, found in before.items() if name.startswith("runs/")}
    assert len(runs) == 6
    assert runs.items() <= after.items()
    weights = pd.read_parquet(tmp_path / collected)
    assert weights.groupby(["reparametrisation", "epoch"]).size().to_dict() == {
        (value, epoch): 10 for value in ("none", "linear-2") for epoch in (0, 1)
    }
    table = (tmp_path / "results/tiny/tables/accuracy.md").read_text()
    assert "| resnet-8 " in table and "| resnet-8 linear-2 " in table


# collected tables, figures and claims


def rows(values, **columns):
    """The metrics of one run for each of `values` (test accuracies)."""
    run = [run_columns("resnet-14", regime, 0, **columns) for regime in values]
    common = {"epoch": 2, "split": "test", "loss": 1.0, "top_5": 99.0, "learning_rate": 0.1}
    return pd.DataFrame(
        [row | common | {"top_1": top_1} for row, top_1 in zip(run, values.values(), strict=True)]
    )


def test_tables_of_experiments_with_and_without_an_axis_are_stacked_where_runs_are_shared(tmp_path):
    with_axis = pd.concat([rows({"all": 90.0}, recipe="none"), rows({"all": 80.0}, recipe="slow")])
    paths = []
    for name, table in (("first", rows({"all": 90.0})), ("second", with_axis)):
        paths.append(tmp_path / name / "metrics.parquet")
        paths[-1].parent.mkdir()
        table.to_parquet(paths[-1], index=False)
    stacked = read(paths)
    assert stacked["recipe"].tolist() == ["none", "slow"]
    points = over_seeds(finals(stacked))
    assert points["top_1"].tolist() == [90.0, 80.0]
    assert points["n"].tolist() == [1, 1]


def test_values_that_are_not_neutral_have_separate_panels_and_rows():
    metrics = pd.concat(
        rows({"all": 90.0 - number, "batchnorm": 50.0}, normalisation=normalisation, recipe=recipe)
        for number, (normalisation, recipe) in enumerate([("batchnorm", "none"), ("none", "x5")])
    )
    numbers = REGIMES.numbers(metrics)
    assert numbers["panel"].unique().tolist() == ["depth", "normalisation none x5: depth"]
    drawn = REGIMES.draw(numbers)
    assert [axes.get_title() for axes in drawn.axes] == [
        "digits, resnet-14",
        "digits, resnet-14 normalisation none x5",
    ]
    shown = accuracy.shown(accuracy.numbers(metrics))
    assert shown["network"].tolist() == ["resnet-14", "resnet-14 normalisation none x5"]


def test_claims_are_judged_by_the_studys_training_and_not_by_recipes(tmp_path):
    both = [
        rows({"all": 90.0, "no-affine": 80.0}, recipe=r, training=t) for r, t in (("none", "{}"), ("x", "[]"))
    ]
    affine_helps = [claim for claim in CLAIMS if claim.id == "affine-helps"]
    (judged,) = judge(affine_helps, {"metrics": pd.concat(both)}, PUBLISHED).itertuples()
    assert judged.measured == "resnet-14 10.00"
    assert judged.verdict == "inconclusive"  # one seed


def test_a_changed_length_also_rescales_the_recipes(study):
    text = STUDY.replace("slow: {learning_rate: 0.05}", "slow: {milestones: [0.5], warmup: 0.25}")
    text = text.replace("recipes: [none, slow, same]", "recipes: [slow, longer]")
    for given, unit, ratio in ({"epochs": 6}, "epoch", 3), ({"steps": 100}, "step", 50):
        trainings = {run.value(RECIPE): run.training for run in study(text, **given).runs("second")}
        slow, longer = trainings["slow"], trainings["longer"]
        assert {slow.unit, longer.unit} == {unit}
        assert (slow.length, slow.milestones, slow.warmup) == (2 * ratio, [0.5 * ratio], 0.25 * ratio)
        assert (longer.length, longer.milestones) == (4 * ratio, [2 * ratio])


def test_seeds_that_change_any_experiment_are_in_the_studys_name(study):
    text = STUDY.replace("regimes: [all, batchnorm]}", "regimes: [all, batchnorm], seeds: 5}")
    assert study(text, seeds=2).name == "axes_seeds-2"
    assert study(seeds=2).name == "axes"


def test_a_misfit_from_the_command_line_is_reported_as_such(study):
    with pytest.raises(
        UserError, match=r"^config: normalisations: the regime batchnorm needs γ and β[^\n]*$"
    ):
        study(normalisations="none")
    assert study(normalisations="none", regimes="all").experiments["first"].normalisations == ["none"]


def test_normalisation_none_replaces_a_layer_under_all_its_names(make_run, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "twice.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self, channels, classes):\n"
        "        super().__init__()\n"
        "        self.conv, self.norm = nn.Conv2d(channels, 4, 3), nn.BatchNorm2d(4)\n"
        "        self.again, self.output = self.norm, nn.Linear(4, classes)\n"
        "    def forward(self, x):\n"
        "        return self.output(self.again(self.conv(x)).mean(dim=(2, 3)))\n"
        "def net(channels, classes):\n    return Net(channels, classes)\n"
    )
    network, _ = draw(with_axes(make_run("twice:net", "all"), NONE), **SHAPE, size=8)
    assert not [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]


def test_reparametrisations_reject_names_that_no_file_can_have_and_long_numbers(study):
    long = "x" * 230
    with pytest.raises(UserError, match=r"study: the variant 'kaiming[^\n]* characters; allowed: 230"):
        study(STUDY.replace("slow", long))
    for name in ("linear-9999999", "linear-0.0000001"):
        with pytest.raises(ValueError, match="is not of the form linear-S"):
            REPARAMETRISATION.check(name)


def test_a_recording_made_before_an_option_existed_is_still_valid(make_run, few_digits, tmp_path):
    run = make_run(epochs=1)
    saving.save(
        tmp_path, run, train(run, few_digits, recordings={"weights": {}}), few_digits, {"processes": 1}
    )
    record = json.loads((tmp_path / "run.json").read_text())
    wanted = record["recordings"]
    del record["recordings"]["weights"]["layers"]
    (tmp_path / "run.json").write_text(json.dumps(records.sealed(record)))
    assert records.is_finished(
        tmp_path, run, recordings=wanted | {"weights": {"every": None, "layers": None}}
    )
    assert not records.is_finished(tmp_path, run, recordings={"weights": {"every": 5, "layers": None}})


def test_panels_of_other_values_have_no_substitute_networks():
    metrics = pd.concat(
        [rows({"all": 90.0}, recipe=recipe) for recipe in ("none", "x5")]
        + [rows({"all": 95.0}, recipe="none", architecture="wrn-14-2", family="wrn", width=2)]
    )
    assert set(REGIMES.numbers(metrics)["panel"]) == {"depth", "width", "x5: depth"}


def test_a_panel_without_runs_is_left_out():
    # A reparametrisation changes nothing in the regime batchnorm, which so has no runs of that name.
    metrics = pd.concat(
        [
            rows({"all": 90.0, "batchnorm": 50.0}, reparametrisation="none"),
            rows({"all": 91.0}, reparametrisation="arctan-1-1"),
        ]
    )
    numbers = FEATURES.numbers(metrics)
    titles = [axes.get_title() for axes in FEATURES.draw(numbers).axes]
    assert len(titles) == 3
    assert not [title for title in titles if "arctan" in title and "BatchNorm" in title]


def test_every_figure_and_table_takes_runs_without_normalisation():
    """Their affine and clamping tables have one row of missing values, as those of diverged runs."""
    whole = Measurements()
    for record in paper("only-batchnorm").made.values():
        if record.name.startswith("provenance") or getattr(record, "counts", False):
            continue
        module = paper("only-batchnorm").load(record.module)
        kinds = [*record.reads, *getattr(record, "if_drawn", ())]
        numbers = module.numbers(*(whole.table(kind) for kind in kinds))
        caption = module.caption(numbers)
        assert "nan" not in caption, record.name
        if record.name in paper("only-batchnorm").figures:
            plt.close(module.draw(numbers))


class Measurements:
    """Tables of ResNet-14 with BatchNorm and without, one seed each, in two regimes."""

    def runs(self, normalisation):
        return [
            run_columns("resnet-14", regime, 0, normalisation=normalisation)
            for regime in ("all", "batchnorm")
        ]

    def table(self, kind):
        if kind == "metrics":
            return pd.concat(
                rows({"all": 90.0, "batchnorm": 50.0}, normalisation=value) for value in ("batchnorm", "none")
            )
        schema = SCHEMAS[kind]
        values = {"position": "inside", "threshold": 0.01, "beta_too": False, "gamma": 0.1, "beta": 0.2}
        filled = dict.fromkeys(schema.names, 1) | {k: v for k, v in values.items() if k in schema.names}
        thresholds = (0.01, 0.05, 0.1) if kind == "clamping" else (0.01,)
        measured = self.runs("batchnorm") + (self.runs("none") if kind == "activations" else [])
        found = [
            run | filled | ({"threshold": threshold} if "threshold" in filled else {}) | {"channel": channel}
            for run in measured
            for threshold in thresholds
            for channel in range(3 if kind != "clamping" else 1)
        ]
        lacking = [run | dict.fromkeys(schema.names) for run in self.runs("none") if run not in measured]
        return pd.DataFrame([*found, *lacking])
