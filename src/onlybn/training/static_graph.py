"""A network's passes as fixed lists of operations, in bfloat16 on one thread of a CPU.

On small images, most of a step's time is the overhead of autograd, autocast and their operators, not the
arithmetic; on larger images the passes over memory between convolutions matter. So a network that consists of
convolutions, `normalise`, max-pools and an averaged linear layer is recorded once, and then its operations
are called directly, forward and backward. Frozen weights are rounded and packed once; gradients that meet are
added within BatchNorm's pass; activations are overwritten after their last use. The results are the same as
those of autograd, bit for bit.
"""

from collections import Counter
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrize

from onlybn.models import batchnorm, kernels
from onlybn.models.calls import Call, calls_of
from onlybn.models.dropout import Dropout
from onlybn.models.network import Network

_BF16, _LAST = torch.bfloat16, torch.channels_last
# Larger weights are as fast without packing, and packing would double the memory of a wide network's weights.
_PACKED = 100_000


def is_supported() -> bool:
    """Return whether oneDNN convolves in bfloat16 on this processor; without AVX-512 only torch does."""
    return torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def static_graph(network: Network, images: Tensor) -> "StaticGraph | None":
    """Return the network as a static graph, or None if the processor or one of its operations rules that out.

    `images` gives the shape of a batch, float (batch, channels, height, width); later batches may be smaller.
    The network is called with the first image, in evaluation mode, which does not show dropout.
    """
    drops = any(isinstance(layer, Dropout) for layer in network.modules())
    if drops or not is_supported():
        return None
    with torch.no_grad(), parametrize.cached():
        # Parametrised weights are computed here, before calls are recorded.
        layers = {id(layer.weight): layer for layer in [*network.convolutions(), network.output]}
        operations = _operations(network, calls_of(network, images[:1]), layers, images)
    return None if operations is None else StaticGraph(network, operations)


class StaticGraph:
    """A network as a list of operations, up to the average of its last activations.

    It is called like the network, within the same autocast context. A backward pass from the logits then
    *sets* the gradients of the trained parameters. Each call allows one backward pass, before the next call.
    """

    def __init__(self, network: Network, operations: "Sequence[_Operation]"):
        self.network, self.operations = network, operations
        self.slots = 1 + operations[-1].target
        self.is_trained = operations[-1].is_differentiated
        moving = [
            o for o in operations if isinstance(o, _Convolution) and o.trains_weight and not o.is_computed
        ]
        weights, rounded = [o.layer.weight for o in moving], [o.weight for o in moving]
        self.weights = kernels.addresses(weights), kernels.addresses(rounded), kernels.sizes(weights)

    def __call__(self, images: Tensor) -> Tensor:
        """Map images, float (batch, channels, height, width), to logits, bfloat16 (batch, classes)."""
        saved = [] if self.is_trained and torch.is_grad_enabled() else None
        last = self._forward(images, saved)
        if saved is not None:
            last.requires_grad_().register_hook(partial(self._backward, saved))
        return self.network.output(last.mean(dim=(2, 3)))

    @torch.no_grad()
    def _forward(self, images: Tensor, saved: list | None) -> Tensor:
        """Return the last activations; append to `saved` what each operation needs in the backward pass."""
        training = self.network.training
        kernels.round_to_bfloat16(*self.weights)
        values: list[Tensor | None] = [None] * self.slots
        values[0] = images.to(_BF16, memory_format=_LAST)
        for operation in self.operations:
            kept = operation.forward(values, training)
            if saved is not None:
                saved.append(kept if operation.is_differentiated else None)
            for slot in operation.last_to_read:
                values[slot] = None
        return values[-1]

    @torch.no_grad()
    def _backward(self, saved: list, gradient: Tensor) -> None:
        """Set the gradients of the trained parameters, given the gradient of the last activations."""
        gradients = _Gradients(self.slots)
        gradients.full[-1].append(gradient.contiguous(memory_format=_LAST))
        for operation in reversed(self.operations):
            kept = saved.pop()
            if operation.is_differentiated:
                operation.backward(kept, gradients)


