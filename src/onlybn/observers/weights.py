"""Quantiles of every layer's weight as it trains."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from onlybn.errors import UserError, unknown_message

if TYPE_CHECKING:
    from torch import nn

    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run


# The columns, with the share of a layer's weights below each.
QUANTILES = [(f"percentile_{percent}", percent / 100) for percent in (0, 1, 5, 25, 50, 75, 95, 99, 100)]
SCHEMA = pa.schema(
    [
        ("epoch", pa.int32()),
        ("step", pa.int64()),
        ("layer", pa.dictionary(pa.int32(), pa.string())),
        *((column, pa.float64()) for column, _ in QUANTILES),
    ]
)


class Options(BaseModel):
    """When to record weights, and of which layers."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    every: Annotated[int, Field(strict=True, ge=1)] | None = Field(
        default=None, description="a number of steps of at least 1, or null for every test"
    )
    layers: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="a list of layers' names, or null for all"
    )


class Recorder:
    """Records quantiles of the weights of convolutions and linear layers, float64, linearly interpolated.

    A row has the weights after `step` steps of training; rows from before training have epoch and step 0. For
    a parametrised layer, the weight itself is recorded.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        self.training, self.steps_per_epoch, self.every = run.training, steps_per_epoch, options["every"]
        names = list(_layers(network))
        self.layers = names if options["layers"] is None else options["layers"]
        for name in self.layers:
            if name not in names:
                raise UserError(
                    f"weights.layers: {unknown_message(f'layer of {run.architecture}', name, names)}"
                )

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look: at the first step, and at each step after which there are rows."""
        taken = self._taken(epoch, step)
        return taken == 1 or self._is_due(taken)

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for each layer; at the first step also a row for each layer before training."""
        import torch

        taken, rows = self._taken(moment.epoch, moment.step), []
        if taken == 1:
            rows += self._rows(0, 0, moment.network)
        if self._is_due(taken):
            parameters = dict(moment.network.named_parameters())
            with torch.no_grad():
                for name, value in moment.set.items():
                    parameters[name].copy_(value)
            rows += self._rows(moment.epoch, taken, moment.network)
        return rows

    def _taken(self, epoch: int, step: int) -> int:
        return (epoch - 1) * self.steps_per_epoch + step

    def _is_due(self, taken: int) -> bool:
        if self.every:
            return taken % self.every == 0
        return self.training.next_test(taken - 1, self.steps_per_epoch) == taken

    def _rows(self, epoch: int, step: int, network: "Network") -> Iterator[dict[str, Any]]:
        layers = _layers(network)
        for name in self.layers:
            weight = layers[name].weight.detach().double().cpu().numpy()
            values = np.quantile(weight, [share for _, share in QUANTILES]).tolist()
            quantiles = {column: value for (column, _), value in zip(QUANTILES, values, strict=True)}
            yield {"epoch": epoch, "step": step, "layer": name, **quantiles}


def _layers(network: "Network") -> "dict[str, nn.Module]":
    from torch import nn

    return dict(network.named_layers((nn.Conv2d, nn.Linear)))
