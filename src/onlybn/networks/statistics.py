"""The statistics with which a network normalises in evaluation: of each batch, or estimated anew.

The network stays in evaluation mode, so that nothing but normalisation depends on the batch: dropout and
noise are off. A layer then normalises by its buffers, which are set to the batch's statistics before each
call. One image is enough for this, which torch's layers refuse in training mode.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from onlybn.models.network import Network
from onlybn.networks.state import running_statistics

MEAN, VARIANCE = "running_mean", "running_var"


def set_to_batch(layer: nn.Module, x: Tensor) -> dict[str, Tensor]:
    """Set a layer's buffers to the statistics of x, by which it normalises x in evaluation mode; return them.

    `x` is float (batch, channels, …), and each statistic (channels,). A layer that has no running variance
    computes its statistics itself, as in a step of training, with a momentum of 1.
    """
    if not hasattr(layer, VARIANCE):
        momentum, layer.momentum = layer.momentum, 1.0
        layer.train().forward(x)
        layer.eval().momentum = momentum
        return {key: buffer.clone() for key, buffer in layer.named_buffers()}
    pooled_over = [0, *range(2, x.dim())]
    variance, mean = torch.var_mean(x.to(layer.running_mean.dtype), pooled_over, correction=0)
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)
    return {MEAN: mean, VARIANCE: variance}


@contextmanager
def by_batch(
    network: Network, note: Callable[[str, Mapping[str, Tensor], int], None] = lambda *_: None
) -> Iterator[None]:
    """Let every layer that has running statistics normalise by those of each batch; afterwards restore them.

    The network must be in evaluation mode. `note` is called with a layer's name, the statistics of the batch,
    and the number of values of a channel.
    """
    before = {name: tensor.clone() for name, tensor in running_statistics(network).items()}

    def look(name: str, layer: nn.Module, inputs: tuple[Tensor]) -> None:
        x = inputs[0].detach()
        note(name, set_to_batch(layer, x), x.numel() // x.shape[1])

    hooks = [
        layer.register_forward_pre_hook(partial(look, name))
        for name, layer in network.named_normalisations()
        if any(True for _ in layer.buffers())
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        write(network, before)


@torch.no_grad()
def write(network: Network, statistics: Mapping[str, Tensor]) -> None:
    """Write running statistics, by name, into the network."""
    present = running_statistics(network)
    for name, value in statistics.items():
        present[name].copy_(value)


def pooled(network: Network, batches: Iterable[Tensor]) -> dict[str, Tensor]:
    """Return running statistics estimated from all batches of images together, by name.

    The exact moments that PreciseBN returns; see `reestimated`.
    """
    return reestimated(network, batches)["pooled"]


@torch.no_grad()
def reestimated(network: Network, batches: Iterable[Tensor]) -> dict[str, dict[str, Tensor]]:
    """Return running statistics estimated anew, by name, in two ways: `cumulative` and `pooled`.

    `batches` are normalised images, float (batch, channels, height, width). In one pass each layer sees
    inputs that the layers before it normalised by the batch. `pooled` has the exact mean and the unbiased
    variance of all values that a layer saw, as PreciseBN, and the mean over values of any other statistic.
    `cumulative` is the plain mean over batches, of variances the unbiased ones, as
    `torch.optim.swa_utils.update_bn` computes it without dropout: a short last batch counts fully, and the
    variance between the batches' means is lost. The network keeps its own statistics and its mode.
    """
    sums: dict[str, _Sums] = {}
    was_training = network.training
    network.eval()
    try:
        noted = by_batch(network, lambda name, *found: sums.setdefault(name, _Sums()).add(*found))
        with noted, nn.utils.parametrize.cached():
            for batch in batches:
                network(batch)
    finally:
        network.train(was_training)
    present = running_statistics(network)
    estimates = {"cumulative": _Sums.cumulative, "pooled": _Sums.pooled}
    return {
        kind: {
            f"{name}.{key}": value.to(present[f"{name}.{key}"].dtype)
            for name, added in sums.items()
            for key, value in estimate(added).items()
        }
        for kind, estimate in estimates.items()
    }


class _Sums:
    """One layer's statistics of batches, added up in float64, by the buffers' names."""

    def __init__(self):
        self.batches = self.values = 0
        self.of_batches: dict[str, Tensor] = {}
        self.of_values: dict[str, Tensor] = {}
        self.squares_of_means: Tensor | float = 0.0

    def add(self, found: Mapping[str, Tensor], values: int) -> None:
        """Add a batch's statistics, of so many values of each channel."""
        self.batches += 1
        self.values += values
        for key, value in found.items():
            value = value.double()
            unbiased = value * _unbiased(values) if key == VARIANCE else value
            self.of_batches[key] = self.of_batches.get(key, 0) + unbiased
            self.of_values[key] = self.of_values.get(key, 0) + value * values
        if VARIANCE in found:
            self.squares_of_means = self.squares_of_means + found[MEAN].double().square() * values

    def cumulative(self) -> dict[str, Tensor]:
        """Return the mean over batches."""
        return {key: total / self.batches for key, total in self.of_batches.items()}

    def pooled(self) -> dict[str, Tensor]:
        """Return the statistics of all values."""
        means = {key: total / self.values for key, total in self.of_values.items()}
        if VARIANCE in means:
            between = self.squares_of_means / self.values - means[MEAN].square()
            means[VARIANCE] = (means[VARIANCE] + between) * _unbiased(self.values)
        return means


def _unbiased(values: int) -> float:
    """Return the factor that makes the variance of so many values unbiased; 1 for a single one."""
    return values / max(1, values - 1)
