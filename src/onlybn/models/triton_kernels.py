"""GPU kernels for BatchNorm with addition and ReLU: statistics, then one pass, both forward and backward.

Activations are read as rows (pixels, channels), which is channels-last memory, and computed in float32. Sums
over pixels have two stages: each program adds up a part of the pixels, and then the parts are added in order,
so the same input gives the same bits. Nothing here waits for the device, so a CUDA graph can record it.
Triton's interpreter (TRITON_INTERPRET=1) runs all of this on CPU tensors.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor, nn
from torch.nn import functional as F

# Values per tile of a program that adds up, and of a program that only reads and writes.
_SUMMED, _WRITTEN = 2048, 4096
# The number of programs that add up: enough for a large GPU, and few enough that their sums are quick to
# read.
_PROGRAMS = 1024


def normalise(x: Tensor, batchnorm: nn.BatchNorm2d, with_relu: bool, added: Tensor | None) -> Tensor:
    """Return relu(batchnorm(x) + added), float32 or bfloat16 (batch, channels, height, width), channels-last.

    In training mode it is differentiable and updates the running statistics; otherwise it does neither.
    """
    if batchnorm.training:
        return _Fused.apply(x, batchnorm.weight, batchnorm.bias, added, batchnorm, with_relu)
    return _normalised(x, batchnorm, batchnorm.running_mean, batchnorm.running_var, with_relu, added)


class _Fused(torch.autograd.Function):
    """Training-mode BatchNorm, addition and ReLU."""

    @staticmethod
    def forward(ctx, x, weight, bias, added, batchnorm, with_relu):
        mean, variance = _statistics(x, batchnorm)
        y = _normalised(x, batchnorm, mean, variance, with_relu, added)
        ctx.save_for_backward(x, y if with_relu else None, weight, bias, mean, variance)
        ctx.eps = batchnorm.eps
        return y

    @staticmethod
    def backward(ctx, dy):
        x, y, weight, bias, mean, variance = ctx.saved_tensors
        by_x, by_added = ctx.needs_input_grad[0], ctx.needs_input_grad[3]
        if torch.is_grad_enabled():  # for a second derivative, use torch's own layer
            g = dy if y is None else torch.where(y.detach() <= 0, 0, dy)
            moved = [tensor for tensor in (x, weight, bias) if tensor.requires_grad]
            again = F.batch_norm(x, None, None, weight, bias, training=True, eps=ctx.eps)
            found = iter(torch.autograd.grad(again, moved, g, create_graph=True) if moved else ())
            gradients = [next(found) if tensor.requires_grad else None for tensor in (x, weight, bias)]
            return *gradients, g if by_added else None, None, None
        dy = dy.contiguous(memory_format=torch.channels_last)
        pixels, channels = _size(x)
        d_weight, d_bias = torch.empty_like(mean), torch.empty_like(mean)
        parts, grid, _, tile = _shared_out(pixels, channels)
        partial = mean.new_empty(2, parts, channels)
        _add_up_gradients[grid](dy, y, x, mean, partial, pixels, channels, **tile)
        grid, tile = _per_channel(parts, channels)
        _finish_gradients[grid](partial, variance, d_weight, d_bias, channels, parts, ctx.eps, **tile)
        dx = torch.empty_like(x) if by_x else None
        # Without a ReLU, the gradient of what was added is dy.
        d_added = None if not by_added else dy if y is None else torch.empty_like(x)
        masked = None if y is None else d_added
        if by_x or masked is not None:
            grid, tile = _tiles(pixels, channels)
            given = (dy, y, x, mean, variance, weight.detach(), d_weight, d_bias, dx, masked)
            _differentiate[grid](*given, pixels, channels, ctx.eps, **tile)
        return dx, d_weight, d_bias, d_added, None, None


def _statistics(x: Tensor, batchnorm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    """Return each channel's mean and variance, float32 (channels,); update the running statistics."""
    pixels, channels = _size(x)
    mean, variance = torch.empty_like(batchnorm.running_mean), torch.empty_like(batchnorm.running_mean)
    parts, grid, span, tile = _shared_out(pixels, channels)
    partial = mean.new_empty(2, parts, channels)
    _add_up_moments[grid](x.detach(), partial, pixels, channels, **tile)
    grid, tile = _per_channel(parts, channels)
    running, followed = (batchnorm.running_mean, batchnorm.running_var), (batchnorm.momentum,)
    _finish_moments[grid](partial, mean, variance, *running, pixels, channels, span, parts, *followed, **tile)
    return mean, variance


def _normalised(
    x: Tensor,
    batchnorm: nn.BatchNorm2d,
    mean: Tensor,
    variance: Tensor,
    with_relu: bool,
    added: Tensor | None,
) -> Tensor:
    y = torch.empty_like(x)
    pixels, channels = _size(x)
    grid, tile = _tiles(pixels, channels)
    affine = batchnorm.weight.detach(), batchnorm.bias.detach()
    added = None if added is None else added.detach()
    given = (x.detach(), mean, variance, *affine, added, y, pixels, channels, batchnorm.eps)
    _normalise[grid](*given, RELU=with_relu, **tile)
    return y


