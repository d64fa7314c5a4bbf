"""Compiled CPU kernels for one thread: BatchNorm with addition and ReLU, and SGD, in few passes over memory.

torch's kernels take several times longer if a pixel has fewer channels than a vector register (the first
stage of ResNets), and ReLU and addition each need another pass over memory. On small images, the overhead of
its operators exceeds the arithmetic. So here a layer's forward or backward pass is one call, and so is a step
of SGD.

Tensors are passed as addresses; 0 means none. Activations are bfloat16, of shape (pixels, channels), and
computed in float32; γ, β and running statistics are float32 (channels,). Sums over pixels are float64.
"""

import math

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import carray, types
from numba.extending import intrinsic

from onlybn.compiling import compiled

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()
# Sums within a block of this many pixels are float32; sums of blocks are float64.
_BLOCK = 512
# Several pixels make a row of at most this many values, so that the ends of the inner loop cost little.
_ROW = 128
# Whether the processor can round to bfloat16; numbers below the smallest normal number then become 0.
_NATIVE = bool(llvm.get_host_cpu_features().get("avx512bf16"))
# Numbers above this are still above 0 after rounding to bfloat16.
_ABOVE_ZERO = np.nextafter(np.float32(2.0**-126), np.float32(0)) if _NATIVE else np.float32(2.0**-134)


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite does not define."""

    def _to_string(self) -> str:
        return "bfloat"

    def __eq__(self, other) -> bool:
        return isinstance(other, _BFloat)

    __hash__ = ir.Type.__hash__


@intrinsic
def _widened(typing, bits):
    """Convert the bits of a bfloat16 to float32."""

    def generate(context, builder, signature, arguments):
        wide = builder.shl(builder.zext(arguments[0], _I32), _I32(16))
        return builder.bitcast(wide, _F32)

    return types.float32(types.uint16), generate


@intrinsic
def _rounded(typing, value):
    """Round float32 to the bits of a bfloat16, to nearest, ties to even."""

    def generate(context, builder, signature, arguments):
        if _NATIVE:
            return builder.bitcast(builder.fptrunc(arguments[0], _BFloat()), _I16)
        bits = builder.bitcast(arguments[0], _I32)
        odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
        rounded = builder.add(bits, builder.add(_I32(0x7FFF), odd))
        return builder.trunc(builder.lshr(rounded, _I32(16)), _I16)

    return types.uint16(types.float32), generate


@intrinsic
def _fma(typing, a, b, c):
    """Return a · b + c, rounded once, as torch's `add` with `alpha` does."""

    def generate(context, builder, signature, arguments):
        return builder.fma(*arguments)

    return a(a, a, a), generate


def _pointer(kind):
    @intrinsic
    def pointer(typing, address):
        def generate(context, builder, signature, arguments):
            return builder.inttoptr(arguments[0], context.get_value_type(types.CPointer(kind)))

        return types.CPointer(kind)(types.int64), generate

    return pointer


_u16, _f32, _f64 = (_pointer(kind) for kind in (types.uint16, types.float32, types.float64))


def addresses(tensors):
    """Return the addresses of tensors, int64 (tensors,)."""
    return np.array([tensor.data_ptr() for tensor in tensors], np.int64)


def sizes(tensors):
    """Return the numbers of elements of tensors, int64 (tensors,)."""
    return np.array([tensor.numel() for tensor in tensors], np.int64)


@compiled
def _row(pixels, channels):
    """Return the number of pixels per row: the largest power of 2 that fits and divides all pixels."""
    row = 1
    while 2 * row * channels <= _ROW and pixels % (2 * row) == 0:
        row *= 2
    return row


