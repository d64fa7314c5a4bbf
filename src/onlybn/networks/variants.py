"""Variants: how weights, and γ and β, are drawn (Appendix E). Names are `{features}_{batchnorm}`."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from onlybn.errors import unknown_message
from onlybn.randomness import generator

if TYPE_CHECKING:
    from onlybn.models.network import Network

DEFAULT = "kaiming-normal_gamma-uniform"

Shape = tuple[int, ...]


def kaiming_normal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw He-normal weights: standard deviation √(2 / fan-in)."""
    return rng.standard_normal(shape) * math.sqrt(2 / _fan_in(shape))


def kaiming_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw He-uniform weights: bound √(6 / fan-in)."""
    bound = math.sqrt(6 / _fan_in(shape))
    return rng.uniform(-bound, bound, shape)


def orthogonal(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw a matrix (outputs × fan-in) with orthonormal rows, or orthonormal columns if those are fewer."""
    rows, columns = shape[0], _fan_in(shape)
    draw = rng.standard_normal((max(rows, columns), min(rows, columns)))
    with threadpool_limits(1):  # with several threads, the result of QR depends on their number
        q, r = np.linalg.qr(draw)
    q *= np.sign(np.diag(r))
    return (q.T if rows < columns else q).reshape(shape)


def binary(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw the signs of He-normal weights, times the deviation of that draw; a single weight stays."""
    draw = kaiming_normal(rng, shape)
    return np.sign(draw) * draw.std(ddof=1) if draw.size > 1 else draw


def torch_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw uniform weights between ±1 / √fan-in, the default of PyTorch."""
    bound = _default_bound(shape)
    return rng.uniform(-bound, bound, shape)


def vgg_gaussian(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw convolutions normal, with standard deviation √(2 / (kernel area · outputs)); others He-uniform."""
    if len(shape) == 2:
        return kaiming_uniform(rng, shape)
    outputs, _, *kernel = shape
    return rng.standard_normal(shape) * math.sqrt(2 / (math.prod(kernel) * outputs))


def glorot_uniform(rng: np.random.Generator, shape: Shape) -> np.ndarray:
    """Draw Glorot-uniform weights: bound √(6 / (fan-in + fan-out))."""
    outputs, _, *kernel = shape
    bound = math.sqrt(6 / (_fan_in(shape) + outputs * math.prod(kernel)))
    return rng.uniform(-bound, bound, shape)


def normal(rng: np.random.Generator, shape: Shape, deviation: float) -> np.ndarray:
    """Draw normal weights of one standard deviation for all layers."""
    return rng.standard_normal(shape) * deviation


FEATURES: dict[str, Callable[[np.random.Generator, Shape], np.ndarray]] = {
    "kaiming-normal": kaiming_normal,
    "kaiming-uniform": kaiming_uniform,
    "orthogonal": orthogonal,
    "binary": binary,
    "torch-uniform": torch_uniform,
    "kaiming-uniform-zero-bias": kaiming_uniform,
    "vgg-gaussian": vgg_gaussian,
    "glorot-uniform": glorot_uniform,
    "normal-0.1": partial(normal, deviation=0.1),
    "normal-0.01": partial(normal, deviation=0.01),
}
# The features with which biases start at 0.
ZERO_BIAS = ("kaiming-uniform-zero-bias", "vgg-gaussian", "glorot-uniform", "normal-0.1", "normal-0.01")

# γ is uniform between the first two numbers; β is the third.
AFFINES: dict[str, tuple[float, float, float]] = {
    "gamma-uniform": (0.0, 1.0, 0.0),
    "gamma-one": (1.0, 1.0, 0.0),
    "gamma-symmetric": (-1.0, 1.0, 0.0),
    "gamma-one-beta-one": (1.0, 1.0, 1.0),
}

NAMES = [f"{features}_{affine}" for features in FEATURES for affine in AFFINES]


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no variant has that name."""
    if name not in NAMES:
        raise ValueError(unknown_message("variant", name, NAMES))


def initialise(network: "Network", variant: str, seed: int) -> None:
    """Allocate a network from `onlybn.models.build` on the CPU, and draw its parameters.

    Each tensor is drawn in float64 from (seed, kind of tensor, name of the layer) and cast once. Biases are
    uniform between ±1/√fan-in, as in PyTorch, but 0 with the features of `ZERO_BIAS`. Running means start at
    0, and running variances and norms at 1.
    """
    import torch
    from torch import nn

    features, affine = variant.split("_")
    low, high, beta = AFFINES[affine]

    def fill(tensor: torch.Tensor, values: np.ndarray) -> None:
        tensor.copy_(torch.from_numpy(values))

    allocate(network)
    with torch.no_grad():
        for kind in (nn.Conv2d, nn.Linear):
            for name, layer in network.named_layers(kind):
                shape = tuple(layer.weight.shape)
                fill(layer.weight, FEATURES[features](generator(seed, "weight", name), shape))
                if layer.bias is not None:
                    bound = 0 if features in ZERO_BIAS else _default_bound(shape)
                    rng = generator(seed, "bias", name)
                    fill(layer.bias, rng.uniform(-bound, bound, layer.bias.shape))
        for name, layer in network.named_normalisations():
            rng = generator(seed, "gamma", name)
            fill(layer.weight, rng.uniform(low, high, layer.weight.shape))
            layer.bias.fill_(beta)
            for key, buffer in layer.named_buffers():
                buffer.fill_(0 if key == "running_mean" else 1)


def allocate(network: "Network") -> None:
    """Allocate a network from `onlybn.models.build` on the CPU, with any values.

    The same as `to_empty`, which would import a computer algebra system and so take a third of a second.
    """
    import torch
    from torch import nn

    for layer in network.modules():
        for name, parameter in layer.named_parameters(recurse=False):
            setattr(layer, name, nn.Parameter(torch.empty(parameter.shape)))
        for name, buffer in layer.named_buffers(recurse=False):
            setattr(layer, name, torch.empty(buffer.shape, dtype=buffer.dtype))


def _default_bound(shape: Shape) -> float:
    return 1 / math.sqrt(_fan_in(shape))


def _fan_in(shape: Shape) -> int:
    return math.prod(shape[1:])
