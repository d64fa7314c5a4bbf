"""Normalisations: what replaces BatchNorm in an architecture. Names are checked without torch.

A normalisation is a function that changes a network from `onlybn.models.build`, which is on the meta device;
the models do not know about normalisations. The layers are in `onlybn.models.normalisations`.
"""

import math
import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from onlybn.errors import UserError, unknown_message
from onlybn.networks import regimes

if TYPE_CHECKING:
    from torch import nn

    from onlybn.models.network import Network

NEUTRAL = "batchnorm"


def none(network: "Network") -> None:
    """Do not normalise; every convolution gets a bias in place of BatchNorm's β."""
    from onlybn.models.normalisations import Absent

    _without(network, Absent)


def none_noisy(network: "Network") -> None:
    """Do not normalise, but add the noise of `batchnorm_noisy`."""
    from onlybn.models.normalisations import NoisyAbsent

    _without(network, NoisyAbsent)


def batchnorm_noisy(network: "Network") -> None:
    """Add noise behind γ and β (Santurkar et al., 2018, Section 2.1)."""
    from onlybn.models.normalisations import NoisyBatchNorm

    _replace(network, lambda name, old: NoisyBatchNorm(old.num_features, **_constants(old)))


def batchnorm_after(network: "Network") -> None:
    """Normalise behind the activation of each layer, of which BatchNorm stands in front."""
    from torch import nn

    from onlybn.models.layer import Layer

    layers = [layer for _, layer in network.named_layers(Layer)]
    inside = {layer.batchnorm for layer in layers if not isinstance(layer.activation, nn.Identity)}
    if inside != set(network.normalisations()):
        raise UserError(
            f"batchnorm-after does not fit {network.architecture.name}: it needs layers of a linear map,"
            " BatchNorm and an activation, as MLPs and VGGs have"
        )
    for layer in layers:
        layer.activates_first = True


def average_norm(network: "Network", power: float) -> None:
    """Divide by the batch's average ℓp norm (Santurkar et al., 2018, Section 3.3)."""
    from onlybn.models.normalisations import AverageNorm

    _replace(network, lambda name, old: AverageNorm(power, old.num_features, **_constants(old)))


def ghost(network: "Network", examples: int) -> None:
    """Normalise groups of so many examples of a batch by themselves (Hoffer et al., 2017)."""
    from onlybn.models.normalisations import GhostBatchNorm

    _replace(network, lambda name, old: GhostBatchNorm(examples, old.num_features, **_constants(old)))


def layernorm(network: "Network") -> None:
    """Normalise each example over channels, height and width (Ba et al., 2016); γ and β are per channel."""
    _by_groups(network, lambda name, channels: 1)


def groupnorm(network: "Network", groups: int) -> None:
    """Normalise each example over so many groups of channels (Wu and He, 2018)."""

    def checked(name: str, channels: int) -> int:
        if channels % groups:
            raise UserError(
                f"groupnorm-{groups} does not fit {network.architecture.name}: the {channels} channels of"
                f" {name} do not divide into {groups} groups"
            )
        return groups

    _by_groups(network, checked)


def instancenorm(network: "Network") -> None:
    """Normalise each example's channels by themselves (Ulyanov et al., 2016)."""
    _by_groups(network, lambda name, channels: channels)


def _without(network: "Network", layer: Callable[[], "nn.Module"]) -> None:
    from torch import empty, nn

    _replace(network, lambda name, old: layer())
    for convolution in network.convolutions():
        if convolution.bias is None:
            like = convolution.weight
            convolution.bias = nn.Parameter(empty(convolution.out_channels, device=like.device))


def _by_groups(network: "Network", groups: Callable[[str, int], int]) -> None:
    from onlybn.models.normalisations import GroupNorm

    def make(name: str, old: "nn.Module") -> GroupNorm:
        return GroupNorm(groups(name, old.num_features), old.num_features, eps=old.eps)

    _replace(network, make)


def _replace(network: "Network", make: Callable[[str, "nn.Module"], "nn.Module"]) -> None:
    """Replace every BatchNorm by what `make` returns for its name and itself."""
    import torch

    with torch.device("meta"):
        for name, old in list(network.named_normalisations()):
            network.replace(old, make(name, old))


def _constants(batchnorm: "nn.Module") -> dict[str, float]:
    return {"eps": batchnorm.eps, "momentum": batchnorm.momentum}


# By name, with N for a number, which the function gets.
NORMALISATIONS: dict[str, Callable[..., None]] = {
    NEUTRAL: lambda network: None,
    "none": none,
    "none-noisy": none_noisy,
    "batchnorm-noisy": batchnorm_noisy,
    "batchnorm-after": batchnorm_after,
    "l1": partial(average_norm, power=1),
    "l2": partial(average_norm, power=2),
    "linf": partial(average_norm, power=math.inf),
    "ghost-N": ghost,
    "layernorm": layernorm,
    "groupnorm-N": groupnorm,
    "instancenorm": instancenorm,
}
WITHOUT_AFFINE = ("none", "none-noisy")


def _parsed(name: str) -> tuple[str, list[int]]:
    """Return the pattern of a name, and its numbers; raise ValueError, in one sentence, if unknown."""
    for pattern in NORMALISATIONS:
        if match := re.fullmatch(pattern.replace("N", r"(\d{1,6})"), name):
            numbers = [int(number) for number in match.groups()]
            if 0 in numbers:
                raise ValueError(f"{name!r}: 0 is not a number of at least 1")
            return pattern, numbers
    for pattern in NORMALISATIONS:
        if pattern.endswith("-N") and re.fullmatch(rf"{pattern.removesuffix('-N')}(-[0-9.]*)*", name):
            raise ValueError(
                f"{name!r} is not of the form {pattern}, with one whole number of at most 6 digits"
            )
    raise ValueError(unknown_message("normalisation", name, NORMALISATIONS))


def check(name: str) -> str:
    """Return the one spelling of a name; raise ValueError, in one sentence, if unknown."""
    pattern, numbers = _parsed(name)
    return pattern.replace("N", str(numbers[0])) if numbers else pattern


def acts(name: str, regime: str) -> bool:
    """Return whether it is not BatchNorm; raise ValueError if it lacks the γ and β that the regime needs."""
    if name in WITHOUT_AFFINE and regimes.needs_affine(regime):
        raise ValueError(
            f"the regime {regime} needs γ and β, which the normalisation {name} does not have; put them in"
            " different experiments"
        )
    return name != NEUTRAL


def apply(network: "Network", name: str, seed: int) -> None:
    """Replace the network's BatchNorm by the normalisation; raise UserError if that does not fit."""
    pattern, numbers = _parsed(name)
    NORMALISATIONS[pattern](network, *numbers)
