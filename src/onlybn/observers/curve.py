"""Loss and accuracy on single training batches (Santurkar et al., Figure 1)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import Field

from onlybn.observers import probes

if TYPE_CHECKING:
    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run

SCHEMA = pa.schema(
    [*probes.WHEN, ("loss", pa.float64()), ("top_1", pa.float64()), ("learning_rate", pa.float64())]
)


class Options(probes.Options):
    """When to record the loss of a batch."""

    every: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=10, description="a number of steps of at least 1"
    )


class Recorder(probes.Regular):
    """Records what a step minimises, the accuracy on its batch, in percent, and its learning rate.

    All are of the state before the step. There is no accuracy where the targets are numbers.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        super().__init__(steps_per_epoch, options["every"])

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row."""
        from onlybn.training.evaluation import Measures

        measures = Measures(moment.loss.device, moment.data.targets)
        measures.add(moment.loss, moment.logits, moment.labels)
        row = {"loss": moment.loss.item(), "top_1": measures.averages()["top_1"]}
        return [self.when(moment) | row | {"learning_rate": moment.rate}]
