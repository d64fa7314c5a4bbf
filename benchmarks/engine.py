"""The engine's own loop, timed as the textbook's is."""

import time

import numpy as np
import torch

from onlybn.datasets.small import SmallImages, Split
from onlybn.distributed import ALONE
from onlybn.jobs import keep_freed_memory
from onlybn.training import Replicate, _steps, choose_precision


def milliseconds_per_step(run, images: np.ndarray, labels: np.ndarray, steps: int, device: str) -> float:
    """Train for that many steps after two that are not timed; return the mean time of one."""
    keep_freed_memory()
    place = torch.device(device)
    split = Split(torch.from_numpy(images).to(place), torch.from_numpy(labels).to(place))
    dataset = SmallImages(
        train=split,
        test=split,
        device=place,
        examples=len(split),
        channels=3,
        classes=10,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        checksum="",
    )
    replicate = Replicate(run, dataset, choose_precision(run.training.precision, place))
    take = _steps([replicate], place, ALONE)
    batches = replicate.batches(1)

    def some(count: int) -> float:
        started = time.perf_counter()
        for _ in range(count):
            take([next(batches)], run.training.batch_size, 0.1)
        replicate.measures.averages()  # waits for the device
        return (time.perf_counter() - started) / count * 1_000

    some(2)
    return some(steps)