class _Gradients:
    """The gradients of the backward pass: for each value a list to be added; they may be overwritten."""

    def __init__(self, slots: int):
        self.full: list[list[Tensor]] = [[] for _ in range(slots)]
        self.even: list[list[Tensor]] = [[] for _ in range(slots)]

    def take(self, slot: int) -> tuple[Tensor, Tensor | None]:
        """Return and remove a value's gradient, as one tensor or as two to be added."""
        gradient, *others = self.full[slot]
        for even in self.even[slot]:
            batchnorm.add_at_even(gradient, even)
        self.full[slot], self.even[slot] = [], []
        for other in others[:-1]:
            gradient += other
        return gradient, others[-1] if others else None

    def whole(self, slot: int) -> Tensor:
        """Return and remove a value's gradient, as one tensor."""
        gradient, other = self.take(slot)
        return gradient if other is None else gradient.add_(other)


class _Operation:
    """One function of a network: it reads the slots `source` and `added`, and sets the slot `target`."""

    def __init__(self, source: int, target: int, added: int | None = None):
        self.source, self.target, self.added = source, target, added
        # `last_to_read`: slots with no later reader. The flags: whether the value, the source and the added
        # value get a gradient.
        self.last_to_read: list[int] = []
        self.is_differentiated = self.passes_on = self.adds_on = False

    @property
    def reads(self) -> list[int]:
        """The slots that it reads."""
        return [self.source] if self.added is None else [self.source, self.added]

    @property
    def is_trained(self) -> bool:
        """Whether it has trainable parameters."""
        return False

    def forward(self, values: list[Tensor | None], training: bool) -> Any:
        """Set the target's value; return what `backward` needs."""
        raise NotImplementedError

    def backward(self, kept: Any, gradients: _Gradients) -> None:
        """Take the gradient of the target, and add the gradients of what it read."""
        raise NotImplementedError


