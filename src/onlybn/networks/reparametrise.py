"""Reparametrisations: a weight trains through a function, w = Ψ(v). Names are checked without torch.

Ψ applies to the weight of every convolution and linear layer that the regime trains, but not to γ and β of a
normalisation, nor to a bias. v starts so that Ψ(v) is the drawn weight. The network itself stays ordinary:
the optimiser owns v, and writes Ψ(v) into the layer's weight after each step (`onlybn.training.optimisers`).
"""

import math
import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from onlybn import custom
from onlybn.errors import UserError, unknown_message
from onlybn.networks import regimes

if TYPE_CHECKING:
    from torch import Tensor, nn

    from onlybn.models.network import Network

NEUTRAL = "none"
_NUMBER = r"(\d{1,6}(?:\.\d{1,6})?)"
# Name, with a number for each N: the class in `onlybn.networks.functions`, and how its numbers are called.
REPARAMETRISATIONS = {
    "arctan-N-N": ("Arctan", "A-B"),
    "arsinh-N-N": ("Arsinh", "A-B"),
    "erf-N-N": ("Erf", "A-B"),
    "arctan-fine-N-N": ("LearnedArctan", "A-B"),
    "arctan-coarse-N-N": ("LearnedArctan", "A-B"),
    "powerpropagation-N": ("PowerPropagation", "ALPHA"),
    "weight-norm": ("WeightNorm", ""),
    "linear-N": ("Linear", "S"),
}
# Endings of the names that choose layers: the first convolution alone, and all but the output layer.
PARTS = ("first", "but-last")


def _spelled(number: float) -> str:
    """Return the one spelling of a number, since it is part of the name of the run's folder."""
    return f"{number:.6f}".rstrip("0").rstrip(".")


# The regimes that train weights, but none of a part.
_OUT_OF_REACH = {
    "first": ("output", "batchnorm+output", "batchnorm+output+shortcut"),
    "but-last": ("output", "batchnorm+output"),
}


def part_of(name: str) -> str:
    """Return the ending of a name that chooses layers, or an empty text for all of them."""
    return next((part for part in PARTS if name.endswith(f"-{part}")), "")


def _parsed(name: str) -> tuple[str, tuple[float, ...]]:
    """Return the pattern of a name, without the part of the network, and its numbers.

    Raises ValueError, in one sentence, if unknown.
    """
    part = part_of(name)
    whole = name.removesuffix(f"-{part}") if part else name
    for pattern in REPARAMETRISATIONS:
        if match := re.fullmatch(pattern.replace("N", _NUMBER), whole):
            numbers = tuple(map(float, match.groups()))
            least = 1 if pattern.startswith("powerpropagation") else 0
            for number in numbers:
                if number < least or number == 0:
                    raise ValueError(
                        f"{name!r}: {_spelled(number)} is not a number"
                        + (" of at least 1" if least else " above 0")
                    )
            return pattern, numbers
    shown = {
        pattern: pattern.replace("-N" * pattern.count("N"), f"-{names}" if names else "")
        for pattern, (_, names) in REPARAMETRISATIONS.items()
    }
    for pattern, form in shown.items():
        stem = pattern.partition("-N")[0]
        if re.fullmatch(rf"{stem}(-[0-9.]*)*", whole):
            numbers = ("no number", "one number", "two numbers")[pattern.count("N")]
            digits = " of at most six digits before and after the point" if "N" in pattern else ""
            raise ValueError(f"{name!r} is not of the form {form}, with {numbers}{digits}")
    raise ValueError(
        unknown_message("reparametrisation", name, [NEUTRAL, *shown.values()])
        + f" (and with -{' or -'.join(PARTS)} behind it, or module:function)"
    )


def check(name: str) -> str:
    """Return the one spelling of a name; raise ValueError, in one sentence, if unknown."""
    if name == NEUTRAL:
        return name
    if custom.is_custom(name):
        custom.check("reparametrisation", name)
        return name
    pattern, numbers = _parsed(name)
    for number in numbers:
        pattern = pattern.replace("N", _spelled(number), 1)
    part = part_of(name)
    return f"{pattern}-{part}" if part else pattern


