"""What training through a function costs: steps with each reparametrisation against steps without.

    python benchmarks/reparametrise.py [--architectures resnet-14,vgg-16] [--rounds 9] [--device cuda]

All networks live in one process, on one thread of a CPU. In each round every function takes a block of steps,
the baseline first and last, so that a change of the machine's speed hits all alike. The table gives the
median over rounds of the cost over the mean of the round's two baselines, with the lowest and the highest.
Weight Compander prints + 7 to 14 % on a GTX 1080 Ti. Images are random bytes of CIFAR-10's shape.
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median

import torch

sys.path.insert(0, str(Path(__file__).parent))

import report
from engine import alternate, block

from onlybn.axes import REPARAMETRISATION
from onlybn.study import Run, Training

FUNCTIONS = (
    *("arctan-1-0.6", "arsinh-1-0.6", "erf-1.5-0.6", "linear-1.6", "powerpropagation-2"),
    *("weight-norm", "arctan-fine-1-0.6", "arctan-coarse-1-0.6"),
)


def main() -> None:
    """Print a table: a row per architecture and function."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architectures", default="resnet-14,vgg-16")
    parser.add_argument("--functions", default=",".join(FUNCTIONS))
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--steps", type=int, default=5, help="steps in a block")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    training = Training(epochs=1, batch_size=128, learning_rate=1e-3, precision="auto")
    blocks = {"blocks": 2 * asked.rounds, "device": asked.device}
    rows = []
    for architecture in asked.architectures.split(","):
        run = Run("benchmark", "cifar10", training, architecture, "all", "kaiming-uniform_gamma-one", 0)
        others = {
            name: block(replace(run, values=((REPARAMETRISATION.name, name),)), asked.steps, **blocks)
            for name in asked.functions.split(",")
        }
        steps, found = alternate(block(run, asked.steps, **blocks), others, asked.rounds)
        for name, seconds in found.items():
            percent = [100 * (one / step - 1) for one, step in zip(seconds, steps, strict=True)]
            rows.append(
                {
                    "network": architecture,
                    "function": name,
                    "none, ms a step": round(1e3 * median(steps), 1),
                    "cost (%)": round(median(percent), 1),
                    "lowest": round(min(percent), 1),
                    "highest": round(max(percent), 1),
                    "rounds": asked.rounds,
                }
            )
    report.report("reparametrise", rows, asked.out)


if __name__ == "__main__":
    main()
