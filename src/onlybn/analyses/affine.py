"""The affine table: γ and β of every BatchNorm channel, trained and as drawn (Figures 4 and 5)."""

import pyarrow as pa
import torch
from torch import Tensor

from onlybn.models.network import Network

SCHEMA = pa.schema(
    [
        ("layer", pa.int32()),
        ("name", pa.dictionary(pa.int32(), pa.string())),
        ("stage", pa.int32()),
        ("block", pa.int32()),
        ("position", pa.dictionary(pa.int32(), pa.string())),
        ("channel", pa.int32()),
        ("gamma", pa.float32()),
        ("beta", pa.float32()),
        ("running_mean", pa.float32()),
        ("running_variance", pa.float32()),
        ("gamma_initial", pa.float32()),
        ("beta_initial", pa.float32()),
    ]
)


@torch.no_grad()
def affine(network: Network, initial: dict[str, tuple[Tensor, Tensor]]) -> pa.Table:
    """Return a row per BatchNorm channel, layers in the order of the forward pass.

    `initial` holds γ and β of every BatchNorm layer, by name, as training found them.
    """
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
        tables.append(pa.table([pa.array(c, f.type) for c, f in zip(columns, SCHEMA, strict=True)], SCHEMA))
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()
