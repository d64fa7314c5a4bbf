"""Small images: all of them are on the training device and are augmented in whole batches."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor
from torch.nn import functional as F

from onlybn import custom
from onlybn.datasets import SPLITS, check_facts, known, read_facts
from onlybn.datasets.images import Images
from onlybn.datasets.prepare import checksum
from onlybn.distributed import ALONE, Group
from onlybn.errors import UserError
from onlybn.randomness import generator

# Batches that are augmented together, by device: a GPU's small kernels take longer to start than to run.
AT_ONCE = {"cpu": 1, "cuda": 16}


@dataclass(frozen=True)
class Split:
    """Images, uint8 (examples, height, width, channels), and labels, int64, on one device.

    Where the targets are numbers, both are float32.
    """

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def take(self, places: np.ndarray) -> "Split":
        """Return a copy of the images at these places."""
        chosen = torch.from_numpy(places).to(self.labels.device)
        return Split(self.images[chosen], self.labels[chosen])


@dataclass(frozen=True, kw_only=True)
class SmallImages(Images):
    """Images of one small size, all on the device."""

    train: Split
    test: Split

    @property
    def size(self) -> int:
        """The height and width of the images, in pixels."""
        return self.train.images.shape[1]

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

        Order, shifts and flips are drawn on the host for the whole epoch from (seed, purpose, epoch). Images
        shift by up to `shift` of their side, rounded to pixels, and the border becomes black, as in a padded
        random crop.
        """
        images, labels = self.train.images, self.train.labels
        count, pixels = self.examples, round(shift * images.shape[1])
        order = self.order(seed, epoch)
        moves, flips = np.zeros((count, 2), np.int64), np.zeros(count, bool)
        if pixels:
            moves = generator(seed, "shift", epoch).integers(-pixels, pixels + 1, (count, 2))
        if flip:
            flips = generator(seed, "flip", epoch).random(count) < 0.5
        parts = list(islice(group.parts(count, batch_size), skip, None))
        if compiled and not images.is_floating_point():
            for part in parts:
                yield self._augmented(order[part], moves[part], flips[part]), labels[order[part]]
            return
        order, moves, flips = (torch.from_numpy(drawn).to(self.device) for drawn in (order, moves, flips))
        many = AT_ONCE[self.device.type]
        for first in range(0, len(parts), many):
            together = parts[first : first + many]
            chosen, moved, flipped = (
                torch.cat([drawn[part] for part in together]) for drawn in (order, moves, flips)
            )
            shown = images[chosen]
            if pixels or flip:
                shown = augment(shown, moved, flipped, pixels)
            batches = self.normalise(shown)
            sizes = [part.stop - part.start for part in together]
            yield from zip(batches.split(sizes), labels[chosen].split(sizes), strict=True)

    def _augmented(self, chosen: np.ndarray, moves: np.ndarray, flips: np.ndarray) -> Tensor:
        from onlybn.datasets.augmenting import augment

        images = self.train.images
        batch = torch.empty(len(chosen), *images.shape[1:])
        augment(images.numpy(), chosen, moves, flips, self._table, batch.numpy())
        return batch.permute(0, 3, 1, 2)

    @cached_property
    def _table(self) -> np.ndarray:
        """The normalised value of each byte in each channel, float32 (256, channels)."""
        values = torch.arange(256, dtype=torch.uint8)[None, :, None, None].expand(1, 256, 1, self.channels)
        return self.normalise(values)[0, :, :, 0].T.contiguous().numpy()

    def test_batches(self, batch_size: int, group: Group = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test split in order: normalised images and labels; the last batch may be partial."""
        for part in group.parts(len(self.test), batch_size):
            yield self.normalise(self.test.images[part]), self.test.labels[part]


def read(folder: Path, device: torch.device) -> SmallImages:
    """Read the prepared images in `folder`; raise UserError if they were altered since."""
    facts = read_facts(folder)
    try:
        tensors = {split: load_file(folder / f"{split}.safetensors") for split in SPLITS}
        found = checksum({s: (t["images"].numpy(), t["labels"].numpy()) for s, t in tensors.items()})
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise UserError(f"{folder} is damaged ({error}); delete it to prepare it again") from None
    if found != facts["checksum"]:
        raise UserError(f"{folder} was altered since it was prepared; delete it to prepare it again")
    dataset = known(custom.from_path(folder.name))
    images, labels = (tensors["train"][name] for name in ("images", "labels"))
    means = (dataset.mean, dataset.std) if dataset.mean else mean_and_deviation(images.numpy())
    classes = dataset.classes or int(labels.max()) + 1
    check_facts(folder, facts, classes=classes, mean=list(means[0]), std=list(means[1]))
    return SmallImages(
        **{s: Split(t["images"].to(device), t["labels"].to(device)) for s, t in tensors.items()},
        device=device,
        examples=len(images),
        channels=images.shape[-1],
        targets=dataset.targets,
        **facts,
    )


def mean_and_deviation(images: np.ndarray) -> tuple[list[float], list[float]]:
    """Return each channel's mean and standard deviation of pixels in [0, 1], from counts of the 256 values.

    Images are uint8 (examples, height, width, channels), which are not copied as a whole.
    """
    channels = images.shape[-1]
    counts = np.zeros((channels, 256))
    for first in range(0, len(images), 1000):
        for channel, its in zip(counts, images[first : first + 1000].reshape(-1, channels).T, strict=True):
            channel += np.bincount(its, minlength=256)
    values, shares = np.arange(256) / 255, counts / counts.sum(axis=1, keepdims=True)
    means = shares @ values
    return means.tolist(), np.sqrt((shares * (values - means[:, None]) ** 2).sum(axis=1)).tolist()


def augment(images: Tensor, moves: Tensor, flips: Tensor, pixels: int) -> Tensor:
    """Shift each image by its row (down, right) of `moves`, at most `pixels`, and mirror it where `flips`.

    Images are uint8 (batch, height, width, channels); `moves` int64 (batch, 2); `flips` bool (batch,).
    """
    batch, height, width, _ = images.shape
    padded = F.pad(images, (0, 0, pixels, pixels, pixels, pixels))
    windows = padded.unfold(1, height, 1).unfold(2, width, 1).permute(0, 1, 2, 4, 5, 3)
    down, right = (pixels - moves).unbind(1)
    moved = windows[torch.arange(batch, device=images.device), down, right]
    return torch.where(flips[:, None, None, None], moved.flip(2), moved)
