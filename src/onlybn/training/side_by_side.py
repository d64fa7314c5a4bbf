"""How replicates share a GPU: how many fit its memory, and whether their steps run concurrently or in turn.

The numbers are estimates from bytes and operations; they were not measured on a GPU yet.
"""

from dataclasses import replace

import torch

from onlybn.axes import REPARAMETRISATION
from onlybn.datasets import known, shape
from onlybn.datasets.images import Images
from onlybn.networks.work import Work, work
from onlybn.study import Run
from onlybn.training.evaluation import TEST_BATCH

# The operations of a layer on a batch from which one network fills a GPU: 50 microseconds at half of an
# H100's rate in bfloat16, ten times the launch time of a kernel. WRN-14-8 is above this, WRN-14-4 below.
FILLS = 2e10
# Memory of a step, in units of all activations, and of a test, in units of the largest layer's activations.
KEPT, KEPT_IN_TESTS = 3, 4
# The share of free memory to plan with; workspaces of libraries and fragmentation take the rest.
SHARE = 0.85


def fills_a_gpu(run: Run, images: Images) -> bool:
    """Return whether one replicate's layers occupy a whole GPU.

    Steps of several replicates then run in turn, so that only one step needs memory at a time.
    """
    return _work(run, images).operations_per_layer(run.training.batch_size) > FILLS


def memory(run: Run, images: Images, precision: torch.dtype, replicates: int) -> int:
    """Return the GPU memory, in bytes, that so many replicates take together, without the images."""
    done, size = _work(run, images), precision.itemsize
    # Weights; momentum; the last test's state; and, while steps are recorded, copies of what they change.
    held = 4 * (done.parameters + (4 + more_tensors(run)) * done.trained)
    # Activations, weights in the activations' precision, gradients, and the optimiser's temporary tensors.
    batch = run.training.batch_size
    step = size * (KEPT * batch * done.activations + done.parameters) + 4 * 3 * done.trained
    test = size * KEPT_IN_TESTS * TEST_BATCH["cuda"] * done.largest
    at_once = 1 if fills_a_gpu(run, images) else replicates
    return round(replicates * held + at_once * step + test)


def more_tensors(run: Run) -> int:
    """Return how many tensors of all that trains a run holds beyond those that every run holds.

    They are the best state; Adam's second moments; and v, Ψ(v) and a gradient where Ψ reparametrises.
    """
    best, adam = run.training.select == "best", run.training.optimiser == "adam"
    return best + adam + 3 * (run.value(REPARAMETRISATION) != REPARAMETRISATION.default)


def that_fit(run: Run, images: Images, precision: torch.dtype, replicates: int, free: int) -> int:
    """Return how many of the replicates fit together into `free` bytes; it is at least one."""
    fitting = (n for n in range(replicates, 1, -1) if memory(run, images, precision, n) <= SHARE * free)
    return next(fitting, 1)


def _work(run: Run, images: Images) -> Work:
    return work(replace(known(run.dataset), **shape(images)), run.architecture, run.regime, run.structure)
