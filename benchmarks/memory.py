"""The peak memory of training, and what the workflow foresees for it: what cluster jobs request.

    python benchmarks/memory.py [--out results/benchmarks]

Every point trains a few steps on random images on the CPU, in a separate process. The table gives its largest
resident memory beside the result of `onlybn.workflow.costs.memory`.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import report

from onlybn.datasets import DATASETS
from onlybn.workflow.costs import memory

# Dataset, batch, architectures, regimes.
GRID = [
    ("digits", 32, ("resnet-56",), ("batchnorm",)),
    ("cifar10", 128, ("resnet-14", "wrn-14-4"), ("all", "batchnorm", "output")),
    ("cifar10", 128, ("resnet-110", "vgg-16"), ("all", "batchnorm")),
    ("imagenette160", 16, ("imagenet-resnet-18", "imagenet-resnet-50"), ("all", "batchnorm")),
]
PRECISIONS = ("float32", "bfloat16")
POINT = r"""
import json, re, sys
from pathlib import Path
sys.path.insert(0, {folder!r})
import engine, torch
from onlybn.study import Run, Training
from onlybn.networks.variants import DEFAULT
dataset, batch, architecture, regime, precision = json.loads(sys.argv[1])
torch.set_num_threads(1)
engine.ROUNDS = 1
training = Training(
    epochs=1, batch_size=batch, learning_rate=0.1, precision=precision, shift=0, flip=False
)
engine.milliseconds([Run("benchmark", dataset, training, architecture, regime, DEFAULT, 0)], "cpu", 1)
# From the system: getrusage starts with the memory of the process that started this one.
print(int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) // 1024)
"""


def main() -> None:
    """Measure every point, and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    names = ("dataset", "batch", "architecture", "regime", "precision")
    rows = []
    for dataset, batch, architectures, regimes in GRID:
        for architecture in architectures:
            for regime in regimes:
                for precision in PRECISIONS:
                    point = (dataset, batch, architecture, regime, precision)
                    code = POINT.format(folder=str(Path(__file__).parent))
                    command = [sys.executable, "-c", code, json.dumps(point)]
                    peak = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
                    foreseen = memory(DATASETS[dataset], architecture, regime, batch)
                    row = dict(zip(names, point, strict=True))
                    rows.append({**row, "peak_mb": int(peak), "foreseen_mb": foreseen})
                    print(rows[-1], file=sys.stderr)
    report.report("memory", rows, asked.out)


if __name__ == "__main__":
    main()
