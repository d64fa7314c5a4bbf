"""The prepare stage: a dataset's own files become checked uint8 tensors with integer labels."""

import hashlib
from pathlib import Path

import numpy as np
from safetensors.numpy import save

from onlybn.datasets import DATASETS, SPLITS, Dataset
from onlybn.errors import UserError
from onlybn.files import write_json, written_whole


def prepare(name: str, data_dir: Path, folder: Path) -> None:
    """Write `{train,test}.safetensors` and `dataset.json` of the named dataset into `folder`.

    Each split holds `images`, uint8 (examples, height, width, channels), and `labels`, int64.
    Raises UserError, naming the file, before anything is written.
    """
    dataset = DATASETS[name]
    splits = dataset.load(data_dir)
    for split, expected in zip(SPLITS, dataset.examples, strict=True):
        _check(name, split, dataset, expected, *splits[split])
    for split in SPLITS:
        images, labels = (np.ascontiguousarray(array) for array in splits[split])
        with written_whole(folder / f"{split}.safetensors") as path:
            path.write_bytes(save({"images": images, "labels": labels}))
    pixels = splits["train"][0] / 255.0 if dataset.mean is None else None
    write_json(
        folder / "dataset.json",
        {
            "dataset": name,
            "title": dataset.title,
            "classes": dataset.classes,
            "examples": dict(zip(SPLITS, dataset.examples, strict=True)),
            "mean": dataset.mean if pixels is None else pixels.mean(axis=(0, 1, 2)).tolist(),
            "std": dataset.std if pixels is None else pixels.std(axis=(0, 1, 2)).tolist(),
            "checksum": checksum(splits),
        },
    )


def checksum(splits: dict[str, tuple[np.ndarray, np.ndarray]]) -> str:
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
    if images.shape != expected or images.dtype != np.uint8:
        raise UserError(
            f"{name}: the {split} images are {images.dtype} of shape {images.shape},"
            f" expected uint8 of shape {expected}"
        )
    if labels.shape != (examples,):
        raise UserError(f"{name}: there are {labels.size} {split} labels for {examples} images")
    if set(np.unique(labels)) != set(range(dataset.classes)):
        raise UserError(
            f"{name}: the {split} labels run from {labels.min()} to {labels.max()}"
            f" in {len(np.unique(labels))} classes, expected every class from 0 to {dataset.classes - 1}"
        )
