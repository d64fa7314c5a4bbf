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
from onlybn.exporting import bank as module
from onlybn.exporting.bank import Bank, Task, classify, own_tensors
from onlybn.networks.draw import draw
from onlybn.runs import saving
from onlybn.runs.records import described
from onlybn.tensors import read_tensors
from onlybn.training.loop import train

ALIASED = "fakes.networks:Aliased"  # its BatchNorm has two names


@pytest.fixture
def learned(make_run, few_digits, tmp_path):
    """Train runs on the same features, but for what is changed; return their folders."""

    def learn(
        name,
        regime="batchnorm",
        normalisation=NORMALISATION.default,
        architecture="resnet-8",
        diverged=None,
        **changes,
    ):
        run = make_run(architecture, regime, epochs=1, shift=0, **changes)
        values = ((NORMALISATION.name, normalisation),) * (normalisation != NORMALISATION.default)
        run = replace(run, values=values)
        outcome = replace(train(run, few_digits), diverged=diverged)
        saving.save(tmp_path / name, run, outcome, few_digits, {"processes": 1, "precision": "float32"})
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


@pytest.mark.parametrize(
    ("normalisation", "regime"),
    [
        *[(name, "batchnorm") for name in ("batchnorm", "layernorm", "groupnorm-4", "l1")],
        ("batchnorm", "batchnorm+output"),
        ("none", "output"),
    ],
)
def test_a_batch_of_mixed_tasks_gives_what_each_gives_alone(normalisation, regime, learned, images, tmp_path):
    kinds = {"a": {}, "b": {"learning_rate": 0.01}}
    made = Bank.of_runs({name: learned(name, regime, normalisation, **k) for name, k in kinds.items()})
    made.save(tmp_path / "bank.safetensors")
    bank = Bank.load(tmp_path / "bank.safetensors")
    names = ["a", "b", "b", "a"] * 3
    mixed = bank(images, names)
    apart = torch.stack([bank(image[None], [name])[0] for image, name in zip(images, names, strict=True)])
    torch.testing.assert_close(mixed, apart, rtol=1e-4, atol=1e-5)
    assert (mixed - bank(images, ["a"] * 12)).abs().max() > 1e-2
    assert torch.equal(bank.switch("b")(images), bank(images, ["b"] * 12))  # the layers are back in place
    assert bank(images[:0], []).shape == (0, 10)


def test_an_output_layer_without_bias_is_a_tasks_own_too(make_run, tmp_path):
    run = make_run("deep-linear-3", "output")
    network, _ = draw(run, channels=10, classes=10, size=1)
    assert network.output.bias is None
    facts = described(run) | {"channels": 10, "classes": 10, "size": 1, "mean": [0.0], "std": [1.0]}
    names = own_tensors(network)
    tasks = {
        name: Task(facts, {key: torch.full_like(network.state_dict()[key], value) for key in names})
        for name, value in (("a", 1.0), ("b", 2.0))
    }
    made = Bank(network, tasks)
    made.save(tmp_path / "bank.safetensors")
    numbers = torch.randn(4, 10, 1, 1)
    for bank in (made, Bank.load(tmp_path / "bank.safetensors")):
        expected = torch.cat([bank.switch(name)(numbers[i : i + 1]) for i, name in enumerate("abab")])
        torch.testing.assert_close(bank(numbers, list("abab")), expected)


def test_a_layer_with_two_names_is_a_tasks_own_under_both(learned, images, tmp_path):
    kinds = {"a": {}, "b": {"learning_rate": 0.01}}
    of = {name: learned(name, architecture=ALIASED, **kind) for name, kind in kinds.items()}
    bank = Bank.of_runs(of, trust=True)
    names = ["a", "b"] * 6
    with torch.no_grad():
        networks = {name: onlybn.load(folder, trust=True) for name, folder in of.items()}
        alone = [networks[name](image[None])[0] for image, name in zip(images, names, strict=True)]
        expected = torch.stack(alone)
    torch.testing.assert_close(bank(images, names), expected, rtol=1e-4, atol=1e-5)
    with pytest.raises(UserError, match=r"^bank: a file holds no custom code, but its tasks need .*Aliased$"):
        bank.save(tmp_path / "bank.safetensors")
    command = ["bank", str(tmp_path / "bank.safetensors"), f"a={of['a']}"]
    done = forked.python_m("onlybn", *command, folder=ROOT)
    assert done.stderr == f"error: bank: a file holds no custom code, but its tasks need {ALIASED}\n"


