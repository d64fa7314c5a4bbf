"""BatchNorm with the operations that follow it: an addition and a ReLU, both optional."""

from functools import cache
from types import ModuleType

import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module
from torch.overrides import handle_torch_function, has_torch_function_unary


def normalise(
    x: Tensor, batchnorm: nn.Module, relu: nn.ReLU | None = None, added: Tensor | None = None
) -> Tensor:
    """Return relu(batchnorm(x) + added), fused into one operation where that is faster.

    All tensors are float (batch, channels, height, width). `batchnorm` may be another layer.
    """
    if has_torch_function_unary(x):  # the calls of the network are being recorded
        return handle_torch_function(normalise, (x,), x, batchnorm, relu, added)
    heard = has_hooks(batchnorm) or (relu is not None and has_hooks(relu))
    if not heard and isinstance(batchnorm, nn.BatchNorm2d) and _is_fast(x, added):
        if batchnorm.training:
            return _Fused.apply(x, batchnorm.weight, batchnorm.bias, added, batchnorm, relu is not None)
        if not torch.is_grad_enabled():
            return Passes(batchnorm, relu is not None).test(x, added)
    if not heard and isinstance(batchnorm, nn.BatchNorm2d) and _is_on_gpu(x, added):
        computed = batchnorm.training or not torch.is_grad_enabled()
        if computed and (kernels := gpu_kernels(x.device)):
            return kernels.normalise(x, batchnorm, relu is not None, added)
    x = batchnorm(x)
    if heard:
        x = x.clone()  # do not change the tensor that a hook got
    if added is not None:
        x = x.add_(added)
    return x if relu is None else relu(x)


def has_hooks(module: nn.Module) -> bool:
    """Return whether the module has forward or backward hooks, its own or global ones."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or every_module._has_any_global_hook()
    )


def is_one_thread_in_bfloat16(dtype: torch.dtype, device: torch.device) -> bool:
    """Return whether the compiled kernels can be used: they compute in bfloat16 on one thread of a CPU."""
    return dtype == torch.bfloat16 and device.type == "cpu" and torch.get_num_threads() == 1


def _is_fast(x: Tensor, added: Tensor | None) -> bool:
    return is_one_thread_in_bfloat16(x.dtype, x.device) and _are_laid_out_alike(x, added)


def _is_on_gpu(x: Tensor, added: Tensor | None) -> bool:
    return (
        x.device.type == "cuda"
        and x.dtype in (torch.bfloat16, torch.float32)
        and 0 < x.numel() < 2**31  # indices have 32 bits
        and _are_laid_out_alike(x, added)
    )


def _are_laid_out_alike(x: Tensor, added: Tensor | None) -> bool:
    """Return whether `added`, if any, has x's dtype and shape, and all tensors are channels-last."""
    return all(
        tensor.dtype == x.dtype
        and tensor.shape == x.shape
        and tensor.is_contiguous(memory_format=torch.channels_last)
        for tensor in (x, *([] if added is None else [added]))
    )


@cache
def gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return `onlybn.models.triton_kernels`, or print why Triton does not work here and return None.

    Triton needs a C compiler and Python's headers, which not every machine with a GPU has.
    """
    try:
        from onlybn.models import triton_kernels

        like = torch.ones(1, 16, 1, 1, device=device)
        triton_kernels.normalise(like, nn.BatchNorm2d(16, device=device).eval(), False, None)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        print(
            f"BatchNorm uses torch's layers, which are slower, since Triton fails here ({reason})", flush=True
        )
        return None
    return triton_kernels


class _Fused(torch.autograd.Function):
    """Training-mode BatchNorm, addition and ReLU as one operation; it has no second derivative."""

    @staticmethod
    def forward(ctx, x, weight, bias, added, batchnorm, with_relu):
        ctx.passes = Passes(batchnorm, with_relu)
        y = ctx.passes.train(x, added)
        # Without an addition, x determines where y is above 0.
        ctx.save_for_backward(x, None if added is None else y)
        return y

    @staticmethod
    def backward(ctx, dy):
        # torch's once_differentiable raises only if dy itself is differentiated; otherwise it gives zeros.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "fused BatchNorm (bfloat16, one thread of a CPU) has no second derivative;"
                " compute in float32, or on two threads"
            )
        x, y = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        passes_on, _, _, adds, *_ = ctx.needs_input_grad
        # The saved tensors and the incoming gradient are shared, so copy what is overwritten.
        if passes_on:
            x = x.clone()
        if y is not None:
            dy = dy.clone()
        ctx.passes.back(dy, None, y, x, passes_on)
        return x if passes_on else None, *ctx.passes.gradients, dy if adds else None, None, None


class Passes:
    """A BatchNorm layer's passes over bfloat16 activations (batch, channels, height, width), channels-last.

    `statistics` are the mean and 1/√(variance + eps) of the last batch, float64 (2, channels). `gradients`
    are the last gradients of γ and β, float (2, channels).
    """

    def __init__(self, batchnorm: nn.BatchNorm2d, with_relu: bool):
        from onlybn.models import kernels

        self.kernels = kernels
        self.channels = batchnorm.num_features
        self.statistics = torch.empty(2, self.channels, dtype=torch.float64)
        self.gradients = torch.empty(2, self.channels)
        affine = batchnorm.weight.data_ptr(), batchnorm.bias.data_ptr()
        running = batchnorm.running_mean.data_ptr(), batchnorm.running_var.data_ptr()
        statistics, d_gamma = self.statistics.data_ptr(), self.gradients.data_ptr()
        self._train = (
            self.channels,
            *affine,
            *running,
            statistics,
            with_relu,
            batchnorm.momentum,
            batchnorm.eps,
        )
        self._test = self.channels, *affine, *running, with_relu, batchnorm.eps
        self._back = self.channels, *affine, statistics, d_gamma, d_gamma + 4 * self.channels, with_relu

    def train(self, x: Tensor, added: Tensor | None) -> Tensor:
        """Return relu(batchnorm(x) + added) with the batch's statistics; update the running ones."""
        y = torch.empty_like(x)
        pixels = x.numel() // self.channels
        self.kernels.train(x.data_ptr(), y.data_ptr(), _address(added), pixels, *self._train)
        return y

    def test(self, x: Tensor, added: Tensor | None) -> Tensor:
        """Return relu(batchnorm(x) + added) with the running statistics."""
        y = torch.empty_like(x)
        pixels = x.numel() // self.channels
        self.kernels.test(x.data_ptr(), y.data_ptr(), _address(added), pixels, *self._test)
        return y

    def back(self, dy: Tensor, other: Tensor | None, y: Tensor | None, x: Tensor, passes_on: bool) -> None:
        """Set the gradients of γ and β, given the gradient of y, which is dy, or dy + other.

        Overwrites x with the gradient of x, if that is passed on. y is required if something was added or if
        `other` is given; then dy is overwritten with the gradient of what was added.
        """
        pixels = x.numel() // self.channels
        if y is None:
            self.kernels.backward_alone(dy.data_ptr(), x.data_ptr(), passes_on, pixels, *self._back)
        else:
            given = dy.data_ptr(), _address(other), y.data_ptr(), x.data_ptr()
            self.kernels.backward(*given, passes_on, pixels, *self._back)


def add_at_even(dx: Tensor, other: Tensor) -> None:
    """Add other, (batch, channels, height, width), at the even places of dx, which is twice as large."""
    from onlybn.models import kernels

    images, channels, height, width = other.shape
    kernels.add_at_even(dx.data_ptr(), other.data_ptr(), images, height, width, channels)


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
