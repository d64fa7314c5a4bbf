"""What an observer sees of a step."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

    from onlybn.models.network import Network
    from onlybn.study import Run


@dataclass(frozen=True)
class Moment:
    """A step of a run, its gradients computed and its move known but not made.

    `epoch` and `step`, which is counted within the epoch, begin at 1. `network` has the parameters from
    before the step; running statistics have seen its batch. `images` (batch, channels, height, width),
    normalised, and `labels` (batch,) are the batch, of which a process of a group has its part; `loss` is its
    mean, in nats. `gradients`, the parameters `before`, and those that the step is about to `set` are by the
    names of the parameters that train.
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
