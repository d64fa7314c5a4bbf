"""Datasets: their content, their augmentation, and every way in which their files can be wrong."""

import functools
import hashlib
import http.server
import io
import json
import os
import pickle
import re
import shutil
import subprocess
import tarfile
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image
from torchvision.datasets import CIFAR10, CIFAR100

from onlybn.datasets import DATASETS, cifar10, cifar100, small
from onlybn.datasets.prepare import _check
from onlybn.datasets.small import augment, read
from onlybn.distributed import ALONE, Group
from onlybn.errors import UserError
from onlybn.files import refuse_future, sha256


def test_digits_are_a_fixed_stratified_split(digits):
    assert (len(digits.train), len(digits.test)) == (1_437, 360)
    assert digits.checksum == "aee66f802f8336cfaa4e3ecc2107a3aa74db8470d9e66431368b555d8ae5a5dd"
    counts = digits.test.labels.bincount()
    assert counts.min() >= 35
    assert counts.max() <= 37


def test_normalised_training_pixels_have_mean_0_and_deviation_1(digits):
    pixels = digits.normalise(digits.train.images)
    assert pixels.shape == (1_437, 1, 8, 8)
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-3)


def test_augmentation_shifts_and_mirrors_each_image_separately():
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (20, 6, 6, 3), dtype=np.uint8)
    moves, flips = rng.integers(-2, 3, (20, 2)), rng.random(20) < 0.5
    whole = augment(torch.from_numpy(images), torch.from_numpy(moves), torch.from_numpy(flips), 2)
    for image, (down, right), flip, result in zip(images, moves, flips, whole.numpy(), strict=True):
        moved = np.zeros_like(image)
        for row in range(6):
            for column in range(6):
                if 0 <= row - down < 6 and 0 <= column - right < 6:
                    moved[row, column] = image[row - down, column - right]
        expected = np.pad(image, ((2, 2), (2, 2), (0, 0)))[2 - down : 8 - down]
        expected = expected[:, ::-1] if flip else expected
        start = 2 + right if flip else 2 - right
        np.testing.assert_array_equal(result, expected[:, start : start + 6])
        if not flip:
            np.testing.assert_array_equal(result, moved)


def test_an_epoch_shows_every_image_once_in_a_new_order(digits):
    def order(seed, epoch):
        batches = digits.training_batches(seed=seed, epoch=epoch, batch_size=100, shift=0.0, flip=False)
        return torch.cat([images.flatten(1) for images, _ in batches])

    first, second = order(0, 1), order(0, 2)
    assert len(first) == 1_437
    assert torch.equal(first, order(0, 1))
    assert not torch.equal(first, second)
    assert not torch.equal(first, order(1, 1))
    assert torch.equal(first.sum(1).sort().values, second.sum(1).sort().values)


@pytest.mark.parametrize("group", [ALONE, Group(1, 3)], ids=["alone", "second of three"])
@pytest.mark.parametrize("skip", [0, 4])
def test_batches_augmented_together_equal_those_augmented_separately(group, skip, digits, monkeypatch):
    def batches():
        options = {"seed": 0, "epoch": 1, "batch_size": 128, "shift": 0.25, "flip": True}
        return list(digits.training_batches(**options, group=group, skip=skip))

    expected = batches()
    augmented = []
    monkeypatch.setattr(small, "augment", lambda *given: augmented.append(0) or augment(*given))
    monkeypatch.setitem(small.AT_ONCE, "cpu", 5)  # of 12, the last of which has 29 images
    for (images, labels), (expected_images, expected_labels) in zip(batches(), expected, strict=True):
        assert torch.equal(images, expected_images)
        assert images.stride() == expected_images.stride()
        assert torch.equal(labels, expected_labels)
    assert len(expected) == 12 - skip
    assert len(augmented) == (3 if skip == 0 else 2)


@pytest.mark.parametrize("moved", [{"shift": 0.25, "flip": True}, {"shift": 0.0, "flip": False}])
@pytest.mark.parametrize("channels", [1, 3])
def test_the_compiled_augmentation_gives_the_same_bits(moved, channels, digits):
    pixels = torch.randint(0, 256, (50, 8, 8, channels), generator=torch.Generator().manual_seed(0))
    split = small.Split(pixels.to(torch.uint8), torch.arange(50))
    facts = {"channels": channels, "mean": [0.3, 0.5, 0.4][:channels], "std": [0.2, 0.25, 0.3][:channels]}
    images = replace(digits, train=split, examples=50, **facts)
    options = {"seed": 0, "epoch": 1, "batch_size": 16, "group": Group(1, 3), "skip": 1} | moved
    by_torch, compiled = (list(images.training_batches(**options, compiled=flag)) for flag in (False, True))
    assert len(by_torch) == 3
    for (one, labels), (other, other_labels) in zip(by_torch, compiled, strict=True):
        assert torch.equal(one, other)
        assert one.stride() == other.stride()
        assert torch.equal(labels, other_labels)


