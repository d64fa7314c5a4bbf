"""One run while it trains."""

import time
from collections.abc import Callable, Iterator, Mapping
from functools import cached_property

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from onlybn.datasets.images import Images
from onlybn.devices import name_of
from onlybn.distributed import ALONE, Group
from onlybn.networks.draw import draw
from onlybn.networks.state import frozen, learned, running_statistics
from onlybn.study import Run
from onlybn.tensors import digest
from onlybn.training.evaluation import Measures, arithmetic_in, evaluate
from onlybn.training.optimisers import SGD


class LiveRun:
    """One run while it trains: its network on the device, what was measured, and how far it is.

    `epoch` counts the epochs that are over, `steps` those taken of the next one.
    """

    def __init__(self, run: Run, images: Images, precision: torch.dtype, group: Group = ALONE):
        self.run, self.images, self.precision, self.group = run, images, precision, group
        training = run.training
        self.network, self.trained = draw(
            run, channels=images.channels, classes=images.classes, size=images.size
        )
        self.network.to(images.device, memory_format=torch.channels_last)
        self.initial_affine = {
            name: (layer.weight.detach().clone(), layer.bias.detach().clone())
            for name, layer in self.network.named_normalisations()
        }
        self.model = group.wrap(self.network)
        self.optimiser = SGD(
            self.trained.values(), momentum=training.momentum, weight_decay=training.weight_decay
        )
        self.measures = Measures(images.device)
        self.arithmetic = arithmetic_in(precision, images.device)
        self.before = {name: tensor.clone() for name, tensor in learned(self.network).items()}
        self.epoch = self.steps = 0
        self.rows: list[dict] = []
        self.diverged: int | None = None
        self.started, self.seconds = time.perf_counter(), 0.0
        self.resumed: list[dict] = []

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to train."""
        return self.diverged is not None or self.epoch == self.run.training.epochs

    @property
    def place(self) -> tuple[int, int]:
        """How far it is: epochs, and steps of the next."""
        return self.epoch, self.steps

    @cached_property
    def frozen_digest(self) -> str:
        """The digest of the weights that training leaves at their draw."""
        return digest(frozen(self.network))

    def batches(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Begin an epoch, or go on: return its batches, of which a process of a group has its part."""
        self.model.train()
        training = self.run.training
        return self.images.training_batches(
            seed=self.run.seed,
            epoch=self.epoch + 1,
            batch_size=training.batch_size,
            shift=training.shift,
            flip=training.flip,
            group=self.group,
            skip=self.steps,
        )

    def step(self, images: Tensor, labels: Tensor, whole: int, rate: float | Tensor) -> None:
        """Train on a batch, or on this process's part of one that has `whole` examples."""
        with self.arithmetic:
            logits = self.model(images)
        loss = F.cross_entropy(logits.float(), labels)
        self.group.weigh(loss, len(labels), whole).backward()
        self.optimiser.step(rate)
        self.measures.add(loss.detach(), logits.detach(), labels)

    def moved(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        return [*learned(self.network).values(), *self.optimiser.buffers, self.measures.sums]

    def end_epoch(self, rate: float, testing: Callable[[], None] = lambda: None) -> None:
        """Test the network and note the epoch; if a loss is not finite, go back to the epoch before.

        `testing` is called before each batch.
        """
        trained_on = self.measures.averages(self.group)
        self.group.average(running_statistics(self.network).values())
        tested = evaluate(
            self.network, self.images, precision=self.precision, group=self.group, before_batch=testing
        )
        self.epoch, self.steps = self.epoch + 1, 0
        self.measures.clear()
        for split, measures in (("train", trained_on), ("test", tested)):
            self.rows.append({"epoch": self.epoch, "split": split, **measures, "learning_rate": rate})
        self.seconds = time.perf_counter() - self.started
        now = learned(self.network)
        if not np.isfinite([trained_on["loss"], tested["loss"]]).all():
            self.diverged = self.epoch
        with torch.no_grad():
            for name, tensor in now.items():
                here, there = (tensor, self.before[name]) if self.diverged else (self.before[name], tensor)
                here.copy_(there)

    def tensors(
        self, gather: Callable[[Tensor], Tensor], within_epoch: bool | None = None
    ) -> dict[str, Tensor]:
        """Return what a checkpoint holds, on the device; by default that of this very place.

        `gather` makes one tensor (processes, …) of what differs between a group's processes. Within an epoch
        there are the sums so far too, and the epoch before, which a divergence goes back to.
        """
        each = running_statistics(self.network)
        held = {
            f"moved.{name}": gather(tensor) if name in each else tensor
            for name, tensor in learned(self.network).items()
        }
        held |= {f"momentum.{number}": tensor for number, tensor in enumerate(self.optimiser.buffers)}
        if self.steps if within_epoch is None else within_epoch:
            held |= {f"before.{name}": tensor for name, tensor in self.before.items()}
            held |= {"sums": gather(self.measures.sums)}
        return held

    def record(self) -> dict:
        """Return what a checkpoint tells beside its tensors."""
        return {
            **{name: getattr(self, name) for name in ("epoch", "steps", "rows", "diverged", "resumed")},
            "seconds": time.perf_counter() - self.started,
            "device_name": name_of(self.images.device),
        }

    @torch.no_grad()
    def restore(self, tensors: Mapping[str, Tensor], record: Mapping) -> None:
        """Go back to a checkpoint."""
        for name in ("epoch", "steps", "rows", "diverged", "seconds"):
            setattr(self, name, record[name])
        self.started = time.perf_counter() - self.seconds
        place = {name: record[name] for name in ("epoch", "steps", "device_name")}
        self.resumed = [*record["resumed"], place]
        each, now = running_statistics(self.network), learned(self.network)
        for name, tensor in now.items():
            found = tensors[f"moved.{name}"]
            tensor.copy_(found[self.group.rank] if name in each else found)
        for number, buffer in enumerate(self.optimiser.buffers):
            buffer.copy_(tensors[f"momentum.{number}"])
        if self.steps:
            self.measures.sums.copy_(tensors["sums"][self.group.rank])
        for name, tensor in now.items():
            self.before[name].copy_(tensors[f"before.{name}"] if self.steps else tensor)
