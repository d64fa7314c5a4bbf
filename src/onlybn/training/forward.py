"""How a network maps images to logits in training: by its modules, or faster if nothing observes them."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from onlybn.models.batchnorm import has_hooks, is_one_thread_in_bfloat16
from onlybn.models.custom_network import CustomNetwork
from onlybn.models.network import Network
from onlybn.training.evaluation import arithmetic_in


class Forward:
    """Maps images, float (batch, channels, height, width), to logits (batch, classes), in a precision.

    In bfloat16 on one thread of a CPU, a built-in network runs as a static graph, with the same bits as its
    modules compute. `model` is the network, or a wrapper that shares its gradients between processes.
    """

    def __init__(self, model: nn.Module, network: Network, precision: torch.dtype, shape: tuple[int, ...]):
        device = next(network.parameters()).device
        self.model, self.network, self.precision = model, network, precision
        self.arithmetic = arithmetic_in(precision, device)
        self.static, self.is_heard = None, False
        is_single = model is network
        is_custom = isinstance(network, CustomNetwork)
        if is_single and not is_custom and is_one_thread_in_bfloat16(precision, device):
            from onlybn.training.static_graph import static_graph

            self.static = static_graph(network, torch.zeros(shape))
        self.rounded = {} if self.static or not is_single else self._frozen_weights()

    def __call__(self, images: Tensor, *, by_modules: bool = False) -> Tensor:
        """Return the logits; with `by_modules`, or if a module has hooks, by the network's modules."""
        with self.arithmetic:
            if self.static and not (by_modules or self.is_heard):
                return self.static(images)
            if self.rounded:
                return functional_call(self.network, self.rounded, (images,))
            return self.model(images)

    def listen(self) -> None:
        """Check whether a module has hooks; if so, everything is computed by modules."""
        self.is_heard = any(has_hooks(module) for module in self.network.modules())

    def _frozen_weights(self) -> dict[str, Tensor]:
        """Return frozen weights by name, rounded once, which autocast would round in every step."""
        if self.precision == torch.float32:
            return {}
        return {
            f"{name}.{key}": parameter.detach().to(self.precision)
            for name, layer in self.network.named_layers((nn.Conv2d, nn.Linear))
            for key, parameter in layer.named_parameters(recurse=False)
            if not parameter.requires_grad
        }
