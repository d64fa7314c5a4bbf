"""Normalisations: what replaces BatchNorm in an architecture. Names are checked without torch.

A normalisation is a function that changes a network from `onlybn.models.build`, which is on the meta device;
the models do not know about normalisations.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from onlybn.errors import unknown_message
from onlybn.networks import regimes

if TYPE_CHECKING:
    from onlybn.models.network import Network

NEUTRAL = "batchnorm"


def none(network: "Network") -> None:
    """Do not normalise; every convolution gets a bias in place of BatchNorm's β."""
    from torch import empty, nn

    from onlybn.models.batchnorm import Absent

    layers = set(network.normalisations())
    for name, layer in list(network.named_modules(remove_duplicate=False)):  # a layer may have several names
        if layer in layers:
            network.replace(name, Absent())
    for layer in network.convolutions():
        if layer.bias is None:
            layer.bias = nn.Parameter(empty(layer.out_channels, device=layer.weight.device))


NORMALISATIONS: dict[str, Callable[["Network"], None]] = {NEUTRAL: lambda network: None, "none": none}


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no normalisation has that name."""
    if name not in NORMALISATIONS:
        raise ValueError(unknown_message("normalisation", name, NORMALISATIONS))


def acts(name: str, regime: str) -> bool:
    """Return whether it is not BatchNorm; raise ValueError if it lacks the γ and β that the regime needs."""
    if name == "none" and regimes.needs_affine(regime):
        raise ValueError(
            f"the regime {regime} needs γ and β, which the normalisation none does not have; put them in"
            " different experiments"
        )
    return name != NEUTRAL


def apply(network: "Network", name: str, seed: int) -> None:
    """Replace the network's BatchNorm by the normalisation."""
    NORMALISATIONS[name](network)
