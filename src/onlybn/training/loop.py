"""The loop: networks, a regime, SGD (Section 3; Appendix B)."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from onlybn.datasets.images import Images
from onlybn.distributed import ALONE, Group
from onlybn.models.network import Network
from onlybn.study import Run
from onlybn.training.checkpoints import Checkpoints
from onlybn.training.live_run import LiveRun
from onlybn.training.schedules import learning_rates
from onlybn.training.side_by_side import fills_a_gpu
from onlybn.training.steps import CudaRecorder, EagerSteps, GraphSteps


@dataclass(frozen=True)
class Outcome:
    """A trained network and its record.

    `diverged` is the epoch in which a loss stopped being finite (then the tensors are those at the last test
    before), or None. `trained` names the parameters that the regime trains; `initial_affine` holds γ and β,
    float32, before training. `rows` are the rows of the metrics, one for each split of each test; the last is
    the test row of the state that was kept. `recorded` holds the rows of each recording, `recordings` their
    options. `resumed` lists the checkpoints that the run resumed from.
    """

    network: Network
    trained: dict[str, nn.Parameter]
    initial_affine: dict[str, tuple[Tensor, Tensor]]
    rows: list[dict]
    diverged: int | None
    seconds: float
    resumed: list[dict]
    recordings: dict[str, dict[str, Any]]
    recorded: dict[str, list[dict]]


def train(run: Run, images: Images, *, recordings: Mapping[str, Mapping] | None = None, **options) -> Outcome:
    """Train one run alone, with its recordings; options as in `train_replicates`."""
    (outcome,) = train_replicates([run], images, recordings={run.seed: recordings or {}}, **options)
    return outcome


def train_replicates(
    runs: Sequence[Run],
    images: Images,
    *,
    precision: torch.dtype = torch.float32,
    recordings: Mapping[int, Mapping[str, Mapping]] | None = None,
    report: Callable[[LiveRun], None] = lambda live: None,
    step_ended: Callable[[Sequence[LiveRun]], None] = lambda live: None,
    group: Group = ALONE,
    checkpoints: Checkpoints | None = None,
) -> list[Outcome]:
    """Train replicates side by side on the device of their images; return the outcome of each.

    Each is trained as if alone: its weights, order and augmentation are drawn from its own seed. On a GPU
    their steps are one CUDA graph. In a group every process calls this, and all return the same. With
    checkpoints, each resumes from its own, if it has one. `recordings` are by seed, each with its options by
    name. `report` is called with a run after each of its tests, `step_ended` with all runs after each step.
    Raises ValueError if there is no such recording, and UserError if it does not fit the network.
    """
    checkpoints, recordings = checkpoints or Checkpoints({}, {}), recordings or {}
    live = [LiveRun(run, images, precision, group, recordings.get(run.seed)) for run in runs]
    for run in live:
        checkpoints.restore(run)
    training = runs[0].training
    examples = training.trained_on(images.examples)
    starts = range(0, examples, training.batch_size)
    sizes = [min(training.batch_size, examples - start) for start in starts]
    rates = learning_rates(training, len(sizes))
    going: list[LiveRun] = []
    heard = False
    while left := [run for run in live if not run.is_over]:
        # Those that are behind come first: a kill between two checkpoints leaves replicates apart.
        behind = min(run.progress for run in left)
        last = going, heard
        going = [run for run in left if run.progress == behind]
        # A recorded graph would skip hooks, which a report may set on a network.
        for run in going:
            run.forward.listen()
        heard = any(run.forward.is_heard for run in going)
        if (going, heard) != last:
            steps = EagerSteps(going) if heard else _steps(going, images.device, group)
        for run in going:
            run.network.train()
        until = going[0].next_test
        for taken in range(going[0].taken, until):
            batches = [run.next_batch() for run in going]
            watched = any(run.is_watched for run in going)
            steps(batches, sizes[taken % len(sizes)], float(rates[taken]), eagerly=watched)
            for run in going:
                run.step_ended()
            checkpoints.step_ended(going)
            step_ended(going)
        for run in going:
            run.test(float(rates[until - 1]), partial(checkpoints.pause, going))
            report(run)
        checkpoints.tested(going)
    checkpoints.wait()
    return [
        Outcome(
            run.network,
            run.trained,
            run.initial_affine,
            run.rows,
            run.diverged,
            run.seconds,
            run.resumed,
            run.recordings,
            run.recorded,
        )
        for run in live
    ]


def _steps(replicates: Sequence[LiveRun], device: torch.device, group: Group) -> EagerSteps | GraphSteps:
    # DDP's all-reduce stays outside graphs: a run that needs several GPUs keeps each busy without them.
    if device.type == "cuda" and group.size == 1:
        at_once = not fills_a_gpu(replicates[0].run, replicates[0].images)
        return GraphSteps(replicates, device, CudaRecorder(at_once=at_once))
    return EagerSteps(replicates)
