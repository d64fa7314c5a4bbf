"""Architectures by name, and custom ones. Names are checked without torch.

Those of Only BatchNorm are its Table 1 and Appendix C; those of Weight Compander are `imagenet-resnet-N-3x3`,
`preactivation-wrn-N-K` and `vgg-N-head-UNITS`; those of the papers on BatchNorm's mechanisms are
`mlp-WIDTHS`, `deep-linear-N`, and VGGs of half width and with sigmoids.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from onlybn import custom
from onlybn.errors import unknown_message

if TYPE_CHECKING:
    from onlybn.models.network import Network


@dataclass(frozen=True)
class Architecture:
    """A network by name, with its position in figures.

    `depth` counts the layers as the paper does (6n + 2 for CIFAR-10's ResNets); `width` is the factor on the
    channels of every layer, which is 1 for all but the WRNs; other widths are other families.
    """

    name: str
    family: str
    depth: int
    width: int

    @property
    def has_convolutions(self) -> bool:
        """Whether it is convolutional, and not fully connected."""
        return self.family not in _FULLY_CONNECTED

    @property
    def has_relu(self) -> bool:
        """Whether a built-in network has ReLUs."""
        return self.family != "deep-linear" and not self.family.endswith("-sigmoid")


_FULLY_CONNECTED = ("mlp", "mlp-sigmoid", "deep-linear")
_VGG_DEPTHS = (8, 11, 13, 16, 19)
_IMAGENET_DEPTHS = (18, 34, 50, 101, 200)


def _resnet(depth: int) -> Architecture:
    return Architecture(_of_blocks("a CIFAR-10 ResNet", "resnet-{}", depth, 2), "resnet", depth, 1)


def _wrn(width: int) -> Architecture:
    return Architecture(f"wrn-14-{width}", "wrn", 14, width)


def _preactivation_wrn(depth: int, width: int) -> Architecture:
    name = _of_blocks("a pre-activation WRN", f"preactivation-wrn-{{}}-{width}", depth, 4)
    return Architecture(name, "preactivation-wrn", depth, width)


def _vgg_with_head(depth: int, units: int) -> Architecture:
    return _one_of(f"vgg-{{}}-head-{units}", f"vgg-head-{units}", _VGG_DEPTHS, depth)


def _vgg(ending: str, depth: int) -> Architecture:
    return _one_of(f"vgg-{{}}{ending}", f"vgg{ending}", _VGG_DEPTHS, depth)


def _mlp(ending: str, *widths: int) -> Architecture:
    name = f"mlp-{'-'.join(map(str, widths))}{ending}"
    return Architecture(name, f"mlp{ending}", len(widths) + 1, 1)


def _deep_linear(depth: int) -> Architecture:
    if depth < 2:
        raise ValueError(f"'deep-linear-{depth}' does not exist: it has at least 2 layers")
    return Architecture(f"deep-linear-{depth}", "deep-linear", depth, 1)


def _of_blocks(kind: str, form: str, depth: int, others: int) -> str:
    """Return the name of a network of 6n layers in blocks and some others; `form` has {} for the depth."""
    least = 6 + others
    if depth < least or depth % 6 != others:
        below = max(least, depth - (depth - others) % 6)
        raise ValueError(
            f"'{form.format(depth)}' does not exist: {kind} has 6n + {others} layers,"
            f" such as {form.format(below)} or {form.format(below + 6)}"
        )
    return form.format(depth)


def _one_of(form: str, family: str, depths: tuple[int, ...], depth: int) -> Architecture:
    name = form.format(depth)
    if depth not in depths:
        raise ValueError(unknown_message("architecture", name, map(form.format, depths)))
    return Architecture(name, family, depth, 1)


# What a VGG's name may have at its end: half the channels, and sigmoids in place of ReLUs.
_VGG_ENDINGS = ("", "-half", "-sigmoid", "-half-sigmoid")
_WIDTH = r"[1-9]\d{0,4}"
_PATTERNS: dict[str, Callable[..., Architecture]] = {
    r"resnet-([1-9]\d{0,4})": _resnet,
    r"wrn-14-([1-9]\d{0,3})": _wrn,
    **{rf"vgg-([1-9]\d{{0,4}}){ending}": partial(_vgg, ending) for ending in _VGG_ENDINGS},
    r"imagenet-resnet-([1-9]\d{0,4})": partial(
        _one_of, "imagenet-resnet-{}", "imagenet-resnet", _IMAGENET_DEPTHS
    ),
    r"imagenet-resnet-([1-9]\d{0,4})-3x3": partial(
        _one_of, "imagenet-resnet-{}-3x3", "imagenet-resnet-3x3", _IMAGENET_DEPTHS
    ),
    r"preactivation-wrn-([1-9]\d{0,4})-([1-9]\d{0,3})": _preactivation_wrn,
    r"vgg-([1-9]\d{0,4})-head-(512|4096)": _vgg_with_head,
    **{rf"mlp-({_WIDTH}(?:-{_WIDTH})*){ending}": partial(_mlp, ending) for ending in ("", "-sigmoid")},
    r"deep-linear-([1-9]\d{0,4})": _deep_linear,
}
_EXAMPLES = [
    *(f"resnet-{depth}" for depth in (14, 32, 56, 110, 218, 434, 866)),
    *(f"wrn-14-{width}" for width in (2, 4, 8, 16, 32)),
    *(f"vgg-{depth}{ending}" for ending in _VGG_ENDINGS for depth in _VGG_DEPTHS),
    *(f"imagenet-resnet-{depth}" for depth in _IMAGENET_DEPTHS),
    *(f"imagenet-resnet-{depth}-3x3" for depth in _IMAGENET_DEPTHS),
    "preactivation-wrn-28-10",
    *(f"vgg-{depth}-head-{units}" for units in (512, 4096) for depth in _VGG_DEPTHS),
    "mlp-100-100-100",
    "mlp-100-100-100-sigmoid",
    "deep-linear-25",
]


def architecture(name: str) -> Architecture:
    """Return the built-in architecture of that name; raise ValueError, in one sentence, if unknown."""
    for pattern, make in _PATTERNS.items():
        if match := re.fullmatch(pattern, name):
            return make(*(int(number) for group in match.groups() for number in group.split("-")))
    others = " (or any resnet-6n+2, wrn-14-w, preactivation-wrn-6n+4-w, mlp-w-…-w, module:function)"
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
    `network.architecture` is its position in figures. Only a fully connected network and a custom one need
    the images' `size` × `size` pixels. A custom network is inspected with such images; raises UserError if it
    cannot be trained.
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
            network = _build(described, size, **images)
    for layer in network.normalisations():
        layer.num_batches_tracked = None  # nothing reads this count, and it costs a kernel per layer
    network.architecture = described
    return network


def _build(described: Architecture, size: int | None, **images: int) -> "Network":
    match described.family:
        case "mlp" | "mlp-sigmoid":
            from onlybn.models.mlp import Mlp, SigmoidMlp

            widths = [int(part) for part in described.name.split("-") if part.isdigit()]
            kind = SigmoidMlp if described.family == "mlp-sigmoid" else Mlp
            return kind(widths=widths, size=size, **images)
        case "deep-linear":
            from onlybn.models.mlp import DeepLinear

            return DeepLinear(depth=described.depth, size=size, **images)
        case "vgg" | "vgg-half" | "vgg-sigmoid" | "vgg-half-sigmoid":
            from onlybn.models.vgg import Vgg

            options = {option: option in described.family for option in ("half", "sigmoid")}
            return Vgg(depth=described.depth, **options, **images)
        case "vgg-head-512" | "vgg-head-4096":
            from onlybn.models.vgg import VggWithHead

            units = int(described.family.removeprefix("vgg-head-"))
            return VggWithHead(depth=described.depth, units=units, **images)
        case "imagenet-resnet" | "imagenet-resnet-3x3":
            from onlybn.models.imagenet import ImageNetResNet

            small = described.family == "imagenet-resnet-3x3"
            return ImageNetResNet(depth=described.depth, for_small_images=small, **images)
        case "preactivation-wrn":
            from onlybn.models.preactivation import PreactivationResNet

            blocks = (described.depth - 4) // 6
            return PreactivationResNet(blocks=blocks, width=described.width, **images)
        case _:
            from onlybn.models.resnet import CifarResNet

            blocks = (described.depth - 2) // 6
            return CifarResNet(blocks=blocks, width=described.width, **images)
