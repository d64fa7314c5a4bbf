"""The linear map that deep linear networks learn: y = Ax (Santurkar et al. 2018, Section 2.2)."""

from pathlib import Path

import numpy as np

from onlybn.randomness import generator

SIDE = 10
EXAMPLES = 1_000


def load(data_dir: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return 1,000 training and 1,000 test examples of one map A, always the same; `data_dir` is not used.

    The inputs x, float32 (examples, 1, 1, 10), and A, 10×10, are independent standard normal numbers. The
    targets y, float32 (examples, 10), are computed in float64, without noise.
    """
    matrix = generator(0, "deep-linear", "map").standard_normal((SIDE, SIDE))
    splits = {}
    for split in ("train", "test"):
        inputs = generator(0, "deep-linear", split).standard_normal((EXAMPLES, SIDE))
        # A library's product would round differently on other processors.
        targets = sum(inputs[:, [place]] * matrix[:, place] for place in range(SIDE))
        splits[split] = inputs.astype(np.float32)[:, None, None, :], targets.astype(np.float32)
    return splits
