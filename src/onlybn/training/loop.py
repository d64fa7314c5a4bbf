"""The loop: networks, a regime, SGD (Section 3; Appendix B)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from onlybn.datasets.images import Images
from onlybn.distributed import ALONE, Group
from onlybn.models.batchnorm import has_hooks
from onlybn.models.network import Network
from onlybn.study import Run
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.live_run import LiveRun
from onlybn.training.schedules import learning_rates
from onlybn.training.steps import EagerSteps, GraphSteps


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
    replicates = [LiveRun(run, images, precision, group) for run in runs]
    for replicate in replicates:
        checkpoints.restore(replicate)
    training = runs[0].training
    starts = range(0, images.examples, training.batch_size)
    sizes = [min(training.batch_size, images.examples - start) for start in starts]
    rates = learning_rates(training, len(sizes)).reshape(training.epochs, len(sizes))
    going: list[LiveRun] = []
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
    replicates: Sequence[LiveRun], device: torch.device, group: Group
) -> Callable[[Sequence[tuple[Tensor, Tensor]], int, float], None]:
    # DDP's all-reduce stays outside graphs: a run that needs several GPUs has kernels enough for each.
    if device.type == "cuda" and group.size == 1:
        return GraphSteps(replicates, device)
    return EagerSteps(replicates)
