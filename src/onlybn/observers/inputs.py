"""The distribution of the inputs of nonlinearities, and what one step changes of it.

Ioffe & Szegedy, Figure 1b and c; Santurkar et al., Figures 1c, 2 and 8.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import pyarrow as pa
from pydantic import Field

from onlybn.observers import probes
from onlybn.randomness import generator

if TYPE_CHECKING:
    from torch import Tensor, nn

    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run

PERCENTS = (0, 1, 2, *range(5, 100, 5), 98, 99, 100)
# The percentiles of all units are those of about this many values, evenly spaced, if there are more.
MANY = 2**18
# So many values are converted to float64 at once: they stay in a processor's cache.
CHUNK = 2**16
SCHEMA = pa.schema(
    [
        *probes.WHEN,
        *probes.LAYER,
        ("unit", pa.int32()),
        ("unit_percentiles", pa.list_(pa.float32())),
        ("all_percentiles", pa.list_(pa.float32())),
        ("means", pa.list_(pa.float32())),
        ("variances", pa.list_(pa.float32())),
        ("mean_step", pa.float64()),
        ("variance_step", pa.float64()),
    ]
)


class Options(probes.Options):
    """When to record inputs, and of how many units of each layer."""

    units: Annotated[int, Field(strict=True, ge=1)] = Field(
        default=64, description="a number of units of at least 1"
    )


class Recorder(probes.Regular):
    """Records the inputs of each nonlinearity on the step's batch, before the step.

    A row is of one call of a module; `number` counts the calls of a forward pass, from 0. A unit of a map is
    a channel, pooled over batch, height and width. The seed chooses one `unit` of each layer, whose values'
    percentiles at `PERCENTS` are recorded beside those of all units, and the units of `means` and
    `variances`, which are in the order of the units. The variance is that of the batch, divided by its size.
    `mean_step` and `variance_step` are the mean over all units of the absolute change that the step makes,
    on the same batch, with the noise of the next step.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        super().__init__(steps_per_epoch, options["every"])
        self.seed, self.units = run.seed, options["units"]
        self.places = set(network.activation_places())
        self.names = {module: name for name, module in network.named_modules() if module in self.places}

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for each nonlinearity."""
        before = self._inputs(moment, self._described)
        probes.assign(moment.network, moment.set)
        moment.noise.step += 1
        after = self._inputs(moment, lambda name, values: _moments(values))
        rows = []
        for number, ((name, row, moments), changed) in enumerate(zip(before, after, strict=True)):
            steps = (float((b - a).abs().mean()) for a, b in zip(moments, changed, strict=True))
            changes = dict(zip(("mean_step", "variance_step"), steps, strict=True))
            rows.append(self.when(moment) | {"layer": name, "number": number} | row | changes)
        return rows

    def _inputs(self, moment: "Moment", reduce: "Callable[[str, Tensor], Any]") -> list[Any]:
        """Return what `reduce` makes of the name and the input of each call, in order."""
        import torch

        found = []

        def called(module: "nn.Module", given: "tuple[Tensor, ...]") -> None:
            found.append(reduce(self.names[module], given[0]))  # now, since a ReLU overwrites its input

        hooks = [module.register_forward_pre_hook(called) for module in self.places]
        try:
            with torch.no_grad():
                moment.evaluate()
        finally:
            for hook in hooks:
                hook.remove()
        return found

    def _described(self, name: str, values: "Tensor") -> "tuple[str, dict[str, Any], tuple[Tensor, ...]]":
        order = generator(self.seed, "inputs", name).permutation(values.shape[1])
        unit, chosen = int(order[0]), np.sort(order[: self.units])
        all_values = values.movedim(1, -1).flatten()
        # An odd stride: the number of units is nearly always even, and each should be met.
        some = all_values[:: all_values.numel() // MANY | 1]
        moments = _moments(values)
        means, variances = (of_units[chosen].float().tolist() for of_units in moments)
        row = {
            "unit": unit,
            "unit_percentiles": _percentiles(values[:, unit]),
            "all_percentiles": _percentiles(some),
            "means": means,
            "variances": variances,
        }
        return name, row, moments


def _moments(values: "Tensor") -> "tuple[Tensor, Tensor]":
    """Return mean and variance of each unit, float64 (units,), of values (batch, units, …)."""
    units, rows = values.shape[1], values.movedim(1, -1).flatten(0, -2)
    sums = squares = 0
    for some in rows.split(max(1, CHUNK // units)):
        some = some.double()
        sums, squares = sums + some.sum(dim=0), squares + some.square().sum(dim=0)
    means = sums / len(rows)
    return means, (squares / len(rows) - means.square()).clamp_(min=0)


def _percentiles(values: "Tensor") -> list[float]:
    """Return the percentiles of values, linear between neighbours."""
    ordered = np.sort(values.float().cpu().numpy(), axis=None)
    places = np.array(PERCENTS) / 100 * (len(ordered) - 1)
    return np.interp(places, np.arange(len(ordered)), ordered).tolist()
