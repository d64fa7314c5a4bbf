"""Normalisations: what stands where an architecture has BatchNorm. Names are understood without torch.

A normalisation is a function that changes a network from `onlybn.models.build`, which has no memory yet: the
models know nothing of it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from onlybn.errors import unknown_message
from onlybn.networks import regimes

if TYPE_CHECKING:
    from onlybn.models.network import Network

NEUTRAL = "batchnorm"


def none(network: "Network") -> None:
    """Normalise nothing; every convolution then has a bias, which BatchNorm's β stood for."""
    from torch import empty, nn

    from onlybn.models.batchnorm import Absent

    layers = set(network.normalisations())
    for name, layer in list(network.named_modules(remove_duplicate=False)):  # one may have several names
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
    """Say whether it differs from BatchNorm; raise ValueError if the regime needs γ and β that it lacks."""
    if name == "none" and regimes.needs_affine(regime):
        raise ValueError(
            f"the regime {regime} is about γ and β, which the normalisation none does not have; name them in"
            " experiments of their own"
        )
    return name != NEUTRAL


def apply(network: "Network", name: str, seed: int) -> None:
    """Put the normalisation where the network has BatchNorm."""
    NORMALISATIONS[name](network)
