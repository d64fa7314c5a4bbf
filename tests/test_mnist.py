"""MNIST: its files as published, whole or only the test images, and every way in which they can be wrong."""

import functools
import gzip
import hashlib
import http.server
import re
import struct
import threading
from http.client import BadStatusLine, IncompleteRead
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from torchvision.datasets import MNIST, utils

from onlybn.datasets import DATASETS, mnist, read
from onlybn.datasets.prepare import prepare
from onlybn.errors import UserError

# Real files, where somebody has put them; nothing needs them.
REAL = ROOT.parent / "shared" / "data"
NOWHERE = "http://127.0.0.1:9/"


def images_file(count, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
    pixels[:, 0, :2] = 127, 128
    return gzip.compress(struct.pack(">4i", 0x803, count, 28, 28) + pixels.tobytes())


def labels_file(count):
    return gzip.compress(struct.pack(">2i", 0x801, count) + bytes(place % 10 for place in range(count)))


@pytest.fixture
def made(monkeypatch):
    """Return MNIST's four files, of 40 and 100 images, by name; torchvision expects these and no others."""
    contents = (images_file(40, 0), labels_file(40), images_file(100, 1), labels_file(100))
    files = dict(zip((name for name, _ in MNIST.resources), contents, strict=True))
    published = [(name, hashlib.md5(content).hexdigest()) for name, content in files.items()]
    monkeypatch.setattr(MNIST, "resources", published)
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    return files


def put(files, folder, names=None):
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or files:
        (folder / name).write_bytes(files[name])
    return folder


@pytest.fixture
def server(made, tmp_path, monkeypatch):
    """Serve the files; torchvision tries a mirror that does not answer first."""

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args):
            pass

    served = put(made, tmp_path / "served")
    handler = functools.partial(Quiet, directory=served)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, args=[0.01], daemon=True).start()
        monkeypatch.setattr(MNIST, "mirrors", [NOWHERE, f"http://127.0.0.1:{httpd.server_port}/"])
        yield served
        httpd.shutdown()


def test_missing_files_are_downloaded_and_read_from_disk_after(server, made, tmp_path, monkeypatch):
    first = next(iter(made))
    put(made, tmp_path / "MNIST" / "raw", [first])
    splits = mnist.load(tmp_path)
    assert splits["train"][0].shape == (40, 28, 28, 1)
    assert splits["test"][1].tolist() == [place % 10 for place in range(100)]
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    np.testing.assert_array_equal(mnist.load(tmp_path)["test"][0], splits["test"][0])
    assert sorted(path.name for path in (tmp_path / "MNIST" / "raw").iterdir()) == sorted(made)


def test_the_content_is_as_torchvision_reads_it(server, tmp_path):
    splits = mnist.load(tmp_path)
    for split in splits:
        theirs = MNIST(tmp_path, train=split == "train", download=True)
        np.testing.assert_array_equal(splits[split][0][..., 0], theirs.data.numpy())
        np.testing.assert_array_equal(splits[split][1], theirs.targets.numpy())


def test_a_download_that_fails_or_is_altered_is_one_sentence_with_the_file_and_its_md5(
    made, server, tmp_path, monkeypatch
):
    name, md5 = MNIST.resources[1]
    (server / name).write_bytes(b"other content")
    with pytest.raises(UserError, match=rf"^mnist: .*{name} .* failed \(.*\); put a file with MD5 {md5}"):
        mnist.load(tmp_path / "altered")
    monkeypatch.setattr(MNIST, "mirrors", [NOWHERE])
    with pytest.raises(UserError, match=r"^mnist: .*does not exist, and downloading it failed") as refused:
        mnist.load(tmp_path / "nothing")
    assert "\n" not in str(refused.value)


def test_an_answer_that_is_not_http_is_a_mirror_that_failed(server, tmp_path, monkeypatch):
    first = iter([BadStatusLine("hello"), IncompleteRead(b"")])
    fetch = utils.download_url

    def broken(url, *args):
        if url.startswith(NOWHERE):
            raise next(first, OSError("nothing there"))
        return fetch(url, *args)

    monkeypatch.setattr(utils, "download_url", broken)
    assert set(mnist.load(tmp_path)) == {"train", "test"}


