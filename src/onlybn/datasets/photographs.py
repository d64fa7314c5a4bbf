"""Photographs: worker processes decode, crop and mirror them one by one.

In training (Appendix B) the network's input is a crop of random size and shape. In testing the shorter side
is resized, and the input is the centre. Both resize bilinearly with antialiasing, as torchvision does.
"""

import hashlib
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from threading import Thread

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from onlybn.datasets import DATASETS, SPLITS, check_facts, read_facts
from onlybn.datasets.image_folder import INDEX, UNREADABLE, decode, digest
from onlybn.datasets.images import Images
from onlybn.distributed import ALONE, Group
from onlybn.errors import UserError
from onlybn.randomness import generator

# The range of a random crop's area, as a share of the photograph's, and of its width over its height.
AREA = (0.1, 1.0)
RATIO = (0.8, 1.25)

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Split:
    """The files of a split, their labels, int64 (examples,), and their SHA-256."""

    folder: Path
    paths: pa.ChunkedArray
    labels: np.ndarray
    checksums: pa.ChunkedArray

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: np.ndarray) -> "Split":
        """Return the files at these places."""
        chosen = pa.array(places)
        return Split(self.folder, self.paths.take(chosen), self.labels[places], self.checksums.take(chosen))

    def open(self, example: int) -> Image.Image:
        """Decode an example; raise UserError if its file is missing or has changed since it was prepared."""
        path = self.folder / self.paths[example].as_py()
        try:
            content = path.read_bytes()
        except OSError as error:
            raise UserError(
                f"{path} cannot be read ({error.strerror}), but was readable when prepared"
            ) from None
        if hashlib.sha256(content).digest() != self.checksums[example].as_py():
            raise UserError(f"{path} was altered since it was prepared; restore it, or prepare all again")
        try:
            return decode(content)
        except UNREADABLE as error:
            raise UserError(f"{path} is not a whole image ({error})") from None


@dataclass(frozen=True, kw_only=True)
class Photographs(Images):
    """Photographs that stay in their files; `workers` processes decode them (0: the training process)."""

    train: Split
    test: Split
    size: int
    resize: int
    workers: int

    def training_batches(
        self,
        *,
        seed: int,
        epoch: int,
        batch_size: int,
        shift: float,
        flip: bool,
        group: Group = ALONE,
        skip: int = 0,
        compiled: bool = False,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield an epoch's augmented batches: normalised images and labels; the last may be partial.

        Order and flips are drawn for the whole epoch from (seed, purpose, epoch), and each crop from
        (seed, purpose, epoch, place in the order), so the number of workers changes nothing. `shift` is 0,
        since a random crop already moves the image.
        """
        views = _TrainingViews(
            self.train,
            self.size,
            order=self.order(seed, epoch),
            flips=generator(seed, "flip", epoch).random(self.examples) < (0.5 if flip else 0),
            seed=seed,
            epoch=epoch,
        )
        return self._batches(views, batch_size, group, skip)

    def test_batches(self, batch_size: int, group: Group = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test split in order: normalised images and labels; the last batch may be partial."""
        return self._batches(_TestViews(self.test, self.size, self.resize), batch_size, group)

    def _batches(
        self, views: "_TrainingViews | _TestViews", batch_size: int, group: Group, skip: int = 0
    ) -> Iterator[tuple[Tensor, Tensor]]:
        places = range(len(views))
        parts = islice(group.parts(len(places), batch_size), skip, None)
        loader = DataLoader(
            views,
            batch_sampler=[places[part] for part in parts if places[part]],
            num_workers=self.workers,
            worker_init_fn=_leave_signals_to_the_parent,
            pin_memory=self.device.type == "cuda",
        )
        try:
            for images, labels in loader:
                images, labels = (t.to(self.device, non_blocking=True) for t in (images, labels))
                yield self.normalise(images), labels
        except UserError as error:  # a worker's message has its traceback above the sentence
            raise UserError(str(error).rstrip().rpartition("UserError: ")[2]) from None


@dataclass(frozen=True)
class _TrainingViews:
    """An epoch's random crops in order: for each an image, uint8 (size, size, channels), and a label."""

    split: Split
    size: int
    order: np.ndarray
    flips: np.ndarray
    seed: int
    epoch: int

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.int64]:
        image = self.split.open(self.order[place])
        box = random_crop(generator(self.seed, "crop", self.epoch, place), *image.size)
        image = image.crop(box).resize((self.size, self.size), Image.Resampling.BILINEAR)
        if self.flips[place]:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        return np.array(image), self.split.labels[self.order[place]]


