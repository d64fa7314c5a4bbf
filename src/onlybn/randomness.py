"""Random numbers that depend only on (seed, purpose), the same on every device and processor."""

import hashlib
import json

import numpy as np


def key(seed: int, *purpose: str | int) -> bytes:
    """Return 32 bytes that name the seed and the purpose."""
    return hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return NumPy's counter-based generator (Philox) keyed by the seed and the purpose.

    The purpose names what is drawn, such as ``("weights", "stem.convolution")`` or ``("order", 7)``, so that
    no draw depends on earlier draws.
    """
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key(seed, *purpose)[:16], "little")))
