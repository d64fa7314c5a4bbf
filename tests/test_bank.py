"""Banks: a task gives what its run's network gives, alone and in mixed batches, from runs and from a file."""

import json
import re
from dataclasses import replace

import forked
import numpy as np
import pytest
import torch
from checkout import ROOT
from PIL import Image
from safetensors.torch import save_file

import onlybn
from onlybn.axes import NORMALISATION
from onlybn.errors import UserError
from onlybn.exporting.bank import Bank, classify
from onlybn.runs import saving
from onlybn.tensors import read_tensors
from onlybn.training.loop import train


@pytest.fixture
def learned(make_run, few_digits, tmp_path):
    """Train runs on the same features, but for what is changed; return their folders."""

    def learn(name, regime="batchnorm", normalisation=NORMALISATION.default, images=few_digits, **changes):
        run = make_run("resnet-8", regime, epochs=1, shift=0, **changes)
        values = ((NORMALISATION.name, normalisation),) * (normalisation != NORMALISATION.default)
        run = replace(run, values=values)
        outcome = train(run, images)
        saving.save(tmp_path / name, run, outcome, images, {"processes": 1, "precision": "float32"})
        return tmp_path / name

    return learn


@pytest.fixture
def runs(learned):
    return {
        "one": learned("one"),
        "slow": learned("slow", learning_rate=0.01),
        "output": learned("output", "batchnorm+output", learning_rate=0.05),
    }


@pytest.fixture
def images(few_digits):
    return few_digits.normalise(few_digits.test.images[:12])


def test_each_task_gives_the_bits_of_its_runs_network_from_runs_and_from_a_file(runs, images, tmp_path):
    made = Bank.of_runs(runs)
    made.save(tmp_path / "bank.safetensors")
    for bank in (made, onlybn.Bank.load(tmp_path / "bank.safetensors")):
        for name in ("slow", "one", "output", "one"):
            with torch.no_grad():
                expected = onlybn.load(runs[name])(images)
                assert torch.equal(bank.switch(name)(images), expected)
            assert bank.current == name
            assert torch.equal(bank(images, [name] * len(images)), expected)


@pytest.mark.parametrize("normalisation", ["batchnorm", "layernorm", "groupnorm-4", "l1"])
def test_a_batch_of_mixed_tasks_gives_what_each_gives_alone(normalisation, learned, images):
    kinds = {"a": {}, "b": {"learning_rate": 0.01}}
    bank = Bank.of_runs({name: learned(name, "batchnorm", normalisation, **k) for name, k in kinds.items()})
    names = ["a", "b", "b", "a"] * 3
    mixed = bank(images, names)
    apart = torch.stack([bank(image[None], [name])[0] for image, name in zip(images, names, strict=True)])
    torch.testing.assert_close(mixed, apart, rtol=1e-4, atol=1e-5)
    assert (mixed - bank(images, ["a"] * 12)).abs().max() > 1e-2
    assert torch.equal(bank.switch("b")(images), bank(images, ["b"] * 12))  # the layers are back in place


def test_tasks_of_fewer_classes_get_no_chance_of_the_others(learned, make_run, few_digits, images):
    def some(split):
        chosen = split.labels < 4
        return replace(split, images=split.images[chosen], labels=split.labels[chosen])

    four = replace(few_digits, classes=4, train=some(few_digits.train), test=some(few_digits.test))
    four = replace(four, examples=len(four.train.labels))
    # A record of digits has ten classes, so the bank is made of tasks instead of runs.
    network = train(make_run("resnet-8", epochs=1, shift=0), four).network.eval()
    bank = Bank.of_runs({"ten": learned("ten")})
    task = replace(
        bank.tasks["ten"],
        facts=bank.tasks["ten"].facts | {"classes": 4},
        tensors={key: network.state_dict()[key] for key in bank.tasks["ten"].tensors},
    )
    both = Bank(bank.network, bank.tasks | {"four": task})
    logits = both(images, ["ten", "four"] * 6)
    assert logits.shape == (12, 10)
    assert logits[1::2, 4:].isinf().all()
    assert logits[1::2, :4].isfinite().all()
    assert logits[::2].isfinite().all()
    with torch.no_grad():
        torch.testing.assert_close(logits[1::2, :4], network(images[1::2]), rtol=1e-4, atol=1e-5)


