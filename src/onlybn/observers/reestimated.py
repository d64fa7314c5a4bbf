"""Test accuracy with running statistics, and with statistics re-estimated on the training images.

(Ioffe & Szegedy, Algorithm 2.)
"""

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from onlybn.errors import UserError
from onlybn.observers import probes

if TYPE_CHECKING:
    from torch import Tensor

    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run

SCHEMA = pa.schema(
    [
        *probes.WHEN,
        ("statistics", pa.dictionary(pa.int32(), pa.string())),
        *((column, pa.float64()) for column in ("loss", "top_1", "top_5")),
    ]
)
# Statistics are re-estimated on about this many training images, if there are more.
IMAGES = 10_000
Epoch = Annotated[int, Field(strict=True, ge=1)]


class Options(BaseModel):
    """After which epochs to test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    epochs: Annotated[list[Epoch], Field(min_length=1), AfterValidator(probes.different)] | None = Field(
        default=None,
        description="a list of different epochs from 1, or null for the first, the middle and the last",
    )


class Recorder:
    """Records loss and accuracies on the test split with `running` and with `pooled` statistics.

    The state is that after the last step of an epoch. `pooled` are the moments of what each layer sees on
    training images that are not augmented (`onlybn.networks.statistics`). A network without running
    statistics has rows of `running` only.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        self.training, self.seed, self.steps_per_epoch = run.training, run.seed, steps_per_epoch
        self.steps = run.training.steps or run.training.epochs * steps_per_epoch
        last = -(-self.steps // steps_per_epoch)
        self.epochs = options["epochs"] or (1, (last + 1) // 2, last)
        if self.epochs[-1] > last:
            raise UserError(
                f"reestimated.epochs: {self.epochs[-1]} is beyond the last epoch of {run}, which is {last}"
            )

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look: at the last step of a chosen epoch."""
        return epoch in self.epochs and self._taken(epoch, step) == min(
            self.steps, epoch * self.steps_per_epoch
        )

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for the running statistics, and one for the pooled ones."""
        from onlybn.networks.state import running_statistics
        from onlybn.networks.statistics import pooled, write

        network = moment.network
        probes.assign(network, moment.set)
        when = {"epoch": moment.epoch, "step": self._taken(moment.epoch, moment.step)}
        rows = [when | {"statistics": "running", **moment.score()}]
        if running_statistics(network):
            write(network, pooled(network, self._training_images(moment)))
            rows.append(when | {"statistics": "pooled", **moment.score()})
        return rows

    def _taken(self, epoch: int, step: int) -> int:
        return (epoch - 1) * self.steps_per_epoch + step

    def _training_images(self, moment: "Moment") -> "Iterator[Tensor]":
        """Yield batches of the images that train, in an order drawn by the seed, without augmentation."""
        size = self.training.batch_size
        batches = moment.data.training_batches(seed=self.seed, epoch=1, batch_size=size, shift=0, flip=False)
        return (images for images, _ in islice(batches, -(-IMAGES // size)))
