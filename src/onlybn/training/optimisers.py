"""SGD and Adam, with the results of torch.optim, also for weights that are functions of what trains.

torch.optim imports torch's compiler on first use. That takes a second, and a run on digits takes three.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from onlybn.models.network import Network
from onlybn.networks.functions import Elementwise
from onlybn.networks.reparametrise import with_functions
from onlybn.study import Training

# Weights that are computed together on a CPU: their temporary tensors stay in its cache.
CHUNK = 2**17


class Optimiser:
    """Moves all that trains of a network, by the gradients of its parameters.

    A weight whose layer has a function `psi` is computed: its gradient is pulled back to v and to Ψ's own
    parameters, these move, and Ψ(v) is written into the weight. Weight decay acts on v, but where Ψ is fixed
    on Ψ(v); never on Ψ's own parameters. `buffers` are all tensors besides the network's that a step changes.
    """

    def __init__(
        self,
        network: Network,
        trained: Iterable[nn.Parameter],
        training: Training,
        *,
        in_one_pass: bool = False,
    ):
        self.parameters, self.in_one_pass = list(trained), in_one_pass
        self.is_adaptive = training.optimiser == "adam"
        self.computed = computed_weights(network, training.weight_decay)
        weights = {id(weight) for one in self.computed for weight in one.weights}
        free = {id(parameter): parameter for one in self.computed for parameter in one.free}
        plain = [p for p in self.parameters if id(p) not in weights | free.keys()]
        groups = [
            ([*plain, *(values for one in self.computed for values in one.decayed)], training.weight_decay),
            (list(free.values()), 0.0),
        ]
        scales = {id(values): scale for one in self.computed for values, scale in one.scales.items()}
        shared = {"momentum": training.momentum}
        make = Adam if self.is_adaptive else SGD
        shared |= {"scales": scales} if self.is_adaptive else {"in_one_pass": in_one_pass}
        self.steps = [make(some, weight_decay=decay, **shared) for some, decay in groups if some]
        self.buffers = [tensor for one in self.computed for tensor in one.values]
        self.buffers += [tensor for step in self.steps for tensor in step.buffers]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Move all that trains by the gradients of the network's parameters, which are not changed."""
        for one in self.computed:
            one.pull(by_slope=not self.is_adaptive)
        for step in self.steps:
            step.step(learning_rate)
        for one in self.computed:
            one.push()

    def forget_gradients(self) -> None:
        """Free the memory of the gradients."""
        for parameter in [*self.parameters, *(t for one in self.computed for t in one.values)]:
            parameter.grad = None


def computed_weights(network: Network, weight_decay: float) -> "list[Flat | OneWeight]":
    """Return the computed weights of a network, those of one fixed function together."""
    fixed: dict[nn.Module, list[nn.Parameter]] = {}
    others = []
    for layer, psi in with_functions(network):
        if isinstance(psi, Elementwise):
            fixed.setdefault(psi, []).append(layer.weight)
        else:
            others.append(OneWeight(psi, layer.weight))
    return [*(Flat(psi, weights, weight_decay) for psi, weights in fixed.items()), *others]


