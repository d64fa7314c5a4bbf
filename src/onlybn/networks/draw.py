"""A run's network before training: built, normalised, drawn, with regime and reparametrisation applied."""

import torch
from torch import nn

from onlybn import axes, custom, models
from onlybn.errors import UserError
from onlybn.models.network import Network
from onlybn.study import Run


def draw(
    run: Run, *, channels: int, classes: int, size: int | None = None
) -> tuple[Network, dict[str, nn.Parameter]]:
    """Return the run's network before training, on the CPU, and its trainable parameters by name.

    Only a custom or fully connected architecture needs the `size` of the images in pixels. Raises UserError
    if an architecture does not work with the value of an axis.
    """
    shape = {"channels": channels, "classes": classes, "size": size}
    network = build(run.architecture, run.value(axes.NORMALISATION), **shape)
    for axis in (axes.VARIANT, axes.REGIME, axes.REPARAMETRISATION):
        axis.apply(network, run.value(axis), run.drawn_from)
    return network, {name: p for name, p in network.named_parameters() if p.requires_grad}


def build(architecture: str, normalisation: str, *, channels: int, classes: int, size: int | None) -> Network:
    """Build a network on the meta device, as `onlybn.models.build` does, with another normalisation.

    Raises UserError if that does not fit the architecture, or a custom one does not run with it.
    """
    network = models.build(architecture, channels=channels, classes=classes, size=size)
    axes.NORMALISATION.apply(network, normalisation, 0)
    if normalisation != axes.NORMALISATION.default and custom.is_custom(architecture):
        try:
            with torch.no_grad():
                network(torch.empty(2, channels, size, size, device="meta"))
        except Exception as error:  # custom code may raise anything
            what = " ".join(str(error).split())
            raise UserError(
                f"{architecture} does not work with the normalisation {normalisation}; its forward pass"
                f" fails: {type(error).__name__}: {what}"
            ) from error
    return network
