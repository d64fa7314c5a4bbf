"""The interface of a dataset for training, for every way of storing images."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Self

import numpy as np
import torch
from torch import Tensor

from onlybn.datasets import Targets, validation
from onlybn.distributed import ALONE, Group
from onlybn.randomness import generator


@dataclass(frozen=True, kw_only=True)
class Images(ABC):
    """A prepared dataset that yields batches on one device.

    Each subclass defines `size`, the height and width, in pixels, of the images that the network gets, and
    the splits `train` and `test`. `examples` counts the images that train, and `places` are theirs in the
    training split, unless all of them train. `mean` and `std` normalise each channel of pixels in [0, 1].
    Labels are int64 (batch,), or where the `targets` are numbers float32 (batch, classes).
    """

    device: torch.device
    examples: int
    channels: int
    classes: int
    mean: list[float]
    std: list[float]
    checksum: str
    places: np.ndarray | None = None
    targets: Targets = "classes"

    @abstractmethod
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

        Order and augmentation depend only on (seed, epoch). Each process of a group gets its part of every
        batch of `batch_size`. The first `skip` batches are skipped. If `compiled`, a compiled function may
        compute them on a CPU, with the same bits, since numba is loaded anyway.
        """

    @abstractmethod
    def test_batches(self, batch_size: int, group: Group = ALONE) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield the test split in order: normalised images and labels; the last batch may be partial."""

    def of_run(self, held_out: int | None, examples: int | None, seed: int) -> tuple[Self, Self | None]:
        """Return these images with those that a run trains on, and with those held out as the test split.

        Where `held_out` is None, none are, and the latter is None. Of the others `examples` train, or all if
        that is None. Raises UserError if a class would have no image in a part.
        """
        images, validated = (self, None) if held_out is None else self.hold_out(held_out, seed)
        return images.choose(examples, seed) if examples else images, validated

    def hold_out(self, count: int, seed: int) -> tuple[Self, Self]:
        """Return these images without `count` of the training images, and with those as the test split.

        Raises UserError if a class would have no image on one of the sides.
        """
        places, held_out = validation.hold_out(self._labels, count, seed)
        training = replace(self, examples=len(places), places=places)
        return training, replace(self, test=self.train.take(held_out))

    def choose(self, count: int, seed: int) -> Self:
        """Return these images with `count` of those that train.

        Raises UserError if a class would have none.
        """
        places = np.arange(self.examples) if self.places is None else self.places
        # Numbers have no classes to share the count.
        labels = self._labels[places] if self.targets == "classes" else np.zeros(len(places), int)
        return replace(self, examples=count, places=places[validation.choose(labels, count, seed)])

    def unaugmented(self, most: int) -> Self:
        """Return these images with those that train as the test split, or with `most` of them.

        Of more, the same ones are drawn for every run.
        """
        places = np.arange(self.examples) if self.places is None else self.places
        return replace(self, test=self.train.take(_at_most(places, most)))

    def with_fewer_tests(self, most: int) -> Self:
        """Return these images with at most so many of the test split, the same ones for every run."""
        if len(self.test) <= most:
            return self
        return replace(self, test=self.test.take(_at_most(np.arange(len(self.test)), most)))

    @property
    def _labels(self) -> np.ndarray:
        labels = self.train.labels
        return labels.cpu().numpy() if isinstance(labels, Tensor) else labels

    def order(self, seed: int, epoch: int) -> np.ndarray:
        """Draw the order of an epoch, as places in the training split."""
        order = generator(seed, "order", epoch).permutation(self.examples)
        return order if self.places is None else self.places[order]

    def normalise(self, images: Tensor) -> Tensor:
        """Turn uint8 (batch, height, width, channels) into float32 (batch, channels, height, width).

        Inputs that are float32 already are not scaled.
        """
        if images.is_floating_point():
            return images.permute(0, 3, 1, 2)
        # Work on whole rows: a loop over three channels is ten times slower.
        scale, offset = (factor.repeat(images.shape[2]) for factor in self._scale_and_offset)
        rows = images.flatten(2).float().mul_(scale).add_(offset)
        return rows.view(images.shape).permute(0, 3, 1, 2)

    @cached_property
    def _scale_and_offset(self) -> tuple[Tensor, Tensor]:
        mean, std = torch.tensor(self.mean), torch.tensor(self.std)
        return (1 / (255 * std)).to(self.device), (-mean / std).to(self.device)


def _at_most(places: np.ndarray, most: int) -> np.ndarray:
    """Return the places, or where there are more, `most` of them, in increasing order."""
    if len(places) <= most:
        return places
    return np.sort(generator(0, "at-most").permutation(places)[:most])