class Flat:
    """Weights that one fixed elementwise function computes, with all their v in one tensor.

    The gradient of v is Ψ′(v) · (∂L/∂w + decay · w), or for Adam without Ψ′(v), which scales Adam's step.
    """

    def __init__(self, psi: Elementwise, weights: Sequence[nn.Parameter], weight_decay: float):
        self.psi, self.weights, self.weight_decay = psi, list(weights), weight_decay
        count = sum(weight.numel() for weight in weights)
        self.v, self.w, self.gradient = (weights[0].new_zeros(count).detach() for _ in range(3))
        self.w_of, self.gradient_of = ([*self._parts(whole)] for whole in (self.w, self.gradient))
        with torch.no_grad():
            torch._foreach_copy_(self.w_of, self.weights)
            self.v.copy_(psi.right_inverse(self.w.double()))
        size = CHUNK if self.v.device.type == "cpu" else count
        self.chunks = list(
            zip(*(whole.split(size) for whole in (self.gradient, self.v, self.w)), strict=True)
        )
        self.values, self.decayed, self.free = [self.v], [], [self.v]
        self.scales: Mapping[Tensor, Callable[[], Tensor]] = {self.v: lambda: psi.slope(self.v)}
        self.push()

    def _parts(self, whole: Tensor) -> Iterable[Tensor]:
        """Yield the part of each weight, with its shape and its order in memory."""
        start = 0
        for weight in self.weights:
            yield whole.as_strided(weight.shape, weight.stride(), start)
            start += weight.numel()

    def pull(self, *, by_slope: bool) -> None:
        """Set the gradient of v by those of the weights."""
        torch._foreach_copy_(self.gradient_of, [weight.grad for weight in self.weights])
        torch._foreach_add_(self.gradient_of, self.weights, alpha=self.weight_decay)
        for gradient, v, _ in self.chunks if by_slope else ():
            gradient.mul_(self.psi.slope(v))
        self.v.grad = self.gradient

    @torch.no_grad()
    def push(self) -> None:
        """Write Ψ(v) into the weights."""
        for _, v, w in self.chunks:
            w.copy_(self.psi(v))
        torch._foreach_copy_(self.weights, self.w_of)


class OneWeight:
    """A weight that a function computes from one or more tensors.

    Autograd gives their gradients, unless the function has `pulled`, which returns them.
    """

    def __init__(self, psi: nn.Module, weight: nn.Parameter):
        self.psi, self.weights = psi, [weight]
        with torch.no_grad():
            started = psi.right_inverse(weight.detach().double())
        started = started if isinstance(started, tuple) else (started,)
        self.values = [tensor.to(weight.dtype, copy=True) for tensor in started]
        self.decayed, self.free = self.values, [p for p in psi.parameters() if p.requires_grad]
        self.scales: Mapping[Tensor, Callable[[], Tensor]] = {}
        if hasattr(psi, "slope"):
            self.scales = {self.values[0]: lambda: psi.slope(self.values[0])}
        self.push()

    def pull(self, *, by_slope: bool) -> None:
        """Set the gradients of the values, and add to those of the function's own parameters."""
        (weight,) = self.weights
        of_weight = weight.grad.to(weight.dtype)
        if hasattr(self.psi, "pulled"):
            found = self.psi.pulled(of_weight, *self.values)
        else:
            with torch.enable_grad():
                values = [tensor.detach().requires_grad_() for tensor in self.values]
                found = torch.autograd.grad(
                    self.psi(*values), [*values, *self.free], of_weight, allow_unused=True
                )
        for tensor, gradient in zip([*self.values, *self.free], found, strict=True):
            gradient = torch.zeros_like(tensor) if gradient is None else gradient
            tensor.grad = gradient if tensor.grad is None else tensor.grad + gradient
        if self.scales and not by_slope:
            self.values[0].grad = of_weight

    @torch.no_grad()
    def push(self) -> None:
        """Write Ψ of the values into the weight."""
        self.weights[0].copy_(self.psi(*self.values))