class _Convolution(_Operation):
    """A convolution; if its weight is frozen and its stride is 1, its backward pass is a convolution too.

    `shape` is the shape of the input, `reached` the shape of the output. On some processors the two kinds of
    backward pass add in another order for some shapes, so it is a convolution only for batches of this size,
    and only if it has the same bits.
    """

    def __init__(
        self, source: int, target: int, layer: nn.Conv2d, shape: Sequence[int], reached: Sequence[int]
    ):
        super().__init__(source, target)
        self.layer, self.shape, self.reached = layer, shape, reached
        self.stride, self.padding = list(layer.stride), list(layer.padding)
        self.trains_weight = any(
            parameter.requires_grad
            for name, parameter in layer.named_parameters()
            if name == "weight" or name.startswith("parametrizations.weight.")
        )
        self.trains_bias = layer.bias is not None and layer.bias.requires_grad
        self.bias = None if layer.bias is None else layer.bias.detach().to(_BF16)
        # A trainable weight is rounded in every pass, together with the others unless it is parametrised.
        self.chosen = _chosen(layer) if self.trains_weight else None
        self.is_computed = self.trains_weight and (
            self.chosen is not None or not layer.weight.is_contiguous(memory_format=_LAST)
        )
        if self.trains_weight and not self.is_computed:
            layer.weight.grad_dtype = None  # the gradient may stay in bfloat16
        self.weight = layer.weight.detach().to(_BF16, memory_format=_LAST)
        self.plain = self.weight
        self.turned: Tensor | None = None
        self.is_at_even = False

    @property
    def is_trained(self) -> bool:
        """Whether it has trainable parameters."""
        return self.trains_weight or self.trains_bias

    def pack(self, meets: bool) -> None:
        """Pack a frozen weight for the forward convolution, and a transposed one for the backward pass.

        With stride 2, the backward convolution is possible only at even places, and only if the gradient
        `meets` another one there.
        """
        if self.is_trained or self.weight.numel() > _PACKED:
            return
        kernel, (_, _, height, width) = self.layer.kernel_size, self.shape
        keeps_size = [2 * padding + 1 for padding in self.padding] == list(kernel)
        self.is_at_even = (
            meets
            and keeps_size
            and kernel == (1, 1)
            and self.stride == [2, 2]
            and not (height % 2 or width % 2)
        )
        if self.passes_on and keeps_size and (self.stride == [1, 1] or self.is_at_even):
            turned = self.weight.flip(2, 3).transpose(0, 1).contiguous(memory_format=_LAST)
            self.turned = self._packed(turned, self.reached, [1, 1])
            if not self._has_same_bits():
                self.turned, self.is_at_even = None, False
        if self.turned is not None or not self.passes_on:
            self.weight = self._packed(self.weight, self.shape, self.stride)

    def _has_same_bits(self) -> bool:
        """Return whether the convolution with the turned weight gives the gradient that torch gives."""
        rng = torch.Generator().manual_seed(0)
        dy = torch.randn(self.reached, generator=rng).to(_BF16, memory_format=_LAST)
        x = torch.zeros(self.shape, dtype=_BF16).contiguous(memory_format=_LAST)
        dx, *_ = self._gradients(dy, x, self.plain)
        here = dx[:, :, ::2, ::2] if self.is_at_even else dx
        return torch.equal(here, _convolve(dy, self.turned, None, self.padding, [1, 1]))

    def _packed(self, weight: Tensor, shape: Sequence[int], stride: list[int]) -> Tensor:
        return torch._C._nn.mkldnn_reorder_conv2d_weight(
            weight.to_mkldnn(), self.padding, stride, [1, 1], 1, list(shape)
        )

    def forward(self, values: list[Tensor | None], training: bool) -> Any:
        x, weight, computed = values[self.source], self.weight, None
        if self.chosen:
            trained, place = self.chosen
            _in_memory(weight).scatter_(1, place, trained.detach().to(_BF16))
        elif self.is_computed:
            with torch.enable_grad():
                computed = self.layer.weight
            weight = computed.detach().to(_BF16, memory_format=_LAST)
        bias = self.layer.bias.detach().to(_BF16) if self.trains_bias else self.bias
        values[self.target] = _convolve(x, weight, bias, self.padding, self.stride)
        if self.turned is None:
            return x, weight, computed
        return None if len(x) == self.shape[0] else (x, self.plain, None)

    def backward(self, kept: Any, gradients: _Gradients) -> None:
        dy = gradients.whole(self.target)
        if kept is None:
            dx = _convolve(dy, self.turned, None, self.padding, [1, 1])
            (gradients.even if self.is_at_even else gradients.full)[self.source].append(dx)
            return
        x, weight, computed = kept
        dx, d_weight, d_bias = self._gradients(dy, x, weight)
        if self.passes_on:
            gradients.full[self.source].append(dx)
        if self.trains_bias:
            self.layer.bias.grad = d_bias.float()
        if self.chosen:
            trained, place = self.chosen
            trained.grad = _in_memory(d_weight).gather(1, place).float()
        elif self.is_computed:
            computed.backward(d_weight.float())
        elif self.trains_weight:
            self.layer.weight.grad = d_weight

    def _gradients(self, dy: Tensor, x: Tensor, weight: Tensor) -> tuple[Tensor | None, ...]:
        """Return the gradients of x, of the weight and of the bias, or None for those that are not needed."""
        return torch.ops.aten.convolution_backward.default(
            dy,
            x,
            weight,
            [dy.shape[1]] if self.trains_bias else None,
            self.stride,
            self.padding,
            [1, 1],
            False,
            [0, 0],
            1,
            [self.passes_on, self.trains_weight, self.trains_bias],
        )


class _Normalisation(_Operation):
    """BatchNorm, an addition, and a ReLU, or some of them."""

    def __init__(self, source: int, target: int, layer: nn.BatchNorm2d, with_relu: bool, added: int | None):
        super().__init__(source, target, added)
        self.passes = batchnorm.Passes(layer, with_relu)
        pairs = zip((layer.weight, layer.bias), self.passes.gradients, strict=True)
        self.gradients = [(parameter, gradient) for parameter, gradient in pairs if parameter.requires_grad]
        # Whether the backward pass reads the ReLU's mask from the kept output instead of recomputing it.
        self.keeps_value = added is not None

    @property
    def is_trained(self) -> bool:
        """Whether it has trainable parameters."""
        return bool(self.gradients)

    def forward(self, values: list[Tensor | None], training: bool) -> Any:
        x, added = values[self.source], None if self.added is None else values[self.added]
        y = values[self.target] = (self.passes.train if training else self.passes.test)(x, added)
        return x, y if self.keeps_value else None

    def backward(self, kept: Any, gradients: _Gradients) -> None:
        x, y = kept
        dy, other = gradients.take(self.target)
        self.passes.back(dy, other, y, x, self.passes_on)
        if self.passes_on:
            gradients.full[self.source].append(x)
        if self.adds_on:
            gradients.full[self.added].append(dy)
        for parameter, gradient in self.gradients:
            parameter.grad = gradient


