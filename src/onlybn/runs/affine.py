"""The affine table: γ and β of every normalised channel, before and after training (Figures 4 and 5)."""

import pyarrow as pa
import torch
from torch import Tensor

from onlybn.models.network import Network
from onlybn.runs.schemas import SCHEMAS


@torch.no_grad()
def affine(network: Network, initial: dict[str, tuple[Tensor, Tensor]]) -> pa.Table:
    """Return a row per normalised channel, layers in the order of the forward pass.

    `initial` has γ and β of every normalisation layer before training, by the layer's name. A running mean or
    variance that a layer does not have is null.
    """
    schema = SCHEMAS["affine"]
    names = {layer: name for name, layer in network.named_normalisations()}
    tables = []
    placed = [(layer, place) for layer, place in network.normalisation_places().items() if layer in names]
    for index, (layer, place) in enumerate(placed):
        channels = len(layer.weight)
        running = [getattr(layer, name, None) for name in ("running_mean", "running_var")]
        gamma_initial, beta_initial = initial[names[layer]]
        columns = [
            [index] * channels,
            [names[layer]] * channels,
            [place.stage] * channels,
            [place.block] * channels,
            [place.position] * channels,
            range(channels),
            *(
                [None] * channels if tensor is None else tensor.float().cpu().numpy()
                for tensor in (layer.weight, layer.bias, *running, gamma_initial, beta_initial)
            ),
        ]
        arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        tables.append(pa.table(arrays, schema))
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    return whole.unify_dictionaries().combine_chunks()
