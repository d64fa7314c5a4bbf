"""How a layer's gradient changes when the layers before it move (Santurkar et al., Section 2.2, Figure 3)."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import pyarrow as pa
from pydantic import Field

from onlybn.observers import probes

if TYPE_CHECKING:
    from onlybn.models.network import Network
    from onlybn.observers.moment import Moment
    from onlybn.study import Run

COLUMNS = ("norm", "shift", "relative", "cosine")
SCHEMA = pa.schema([*probes.WHEN, *probes.LAYER, *((column, pa.float64()) for column in COLUMNS)])


class Options(probes.Options):
    """When to record gradients, and of which layers."""

    layers: Annotated[list[str], Field(min_length=1)] | None = Field(
        default=None, description="a list of layers' names, or null for all"
    )


class Recorder(probes.Regular):
    """Records ‖G‖, ‖G − G′‖, their ratio, and the cosine between G and G′, for each layer.

    G is the gradient of a convolution's or linear layer's weight in the step. G′ is its gradient on the same
    batch with all layers before it as the step sets them, and itself and those after it as they were.
    Biases, γ and β move with the layer that they follow. The order is that in which the network lists its
    layers: in a built-in network that of the forward pass, with a shortcut after what it bypasses. `number`
    is the layer's place in it, from 0. A layer whose weight does not train, or not as a whole, has no rows.
    """

    def __init__(self, run: "Run", network: "Network", steps_per_epoch: int, options: Mapping[str, Any]):
        super().__init__(steps_per_epoch, options["every"])
        self.layers = probes.chosen("gradient-shift", run, network, options)

    def look(self, moment: "Moment") -> list[dict[str, Any]]:
        """Return a row for each layer."""
        network, rows = moment.network, []
        parameters, parts = probes.trained(network), _by_layer(network)
        probes.assign(network, {name: moment.set[name] for name in parts.pop("")})
        for number, (layer, names) in enumerate(parts.items()):
            weight = f"{layer}.weight"
            if layer in self.layers and weight in parameters:
                _, shifted = probes.gradients(moment, [parameters[weight]])
                found = probes.compared([moment.gradients[weight]], shifted)
                row = {"layer": layer, "number": number, "norm": found["norm"], "shift": found["change"]}
                row |= {"relative": probes.ratio(found["change"], found["norm"]), "cosine": found["cosine"]}
                rows.append(self.when(moment) | row)
            probes.assign(network, {name: moment.set[name] for name in names})
        return rows


def _by_layer(network: "Network") -> dict[str, list[str]]:
    """Return the names of the trainable parameters that move with each layer, and at "" before the first."""
    layers, layer = probes.layers(network), ""
    parts: dict[str, list[str]] = {layer: []}
    for name, module in network.named_modules():
        if name in layers:
            layer = name
            parts[layer] = []
        own = module.named_parameters(prefix=name, recurse=False)
        parts[layer] += [key for key, parameter in own if parameter.requires_grad]
    return parts