def acts(name: str, regime: str) -> bool:
    """Return whether it changes a run: the regime trains weights that it reaches, and Ψ is no identity.

    Raises ValueError if the regime trains only some entries of a weight.
    """
    if name == NEUTRAL or not regimes.trains_weights(regime):
        return False
    if regimes.trains_entries(regime):
        raise ValueError(
            f"the regime {regime} trains single entries of weights, which the reparametrisation {name} cannot"
            " reach; put them in different experiments"
        )
    reaches = regime not in _OUT_OF_REACH.get(part_of(name), ())
    return reaches and name not in ("linear-1", "powerpropagation-1")


def apply(network: "Network", name: str, seed: int) -> None:
    """Give every layer whose weight trains through Ψ its function, as the layer's module `psi`.

    Layers share one function, unless it is learned for each layer or custom. Raises UserError, in one
    sentence, if a drawn weight lies outside the function's range.
    """
    if name == NEUTRAL:
        return
    psi, is_shared = None, not (custom.is_custom(name) or name.startswith("arctan-fine"))
    for layer_name, layer in layers_through(network, name):
        if psi is None or not is_shared:
            psi = function(name, layer.weight.detach())
        check_range(name, layer_name, float(layer.weight.detach().abs().max()), psi)
        layer.psi = psi


def function(name: str, weight: "Tensor | None" = None) -> "nn.Module":
    """Return a new Ψ of that name; a custom function gets the drawn weight."""
    from onlybn.networks import functions

    if custom.is_custom(name):
        return _custom(name, weight)
    pattern, numbers = _parsed(name)
    return getattr(functions, REPARAMETRISATIONS[pattern][0])(*numbers)


def _custom(name: str, weight: "Tensor") -> "nn.Module":
    """Return what a custom function returns; raise UserError if it cannot start at the drawn weight."""
    from torch import isfinite, nn, no_grad

    psi = custom.call(name, weight)
    if not isinstance(psi, nn.Module):
        raise UserError(f"{name} returned a {type(psi).__name__}, expected a torch.nn.Module")
    with custom.blaming(name), no_grad():
        values = psi.right_inverse(weight)
        start = psi(*values) if isinstance(values, tuple) else psi(values)
        error = float((start - weight).abs().max()) if isfinite(start).all() else math.inf
    if not error <= 1e-4 * float(weight.abs().max()):
        raise UserError(
            f"{name}: forward(right_inverse(w)) differs from a drawn weight w by {error:.2g}; it must be w"
        )
    return psi


def check_range(name: str, layer: str, largest: float, psi: "nn.Module", seeds: str = "") -> None:
    """Raise UserError, in one sentence, if the largest weight of a layer lies outside Ψ's range.

    `seeds` says of which seeds it is the largest, if not of a run's own.
    """
    limit = getattr(psi, "limit", math.inf)
    if largest < limit:
        return
    needed = math.floor(largest / psi.scale * 100 + 1) / 100
    raise UserError(
        f"{name} does not fit the drawn weights: the largest of {layer} is {largest:.3f}{seeds}, and Ψ stays"
        f" below {limit:.3f}; its first number must be at least {_spelled(needed)}"
    )


def settle(network: "Network") -> None:
    """Remove the functions through which weights trained: what is left is an ordinary network."""
    for layer, _ in list(with_functions(network)):
        del layer.psi


def with_functions(network: "nn.Module") -> "Iterator[tuple[nn.Conv2d | nn.Linear, nn.Module]]":
    """Yield every layer whose weight trains through a function, and the function.

    Other modules of a custom network may have a module of the name `psi` too.
    """
    from torch import nn

    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and "psi" in layer._modules:
            yield layer, layer.psi


def layers_through(network: "Network", name: str) -> "Iterator[tuple[str, nn.Conv2d | nn.Linear]]":
    """Yield the name and module of the layers whose weight trains through Ψ."""
    from torch import nn

    part = part_of(name)  # a custom name, module:function, has none
    first, *_ = network.convolutions() or [layer for _, layer in network.named_layers(nn.Linear)]
    for layer_name, layer in network.named_layers((nn.Conv2d, nn.Linear)):
        if part == "first" and layer is not first:
            continue
        if part == "but-last" and layer is network.output:
            continue
        if layer.weight.requires_grad:
            yield layer_name, layer
