"""The affine table: γ and β of every BatchNorm channel, trained and as drawn (Figures 4 and 5)."""

import pyarrow as pa
import torch
from torch import Tensor

from onlybn.models.network import Network
from onlybn.runs.schemas import SCHEMAS


@torch.no_grad()
def affine(network: Network, initial: dict[str, tuple[Tensor, Tensor]]) -> pa.Table:
    """Return a row per BatchNorm channel, layers in the order of the forward pass.

    `initial` holds γ and β of every BatchNorm layer, by name, as training found them.
    """
    schema = SCHEMAS["affine"]
    names = {layer: name for name, layer in network.named_layers(torch.nn.BatchNorm2d)}
    tables = []
    for index, (layer, place) in enumerate(network.batchnorm_places().items()):
        channels = layer.num_features
        gamma_initial, beta_initial = initial[names[layer]]
        columns = [
            [index] * channels,
            [names[layer]] * channels,
            [place.stage] * channels,
            [place.block] * channels,
            [place.position] * channels,
            range(channels),
            *(
                tensor.float().cpu().numpy()
                for tensor in (
                    layer.weight,
                    layer.bias,
                    layer.running_mean,
                    layer.running_var,
                    gamma_initial,
                    beta_initial,
                )
            ),
        ]
        arrays = [pa.array(c, field.type) for c, field in zip(columns, schema, strict=True)]
        tables.append(pa.table(arrays, schema))
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()
