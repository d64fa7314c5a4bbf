"""The loop: networks, a regime, SGD (Section 3; Appendix B)."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlybn import models, regimes, variants
from onlybn.checkpoints import Checkpoints
from onlybn.datasets.images import Images
from onlybn.devices import name_of
from onlybn.distributed import ALONE, Group
from onlybn.models.batchnorm import has_hooks
from onlybn.models.network import Network
from onlybn.sgd import SGD
from onlybn.steps import EagerSteps, GraphSteps
from onlybn.storage import digest
from onlybn.study import Run, Training

# Images to a batch in testing, by device; the size changes nothing but speed.
TEST_BATCH = {"cpu": 128, "cuda": 1_000}

# cuDNN's default for float32 convolutions is TF32, which rounds their inputs to 10 bits: not what is asked.
torch.backends.cudnn.allow_tf32 = False


@dataclass
class Progress:
    """Where a run stands at the end of an epoch, as observers see it.

    `rows` holds one row of metrics per epoch and split so far; the last two are of the epoch just ended.
    """

    run: Run
    network: Network
    epoch: int
    rows: list[dict]


class Observer:
    """Looks on while a run trains. Every method may be overridden; none may change the training."""

    def epoch_ended(self, progress: Progress) -> None:
        """Be told that an epoch has been trained and tested."""


@dataclass(frozen=True)
class Outcome:
    """A trained network and its record.

    `diverged` is the epoch in which a loss stopped being finite (then the tensors are those at the end of
    the epoch before), or None. `trained` names the parameters that the regime trains; `initial_affine`
    holds γ and β, float32, as training found them. `resumed` tells each checkpoint that it went on from.
    """

    network: Network
    trained: dict[str, nn.Parameter]
    initial_affine: dict[str, tuple[Tensor, Tensor]]
    rows: list[dict]
    diverged: int | None
    seconds: float
    resumed: list[dict]


def draw(
    run: Run, *, channels: int, classes: int, size: int | None = None
) -> tuple[Network, dict[str, nn.Parameter]]:
    """Return the run's network as training finds it, on the CPU, and the parameters that train, by name.

    Only an architecture of the user's own needs to know of its images' `size` in pixels.
    """
    network = models.build(run.architecture, channels=channels, classes=classes, size=size)
    variants.initialise(network, run.variant, run.seed)
    return network, regimes.apply(network, run.regime, run.seed)


def learning_rates(training: Training, steps_per_epoch: int) -> np.ndarray:
    """Return the learning rate of every step, float64 (steps,).

    Milestones and warm-up are fractions of training. During warm-up the rate grows linearly to its full
    value; at each milestone it is divided.
    """
    steps = training.epochs * steps_per_epoch
    epoch = np.arange(steps) / steps_per_epoch
    rates = np.full(steps, training.learning_rate)
    for milestone in training.milestones:
        rates[epoch >= milestone] /= training.divide_by
    warm = epoch < training.warmup
    rates[warm] *= (np.flatnonzero(warm) + 1) / max(1, warm.sum())
    return rates


class Replicate:
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
            for name, layer in self.network.named_layers(nn.BatchNorm2d)
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


def train(run: Run, images: Images, **options) -> Outcome:
    """Train one run alone; options as in `train_replicates`."""
    (outcome,) = train_replicates([run], images, **options)
    return outcome


def train_replicates(
    runs: Sequence[Run],
    images: Images,
    *,
    precision: torch.dtype = torch.float32,
    observers: Sequence[Observer] = (),
    group: Group = ALONE,
    checkpoints: Checkpoints | None = None,
) -> list[Outcome]:
    """Train replicates side by side on the device to which their images come; return each one's outcome.

    Each is trained as if alone: its weights, order and augmentation are drawn from its own seed. On a GPU
    their steps are one CUDA graph. In a group every process calls this, and all return the same. With
    checkpoints, each goes on from its own if it has one.
    """
    checkpoints = checkpoints or Checkpoints({}, {})
    replicates = [Replicate(run, images, precision, group) for run in runs]
    for replicate in replicates:
        checkpoints.restore(replicate)
    training = runs[0].training
    starts = range(0, images.examples, training.batch_size)
    sizes = [min(training.batch_size, images.examples - start) for start in starts]
    rates = learning_rates(training, len(sizes)).reshape(training.epochs, len(sizes))
    going: list[Replicate] = []
    heard = False
    while left := [replicate for replicate in replicates if not replicate.is_over]:
        # Those that are behind first: a kill in between two checkpoints leaves replicates apart.
        behind = min(replicate.place for replicate in left)
        last = going, heard
        going = [replicate for replicate in left if replicate.place == behind]
        # A recorded graph would pass over hooks, which observers may set on a network between epochs.
        heard = any(has_hooks(module) for replicate in going for module in replicate.network.modules())
        if (going, heard) != last:
            steps = EagerSteps(going) if heard else _steps(going, images.device, group)
        epoch, taken = behind
        batches = zip(*(replicate.batches() for replicate in going), strict=True)
        for batch, whole, rate in zip(batches, sizes[taken:], rates[epoch][taken:], strict=True):
            steps(batch, whole, float(rate))
            for replicate in going:
                replicate.steps += 1
            checkpoints.step_ended(going)
        for replicate in going:
            replicate.end_epoch(float(rates[epoch][-1]), partial(checkpoints.pause, going))
            progress = Progress(replicate.run, replicate.network, replicate.epoch, replicate.rows)
            for observer in observers:
                observer.epoch_ended(progress)
        checkpoints.epoch_ended(going)
    return [
        Outcome(r.network, r.trained, r.initial_affine, r.rows, r.diverged, r.seconds, r.resumed)
        for r in replicates
    ]


def _steps(
    replicates: Sequence[Replicate], device: torch.device, group: Group
) -> Callable[[Sequence[tuple[Tensor, Tensor]], int, float], None]:
    # DDP's all-reduce stays outside graphs: a run that needs several GPUs has kernels enough for each.
    if device.type == "cuda" and group.size == 1:
        return GraphSteps(replicates, device)
    return EagerSteps(replicates)


@torch.no_grad()
def evaluate(
    network: Network,
    images: Images,
    *,
    precision: torch.dtype = torch.float32,
    group: Group = ALONE,
    before_batch: Callable[[], None] = lambda: None,
) -> dict[str, float]:
    """Test on the test images, with BatchNorm's running statistics; return what `Measures` does of them."""
    network.eval()
    measures = Measures(images.device)
    arithmetic = arithmetic_in(precision, images.device)
    with nn.utils.parametrize.cached():
        for batch, labels in images.test_batches(TEST_BATCH[images.device.type], group):
            before_batch()
            if len(labels):  # of a small last batch not every process of a group has a part
                with arithmetic:
                    logits = network(batch)
                measures.add(F.cross_entropy(logits.float(), labels), logits, labels)
    return measures.averages(group)


