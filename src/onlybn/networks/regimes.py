"""Regimes: which parameters train. All others keep their initial values, bit for bit.

A regime is a function that takes a network and a seed (which only `random-K` needs) and returns the trainable
parameters. The network may be on the meta device, to count costs. Names are checked without torch.
"""

import re
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from onlybn import custom
from onlybn.errors import UserError, unknown_message
from onlybn.randomness import generator

if TYPE_CHECKING:
    from torch.nn import Parameter

    from onlybn.models.network import Network

Regime = Callable[["Network", int], Iterable["Parameter"]]


def everything(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train every parameter (Figures 1, 2, 4 to 7)."""
    return list(network.parameters())


def no_affine(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train every parameter except γ and β, which are fixed at 1 and 0 (Figure 1)."""
    affine = {id(parameter) for parameter in batchnorm(network, seed)}
    for layer in network.normalisations():
        layer.weight.data.fill_(1)
        layer.bias.data.fill_(0)
    return [parameter for parameter in network.parameters() if id(parameter) not in affine]


def batchnorm(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train γ and β of every normalisation, the shortcuts' included (Figures 2 to 7)."""
    return [parameter for layer in network.normalisations() for parameter in layer.parameters()]


def output(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train the last linear layer, its bias included (Figure 2)."""
    return list(network.output.parameters())


def batchnorm_and_output(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train γ, β and the last linear layer (Figure 2)."""
    return [*batchnorm(network, seed), *output(network, seed)]


def batchnorm_output_and_shortcut(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train γ, β, the last linear layer and the convolutions of the shortcuts (Appendix D)."""
    shortcuts = [p for layer in network.shortcut_convolutions() for p in layer.parameters()]
    return [*batchnorm_and_output(network, seed), *shortcuts]


def gamma(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train γ alone (beyond the paper)."""
    return [layer.weight for layer in network.normalisations()]


def beta(network: "Network", seed: int) -> "Iterable[Parameter]":
    """Train β alone (beyond the paper)."""
    return [layer.bias for layer in network.normalisations()]


def random(network: "Network", seed: int, weights: int) -> "Iterable[Parameter]":
    """Train `weights` randomly chosen weights of every output channel of every convolution (Figure 2).

    The seed fixes the choice. If a channel has fewer weights, all of them train. Raises UserError if there is
    no convolution.
    """
    from torch import empty, from_numpy, int64, nn

    from onlybn.networks.parametrisations import train_chosen

    trained = []
    for name, layer in list(network.named_layers(nn.Conv2d)):
        channels, fan_in = layer.weight.shape[0], layer.weight[0].numel()
        k = min(weights, fan_in)
        if layer.weight.is_meta:
            trained.append(train_chosen(layer, empty(channels, k, dtype=int64, device="meta")))
            continue
        rng = generator(seed, "random", name)
        # Draw a number for each weight and take the K lowest, so that a larger K includes the smaller choice.
        chosen = np.argpartition(rng.random((channels, fan_in)), k - 1, axis=1)[:, :k]
        trained.append(train_chosen(layer, from_numpy(np.sort(chosen, axis=1))))
    if not trained:
        raise UserError(without_convolutions(f"random-{weights}", network.architecture.name))
    return trained


def custom_regime(network: "Network", seed: int, name: str) -> "Iterable[Parameter]":
    """Train the parameters that a custom function, with the same arguments, returns."""
    trained = custom.call(name, network, seed)
    existing = {id(parameter) for parameter in network.parameters()}
    with custom.blaming(name):
        trained = list(trained)
    if not trained or not all(id(parameter) in existing for parameter in trained):
        raise UserError(f"{name} did not return parameters of the network that it was given")
    return trained


REGIMES: dict[str, Regime] = {
    "all": everything,
    "no-affine": no_affine,
    "batchnorm": batchnorm,
    "output": output,
    "batchnorm+output": batchnorm_and_output,
    "batchnorm+output+shortcut": batchnorm_output_and_shortcut,
    "gamma": gamma,
    "beta": beta,
}
# Regimes that train no weight, and regimes that need γ and β.
ONLY_AFFINE = ("batchnorm", "gamma", "beta")
OF_AFFINE = (*ONLY_AFFINE, "no-affine", "batchnorm+output", "batchnorm+output+shortcut")
_RANDOM = r"random-([1-9]\d{0,4})"


def regime(name: str) -> Regime:
    """Return the built-in or custom regime of that name; raise ValueError, in one sentence, if unknown."""
    if custom.is_custom(name):
        return partial(custom_regime, name=name)
    if match := re.fullmatch(_RANDOM, name):
        weights = int(match[1])
        return lambda network, seed: random(network, seed, weights)
    if name not in REGIMES:
        raise ValueError(
            unknown_message("regime", name, [*REGIMES, "random-2"]) + " (or any random-K, module:function)"
        )
    return REGIMES[name]


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no regime, built-in or custom, has that name."""
    if custom.is_custom(name):
        custom.check("regime", name)
    else:
        regime(name)


def trains_weights(name: str) -> bool:
    """Return whether a regime trains a weight of a convolution or linear layer; a custom one may."""
    return name not in ONLY_AFFINE


def trains_entries(name: str) -> bool:
    """Return whether a regime trains single entries of weights, and not whole weights."""
    return re.fullmatch(_RANDOM, name) is not None


def needs_affine(name: str) -> bool:
    """Return whether a regime is meaningless for a network without γ and β."""
    return name in OF_AFFINE


def without_convolutions(name: str, architecture: str) -> str:
    """Return the message that a regime which trains entries of convolutions does not fit a network."""
    return (
        f"the regime {name} trains weights of convolutions, and {architecture} has none; put them in"
        " different experiments"
    )


def apply(network: "Network", name: str, seed: int) -> dict[str, "Parameter"]:
    """Make exactly the regime's parameters trainable; return them by name, in the order of the network."""
    trained = {id(parameter) for parameter in regime(name)(network, seed)}
    for parameter in network.parameters():
        parameter.requires_grad_(id(parameter) in trained)
    return {name: p for name, p in network.named_parameters() if p.requires_grad}
