"""Tasks on one network: datasets that share their images' shape, and features of another seed."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from conftest import BUILTIN, CONFIG

from onlybn.axes import FEATURES_SEED
from onlybn.configuration import open_study
from onlybn.datasets import DATASETS
from onlybn.datasets.prepare import prepare
from onlybn.datasets.small import read
from onlybn.errors import UserError
from onlybn.exporting.bank import Bank
from onlybn.networks.draw import draw
from onlybn.runs import saving
from onlybn.training.loop import train


@pytest.fixture
def prepared(tmp_path):
    def make(name):
        prepare(name, Path("unused"), tmp_path / name)
        return read(tmp_path / name, torch.device("cpu"))

    return make


@pytest.mark.parametrize(("name", "first"), [("digits-even", 0), ("digits-odd", 1)])
def test_half_of_the_digits_are_classes_of_their_own(name, first, digits, prepared):
    found = prepared(name)
    assert found.classes == 5
    for ours, whole in ((found.train, digits.train), (found.test, digits.test)):
        chosen = whole.labels % 2 == first
        assert torch.equal(ours.images, whole.images[chosen])
        assert torch.equal(2 * ours.labels + first, whole.labels[chosen])


def test_turned_digits_are_turned_by_a_quarter_and_grey_ones_have_three_equal_channels(digits, prepared):
    turned, colour = prepared("digits-turned"), prepared("digits-turned-rgb")
    for x in range(8):
        for y in range(8):
            assert torch.equal(turned.test.images[:, 7 - x, y], digits.test.images[:, y, x])
    assert torch.equal(turned.test.labels, digits.test.labels)
    assert colour.channels == 3
    for channel in range(3):
        assert torch.equal(colour.train.images[..., channel], turned.train.images[..., 0])
    assert colour.mean == pytest.approx(3 * turned.mean)


@pytest.mark.parametrize("name", [name for name, facts in DATASETS.items() if facts.class_names])
def test_every_class_has_one_name(name):
    names = DATASETS[name].class_names
    assert len(set(names)) == len(names) == DATASETS[name].classes


def test_half_of_the_digits_keep_their_names():
    assert DATASETS["digits-even"].class_names == ("0", "2", "4", "6", "8")
    assert DATASETS["digits-odd-rgb"].class_names == ("1", "3", "5", "7", "9")


def with_features(run, value):
    return replace(run, values=((FEATURES_SEED.name, value),))


def test_runs_of_one_features_seed_draw_the_same_network_and_see_images_in_an_order_of_their_own(
    make_run, few_digits
):
    def drawn(run):
        return draw(run, channels=1, classes=10)[0].state_dict()

    own, other = make_run(regime="random-2", seed=7), make_run(regime="random-2", seed=3)
    shared = [with_features(run, "features-7") for run in (own, other)]
    for run in shared:
        assert {n: t.tolist() for n, t in drawn(run).items()} == {
            n: t.tolist() for n, t in drawn(own).items()
        }
    assert not torch.equal(drawn(other)["output.weight"], drawn(own)["output.weight"])
    assert shared[0].digest == shared[1].digest != own.digest
    assert shared[1].point[2].endswith("_features-7")
    losses = [[row["loss"] for row in train(run, few_digits).rows] for run in (own, *shared)]
    assert losses[0] == losses[1] != losses[2]


def test_neutral_features_change_no_run(make_run):
    run = make_run()
    assert run.drawn_from == run.seed == 0
    assert FEATURES_SEED.default == "own"
    assert "axes" not in run.specification


@pytest.mark.parametrize("name", ["features", "features-", "features--1", "features-01", "7", "features-1e3"])
def test_a_wrong_seed_of_features_is_one_sentence(name):
    with pytest.raises(ValueError, match=rf"^'{name}' is not own, or of the form features-N, [^\n]*$"):
        FEATURES_SEED.check(name)


def test_the_largest_weight_of_a_draw_is_that_of_the_features_seed(tmp_path):
    definition = {
        "dataset": "digits",
        "training": {"epochs": 1, "batch_size": 32, "learning_rate": 0.1, "flip": False},
        "seeds": [5, 6],
        "experiments": {
            "one": {
                "architectures": ["resnet-8"],
                "regimes": ["all"],
                "reparametrisations": ["arctan-0.3-0.5"],
                "features_seeds": ["features-2"],
            }
        },
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(definition))
    from onlybn.networks.ranges import check_ranges

    study = open_study(CONFIG | {"study": str(tmp_path / "mine.yaml")}, BUILTIN)
    with pytest.raises(UserError) as caught:
        check_ranges(study)
    network, _ = draw(
        replace(study.each_run()[0], values=(("features_seed", "features-2"),)), channels=1, classes=10
    )
    largest = max(float(layer.weight.detach().abs().max()) for layer in network.convolutions())
    assert f" is {largest:.4g}, " in str(caught.value)


def test_tasks_of_different_orders_share_a_bank_if_their_features_have_one_seed(
    make_run, few_digits, tmp_path
):
    folders = {}
    for seed in (0, 1):
        run = with_features(make_run(epochs=1, shift=0, seed=seed), "features-4")
        folders[f"task-{seed}"] = folder = tmp_path / str(seed)
        saving.save(folder, run, train(run, few_digits), few_digits, {"processes": 1, "precision": "float32"})
    Bank.of_runs(folders).save(tmp_path / "bank.safetensors")
    bank = Bank.load(tmp_path / "bank.safetensors")
    tensors = [bank.tasks[name].tensors["batchnorm.bias"] for name in folders]
    assert (tensors[0] - tensors[1]).abs().max() > 0
