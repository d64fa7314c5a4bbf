"""Reparametrisations: the function Ψ through which a weight w = Ψ(v) trains; named without torch.

Ψ wraps the weight of every convolution and linear layer that the regime trains; never a normalisation's γ
and β, nor a bias. v begins where Ψ(v) is the weight as drawn.
"""

import re
from typing import TYPE_CHECKING

from onlybn.errors import unknown_message
from onlybn.networks import regimes

if TYPE_CHECKING:
    from torch import nn

    from onlybn.models.network import Network

NEUTRAL = "none"
# Of a number there is one spelling, since runs' folders are named by it.
_NUMBER = r"(0\.\d{0,5}[1-9]|[1-9]\d{0,5}(?:\.\d{0,5}[1-9])?)"
# Name, with a number for each N: the function of `onlybn.networks.parametrisations` that makes Ψ of them.
REPARAMETRISATIONS = {"linear-N": "Linear"}


def _parsed(name: str) -> tuple[str, tuple[float, ...]]:
    """Return what makes Ψ, and its numbers; raise ValueError, in one sentence, if there is none such."""
    for pattern, function in REPARAMETRISATIONS.items():
        if match := re.fullmatch(pattern.replace("N", _NUMBER), name):
            return function, tuple(map(float, match.groups()))
    examples = [pattern.replace("N", "2") for pattern in REPARAMETRISATIONS]
    raise ValueError(
        unknown_message("reparametrisation", name, [NEUTRAL, *examples])
        + " (other numbers too, written as 2, 1.6 or 0.5)"
    )


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no reparametrisation has that name."""
    if name != NEUTRAL:
        _parsed(name)


def acts(name: str, regime: str) -> bool:
    """Say whether it changes a run: the regime trains weights, and Ψ is not the identity."""
    return name not in (NEUTRAL, "linear-1") and regimes.trains_weights(regime)


def apply(network: "Network", name: str, seed: int) -> None:
    """Let every weight that trains do so through Ψ."""
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
            # Of `random-K` the chosen entries alone go through Ψ: the others stay at their draw.
            with no_grad():
                chosen.original.copy_(psi.right_inverse(chosen.original))
            chosen.insert(0, psi)


def settle(network: "Network") -> None:
    """Make plain weights of those that trained through Ψ: each then holds Ψ(v)."""
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