class _MaxPool(_Operation):
    """A max-pool of 2×2 pixels."""

    def forward(self, values: list[Tensor | None], training: bool) -> Any:
        x = values[self.source]
        values[self.target], index = torch.ops.aten.max_pool2d_with_indices.default(x, [2, 2], [2, 2])
        return x, index

    def backward(self, kept: Any, gradients: _Gradients) -> None:
        dy = gradients.whole(self.target)
        dx = torch.ops.aten.max_pool2d_with_indices_backward.default(
            dy, kept[0], [2, 2], [2, 2], [0, 0], [1, 1], False, kept[1]
        )
        gradients.full[self.source].append(dx)


def _chosen(layer: nn.Conv2d) -> tuple[nn.Parameter, Tensor] | None:
    """Return the trained entries of a layer's weight and their places, if not the whole weight trains."""
    if not parametrize.is_parametrized(layer, "weight"):
        return None
    chosen = layer.parametrizations["weight"]
    return chosen.original, chosen[0].place


def _in_memory(weight: Tensor) -> Tensor:
    """Return a weight, (outputs, inputs, height, width), as (outputs, fan-in) in channels-last order."""
    return weight.permute(0, 2, 3, 1).flatten(1)


def _convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: list[int], stride: list[int]
) -> Tensor:
    return torch.ops.mkldnn._convolution_pointwise.default(
        x, weight, bias, padding, stride, [1, 1], 1, "none", [], ""
    )


def _operations(
    network: Network, calls: list[Call], layers: dict[int, nn.Module], images: Tensor
) -> list[_Operation] | None:
    """Turn recorded calls into operations; return None if one of them is not supported."""
    *calls, (mean, (last, *_), keywords, averaged), (linear, (features, *_), _, _) = calls
    if mean is not Tensor.mean or keywords != {"dim": (2, 3)} or linear is not F.linear:
        return None
    shapes = [images.shape]
    slots = {id(calls[0][1][0]): 0}
    operations: list[_Operation] = []
    for function, (x, *arguments), _, (result, *_) in calls:
        source, target = slots.get(id(x)), len(shapes)
        slots[id(result)] = target
        shapes.append((len(images), *result.shape[1:]))
        operation = None
        if source is None:
            return None
        if function is torch.conv2d:
            layer = layers.get(id(arguments[0]))
            if isinstance(layer, nn.Conv2d) and _is_plain(layer):
                operation = _Convolution(source, target, layer, shapes[source], shapes[target])
        elif function is batchnorm.normalise:
            layer, relu, added = arguments
            if isinstance(layer, nn.BatchNorm2d) and (added is None or id(added) in slots):
                operation = _Normalisation(source, target, layer, relu is not None, slots.get(id(added)))
        elif function is F.max_pool2d and arguments == [2]:
            operation = _MaxPool(source, target)
        if operation is None:
            return None
        operations.append(operation)
    readers = Counter(slot for operation in operations for slot in operation.reads)
    _link(operations, readers, len(shapes))
    ends = slots[id(last)] == len(operations) and features is averaged[0]
    # Gradients overwrite the outputs of convolutions, so each output may have only one reader.
    have_one_reader = all(readers[o.target] == 1 for o in operations if isinstance(o, _Convolution))
    return operations if ends and have_one_reader else None


def _is_plain(layer: nn.Conv2d) -> bool:
    return (
        layer.groups == 1
        and layer.dilation == (1, 1)
        and layer.padding_mode == "zeros"
        and not isinstance(layer.padding, str)
    )


def _link(operations: list[_Operation], readers: Counter, slots: int) -> None:
    """Set the attributes that depend on the number of readers of a value, and on where gradients flow."""
    seen: set[int] = set()
    for operation in reversed(operations):
        operation.last_to_read = [slot for slot in operation.reads if slot not in seen]
        seen |= set(operation.reads)
    gets_gradient = [False] * slots
    for operation in operations:
        operation.passes_on = gets_gradient[operation.source]
        operation.adds_on = operation.added is not None and gets_gradient[operation.added]
        operation.is_differentiated = operation.is_trained or operation.passes_on or operation.adds_on
        gets_gradient[operation.target] = operation.is_differentiated
        if isinstance(operation, _Convolution):
            operation.pack(meets=readers[operation.source] > 1)
        elif isinstance(operation, _Normalisation):
            operation.keeps_value |= readers[operation.target] > 1