def arithmetic_in(precision: torch.dtype, device: torch.device) -> torch.autocast:
    """Return the context in which networks on the device compute their activations in that precision."""
    return torch.autocast(device.type, precision, enabled=precision != torch.float32)


class Measures:
    """Sums examples, loss and hits on the device, so that the host waits once, at the end."""

    def __init__(self, device: torch.device):
        self.sums = torch.zeros(4, dtype=torch.float64, device=device)

    def clear(self) -> None:
        """Forget what was added."""
        self.sums.zero_()

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, logits (batch, classes) and labels (batch,)."""
        examples = len(labels)
        # How many classes come before the label's, ties in the order of classes: none is a hit for top-1,
        # up to 4 for top-5. Written so that a logit that is not a number never makes a hit.
        own = logits.gather(1, labels[:, None])
        classes = torch.arange(logits.shape[1], device=labels.device)
        after = (logits < own) | ((logits == own) & (classes >= labels[:, None]))
        better = len(classes) - after.sum(dim=1)
        self.sums[0] += examples
        self.sums[1] += loss.double() * examples
        self.sums[2] += (better < 1).sum()
        self.sums[3] += (better < 5).sum()

    def averages(self, group: Group = ALONE) -> dict[str, float]:
        """Return the mean loss over a group's examples, in nats, and top-1 and top-5 accuracy, in percent."""
        examples, loss, *hits = group.total(self.sums.clone()).tolist()
        top_1, top_5 = (100 * hit / examples for hit in hits)
        return {"loss": loss / examples, "top_1": top_1, "top_5": top_5}


def learned(network: nn.Module) -> dict[str, Tensor]:
    """Return what training moves: the trainable parameters and BatchNorm's running statistics, by name."""
    trained = {name: p.detach() for name, p in network.named_parameters() if p.requires_grad}
    return trained | running_statistics(network)


def running_statistics(network: nn.Module) -> dict[str, Tensor]:
    """Return the running mean and variance of every BatchNorm layer, by name."""
    return {
        f"{name}.{key}": buffer
        for name, layer in network.named_modules()
        if isinstance(layer, nn.BatchNorm2d)
        for key, buffer in layer.named_buffers()
    }


def frozen(network: nn.Module) -> dict[str, Tensor]:
    """Return what training leaves at its draw: every other tensor of floating point, by name."""
    moved = learned(network)
    return {
        name: tensor
        for name, tensor in network.state_dict().items()
        if name not in moved and tensor.is_floating_point()
    }
