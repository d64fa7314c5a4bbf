"""What an observer sees of a training step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from onlybn.models.network import Network
    from onlybn.study import Run


@dataclass(frozen=True)
class Moment:
    """A step of a run, after the gradients are computed and before the parameters move.

    `epoch` and `step` (within the epoch) count from 1. `network` has the parameters from before the step; its
    running statistics include the batch. The batch, or this process's part of it, is `images`, normalised,
    (batch, channels, height, width), and `labels` (batch,); `loss` is its mean loss, in nats. `gradients`,
    the parameters `before`, and the parameters that the step will `set` are by name of the trainable
    parameters.
    """

    run: "Run"
    epoch: int
    step: int
    network: "Network"
    images: "Tensor"
    labels: "Tensor"
    loss: "Tensor"
    gradients: "Mapping[str, Tensor]"
    before: "Mapping[str, Tensor]"
    set: "Mapping[str, Tensor]"
