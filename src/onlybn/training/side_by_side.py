"""How replicates share a GPU: how many fit its memory, and whether their steps run at once or in turn.

The numbers are models, from bytes and operations: none was measured on a GPU yet.
"""

from dataclasses import replace

import torch

from onlybn.datasets import known
from onlybn.datasets.images import Images
from onlybn.networks.work import Work, work
from onlybn.study import Run
from onlybn.training.evaluation import TEST_BATCH

# Operations of a layer, for a batch, with which one network fills a GPU: 50 microseconds at half an H100's
# rate in bfloat16, ten times what starting a kernel takes. WRN-14-8 is above it, WRN-14-4 below.
FILLS = 2e10
# How many tensors as large as all activations a step holds, and as large as the largest layer's a test.
KEPT, KEPT_IN_TESTS = 3, 4
# What share of the free memory is planned with: libraries' workspaces and holes take some too.
SHARE = 0.85


def fills_a_gpu(run: Run, images: Images) -> bool:
    """Say whether a GPU has nothing left for a second replicate while it computes a layer of one.

    Their steps then run in turn, which takes one step's memory where side by side each takes its own.
    """
    return _work(run, images).operations_per_layer(run.training.batch_size) > FILLS


def memory(run: Run, images: Images, precision: torch.dtype, replicates: int) -> int:
    """Return the bytes of a GPU's memory that so many replicates take together, less the images."""
    done, size = _work(run, images), precision.itemsize
    # Weights; momentum, the state at the last test, and while steps are recorded copies of what they move.
    held = 4 * (done.parameters + 4 * done.trained)
    # Activations, weights in the activations' precision, gradients and what the optimiser makes of them.
    batch = run.training.batch_size
    step = size * (KEPT * batch * done.activations + done.parameters) + 4 * 3 * done.trained
    test = size * KEPT_IN_TESTS * TEST_BATCH["cuda"] * done.largest
    at_once = 1 if fills_a_gpu(run, images) else replicates
    return round(replicates * held + at_once * step + test)


def that_fit(run: Run, images: Images, precision: torch.dtype, replicates: int, free: int) -> int:
    """Return how many of the replicates fit so many free bytes together; one is always tried."""
    fitting = (n for n in range(replicates, 1, -1) if memory(run, images, precision, n) <= SHARE * free)
    return next(fitting, 1)


def _work(run: Run, images: Images) -> Work:
    shape = {"channels": images.channels, "classes": images.classes, "size": images.size}
    return work(replace(known(run.dataset), **shape), run.architecture, run.regime, run.structure)
