"""A run's network as training finds it: built, normalised, drawn, its regime and reparametrisation set."""

import torch
from torch import nn

from onlybn import axes, custom, models
from onlybn.errors import UserError
from onlybn.models.network import Network
from onlybn.study import Run


def draw(
    run: Run, *, channels: int, classes: int, size: int | None = None
) -> tuple[Network, dict[str, nn.Parameter]]:
    """Return the run's network as training finds it, on the CPU, and the parameters that train, by name.

    Only an architecture of the user's own needs to know of its images' `size` in pixels; raises UserError if
    it cannot have what an axis puts there.
    """
    network = models.build(run.architecture, channels=channels, classes=classes, size=size)
    for axis in axes.STEPS:
        axis.apply(network, run.value(axis), run.seed)
        if (
            axis is axes.NORMALISATION
            and run.value(axis) != axis.default
            and custom.is_custom(run.architecture)
        ):
            _check_pass(network, run, torch.empty(2, channels, size, size, device="meta"))
    return network, {name: p for name, p in network.named_parameters() if p.requires_grad}


def _check_pass(network: Network, run: Run, images: torch.Tensor) -> None:
    """Refuse, with a UserError, a normalisation with which a network of the user's own does not run."""
    try:
        with torch.no_grad():
            network(images)
    except Exception as error:  # the user's code may raise anything
        what = " ".join(str(error).split())
        raise UserError(
            f"{run.architecture} cannot have the normalisation {run.value(axes.NORMALISATION)}, since with it"
            f" its forward pass fails: {type(error).__name__}: {what}"
        ) from error
