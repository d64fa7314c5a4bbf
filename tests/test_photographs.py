"""Photographs: their index, crops that agree with torchvision, and every way their files can be wrong."""

import math
import multiprocessing
import signal
import subprocess
from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from onlybn import datasets
from onlybn.datasets import DATASETS, image_folder
from onlybn.datasets.photographs import AREA, RATIO, centre_crop, random_crop
from onlybn.datasets.prepare import prepare
from onlybn.distributed import Group
from onlybn.errors import UserError
from onlybn.randomness import generator
from onlybn.study import Run, Training
from onlybn.training.loop import train

CLASSES = ("n01440764", "n02102040")


def photograph(seed, mode="RGB", size=(50, 40)):
    """A smooth random picture, which JPEG and resizing hardly change."""
    coarse = np.random.default_rng(seed).integers(0, 256, (4, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC).convert(mode)


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """Two classes of five training and two validation photographs, of several sizes and modes."""
    small = replace(
        DATASETS["imagenet"], classes=2, examples=(10, 4), size=24, resize=28, source="tree", title="tree"
    )
    monkeypatch.setitem(DATASETS, "tree", small)
    for split, count in (("train", 5), ("val", 2)):
        for label, name in enumerate(CLASSES):
            folder = tmp_path / "tree" / split / name
            folder.mkdir(parents=True)
            for number in range(count):
                seed = 100 * label + number + (50 if split == "val" else 0)
                mode = ("RGB", "L", "CMYK")[number % 3]
                picture = photograph(seed, mode, (40 + 7 * number, 60 - 5 * number))
                picture.save(folder / f"{name}_{number}.JPEG", "JPEG")
    return tmp_path


@pytest.fixture
def prepared(tree):
    prepare("tree", tree, tree / "results" / "tree")

    def read(workers=0, data_dir=tree):
        folder = tree / "results" / "tree"
        return datasets.read(folder, torch.device("cpu"), data_dir=data_dir, workers=workers)

    return read


def epoch(images, seed=0, epoch=1, **changes):
    options = {"batch_size": 4, "shift": 0.0, "flip": True} | changes
    return list(images.training_batches(seed=seed, epoch=epoch, **options))


def test_the_index_holds_every_file_with_its_label_size_and_checksum(prepared, tree):
    index = pq.read_table(tree / "results/tree/train.parquet").to_pylist()
    assert [row["path"] for row in index[4:6]] == [
        "train/n01440764/n01440764_4.JPEG",
        "train/n02102040/n02102040_0.JPEG",
    ]
    assert [row["label"] for row in index] == [0] * 5 + [1] * 5
    assert all(row["bytes"] == (tree / "tree" / row["path"]).stat().st_size for row in index)
    assert len({row["sha256"] for row in index}) == 10


def test_an_epoch_shows_every_photograph_once_in_rgb(prepared):
    images = prepared()
    batches = epoch(images)
    assert [tuple(batch.shape) for batch, _ in batches] == [(4, 3, 24, 24)] * 2 + [(2, 3, 24, 24)]
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == [0] * 5 + [1] * 5
    tested = list(images.test_batches(3))
    assert torch.cat([labels for _, labels in tested]).tolist() == [0, 0, 1, 1]
    assert all(batch.dtype == torch.float32 for batch, _ in tested)


def test_an_epoch_depends_on_its_seed_and_number_and_not_on_the_workers(prepared):
    first = torch.cat([batch for batch, _ in epoch(prepared())])
    assert torch.equal(first, torch.cat([batch for batch, _ in epoch(prepared(workers=2))]))
    assert not torch.equal(first, torch.cat([batch for batch, _ in epoch(prepared(), epoch=2)]))
    assert not torch.equal(first, torch.cat([batch for batch, _ in epoch(prepared(), seed=1)]))


@pytest.mark.parametrize("workers", [0, 1])
def test_two_processes_together_get_the_batches_of_one(prepared, workers):
    images = prepared(workers)
    halves = [Group(0, 2), Group(1, 2)]
    whole = epoch(images, batch_size=3)  # the last batch has one photograph, for the second process
    parts = [epoch(images, batch_size=3, group=half) for half in halves]
    assert [len(part) for part in parts] == [3, 4]
    for place, (batch, labels) in enumerate(whole):
        found = [part[place] for part in parts if place < len(part)]
        assert torch.equal(torch.cat([images for images, _ in found]), batch)
        assert torch.equal(torch.cat([labels for _, labels in found]), labels)
    tested = [images.test_batches(3, half) for half in halves]
    assert sorted(len(labels) for part in tested for _, labels in part) == [1, 1, 2]


def test_workers_ignore_a_schedulers_signals(prepared):
    options = {"seed": 0, "epoch": 1, "batch_size": 1, "shift": 0.0, "flip": True}
    batches = prepared(workers=1).training_batches(**options)
    first, _ = next(batches)
    (worker,) = multiprocessing.active_children()
    for number in (signal.SIGTERM, signal.SIGINT):  # from a process that is not its parent
        subprocess.run(["kill", f"-{number}", str(worker.pid)], check=True)
    rest = [images for images, _ in batches]
    assert len(rest) == 9
    assert torch.equal(torch.cat([first, *rest]), torch.cat([b for b, _ in epoch(prepared(), batch_size=1)]))


def test_remaining_workers_end_when_the_training_process_stops_them(prepared):
    batches = prepared(workers=1).training_batches(seed=0, epoch=1, batch_size=1, shift=0.0, flip=True)
    next(batches)
    (worker,) = multiprocessing.active_children()
    worker.terminate()
    worker.join(10)
    assert worker.exitcode == 0


@pytest.mark.parametrize("workers", [0, 1])
def test_an_epoch_continues_after_the_skipped_batches(prepared, workers):
    images = prepared(workers)
    for (batch, labels), (expected, own) in zip(epoch(images, skip=1), epoch(images)[1:], strict=True):
        assert torch.equal(batch, expected)
        assert torch.equal(labels, own)


def test_a_random_crop_is_drawn_as_in_torchvision():
    drawn = [random_crop(generator(0, place), 50, 40) for place in range(4_000)]
    torch.manual_seed(0)
    transform = v2.RandomResizedCrop(24, scale=AREA, ratio=RATIO)
    theirs = [transform.make_params([Image.new("RGB", (50, 40))]) for _ in range(4_000)]
    ours = np.array([(u, le, lo - u, r - le) for le, u, r, lo in drawn])
    theirs = np.array([[box[key] for key in ("top", "left", "height", "width")] for box in theirs])
    for column in range(4):
        low, middle, high = np.percentile(ours[:, column], [10, 50, 90])
        assert [low, middle, high] == pytest.approx(np.percentile(theirs[:, column], [10, 50, 90]), abs=1.5)
        assert ours[:, column].mean() == pytest.approx(theirs[:, column].mean(), abs=0.5)
    area = ours[:, 2] * ours[:, 3] / 2_000
    assert 0.09 < area.min() < 0.12 < 0.9 < area.max() <= 1


@pytest.mark.parametrize("width,height", [(1_000, 10), (10, 1_000), (24, 24), (1, 1)])
def test_a_crop_stays_inside_a_photograph_of_any_shape(width, height):
    for place in range(50):
        left, upper, right, lower = random_crop(generator(0, place), width, height)
        assert 0 <= left < right <= width
        assert 0 <= upper < lower <= height


def test_a_photograph_too_long_for_any_crop_gives_its_centre():
    assert random_crop(generator(0, 0), 1_000, 10) == (494, 0, 506, 10)
    assert random_crop(generator(0, 0), 10, 1_000) == (0, 494, 10, 506)


@pytest.mark.parametrize("size", [(50, 40), (41, 77), (28, 28), (333, 29)])
def test_the_centre_crop_equals_torchvisions_in_every_pixel(size):
    picture = photograph(1, size=size)
    expected = v2.CenterCrop(24)(v2.Resize(28)(picture))
    np.testing.assert_array_equal(np.array(centre_crop(picture, resize=28, size=24)), np.array(expected))


def test_a_training_view_is_the_resized_crop_mirrored_if_drawn_so(prepared):
    images = prepared()
    order = generator(3, "order", 1).permutation(10)
    flips = generator(3, "flip", 1).random(10) < 0.5
    views = torch.cat([batch for batch, _ in epoch(images, seed=3)])
    for place in range(10):
        picture = images.train.open(order[place])
        left, upper, right, lower = random_crop(generator(3, "crop", 1, place), *picture.size)
        view = v2.functional.resized_crop(picture, upper, left, lower - upper, right - left, [24, 24])
        if flips[place]:
            view = v2.functional.horizontal_flip(view)
        expected = images.normalise(torch.from_numpy(np.array(view))[None])
        torch.testing.assert_close(views[place : place + 1], expected)
    assert flips.any()
    assert not flips.all()


def test_a_network_trains_on_photographs(prepared):
    run = Run(
        study="s",
        dataset="tree",
        training=Training(epochs=2, batch_size=4, learning_rate=0.1, shift=0),
        architecture="imagenet-resnet-18",
        regime="batchnorm",
        variant="kaiming-normal_gamma-uniform",
        seed=0,
    )
    rows = train(run, prepared()).rows
    assert len(rows) == 4
    assert all(math.isfinite(row["loss"]) for row in rows)


# What can be wrong before it is prepared.


def truncate(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])


