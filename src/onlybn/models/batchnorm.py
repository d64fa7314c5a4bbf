"""BatchNorm with what follows it: an addition, a ReLU, or neither."""

import math
from functools import cache
from types import ModuleType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules import module as every_module


def normalise(
    x: Tensor, batchnorm: nn.Module, relu: nn.ReLU | None = None, added: Tensor | None = None
) -> Tensor:
    """Return relu(batchnorm(x) + added), in one operation where there is one that is faster.

    All are float (batch, channels, height, width). Another layer may stand in BatchNorm's place.
    """
    heard = has_hooks(batchnorm) or (relu is not None and has_hooks(relu))
    if not heard and isinstance(batchnorm, nn.BatchNorm2d) and _is_fast(x, added):
        if batchnorm.training:
            return _Fused.apply(x, batchnorm.weight, batchnorm.bias, added, batchnorm, relu is not None)
        if not torch.is_grad_enabled():
            mean = batchnorm.running_mean.double().numpy()
            inverse = 1 / np.sqrt(batchnorm.running_var.double().numpy() + batchnorm.eps)
            return _normalised(x, batchnorm, mean, inverse, added, _low(relu is not None))
    if not heard and isinstance(batchnorm, nn.BatchNorm2d) and _is_on_gpu(x, added):
        computed = batchnorm.training or not torch.is_grad_enabled()
        if computed and (kernels := _gpu_kernels(x.device)):
            return kernels.normalise(x, batchnorm, relu is not None, added)
    x = batchnorm(x)
    if heard:
        x = x.clone()  # what a hook was given stays as it was
    if added is not None:
        x = x.add_(added)
    return x if relu is None else relu(x)


class Absent(nn.Module):
    """What stands where a network has no normalisation: the values as they came."""

    def forward(self, x: Tensor) -> Tensor:
        """Return a copy, since what follows may change it in place."""
        return x.clone()


def has_hooks(module: nn.Module) -> bool:
    """Say whether somebody listens to calls of the module, or of every module, forward or backward."""
    return bool(
        module._forward_hooks
        or module._forward_pre_hooks
        or module._backward_hooks
        or module._backward_pre_hooks
        or every_module._has_any_global_hook()
    )


def _is_fast(x: Tensor, added: Tensor | None) -> bool:
    return (
        x.dtype == torch.bfloat16
        and (added is None or (added.dtype == x.dtype and added.shape == x.shape))
        and x.device.type == "cpu"
        and torch.get_num_threads() == 1
        and all(
            tensor.is_contiguous(memory_format=torch.channels_last)
            for tensor in (x, *([] if added is None else [added]))
        )
    )


def _is_on_gpu(x: Tensor, added: Tensor | None) -> bool:
    return (
        x.device.type == "cuda"
        and x.dtype in (torch.bfloat16, torch.float32)
        and 0 < x.numel() < 2**31  # what 32 bits count
        and all(
            tensor.dtype == x.dtype
            and tensor.shape == x.shape
            and tensor.is_contiguous(memory_format=torch.channels_last)
            for tensor in (x, *([] if added is None else [added]))
        )
    )


@cache
def _gpu_kernels(device: torch.device) -> ModuleType | None:
    """Return `onlybn.models.triton_kernels`, or None, and say so, where Triton is missing or does not work.

    It needs a C compiler and Python's headers, which not every machine with a GPU has.
    """
    try:
        from onlybn.models import triton_kernels

        like = torch.ones(1, 16, 1, 1, device=device)
        triton_kernels.normalise(like, nn.BatchNorm2d(16, device=device).eval(), False, None)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        print(
            f"BatchNorm takes torch's own layers, which are slower: Triton fails here ({reason})", flush=True
        )
        return None
    return triton_kernels


