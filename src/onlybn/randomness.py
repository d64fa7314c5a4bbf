"""Random numbers that depend only on (seed, purpose), the same on every device and processor."""

import hashlib
import json

import numpy as np


def generator(seed: int, *purpose: str | int) -> np.random.Generator:
    """Return NumPy's counter-based generator (Philox) keyed by the seed and the purpose.

    The purpose names what is drawn, such as ``("weights", "stem.convolution")`` or ``("order", 7)``, so that
    no draw depends on earlier draws.
    """
    key = hashlib.sha256(json.dumps([seed, *purpose]).encode()).digest()
    return np.random.Generator(np.random.Philox(key=int.from_bytes(key[:16], "little")))
