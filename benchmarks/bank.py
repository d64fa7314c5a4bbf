"""What tasks on one network cost: the bytes of a file, the milliseconds of a switch and of a mixed batch.

    python benchmarks/bank.py [--architecture resnet-110] [--tasks 10] [--rounds 9]

The tasks are not trained: γ, β and statistics are drawn. A batch of 128 CIFAR-10 images that mixes all tasks
alternates with the same images task by task, on one thread, in float32.
"""

import argparse
import sys
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import torch

sys.path.insert(0, str(Path(__file__).parent))

import report
from engine import alternate

from onlybn.exporting.bank import Bank, Task, own_tensors
from onlybn.networks.draw import draw
from onlybn.runs.records import described
from onlybn.study import Run, Training

SWITCHES = 100


def bank_of(architecture: str, tasks: int) -> Bank:
    """Return a bank of tasks as if learned."""
    training = Training(epochs=160, batch_size=128, learning_rate=0.1)
    run = Run("bank", "cifar10", training, architecture, "batchnorm", "kaiming-normal_gamma-uniform", 0)
    network, _ = draw(run, channels=3, classes=10)
    facts = described(run) | {"channels": 3, "classes": 10, "size": 32, "mean": [0.5] * 3, "std": [0.25] * 3}
    state, names = network.state_dict(), own_tensors(network)
    drawn = [{name: 0.5 + 0.1 * torch.rand_like(state[name]) for name in names} for _ in range(tasks)]
    return Bank(network, {f"task-{number}": Task(facts, tensors) for number, tensors in enumerate(drawn)})


def timed(work) -> float:
    """Return the seconds that a call takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def main() -> None:
    """Print one row."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--architecture", default="resnet-110")
    parser.add_argument("--tasks", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path, default=Path("results/benchmarks"))
    asked = parser.parse_args()
    torch.set_num_threads(1)
    bank = bank_of(asked.architecture, asked.tasks)
    with TemporaryDirectory() as folder:
        file = Path(folder) / "bank.safetensors"
        bank.save(file)
        size = file.stat().st_size / 1e3
        load = timed(lambda: Bank.load(file))
    tasks = [*bank.tasks]
    names = [tasks[place % len(tasks)] for place in range(128)]
    images = torch.randn(128, 3, 32, 32).to(memory_format=torch.channels_last)
    parts = [(task, images[[place for place, name in enumerate(names) if name == task]]) for task in tasks]

    def mixed() -> None:
        bank(images, names)

    def apart() -> None:
        for task, some in parts:
            bank(some, [task] * len(some))

    mixed(), apart()
    switches = [timed(lambda task=task: bank.switch(task)) for task in tasks * SWITCHES]
    seconds, others = alternate(lambda: timed(apart), {"mixed": lambda: timed(mixed)}, asked.rounds)
    ratios = [a / b for a, b in zip(others["mixed"], seconds, strict=True)]
    whole = 4 * bank.network.parameter_counts()["parameters"] / 1e3
    row = {
        "network": asked.architecture,
        "tasks": len(tasks),
        "file (kB)": round(size),
        "kB a task": round(size / len(tasks), 1),
        "one whole network (kB)": round(whole),
        "load (s)": round(load, 2),
        "switch (ms)": round(1e3 * median(switches), 3),
        "mixed batch (ms)": round(1e3 * median(others["mixed"])),
        "the same, apart (ms)": round(1e3 * median(seconds)),
        "mixed / apart": round(median(ratios), 2),
        "lowest": round(min(ratios), 2),
        "highest": round(max(ratios), 2),
    }
    report.report("bank", [row], asked.out)


if __name__ == "__main__":
    main()