@compiled
def _apply(x, scale, shift, added, has_added, low, y):
    """Write max(low, x · scale + shift + added) into y."""
    rows, length = x.shape
    # Adding −0 changes nothing; with the same operands as above, the loop compiles to equally wide vectors.
    nothing = np.full(length, 0x8000, np.uint16)
    for p in range(rows):
        if has_added:
            for c in range(length):
                value = _widened(x[p, c]) * scale[c] + shift[c] + _widened(added[p, c])
                y[p, c] = _rounded(low if value < low else value)
        else:
            for c in range(length):
                value = _widened(x[p, c]) * scale[c] + shift[c] + _widened(nothing[c])
                y[p, c] = _rounded(low if value < low else value)


@compiled
def _moments(x, pivot, sums, squares):
    """Add up x − pivot and its square over rows into `sums` and `squares`, float64 (length of a row,).

    The pivot is some value of each channel; it keeps the variance exact if the mean is far from 0.
    """
    rows, length = x.shape
    some, some_squares = np.zeros(length, np.float32), np.zeros(length, np.float32)
    for start in range(0, rows, _BLOCK):
        some[:] = 0
        some_squares[:] = 0
        for p in range(start, min(rows, start + _BLOCK)):
            for c in range(length):
                value = _widened(x[p, c]) - pivot[c]
                some[c] += value
                some_squares[c] += value * value
        for c in range(length):
            sums[c] += some[c]
            squares[c] += some_squares[c]