class _Fused(torch.autograd.Function):
    """Training-mode BatchNorm, addition and ReLU by `onlybn.models.kernels`; to be differentiated once."""

    @staticmethod
    def forward(ctx, x, weight, bias, added, batchnorm, with_relu):
        from onlybn.models import kernels

        count = x.numel() // x.shape[1]
        pixels = _pixels(x)
        pivot = x.detach()[0, :, 0, 0].double().numpy()
        sums, squares = np.zeros((2, pixels.shape[1]))
        kernels.moments(pixels, _tiled(pivot, x), sums, squares)
        apart, square = _per_channel(sums, x) / count, _per_channel(squares, x) / count
        mean, variance = pivot + apart, np.maximum(square - apart**2, 0)
        inverse = 1 / np.sqrt(variance + batchnorm.eps)
        _follow(batchnorm.running_mean, mean, batchnorm.momentum)
        _follow(batchnorm.running_var, variance * count / max(1, count - 1), batchnorm.momentum)
        y = _normalised(x, batchnorm, mean, inverse, added, _low(with_relu))
        ctx.save_for_backward(x, y)
        ctx.constants = mean, inverse, weight.detach().numpy() * inverse, _low(with_relu), count
        return y

    @staticmethod
    def backward(ctx, dy):
        from onlybn.models import kernels

        # torch's once_differentiable raises only where dy itself is differentiated; elsewhere it gives zeros.
        if torch.is_grad_enabled():
            raise RuntimeError(
                "BatchNorm in one operation (bfloat16, one thread of a CPU) has no second derivative;"
                " compute in float32, or on two threads"
            )
        x, y = ctx.saved_tensors
        mean, inverse, scale, low, count = ctx.constants
        dy = dy.contiguous(memory_format=torch.channels_last)
        gradients, outputs, pixels = _pixels(dy), _pixels(y), _pixels(x)
        sums, products = np.zeros((2, pixels.shape[1]))
        kernels.gradient_moments(gradients, outputs, pixels, _tiled(mean, x), low, sums, products)
        sums, products = _per_channel(sums, x), _per_channel(products, x)
        dx = d_added = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            by_x = -scale * inverse**2 * products / count
            constant = -scale * sums / count - by_x * mean
            factors = (_tiled(factor, x) for factor in (scale, by_x, constant))
            kernels.gradient(gradients, outputs, pixels, *factors, low, _pixels(dx))
        if ctx.needs_input_grad[3]:
            d_added = torch.empty_like(x)
            kernels.masked(gradients, outputs, low, _pixels(d_added))
        d_weight, d_bias = (
            torch.from_numpy(value.astype(np.float32)) for value in (products * inverse, sums)
        )
        return dx, d_weight, d_bias, d_added, None, None


def _low(with_relu: bool) -> np.float32:
    """Return what no output is below."""
    return np.float32(0 if with_relu else -math.inf)


def _normalised(
    x: Tensor,
    batchnorm: nn.BatchNorm2d,
    mean: np.ndarray,
    inverse: np.ndarray,
    added: Tensor | None,
    low: np.float32,
) -> Tensor:
    from onlybn.models import kernels

    scale = batchnorm.weight.detach().numpy() * inverse
    shift = _tiled(batchnorm.bias.detach().numpy() - mean * scale, x)
    y = torch.empty_like(x)
    if added is None:
        kernels.normalise(_pixels(x), _tiled(scale, x), shift, low, _pixels(y))
    else:
        kernels.normalise_and_add(_pixels(x), _tiled(scale, x), shift, _pixels(added), low, _pixels(y))
    return y


def _pixels(x: Tensor) -> np.ndarray:
    """View channels-last bfloat16 as uint16 (pixels, channels), several pixels a row if one is short."""
    flat = x.detach().permute(0, 2, 3, 1).reshape(-1).view(torch.uint16).numpy()
    return flat.reshape(-1, x.shape[1] * _pixels_in_a_row(x))


def _pixels_in_a_row(x: Tensor) -> int:
    """How many pixels are taken as one row of about 128 values, the largest power of 2 that comes out even.

    A row's loop then runs long enough for its start and end not to count.
    """
    channels = x.shape[1]
    return math.gcd(x.numel() // channels, max(1, 2 ** int(math.log2(max(1, 128 // channels)))))


def _per_channel(sums: np.ndarray, x: Tensor) -> np.ndarray:
    return sums.reshape(-1, x.shape[1]).sum(axis=0)


def _tiled(values: np.ndarray, x: Tensor) -> np.ndarray:
    return np.tile(values.astype(np.float32), _pixels_in_a_row(x))


def _follow(running: Tensor, value: np.ndarray, momentum: float) -> None:
    running.mul_(1 - momentum).add_(torch.from_numpy(value), alpha=momentum)
