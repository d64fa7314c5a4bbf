"""The state of one run while it trains."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property, partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from onlybn import observers
from onlybn.datasets.images import Images
from onlybn.devices import name_of
from onlybn.distributed import ALONE, Group
from onlybn.models.batchnorm import is_one_thread_in_bfloat16
from onlybn.models.dropout import draw_from
from onlybn.models.network import Network
from onlybn.models.normalisations import NoiseConstants, give_noise
from onlybn.networks.draw import draw
from onlybn.networks.state import frozen, learned, running_statistics
from onlybn.noise import Noise
from onlybn.observers.moment import Moment
from onlybn.study import Run
from onlybn.tensors import digest
from onlybn.training.evaluation import Measures, batch_loss, evaluate
from onlybn.training.forward import Forward
from onlybn.training.optimisers import Optimiser
from onlybn.training.selection import Best


class LiveRun:
    """The state of one run while it trains: the network on the device, the measurements, and the progress.

    `images` has those that train: not what is held out for validation, and of `examples` not the others.
    `tested_on` has the images of each split that every test scores: validation, if there is one, and test,
    unless only the `best` state is kept and scored.
    `taken` counts the steps so far, and `tested` the steps at the last test. `rows` are the rows of the
    metrics, `recorded` the rows of each recording, and `journal` all of them as (table, row), in order.
    """

    def __init__(
        self,
        run: Run,
        images: Images,
        precision: torch.dtype = torch.float32,
        group: Group = ALONE,
        recordings: Mapping[str, Mapping[str, Any]] | None = None,
    ):
        observers.check_processes(recordings or (), group.size)
        self.run, self.precision, self.group = run, precision, group
        training = run.training
        self.images, held_out = run.parts_of(images)
        self.tested_on = {"validation": held_out} if held_out else {}
        if training.select == "last":
            self.tested_on["test"] = self.images
        self.network, self.trained = draw(
            run, channels=images.channels, classes=images.classes, size=images.size
        )
        self.network.to(images.device, memory_format=torch.channels_last)
        self.noise = Noise(run.seed, images.device)
        draw_from(self.noise, self.network)
        constants = NoiseConstants(
            training.noise_mean,
            training.noise_scale,
            training.noise_mean_spread,
            training.noise_scale_deviation,
        )
        give_noise(self.network, self.noise, constants)
        self.initial_affine = {
            name: (layer.weight.detach().clone(), layer.bias.detach().clone())
            for name, layer in self.network.named_normalisations()
        }
        largest = min(training.batch_size, training.trained_on(images.examples))
        shape = largest, images.channels, images.size, images.size
        self.forward = Forward(group.wrap(self.network), self.network, precision, shape)
        self.optimiser = Optimiser(
            self.network,
            self.trained.values(),
            training,
            in_one_pass=is_one_thread_in_bfloat16(precision, images.device),
        )
        self.measures = Measures(images.device, images.targets)
        self.before = {name: tensor.clone() for name, tensor in learned(self.network).items()}
        self.best = Best(self.before) if training.select == "best" else None
        self.steps_per_epoch = training.steps_per_epoch(images.examples)
        self.steps = training.steps_of(images.examples)
        self.begun = self.taken = self.tested = 0
        self.recordings = {name: observers.check(name, given) for name, given in (recordings or {}).items()}
        self.observers = {
            name: observers.observe(name, run, self.network, self.steps_per_epoch, options)
            for name, options in self.recordings.items()
        }
        self.journal: list[tuple[str, dict]] = []
        self.rows: list[dict] = []
        self.recorded: dict[str, list[dict]] = {name: [] for name in self.recordings}
        self.diverged: int | None = None
        self.started, self.seconds = time.perf_counter(), 0.0
        self.resumed: list[dict] = []
        self._batches: Iterator[tuple[Tensor, Tensor]] | None = None

    @property
    def has_ended(self) -> bool:
        """Whether no further step is to be taken."""
        return self.diverged is not None or self.tested == self.steps

    @property
    def is_over(self) -> bool:
        """Whether training has ended, and the state that is kept was scored on the test split."""
        return self.has_ended and self.rows[-1]["split"] == "test"

    @property
    def progress(self) -> tuple[int, int, bool]:
        """The progress, to compare replicates: steps taken, steps tested, and whether that was the last."""
        return self.taken, self.tested, self.has_ended

    @property
    def next_test(self) -> int:
        """The step after which the next test comes; the last one if only the best state is to be scored."""
        if self.has_ended:
            return self.taken
        return self.run.training.next_test(self.tested, self.steps_per_epoch)

    @property
    def is_watched(self) -> bool:
        """Whether an observer wants to look at the next step."""
        return any(True for _ in self._wanting())

    @cached_property
    def frozen_digest(self) -> str:
        """The digest of the frozen weights."""
        return digest(frozen(self.network))

    def next_batch(self) -> tuple[Tensor, Tensor]:
        """Return the next step's batch, or this process's part of it: images and labels, or targets.

        Images are normalised, float (batch, channels, height, width); labels are int64 (batch,), and targets
        that are numbers float (batch, outputs).
        """
        if self._batches is None:
            epoch, skip = divmod(self.taken, self.steps_per_epoch)
            training = self.run.training
            self._batches = self.images.training_batches(
                seed=self.run.seed,
                epoch=epoch + 1,
                batch_size=training.batch_size,
                shift=training.shift,
                flip=training.flip,
                group=self.group,
                skip=skip,
                compiled=self.optimiser.in_one_pass,
            )
        self.noise.step.fill_(self.taken)  # not in `step`, which a graph may replay
        return next(self._batches)

    def step(self, images: Tensor, labels: Tensor, whole: int, rate: float | Tensor) -> None:
        """Train on a batch, or on this process's part of a batch of `whole` examples.

        Images and labels are as `next_batch` returns them, and `rate` is the learning rate.
        """
        wanting = list(self._wanting())
        loss, logits = self.gradients(images, labels, whole, by_modules=bool(wanting))
        if wanting:
            self._move_watched(rate, wanting, images=images, labels=labels, loss=loss, logits=logits)
        else:
            self.move(rate)
        self.optimiser.forget_gradients()

    def gradients(
        self, images: Tensor, labels: Tensor, whole: int, *, by_modules: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Set the parameters' gradients of a batch's loss; return the loss, a scalar, and the logits.

        The logits are (batch, classes), in the precision of the run. `whole` is the number of examples of the
        batch in all processes. With `by_modules`, hooks on the network's modules are called.
        """
        self.noise.first = next(self.group.parts(whole, whole)).start
        loss, logits = self.loss_of(images, labels, by_modules=by_modules)
        # Each part of a sum counts whole, each part of a mean by its share.
        part = len(labels) if self.images.targets == "classes" else whole
        self.group.weigh(loss, part, whole).backward()
        self.measures.add(loss.detach(), logits.detach(), labels)
        return loss.detach(), logits.detach()

    def loss_of(self, images: Tensor, labels: Tensor, *, by_modules: bool = False) -> tuple[Tensor, Tensor]:
        """Return a batch's loss, a scalar, and its logits, (batch, classes), for the present parameters."""
        logits = self.forward(images, by_modules=by_modules)
        return batch_loss(logits, labels), logits

    def move(self, rate: float | Tensor) -> None:
        """Move the parameters by their gradients, which are kept."""
        self.optimiser.step(rate)

    def step_ended(self) -> None:
        """Count a step."""
        self.taken += 1
        if self.taken % self.steps_per_epoch == 0:
            self._batches = None  # this also ends the processes that decode photographs

    def moved(self) -> list[Tensor]:
        """Return every tensor that a step changes."""
        return [*learned(self.network).values(), *self.optimiser.buffers, self.measures.sums]

    def test(self, rate: float, testing: Callable[[], None] = lambda: None) -> None:
        """Test the network and record the result; if a loss is not finite, restore the last test's state.

        If only the best state is kept, restore it at the end, and test it on the test split. `testing` is
        called before each batch; `rate` is that of the last step.
        """
        if not self.has_ended:
            self._test_all(rate, testing)
        if self.has_ended and self.best:
            _copy(self.best.state, learned(self.network))
            scored = self._score(self.images, testing)
            self._note("metrics", self.best.row | {"split": "test", **scored})
        self.seconds = time.perf_counter() - self.started

    def _test_all(self, rate: float, testing: Callable[[], None]) -> None:
        measured = {"train": self.measures.averages(self.group)}
        self.group.average(running_statistics(self.network).values())
        measured |= {split: self._score(images, testing) for split, images in self.tested_on.items()}
        self.tested = self.taken
        self.measures.clear()
        epoch = -(-self.taken // self.steps_per_epoch)
        for split, measures in measured.items():
            row = {"epoch": epoch, "step": self.taken, "split": split, **measures, "learning_rate": rate}
            self._note("metrics", row)
        now = learned(self.network)
        if not np.isfinite([measures["loss"] for measures in measured.values()]).all():
            self.diverged = epoch
        with torch.no_grad():
            for name, tensor in now.items():
                target, source = (tensor, self.before[name]) if self.diverged else (self.before[name], tensor)
                target.copy_(source)
        if self.best and not self.diverged:
            self.best.offer(self.rows[-1], now)

    def _score(self, images: Images, testing: Callable[[], None] = lambda: None) -> dict[str, float]:
        return evaluate(self.network, images, group=self.group, before_batch=testing, forward=self.forward)

    def _wanting(self) -> Iterator[tuple[str, observers.Observer]]:
        epoch, step = divmod(self.taken, self.steps_per_epoch)
        return (named for named in self.observers.items() if named[1].wants(epoch + 1, step + 1))

    def _move_watched(
        self, rate: float | Tensor, wanting: list[tuple[str, observers.Observer]], **seen: Tensor
    ) -> None:
        """Move the parameters, and let observers look at the network as it was before the move.

        Afterwards the parameters have exactly the moved bits; nothing that an observer changes in the network
        or in the step of the noise stays.
        """
        before = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        self.move(rate)
        after = {name: parameter.detach().clone() for name, parameter in self.trained.items()}
        gradients = {name: parameter.grad for name, parameter in self.trained.items()}
        self.optimiser.forget_gradients()  # an observer's backward passes would add to them
        _copy(before, self.trained)
        epoch, step = divmod(self.taken, self.steps_per_epoch)
        moment = Moment(
            run=self.run,
            epoch=epoch + 1,
            step=step + 1,
            network=self.network,
            gradients=gradients,
            before=before,
            set=after,
            rate=float(rate),
            data=self.images,
            noise=self.noise,
            evaluate=partial(self.loss_of, seen["images"], seen["labels"], by_modules=True),
            arithmetic=self.forward.arithmetic,
            score=self._score,
            **seen,
        )
        for name, observer in wanting:
            with _kept(self.network):
                rows = observer.look(moment)
            self.noise.step.fill_(self.taken)
            for row in rows:
                self._note(name, row)
        _copy(after, self.trained)

    def _note(self, table: str, row: dict) -> None:
        self.journal.append((table, row))
        (self.rows if table == "metrics" else self.recorded[table]).append(row)

    def tensors(
        self, gather: Callable[[Tensor], Tensor], between_tests: bool | None = None
    ) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, on the device; by default those of the current progress.

        `gather` stacks what differs between a group's processes into one tensor (processes, …). Between two
        tests, the checkpoint also has the sums so far and the state at the last test, which a divergence
        restores. If the best state is kept, it is in every checkpoint.
        """
        each = running_statistics(self.network)
        held = {
            f"moved.{name}": gather(tensor) if name in each else tensor
            for name, tensor in learned(self.network).items()
        }
        held |= {f"momentum.{number}": tensor for number, tensor in enumerate(self.optimiser.buffers)}
        if self.taken > self.tested if between_tests is None else between_tests:
            held |= {f"before.{name}": tensor for name, tensor in self.before.items()}
            held |= {"sums": gather(self.measures.sums)}
        if self.best:
            held |= {f"best.{name}": tensor for name, tensor in self.best.state.items()}
        return held

    def record(self) -> dict[str, Any]:
        """Return the facts of a checkpoint, besides its tensors and rows."""
        selected = {"selected": self.best.row} if self.best else {}
        return selected | {
            **{name: getattr(self, name) for name in ("taken", "tested", "diverged", "resumed")},
            "seconds": time.perf_counter() - self.started,
            "device_name": name_of(self.images.device),
        }

    @torch.no_grad()
    def restore(
        self, tensors: Mapping[str, Tensor], record: Mapping[str, Any], rows: list[tuple[str, dict]]
    ) -> None:
        """Restore a checkpoint, with the rows until then, each with the name of its table."""
        for name in ("taken", "tested", "diverged", "seconds"):
            setattr(self, name, record[name])
        self.begun = self.taken
        for table, row in rows:
            self._note(table, row)
        self.started = time.perf_counter() - self.seconds
        epoch = self.tested // self.steps_per_epoch
        reached = {"epoch": epoch, "steps": self.taken - epoch * self.steps_per_epoch}
        self.resumed = [*record["resumed"], reached | {"device_name": record["device_name"]}]
        each, now = running_statistics(self.network), learned(self.network)
        for name, tensor in now.items():
            found = tensors[f"moved.{name}"]
            tensor.copy_(found[self.group.rank] if name in each else found)
        for number, buffer in enumerate(self.optimiser.buffers):
            buffer.copy_(tensors[f"momentum.{number}"])
        between_tests = self.taken > self.tested
        if between_tests:
            self.measures.sums.copy_(tensors["sums"][self.group.rank])
        for name, tensor in now.items():
            self.before[name].copy_(tensors[f"before.{name}"] if between_tests else tensor)
        if self.best:
            self.best.row = record["selected"]
            _copy({name: tensors[f"best.{name}"] for name in now}, self.best.state)


@torch.no_grad()
def _copy(values: Mapping[str, Tensor], into: Mapping[str, Tensor]) -> None:
    for name, value in values.items():
        into[name].copy_(value)


@contextmanager
def _kept(network: Network) -> Iterator[None]:
    """On leaving, restore every parameter and buffer of a network, and training mode."""
    tensors = {**dict(network.named_parameters()), **dict(network.named_buffers())}
    values = {name: tensor.detach().clone() for name, tensor in tensors.items()}
    yield
    _copy(values, tensors)
    for parameter in network.parameters():
        parameter.grad = None
    network.train()