def test_an_interrupted_download_leaves_nothing_and_is_repeated(server, tmp_path, monkeypatch):
    def interrupted(url, file):
        Path(file).write_bytes(b"part")
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(utils, "_urlretrieve", interrupted)
        mnist.load(tmp_path)
    assert not any((tmp_path / "MNIST" / "raw").iterdir())
    assert len(mnist.load(tmp_path)["test"][1]) == 100


DAMAGES = {
    "truncated": lambda content: content[:-20],
    "altered": lambda content: content[:50] + bytes([content[50] ^ 1]) + content[51:],
    "compressed again": lambda content: gzip.compress(gzip.decompress(content), 1, mtime=1),
    "not compressed": gzip.decompress,
    "empty": lambda content: b"",
}


@pytest.mark.parametrize("case", DAMAGES)
@pytest.mark.parametrize("load", [mnist.load, mnist.load_10k])
def test_a_file_that_is_not_the_published_one_is_refused_in_one_sentence(made, tmp_path, load, case):
    folder = put(made, tmp_path / ("MNIST/raw" if load is mnist.load else "mnist10k"))
    name, md5 = MNIST.resources[2]
    (folder / name).write_bytes(DAMAGES[case](made[name]))
    sentence = f"{folder / name} is truncated or altered: its MD5 is "
    with pytest.raises(UserError, match=f"{re.escape(sentence)}.*, expected {md5}$") as refused:
        load(tmp_path)
    assert "\n" not in str(refused.value)


def test_the_test_images_alone_are_never_downloaded(made, tmp_path):
    with pytest.raises(UserError, match=f"^mnist10k: .*is missing; expected a file with MD5 {'.' * 32}$"):
        mnist.load_10k(tmp_path)


def test_the_test_images_alone_are_split_by_class_always_alike(made, tmp_path):
    put(made, tmp_path / "mnist10k", list(made)[2:])
    splits = mnist.load_10k(tmp_path)
    assert np.bincount(splits["train"][1]).tolist() == [8] * 10
    assert np.bincount(splits["test"][1]).tolist() == [2] * 10
    again = mnist.load_10k(tmp_path)
    np.testing.assert_array_equal(splits["test"][0], again["test"][0])
    together = np.concatenate([splits[split][0] for split in ("train", "test")])
    assert len(np.unique(together.reshape(100, -1), axis=0)) == 100


def test_binary_pixels_are_0_or_1_by_whether_they_are_above_one_half(made, tmp_path):
    put(made, tmp_path / "mnist10k", list(made)[2:])
    grey, binary = mnist.load_10k(tmp_path)["train"], mnist.load_10k_binary(tmp_path)["train"]
    np.testing.assert_array_equal(binary[0], 255 * (grey[0] / 255 > 0.5))
    np.testing.assert_array_equal(binary[1], grey[1])
    assert binary[0][:, 0, :2, 0].tolist() == [[0, 255]] * 80
    assert binary[0].dtype == np.uint8


def real(name, tmp_path):
    if not (REAL / "mnist10k").is_dir():
        pytest.skip("MNIST's test images are not here")
    prepare(name, REAL, tmp_path / name)
    return read(tmp_path / name, torch.device("cpu"), data_dir=Path("unused"))


def test_binary_images_reach_the_network_as_0_and_1(tmp_path):
    images = real("mnist10k-binary", tmp_path)
    assert images.normalise(images.train.images[:100]).unique().tolist() == [0.0, 1.0]
    assert (images.examples, len(images.test), images.size) == (8_000, 2_000, 28)
    assert (images.test.labels.bincount() - images.train.labels.bincount() / 4).abs().max() < 1


def test_grey_images_are_normalised_by_the_training_split(tmp_path):
    images = real("mnist10k", tmp_path)
    pixels = images.normalise(images.train.images)
    assert pixels.mean().item() == pytest.approx(0, abs=1e-4)
    assert pixels.std().item() == pytest.approx(1, abs=1e-3)


def test_all_four_are_known_before_they_are_read():
    for name in ("mnist", "mnist-binary", "mnist10k", "mnist10k-binary"):
        facts = DATASETS[name]
        assert (facts.classes, facts.channels, facts.size, facts.flips) == (10, 1, 28, False)
