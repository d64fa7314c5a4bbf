"""The loop of one run: a network, a regime, SGD (Section 3; Appendix B)."""

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from onlybn import models, regimes, variants
from onlybn.datasets.images import Images
from onlybn.distributed import ALONE, Group
from onlybn.errors import UserError
from onlybn.models.network import Network
from onlybn.sgd import SGD
from onlybn.study import Run, Training

# Images to a batch in testing, where the size changes nothing but speed.
TEST_BATCH = 128

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
    holds γ and β, float32, as training found them.
    """

    network: Network
    trained: dict[str, nn.Parameter]
    initial_affine: dict[str, tuple[Tensor, Tensor]]
    rows: list[dict]
    diverged: int | None
    seconds: float


def choose_device(asked: str) -> torch.device:
    """Return the device that `auto`, `cpu` or `cuda` means here; raise UserError for cuda without one."""
    if asked == "cuda" and not torch.cuda.is_available():
        raise UserError("device: cuda was asked for, but torch sees no CUDA device here; allowed: auto, cpu")
    if asked == "auto":
        asked = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(asked)


def choose_precision(asked: str, device: torch.device) -> torch.dtype:
    """Return the dtype of activations: for `auto`, bfloat16 where the device computes in it natively."""
    if asked == "auto":
        native = (
            torch.cuda.is_bf16_supported(including_emulation=False)
            if device.type == "cuda"
            else torch.cpu._is_avx512_bf16_supported()
        )
        return torch.bfloat16 if native else torch.float32
    return getattr(torch, asked)


def draw(run: Run, *, channels: int, classes: int) -> tuple[Network, dict[str, nn.Parameter]]:
    """Return the run's network as training finds it, on the CPU, and the parameters that train, by name."""
    network = models.build(run.architecture, channels=channels, classes=classes)
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


def train(
    run: Run,
    images: Images,
    *,
    precision: torch.dtype = torch.float32,
    observers: Sequence[Observer] = (),
    group: Group = ALONE,
) -> Outcome:
    """Train one run on the device to which its images come, and return the network with its record.

    In a group every process calls this, and all return the same.
    """
    training = run.training
    started = time.perf_counter()
    network, trained = draw(run, channels=images.channels, classes=images.classes)
    network.to(images.device, memory_format=torch.channels_last)
    initial_affine = {
        name: (layer.weight.detach().clone(), layer.bias.detach().clone())
        for name, layer in network.named_layers(nn.BatchNorm2d)
    }
    model = group.wrap(network)
    optimiser = SGD(trained.values(), momentum=training.momentum, weight_decay=training.weight_decay)
    starts = range(0, images.examples, training.batch_size)
    sizes = [min(training.batch_size, images.examples - start) for start in starts]
    steps_per_epoch = len(sizes)
    rates = learning_rates(training, steps_per_epoch)
    rows: list[dict] = []
    diverged = None
    for epoch in range(1, training.epochs + 1):
        before = {name: tensor.clone() for name, tensor in learned(network).items()}
        epoch_rates = rates[(epoch - 1) * steps_per_epoch :][:steps_per_epoch]
        batches = images.training_batches(
            seed=run.seed,
            epoch=epoch,
            batch_size=training.batch_size,
            shift=training.shift,
            flip=training.flip,
            group=group,
        )
        sized = zip(batches, sizes, strict=True)
        trained_on = train_epoch(model, optimiser, sized, epoch_rates, precision, group)
        group.average(running_statistics(network).values())
        measured = {
            "train": trained_on,
            "test": evaluate(network, images, precision=precision, group=group),
        }
        rows += [
            {"epoch": epoch, "split": split, **measures, "learning_rate": epoch_rates[-1]}
            for split, measures in measured.items()
        ]
        if not all(np.isfinite(measures["loss"]) for measures in measured.values()):
            diverged = epoch
            with torch.no_grad():
                for name, tensor in learned(network).items():
                    tensor.copy_(before[name])
        progress = Progress(run, network, epoch, rows)
        for observer in observers:
            observer.epoch_ended(progress)
        if diverged:
            break
    return Outcome(network, trained, initial_affine, rows, diverged, time.perf_counter() - started)


def train_epoch(
    model: nn.Module,
    optimiser: SGD,
    batches: Iterable[tuple[tuple[Tensor, Tensor], int]],
    rates: Iterable[float],
    precision: torch.dtype,
    group: Group = ALONE,
) -> dict[str, float]:
    """Train on the batches, each at its learning rate; return what `Measures` does of them.

    With each batch, of which a process of a group has a part, comes the size of the whole.
    """
    model.train()
    measures = Measures(next(model.parameters()).device)
    arithmetic = arithmetic_in(precision, model)
    for ((images, labels), whole), rate in zip(batches, rates, strict=True):
        with arithmetic:
            logits = model(images)
        loss = F.cross_entropy(logits.float(), labels)
        group.weigh(loss, len(labels), whole).backward()
        optimiser.step(rate)
        measures.add(loss.detach(), logits.detach(), labels)
    return measures.averages(group)


@torch.no_grad()
def evaluate(
    network: Network, images: Images, *, precision: torch.dtype = torch.float32, group: Group = ALONE
) -> dict[str, float]:
    """Test on the test images, with BatchNorm's running statistics; return what `Measures` does of them."""
    network.eval()
    measures = Measures(images.device)
    arithmetic = arithmetic_in(precision, network)
    with nn.utils.parametrize.cached():
        for batch, labels in images.test_batches(TEST_BATCH, group):
            if len(labels):  # of a small last batch not every process of a group has a part
                with arithmetic:
                    logits = network(batch)
                measures.add(F.cross_entropy(logits.float(), labels), logits, labels)
    return measures.averages(group)


def arithmetic_in(precision: torch.dtype, network: nn.Module) -> torch.autocast:
    """Return the context in which the network computes its activations in that precision."""
    device = next(network.parameters()).device.type
    return torch.autocast(device, precision, enabled=precision != torch.float32)


class Measures:
    """Sums loss and hits over examples on the device, so that the host waits once, at the end."""

    def __init__(self, device: torch.device):
        self.examples = 0
        self.loss = torch.zeros((), dtype=torch.float64, device=device)
        self.hits = torch.zeros(2, dtype=torch.int64, device=device)

    def add(self, loss: Tensor, logits: Tensor, labels: Tensor) -> None:
        """Add a batch: its mean loss, logits (batch, classes) and labels (batch,)."""
        self.examples += len(labels)
        self.loss = self.loss + loss.double() * len(labels)
        # How many classes come before the label's, ties in the order of classes: none is a hit for top-1,
        # up to 4 for top-5. Written so that a logit that is not a number never makes a hit.
        own = logits.gather(1, labels[:, None])
        classes = torch.arange(logits.shape[1], device=labels.device)
        after = (logits < own) | ((logits == own) & (classes >= labels[:, None]))
        better = len(classes) - after.sum(dim=1)
        self.hits = self.hits + torch.stack([(better < 1).sum(), (better < 5).sum()])

    def averages(self, group: Group = ALONE) -> dict[str, float]:
        """Return the mean loss over a group's examples, in nats, and top-1 and top-5 accuracy, in percent."""
        examples = torch.full_like(self.loss, self.examples)
        sums = group.total(torch.stack([examples, self.loss, *self.hits.double()]))
        examples, loss, *hits = sums.tolist()
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
