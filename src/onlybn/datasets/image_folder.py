"""Photographs in an ImageFolder tree: the index of their files that the prepare stage makes.

The dataset's folder, below `data_dir`, contains `train/<class>/*` and `val/<class>/*`, or the `val` that
`onlybn.datasets.tiny_imagenet` describes. ImageNet's classes have WordNet's identifiers as names; labels
follow the sorted names.
"""

import hashlib
import io
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow as pa
from PIL import Image, UnidentifiedImageError
from tqdm import tqdm

from onlybn.datasets import DATASETS, SPLITS
from onlybn.datasets.tiny_imagenet import validation_files
from onlybn.errors import UserError

# What Pillow raises for a file that is no image, is truncated, or has unreasonable dimensions.
UNREADABLE = (
    *(UnidentifiedImageError, OSError, SyntaxError, ValueError, Image.DecompressionBombError),
    RuntimeError,  # of a damaged AVIF or DDS file
)
FOLDERS = dict(zip(SPLITS, ("train", "val"), strict=True))
INDEX = pa.schema(
    [("path", pa.string()), ("label", pa.int64()), ("bytes", pa.int64()), ("sha256", pa.binary(32))]
)


def index(name: str, data_dir: Path) -> tuple[dict[str, pa.Table], list[str]]:
    """Return the index of each split of the named dataset, a row per file, and its classes by label.

    `path` is relative to the dataset's folder. Every file is read once, for its checksum, and decoded as in
    training, which costs as much as one epoch of decoding: checking the markers alone does not find every
    damaged image. Raises UserError that names missing or additional files, and damaged images.
    """
    dataset = DATASETS[name]
    folder = data_dir / dataset.source
    read = {"train": _files, "test": _files if dataset.test_by_class else validation_files}
    found = {split: read[split](name, folder / FOLDERS[split]) for split in SPLITS}
    classes = list(found["train"])
    if list(found["test"]) != classes:
        odd = sorted(set(classes) ^ set(found["test"]))
        raise UserError(
            f"{name}: {folder / 'train'} and {folder / 'val'} have different classes:"
            f" only one has {_some(odd)}"
        )
    if len(classes) != dataset.classes:
        raise UserError(f"{name}: {folder} holds {len(classes)} classes, expected {dataset.classes:,}")
    for (split, by_class), expected in zip(found.items(), dataset.examples, strict=True):
        count = sum(map(len, by_class.values()))
        if count != expected:
            place = folder / FOLDERS[split]
            raise UserError(f"{name}: {place} holds {count:,} images, expected {expected:,}")
    tables = {split: _checked(name, folder, split, by_class) for split, by_class in found.items()}
    return tables, classes


def _files(name: str, folder: Path) -> dict[str, list[Path]]:
    """Return the images of each class below the folder; classes and images are sorted by name."""
    from torchvision.datasets import ImageFolder

    expected = f"expected {folder}/<class>/*.JPEG; set data_dir to the folder of {folder.parent.name}/"
    try:
        images = ImageFolder(folder)
    except FileNotFoundError as error:
        reason = str(error).splitlines()[0].rstrip(".") if folder.is_dir() else f"{folder} is missing"
        raise UserError(f"{name}: {reason}; {expected}") from None
    except OSError as error:
        raise UserError(f"{name}: {folder} cannot be read ({error.strerror}); {expected}") from None
    by_class: dict[str, list[Path]] = {one: [] for one in images.classes}
    for path, label in images.samples:
        by_class[images.classes[label]].append(Path(path))
    return by_class


def _checked(name: str, folder: Path, split: str, by_class: dict[str, list[Path]]) -> pa.Table:
    labelled = [(path, label) for label, paths in enumerate(by_class.values()) for path in paths]
    facts: list[tuple[int, bytes] | None] = []
    progress = tqdm(
        desc=f"checking {name} {FOLDERS[split]}", total=len(labelled), unit=" files", mininterval=1
    )
    with progress, ThreadPoolExecutor(min(32, 4 * (os.cpu_count() or 1))) as pool:
        for start in range(0, len(labelled), 1_000):  # a million tasks at once would take gigabytes
            facts += pool.map(_look, (path for path, _ in labelled[start : start + 1_000]))
            progress.update(len(facts) - start)
    broken = [str(path) for (path, _), fact in zip(labelled, facts, strict=True) if fact is None]
    if broken:
        raise UserError(
            f"{name}: {len(broken):,} of {len(labelled):,} files are not whole images: {_some(broken)}"
        )
    paths = [path.relative_to(folder).as_posix() for path, _ in labelled]
    labels = [label for _, label in labelled]
    return pa.table([paths, labels, *map(list, zip(*facts, strict=True))], schema=INDEX)


def _look(path: Path) -> tuple[int, bytes] | None:
    """Return a file's size and SHA-256, or None if it is no complete image."""
    try:
        content = path.read_bytes()
        decode(content)
    except UNREADABLE:
        return None
    return len(content), hashlib.sha256(content).digest()


def decode(content: bytes) -> Image.Image:
    """Decode a file's content to an RGB image; raise one of `UNREADABLE` if it is no complete image."""
    return Image.open(io.BytesIO(content)).convert("RGB")


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (", …" if len(names) > 3 else "")


def digest(tables: dict[str, pa.Table]) -> str:
    """Return the SHA-256 of the path, label and checksum of every file, training split first."""
    whole = hashlib.sha256()
    for split in SPLITS:
        for path, label, _, checksum in zip(*(c.to_pylist() for c in tables[split].columns), strict=True):
            whole.update(f"{split}/{path} {label} ".encode() + checksum)
    return whole.hexdigest()