class SGD:
    """SGD with momentum, and with weight decay on every parameter.

    With `in_one_pass`, which needs float32 on a CPU, memory is read and written once, with the same bits.
    """

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        momentum: float,
        weight_decay: float,
        in_one_pass: bool = False,
    ):
        self.parameters = list(parameters)
        self.in_one_pass = in_one_pass
        self.momentum = momentum
        self.weight_decay = weight_decay
        self.buffers = [torch.zeros_like(parameter) for parameter in self.parameters]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Move every parameter by its gradient, which is not changed.

        The rate may be a tensor, float32 without dimensions, which stays on its device. With such a rate, or
        on a GPU, a step is one pass over memory instead of several.
        """
        gradients = [parameter.grad for parameter in self.parameters]
        if self.in_one_pass and not isinstance(learning_rate, Tensor):
            self._step_in_one_pass(gradients, learning_rate)
            return
        gradients = [g.to(p.dtype) for g, p in zip(gradients, self.parameters, strict=True)]
        if isinstance(learning_rate, Tensor) or self.parameters[0].is_cuda:
            torch._fused_sgd_(
                self.parameters,
                gradients,
                self.buffers if self.momentum else [],  # without momentum the kernel accepts no buffers
                weight_decay=self.weight_decay,
                momentum=self.momentum,
                lr=learning_rate,
                dampening=0,
                nesterov=False,
                maximize=False,
                is_first_step=False,  # equivalent, since the buffers start at 0
            )
            return
        decayed = torch._foreach_add(gradients, self.parameters, alpha=self.weight_decay)
        torch._foreach_mul_(self.buffers, self.momentum)
        torch._foreach_add_(self.buffers, decayed)
        del decayed  # free this list before another is made
        torch._foreach_add_(self.parameters, self.buffers, alpha=-learning_rate)

    def _step_in_one_pass(self, gradients: list[Tensor], learning_rate: float) -> None:
        from onlybn.models import kernels
        from onlybn.models.kernels import addresses, sizes

        # With the layout of the parameters, a kernel need not know the shapes.
        gradients = [
            gradient
            if gradient.stride() == parameter.stride()
            else torch.empty_like(parameter).copy_(gradient)
            for gradient, parameter in zip(gradients, self.parameters, strict=True)
        ]
        kernels.sgd(
            addresses(self.parameters),
            addresses(gradients),
            np.array([gradient.dtype == torch.bfloat16 for gradient in gradients]),
            addresses(self.buffers),
            sizes(self.parameters),
            self.momentum,
            self.weight_decay,
            learning_rate,
        )


class Adam:
    """Adam with weight decay as torch.optim.Adam adds it, to the gradient; `momentum` is its β₁.

    The step of a parameter in `scales`, by its id, is multiplied by what the function there returns: for
    weights w = Ψ(v), Adam follows the raw gradient of w, and Ψ′(v) scales its step (Weight Compander,
    Section 3, after Schwarz et al., 2021).
    """

    SECOND, EPSILON = 0.999, 1e-8

    def __init__(
        self,
        parameters: Iterable[Tensor],
        *,
        momentum: float,
        weight_decay: float,
        scales: Mapping[int, Callable[[], Tensor]] | None = None,
    ):
        self.parameters, self.scales = list(parameters), scales or {}
        self.momentum, self.weight_decay = momentum, weight_decay
        self.first, self.second = ([torch.zeros_like(p) for p in self.parameters] for _ in range(2))
        self.taken = torch.zeros((), dtype=torch.float64, device=self.parameters[0].device)
        self.buffers = [*self.first, *self.second, self.taken]

    @torch.no_grad()
    def step(self, learning_rate: float | Tensor) -> None:
        """Move every parameter by its gradient, which is not changed."""
        gradients = [p.grad.to(p.dtype) for p in self.parameters]
        decayed = torch._foreach_add(gradients, self.parameters, alpha=self.weight_decay)
        self.taken, dtype = self.taken.add_(1), self.parameters[0].dtype
        torch._foreach_lerp_(self.first, decayed, 1 - self.momentum)
        torch._foreach_mul_(self.second, self.SECOND)
        torch._foreach_addcmul_(self.second, decayed, decayed, 1 - self.SECOND)
        roots = torch._foreach_sqrt(self.second)
        torch._foreach_mul_(roots, (1 - self.SECOND**self.taken).rsqrt().to(dtype))
        torch._foreach_add_(roots, self.EPSILON)
        moves = torch._foreach_div(self.first, roots)
        torch._foreach_mul_(moves, (learning_rate / (1 - self.momentum**self.taken)).to(dtype))
        for parameter, move in zip(self.parameters, moves, strict=True):
            if id(parameter) in self.scales:
                move *= self.scales[id(parameter)]()
        torch._foreach_sub_(self.parameters, moves)