def flip_a_bit(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-1])


def make_a_folder(path):
    path.unlink()
    path.mkdir()


def make_a_loop(path):  # not even root can open this
    path.unlink()
    path.symlink_to(path)


def lose_a_key(path):
    path.write_text(path.read_text().replace("checksum", "check"))


def test_mean_and_deviation_come_from_counts_of_pixels():
    rng = np.random.default_rng(0)
    images = rng.integers(0, [40, 256, 2], (2500, 3, 3, 3), np.uint8)
    pixels = images / 255
    for found, expected in zip(small.mean_and_deviation(images), (pixels.mean, pixels.std), strict=True):
        assert found == pytest.approx(expected(axis=(0, 1, 2)).tolist(), rel=1e-12)


def tell(**facts):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | facts))

    return change


FILE_DAMAGES = {
    "other mean": ("dataset.json", tell(mean=[0.9]), "was prepared with mean [0.9], and that of these"),
    "no deviation": ("dataset.json", tell(std=[0.0]), "was prepared with std [0.0], and that of these"),
    "two deviations": ("dataset.json", tell(std=[1.0, 1.0]), "was prepared with std [1.0, 1.0], and that"),
    "a word": ("dataset.json", tell(mean=["x"]), "was prepared with mean ['x'], and that of these"),
    "no mean": ("dataset.json", tell(mean=None), "was prepared with mean None, and that of these images"),
    "classes": ("dataset.json", tell(classes=20), "was prepared with classes 20, and that of these images"),
    "flipped bit": ("test.safetensors", flip_a_bit, "was altered since it was prepared; delete it"),
    "cut short": ("test.safetensors", cut_short, "is damaged ("),
    "gone": ("train.safetensors", Path.unlink, "is damaged (No such file"),
    "folder": ("train.safetensors", make_a_folder, "is damaged ("),
    "unreadable": ("train.safetensors", make_a_loop, "is damaged ("),
    "other images": ("dataset.json", lose_a_key, "is damaged (dataset.json: 'checksum')"),
    "facts cut short": (
        "dataset.json",
        lambda path: path.write_text("{"),
        "is damaged (dataset.json: Expecting",
    ),
    "facts a list": (
        "dataset.json",
        lambda path: path.write_text("[]"),
        "is damaged (dataset.json: list indices",
    ),
    "facts a folder": ("dataset.json", make_a_folder, "is damaged (dataset.json: [Errno 21]"),
    "facts unreadable": ("dataset.json", make_a_loop, "is damaged (dataset.json: [Errno 40]"),
}


@pytest.mark.parametrize("case", FILE_DAMAGES)
def test_a_damaged_prepared_dataset_is_rejected_in_one_sentence(digits_folder, tmp_path, case):
    name, damage, sentence = FILE_DAMAGES[case]
    folder = tmp_path / "digits"
    shutil.copytree(digits_folder, folder)
    damage(folder / name)
    with pytest.raises(UserError) as raised:
        read(folder, torch.device("cpu"))
    assert str(raised.value).startswith(f"{folder} {sentence}")
    assert "\n" not in str(raised.value)


def test_prepared_files_from_the_future_are_rejected_at_the_start_with_a_remedy(tmp_path):
    from conftest import BUILTIN, CONFIG

    from onlybn.configuration import open_study
    from onlybn.workflow.paths import Workflow

    results = tmp_path / "my results"
    workflow = Workflow(open_study(CONFIG | {"results_dir": str(results)}, BUILTIN))
    files = [Path(file) for file in workflow.dataset_files("digits")]
    files[0].parent.mkdir(parents=True)
    for file in files[1:]:
        file.touch()
    now = files[1].stat().st_mtime
    os.utime(files[1], (now, now + 3))  # as coarse or hasty clocks may have it
    refuse_future(files, results)
    for file in files[1:]:
        os.utime(file, (now, now + 3600))
    with pytest.raises(SystemExit) as left:
        workflow.start(local=True)
    sentence, _, command = str(left.value).partition(" current time: ")
    assert re.fullmatch(
        rf"error: {files[1]} and 1 more: stamped in the future \(\d{{4}}-\d\d-\d\d \d\d:\d\d:\d\d\), so"
        r" every output would be older than its input; if this machine's clock is right, give such files the",
        sentence,
    )
    subprocess.run(command, shell=True, check=True)
    refuse_future(files, results)


