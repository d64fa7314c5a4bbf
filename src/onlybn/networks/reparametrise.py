"""Reparametrisations: a weight trains through a function, w = Ψ(v). Names are checked without torch.

Ψ applies to the weight of every convolution and linear layer that the regime trains, but not to γ and β of a
normalisation, nor to a bias. v starts so that Ψ(v) is the drawn weight.
"""

import re
from typing import TYPE_CHECKING

from onlybn.errors import unknown_message
from onlybn.networks import regimes

if TYPE_CHECKING:
    from torch import nn

    from onlybn.models.network import Network

NEUTRAL = "none"
# Each number has exactly one spelling, since it is part of the name of the run's folder.
_NUMBER = r"(0\.\d{0,5}[1-9]|[1-9]\d{0,5}(?:\.\d{0,5}[1-9])?)"
# Name, with a number for each N: the function of `onlybn.networks.parametrisations` that makes Ψ of them.
REPARAMETRISATIONS = {"linear-N": "Linear"}


def _parsed(name: str) -> tuple[str, tuple[float, ...]]:
    """Return the class that makes Ψ, and its numbers; raise ValueError, in one sentence, if unknown."""
    for pattern, function in REPARAMETRISATIONS.items():
        if match := re.fullmatch(pattern.replace("N", _NUMBER), name):
            return function, tuple(map(float, match.groups()))
    examples = [pattern.replace("N", "2") for pattern in REPARAMETRISATIONS]
    raise ValueError(
        unknown_message("reparametrisation", name, [NEUTRAL, *examples])
        + " (or other numbers, written as 2, 1.6 or 0.5)"
    )


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no reparametrisation has that name."""
    if name != NEUTRAL:
        _parsed(name)


def acts(name: str, regime: str) -> bool:
    """Return whether it changes a run: the regime trains weights, and Ψ is not the identity."""
    return name not in (NEUTRAL, "linear-1") and regimes.trains_weights(regime)


def apply(network: "Network", name: str, seed: int) -> None:
    """Make every trainable weight train through Ψ."""
    if name == NEUTRAL:
        return
    from torch import no_grad
    from torch.nn.utils import parametrize

    from onlybn.networks import parametrisations

    function, numbers = _parsed(name)
    for layer in _layers(network):
        psi = getattr(parametrisations, function)(*numbers)
        if not parametrize.is_parametrized(layer, "weight"):
            if layer.weight.requires_grad:
                parametrize.register_parametrization(layer, "weight", psi)
        elif (chosen := layer.parametrizations["weight"]).original.requires_grad:
            # With `random-K` only the chosen entries go through Ψ; the others keep their initial values.
            with no_grad():
                chosen.original.copy_(psi.right_inverse(chosen.original))
            chosen.insert(0, psi)


def settle(network: "Network") -> None:
    """Replace each weight that trained through Ψ by a plain weight with the value Ψ(v)."""
    from torch import no_grad
    from torch.nn.utils import parametrize

    from onlybn.networks.parametrisations import Psi

    for layer in _layers(network):
        if not parametrize.is_parametrized(layer, "weight"):
            continue
        through = layer.parametrizations["weight"]
        if not isinstance(through[0], Psi):
            continue
        if len(through) == 1:
            parametrize.remove_parametrizations(layer, "weight")
        else:
            with no_grad():
                through.original.copy_(through[0](through.original))
            del through[0]


def _layers(network: "Network") -> "list[nn.Module]":
    from torch import nn

    return [layer for _, layer in network.named_layers((nn.Conv2d, nn.Linear))]