@compiled
def train(
    x, y, added, pixels, channels, gamma, beta, running_mean, running_var, statistics, relu, momentum, eps
):
    """Write relu(batchnorm(x) + added) into y, and update the running statistics.

    `statistics` gets the mean and 1/√(variance + eps) of each channel, float64 (2, channels).
    """
    row = _row(pixels, channels)
    shape = (pixels // row, channels * row)
    x, y = carray(_u16(x), shape), carray(_u16(y), shape)
    gamma, beta = carray(_f32(gamma), channels), carray(_f32(beta), channels)
    running_mean, running_var = carray(_f32(running_mean), channels), carray(_f32(running_var), channels)
    statistics = carray(_f64(statistics), (2, channels))
    pivot, scale, shift = (
        np.empty(shape[1], np.float32),
        np.empty(shape[1], np.float32),
        np.empty(shape[1], np.float32),
    )
    for c in range(shape[1]):
        pivot[c] = _widened(x[0, c % channels])
    sums, squares = np.zeros(shape[1], np.float64), np.zeros(shape[1], np.float64)
    _moments(x, pivot, sums, squares)
    keep = np.float32(1 - momentum)
    for c in range(channels):
        apart, square = 0.0, 0.0
        for i in range(c, shape[1], channels):
            apart += sums[i]
            square += squares[i]
        apart, square = apart / pixels, square / pixels
        mean = np.float64(pivot[c]) + apart
        variance = max(square - apart * apart, 0.0)
        inverse = 1 / math.sqrt(variance + eps)
        statistics[0, c], statistics[1, c] = mean, inverse
        unbiased = variance * pixels / max(1, pixels - 1)
        running_mean[c] = _fma(momentum, mean, np.float64(running_mean[c] * keep))
        running_var[c] = _fma(momentum, unbiased, np.float64(running_var[c] * keep))
        factor = gamma[c] * inverse
        for i in range(c, shape[1], channels):
            scale[i], shift[i] = factor, beta[c] - mean * factor
    low = np.float32(0 if relu else -np.inf)
    _apply(x, scale, shift, carray(_u16(added), shape), added != 0, low, y)


@compiled
def test(x, y, added, pixels, channels, gamma, beta, running_mean, running_var, relu, eps):
    """Write relu(batchnorm(x) + added) into y, with the running statistics."""
    row = _row(pixels, channels)
    shape = (pixels // row, channels * row)
    gamma, beta = carray(_f32(gamma), channels), carray(_f32(beta), channels)
    running_mean, running_var = carray(_f32(running_mean), channels), carray(_f32(running_var), channels)
    scale, shift = np.empty(shape[1], np.float32), np.empty(shape[1], np.float32)
    for i in range(shape[1]):
        c = i % channels
        factor = gamma[c] * (1 / math.sqrt(running_var[c] + eps))
        scale[i], shift[i] = factor, beta[c] - running_mean[c] * factor
    low = np.float32(0 if relu else -np.inf)
    _apply(
        carray(_u16(x), shape),
        scale,
        shift,
        carray(_u16(added), shape),
        added != 0,
        low,
        carray(_u16(y), shape),
    )


@compiled
def _factors(sums, products, pixels, gamma, statistics, d_gamma, d_beta):
    """Set the gradients of γ and β from the sums of g and of g · (x − mean) over rows; return dx's factors.

    They are the factor of g, the factor of x and the constant term, float32 (length of a row,).
    """
    channels, length = gamma.size, sums.size
    d_gamma, d_beta = carray(_f32(d_gamma), channels), carray(_f32(d_beta), channels)
    by_g, by_x = np.empty(length, np.float32), np.empty(length, np.float32)
    constant = np.empty(length, np.float32)
    for c in range(channels):
        total, product = 0.0, 0.0
        for i in range(c, length, channels):
            total += sums[i]
            product += products[i]
        mean, inverse = statistics[0, c], statistics[1, c]
        d_gamma[c], d_beta[c] = product * inverse, total
        scale = gamma[c] * inverse
        slope = -scale * (inverse * inverse) * product / pixels
        rest = -scale * total / pixels - slope * mean
        for i in range(c, length, channels):
            by_g[i], by_x[i], constant[i] = scale, slope, rest
    return by_g, by_x, constant


@compiled
def backward(dy, other, y, x, passes_on, pixels, channels, gamma, beta, statistics, d_gamma, d_beta, relu):
    """Compute the gradients of `train`; g is dy + other where y is above 0 (everywhere without a ReLU).

    Overwrites dy with g, the gradient of what was added, and x with the gradient of x if that is passed on.
    """
    row = _row(pixels, channels)
    shape = (pixels // row, channels * row)
    rows, length = shape
    has_other = other != 0
    dy, other, y, x = (
        carray(_u16(dy), shape),
        carray(_u16(other), shape),
        carray(_u16(y), shape),
        carray(_u16(x), shape),
    )
    gamma, statistics = carray(_f32(gamma), channels), carray(_f64(statistics), (2, channels))
    mean = np.empty(length, np.float32)
    for c in range(length):
        mean[c] = statistics[0, c % channels]
    low, zero = np.float32(0 if relu else -np.inf), np.float32(0)
    sums, products = np.zeros(length, np.float64), np.zeros(length, np.float64)
    some, some_products = np.empty(length, np.float32), np.empty(length, np.float32)
    for start in range(0, rows, _BLOCK):
        some[:] = 0
        some_products[:] = 0
        for p in range(start, min(rows, start + _BLOCK)):
            if has_other:
                for c in range(length):
                    both = _widened(_rounded(_widened(dy[p, c]) + _widened(other[p, c])))
                    value = both if _widened(y[p, c]) > low else zero
                    dy[p, c] = _rounded(value)
                    some[c] += value
                    some_products[c] += value * (_widened(x[p, c]) - mean[c])
            else:
                for c in range(length):
                    value = _widened(dy[p, c]) if _widened(y[p, c]) > low else zero
                    dy[p, c] = _rounded(value)
                    some[c] += value
                    some_products[c] += value * (_widened(x[p, c]) - mean[c])
        for c in range(length):
            sums[c] += some[c]
            products[c] += some_products[c]
    by_g, by_x, constant = _factors(sums, products, pixels, gamma, statistics, d_gamma, d_beta)
    if passes_on:
        for p in range(rows):
            for c in range(length):
                value = by_g[c] * _widened(dy[p, c]) + by_x[c] * _widened(x[p, c]) + constant[c]
                x[p, c] = _rounded(value)


@compiled
def backward_alone(dy, x, passes_on, pixels, channels, gamma, beta, statistics, d_gamma, d_beta, relu):
    """Compute the gradients of `train` without an addition; the ReLU's mask is recomputed.

    dy is not changed. Overwrites x with the gradient of x if that is passed on.
    """
    row = _row(pixels, channels)
    shape = (pixels // row, channels * row)
    rows, length = shape
    dy, x = carray(_u16(dy), shape), carray(_u16(x), shape)
    gamma, beta = carray(_f32(gamma), channels), carray(_f32(beta), channels)
    statistics = carray(_f64(statistics), (2, channels))
    mean, scale, shift = (
        np.empty(length, np.float32),
        np.empty(length, np.float32),
        np.empty(length, np.float32),
    )
    for i in range(length):
        c = i % channels
        factor = gamma[c] * statistics[1, c]
        mean[i], scale[i], shift[i] = statistics[0, c], factor, beta[c] - statistics[0, c] * factor
    low, zero = _ABOVE_ZERO if relu else np.float32(-np.inf), np.float32(0)
    sums, products = np.zeros(length, np.float64), np.zeros(length, np.float64)
    some, some_products = np.empty(length, np.float32), np.empty(length, np.float32)
    for start in range(0, rows, _BLOCK):
        some[:] = 0
        some_products[:] = 0
        for p in range(start, min(rows, start + _BLOCK)):
            for c in range(length):
                value = _widened(x[p, c])
                g = _widened(dy[p, c]) if value * scale[c] + shift[c] > low else zero
                some[c] += g
                some_products[c] += g * (value - mean[c])
        for c in range(length):
            sums[c] += some[c]
            products[c] += some_products[c]
    by_g, by_x, constant = _factors(sums, products, pixels, gamma, statistics, d_gamma, d_beta)
    if passes_on:
        for p in range(rows):
            for c in range(length):
                value = _widened(x[p, c])
                g = _widened(dy[p, c]) if value * scale[c] + shift[c] > low else zero
                x[p, c] = _rounded(by_g[c] * g + by_x[c] * value + constant[c])


@compiled
def add_at_even(dx, other, images, height, width, channels):
    """Add other at the even places of dx, which is twice as high and wide."""
    dx = carray(_u16(dx), (images, 2 * height, 2 * width, channels))
    other = carray(_u16(other), (images, height, width, channels))
    for n in range(images):
        for i in range(height):
            for j in range(width):
                for c in range(channels):
                    value = _widened(dx[n, 2 * i, 2 * j, c]) + _widened(other[n, i, j, c])
                    dx[n, 2 * i, 2 * j, c] = _rounded(value)


@compiled
def round_to_bfloat16(values, rounded, sizes):
    """Round float32 tensors into bfloat16 tensors; both are given by their addresses."""
    for i in range(sizes.size):
        value, into = carray(_f32(values[i]), sizes[i]), carray(_u16(rounded[i]), sizes[i])
        for j in range(sizes[i]):
            into[j] = _rounded(value[j])


@compiled
def sgd(parameters, gradients, are_bfloat16, buffers, sizes, momentum, weight_decay, rate):
    """Take a step of SGD, with the results of torch's operators; float32 parameters are given by addresses.

    Gradients are bfloat16 where `are_bfloat16` is true, and otherwise float32.
    """
    momentum, weight_decay = np.float32(momentum), np.float32(weight_decay)
    rate = np.float32(-rate)
    for i in range(sizes.size):
        parameter = carray(_f32(parameters[i]), sizes[i])
        buffer = carray(_f32(buffers[i]), sizes[i])
        if are_bfloat16[i]:
            short = carray(_u16(gradients[i]), sizes[i])
            for j in range(sizes[i]):
                moved = buffer[j] * momentum + _fma(weight_decay, parameter[j], _widened(short[j]))
                buffer[j] = moved
                parameter[j] = _fma(rate, moved, parameter[j])
        else:
            gradient = carray(_f32(gradients[i]), sizes[i])
            for j in range(sizes[i]):
                moved = buffer[j] * momentum + _fma(weight_decay, parameter[j], gradient[j])
                buffer[j] = moved
                parameter[j] = _fma(rate, moved, parameter[j])
