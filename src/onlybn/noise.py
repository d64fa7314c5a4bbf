"""Random numbers that a run's steps draw on its device, with the same bits on every device.

A number depends only on the seed, the purpose, the step, the example's place in its batch and the element, so
it is the same alone, beside other runs, in several processes and after a kill. It is a hash of these
(SplitMix64; Steele, Lea and Flood, 2014), computed by elementwise operations on integers, which are exact
everywhere. A CUDA graph can record them, since the step is a tensor, set outside of the graph.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from onlybn.randomness import key


def _signed(number: int) -> int:
    """Return a number of 64 bits as torch's int64 holds it."""
    return number - (number >> 63 << 64)


_INCREMENT = _signed(0x9E3779B97F4A7C15)
_SHIFTS_AND_FACTORS = ((30, _signed(0xBF58476D1CE4E5B9)), (27, _signed(0x94D049BB133111EB)))
_LAST_SHIFT = 31


class Noise:
    """The source of a run's random numbers in training.

    `step`, int64 () on the device, is the number of steps before this one; `first` is the place in the whole
    batch of the first example that this process has.
    """

    def __init__(self, seed: int, device: torch.device):
        self.seed = seed
        self.step = torch.zeros((), dtype=torch.int64, device=device)
        self.first = 0

    @torch.no_grad()
    def uniform(self, purpose: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Return multiples of 2⁻²⁴ in [0, 1), float32 of a shape (examples, …)."""
        return self._uniform(purpose, shape, self.first)

    @torch.no_grad()
    def shared_uniform(self, purpose: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Return such numbers of any shape that all examples of a step share, in every process."""
        return self._uniform(purpose, (1, *shape), 0)[0]

    @torch.no_grad()
    def normal(self, purpose: Sequence[str], shape: Sequence[int]) -> Tensor:
        """Return standard normal numbers, float32 of a shape (examples, …), within ±5.77.

        Two uniform numbers give two normal ones (Box and Muller, 1958). Logarithm, sine and cosine round
        differently on other kinds of devices.
        """
        examples, *rest = shape
        elements = math.prod(rest)
        uniform = self.uniform(purpose, (examples, 2, (elements + 1) // 2))
        radius = torch.log1p(-uniform[:, 0]).mul_(-2).sqrt_()
        angle = uniform[:, 1].mul_(2 * math.pi)
        pairs = torch.cat([radius * torch.cos(angle), radius * torch.sin(angle)], dim=1)
        return pairs[:, :elements].reshape(tuple(shape))

    def _uniform(self, purpose: Sequence[str], shape: Sequence[int], first: int) -> Tensor:
        examples, *rest = shape
        run = int.from_bytes(key(self.seed, *purpose)[:8], "little", signed=True)
        step = _hashed(self.step * _INCREMENT + run)
        example = _hashed(_multiples(first, examples, self.step.device) + step)
        spread = _spread_by_kernel if example.device.type == "cpu" else _spread
        return spread(example, math.prod(rest)).view(tuple(shape))


def _spread(examples: Tensor, elements: int) -> Tensor:
    """Return numbers, float32 (examples, elements), from the hash of each example, int64 (examples,)."""
    # Each hash gives two numbers, of the upper 24 of 32 bits.
    hashes = _hashed(examples[:, None] + _multiples(0, (elements + 1) // 2, examples.device))
    bits = (hashes.view(torch.int32)[:, :elements] >> 8).bitwise_and_(0xFFFFFF)
    return bits.float().mul_(2**-24)


def _spread_by_kernel(examples: Tensor, elements: int) -> Tensor:
    from onlybn.noise_kernel import spread

    numbers = torch.empty(len(examples), elements)
    spread(examples.numpy().view("uint64"), numbers.numpy())
    return numbers


def _multiples(start: int, count: int, device: torch.device) -> Tensor:
    return torch.arange(start, start + count, device=device).mul_(_INCREMENT)


def _hashed(numbers: Tensor) -> Tensor:
    """Return the hash of each number, int64; products wrap around."""
    for shift, factor in _SHIFTS_AND_FACTORS:
        numbers = _folded(numbers, shift).mul_(factor)
    return _folded(numbers, _LAST_SHIFT)


def _folded(numbers: Tensor, shift: int) -> Tensor:
    """Return the numbers, each xor itself shifted to the right as an unsigned number."""
    return (numbers >> shift).bitwise_and_((1 << 64 - shift) - 1).bitwise_xor_(numbers)
