"""Architectures by name (Table 1), and custom ones. Names are checked without torch."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from onlybn import custom
from onlybn.errors import unknown_message

if TYPE_CHECKING:
    from onlybn.models.network import Network


@dataclass(frozen=True)
class Architecture:
    """A network by name, with its position in figures.

    `depth` counts the layers as the paper does (6n + 2 for CIFAR-10's ResNets); `width` is the factor on the
    channels of every layer, which is 1 for all but the WRNs.
    """

    name: str
    family: str
    depth: int
    width: int


def _resnet(depth: int) -> Architecture:
    if depth < 8 or depth % 6 != 2:
        below = max(8, depth - (depth - 2) % 6)
        raise ValueError(
            f"'resnet-{depth}' does not exist: a CIFAR-10 ResNet has 6n + 2 layers,"
            f" such as resnet-{below} or resnet-{below + 6}"
        )
    return Architecture(f"resnet-{depth}", "resnet", depth, 1)


def _wrn(width: int) -> Architecture:
    return Architecture(f"wrn-14-{width}", "wrn", 14, width)


def _vgg(depth: int) -> Architecture:
    return _one_of("vgg", depth, (11, 13, 16, 19))


def _imagenet_resnet(depth: int) -> Architecture:
    return _one_of("imagenet-resnet", depth, (18, 34, 50, 101, 200))


def _one_of(family: str, depth: int, depths: tuple[int, ...]) -> Architecture:
    name = f"{family}-{depth}"
    if depth not in depths:
        raise ValueError(unknown_message("architecture", name, [f"{family}-{d}" for d in depths]))
    return Architecture(name, family, depth, 1)


_PATTERNS: dict[str, Callable[[int], Architecture]] = {
    r"resnet-([1-9]\d{0,4})": _resnet,
    r"wrn-14-([1-9]\d{0,3})": _wrn,
    r"vgg-([1-9]\d{0,4})": _vgg,
    r"imagenet-resnet-([1-9]\d{0,4})": _imagenet_resnet,
}
_EXAMPLES = [
    *(f"resnet-{depth}" for depth in (14, 32, 56, 110, 218, 434, 866)),
    *(f"wrn-14-{width}" for width in (2, 4, 8, 16, 32)),
    *(f"vgg-{depth}" for depth in (11, 13, 16, 19)),
    *(f"imagenet-resnet-{depth}" for depth in (18, 34, 50, 101, 200)),
]


def architecture(name: str) -> Architecture:
    """Return the built-in architecture of that name; raise ValueError, in one sentence, if unknown."""
    for pattern, make in _PATTERNS.items():
        if match := re.fullmatch(pattern, name):
            return make(int(match[1]))
    others = " (or any resnet-6n+2, wrn-14-w, module:function)"
    raise ValueError(unknown_message("architecture", name, _EXAMPLES) + others)


def check(name: str) -> None:
    """Raise ValueError, in one sentence, if no architecture, built-in or custom, has that name."""
    if custom.is_custom(name):
        custom.check("architecture", name)
    else:
        architecture(name)


def build(name: str, *, channels: int, classes: int, size: int | None = None) -> "Network":
    """Build the network of that name on torch's meta device, for images with `channels` channels.

    That is enough to count parameters; `onlybn.networks.variants` allocates and draws the tensors.
    `network.architecture` is its position in figures. A custom network is inspected with images of `size` ×
    `size` pixels; raises UserError if it cannot be trained.
    """
    import torch

    images = {"channels": channels, "classes": classes}
    with torch.device("meta"):
        if custom.is_custom(name):
            from onlybn.models.custom_network import build as build_custom

            network, placed = build_custom(name, size=size, **images)
            described = Architecture(name, **placed)
        else:
            described = architecture(name)
            network = _build(described, **images)
    for layer in network.normalisations():
        layer.num_batches_tracked = None  # nothing reads this count, and it costs a kernel per layer
    network.architecture = described
    return network


def _build(described: Architecture, **images: int) -> "Network":
    match described.family:
        case "vgg":
            from onlybn.models.vgg import Vgg

            return Vgg(depth=described.depth, **images)
        case "imagenet-resnet":
            from onlybn.models.imagenet import ImageNetResNet

            return ImageNetResNet(depth=described.depth, **images)
        case _:
            from onlybn.models.resnet import CifarResNet

            blocks = (described.depth - 2) // 6
            return CifarResNet(blocks=blocks, width=described.width, **images)
