"""What training through a function costs: steps with each reparametrisation against steps without.

    python benchmarks/reparametrise.py [--architectures resnet-14,vgg-16] [--rounds 9] [--device cuda]

All networks live in one process, on one thread of a CPU. In each round every function takes a block of steps,
the baseline first and last, so that a change of the machine's speed hits all alike. The table gives the
median over rounds of the cost over the mean of the round's two baselines, with the lowest and the highest.
Weight Compander prints + 7 to 14 % on a GTX 1080 Ti. Images are random bytes of CIFAR-10's shape.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import mean, median

import torch

sys.path.insert(0, str(Path(__file__).parent))

import report
from engine import random_images

from onlybn.axes import REPARAMETRISATION
from onlybn.devices import choose_precision
from onlybn.distributed import ALONE
from onlybn.jobs import keep_freed_memory
from onlybn.study import Run, Training
from onlybn.training.live_run import LiveRun
from onlybn.training.loop import _steps

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
    keep_freed_memory()
    rows = []
    for architecture in asked.architectures.split(","):
        names = [REPARAMETRISATION.default, *asked.functions.split(",")]
        blocks = {name: block(architecture, name, asked) for name in names}
        baseline = REPARAMETRISATION.default
        ratios: dict[str, list[float]] = {name: [] for name in names[1:]}
        step = []
        for _ in range(asked.rounds):
            before = blocks[baseline]()
            found = {name: blocks[name]() for name in ratios}
            step.append(mean((before, blocks[baseline]())))
            for name, seconds in found.items():
                ratios[name].append(seconds / step[-1])
        for name, every in ratios.items():
            percent = [100 * (ratio - 1) for ratio in every]
            rows.append(
                {
                    "network": architecture,
                    "function": name,
                    "none, ms a step": round(1e3 * median(step) / asked.steps, 1),
                    "cost (%)": round(median(percent), 1),
                    "lowest": round(min(percent), 1),
                    "highest": round(max(percent), 1),
                    "rounds": asked.rounds,
                }
            )
    report.report("reparametrise", rows, asked.out)


def block(architecture: str, name: str, asked: argparse.Namespace):
    """Return a function that takes a block of steps of a new run and returns the seconds."""
    device = torch.device(asked.device)
    training = Training(epochs=1, batch_size=128, learning_rate=1e-3, precision="auto")
    values = () if name == REPARAMETRISATION.default else ((REPARAMETRISATION.name, name),)
    variant = "kaiming-uniform_gamma-one"
    run = Run("benchmark", "cifar10", training, architecture, "all", variant, 0, values)
    images = random_images("cifar10", 128 * (asked.rounds + 1) * 2 * asked.steps, 128, device)
    live = LiveRun(run, images, choose_precision("auto", device))
    take = _steps([live], device, ALONE)

    def steps() -> float:
        started = time.perf_counter()
        for _ in range(asked.steps):
            take([live.next_batch()], 128, training.learning_rate)
            live.step_ended()
        live.measures.averages()  # waits for the device
        return time.perf_counter() - started

    steps()
    return steps


if __name__ == "__main__":
    main()