def test_tasks_of_fewer_classes_get_no_chance_of_the_others(learned, make_run, few_digits, images, tmp_path):
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
    Bank(bank.network, bank.tasks | {"four": task}).save(tmp_path / "both.safetensors")
    both = Bank.load(tmp_path / "both.safetensors")
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
        "layernorm": (
            learned("layernorm", normalisation="layernorm"),
            r"other features than .* \(network resnet-8 with layernorm, expected resnet-8 with batchnorm\);",
        ),
        "mlp": (
            learned("mlp", architecture="mlp-20-10"),
            r"\(network mlp-20-10 with batchnorm, expected resnet-8 with batchnorm\)",
        ),
        "diverged": (
            learned("diverged", diverged=1, learning_rate=0.02),
            r"diverged diverged in epoch 1: it has no trained network$",
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
    forged, exchanged, custom, newer, bare, twice = (json.loads(json.dumps(facts)) for _ in range(6))
    forged["tasks"][0][1]["seed"] = 5
    exchanged["tasks"].reverse()
    custom["tasks"][0][1]["architecture"] = ALIASED
    newer["bank"] = 99
    del bare["machine"]
    twice["tasks"][1][0] = twice["tasks"][0][0]
    wide = tensors | {name: tensor[:-1] for name, tensor in tensors.items() if name.endswith("bias/0")}
    endless = tensors | {"tasks": tensors["tasks"] * torch.nan}
    for told in (custom, newer, bare, twice):
        told["seal"] = module._seal(told, tensors)
    changed = bytearray(whole)
    changed[-3] ^= 1

    def write(told, content=tensors):
        if content is not tensors:
            told = told | {"seal": module._seal(told, content)}
        save_file(content, file, metadata={"onlybn": json.dumps(told)})

    for change in (
        lambda: file.write_bytes(whole[: len(whole) // 2]),
        lambda: file.write_bytes(changed),
        lambda: file.write_text("no bank"),
        lambda: write(forged),
        lambda: write(exchanged),
        lambda: write(custom),
        lambda: write({"bank": 1}),
        lambda: file.write_bytes((runs["one"] / "state.safetensors").read_bytes()),
    ):
        change()
        with pytest.raises(
            UserError, match=r"^bank: .*bank.safetensors is no bank, or is damaged \([^\n]*\)$"
        ):
            Bank.load(file)
    for change, sentence in (
        (lambda: write(newer), "its format is 99, and this version reads 2"),
        (lambda: write(bare), "'machine'"),
        (lambda: write(twice), "two tasks have one name"),
        (lambda: write(facts, wide), r"output.bias of task 0 has the shape \(9,\)"),
        (lambda: write(facts, endless), "task 0 has values that are not finite"),
    ):
        change()
        with pytest.raises(UserError, match=rf"\({sentence}\)$"):
            Bank.load(file)
    write(custom)
    with pytest.raises(UserError, match=r"\(it names custom code, .*:Aliased\)$"):
        Bank.load(file)
    file.unlink()
    with pytest.raises(UserError, match=r"^bank: .*bank.safetensors is missing$"):
        Bank.load(file)


def test_a_bank_is_not_written_where_it_would_damage_a_run_or_without_its_ending(runs, tmp_path):
    bank = Bank.of_runs(runs)
    for file, sentence in (
        (runs["one"] / "state.safetensors", r"one is the folder of a run; write state.safetensors elsewhere"),
        (tmp_path / "a=b", r"a=b has no known ending; allowed: .safetensors"),
    ):
        with pytest.raises(UserError, match=rf"^bank: .*{sentence}$"):
            bank.save(file)
    assert onlybn.load(runs["one"])


def test_features_that_another_library_draws_are_refused(runs, tmp_path, monkeypatch):
    file = tmp_path / "bank.safetensors"
    Bank.of_runs(runs).save(file)

    def other(run, **shape):
        return drawn(replace(run, seed=9), **shape)

    drawn = module.draw
    monkeypatch.setattr(module, "draw", other)
    with pytest.raises(
        UserError, match=r"safetensors: the frozen weights drawn from seed 0 are not those of training \("
    ):
        Bank.load(file)


def test_features_that_differ_by_rounding_are_taken_with_a_warning(runs, images, tmp_path, monkeypatch):
    file = tmp_path / "bank.safetensors"
    made = Bank.of_runs(runs)
    made.save(file)

    def nearly(run, **shape):
        network, initial = drawn(run, **shape)
        with torch.no_grad():
            network.convolution.weight[0, 0, 0, 0] *= 1 + 2**-22
        return network, initial

    drawn = module.draw
    monkeypatch.setattr(module, "draw", nearly)
    with pytest.warns(UserWarning, match=r"bank.safetensors: the frozen weights differ by rounding \("):
        bank = Bank.load(file)
    torch.testing.assert_close(bank(images, ["one"] * 12), made(images, ["one"] * 12), rtol=1e-3, atol=1e-4)


def test_an_image_file_is_classified_as_its_pixels_are(runs, few_digits, images, tmp_path, monkeypatch):
    bank = Bank.of_runs(runs)
    pixels = few_digits.test.images[3, :, :, 0].numpy()
    Image.fromarray(np.asarray(pixels)).save(tmp_path / "a.png")
    expected = bank.switch("slow")(images[3:4]).softmax(1)[0].tolist()
    found = classify(bank, "slow", tmp_path / "a.png")
    assert found == pytest.approx(dict(zip("0123456789", expected, strict=True)), rel=1e-4)
    Image.fromarray(pixels.astype(np.uint16) * 257).save(tmp_path / "b.png")
    assert classify(bank, "slow", tmp_path / "b.png") == found
    wider = pixels.astype(">u2") * 257  # which Pillow opens as 32-bit integers in newer versions
    (tmp_path / "b.pgm").write_bytes(b"P5 8 8 65535 " + wider.astype(">u2").tobytes())
    assert classify(bank, "slow", tmp_path / "b.pgm") == found
    Image.fromarray(pixels.astype(np.float32) / 255).save(tmp_path / "b.tiff")
    with pytest.raises(UserError, match=r"b.tiff cannot be read as an image \(it holds floating-point"):
        classify(bank, "slow", tmp_path / "b.tiff")
    # The middle of a wider image in colour, lying on its side.
    wide = np.zeros((8, 14, 3), np.uint8)
    wide[:, 3:11] = pixels[:, :, None]
    lying = Image.fromarray(wide).rotate(90, expand=True)
    lying.getexif()[0x0112] = 6  # to be turned by a quarter, clockwise
    lying.save(tmp_path / "c.png", exif=lying.getexif())
    assert classify(bank, "slow", tmp_path / "c.png") == found
    with pytest.raises(UserError, match=r"run.json cannot be read as an image \("):
        classify(bank, "slow", runs["one"] / "run.json")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 16)
    with pytest.raises(UserError, match=r"a.png cannot be read as an image \(Image size \(64 pixels\)"):
        classify(bank, "slow", tmp_path / "a.png")
    task = bank.tasks["slow"]
    for change in ({"channels": 2}, {"dataset": "deep-linear"}):
        bank.tasks["slow"] = replace(task, facts=task.facts | change)
        with pytest.raises(UserError, match=r"^classify: the task slow is not one of grey or colour images$"):
            classify(bank, "slow", tmp_path / "a.png")


def test_an_image_file_that_is_broken_after_its_start_is_one_sentence(runs, tmp_path):
    bank = Bank.of_runs({"one": runs["one"]})
    noise = np.random.default_rng(0).integers(0, 256, (300, 300), np.uint8)
    Image.fromarray(noise).save(tmp_path / "broken.png")
    content = (tmp_path / "broken.png").read_bytes()
    second = content.rindex(b"IDAT")
    (tmp_path / "broken.png").write_bytes(content[:second] + bytes(4) + content[second + 4 :])
    Image.new("LAB", (8, 8)).save(tmp_path / "lab.tiff")
    for name, reason in {"broken.png": "broken PNG file", "lab.tiff": "conversion from LAB"}.items():
        with pytest.raises(UserError, match=rf"{name} cannot be read as an image \({reason}"):
            classify(bank, "one", tmp_path / name)


def test_classes_without_names_are_numbered(runs, tmp_path):
    bank = Bank.of_runs(runs)
    task = bank.tasks["one"]
    bank.tasks["one"] = replace(task, facts=task.facts | {"dataset": "mine:images"})
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    assert [*classify(bank, "one", tmp_path / "a.png")] == [f"class {number}" for number in range(10)]


def test_commands_make_a_bank_and_classify(tmp_path):
    run, file = "results/reference/networks/resnet-14-batchnorm-seed-2", str(tmp_path / "bank.safetensors")
    done = forked.python_m("onlybn", "bank", file, f"objects={run}", folder=ROOT)
    assert re.fullmatch(r".*bank\.safetensors: 1 task, \d\d kB\n", done.stdout), done.stderr
    Image.new("RGB", (40, 32), "red").save(tmp_path / "a.png")
    done = forked.python_m("onlybn", "classify", file, "objects", str(tmp_path / "a.png"), folder=ROOT)
    assert re.fullmatch(r"([a-z]+: \d+\.\d %\n){5}", done.stdout), done.stderr
    for arguments, sentence in (
        (["bank", file, run], f"error: bank: '{run}' is not NAME=FOLDER\n"),
        (["bank", file, "=r"], "error: bank: '=r' is not NAME=FOLDER\n"),
        (["bank", "a=r", f"b={run}"], "error: bank: a=r has no known ending; allowed: .safetensors\n"),
        (["bank", file, f"a={run}", f"a={run}"], "error: bank: two tasks have one name in a, a\n"),
        (["classify", file, "b", "a.png"], "error: bank: there is no task 'b'; there are objects\n"),
    ):
        assert forked.python_m("onlybn", *arguments, folder=ROOT).stderr == sentence