@pytest.mark.parametrize(
    ("images", "labels", "sentence"),
    [
        (np.zeros((360, 8, 9, 1), np.uint8), np.arange(360) % 10, "expected uint8 of shape"),
        (np.zeros((360, 8, 8, 1), np.float32), np.arange(360) % 10, "images are float32"),
        (np.zeros((360, 8, 8, 1), np.uint8), np.arange(359) % 10, "359 test labels for 360 images"),
        (np.zeros((360, 8, 8, 1), np.uint8), np.arange(360) % 11, "labels run from 0 to 10"),
        (np.zeros((360, 8, 8, 1), np.uint8), np.arange(360) % 9, "in 9 classes"),
    ],
)
def test_images_of_another_shape_or_label_are_rejected(images, labels, sentence):
    with pytest.raises(UserError, match=sentence):
        _check("digits", "test", DATASETS["digits"], 360, images, labels)


# CIFAR-10 and CIFAR-100 of 20 + 10 images, in the original format, served as torchvision expects it.

ORIGINALS = {
    "cifar10": (CIFAR10, cifar10.load_batches, "labels", ("data_batch_1", "test_batch", "batches.meta")),
    "cifar100": (CIFAR100, cifar100.load, "fine_labels", ("train", "test", "meta")),
}


@pytest.fixture(params=ORIGINALS)
def small_cifar(request, tmp_path, monkeypatch):
    """Return the function that loads them, torchvision's class, the archive and its files by name."""
    original, load, labels, (train, test, meta) = ORIGINALS[request.param]
    rng = np.random.default_rng(0)
    batches = {}
    for name, count in ((train, 20), (test, 10)):
        data = rng.integers(0, 256, (count, 3072), dtype=np.uint8)
        batches[name] = pickle.dumps({"data": data, labels: [i % 10 for i in range(count)]})
    named = original.meta["key"]
    batches[meta] = pickle.dumps({named: list("abcdefghij")})
    md5 = {name: hashlib.md5(content).hexdigest() for name, content in batches.items()}
    archive = tmp_path / "served" / original.filename
    archive.parent.mkdir()
    with tarfile.open(archive, "w:gz") as tar:
        for name, content in batches.items():
            member = tarfile.TarInfo(f"{original.base_folder}/{name}")
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    monkeypatch.setattr(original, "train_list", [[train, md5[train]]])
    monkeypatch.setattr(original, "test_list", [[test, md5[test]]])
    monkeypatch.setattr(original, "meta", {"filename": meta, "key": named, "md5": md5[meta]})
    monkeypatch.setattr(original, "tgz_md5", hashlib.md5(archive.read_bytes()).hexdigest())
    monkeypatch.setattr(original, "url", "http://127.0.0.1:9/nothing-listens-here.tar.gz")
    return load, original, archive, batches


@pytest.fixture
def server(small_cifar, monkeypatch):
    _, original, archive, _ = small_cifar

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=archive.parent)
    ) as httpd:
        threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setattr(original, "url", f"http://127.0.0.1:{httpd.server_port}/{archive.name}")
        yield
        httpd.shutdown()


def test_original_batches_are_downloaded_when_absent_and_read_from_disk_after(
    server, small_cifar, tmp_path, monkeypatch
):
    load, original, _, _ = small_cifar
    splits = load(tmp_path / "data")
    assert splits["train"][0].shape == (20, 32, 32, 3)
    assert splits["test"][1].tolist() == list(range(10))
    monkeypatch.setattr(original, "url", "http://127.0.0.1:9/nothing-listens-here.tar.gz")
    np.testing.assert_array_equal(load(tmp_path / "data")["train"][0], splits["train"][0])


def test_a_download_that_fails_says_where_the_files_belong(small_cifar, tmp_path):
    load, original, _, _ = small_cifar
    sentence = rf"^cifar100?: .*{original.base_folder} does not exist, and downloading .* failed"
    with pytest.raises(UserError, match=sentence):
        load(tmp_path / "data")


def test_a_damaged_archive_is_rejected(server, small_cifar, tmp_path):
    load, _, archive, _ = small_cifar
    archive.write_bytes(archive.read_bytes()[:-10])
    with pytest.raises(UserError, match=r"downloading .* failed"):
        load(tmp_path / "data")


def test_an_archive_whose_unpacking_was_interrupted_is_unpacked_again(
    server, small_cifar, tmp_path, monkeypatch
):
    load, original, archive, _ = small_cifar

    def interrupted(tar, path, **options):
        tar.extract(tar.next(), path, filter="data")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(tarfile.TarFile, "extractall", interrupted)
        load(tmp_path / "data")
    assert [path.name for path in (tmp_path / "data").iterdir()] == [archive.name]
    monkeypatch.setattr(original, "url", "http://127.0.0.1:9/nothing-listens-here.tar.gz")
    assert load(tmp_path / "data")["train"][0].shape == (20, 32, 32, 3)


