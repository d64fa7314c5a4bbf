"""BatchNorm with what follows it, in bfloat16 on one thread of a CPU: its passes over memory, and no more.

torch's own kernels take several times as long where a pixel has fewer channels than a vector register
(ResNets' first stage), and pass over memory once more for each of ReLU and addition. Activations are read
as uint16, of shape (pixels, channels), and computed with in float32; sums over pixels are float64.
"""

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_I16, _I32, _F32 = ir.IntType(16), ir.IntType(32), ir.FloatType()
# Sums are float32 within so many pixels, and float64 between.
_BLOCK = 512


def _compiled(function):
    """Compile on first use, and keep it on disk if there is a folder that can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)


@intrinsic
def _widened(typing, bits):
    """Take bfloat16's bits as float32."""

    def generate(context, builder, signature, arguments):
        wide = builder.shl(builder.zext(arguments[0], _I32), _I32(16))
        return builder.bitcast(wide, _F32)

    return types.float32(types.uint16), generate


@intrinsic
def _rounded(typing, value):
    """Round float32 to bfloat16's bits, to the nearest, ties to even."""

    def generate(context, builder, signature, arguments):
        bits = builder.bitcast(arguments[0], _I32)
        odd = builder.and_(builder.lshr(bits, _I32(16)), _I32(1))
        rounded = builder.add(bits, builder.add(_I32(0x7FFF), odd))
        return builder.trunc(builder.lshr(rounded, _I32(16)), _I16)

    return types.uint16(types.float32), generate


@_compiled
def moments(x, pivot, sums, squares):
    """Add up x − pivot and its squares over pixels into `sums` and `squares`, float64 (channels,).

    The pivot, some value of each channel, keeps the variance exact where the mean is far from 0.
    """
    pixels, channels = x.shape
    some, some_squares = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    for start in range(0, pixels, _BLOCK):
        some[:] = 0
        some_squares[:] = 0
        for p in range(start, min(pixels, start + _BLOCK)):
            for c in range(channels):
                value = _widened(x[p, c]) - pivot[c]
                some[c] += value
                some_squares[c] += value * value
        for c in range(channels):
            sums[c] += some[c]
            squares[c] += some_squares[c]


@_compiled
def normalise(x, scale, shift, low, y):
    """Write max(low, x · scale + shift) into y."""
    pixels, channels = x.shape
    for p in range(pixels):
        for c in range(channels):
            y[p, c] = _rounded(max(_widened(x[p, c]) * scale[c] + shift[c], low))


@_compiled
def normalise_and_add(x, scale, shift, added, low, y):
    """Write max(low, x · scale + shift + added) into y."""
    pixels, channels = x.shape
    for p in range(pixels):
        for c in range(channels):
            value = _widened(x[p, c]) * scale[c] + shift[c] + _widened(added[p, c])
            y[p, c] = _rounded(max(value, low))


@_compiled
def gradient_moments(dy, y, x, mean, low, sums, products):
    """Add up g and g · (x − mean) over pixels, where g is dy wherever y is above `low`, and otherwise 0."""
    pixels, channels = x.shape
    some, some_products = np.zeros(channels, np.float32), np.zeros(channels, np.float32)
    for start in range(0, pixels, _BLOCK):
        some[:] = 0
        some_products[:] = 0
        for p in range(start, min(pixels, start + _BLOCK)):
            for c in range(channels):
                g = _widened(dy[p, c]) if _widened(y[p, c]) > low else np.float32(0)
                some[c] += g
                some_products[c] += g * (_widened(x[p, c]) - mean[c])
        for c in range(channels):
            sums[c] += some[c]
            products[c] += some_products[c]


@_compiled
def gradient(dy, y, x, by_g, by_x, constant, low, dx):
    """Write by_g · g + by_x · x + constant into dx."""
    pixels, channels = x.shape
    for p in range(pixels):
        for c in range(channels):
            g = _widened(dy[p, c]) if _widened(y[p, c]) > low else np.float32(0)
            dx[p, c] = _rounded(by_g[c] * g + by_x[c] * _widened(x[p, c]) + constant[c])


@_compiled
def masked(dy, y, low, dx):
    """Write g into dx."""
    pixels, channels = y.shape
    for p in range(pixels):
        for c in range(channels):
            dx[p, c] = dy[p, c] if _widened(y[p, c]) > low else np.uint16(0)