@dataclass(frozen=True)
class _TestViews:
    """The centre crops of a split: for each an image, uint8 (size, size, channels), and a label."""

    split: Split
    size: int
    resize: int

    def __len__(self) -> int:
        return len(self.split)

    def __getitem__(self, place: int) -> tuple[np.ndarray, np.int64]:
        image = centre_crop(self.split.open(place), resize=self.resize, size=self.size)
        return np.array(image), self.split.labels[place]


def _leave_signals_to_the_parent(worker: int) -> None:
    """Make a worker ignore Ctrl-C and a scheduler's SIGTERM: training takes one more step after them.

    The worker ends with the training process, or when that process sends it SIGTERM. Without sigwaitinfo
    (macOS) SIGTERM from any process ends it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        Thread(target=_exit_on_the_parents_sigterm, daemon=True).start()


def _exit_on_the_parents_sigterm() -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != os.getppid():
        pass
    os._exit(0)


def random_crop(rng: np.random.Generator, width: int, height: int) -> Box:
    """Draw a crop (left, upper, right, lower) of random area and shape, as torchvision does.

    The logarithm of the shape is uniform. If ten draws do not fit, the crop is the largest centred one with
    an allowed shape.
    """
    for _ in range(10):
        area = width * height * rng.uniform(*AREA)
        ratio = math.exp(rng.uniform(*map(math.log, RATIO)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        left, upper = rng.random(2)
        if 0 < w <= width and 0 < h <= height:
            left, upper = int(left * (width - w + 1)), int(upper * (height - h + 1))
            return left, upper, left + w, upper + h
    low, high = RATIO
    w, h = min(width, round(height * high)), min(height, round(width / low))
    left, upper = (width - w) // 2, (height - h) // 2
    return left, upper, left + w, upper + h


def centre_crop(image: Image.Image, *, resize: int, size: int) -> Image.Image:
    """Resize the shorter side, keeping the shape, and return the central square of `size` pixels."""
    short = min(image.size)
    width, height = (resize if side == short else int(resize * side / short) for side in image.size)
    image = image.resize((width, height), Image.Resampling.BILINEAR)
    left, upper = round((width - size) / 2), round((height - size) / 2)
    return image.crop((left, upper, left + size, upper + size))


def read(folder: Path, device: torch.device, *, data_dir: Path, workers: int) -> Photographs:
    """Read the prepared index in `folder`; raise UserError if it was altered since."""
    dataset = DATASETS[folder.name]
    facts = read_facts(folder)
    try:
        tables = {split: pq.read_table(folder / f"{split}.parquet") for split in SPLITS}
        found = digest(tables) if all(table.schema.equals(INDEX) for table in tables.values()) else None
    except (OSError, pa.ArrowException) as error:
        raise UserError(f"{folder} is damaged ({error}); delete it to prepare it again") from None
    if found != facts["checksum"]:
        raise UserError(f"{folder} was altered since it was prepared; delete it to prepare it again")
    check_facts(folder, facts, classes=dataset.classes, mean=list(dataset.mean), std=list(dataset.std))
    splits = {
        split: Split(
            folder=data_dir / dataset.source,
            paths=table["path"],
            labels=table["label"].to_numpy(),
            checksums=table["sha256"],
        )
        for split, table in tables.items()
    }
    return Photographs(
        **splits,
        size=dataset.size,
        resize=dataset.resize,
        workers=workers,
        device=device,
        examples=len(splits["train"]),
        channels=dataset.channels,
        **facts,
    )