def test_original_batches_are_checked_before_they_are_unpickled(small_cifar, tmp_path):
    load, original, _, batches = small_cifar
    folder = tmp_path / "data" / original.base_folder
    folder.mkdir(parents=True)
    for name, content in batches.items():
        (folder / name).write_bytes(content)
    load(tmp_path / "data")

    class Trap:
        def __reduce__(self):
            return (pytest.fail, ("an altered file was unpickled",))

    _, test, _ = batches
    (folder / test).write_bytes(pickle.dumps(Trap()))
    with pytest.raises(UserError, match=rf"{test} is truncated or altered: its MD5 is .* expected"):
        load(tmp_path / "data")
    (folder / test).unlink()
    with pytest.raises(UserError, match=f"{test} is missing; expected a file with MD5"):
        load(tmp_path / "data")


# A JPEG-coded copy of 20 + 10 images.


def jpeg_table(count, kind="JPEG", side=32, **columns):
    rng = np.random.default_rng(count)

    def coded():
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(file, kind)
        return {"bytes": file.getvalue(), "path": None}

    content = {"img": [coded() for _ in range(count)], "label": [i % 10 for i in range(count)]}
    return pa.table(content | columns)


@pytest.fixture
def jpeg(tmp_path):
    folder = tmp_path / "cifar10"
    folder.mkdir()

    def write(train=None, test=None):
        files = {}
        for split, count, table in (("train", 20, train), ("test", 10, test)):
            path = folder / f"{split}.parquet"
            pq.write_table(table or jpeg_table(count), path)
            files[split] = (path.name, sha256(path), count)
        return files

    return tmp_path, folder, write


def test_the_jpeg_copy_is_read_in_order(jpeg):
    data_dir, _, write = jpeg
    splits = cifar10.load_jpeg(data_dir, write())
    assert splits["train"][0].shape == (20, 32, 32, 3)
    assert splits["test"][0].dtype == np.uint8
    assert splits["test"][1].tolist() == list(range(10))


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda path: path.unlink(), "test.parquet is missing; expected 10 rows"),
        (
            lambda path: path.write_bytes(path.read_bytes()[: path.stat().st_size // 2]),
            "test.parquet is not a whole Parquet file",
        ),
        (lambda path: path.write_bytes(b""), "test.parquet is not a whole Parquet file"),
        (lambda path: (path.unlink(), path.mkdir()), "test.parquet is missing"),
        (
            lambda path: path.write_bytes(flipped(path.read_bytes(), 500)),
            r"test.parquet is altered, or another copy: its SHA-256",
        ),
        (lambda path: pq.write_table(jpeg_table(9), path), "test.parquet has 9 rows"),
        (
            lambda path: pq.write_table(pa.table({"image": [1], "label": [1]}), path),
            "test.parquet has the columns image: int64, label: int64; expected 10 rows with the columns",
        ),
    ],
)
def test_a_damaged_jpeg_copy_is_rejected_in_one_sentence(jpeg, damage, sentence):
    data_dir, folder, write = jpeg
    files = write()
    damage(folder / "test.parquet")
    with pytest.raises(UserError, match=f"^cifar10-jpeg: .*{sentence}"):
        cifar10.load_jpeg(data_dir, files)


def flipped(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 4]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        (jpeg_table(10, "PNG"), "row 0 is a PNG of 32×32; expected a JPEG"),
        (jpeg_table(10, side=31), "row 0 is a JPEG of 31×31"),
        (jpeg_table(10, img=[{"bytes": b"no", "path": ""}] * 10), "row 0 is not an image"),
    ],
)
def test_images_of_another_kind_are_rejected(jpeg, table, sentence):
    data_dir, _, write = jpeg
    with pytest.raises(UserError, match=sentence):
        cifar10.load_jpeg(data_dir, write(test=table))


def test_a_dataset_is_prepared_by_one_process_at_a_time_and_once(tmp_path, monkeypatch):
    from conftest import Silent

    from onlybn import locks
    from onlybn.datasets.prepare import prepare, prepare_once
    from onlybn.locks import lock

    lines, folder = [], tmp_path / "digits"
    held = lock(tmp_path / ".digits.lock", "taken")

    def end(terminal, line):  # the other process has prepared it
        lines.append(line)
        prepare("digits", tmp_path, folder)
        os.close(held)

    monkeypatch.setattr(locks, "PATIENCE", 0.1)
    monkeypatch.setattr(Silent, "say", end)
    prepare_once("digits", tmp_path, folder, Silent())
    assert lines == [f"{folder}: another Snakemake prepares it; this one waits for its end"]
    before = (folder / "dataset.json").stat().st_mtime_ns
    prepare_once("digits", tmp_path, folder, Silent())
    assert (folder / "dataset.json").stat().st_mtime_ns == before
    (folder / "test.safetensors").unlink()
    prepare_once("digits", tmp_path, folder, Silent())
    assert (folder / "test.safetensors").exists()
