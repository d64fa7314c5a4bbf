"""Activations: how often each ReLU channel is off (Figure 7, Appendix I)."""

from collections import defaultdict

import pyarrow as pa
import torch
from torch import Tensor, nn

from onlybn.datasets.images import Images
from onlybn.errors import UserError
from onlybn.models.network import Network, Place
from onlybn.runs.schemas import SCHEMAS
from onlybn.training.evaluation import evaluate


@torch.no_grad()
def activations(network: Network, images: Images, *, precision: torch.dtype = torch.float32) -> pa.Table:
    """Return a row per ReLU channel: how many of its activations are 0 over all test images and pixels.

    If a ReLU is not on feature maps, each of its activations is a channel. The network is in evaluation mode.
    Every ReLU counts, including the stem's and those after additions. `off` is zeros / activations,
    Pr[activation = 0]; both are exact counts.
    """
    places = network.relu_places()
    if not places:
        raise UserError(f"{network.architecture.name} has no nn.ReLU whose zeros could be counted")
    counts: dict[tuple[nn.ReLU, int], list] = defaultdict(lambda: [0, 0])
    called: dict[nn.ReLU, int] = dict.fromkeys(places, 0)

    def count(relu: nn.ReLU, inputs: tuple[Tensor], output: Tensor) -> None:
        entry = counts[relu, called[relu] % len(places[relu])]
        called[relu] += 1
        entry[0] = entry[0] + (output == 0).transpose(0, 1).flatten(1).sum(dim=1)
        entry[1] += output.numel() // output.shape[1]

    hooks = [relu.register_forward_hook(count) for relu in places]
    try:
        evaluate(network, images, precision=precision)
    finally:
        for hook in hooks:
            hook.remove()
    ordered: list[tuple[Place, list]] = sorted(
        ((place, counts[relu, call]) for relu, calls in places.items() for call, place in enumerate(calls)),
        key=lambda entry: entry[0][:2],  # by stage and block; within a block calls are in order
    )
    rows = [
        {
            "relu": index,
            **place._asdict(),
            "channel": channel,
            "zeros": zeros,
            "activations": seen,
            "off": zeros / seen,
        }
        for index, (place, (all_zeros, seen)) in enumerate(ordered)
        for channel, zeros in enumerate(all_zeros.tolist())
    ]
    return pa.Table.from_pylist(rows, SCHEMAS["activations"])
