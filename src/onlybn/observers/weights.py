"""The weights of every layer as they train, and the function through which they do (Weight Compander)."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import BaseModel, ConfigDict, Field

from onlybn.observers import probes

if TYPE_CHECKING:
    from torch import nn

    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run


# The columns, with the share of a layer's weights below each; 7 to 93 are Weight Compander's Figures 3 and 4.
PERCENTILES = (0, 1, 5, 7, 16, 25, 31, 50, 69, 75, 84, 93, 95, 99, 100)
QUANTILES = [(f"percentile_{percent}", percent / 100) for percent in PERCENTILES]
# A weight is near 0 if it is below this share of the root mean square of the layer's drawn weights, and its
# slope is flat if it is below this share of the slope at 0.
NEAR, FLAT = 0.1, 0.01
# Of the bound, which float32 may round up.
ROUNDED = 1 + 1e-6
SCHEMA = pa.schema(
    [
        ("epoch", pa.int32()),
        ("step", pa.int64()),
        ("layer", pa.dictionary(pa.int32(), pa.string())),
        ("number", pa.int32()),
        *((column, pa.float64()) for column, _ in QUANTILES),
        *((column, pa.float64()) for column in ("rms", "near_zero", "limit", "beyond")),
        *((column, pa.float64()) for column in ("slope", "flat", "a", "b")),
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
    """Records the weights of convolutions and linear layers, float64.

    A row has the weights after `step` steps of training; rows from before training have epoch and step 0. A
    reparametrised or partly trained weight is recorded itself. `number` is the layer's place in the network,
    from 0. `near_zero` is the percentage below `NEAR` times the root mean square of the drawn weights. Where
    the weight is a function Ψ(v): `limit` is the least upper bound of |w|, if there is one, and `beyond` the
    percentage above it; `slope` is the mean of Ψ′; `flat` is the percentage whose Ψ′ is below `FLAT` times
    Ψ′(0), unless that is 0; `a` and `b` are Ψ's parameters.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        self.training, self.steps_per_epoch, self.every = run.training, steps_per_epoch, options["every"]
        layers = probes.layers(network)
        self.numbers = {name: number for number, name in enumerate(layers)}
        self.layers = probes.chosen("weights", run, network, options)
        self.drawn_rms = {name: _rms(_weight(layers[name])) for name in self.layers}

    def wants(self, epoch: int, step: int) -> bool:
        """Return whether to look: at the first step, and at each step after which there are rows."""
        taken = self._taken(epoch, step)
        return taken == 1 or self._is_due(taken)

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for each layer; at the first step also a row for each layer before training."""
        taken, rows = self._taken(moment.epoch, moment.step), []
        if taken == 1:
            rows += self._rows(0, 0, moment.network)
        if self._is_due(taken):
            probes.assign(moment.network, moment.set)
            rows += self._rows(moment.epoch, taken, moment.network)
        return rows

    def _taken(self, epoch: int, step: int) -> int:
        return (epoch - 1) * self.steps_per_epoch + step

    def _is_due(self, taken: int) -> bool:
        if self.every:
            return taken % self.every == 0
        return self.training.next_test(taken - 1, self.steps_per_epoch) == taken

    def _rows(self, epoch: int, step: int, network: "Network") -> Iterator[dict[str, Any]]:
        layers = probes.layers(network)
        for name in self.layers:
            weight = _weight(layers[name])
            values = np.quantile(weight, [share for _, share in QUANTILES]).tolist()
            quantiles = {column: value for (column, _), value in zip(QUANTILES, values, strict=True)}
            near = np.abs(weight) < NEAR * self.drawn_rms[name]
            yield {
                "epoch": epoch,
                "step": step,
                "layer": name,
                "number": self.numbers[name],
                **quantiles,
                "rms": _rms(weight),
                "near_zero": 100 * float(near.mean()),
                **_through(layers[name], weight),
            }


def _weight(layer: "nn.Module") -> np.ndarray:
    return layer.weight.detach().double().cpu().numpy()


def _rms(weight: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(weight))))


def _through(layer: "nn.Module", weight: np.ndarray) -> dict[str, float | None]:
    """Return what is recorded of the function Ψ through which a layer's weight trains."""
    import torch

    found = dict.fromkeys(("limit", "beyond", "slope", "flat", "a", "b"))
    psi = getattr(layer, "psi", None)
    if psi is None:
        return found
    limit = float(getattr(psi, "limit", np.inf))
    if np.isfinite(limit):
        found |= {"limit": limit, "beyond": 100 * float((np.abs(weight) > limit * ROUNDED).mean())}
    for name in ("a", "b"):
        value = getattr(psi, name, np.nan)
        value = value.item() if isinstance(value, torch.Tensor) else float(value)
        found[name] = None if np.isnan(value) else value
    if hasattr(psi, "slope"):
        with torch.no_grad():
            inside = torch.from_numpy(np.clip(weight, -limit, limit)).to(layer.weight.device)
            slopes = psi.slope(psi.right_inverse(inside)).cpu().numpy()
            steepest = float(psi.slope(inside.new_zeros(1)))
        found["slope"] = float(slopes.mean())
        if np.isfinite(steepest) and steepest:  # below 0 where a or b is, which training is free to choose
            found["flat"] = 100 * float((np.abs(slopes) < FLAT * abs(steepest)).mean())
    return found
