"""The compiled kernel of `onlybn.noise` for a CPU: one pass over memory in place of twenty."""

import numpy as np

from onlybn.compiling import compiled

_INCREMENT = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_27, _30, _31, _32, _40 = (np.uint64(shift) for shift in (27, 30, 31, 32, 40))
_UNIT = np.float32(2**-24)


@compiled
def spread(examples, numbers):
    """Write into `numbers`, float32 (examples, elements), what `Noise.uniform` draws.

    `examples` holds the hash of each example, uint64 (examples,).
    """
    elements = numbers.shape[1]
    for example in range(examples.size):
        state = examples[example]
        for element in range(0, elements - 1, 2):
            bits = _hashed(state)
            numbers[example, element] = np.float32((bits << _32) >> _40) * _UNIT
            numbers[example, element + 1] = np.float32(bits >> _40) * _UNIT
            state += _INCREMENT
        if elements % 2:
            numbers[example, elements - 1] = np.float32((_hashed(state) << _32) >> _40) * _UNIT


@compiled
def _hashed(bits):
    bits = (bits ^ (bits >> _30)) * _FIRST
    bits = (bits ^ (bits >> _27)) * _SECOND
    return bits ^ (bits >> _31)
