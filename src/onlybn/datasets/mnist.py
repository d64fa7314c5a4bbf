"""MNIST: torchvision's official files, with grey or binary pixels; or its 10,000 test images alone."""

import gzip
from http.client import HTTPException
from pathlib import Path

import numpy as np
from sklearn.model_selection import train_test_split

from onlybn.datasets import originals
from onlybn.errors import UserError

Split = tuple[np.ndarray, np.ndarray]

# The bytes before the content of the files: two integers of 4 bytes, and one more for each side of an image.
IMAGES_START, LABELS_START = 16, 8


def load(data_dir: Path) -> dict[str, Split]:
    """Read `MNIST/raw` below `data_dir`, where torchvision downloads the files that are missing.

    Images are uint8 (examples, 28, 28, 1), labels int64. Every file is checked against its published MD5.
    Raises UserError that names a missing or altered file.
    """
    from torchvision.datasets import MNIST

    folder = data_dir / "MNIST" / "raw"
    for file, md5 in MNIST.resources:
        if not originals.is_there("mnist", folder / file, md5):
            _download(folder, file, md5)
    train_images, train_labels, test_images, test_labels = _read("mnist", folder, MNIST.resources)
    return {"train": _split(train_images, train_labels), "test": _split(test_images, test_labels)}


def load_10k(data_dir: Path) -> dict[str, Split]:
    """Return a fixed stratified split of MNIST's test images into 8,000 training and 2,000 test images.

    Their two files are read from `mnist10k` below `data_dir`, as `load` reads them; nothing is downloaded.
    """
    from torchvision.datasets import MNIST

    folder = data_dir / "mnist10k"
    images, labels = _split(*_read("mnist10k", folder, MNIST.resources[2:]))
    places = train_test_split(np.arange(len(labels)), test_size=0.2, stratify=labels, random_state=0)
    return {name: (images[some], labels[some]) for name, some in zip(("train", "test"), places, strict=True)}


def load_binary(data_dir: Path) -> dict[str, Split]:
    """Return the same as `load`, with pixels of 255 where they are above one half, and else 0."""
    return _binary(load(data_dir))


def load_10k_binary(data_dir: Path) -> dict[str, Split]:
    """Return the same as `load_10k`, with pixels of 255 where they are above one half, and else 0."""
    return _binary(load_10k(data_dir))


def _download(folder: Path, file: str, md5: str) -> None:
    """Download a file from the first mirror that has it."""
    from torchvision.datasets import MNIST
    from torchvision.datasets.utils import download_url

    reasons = []
    for mirror in MNIST.mirrors:
        try:
            with originals.arriving(folder) as temporary:
                download_url(f"{mirror}{file}", temporary, file, md5)
                (temporary / file).replace(folder / file)
            return
        except (OSError, RuntimeError, HTTPException) as error:
            reasons.append(" ".join(str(error).split()))
    raise UserError(
        f"mnist: {folder / file} does not exist, and downloading it failed ({', '.join(reasons)}); put a file"
        f" with MD5 {md5} there, or set data_dir to the folder that contains MNIST"
    )


def _binary(splits: dict[str, Split]) -> dict[str, Split]:
    return {
        name: (np.where(images > 127, np.uint8(255), np.uint8(0)), labels)
        for name, (images, labels) in splits.items()
    }


def _read(name: str, folder: Path, files: list[tuple[str, str]]) -> list[bytes]:
    """Return the uncompressed content of files, given with their MD5; raise UserError if one is missing."""
    for file, md5 in files:
        originals.verify(name, folder / file, md5)
    return [gzip.decompress((folder / file).read_bytes()) for file, _ in files]


def _split(images: bytes, labels: bytes) -> Split:
    """Turn the content of a split's two files into arrays."""
    pixels = np.frombuffer(images, np.uint8, offset=IMAGES_START).reshape(-1, 28, 28, 1)
    return pixels, np.frombuffer(labels, np.uint8, offset=LABELS_START).astype(np.int64)
