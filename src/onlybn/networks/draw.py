"""A run's network as training finds it."""

from torch import nn

from onlybn import models
from onlybn.models.network import Network
from onlybn.networks import regimes, variants
from onlybn.study import Run


def draw(
    run: Run, *, channels: int, classes: int, size: int | None = None
) -> tuple[Network, dict[str, nn.Parameter]]:
    """Return the run's network as training finds it, on the CPU, and the parameters that train, by name.

    Only an architecture of the user's own needs to know of its images' `size` in pixels.
    """
    network = models.build(run.architecture, channels=channels, classes=classes, size=size)
    variants.initialise(network, run.variant, run.seed)
    return network, regimes.apply(network, run.regime, run.seed)
