"""Custom architectures: any module, inspected during one forward pass on the meta device."""

from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from onlybn import custom
from onlybn.errors import UserError
from onlybn.models.network import Network, Place

# The layers that `onlybn.networks.variants` can draw.
DRAWN = (nn.Conv2d, nn.BatchNorm2d, nn.Linear)


@dataclass(eq=False)
class Seen(TorchDispatchMode):
    """Records a forward pass: the layers in order of call, their places, and some operations.

    Each size of feature maps is a stage, in order of occurrence; blocks are counted within a stage.
    """

    calls: list[nn.Module] = field(default_factory=list)
    batchnorms: dict[nn.BatchNorm2d, Place] = field(default_factory=dict)
    relus: dict[nn.ReLU, list[Place]] = field(default_factory=dict)
    relu_operations: int = 0
    random_operations: set[str] = field(default_factory=set)

    def __post_init__(self):
        super().__init__()
        self._stages: dict[tuple[int, ...], int] = {}
        self._blocks: dict[tuple[type, int], int] = {}

    def layer_called(self, layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        """Record the call of a layer (a forward hook)."""
        self.calls.append(layer)
        if isinstance(layer, nn.BatchNorm2d):
            self.batchnorms.setdefault(layer, self._place(nn.BatchNorm2d, output))
        elif isinstance(layer, nn.ReLU):
            self.relus.setdefault(layer, []).append(self._place(nn.ReLU, output))

    def _place(self, kind: type, output: Tensor) -> Place:
        stage = self._stages.setdefault(tuple(output.shape[2:]), len(self._stages) + 1)
        self._blocks[kind, stage] = block = self._blocks.get((kind, stage), 0) + 1
        return Place(stage, block, "inside")

    def __torch_dispatch__(self, operation, types, args=(), kwargs=None):
        self.relu_operations += operation._schema.name in ("aten::relu", "aten::relu_")
        if torch.Tag.nondeterministic_seeded in operation.tags:
            self.random_operations.add(operation._schema.name.removeprefix("aten::"))
        return operation(*args, **(kwargs or {}))


class CustomNetwork(Network):
    """A custom module as `network`, with the interface of `Network` derived from a recorded forward pass."""

    def __init__(self, network: nn.Module, seen: Seen):
        super().__init__()
        self.network = network
        self._seen = seen

    @property
    def output(self) -> nn.Linear:
        """The linear layer that is called last."""
        return _linears(self._seen)[-1]

    def forward(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, float (batch, classes)."""
        return self.network(images)

    def normalisation_places(self) -> dict[nn.Module, Place]:
        """Return the place of each normalisation (or its replacement), in the order of the forward pass."""
        return dict(self._seen.batchnorms)

    def replace(self, before: nn.Module, layer: nn.Module) -> None:
        """Replace a layer by another, under all of its names and with the same place."""
        super().replace(before, layer)
        self._seen.batchnorms = {
            layer if one is before else one: place for one, place in self._seen.batchnorms.items()
        }

    def relu_places(self) -> dict[nn.ReLU, list[Place]]:
        """Return the places of each ReLU's calls, in order."""
        return dict(self._seen.relus)

    def shortcut_convolutions(self) -> list[nn.Conv2d]:
        """Return the convolutions on shortcuts if the custom module names them, or else none."""
        return list(getattr(self.network, "shortcut_convolutions", list)())


def build(name: str, *, channels: int, classes: int, size: int) -> tuple[Network, dict[str, str | int]]:
    """Build the network of an architecture `module:function`; return it with its family, depth and width.

    The function is called with `channels` and `classes`, and returns any module that maps images, float
    (batch, channels, size, size), to logits, float (batch, classes). Its attributes `family`, `depth` and
    `width` give its position in figures; the defaults are the name of the Python module, the number of called
    convolutions and linear layers without shortcuts, and 1. Everything runs on torch's meta device. Raises
    UserError if a study cannot train the network.
    """
    network = custom.call(name, channels=channels, classes=classes)
    if not isinstance(network, nn.Module):
        raise UserError(f"{name} returned a {type(network).__name__}, expected a torch.nn.Module")
    _refuse(name, _faults_of_layers(network))
    seen, logits = _look(name, network, torch.empty(2, channels, size, size))
    _refuse(name, _faults_of_pass(network, seen, logits, classes))
    whole = network if isinstance(network, Network) else CustomNetwork(network, seen)
    return whole, _placed(name, network, seen, whole.shortcut_convolutions())


def _look(name: str, network: nn.Module, images: Tensor) -> tuple[Seen, Tensor]:
    seen = Seen()
    layers = [layer for layer in network.modules() if isinstance(layer, (*DRAWN, nn.ReLU))]
    hooks = [layer.register_forward_hook(seen.layer_called) for layer in layers]
    try:
        with custom.blaming(name), torch.no_grad(), seen:
            return seen, network.train()(images)
    finally:
        for hook in hooks:
            hook.remove()


def _faults_of_layers(network: nn.Module) -> Iterator[str]:
    batchnorms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    if not batchnorms:
        yield "has no nn.BatchNorm2d"
    if not all(layer.affine and layer.track_running_stats and layer.momentum for layer in batchnorms):
        yield "has an nn.BatchNorm2d without γ and β, running statistics or momentum"
    held = set()
    for path, layer in network.named_modules():
        for kind, tensors in (("parameter", layer._parameters), ("buffer", layer._buffers)):
            for key, tensor in tensors.items():
                if tensor is None:
                    continue
                drawn = ("weight", "bias") if kind == "parameter" else _running(layer)
                if not isinstance(layer, DRAWN) or key not in drawn:
                    yield (
                        f"has the {kind} {f'{path}.{key}'.lstrip('.')} of a {type(layer).__name__}, but only"
                        " those of nn.Conv2d, nn.BatchNorm2d and nn.Linear can be drawn from a seed"
                    )
                elif id(tensor) in held:
                    yield f"shares the {kind} {path}.{key} between layers, but each layer is drawn separately"
                held.add(id(tensor))


def _running(layer: nn.Module) -> tuple[str, ...]:
    running = ("running_mean", "running_var", "num_batches_tracked")
    return running if isinstance(layer, nn.BatchNorm2d) else ()


def _faults_of_pass(network: nn.Module, seen: Seen, logits: object, classes: int) -> Iterator[str]:
    if not isinstance(logits, Tensor) or logits.shape[1:] != (classes,) or len(logits) != 2:
        found = tuple(logits.shape) if isinstance(logits, Tensor) else f"a {type(logits).__name__}"
        yield f"returned {found} for 2 images, expected logits of shape (2, {classes})"
    linears = _linears(seen)
    if not linears or linears[-1].out_features != classes:
        yield f"does not end with an nn.Linear of {classes} outputs, which is the output layer"
    called = set(seen.calls)
    unused = [p for p, layer in network.named_modules() if isinstance(layer, DRAWN) and layer not in called]
    if unused:
        yield f"never calls its layer{'s' * (len(unused) > 1)} {', '.join(unused)}"
    functions = seen.relu_operations - sum(map(len, seen.relus.values()))
    if functions > 0:
        yield (
            f"calls relu as a function ({functions} times in a pass), whose zeros cannot be counted; use"
            " nn.ReLU modules"
        )
    if seen.random_operations:
        drawing = ", ".join(sorted(seen.random_operations))
        yield f"draws random numbers in training ({drawing}, as dropout does), which no seed can reproduce"


def _refuse(name: str, faults: Iterator[str]) -> None:
    if message := "; it ".join(faults):
        raise UserError(f"the network of {name} {message}")


def _linears(seen: Seen) -> list[nn.Linear]:
    return [layer for layer in seen.calls if isinstance(layer, nn.Linear)]


def _placed(name: str, network: nn.Module, seen: Seen, shortcuts: list[nn.Conv2d]) -> dict[str, str | int]:
    counted = [layer for layer in seen.calls if isinstance(layer, nn.Conv2d | nn.Linear)]
    placed = {
        "family": getattr(network, "family", name.split(":")[0]),
        "depth": getattr(network, "depth", sum(layer not in shortcuts for layer in counted)),
        "width": getattr(network, "width", 1),
    }
    if not isinstance(placed["family"], str) or not placed["family"]:
        raise UserError(f"the network of {name} has a family {placed['family']!r}, which is not a name")
    for key in ("depth", "width"):
        if type(placed[key]) is not int or placed[key] < 1:
            raise UserError(
                f"the network of {name} has a {key} {placed[key]!r}, expected a whole number of at least 1"
            )
    return placed
