"""How a network maps images to logits while it trains: by its modules, or faster where nobody looks on."""

import torch
from torch import Tensor, nn
from torch.func import functional_call

from onlybn.models.batchnorm import has_hooks, is_one_thread_in_bfloat16
from onlybn.models.custom_network import CustomNetwork
from onlybn.models.network import Network
from onlybn.training.evaluation import arithmetic_in


class Forward:
    """Maps images, float (batch, channels, height, width), to logits (batch, classes), in that precision.

    In bfloat16 on one thread of a CPU the network is a static graph, if it is one of this package's; by its
    modules it computes the same bits. `model` is the network, or what shares its gradients between processes.
    """

    def __init__(self, model: nn.Module, network: Network, precision: torch.dtype, shape: tuple[int, ...]):
        device = next(network.parameters()).device
        self.model, self.network, self.precision = model, network, precision
        self.arithmetic = arithmetic_in(precision, device)
        self.static, self.is_heard = None, False
        alone = model is network
        own = isinstance(network, CustomNetwork)
        if alone and not own and is_one_thread_in_bfloat16(precision, device):
            from onlybn.training.static_graph import static_graph

            self.static = static_graph(network, torch.zeros(shape))
        self.rounded = {} if self.static or not alone else self._frozen_weights()

    def __call__(self, images: Tensor, *, by_modules: bool = False) -> Tensor:
        """Return the logits; by the network's modules, where somebody looks at what they compute."""
        with self.arithmetic:
            if self.static and not (by_modules or self.is_heard):
                return self.static(images)
            if self.rounded:
                return functional_call(self.network, self.rounded, (images,))
            return self.model(images)

    def listen(self) -> None:
        """Note whether hooks listen to a module: if so, all is computed by modules."""
        self.is_heard = any(has_hooks(module) for module in self.network.modules())

    def _frozen_weights(self) -> dict[str, Tensor]:
        """Return what autocast would round in every step, rounded once: frozen weights, by name."""
        if self.precision == torch.float32:
            return {}
        return {
            f"{name}.{key}": parameter.detach().to(self.precision)
            for name, layer in self.network.named_layers((nn.Conv2d, nn.Linear))
            for key, parameter in layer.named_parameters(recurse=False)
            if not parameter.requires_grad
        }
