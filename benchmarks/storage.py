"""The size of a finished run, and the time to load its network.

    python benchmarks/storage.py

The runs are not trained: they are drawn and saved with random values and a record of 160 epochs.
"""

import argparse
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

sys.path.insert(0, str(Path(__file__).parent))

import numpy as np
import report
import torch
from engine import random_images

from onlybn.networks.state import learned
from onlybn.networks.variants import DEFAULT
from onlybn.runs import records, saving
from onlybn.study import Run, Training
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import Outcome

EPOCHS = 160
POINTS = [
    ("resnet-14", "batchnorm"),
    ("resnet-110", "batchnorm"),
    ("resnet-110", "random-2"),
    ("resnet-110", "all"),
    ("resnet-866", "batchnorm"),
    ("wrn-14-32", "batchnorm"),
    ("wrn-14-32", "random-2"),
]


def measure(architecture: str, regime: str) -> dict:
    """Save a run and load it; return its sizes, the seconds, and whether its outputs are the same bits."""
    cpu = torch.device("cpu")
    images = random_images("cifar10", 8, 8, cpu)
    training = Training(epochs=EPOCHS, batch_size=128, learning_rate=0.1)
    replicate = LiveRun(
        Run("s", "cifar10", training, architecture, regime, DEFAULT, 0), images, torch.float32
    )
    with torch.no_grad():
        for tensor in learned(replicate.network).values():  # as if trained
            tensor += 0.01 * torch.rand(tensor.shape)
    rng = np.random.default_rng(0)
    rows = [
        {"epoch": epoch, "step": epoch, "split": split, "learning_rate": 0.1}
        | {name: float(rng.random()) for name in ("loss", "top_1", "top_5")}
        for epoch in range(1, EPOCHS + 1)
        for split in ("train", "test")
    ]
    outcome = Outcome(
        replicate.network, replicate.trained, replicate.initial_affine, rows, None, 1.0, [], {}, {}
    )
    with TemporaryDirectory() as folder:
        saving.save(Path(folder), replicate.run, outcome, images, {"processes": 1})
        sizes = {name: (Path(folder) / name).stat().st_size / 1e3 for name in records.FILES}
        started = time.perf_counter()
        network = saving.load(folder)
        seconds = time.perf_counter() - started
    with torch.no_grad():
        batch = images.normalise(images.test.images)
        same = torch.equal(network(batch), replicate.network.eval()(batch))
    counts = replicate.network.parameter_counts()
    return {
        "architecture": architecture,
        "regime": regime,
        "parameters": counts["parameters"],
        "trained": sum(tensor.numel() for tensor in replicate.trained.values()),
        **{f"{name.partition('.')[0]} (kB)": size for name, size in sizes.items()},
        "whole (kB)": sum(sizes.values()),
        "load (s)": seconds,
        "same bits": same,
    }


def main() -> None:
    """Measure every point, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    report.report("storage", [measure(*point) for point in POINTS], asked.out)


if __name__ == "__main__":
    main()