def test_what_is_no_task_of_these_features_is_one_sentence(learned, runs, images, tmp_path):
    cases = {
        "seed": (
            learned("seed", seed=1),
            r"seed has other features than .*one \(digest \w+, expected \w+\);",
        ),
        "all": (learned("all", "all"), r"all trains convolution.weight, which tasks share; allowed"),
        "none": (tmp_path / "none", r"run.json is missing"),
    }
    for name, (folder, sentence) in cases.items():
        with pytest.raises(UserError, match=sentence):
            Bank.of_runs({"one": runs["one"], name: folder})
    with pytest.raises(
        UserError, match=r"^bank: no task was given; expected NAME=FOLDER of at least one run$"
    ):
        Bank.of_runs({})
    bank = Bank.of_runs(runs)
    for ask in (lambda: bank.switch("two"), lambda: bank(images[:2], ["one", "two"])):
        with pytest.raises(UserError, match=r"^bank: there is no task 'two'; there are one, slow, output$"):
            ask()


def test_a_file_that_is_no_bank_or_was_changed_is_one_sentence(runs, tmp_path):
    file = tmp_path / "bank.safetensors"
    Bank.of_runs(runs).save(file)
    whole = file.read_bytes()
    mapped, facts = read_tensors(file)
    tensors = {name: tensor.clone() for name, tensor in mapped.items()}
    forged = json.loads(json.dumps(facts))
    forged["tasks"]["one"]["seed"] = 5
    changed = bytearray(whole)
    changed[-3] ^= 1

    def write(told):
        save_file(tensors, file, metadata={"onlybn": json.dumps(told)})

    for change in (
        lambda: file.write_bytes(whole[: len(whole) // 2]),
        lambda: file.write_bytes(changed),
        lambda: file.write_text("no bank"),
        lambda: write(forged),
        lambda: write({"bank": 1}),
        lambda: file.write_bytes((runs["one"] / "state.safetensors").read_bytes()),
    ):
        change()
        with pytest.raises(
            UserError, match=r"^bank: .*bank.safetensors is no bank, or is damaged \([^\n]*\)$"
        ):
            Bank.load(file)
    file.unlink()
    with pytest.raises(UserError, match=r"^bank: .*bank.safetensors is missing$"):
        Bank.load(file)


def test_features_that_another_library_draws_are_refused(runs, tmp_path, monkeypatch):
    file = tmp_path / "bank.safetensors"
    Bank.of_runs(runs).save(file)
    from onlybn.exporting import bank as module

    def other(run, **shape):
        return drawn(replace(run, seed=9), **shape)

    drawn = module.draw
    monkeypatch.setattr(module, "draw", other)
    with pytest.raises(
        UserError, match=r"the features drawn from seed 0 are not those of its tasks \(learned on"
    ):
        Bank.load(file)


def test_an_image_file_is_classified_as_its_pixels_are(runs, few_digits, images, tmp_path):
    bank = Bank.of_runs(runs)
    pixels = few_digits.test.images[3, :, :, 0].numpy()
    Image.fromarray(np.asarray(pixels)).save(tmp_path / "a.png")
    expected = bank.switch("slow")(images[3:4]).softmax(1)[0].tolist()
    found = classify(bank, "slow", tmp_path / "a.png")
    assert found == pytest.approx(dict(zip("0123456789", expected, strict=True)), rel=1e-4)
    with pytest.raises(UserError, match=r"run.json cannot be read as an image \("):
        classify(bank, "slow", runs["one"] / "run.json")


def test_commands_make_a_bank_and_classify(tmp_path):
    run, file = "results/reference/networks/resnet-14-batchnorm-seed-2", str(tmp_path / "bank.safetensors")
    done = forked.python_m("onlybn", "bank", file, f"objects={run}", folder=ROOT)
    assert re.fullmatch(r".*bank\.safetensors: 1 task, \d\d kB\n", done.stdout), done.stderr
    Image.new("RGB", (40, 32), "red").save(tmp_path / "a.png")
    done = forked.python_m("onlybn", "classify", file, "objects", str(tmp_path / "a.png"), folder=ROOT)
    assert re.fullmatch(r"([a-z]+: \d+\.\d %\n){5}", done.stdout), done.stderr
    for arguments, sentence in (
        (["bank", file, run], f"error: bank: '{run}' is not NAME=FOLDER\n"),
        (["bank", file, f"a={run}", f"a={run}"], "error: bank: two tasks have one name in a, a\n"),
        (["classify", file, "b", "a.png"], "error: bank: there is no task 'b'; there are objects\n"),
    ):
        assert forked.python_m("onlybn", *arguments, folder=ROOT).stderr == sentence
