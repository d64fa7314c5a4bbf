"""What an observer sees of a training step."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from onlybn.datasets.images import Images
    from onlybn.models.network import Network
    from onlybn.noise import Noise
    from onlybn.study import Run


@dataclass(frozen=True)
class Moment:
    """A step of a run, after the gradients are computed and before the parameters move.

    `epoch` and `step` (within the epoch) count from 1. `network` has the parameters from before the step; its
    running statistics include the batch. The batch, or this process's part of it, is `images`, normalised,
    (batch, channels, height, width), and `labels` (batch,); `logits` are (batch, classes), and `loss` is what
    the step minimises. `gradients`, the parameters `before`, and the parameters that the step will `set` are
    by name of the trainable parameters. `rate` is the step's learning rate, and `data` has all images.

    `evaluate` returns loss and logits of the batch once more, for the parameters that the network has then:
    in training mode, with the same precision, with the noise of the step in `noise`, and ready for a backward
    pass. `arithmetic` is the context of the run's precision. `score` returns loss and accuracies on the test
    split of images, as each test of the run does.
    """

    run: "Run"
    epoch: int
    step: int
    network: "Network"
    images: "Tensor"
    labels: "Tensor"
    logits: "Tensor"
    loss: "Tensor"
    gradients: "Mapping[str, Tensor]"
    before: "Mapping[str, Tensor]"
    set: "Mapping[str, Tensor]"
    rate: float
    data: "Images"
    noise: "Noise"
    arithmetic: "AbstractContextManager"
    evaluate: "Callable[[], tuple[Tensor, Tensor]]"
    score: "Callable[[Images], dict[str, float]]"
