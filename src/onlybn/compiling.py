"""How functions of numbers and arrays are compiled for a CPU."""

from collections.abc import Callable

from numba import njit


def compiled(function: Callable) -> Callable:
    """Compile on first use, and keep it on disk if there is a folder that can be written."""
    try:
        return njit(cache=True, nogil=True)(function)
    except RuntimeError:
        return njit(nogil=True)(function)
