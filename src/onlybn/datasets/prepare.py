"""The prepare stage: turn small images into checked uint8 tensors, and photographs into a checked index."""

import hashlib
import os
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save

from onlybn import custom
from onlybn.datasets import DATASETS, SPLITS, Dataset, image_folder, known, loader
from onlybn.errors import UserError
from onlybn.files import write_json, write_table, written_whole
from onlybn.jobs import Terminal
from onlybn.locks import wait_for_lock

Split = tuple[np.ndarray, np.ndarray]


def prepare_once(name: str, data_dir: Path, folder: Path, terminal: Terminal) -> None:
    """Prepare the named dataset into `folder` unless it exists; wait while another process prepares it."""
    message = f"{folder}: another Snakemake prepares it; this one waits for its end"
    held = wait_for_lock(folder.with_name(f".{folder.name}.lock"), message, terminal)
    try:
        if all((folder / file).exists() for file in known(name).files):
            print("already prepared by another process")
        else:
            prepare(name, data_dir, folder)
    finally:
        os.close(held)


def prepare(name: str, data_dir: Path, folder: Path) -> None:
    """Write the files of the named dataset into `folder`: `dataset.json`, and one for each split.

    If the images are not as expected, raises UserError that names the file, before anything is written.
    """
    prepare_kind = _prepare_photographs if known(name).photographs else _prepare_small
    dataset, facts = prepare_kind(name, data_dir, folder)
    examples = dict(zip(SPLITS, dataset.examples, strict=True))
    write_json(
        folder / "dataset.json", {"dataset": name, "title": dataset.title, "examples": examples, **facts}
    )


def _prepare_small(name: str, data_dir: Path, folder: Path) -> tuple[Dataset, dict[str, Any]]:
    """Write each split's `images`, uint8 (examples, height, width, channels), and `labels`, int64.

    Where the targets are numbers, both are float32.
    """
    found = {}
    if custom.is_custom(name):
        found["loader"] = loader(name, folder, data_dir)
        splits = _custom_splits(name, custom.call(name, data_dir))
        dataset = _look(name, splits)
        found |= {"channels": dataset.channels, "size": dataset.size}
    else:
        dataset = DATASETS[name]
        module, function = dataset.source.split(":")
        read: dict[str, Split] = getattr(import_module(module), function)(data_dir)
        splits = {split: (_in_channels(images, dataset), labels) for split, (images, labels) in read.items()}
    for split, expected in zip(SPLITS, dataset.examples, strict=True):
        _check(name, split, dataset, expected, *splits[split])
    for split in SPLITS:
        images, labels = (np.ascontiguousarray(array) for array in splits[split])
        with written_whole(folder / f"{split}.safetensors") as path:
            path.write_bytes(save({"images": images, "labels": labels}))
    pixels = splits["train"][0] / 255.0 if dataset.mean is None else None
    return dataset, {
        "classes": dataset.classes,
        **found,
        "mean": dataset.mean if pixels is None else pixels.mean(axis=(0, 1, 2)).tolist(),
        "std": dataset.std if pixels is None else pixels.std(axis=(0, 1, 2)).tolist(),
        "checksum": checksum(splits),
    }


def _in_channels(images: np.ndarray, dataset: Dataset) -> np.ndarray:
    """Repeat grey images for a dataset of three channels."""
    is_grey = dataset.targets == "classes" and images.shape[-1] == 1
    return np.repeat(images, dataset.channels, axis=-1) if is_grey else images


def _custom_splits(name: str, returned: object) -> dict[str, Split]:
    """Return what the custom function returned, with labels as int64; raise UserError if it is malformed.

    It must return a dictionary that maps `train` and `test` each to a tuple of images, uint8 (examples, size,
    size, channels), and labels, whole numbers (examples,).
    """
    if not isinstance(returned, dict) or set(returned) != set(SPLITS):
        raise UserError(f"{name} did not return a dictionary of train and test")
    splits = {}
    for split in SPLITS:
        pair = returned[split]
        if not (isinstance(pair, tuple) and [type(array) for array in pair] == [np.ndarray] * 2):
            raise UserError(f"{name}: {split} is not a tuple of two NumPy arrays, images and labels")
        images, labels = pair
        if (
            images.dtype != np.uint8
            or images.ndim != 4
            or images.shape[1] != images.shape[2]
            or not images.size
        ):
            raise UserError(
                f"{name}: the {split} images are {images.dtype} of shape {images.shape},"
                " expected uint8 of shape (examples, size, size, channels)"
            )
        if not np.issubdtype(labels.dtype, np.integer):
            raise UserError(f"{name}: the {split} labels are {labels.dtype}, expected whole numbers")
        splits[split] = images, labels.astype(np.int64)
    return splits


def _look(name: str, splits: dict[str, Split]) -> Dataset:
    """Return a custom dataset with the facts of its training images, which the test split must match."""
    images, labels = splits["train"]
    constant = np.flatnonzero(np.ptp(images, axis=(0, 1, 2)) == 0).tolist()
    if constant:
        raise UserError(f"{name}: every training pixel of channel {constant[0]} is the same")
    return replace(
        known(name),
        classes=int(labels.max(initial=0)) + 1,
        channels=images.shape[3],
        size=images.shape[1],
        examples=(len(images), len(splits["test"][0])),
    )


def _prepare_photographs(name: str, data_dir: Path, folder: Path) -> tuple[Dataset, dict[str, Any]]:
    """Write each split's index of files: path, label, bytes and SHA-256."""
    dataset = DATASETS[name]
    tables, class_names = image_folder.index(name, data_dir)
    for split in SPLITS:
        write_table(folder / f"{split}.parquet", tables[split])
    return dataset, {
        "classes": dataset.classes,
        "class_names": class_names,
        "mean": dataset.mean,
        "std": dataset.std,
        "checksum": image_folder.digest(tables),
    }


def checksum(splits: dict[str, Split]) -> str:
    """Return the SHA-256 of the training and test images and labels, in that order."""
    digest = hashlib.sha256()
    for split in SPLITS:
        for array in splits[split]:
            digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def _check(
    name: str, split: str, dataset: Dataset, examples: int, images: np.ndarray, labels: np.ndarray
) -> None:
    expected = (examples, dataset.size, dataset.size, dataset.channels)
    kind = np.dtype(np.uint8 if dataset.targets == "classes" else np.float32)
    if images.shape != expected or images.dtype != kind:
        raise UserError(
            f"{name}: the {split} images are {images.dtype} of shape {images.shape},"
            f" expected {kind} of shape {expected}"
        )
    if dataset.targets == "numbers":
        return
    if labels.shape != (examples,):
        raise UserError(f"{name}: there are {labels.size} {split} labels for {examples} images")
    present = np.unique(labels)
    # Compare the numbers first: if labels are large identifiers, a list of all classes would fill the memory.
    if len(present) != dataset.classes or present.tolist() != list(range(dataset.classes)):
        raise UserError(
            f"{name}: the {split} labels run from {present[0]} to {present[-1]} in {len(present)} classes,"
            f" expected every class from 0 to {dataset.classes - 1}"
        )
    if len(present) < 2:
        raise UserError(f"{name}: all {split} images are of one class, expected at least two classes")
