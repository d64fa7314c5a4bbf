"""SGD with momentum and weight decay, with the results of torch.optim.SGD.

torch.optim imports torch's compiler on first use. That takes a second, and a run on digits takes three.
"""

from collections.abc import Iterable

import numpy as np
import torch
from torch import nn


class SGD:
    """SGD with momentum, and with weight decay on every parameter.

    With `in_one_pass`, which needs float32 on a CPU, memory is read and written once, with the same bits.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
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
    def step(self, learning_rate: float | torch.Tensor) -> None:
        """Move every parameter by its gradient, which is not changed.

        The rate may be a tensor, float32 without dimensions, which stays on its device. With such a rate, or
        on a GPU, a step is one pass over memory instead of several.
        """
        gradients = [parameter.grad for parameter in self.parameters]
        if self.in_one_pass and not isinstance(learning_rate, torch.Tensor):
            self._step_in_one_pass(gradients, learning_rate)
            return
        gradients = [g.to(p.dtype) for g, p in zip(gradients, self.parameters, strict=True)]
        if isinstance(learning_rate, torch.Tensor) or self.parameters[0].is_cuda:
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

    def _step_in_one_pass(self, gradients: list[torch.Tensor], learning_rate: float) -> None:
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

    def forget_gradients(self) -> None:
        """Free the memory of the gradients."""
        for parameter in self.parameters:
            parameter.grad = None
