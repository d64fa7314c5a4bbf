"""Test accuracy with running statistics, and with statistics re-estimated on the training images.

(Ioffe & Szegedy, Algorithm 2.)
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from onlybn.errors import UserError
from onlybn.observers import probes

if TYPE_CHECKING:
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
# The largest number of training images on which statistics are re-estimated.
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
    training images that are not augmented, at most `IMAGES`, in batches of the run's size
    (`onlybn.networks.statistics`). A network without running statistics has rows of `running` only.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        self.steps_per_epoch, self.batch_size = steps_per_epoch, run.training.batch_size
        self.steps = run.training.steps or run.training.epochs * steps_per_epoch
        last = -(-self.steps // steps_per_epoch)
        self.epochs = options["epochs"] or (1, (last + 1) // 2, last)
        if self.epochs[-1] > last:
            raise UserError(
                f"reestimated.epochs: {self.epochs[-1]} is beyond the last epoch of {run}, which is {last}"
            )

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look: at the last step of a chosen epoch."""
        last = min(self.steps, epoch * self.steps_per_epoch)
        return epoch in self.epochs and self._taken(epoch, step) == last

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for the running statistics, and one for the pooled ones."""
        from onlybn.networks.state import running_statistics
        from onlybn.networks.statistics import pooled, write

        network = moment.network
        probes.assign(network, moment.set)
        when = {"epoch": moment.epoch, "step": self._taken(moment.epoch, moment.step)}
        rows = [when | {"statistics": "running", **moment.score()}]
        if running_statistics(network):
            batches = moment.data.unaugmented(IMAGES).test_batches(self.batch_size)
            write(network, pooled(network, (images for images, _ in batches)))
            rows.append(when | {"statistics": "pooled", **moment.score()})
        return rows

    def _taken(self, epoch: int, step: int) -> int:
        return (epoch - 1) * self.steps_per_epoch + step
