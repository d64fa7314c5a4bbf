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
    shape = {"channels": channels, "classes": classes, "size": size}
    network = build(run.architecture, run.value(axes.NORMALISATION), **shape)
    for axis in (axes.VARIANT, axes.REGIME, axes.REPARAMETRISATION):
        axis.apply(network, run.value(axis), run.seed)
    return network, {name: p for name, p in network.named_parameters() if p.requires_grad}


def build(architecture: str, normalisation: str, *, channels: int, classes: int, size: int | None) -> Network:
    """Build a network without memory, as `onlybn.models.build` does, with another normalisation.

    Raises UserError if it is one of the user's own that does not run with it.
    """
    network = models.build(architecture, channels=channels, classes=classes, size=size)
    axes.NORMALISATION.apply(network, normalisation, 0)
    if normalisation != axes.NORMALISATION.default and custom.is_custom(architecture):
        try:
            with torch.no_grad():
                network(torch.empty(2, channels, size, size, device="meta"))
        except Exception as error:  # the user's code may raise anything
            what = " ".join(str(error).split())
            raise UserError(
                f"{architecture} cannot have the normalisation {normalisation}, since with it its forward"
                f" pass fails: {type(error).__name__}: {what}"
            ) from error
    return network