def cut_behind_the_thumbnail(path):
    """A photograph with a complete small JPEG in its Exif data, and nothing after them."""
    thumbnail = path.read_bytes()
    exif = b"Exif\0\0" + thumbnail
    path.write_bytes(b"\xff\xd8\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif + thumbnail[2:])
    whole = Image.open(path)
    whole.load()
    path.write_bytes(path.read_bytes()[: 6 + len(exif)])


def lose_the_tables(path):
    """Keep only the start and the scan, which ends properly."""
    content = path.read_bytes()
    path.write_bytes(content[:2] + content[content.rfind(b"\xff\xda") :])


def remove(folder):
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()


DAMAGES = {
    "no folder": (
        lambda t: (t / "tree").rename(t / "elsewhere"),
        "tree/train is missing; expected .*<class>",
    ),
    "no validation": (lambda t: (t / "tree/val").rename(t / "val"), "tree/val is missing"),
    "a class too few": (
        lambda t: remove(t / "tree/val/n02102040"),
        "have different classes: only one has n02102040",
    ),
    "a class without images": (
        lambda t: [path.unlink() for path in (t / "tree/train/n02102040").iterdir()],
        "Found no valid file for the classes n02102040",
    ),
    "a class too many": (
        lambda t: [
            ((t / "tree" / s / "n9").mkdir(), photograph(0).save(t / f"tree/{s}/n9/a.JPEG"))
            for s in ("train", "val")
        ],
        "tree holds 3 classes, expected 2",
    ),
    "an image too few": (
        lambda t: (t / "tree/train/n02102040/n02102040_0.JPEG").unlink(),
        "tree/train holds 9 images, expected 10",
    ),
    "cut short": (
        lambda t: truncate(t / "tree/train/n02102040/n02102040_0.JPEG"),
        "1 of 10 files are not whole images: .*n02102040_0.JPEG$",
    ),
    "cut behind its thumbnail": (
        lambda t: cut_behind_the_thumbnail(t / "tree/train/n02102040/n02102040_0.JPEG"),
        "1 of 10 files are not whole images: .*n02102040_0.JPEG$",
    ),
    "without tables": (
        lambda t: lose_the_tables(t / "tree/val/n02102040/n02102040_0.JPEG"),
        "1 of 4 files are not whole images: .*n02102040_0.JPEG$",
    ),
    "empty": (
        lambda t: (t / "tree/val/n02102040/n02102040_0.JPEG").write_bytes(b""),
        "1 of 4 files are not whole images",
    ),
    "text": (
        lambda t: (t / "tree/val/n02102040/n02102040_0.JPEG").write_text("<html>not found</html>"),
        "1 of 4 files are not whole images",
    ),
    "files for folders": (
        lambda t: (remove(t / "tree/val/n01440764"), remove(t / "tree/val/n02102040")),
        "Couldn't find any class folder in .*tree/val; expected",
    ),
}


@pytest.mark.parametrize("case", DAMAGES)
def test_a_damaged_tree_is_rejected_in_one_sentence_before_anything_is_written(tree, case):
    damage, sentence = DAMAGES[case]
    damage(tree)
    with pytest.raises(UserError, match=f"^tree: .*{sentence}") as raised:
        prepare("tree", tree, tree / "results" / "tree")
    assert "\n" not in str(raised.value)
    assert not (tree / "results").exists()


def test_a_png_named_jpeg_is_accepted(tree):
    photograph(0).save(tree / "tree/train/n01440764/n01440764_0.JPEG", "PNG")
    prepare("tree", tree, tree / "results" / "tree")


# And after.

LATER = {
    "gone": (
        lambda path: path.unlink(),
        "n01440764_0.JPEG cannot be read .No such file or directory., but was readable",
    ),
    "altered": (lambda path: photograph(9).save(path), "n01440764_0.JPEG was altered since it was prepared"),
    "cut short": (truncate, "n01440764_0.JPEG was altered since it was prepared"),
}


@pytest.mark.parametrize(("case", "workers"), [*((case, 0) for case in LATER), ("gone", 1)])
def test_a_photograph_damaged_after_preparing_gives_one_sentence(prepared, tree, case, workers):
    images = prepared(workers)
    damage, sentence = LATER[case]
    damage(tree / "tree/train/n01440764/n01440764_0.JPEG")
    with pytest.raises(UserError, match=sentence) as raised:
        epoch(images)
    assert "\n" not in str(raised.value)


def test_a_damaged_image_in_an_unchecked_index_gives_one_sentence_when_decoded(tree, monkeypatch):
    lose_the_tables(tree / "tree/train/n01440764/n01440764_0.JPEG")
    with monkeypatch.context() as older:
        older.setattr(image_folder, "decode", lambda content: None)
        prepare("tree", tree, tree / "results" / "tree")
    images = datasets.read(tree / "results/tree", torch.device("cpu"), data_dir=tree)
    with pytest.raises(UserError, match=r"n01440764_0.JPEG is not a whole image"):
        epoch(images)


def test_an_altered_or_damaged_index_is_rejected(prepared, tree):
    index = tree / "results/tree/train.parquet"
    table = pq.read_table(index)
    pq.write_table(table.slice(1), index)
    with pytest.raises(UserError, match="altered since it was prepared; delete it"):
        prepared()
    truncate(index)
    with pytest.raises(UserError, match="results/tree is damaged"):
        prepared()


def test_another_data_dir_is_read_without_preparing_again(prepared, tree):
    (tree / "moved").mkdir()
    (tree / "tree").rename(tree / "moved" / "tree")
    assert len(epoch(prepared(data_dir=tree / "moved"))) == 3
    with pytest.raises(UserError, match="cannot be read"):
        epoch(prepared())


def test_photographs_are_held_out_and_scored_like_any_test_split(prepared):
    images, held_out = prepared().hold_out(4, seed=0)
    assert sorted(torch.cat([labels for _, labels in epoch(images)]).tolist()) == [0] * 3 + [1] * 3
    tested = list(held_out.test_batches(3))
    assert torch.cat([labels for _, labels in tested]).tolist() == [0, 0, 1, 1]
    (place, *_) = np.setdiff1d(np.arange(10), images.places)
    expected = centre_crop(images.train.open(place), resize=28, size=24)
    assert torch.equal(tested[0][0][0], images.normalise(torch.from_numpy(np.array(expected))[None])[0])
    training = Training(epochs=1, batch_size=4, learning_rate=0.1, shift=0, validation=0.4, select="best")
    run = Run("test", "tree", training, "imagenet-resnet-18", "batchnorm", "kaiming-normal_gamma-uniform", 0)
    assert [row["split"] for row in train(run, prepared()).rows] == ["train", "validation", "test"]


# TinyImageNet's layout, whose validation photographs are in one folder.


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """Two classes of three training and two validation photographs of 16×16."""
    facts = {"classes": 2, "examples": (6, 4), "size": 24, "resize": 28}
    monkeypatch.setitem(DATASETS, "tinyimagenet", replace(DATASETS["tinyimagenet"], **facts))
    folder = tmp_path / "tiny-imagenet-200"
    for label, name in enumerate(CLASSES):
        (folder / "train" / name / "images").mkdir(parents=True)
        (folder / "train" / name / f"{name}_boxes.txt").touch()
        for number in range(3):
            picture = photograph(10 * label + number, size=(16, 16))
            picture.save(folder / "train" / name / "images" / f"{name}_{number}.JPEG")
    (folder / "val" / "images").mkdir(parents=True)
    for number in range(4):
        photograph(50 + number, size=(16, 16)).save(folder / "val" / "images" / f"val_{number}.JPEG")
    annotations = [f"val_{number}.JPEG\t{CLASSES[1 - number % 2]}\t0\t1\t2\t3\n" for number in range(4)]
    (folder / "val" / "val_annotations.txt").write_text("".join(annotations))
    return tmp_path


def test_tinyimagenet_has_its_official_layout_and_enlarged_photographs(tiny):
    folder = tiny / "results" / "tinyimagenet"
    prepare("tinyimagenet", tiny, folder)
    rows = {split: pq.read_table(folder / f"{split}.parquet").to_pylist() for split in ("train", "test")}
    assert [row["path"] for row in rows["train"]] == [
        f"train/{name}/images/{name}_{number}.JPEG" for name in CLASSES for number in range(3)
    ]
    assert [(row["path"], row["label"]) for row in rows["test"]] == [
        ("val/images/val_1.JPEG", 0),
        ("val/images/val_3.JPEG", 0),
        ("val/images/val_0.JPEG", 1),
        ("val/images/val_2.JPEG", 1),
    ]
    images = datasets.read(folder, torch.device("cpu"), data_dir=tiny)
    assert [tuple(batch.shape) for batch, _ in epoch(images)] == [(4, 3, 24, 24), (2, 3, 24, 24)]
    ((batch, labels),) = images.test_batches(4)
    assert (tuple(batch.shape), labels.tolist()) == ((4, 3, 24, 24), [0, 0, 1, 1])
    small = Image.open(tiny / "tiny-imagenet-200/val/images/val_1.JPEG")
    enlarged = small.resize((28, 28), Image.Resampling.BILINEAR).crop((2, 2, 26, 26))
    assert torch.equal(images.normalise(torch.from_numpy(np.array(enlarged))[None]), batch[:1])


def annotate(tree, text):
    (tree / "tiny-imagenet-200/val/val_annotations.txt").write_text(text)


TINY_DAMAGES = {
    "no annotations": (
        lambda t: (t / "tiny-imagenet-200/val/val_annotations.txt").unlink(),
        r"val_annotations.txt cannot be read \(No such file or directory\); expected a line .*; set data_dir",
    ),
    "binary annotations": (
        lambda t: (t / "tiny-imagenet-200/val/val_annotations.txt").write_bytes(b"\xff\xfe"),
        r"val_annotations.txt cannot be read \(it is not UTF-8 text\)",
    ),
    "spaces for tabs": (
        lambda t: annotate(t, "val_0.JPEG n01440764\n"),
        "line 1 is 'val_0.JPEG n01440764', expected a line for each photograph: file name, tab, class",
    ),
    "a name twice": (
        lambda t: annotate(t, "val_0.JPEG\tn01440764\nval_0.JPEG\tn02102040\n"),
        "line 2 names val_0.JPEG again",
    ),
    "a photograph too few": (
        lambda t: (t / "tiny-imagenet-200/val/images/val_2.JPEG").unlink(),
        "val_annotations.txt has 1 photographs that .*val/images lacks, such as val_2.JPEG$",
    ),
    "annotations cut short": (
        lambda t: annotate(t, "val_0.JPEG\tn01440764\nval_1.JPEG\tn02102040\n"),
        "val/images has 2 photographs that .*val_annotations.txt lacks, such as val_2.JPEG$",
    ),
    "another class": (
        lambda t: annotate(t, "".join(f"val_{i}.JPEG\tn{i % 3}\n" for i in range(4))),
        "train and .*val have different classes: only one has n0, n01440764, n02102040",
    ),
    "a truncated photograph": (
        lambda t: truncate(t / "tiny-imagenet-200/val/images/val_3.JPEG"),
        "1 of 4 files are not whole images: .*val/images/val_3.JPEG$",
    ),
    "a training photograph too few": (
        lambda t: (t / f"tiny-imagenet-200/train/{CLASSES[0]}/images/{CLASSES[0]}_1.JPEG").unlink(),
        "train holds 5 images, expected 6",
    ),
    "no training photographs": (
        lambda t: (t / "tiny-imagenet-200/train").rename(t / "elsewhere"),
        "tiny-imagenet-200/train is missing; expected",
    ),
}


@pytest.mark.parametrize("case", TINY_DAMAGES)
def test_a_damaged_tinyimagenet_is_rejected_in_one_sentence_before_anything_is_written(tiny, case):
    damage, sentence = TINY_DAMAGES[case]
    damage(tiny)
    with pytest.raises(UserError, match=f"^tinyimagenet: .*{sentence}") as raised:
        prepare("tinyimagenet", tiny, tiny / "results" / "tinyimagenet")
    assert "\n" not in str(raised.value)
    assert not (tiny / "results").exists()