def _size(x: Tensor) -> tuple[int, int]:
    """Return the numbers of pixels and channels."""
    return x.numel() // x.shape[1], x.shape[1]


def _tile(channels: int, values: int) -> dict[str, int]:
    """Return the pixels and channels of a tile; rows of 64 channels fill cache lines."""
    width = min(64, triton.next_power_of_2(channels))
    return {"PIXELS": values // width, "CHANNELS": width}


def _tiles(pixels: int, channels: int) -> tuple[tuple[int, int], dict[str, int]]:
    """Return the grid of programs that each read and write one tile, and the tile."""
    tile = _tile(channels, _WRITTEN)
    return (triton.cdiv(pixels, tile["PIXELS"]), triton.cdiv(channels, tile["CHANNELS"])), tile


def _shared_out(pixels: int, channels: int) -> tuple[int, tuple[int, int], int, dict[str, int]]:
    """Return the number of parts of the pixels for sums, the grid, the pixels per part, and the tiles."""
    tile = _tile(channels, _SUMMED)
    tiles, across = triton.cdiv(pixels, tile["PIXELS"]), triton.cdiv(channels, tile["CHANNELS"])
    # A power of 2, since kernels are compiled for each number of tiles (the interpreter needs a constant).
    each = triton.next_power_of_2(triton.cdiv(tiles, max(1, min(_PROGRAMS // across, triton.cdiv(tiles, 2)))))
    parts = triton.cdiv(tiles, each)
    return parts, (parts, across), each * tile["PIXELS"], tile | {"TILES": each}


def _per_channel(parts: int, channels: int) -> tuple[tuple[int], dict[str, int]]:
    """Return the grid of programs that each add up all parts for a few channels, and the tile."""
    rows = triton.next_power_of_2(parts)
    width = max(1, min(_WRITTEN // rows, 64, triton.next_power_of_2(channels)))
    return (triton.cdiv(channels, width),), {"PARTS": rows, "CHANNELS": width}


@triton.jit
def _add_up_moments(
    x,
    partial,
    pixels,
    channels,
    TILES: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Write, for each part of the pixels, the mean and the sum of squared distances from it.

    Distances are first taken from the mean of the first tile, which keeps them exact far from 0.
    """
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    start = tl.program_id(0) * TILES * PIXELS
    end = tl.minimum(start + TILES * PIXELS, pixels)
    pixel = start + tl.arange(0, PIXELS)
    inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
    value = tl.load(x + pixel[:, None] * channels + channel[None, :], mask=inside, other=0).to(tl.float32)
    pivot = tl.sum(value, axis=0) / tl.minimum(end - start, PIXELS)
    sums = tl.zeros((PIXELS, CHANNELS), tl.float32)
    squares = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for tile in range(TILES):
        pixel = start + tile * PIXELS + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None] & (channel < channels)[None, :]
        value = tl.load(x + pixel[:, None] * channels + channel[None, :], mask=inside, other=0).to(tl.float32)
        apart = tl.where(inside, value - pivot[None, :], 0.0)
        sums += apart
        squares += apart * apart
    total = tl.sum(sums, axis=0)
    mean = total / (end - start)
    to = partial + tl.program_id(0) * channels + channel
    tl.store(to, pivot + mean, mask=channel < channels)
    to += tl.num_programs(0) * channels
    tl.store(to, tl.sum(squares, axis=0) - total * mean, mask=channel < channels)


@triton.jit
def _finish_moments(
    partial,
    mean,
    variance,
    running_mean,
    running_var,
    pixels,
    channels,
    span,
    parts,
    momentum,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Write the mean and variance over all parts; update the running statistics, with unbiased variance."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    real = channel < channels
    part = tl.arange(0, PARTS)
    inside = (part < parts)[:, None] & real[None, :]
    count = tl.where(part < parts, tl.minimum(pixels - part * span, span), 0).to(tl.float32)[:, None]
    at = partial + part[:, None] * channels + channel[None, :]
    pivot = tl.load(partial + channel, mask=real, other=0)
    apart = tl.where(inside, tl.load(at, mask=inside, other=0) - pivot[None, :], 0.0)
    from_pivot = tl.sum(apart * count, axis=0) / pixels
    apart -= from_pivot[None, :]
    squares = tl.load(at + parts * channels, mask=inside, other=0) + apart * apart * count
    found_mean, found = pivot + from_pivot, tl.sum(squares, axis=0) / pixels
    found = tl.where(found < 0, 0.0, found)  # rounding may make it negative; NaN stays
    tl.store(mean + channel, found_mean, mask=real)
    tl.store(variance + channel, found, mask=real)
    followed = tl.load(running_mean + channel, mask=real, other=0)
    tl.store(running_mean + channel, (1 - momentum) * followed + momentum * found_mean, mask=real)
    unbiased = found * (pixels / tl.maximum(pixels - 1, 1))
    followed = tl.load(running_var + channel, mask=real, other=0)
    tl.store(running_var + channel, (1 - momentum) * followed + momentum * unbiased, mask=real)


@triton.jit
def _normalise(
    x,
    mean,
    variance,
    weight,
    bias,
    added,
    y,
    pixels,
    channels,
    eps,
    RELU: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Write (x − mean) · weight / √(variance + eps) + bias + added into y; with RELU at least 0."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    real = channel < channels
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (pixel < pixels)[:, None] & real[None, :]
    at = pixel[:, None] * channels + channel[None, :]
    scale = tl.load(weight + channel, mask=real, other=0)
    scale /= tl.sqrt(tl.load(variance + channel, mask=real, other=1) + eps)
    value = tl.load(x + at, mask=inside, other=0).to(tl.float32)
    value = (value - tl.load(mean + channel, mask=real, other=0)[None, :]) * scale[None, :]
    value += tl.load(bias + channel, mask=real, other=0)[None, :]
    if added is not None:
        value += tl.load(added + at, mask=inside, other=0).to(tl.float32)
    if RELU:
        value = tl.where(value < 0, 0.0, value)  # NaN stays, so that divergence is noticed
    tl.store(y + at, value, mask=inside)


@triton.jit
def _masked(dy, y, at, inside):
    """Load g, which is dy, or 0 where the ReLU gave 0."""
    g = tl.load(dy + at, mask=inside, other=0).to(tl.float32)
    if y is not None:
        g = tl.where(tl.load(y + at, mask=inside, other=0) <= 0, 0.0, g)
    return g


@triton.jit
def _add_up_gradients(
    dy,
    y,
    x,
    mean,
    partial,
    pixels,
    channels,
    TILES: tl.constexpr,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Write, for each part of the pixels, the sums of g and of g · (x − mean)."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    real = channel < channels
    start = tl.program_id(0) * TILES * PIXELS
    centre = tl.load(mean + channel, mask=real, other=0)
    sums = tl.zeros((PIXELS, CHANNELS), tl.float32)
    products = tl.zeros((PIXELS, CHANNELS), tl.float32)
    for tile in range(TILES):
        pixel = start + tile * PIXELS + tl.arange(0, PIXELS)
        inside = (pixel < pixels)[:, None] & real[None, :]
        at = pixel[:, None] * channels + channel[None, :]
        g = _masked(dy, y, at, inside)
        sums += g
        products += g * (tl.load(x + at, mask=inside, other=0).to(tl.float32) - centre[None, :])
    to = partial + tl.program_id(0) * channels + channel
    tl.store(to, tl.sum(sums, axis=0), mask=real)
    tl.store(to + tl.num_programs(0) * channels, tl.sum(products, axis=0), mask=real)


@triton.jit
def _finish_gradients(
    partial,
    variance,
    d_weight,
    d_bias,
    channels,
    parts,
    eps,
    PARTS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Write the gradients of weight and bias: Σ g · (x − mean) / √(variance + eps), and Σ g."""
    channel = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    real = channel < channels
    part = tl.arange(0, PARTS)
    inside = (part < parts)[:, None] & real[None, :]
    at = partial + part[:, None] * channels + channel[None, :]
    tl.store(d_bias + channel, tl.sum(tl.load(at, mask=inside, other=0), axis=0), mask=real)
    products = tl.sum(tl.load(at + parts * channels, mask=inside, other=0), axis=0)
    spread = tl.sqrt(tl.load(variance + channel, mask=real, other=1) + eps)
    tl.store(d_weight + channel, products / spread, mask=real)


@triton.jit
def _differentiate(
    dy,
    y,
    x,
    mean,
    variance,
    weight,
    d_weight,
    d_bias,
    dx,
    d_added,
    pixels,
    channels,
    eps,
    PIXELS: tl.constexpr,
    CHANNELS: tl.constexpr,
):
    """Write the gradients of x and of what was added; either output may be None."""
    channel = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    real = channel < channels
    pixel = tl.program_id(0) * PIXELS + tl.arange(0, PIXELS)
    inside = (pixel < pixels)[:, None] & real[None, :]
    at = pixel[:, None] * channels + channel[None, :]
    g = _masked(dy, y, at, inside)
    if d_added is not None:
        tl.store(d_added + at, g, mask=inside)
    if dx is not None:
        spread = tl.sqrt(tl.load(variance + channel, mask=real, other=1) + eps)
        scale = tl.load(weight + channel, mask=real, other=0) / spread
        by_x = tl.load(d_weight + channel, mask=real, other=0) / (pixels * spread)
        constant = tl.load(d_bias + channel, mask=real, other=0) / pixels
        apart = tl.load(x + at, mask=inside, other=0).to(tl.float32)
        apart -= tl.load(mean + channel, mask=real, other=0)[None, :]
        tl.store(dx + at, scale[None, :] * (g - constant[None, :] - apart * by_x[None, :]), mask=inside)
